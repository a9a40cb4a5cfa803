/**
 * Keeps the machine from shutting down or going to sleep while something is being uploaded, where the system has a way
 * to ask for that (doc/cli.md, "The daemon"). While the store does not answer it holds nothing back, since waiting
 * would be of no use. How the system is asked is handed in.
 */
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';

/** One request to stay awake, granted or refused. */
export interface Inhibition {
  /** False: the system has no such requests, or takes none from us. */
  readonly isGranted: () => boolean;
  end(): void;
}

export interface ShutdownInhibitorOptions {
  readonly begin: () => Inhibition;
  /** Whether something is being uploaded. */
  readonly isBusy: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

const lookMs = 1000;
/** Shorter uploads do not keep the machine awake. */
const busyLooks = 3;

export class ShutdownInhibitor {
  readonly #options: ShutdownInhibitorOptions;
  readonly #stop = new AbortController();
  #inhibition: Inhibition | undefined;

  constructor(options: ShutdownInhibitorOptions) {
    this.#options = options;
  }

  get isHeld(): boolean {
    return this.#inhibition !== undefined;
  }

  start(): void {
    this.#run().catch(() => {});
  }

  /** Ends the request, if there is one. */
  stop(): void {
    this.#stop.abort();
    this.#end();
  }

  async #run(): Promise<void> {
    const { begin, isBusy, clock, logger } = this.#options;
    const { signal } = this.#stop;
    for (let looks = 0; ; ) {
      await clock.sleep(lookMs, signal);
      looks = isBusy() ? looks + 1 : 0;
      if (looks === 0) this.#end();
      else if (looks >= busyLooks) this.#inhibition ??= begin();
      if (this.#inhibition && !this.#inhibition.isGranted()) {
        logger.info('the system cannot be kept from sleeping during uploads');
        this.#end();
        return;
      }
    }
  }

  #end(): void {
    this.#inhibition?.end();
    this.#inhibition = undefined;
  }
}
