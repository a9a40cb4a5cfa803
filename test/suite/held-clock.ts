/** A clock that stands still until the test moves it; whoever sleeps on it sleeps until it is told to stop. */
import { type Clock, type Timespec, timespecOfMs } from '../../src/base/clock.js';

export class HeldClock implements Clock {
  #ms = 1_700_000_000_000;

  now(): Timespec {
    return timespecOfMs(this.#ms);
  }

  monotonicMs(): number {
    return this.#ms;
  }

  advance(ms: number): void {
    this.#ms += ms;
  }

  sleep(_delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((_, reject) => {
      if (signal?.aborted) reject(signal.reason as Error);
      else signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }
}
