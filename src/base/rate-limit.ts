/** Upload and download limits that can be changed while transfers are under way. */
import type { Clock } from './clock.js';

/** After a pause, as much as takes this long may pass at once. Longer bursts would disturb others on the link. */
const burstMs = 250;

/**
 * A token bucket that several transfers share: requests are served in order, as fast as the rate allows. A change of
 * the rate applies to those that wait already.
 */
export class RateLimit {
  readonly #clock: Clock;
  /** `undefined`: no limit. */
  #bytesPerSecond: number | undefined;
  /** Below zero: bytes that passed before their time. */
  #tokens = 0;
  #filledMs: number;
  #tail: Promise<void> = Promise.resolve();
  /** Wakes the first waiter. */
  #wake: (() => void) | undefined;

  /** `bytesPerSecond`: at least 1; `undefined` for no limit. */
  constructor(clock: Clock, bytesPerSecond?: number) {
    this.#clock = clock;
    this.#filledMs = clock.monotonicMs();
    this.#bytesPerSecond = bytesPerSecond;
  }

  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond;
  }

  set bytesPerSecond(rate: number | undefined) {
    this.#fill();
    this.#bytesPerSecond = rate;
    // Debt from the old rate is dropped: repaying it at a slow rate could take for ever.
    this.#tokens = Math.max(this.#tokens, 0);
    this.#wake?.();
  }

  /**
   * Resolves when `bytes` more may pass; `undefined` when they may at once. Rejects with the reason of `signal`, and
   * then counts nothing.
   */
  take(bytes: number, signal?: AbortSignal): Promise<void> | undefined {
    if (this.#bytesPerSecond === undefined || bytes === 0) return undefined;
    const turn = this.#tail.then(() => this.#wait(bytes, signal));
    this.#tail = turn.catch(() => {});
    return turn;
  }

  /** Counts bytes that have passed without waiting; later ones wait longer for it. */
  charge(bytes: number): void {
    if (this.#bytesPerSecond === undefined) return;
    this.#fill();
    this.#tokens -= bytes;
  }

  async #wait(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      this.#fill();
      const rate = this.#bytesPerSecond;
      if (rate === undefined) return;
      if (this.#tokens >= 0) {
        // Without debt, a piece of any size may start; the next ones wait for it.
        this.#tokens -= bytes;
        return;
      }
      const sleep = new AbortController();
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const waitMs = Math.max(1, Math.ceil((-this.#tokens * 1000) / rate));
      const end = (): void => sleep.abort(new Error('no longer waiting'));
      signal?.addEventListener('abort', end, { once: true });
      await Promise.race([this.#clock.sleep(waitMs, sleep.signal).catch(() => {}), woken]);
      signal?.removeEventListener('abort', end);
      this.#wake = undefined;
      end();
    }
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs();
    const rate = this.#bytesPerSecond ?? 0;
    this.#tokens = Math.min(this.#tokens + ((nowMs - this.#filledMs) * rate) / 1000, (rate * burstMs) / 1000);
    this.#filledMs = nowMs;
  }
}

/** The limits of all transfers over one link. */
export interface Bandwidth {
  readonly upload: RateLimit;
  readonly download: RateLimit;
}
