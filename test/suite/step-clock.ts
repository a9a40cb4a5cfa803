/**
 * A clock that advances only when the test says so. Sleepers wake in order, and the work that one begins gets turns of
 * the event loop before the next one wakes.
 */

import type { Clock, Timespec } from '../../src/base/clock.js';
import { timespecOfMs } from '../../src/base/clock.js';

const turns = async (): Promise<void> => {
  for (let count = 0; count < 5; count++) await new Promise((resolve) => setImmediate(resolve));
};

export class StepClock implements Clock {
  #ms = 1_700_000_000_000;
  readonly #sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>();

  now(): Timespec {
    return timespecOfMs(this.#ms);
  }

  monotonicMs(): number {
    return this.#ms;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const onAbort = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason as Error);
      };
      const wake = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper = { atMs: this.#ms + delayMs, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Lets `ms` pass. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#ms + ms;
    await turns();
    for (;;) {
      const [next] = [...this.#sleepers].toSorted((a, b) => a.atMs - b.atMs);
      if (!next || next.atMs > endMs) break;
      this.#ms = Math.max(this.#ms, next.atMs);
      this.#sleepers.delete(next);
      next.wake();
      await turns();
    }
    this.#ms = endMs;
  }
}
