/**
 * The driver over /dev/fuse through our own addon: mounts, negotiates, serves, unmounts. Linux only.
 * The protocol itself is session.ts; the portable driver is portable-driver.ts.
 */
import { realpath, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { systemClock } from '../base/clock.js';
import { decodeSystemText, systemPath } from '../base/system-text.js';
import { REQUEST_HEADROOM } from './abi.js';
import { FuseError, type FuseErrorCode } from './fuse-error.js';
import { findMount, type MountEntry } from './mount-table.js';
import { loadNative, type NativeAddon, type NativeError } from './native.js';
import { type Negotiated, payloadMax } from './negotiation.js';
import { KernelNotifier } from './notifier.js';
import type { Driver, ErrnoOf, FuseOperations, Mounted, MountOptions } from './operations.js';
import { replyBufferSize } from './reply-writer.js';
import { FuseSession } from './session.js';

export interface NativeDriverSettings {
  /** Mount with fusermount3 even as root. */
  readonly viaHelper: boolean;
  /** How long an unmount may take while the kernel writes back what is dirty. */
  readonly unmountDeadlineMs: number;
}

const defaultSettings: NativeDriverSettings = { viaHelper: false, unmountDeadlineMs: 60_000 };
const initDeadlineMs = 30_000;
/** The kernel's default (128 KiB) would cut sequential reads into pieces much smaller than a request can carry. */
const readAheadKib = 4096;

const ENODEV = 19;

const isErrno = (error: unknown, ...codes: string[]): boolean => error instanceof Error && 'code' in error && codes.includes(String(error.code));

/** Translates errors of the addon to those of this layer. */
function toFuseError(error: unknown, doing: string): FuseError {
  if (error instanceof FuseError) return error;
  const { code = '', stage = '', message = '' } = error instanceof Error ? (error as Partial<NativeError>) : {};
  const text = `cannot ${doing}: ${message}`;
  let kind: FuseErrorCode = 'SYSTEM';
  if (stage === 'helper-missing') kind = 'NO_HELPER';
  else if (code === 'ENOTCONN') kind = 'STALE';
  else if (code === 'EBUSY') kind = 'BUSY';
  else if (code === 'ETIMEDOUT') kind = 'TIMEOUT';
  else if (stage === 'device') kind = code === 'EACCES' || code === 'EPERM' ? 'PERMISSION' : 'NO_DEVICE';
  else if (code === 'EACCES' || code === 'EPERM') kind = 'PERMISSION';
  else if (stage === 'mount-point' && (code === 'ENOENT' || code === 'ENOTDIR')) kind = 'MOUNT_POINT';
  return new FuseError(kind, text, { cause: error });
}

/**
 * The mount point without symbolic links, after making sure that nothing of ours is mounted there. A mount whose daemon
 * died is removed first. Throws FuseError `MOUNT_POINT`, `BUSY`, `STALE`, `PERMISSION`.
 */
async function claimMountPoint(native: NativeAddon, options: MountOptions, settings: NativeDriverSettings): Promise<string> {
  const type = `fuse.${options.subtype}`;
  const given = resolve(options.mountPoint);
  // More than one dead mount may lie on top of each other.
  for (let attempt = 0; attempt < 8; attempt++) {
    try {
      const path = decodeSystemText(await realpath(systemPath(given), { encoding: 'buffer' }));
      const { mode } = await stat(systemPath(path));
      if ((mode & 0o170000) !== 0o040000) throw new FuseError('MOUNT_POINT', 'the mount point is not a directory');
      if ((await findMount(path))?.type === type) throw new FuseError('BUSY', 'a volume is mounted at this mount point already');
      return path;
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw new FuseError('MOUNT_POINT', 'the mount point does not exist', { cause: error });
      if (isErrno(error, 'EACCES', 'EPERM')) throw new FuseError('PERMISSION', 'the mount point cannot be reached', { cause: error });
      // ECONNABORTED: the daemon died while we asked.
      if (!isErrno(error, 'ENOTCONN', 'ECONNABORTED')) throw toFuseError(error, 'use the mount point');
      const dead = await findMount(given);
      if (dead?.type !== type) throw new FuseError('STALE', 'another filesystem at the mount point has lost its daemon', { cause: error });
      await native.unmount(systemPath(given), { lazy: true, abort: false, viaHelper: settings.viaHelper }).catch((cause: unknown) => {
        throw new FuseError('STALE', 'a dead mount at the mount point cannot be removed', { cause });
      });
    }
  }
  throw new FuseError('STALE', 'dead mounts at the mount point keep coming back');
}

/** Rejects with FuseError `TIMEOUT` after `deadlineMs`; the work itself continues. */
async function withDeadline<T>(work: Promise<T>, deadlineMs: number, doing: string): Promise<T> {
  const done = new AbortController();
  const late = systemClock.sleep(deadlineMs, done.signal).then(
    () => {
      throw new FuseError('TIMEOUT', `${doing} took more than ${deadlineMs} ms`);
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
  }
}

class NativeMount implements Mounted {
  readonly driver = 'native';
  readonly ended: Promise<void>;
  readonly #native: NativeAddon;
  readonly #settings: NativeDriverSettings;
  readonly #operations: FuseOperations;
  readonly #mountPoint: string;
  readonly #sessionId: number;
  readonly #session: FuseSession;
  readonly #negotiated: Promise<Negotiated>;
  readonly #notifier: KernelNotifier;
  #connection: Mounted['connection'] | undefined;
  #entry: MountEntry | undefined;
  #closed = false;
  #resolveEnded!: () => void;
  #rejectEnded!: (error: FuseError) => void;

  /** Takes ownership of the descriptor. */
  constructor(
    native: NativeAddon,
    settings: NativeDriverSettings,
    fd: number,
    mountPoint: string,
    operations: FuseOperations,
    errnoOf: ErrnoOf,
    options: MountOptions,
  ) {
    this.#native = native;
    this.#settings = settings;
    this.#operations = operations;
    this.#mountPoint = mountPoint;
    this.ended = new Promise((onResolve, onReject) => {
      this.#resolveEnded = onResolve;
      this.#rejectEnded = onReject;
    });
    // Those who need it listen to it; for the others a broken session must not be an unhandled rejection.
    this.ended.catch(() => {});
    // The session's callbacks come from the event loop, never before this constructor has returned.
    const { id, request, reply } = native.openSession(
      fd,
      payloadMax + REQUEST_HEADROOM,
      replyBufferSize,
      (length) => this.#session.accept(length),
      (errno) => void this.#end(errno),
      () => this.#notifier.resume(),
    );
    this.#sessionId = id;
    const send = (length: number, pieces: readonly Uint8Array[] | undefined): number =>
      pieces === undefined ? native.reply(id, length) : native.replyPieces(id, length, pieces);
    this.#notifier = new KernelNotifier(
      (message) => native.notify(id, message),
      () => native.notifyDrained(id),
      options.trace,
    );
    let onInit!: (result: Negotiated | FuseError) => void;
    this.#negotiated = new Promise((onResolve, onReject) => {
      onInit = (result) => (result instanceof FuseError ? onReject(result) : onResolve(result));
    });
    this.#session = new FuseSession(operations, errnoOf, options, { request, reply, send }, onInit);
  }

  /** Resolves when INIT is done. When it rejects, nothing is left of the mount. */
  async start(): Promise<void> {
    try {
      const gone = this.ended.then(() => {
        throw new FuseError('CLOSED', 'the connection ended before it was agreed on');
      });
      const agreed = await withDeadline(Promise.race([this.#negotiated, gone]), initDeadlineMs, 'the first message of the kernel');
      this.#connection = agreed.connection;
      this.#entry = await findMount(this.#mountPoint);
    } catch (error) {
      await this.#native.unmount(systemPath(this.#mountPoint), { lazy: true, abort: true, viaHelper: this.#settings.viaHelper }).catch(() => {});
      await this.#end(ENODEV);
      throw error;
    }
    // For root only. Without it reads are smaller, not wrong.
    if (this.#entry !== undefined) await writeFile(`/sys/class/bdi/${this.#entry.device}/read_ahead_kb`, String(readAheadKib)).catch(() => {});
  }

  get connection(): Mounted['connection'] {
    if (this.#connection === undefined) throw new FuseError('CLOSED', 'the connection is not agreed on yet');
    return this.#connection;
  }

  get notifier(): KernelNotifier {
    return this.#notifier;
  }

  async unmount(options: { readonly force?: boolean } = {}): Promise<void> {
    if (this.#closed) return this.#lastUserGone();
    const { viaHelper, unmountDeadlineMs } = this.#settings;
    const detach = (lazy: boolean): Promise<unknown> =>
      withDeadline(this.#native.unmount(systemPath(this.#mountPoint), { lazy, abort: false, viaHelper }), unmountDeadlineMs, 'unmounting');
    try {
      // Something of somebody else may be mounted there now.
      if (!(await this.#stillMounted())) return await this.#lastUserGone();
      await detach(false);
    } catch (error) {
      if (!(await this.#stillMounted())) return this.#lastUserGone();
      const failure = toFuseError(error, 'unmount');
      if (!options.force || (failure.code !== 'BUSY' && failure.code !== 'TIMEOUT')) throw failure;
      await detach(true).catch((cause: unknown) => {
        throw toFuseError(cause, 'detach the mount');
      });
      // The last user of the mount ends the connection, possibly long from now.
      return undefined;
    }
    return this.#lastUserGone();
  }

  /**
   * Nothing is mounted by this name any more. The connection ends with its last user, which may be in another mount
   * namespace.
   */
  async #lastUserGone(): Promise<void> {
    await Promise.race([this.ended.catch(() => {}), systemClock.sleep(2000)]);
  }

  async #stillMounted(): Promise<boolean> {
    return (await findMount(this.#mountPoint))?.device === this.#entry?.device;
  }

  async #end(errno: number): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.end();
    this.#native.closeSession(this.#sessionId);
    this.#notifier.end();
    try {
      // The connection was aborted rather than unmounted: the mount point only answers ENOTCONN.
      if (this.#entry !== undefined && (await this.#stillMounted())) {
        await this.#native.unmount(systemPath(this.#mountPoint), { lazy: true, abort: false, viaHelper: this.#settings.viaHelper }).catch(() => {});
      }
      await this.#operations.destroy();
    } catch (cause) {
      this.#rejectEnded(new FuseError('SYSTEM', 'ending the session failed', { cause }));
      return;
    }
    if (errno === ENODEV) this.#resolveEnded();
    else this.#rejectEnded(new FuseError('SYSTEM', `reading from the kernel failed with errno ${errno}`));
  }
}

/** A driver with settings that only tests and unusual installations change. */
export function makeNativeDriver(overrides: Partial<NativeDriverSettings> = {}): Driver {
  const settings = { ...defaultSettings, ...overrides };
  return async (operations, errnoOf, options) => {
    const native = loadNative();
    const mountPoint = await claimMountPoint(native, options, settings);
    const { source, subtype, readOnly, allowOther, defaultPermissions } = options;
    const { suid = false, dev = false, noatime = false, strictatime = false, nodiratime = false } = options;
    let fd: number;
    try {
      const { viaHelper } = settings;
      const flags = { readOnly, allowOther, defaultPermissions, suid, dev, noatime, strictatime, nodiratime };
      fd = await native.mount({ mountPoint: systemPath(mountPoint), source, subtype, ...flags, viaHelper });
    } catch (error) {
      throw toFuseError(error, 'mount');
    }
    // No await between mount and the session: this guarantees that the mount is removed if the start fails.
    const mounted = new NativeMount(native, settings, fd, mountPoint, operations, errnoOf, options);
    native.setIoFlusher();
    await mounted.start();
    return mounted;
  };
}

export const nativeDriver: Driver = makeNativeDriver();
