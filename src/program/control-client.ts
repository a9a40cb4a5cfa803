/** The command line's side of the control socket: finds the daemon of a mount point and asks it. */
import { connect } from 'node:net';
import { isAbsolute, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { findNamedVolume, volumeIdOf } from '../access/named-volume.js';
import { registryFolder, registryTag } from '../access/state-directory.js';
import { expandHome } from '../access/volume-config.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import type {
  ControlErrorCode,
  ControlReply,
  ControlRequest,
  DaemonStatus,
  FilesResult,
  LimitResult,
  PinsResult,
  SubtreesResult,
  UnmountResult,
} from '../daemon/control-protocol.js';
import type { FoundRecord, MountRecord } from '../daemon/mount-registry.js';
import { readMountRecords } from '../daemon/mount-registry.js';
import type { PolicyReport, RestoreResult, SnapshotReport } from '../daemon/past-protocol.js';
import { stateOfProcess } from '../daemon/process-identity.js';
import { readlink } from '../disk/file-promises.js';
import type { SocketAddress } from '../disk/socket-address.js';
import { socketAddress } from '../disk/socket-address.js';
import { listMounts } from '../fuse/mount-table.js';
import type { FailureCode } from '../terminal/exit-code.js';
import { Failure } from '../terminal/exit-code.js';
import type { RestoreCounts } from '../vfs/restoration.js';
import type { CollectProgress, CollectReport } from '../volume/collector.js';
import type { FileVersion, RemovedFile } from '../volume/former-files.js';
import type { PinProgress } from '../volume/pin-keeper.js';
import type { FlushProgress } from '../volume/volume.js';
import { isDead, ownType, resolveMountPoint } from './mount-point.js';
import { findAddon } from './native-addon.js';

const replySizeMax = 1024 * 1024;

const failureCodes: Readonly<Record<ControlErrorCode, FailureCode>> = {
  PENDING: 'PENDING',
  BUSY: 'MOUNT_POINT',
  STOPPING: 'IN_USE',
  PROTOCOL: 'UNEXPECTED',
  INTEGRITY: 'INTEGRITY',
  FULL: 'LOCAL_DISK',
  UNAVAILABLE: 'STORE',
  DISK: 'LOCAL_DISK',
  NOT_FOUND: 'USAGE',
  READ_ONLY: 'MOUNT_POINT',
  FAILED: 'UNEXPECTED',
};

export interface AskOptions {
  readonly onProgress?: (progress: FlushProgress) => void;
  readonly onFetched?: (progress: PinProgress) => void;
  readonly onRestored?: (counts: RestoreCounts) => void;
  readonly onCollected?: (progress: CollectProgress) => void;
  readonly signal?: AbortSignal | undefined;
}

interface Results {
  readonly status: DaemonStatus;
  readonly flush: Record<string, never>;
  readonly collect: CollectReport;
  readonly unmount: UnmountResult;
  readonly pin: PinsResult;
  readonly unpin: Record<string, never>;
  readonly limit: LimitResult;
  readonly pins: PinsResult;
  readonly files: FilesResult & SubtreesResult;
  readonly versions: { readonly versions: readonly FileVersion[] };
  readonly removed: { readonly removed: readonly RemovedFile[] };
  readonly restore: RestoreResult;
  readonly rollback: RestoreResult;
  readonly snapshot: { readonly snapshots?: readonly SnapshotReport[]; readonly policy?: PolicyReport };
}

/** A living daemon answers something within this time, however busy it is. */
const silenceMsMax = 10_000;

/**
 * Sends one request and waits for its answer, and for the daemon's end after an unmount. Resolves with `undefined` if
 * nobody listens there. Rejects with a Failure from the daemon's answer, with `NO_ANSWER` if it is silent for 10 s and
 * does not answer a status request either, and with the signal's reason.
 */
export function askDaemon<Method extends ControlRequest['method']>(
  socketPath: string,
  request: Extract<ControlRequest, { method: Method }>,
  options: AskOptions = {},
): Promise<Results[Method] | undefined> {
  return new Promise((settle, reject) => {
    let place: SocketAddress;
    try {
      place = socketAddress(socketPath);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      settle(undefined);
      return;
    }
    const socket = connect(place.address);
    let received = '';
    let result: Results[Method] | undefined;
    let failure: Error | undefined;
    let connected = false;
    const fail = (error: Error): void => {
      failure ??= error;
      socket.destroy();
    };
    const onAbort = (): void => fail(options.signal?.reason as Error);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const silence = new Failure('NO_ANSWER', `the drive does not answer: it has said nothing for ${silenceMsMax / 1000} s`);
    const watch = setTimeout(() => {
      if (request.method === 'status') return fail(silence);
      // Some answers take long, so a second request finds out whether it lives.
      askDaemon(socketPath, { method: 'status' }).then(
        (status) => (status ? watch.refresh() : fail(silence)),
        () => fail(silence),
      );
      return undefined;
    }, silenceMsMax);
    socket.setEncoding('utf8');
    socket.on('connect', () => {
      connected = true;
      socket.write(`${JSON.stringify(request)}\n`);
    });
    socket.on('data', (text: string) => {
      watch.refresh();
      received += text;
      if (received.length > replySizeMax) fail(new Error('the daemon says too much'));
      for (let end = received.indexOf('\n'); end >= 0; end = received.indexOf('\n')) {
        // The peer is our own daemon, reached through a directory that only this user can write.
        const reply = JSON.parse(received.slice(0, end)) as ControlReply;
        received = received.slice(end + 1);
        if ('progress' in reply) options.onProgress?.(reply.progress);
        else if ('fetched' in reply) options.onFetched?.(reply.fetched);
        else if ('restored' in reply) options.onRestored?.(reply.restored);
        else if ('collected' in reply) options.onCollected?.(reply.collected);
        else if ('error' in reply) failure = new Failure(failureCodes[reply.error.code] ?? 'UNEXPECTED', reply.error.message);
        else result = reply.result as Results[Method];
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (!connected && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT')) return;
      failure ??= new Failure(error.code === 'EACCES' ? 'MOUNT_POINT' : 'NO_ANSWER', `the drive cannot be asked: ${describeError(error)}`, {
        cause: error,
      });
    });
    socket.on('close', () => {
      clearTimeout(watch);
      place.release();
      options.signal?.removeEventListener('abort', onAbort);
      if (failure) reject(failure);
      else if (result !== undefined || !connected) settle(result);
      else reject(new Failure('NO_ANSWER', 'the daemon ended, or cut the connection, before it answered; "sealdrive status" shows whether it runs'));
    });
  });
}

export interface RunningMount {
  readonly record: MountRecord;
  readonly status: DaemonStatus;
  /** False for a mount in another container that shares this home. It can be asked, but its path means nothing here. */
  readonly isHere: boolean;
}

/** A drive that is mounted (or is being unmounted) and whose process does not answer or has died. */
export interface SilentMount {
  readonly mountPoint: string;
  /** Why nobody answers, and what to do, for people. */
  readonly reason: string;
  /** Its process has died, so it can be unmounted. */
  readonly isDead: boolean;
  readonly isHere: boolean;
  /** Left out where there is no record of it. */
  readonly record: MountRecord | undefined;
}

export interface FoundMounts {
  readonly answering: readonly RunningMount[];
  readonly silent: readonly SilentMount[];
}

/** A daemon that is starting, ending or making a new socket is listed, mounted and reachable one after the other. */
const settlingMs = 6000;
const pauseMs = 100;

/** The mounts of this user on this machine, including those that cannot be asked. */
export async function findMounts(): Promise<FoundMounts> {
  const deadline = performance.now() + settlingMs;
  for (;;) {
    const found = await lookForMounts();
    // A dead process stays dead; anything else may still change.
    const mayChange = found.silent.some(({ isDead: hasDied }) => !hasDied);
    if (!mayChange || performance.now() > deadline) return found;
    await wait(pauseMs);
  }
}

async function lookForMounts(): Promise<FoundMounts> {
  const folder = registryFolder();
  const answering: RunningMount[] = [];
  const silent: SilentMount[] = [];
  const suffix = `-${registryTag(folder)}`;
  const own = (await listMounts().catch(() => [])).filter(({ type, source }) => type === ownType && source.endsWith(suffix));
  const unclaimed = new Set(own.map(({ mountPoint }) => mountPoint));
  const examine = async (found: FoundRecord): Promise<void> => {
    const { record, life, process: identity } = found;
    if (life === 'dead' || life === 'elsewhere') return;
    const { mountPoint } = record;
    const isHere = unclaimed.delete(mountPoint) || !identity || stateOfProcess(identity) !== 'elsewhere';
    const status = await askDaemon(record.socket, { method: 'status' }).catch(() => undefined);
    // Another daemon may have the socket of a dead one's record.
    if (status && status.pid === record.pid) answering.push({ record, status, isHere });
    else if (life === 'alive') silent.push({ mountPoint, reason: describeSilence(found), isDead: false, isHere, record });
  };
  await Promise.all(readMountRecords(folder, findAddon()).map(examine));
  for (const mountPoint of unclaimed) {
    const hasDied = await isDead(mountPoint);
    const reason = hasDied
      ? 'the process that served it has died: mount again, which removes it and brings what is left to the store'
      : 'no process is listed for it; one that lives lists itself anew within some seconds, so try again';
    silent.push({ mountPoint, reason, isDead: hasDied, isHere: true, record: undefined });
  }
  return {
    answering: answering.toSorted((a, b) => (a.record.mountPoint < b.record.mountPoint ? -1 : 1)),
    silent: silent.toSorted((a, b) => (a.mountPoint < b.mountPoint ? -1 : 1)),
  };
}

function describeSilence({ record: { pid }, process: identity }: FoundRecord): string {
  const state = identity ? stateOfProcess(identity) : 'elsewhere';
  if (state === 'stopped') return `its process (pid ${pid}) is stopped: "kill -CONT ${pid}" lets it go on`;
  if (state === 'waiting') return `its process (pid ${pid}) waits for a disk or a network file system`;
  if (state === 'elsewhere') return `its process (pid ${pid} of another container) does not answer`;
  return `its process (pid ${pid}) runs and does not answer`;
}

/** Why a drive that is mounted cannot be asked. */
export const silenceFailure = ({ mountPoint, reason }: SilentMount): Failure =>
  new Failure('NO_ANSWER', `the drive at ${mountPoint} does not answer, and what is not in the store yet is not known: ${reason}`);

/** Throws Failure `NO_ANSWER` when there is a drive that does not answer. */
export function requireAnswers(silent: readonly SilentMount[]): void {
  const [first] = silent;
  if (first) throw silenceFailure(first);
}

/** The process that holds a state directory, whether it answers or not. */
export async function holderOf(stateDirectory: string): Promise<MountRecord | undefined> {
  const { answering, silent } = await findMounts();
  return [...answering, ...silent].find(({ record }) => record?.stateDirectory === stateDirectory)?.record;
}

/** The number of symbolic links that the kernel follows in one path. */
const linksMax = 40;

/**
 * The drive that does not answer and holds `path`, also behind symbolic links, if any. Nothing on that drive is
 * touched: a process that does so waits for it and cannot even end.
 */
export async function silentMountAround(
  path: string,
  silent: readonly SilentMount[],
): Promise<{ readonly mount: SilentMount; readonly isWhole: boolean } | undefined> {
  let at = '/';
  const names = resolve(path).split('/');
  for (let links = 0; names.length > 0 && links <= linksMax; ) {
    const next = resolve(at, names.shift() ?? '');
    const mount = silent.find(({ mountPoint, isHere }) => isHere && mountPoint === next);
    if (mount) return { mount, isWhole: names.every((name) => name === '' || name === '.') };
    // Anything but a link, also a missing file, is an ordinary name.
    const target = await readlink(next).catch(() => undefined);
    if (target === undefined) {
      at = next;
      continue;
    }
    links++;
    names.unshift(...target.split('/'));
    if (isAbsolute(target)) at = '/';
  }
  return undefined;
}

/**
 * The mounts of a named volume, the one at its usual place first; `undefined` if `word` is not a name. There can be
 * several, with several state directories.
 */
export async function mountsOfName(word: string, mounts: readonly RunningMount[]): Promise<RunningMount[] | undefined> {
  const volume = await findNamedVolume(word);
  if (!volume) return undefined;
  const id = await volumeIdOf(volume);
  const usual = volume.settings.mountPoint === undefined ? undefined : expandHome(volume.settings.mountPoint);
  const found = mounts.filter(({ record, isHere }) => isHere && record.volumeId === id);
  return found.toSorted((a, b) => Number(b.record.mountPoint === usual) - Number(a.record.mountPoint === usual));
}

/** The sync client that carries what the drive has stored to other machines; `undefined` when none does. */
export function handedTo({ details }: DaemonStatus): string | undefined {
  const client = details['store']?.['handedTo'];
  return typeof client === 'string' ? client : undefined;
}

/**
 * The running mount at `directory` (or of the volume of that name), or the only one there is. Throws Failure
 * `MOUNT_POINT` when there is none, `USAGE` when there are several to choose from, `NO_ANSWER` when its process does
 * not answer.
 */
export async function findMount(directory: string | undefined, found?: FoundMounts): Promise<RunningMount> {
  const all = found ?? (await findMounts());
  const answering = all.answering.filter(({ isHere }) => isHere);
  const silent = all.silent.filter(({ isHere }) => isHere);
  if (directory === undefined) {
    const [one] = [...answering.map(({ record }) => record.mountPoint), ...silent.map(({ mountPoint }) => mountPoint)];
    const count = answering.length + silent.length;
    if (one !== undefined && count > 1) throw new Failure('USAGE', `there are ${count} mounts: say which, for instance ${printable(one)}`);
    requireAnswers(silent);
    const [mount] = answering;
    if (!mount) throw new Failure('MOUNT_POINT', 'nothing is mounted');
    return mount;
  }
  const named = await mountsOfName(directory, answering);
  if (named?.[0]) return named[0];
  if (named) {
    requireAnswers(await silentMountsOfName(directory, silent));
    throw new Failure('MOUNT_POINT', `the volume ${printable(directory)} is not mounted; "sealdrive mount ${printable(directory)}" mounts it`);
  }
  const path = resolve(directory);
  // Checked before anything is touched.
  const mute = await silentMountAround(path, silent);
  if (mute) throw silenceFailure(mute.mount);
  const names = new Set([path, await resolveMountPoint(directory).catch(() => '')]);
  const mount = answering.find(({ record }) => names.has(record.mountPoint));
  if (mount) return mount;
  throw new Failure('MOUNT_POINT', `no Sealdrive of yours is mounted at ${printable(path)}; "sealdrive status" lists what is`);
}

/** The silent mounts of a named volume, recognised by its id if there is a record, otherwise by its usual place. */
export async function silentMountsOfName(word: string, silent: readonly SilentMount[]): Promise<SilentMount[]> {
  const volume = await findNamedVolume(word);
  if (!volume) return [];
  const id = await volumeIdOf(volume);
  const usual = volume.settings.mountPoint === undefined ? undefined : expandHome(volume.settings.mountPoint);
  return silent.filter(({ record, mountPoint }) => (record ? record.volumeId === id : mountPoint === usual));
}
