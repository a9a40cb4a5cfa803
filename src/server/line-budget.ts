/**
 * Bounds the number of log lines about events that outsiders can cause: refused requests would otherwise fill the disk.
 */
import type { Clock } from '../base/clock.js';

const burst = 100;
const perSecond = 10;

interface Bucket {
  lines: number;
  filledMs: number;
}

export class LineBudget {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();
  #withheldCount = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether a line about `name` may be written. `name`: few and from a fixed set, or the id of a valid token. */
  take(name: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(name) ?? { lines: burst, filledMs: nowMs };
    this.#buckets.set(name, bucket);
    bucket.lines = Math.min(burst, bucket.lines + ((nowMs - bucket.filledMs) / 1000) * perSecond);
    bucket.filledMs = nowMs;
    if (bucket.lines >= 1) {
      bucket.lines--;
      return true;
    }
    this.#withheldCount++;
    return false;
  }

  /** The lines that were refused since this was asked last: for the next one that is written. */
  takeWithheld(): number {
    const count = this.#withheldCount;
    this.#withheldCount = 0;
    return count;
  }
}
