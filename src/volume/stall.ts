/**
 * Detects a stall: nothing has been uploaded although there is work, so writers hear that the queue is full
 * (doc/concurrency.md, "Back-pressure"). It does not stop or retry uploads.
 */
import type { Clock } from '../base/clock.js';
import type { Reachability } from '../store/reachability-store.js';
import type { Committer } from './committer.js';
import type { Staging } from './staging.js';

export interface StallOptions {
  readonly reachability: Pick<Reachability, 'offlineSinceMs'> | undefined;
  readonly committer: Pick<Committer, 'failure' | 'lastError'>;
  readonly staging: Pick<Staging, 'uploadedBytes'>;
  readonly clock: Clock;
}

export class Stall {
  readonly #options: StallOptions;
  #seen: { readonly sinceMs: number; readonly uploadedBytes: number } | undefined;

  constructor(options: StallOptions) {
    this.#options = options;
  }

  /**
   * When the stall began, in milliseconds of the monotonic clock; `undefined` while uploads progress. A stall begins
   * when it is first asked for.
   */
  get sinceMs(): number | undefined {
    const { reachability, committer, staging, clock } = this.#options;
    if (reachability?.offlineSinceMs !== undefined) return reachability.offlineSinceMs;
    if (committer.failure) return Number.NEGATIVE_INFINITY;
    const { uploadedBytes } = staging;
    if (committer.lastError === undefined) this.#seen = undefined;
    else if (this.#seen?.uploadedBytes !== uploadedBytes) this.#seen = { sinceMs: clock.monotonicMs(), uploadedBytes };
    return this.#seen?.sinceMs;
  }
}
