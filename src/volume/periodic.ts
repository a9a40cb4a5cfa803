/** Background work of a mounted drive that is done again and again, while the store can be used. */
import type { Clock } from '../base/clock.js';

export interface PeriodicOptions {
  /** How long to wait before each time, in milliseconds; the first may be sooner or later. */
  readonly intervalMs: number;
  readonly firstMs?: number;
  /** Nothing can be put into the store now. */
  readonly isStuck: () => boolean;
  readonly clock: Pick<Clock, 'sleep'>;
  /** Must not reject. */
  readonly work: (signal: AbortSignal) => Promise<void>;
}

export class Periodic {
  readonly #options: PeriodicOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: PeriodicOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Ends the work that is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, isStuck, work, intervalMs, firstMs = intervalMs } = this.#options;
    const { signal } = this.#stop;
    for (let delayMs = firstMs; !signal.aborted; delayMs = intervalMs) {
      await clock.sleep(delayMs, signal).catch(() => {});
      if (!signal.aborted && !isStuck()) await work(signal);
    }
  }
}
