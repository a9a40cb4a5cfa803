/** A clock that stands still until somebody sleeps: a sleep advances it at once, so waiting costs a test no time. */

import type { Clock, Timespec } from '../../src/base/clock.js';
import { timespecOfMs } from '../../src/base/clock.js';

export class ManualClock implements Clock {
  #ms: number;
  /** How long each sleep was, in milliseconds. */
  readonly sleeps: number[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#ms = startMs;
  }

  now(): Timespec {
    return timespecOfMs(this.#ms);
  }

  monotonicMs(): number {
    return this.#ms;
  }

  advance(ms: number): void {
    this.#ms += ms;
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.sleeps.push(delayMs);
    this.#ms += delayMs;
  }
}
