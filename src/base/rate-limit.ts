import type { Clock } from './clock.js';

/** What may pass at once after a pause, as the time that it takes: longer bursts would be felt by whoever shares the link. */
const burstMs = 250;

/**
 * A token bucket that several transfers share: bytes pass in the order in which they ask, as fast as the rate allows. The rate can be
 * changed at any time, and those who wait then wait by the new one.
 */
export class RateLimit {
  readonly #clock: Clock;
  /** `undefined`: no limit. */
  #bytesPerSecond: number | undefined;
  /** Below zero: what was let through ahead of its time. */
  #tokens = 0;
  #filledMs: number;
  #tail: Promise<void> = Promise.resolve();
  /** Wakes the one who waits for tokens. */
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
    // What was lent at another rate is forgiven: paying it back at a slow one could take for ever.
    this.#tokens = Math.max(this.#tokens, 0);
    this.#wake?.();
  }

  /** Resolves when `bytes` more may pass. `undefined`: at once. Rejects with the reason of `signal`; the bytes then do not count. */
  take(bytes: number, signal?: AbortSignal): Promise<void> | undefined {
    if (this.#bytesPerSecond === undefined || bytes === 0) return undefined;
    const turn = this.#tail.then(() => this.#wait(bytes, signal));
    this.#tail = turn.catch(() => {});
    return turn;
  }

  /** Counts bytes that do not wait: those that follow pay for them. */
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
        // Any piece may start when nothing is owed, however large it is: the next ones wait for it.
        this.#tokens -= bytes;
        return;
      }
      const nap = new AbortController();
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const waitMs = Math.max(1, Math.ceil((-this.#tokens * 1000) / rate));
      const end = (): void => nap.abort(new Error('no longer waiting'));
      signal?.addEventListener('abort', end, { once: true });
      await Promise.race([this.#clock.sleep(waitMs, nap.signal).catch(() => {}), woken]);
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

/** The limits of everything that goes over one link. */
export interface Bandwidth {
  readonly upload: RateLimit;
  readonly download: RateLimit;
}
