/**
 * Takes snapshots when they are due and drops those that have expired, in the background of a mounted drive with write
 * access (doc/past.md, "Snapshots by themselves"). What fails is tried again at the next look.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Snapshots } from './snapshots.js';

export interface SnapshotKeeperOptions {
  readonly snapshots: Pick<Snapshots, 'takeDue' | 'dropExpired'>;
  /** Nothing can be put into the store now. */
  readonly isStuck: () => boolean;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly logger: Logger;
}

const intervalMs = 300_000;

export class SnapshotKeeper {
  readonly #options: SnapshotKeeperOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: SnapshotKeeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, isStuck } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(intervalMs, signal).catch(() => {});
      if (!signal.aborted && !isStuck()) await this.#look(signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { snapshots, logger } = this.#options;
    try {
      const taken = await snapshots.takeDue(signal);
      if (taken) logger.info('took a snapshot', { kind: taken.kind, sequence: taken.sequence });
      const dropped = await snapshots.dropExpired();
      if (dropped > 0) logger.info('dropped snapshots that have expired', { count: dropped });
    } catch (error) {
      if (!signal.aborted) logger.info('no snapshot could be taken', { reason: describeError(error) });
    }
  }
}
