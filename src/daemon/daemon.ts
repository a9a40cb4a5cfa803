/**
 * The life of a mount, from the moment that the volume is open until it is closed: mounts, flushes, and unmounts on
 * request, on a signal, and when somebody else unmounts (doc/cli.md, "The daemon"). The parts are handed in
 * (src/program/compose.ts). The other requests of the control socket are answered in `control-requests.ts`, file
 * operations in `fuse-filesystem.ts`.
 */

import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Bandwidth } from '../base/rate-limit.js';
import { FuseError } from '../fuse/fuse-error.js';
import type { Driver, ErrnoOf, FuseOperations, Mounted, MountOptions } from '../fuse/operations.js';
import type { OpenVolume } from '../volume/open-volume.js';
import type { FlushProgress, PendingWork, Volume } from '../volume/volume.js';
import { VolumeError } from '../volume/volume-error.js';
import { ControlError } from './control-error.js';
import type { DaemonStatus, UnmountResult } from './control-protocol.js';
import { isPending, nothingPending } from './control-protocol.js';
import { ControlRequests, type MountLife } from './control-requests.js';
import type { PeerCheck } from './control-server.js';
import { ControlServer } from './control-server.js';
import type { KernelCache } from './kernel-cache.js';
import type { Inhibition } from './shutdown-inhibitor.js';
import { ShutdownInhibitor } from './shutdown-inhibitor.js';

/** The volume as the daemon holds it: only the daemon closes it. */
export interface ServedVolume {
  readonly volume: Volume & Pick<OpenVolume, 'collect'>;
  /** Facts for `status`, in groups. */
  details(): DaemonStatus['details'];
  /** Ends background work, keeps what is not in the store in the journal, and releases the state directory. */
  close(): Promise<void>;
}

export interface DaemonParts {
  readonly served: ServedVolume;
  readonly driver: Driver;
  readonly filesystem: FuseOperations;
  readonly cache: Pick<KernelCache, 'attach'>;
  readonly errnoOf: ErrnoOf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly identifyPeer: PeerCheck;
  /** The limits of the connection to the store; not given where there is none. */
  readonly bandwidth?: Bandwidth | undefined;
  /** sd_notify(3), or nothing. */
  readonly notifyService: (message: string) => void;
  /**
   * Makes the kernel write its dirty pages of the mount to us. Must not block the event loop, which answers those
   * writes.
   */
  readonly syncKernel: (mountPoint: string) => Promise<void>;
  /** Who keeps the mount busy, in words; undefined when that cannot be found out. */
  readonly findHolders: () => Promise<readonly string[] | undefined>;
  /** Asks the system to stay awake; undefined when nobody wants that, or the system has no way. */
  readonly inhibitShutdown?: (() => Inhibition) | undefined;
}

export interface DaemonOptions {
  readonly mount: MountOptions;
  readonly store: string;
  readonly version: string;
  /** Where the control socket may lie, the best place first. */
  readonly sockets: readonly [string, ...string[]];
  /** How long a stop by signal, or by an unmount from outside, may take to upload what is pending. */
  readonly stopFlushTimeoutMs: number;
}

export interface DaemonEnd {
  /** What is not in the store. It is in the journal, and goes there at the next mount. */
  readonly left: PendingWork;
  /** The session broke, or the volume could not be closed in order. */
  readonly error: unknown;
}

/** Describes for people what is not in the store. */
function describeWork({ operations, files, dirtyBytes, uploadBytes }: PendingWork): string {
  const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;
  const mebibytes = (dirtyBytes + uploadBytes) / 1048576;
  const work = operations === 0 && files > 0 ? count(files, 'file') : `${count(operations, 'change')} to ${count(files, 'file')}`;
  return `${work} (${mebibytes < 10 ? mebibytes.toFixed(1) : Math.round(mebibytes)} MiB)`;
}

/** How long a lazily detached mount may take to end before we go and the kernel aborts it. */
const detachTimeoutMs = 2000;

/**
 * An unmount is tried at least this often and this long while something looks at the drive. The pauses are short, to
 * catch a moment in which nobody does.
 */
const busyTries = 30;
const busyMs = 1000;
const busyPauseMs = 10;

export class Daemon implements MountLife {
  readonly #parts: DaemonParts;
  readonly #options: DaemonOptions;
  readonly #startedAtMs: number;
  /** Set in `start`, before anyone has the object. */
  #mounted!: Mounted;
  #control: ControlServer | undefined;
  #inhibitor: ShutdownInhibitor | undefined;
  #state: 'serving' | 'stopping' = 'serving';
  /** Aborted when a flush on the way out is to be given up (second signal). */
  readonly #hurry = new AbortController();
  /** The time for uploads on the way out is used up. */
  #isLate = false;
  #finishing: Promise<DaemonEnd> | undefined;
  #unmounting: Promise<UnmountResult> | undefined;
  #resolveEnd!: (end: DaemonEnd) => void;
  /** Resolves when the volume is closed and every client has its answer. */
  readonly ended: Promise<DaemonEnd>;

  private constructor(parts: DaemonParts, options: DaemonOptions) {
    this.#parts = parts;
    this.#options = options;
    const now = parts.clock.now();
    this.#startedAtMs = now.sec * 1000 + Math.floor(now.nsec / 1e6);
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
  }

  /**
   * Mounts and serves; resolves when the mount answers. Throws FuseError, or the system error of the socket; then
   * nothing is mounted, and the volume is the caller's to close.
   */
  static async start(parts: DaemonParts, options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(parts, options);
    daemon.#mounted = await parts.driver(parts.filesystem, parts.errnoOf, options.mount);
    parts.cache.attach(daemon.#mounted.notifier);
    try {
      const { served, bandwidth, identifyPeer, logger } = parts;
      const handler = new ControlRequests({ life: daemon, volume: served.volume, bandwidth, logger });
      daemon.#control = await ControlServer.listen(options.sockets[0], { handler, identifyPeer, logger });
    } catch (error) {
      await daemon.#mounted.unmount({ force: true });
      throw error;
    }
    daemon.#keepAwake();
    daemon.#mounted.ended.then(
      () => void daemon.#finish(undefined),
      (error: unknown) => void daemon.#finish(error),
    );
    const { driver, connection } = daemon.#mounted;
    const protocol = `${connection.major}.${connection.minor}`;
    parts.logger.info('mounted', { driver, protocol, readOnly: options.mount.readOnly, store: options.store });
    parts.notifyService('READY=1\nSTATUS=Serving');
    return daemon;
  }

  /**
   * Makes a new control socket if somebody removed the old one, or its folder. Answers where it is. Throws the system
   * error.
   */
  async keepReachable(): Promise<string> {
    const { sockets } = this.#options;
    const control = this.#control;
    if (!control || this.#finishing || control.isInPlace()) return control?.path ?? sockets[0];
    await control.move(sockets);
    this.#parts.logger.warn('the control socket was removed; there is a new one');
    return control.path;
  }

  #keepAwake(): void {
    const { inhibitShutdown, served, clock, logger } = this.#parts;
    if (!inhibitShutdown || served.volume.readOnly) return;
    const isBusy = (): boolean => isPending(served.volume.pending()) && !served.volume.isOffline;
    this.#inhibitor = new ShutdownInhibitor({ begin: inhibitShutdown, isBusy, clock, logger });
    this.#inhibitor.start();
  }

  status(): DaemonStatus {
    const { served } = this.#parts;
    return {
      volumeId: served.volume.id,
      store: this.#options.store,
      mountPoint: this.#options.mount.mountPoint,
      driver: this.#mounted.driver,
      readOnly: served.volume.readOnly,
      pid: process.pid,
      version: this.#options.version,
      startedAtMs: this.#startedAtMs,
      state: this.#state,
      pending: served.volume.pending(),
      statistics: served.volume.statistics(),
      details: served.details(),
    };
  }

  /** Brings what the kernel holds into the volume, and everything into the store. Throws ControlError. */
  async flush(onProgress: (progress: FlushProgress) => void, signal: AbortSignal): Promise<void> {
    const { served, syncKernel, logger } = this.#parts;
    if (served.volume.readOnly) return;
    await syncKernel(this.#options.mount.mountPoint).catch((error: unknown) => {
      // Pages of open files may stay in the kernel; files that were closed have been written back already.
      logger.warn('the kernel did not write back', { reason: describeError(error) });
    });
    try {
      await served.volume.flush({ onProgress, signal });
    } catch (error) {
      if (error instanceof VolumeError && (error.code === 'FENCED' || error.code === 'CORRUPT')) {
        throw new ControlError('INTEGRITY', describeError(error), { cause: error });
      }
      const why = signal.aborted ? 'it took too long' : describeError(error);
      throw new ControlError('PENDING', `not everything is in the store, ${describeWork(served.volume.pending())} left: ${why}`, { cause: error });
    }
  }

  /**
   * Flushes, unmounts, and closes the volume. Without `force` it fails and the mount stays when work cannot be uploaded
   * (`PENDING`) or files are open (`BUSY`). With `force` it always ends, and answers what was left in the journal.
   */
  unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult> {
    if (this.#finishing) return this.#finishing.then(({ left }) => ({ left }));
    if (this.#unmounting && request.force) {
      // Somebody is waiting for an unmount already, and this request is in a hurry.
      this.#hurry.abort(new Error('a forced unmount was asked for'));
      return this.#unmounting.catch(() => this.#unmount(request, onProgress));
    }
    this.#unmounting ??= this.#unmount(request, onProgress).finally(() => {
      this.#unmounting = undefined;
    });
    return this.#unmounting;
  }

  async #unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult> {
    const { logger } = this.#parts;
    const { force, timeoutMs = force ? this.#options.stopFlushTimeoutMs : undefined } = request;
    const limits = [this.#hurry.signal];
    if (timeoutMs !== undefined) limits.push(AbortSignal.timeout(timeoutMs));
    try {
      await this.flush(onProgress, AbortSignal.any(limits));
    } catch (error) {
      if (!force) throw error;
      this.#isLate = true;
      logger.warn('unmounting although not everything is in the store', { reason: describeError(error) });
    }
    try {
      await this.#detach(force);
    } catch (error) {
      if (error instanceof FuseError && error.code === 'BUSY') {
        throw new ControlError('BUSY', 'files on the drive are open, or a program stands in one of its folders', { cause: error });
      }
      throw error;
    }
    // A connection that was detached by force while a file is open, or that another mount namespace holds, lives on
    // until this process ends.
    await Promise.race([this.#mounted.ended.catch(() => undefined), this.#parts.clock.sleep(detachTimeoutMs)]);
    const { left } = await this.#finish(undefined);
    return { left };
  }

  /**
   * A program that looks at the drive keeps it busy for that long, and so does the kernel for a moment after a file was
   * closed. A refusal only counts when it lasts. Throws FuseError.
   */
  async #detach(force: boolean): Promise<void> {
    const { clock } = this.#parts;
    const deadlineMs = clock.monotonicMs() + busyMs;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#mounted.unmount({ force });
      } catch (error) {
        if (!(error instanceof FuseError && error.code === 'BUSY')) throw error;
        if (tries >= busyTries && clock.monotonicMs() > deadlineMs) return this.#detachUnheld(error);
      }
      await clock.sleep(busyPauseMs);
    }
  }

  /**
   * If nobody has a file open or stands there, but somebody looks at the drive again and again, it is detached: its
   * name goes, and the mount ends with the request that is under way. Throws FuseError `BUSY`, or ControlError with
   * those who hold it.
   */
  async #detachUnheld(busy: FuseError): Promise<void> {
    const holders = await this.#parts.findHolders();
    if (holders === undefined) throw busy;
    if (holders.length > 0) {
      throw new ControlError('BUSY', `files on the drive are open, or a program stands in one of its folders: ${holders.join(', ')}`, {
        cause: busy,
      });
    }
    this.#parts.logger.info('nobody has anything open on the drive, but somebody looks at it all the time: detached');
    await this.#mounted.unmount({ force: true });
  }

  /** Ends the mount, once: uploads what can still be uploaded and closes the volume in order. Never rejects. */
  #finish(sessionError: unknown): Promise<DaemonEnd> {
    this.#finishing ??= this.#letGo(sessionError).then((end) => {
      void (this.#control?.close() ?? Promise.resolve()).then(
        () => this.#resolveEnd(end),
        (error: unknown) => this.#resolveEnd({ ...end, error }),
      );
      return end;
    });
    return this.#finishing;
  }

  async #letGo(sessionError: unknown): Promise<DaemonEnd> {
    const { served, logger, notifyService } = this.#parts;
    this.#state = 'stopping';
    notifyService('STOPPING=1\nSTATUS=Uploading what is left');
    let error = sessionError;
    let left = nothingPending;
    if (error !== undefined) logger.error('the session broke', { reason: describeError(error) });
    try {
      if (!served.volume.readOnly && !this.#isLate && isPending(served.volume.pending())) {
        const limit = AbortSignal.any([this.#hurry.signal, AbortSignal.timeout(this.#options.stopFlushTimeoutMs)]);
        const onProgress = (): void => notifyService('EXTEND_TIMEOUT_USEC=30000000');
        await served.volume.flush({ signal: limit, onProgress }).catch((cause: unknown) => {
          logger.warn('work is left for the next mount', { reason: describeError(cause) });
        });
      }
      left = served.volume.pending();
    } finally {
      this.#inhibitor?.stop();
      try {
        await served.close();
      } catch (cause) {
        error ??= cause;
        logger.error('the volume could not be closed in order', { reason: describeError(cause) });
      }
    }
    logger.info('unmounted', { operationsLeft: left.operations, uploadBytesLeft: left.uploadBytes, dirtyBytesLeft: left.dirtyBytes });
    return { left, error };
  }

  /**
   * SIGTERM and SIGINT flush within a time limit and end the daemon; a second signal ends it at once. SIGHUP (a closed
   * terminal) changes nothing.
   */
  handleSignals(): void {
    let count = 0;
    const onSignal = (signal: NodeJS.Signals): void => {
      count++;
      this.#parts.logger.info('signal', { signal });
      if (count > 1) {
        this.#hurry.abort(new Error('stopped by a second signal'));
        return;
      }
      this.unmount({ force: true, timeoutMs: undefined }, () => this.#parts.notifyService('EXTEND_TIMEOUT_USEC=30000000')).catch((error: unknown) => {
        this.#parts.logger.error('could not unmount', { reason: describeError(error) });
        void this.#finish(error);
      });
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    process.on('SIGHUP', () => {});
  }
}
