/** Time, as an injected dependency: tests and the crash simulator control it. */

/**
 * A wall time as the kernel represents it: whole seconds since 1970 (may be negative) and 0..999,999,999 nanoseconds.
 */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

export interface Clock {
  /** Wall time, which may jump: for timestamps only. */
  now(): Timespec;
  /** The seconds of {@link Clock.now}, up to one off: where that costs less, for rules that count in hours. */
  roughSec?(): number;
  /** Milliseconds that never go back, for deadlines and intervals. */
  monotonicMs(): number;
  /** Resolves after `delayMs`; rejects with the signal's reason when aborted. It does not keep the process alive. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now() {
    // Read once: two readings may fall into different seconds.
    const ms = Date.now();
    // The part below a millisecond comes from the monotonic clock. It orders events; it is not accurate.
    return { sec: Math.floor(ms / 1000), nsec: (ms - Math.floor(ms / 1000) * 1000) * 1e6 + Math.floor((performance.now() % 1) * 1e6) };
  },
  monotonicMs: () => performance.now(),
  sleep: (delayMs, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(signal?.reason as Error);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, delayMs);
      timer.unref();
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
};

/** Milliseconds since 1970 as a {@link Timespec}. */
export function timespecOfMs(ms: number): Timespec {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.floor((ms - sec * 1000) * 1e6) };
}

export function compareTimespec(a: Timespec, b: Timespec): number {
  return a.sec - b.sec || a.nsec - b.nsec;
}
