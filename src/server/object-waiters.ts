/**
 * Requests that wait for an object that is not there yet (doc/server.md, "Protocol"). A put through this server wakes
 * them; for objects that reach the base in other ways the base is asked now and then, once for each key and only while
 * a request waits.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';

export interface ObjectWaitersOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Interval at which the base is polled; 0 disables polling. */
  readonly pollMs: number;
}

/** `there`: the object may exist; `over`: time is up, or nobody waits any more; `stopped`: the server is stopping. */
export type WaitOutcome = 'there' | 'over' | 'stopped';

export interface Wait {
  readonly outcome: Promise<WaitOutcome>;
  /** Gives up the wait, whose outcome is then `over`. */
  end(): void;
}

const headsAtOnce = 16;

export class ObjectWaiters {
  readonly #base: Pick<ObjectStore, 'head'>;
  readonly #options: ObjectWaitersOptions;
  readonly #waiting = new Map<ObjectKey, Set<(outcome: WaitOutcome) => void>>();
  readonly #stop = new AbortController();
  #isPolling = false;

  constructor(base: Pick<ObjectStore, 'head'>, options: ObjectWaitersOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** Begins to wait now; the caller must look for the object afterwards. */
  wait(key: ObjectKey, timeoutMs: number): Wait {
    if (this.#stop.signal.aborted) return { outcome: Promise.resolve('stopped'), end: () => {} };
    let wake: (outcome: WaitOutcome) => void = () => {};
    const outcome = new Promise<WaitOutcome>((resolve) => {
      const timer = setTimeout(() => wake('over'), timeoutMs);
      const waiters = this.#waiting.get(key) ?? new Set();
      this.#waiting.set(key, waiters);
      wake = (how) => {
        clearTimeout(timer);
        waiters.delete(wake);
        if (waiters.size === 0 && this.#waiting.get(key) === waiters) this.#waiting.delete(key);
        resolve(how);
      };
      waiters.add(wake);
    });
    if (!this.#isPolling && this.#options.pollMs > 0) void this.#poll();
    return { outcome, end: () => wake('over') };
  }

  /** Wakes the requests that wait for an object that was put. */
  announce(key: ObjectKey): void {
    // Each one removes itself from the set, which is safe during iteration.
    for (const wake of this.#waiting.get(key) ?? []) wake('there');
  }

  /** Ends all waits, later ones included. */
  stop(): void {
    this.#stop.abort(new Error('the server stops'));
    for (const waiters of this.#waiting.values()) for (const wake of waiters) wake('stopped');
  }

  async #poll(): Promise<void> {
    this.#isPolling = true;
    const { clock, pollMs, logger } = this.#options;
    try {
      while (this.#waiting.size > 0) {
        await clock.sleep(pollMs, this.#stop.signal);
        const keys = [...this.#waiting.keys()];
        for (let at = 0; at < keys.length && !this.#stop.signal.aborted; at += headsAtOnce) {
          await Promise.all(
            keys.slice(at, at + headsAtOnce).map(async (key) => {
              if ((await this.#base.head(key)) !== undefined) this.announce(key);
            }),
          ).catch((error: unknown) => logger.warn('the base cannot be asked for what is waited for', { reason: describeError(error) }));
        }
      }
    } catch (error) {
      // Only the sleep throws, when the server stops.
      if (!this.#stop.signal.aborted) throw error;
    } finally {
      this.#isPolling = false;
    }
  }
}
