/**
 * The requests of the control socket, answered: where the drive stands, pins, limits, the state of files. What flushes
 * and ends the mount is `daemon.ts`; who may ask, and how, is `control-server.ts` (doc/cli.md, "The daemon").
 */
import { textOf } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { Ino } from '../meta/key.js';
import type { RestoreCounts } from '../vfs/restoration.js';
import type { CollectProgress, CollectReport } from '../volume/collector.js';
import type { OpenVolume } from '../volume/open-volume.js';
import type { PinProgress, PinReport } from '../volume/pin-keeper.js';
import type { FlushProgress, Volume } from '../volume/volume.js';
import { VolumeError } from '../volume/volume-error.js';
import { ControlError } from './control-error.js';
import type {
  ControlRequest,
  DaemonStatus,
  FilesResult,
  LimitResult,
  PinStatus,
  PinsResult,
  SubtreesResult,
  UnmountResult,
} from './control-protocol.js';
import type { ControlHandler } from './control-server.js';
import type { PastRequest, PastResult } from './past-protocol.js';
import { PastRequests } from './past-requests.js';

/** The mount as the requests see it. */
export interface MountLife {
  status(): DaemonStatus;
  flush(onProgress: (progress: FlushProgress) => void, signal: AbortSignal): Promise<void>;
  unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult>;
}

export interface ControlRequestsOptions {
  readonly life: MountLife;
  readonly volume: Volume & Pick<OpenVolume, 'collect'>;
  /** Undefined where no network lies between this machine and the store. */
  readonly bandwidth: Bandwidth | undefined;
  readonly logger: Logger;
}

/** Rejects with ControlError where the volume says why it cannot answer. */
async function asked<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    const message = describeError(error);
    switch (error.code) {
      case 'UNAVAILABLE':
        throw new ControlError('UNAVAILABLE', `the store does not answer, and not all of this is on this machine: ${message}`, { cause: error });
      case 'REFUSED':
        throw new ControlError('UNAVAILABLE', message, { cause: error });
      case 'FULL':
        throw new ControlError('FULL', message, { cause: error });
      case 'CORRUPT':
      case 'FENCED':
        throw new ControlError('INTEGRITY', message, { cause: error });
      default:
        throw error;
    }
  }
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 1048576)} MiB`;

export class ControlRequests implements ControlHandler {
  readonly #options: ControlRequestsOptions;
  readonly #past: PastRequests;

  constructor(options: ControlRequestsOptions) {
    this.#options = options;
    this.#past = new PastRequests({ volume: options.volume, flush: (signal) => this.flush(() => {}, signal) });
  }

  past(request: PastRequest, onProgress: (counts: Readonly<RestoreCounts>) => void, signal: AbortSignal): Promise<PastResult> {
    return asked(this.#past.answer(request, onProgress, signal));
  }

  status(): DaemonStatus {
    return this.#options.life.status();
  }

  async flush(onProgress: (progress: FlushProgress) => void, signal: AbortSignal): Promise<void> {
    const { life } = this.#options;
    if (life.status().state !== 'serving') throw new ControlError('STOPPING', 'the drive is being unmounted');
    await life.flush(onProgress, signal);
  }

  unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult> {
    return this.#options.life.unmount(request, onProgress);
  }

  limit(request: Extract<ControlRequest, { method: 'limit' }>): LimitResult {
    const { bandwidth, logger } = this.#options;
    if (!bandwidth) throw new ControlError('FAILED', 'the store lies in a folder: there is no network in between to be limited');
    if (request.upload !== undefined) bandwidth.upload.bytesPerSecond = request.upload ?? undefined;
    if (request.download !== undefined) bandwidth.download.bytesPerSecond = request.download ?? undefined;
    const limits = { upload: bandwidth.upload.bytesPerSecond ?? null, download: bandwidth.download.bytesPerSecond ?? null };
    logger.info('limits of bandwidth', { upload: limits.upload ?? 0, download: limits.download ?? 0 });
    return limits;
  }

  collect(
    { windowMs, lapseMs, dryRun }: Extract<ControlRequest, { method: 'collect' }>,
    onProgress: (progress: CollectProgress) => void,
    signal: AbortSignal,
  ): Promise<CollectReport> {
    return asked(this.#options.volume.collect({ windowMs, lapseMs, dryRun, onProgress, signal }));
  }

  async pin(
    { ino, parent, name, wait }: Extract<ControlRequest, { method: 'pin' }>,
    onProgress: (progress: PinProgress) => void,
    signal: AbortSignal,
  ): Promise<PinsResult> {
    const { pins } = this.#options.volume;
    const outcome = await asked(pins.add({ ino: ino as Ino, parent: parent as Ino, name }));
    if (!outcome.fits) {
      throw new ControlError(
        'FULL',
        `what is pinned would take ${mebibytes(outcome.neededBytes)}, and the cache may take ${mebibytes(outcome.allowedBytes)}: mount with a larger --cache-size, or make room on its disk`,
      );
    }
    const report = wait ? await pins.completed(ino as Ino, onProgress, signal) : pins.list().find((one) => one.ino === ino);
    return { pins: report ? [await this.#pinStatus(report)] : [] };
  }

  unpin(ino: number): Promise<boolean> {
    return this.#options.volume.pins.remove(ino as Ino);
  }

  async pins(): Promise<PinsResult> {
    return { pins: await Promise.all(this.#options.volume.pins.list().map((report) => this.#pinStatus(report))) };
  }

  async #pinStatus({ ino, parent, name, state, files, bytes, hereFiles, hereBytes }: PinReport): Promise<PinStatus> {
    // Where the tree is out of reach there is no path to show.
    const path = await this.#options.volume.pathOf(ino, { parent, name }).catch(() => undefined);
    return { ino, path: path === undefined ? undefined : textOf(path), state, files, bytes, hereFiles, hereBytes };
  }

  async files(inos: readonly number[], deep: boolean, signal: AbortSignal): Promise<FilesResult | SubtreesResult> {
    const { volume } = this.#options;
    if (!deep) return { files: await asked(Promise.all(inos.map(async (ino) => (await volume.fileStatus(ino as Ino)) ?? null))) };
    const subtrees = [];
    for (const ino of inos) subtrees.push((await asked(volume.subtreeStatus(ino as Ino, signal))) ?? null);
    return { subtrees };
  }
}
