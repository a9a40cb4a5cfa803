/**
 * How old the state shown to applications may be: a store that withholds commits shows an old state that verifies
 * (doc/security.md, "Freshness"). Only a newer commit of another device proves that no older one is withheld, so the
 * age counts from the newest of these. It only reports: nothing is refused.
 */
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { CommitLog } from '../commit/commit-log.js';

export class Staleness {
  readonly #log: Pick<CommitLog, 'newestSignOfOthersMs' | 'lastCheckpoint' | 'members' | 'deviceId'>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #maxMs: number | undefined;
  readonly #startedMs: number;
  #wasStale = false;

  /** `maxMs`: an older state is reported as stale; undefined: never. */
  constructor(
    log: Pick<CommitLog, 'newestSignOfOthersMs' | 'lastCheckpoint' | 'members' | 'deviceId'>,
    clock: Clock,
    logger: Logger,
    maxMs: number | undefined,
  ) {
    this.#log = log;
    this.#clock = clock;
    this.#logger = logger;
    this.#maxMs = maxMs;
    this.#startedMs = this.#nowMs();
  }

  get maxMs(): number | undefined {
    return this.#maxMs;
  }

  /**
   * Milliseconds since the last proof that no commits are withheld; undefined when no other device could prove it. If
   * the last proof is older than the newest checkpoint, the time since that checkpoint.
   */
  get ageMs(): number | undefined {
    const others = this.#log.members.some(({ enrolment, status }) => status !== 'removed' && enrolment.deviceId !== this.#log.deviceId);
    if (!others) return undefined;
    const sinceMs = this.#log.newestSignOfOthersMs ?? this.#log.lastCheckpoint?.wallTimeMs ?? this.#startedMs;
    return Math.max(0, this.#nowMs() - sinceMs);
  }

  get isStale(): boolean {
    const { ageMs } = this;
    return this.#maxMs !== undefined && ageMs !== undefined && ageMs > this.#maxMs;
  }

  /** Logs a change. */
  check(): void {
    const { isStale, ageMs = 0 } = this;
    if (isStale === this.#wasStale) return;
    this.#wasStale = isStale;
    const fields = { ageS: Math.round(ageMs / 1000), maxS: Math.round((this.#maxMs ?? 0) / 1000) };
    if (isStale) this.#logger.warn('no other device has given a sign of life for longer than allowed: the store may be withholding changes', fields);
    else this.#logger.info('another device has given a sign of life', fields);
  }

  #nowMs(): number {
    return this.#clock.now().sec * 1000;
  }
}
