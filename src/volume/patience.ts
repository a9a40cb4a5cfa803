/**
 * Limits how long an application waits for the store. One timer serves all waits: there may be thousands per second,
 * and most end within a millisecond. It cancels nothing: the work continues (doc/concurrency.md, "A store that is
 * offline").
 */
import type { Clock } from '../base/clock.js';
import { VolumeError } from './volume-error.js';

interface Wait {
  readonly untilMs: number;
  giveUp(): void;
}

export class Patience {
  readonly #clock: Clock;
  readonly #patienceMs: number | undefined;
  /** Ordered by deadline. */
  readonly #waits = new Set<Wait>();
  #watching = false;

  /** `patienceMs`: no limit if undefined. */
  constructor(clock: Clock, patienceMs: number | undefined) {
    this.#clock = clock;
    this.#patienceMs = patienceMs;
  }

  /**
   * The outcome of `work`. Rejects with VolumeError `UNAVAILABLE` when it takes too long, or `INTERRUPTED`. The work
   * itself continues, so the next caller may find it done.
   */
  wait<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
    const patienceMs = this.#patienceMs;
    if (patienceMs === undefined && signal === undefined) return work;
    return new Promise<T>((resolve, reject) => {
      const wait: Wait = {
        untilMs: this.#clock.monotonicMs() + (patienceMs ?? 0),
        giveUp: () => reject(new VolumeError('UNAVAILABLE', 'the store did not answer in time')),
      };
      const onAbort = (): void => {
        this.#waits.delete(wait);
        reject(new VolumeError('INTERRUPTED', 'the caller gave up'));
      };
      const end = (): void => {
        this.#waits.delete(wait);
        signal?.removeEventListener('abort', onAbort);
      };
      work.then(
        (value) => {
          end();
          resolve(value);
        },
        (error: unknown) => {
          end();
          reject(error);
        },
      );
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted) {
        onAbort();
      } else if (patienceMs !== undefined) {
        this.#waits.add(wait);
        if (!this.#watching) void this.#watch();
      }
    });
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    for (let first = this.#first(); first; first = this.#first()) {
      const leftMs = first.untilMs - this.#clock.monotonicMs();
      if (leftMs > 0) {
        await this.#clock.sleep(leftMs);
      } else {
        this.#waits.delete(first);
        first.giveUp();
      }
    }
    this.#watching = false;
  }

  #first(): Wait | undefined {
    return this.#waits.values().next().value;
  }
}
