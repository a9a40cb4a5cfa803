/**
 * Decides when to look for commits of others (doc/concurrency.md, "Hearing of others"). A store that supports it is
 * asked to wait for the next commit. Other stores are polled, because polls cost money: often while the mount is in use
 * or the log moves, seldom when both rest. It only wakes the committer, which does the polling.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { type Logger } from '../base/logger.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';

export interface PollPace {
  /** The pause between two polls while the volume is in use. */
  readonly busyMs: number;
  /** The longest pause, however long nothing happened. */
  readonly idleMs: number;
}

/** Polling a file on this machine costs microseconds. */
export const localPace: PollPace = { busyMs: 250, idleMs: 1000 };
/** A commit must take effect elsewhere within three seconds (doc/semantics.md, "Other devices"). */
export const remotePace: PollPace = { busyMs: 2000, idleMs: 15_000 };

/** The pause between two polls is this fraction of the time since anything happened, within the pace. */
const quietShare = 20;
/** One wait for the next commit; proxies cut requests after a minute. */
const awaitMs = 55_000;
/** While the store reports commits itself, polls only catch those that it misses. */
const watchedPollMs = 60_000;
/** A negative answer that comes sooner than this was not a wait. */
const hastyMs = awaitMs / 4;
const backoffMinMs = 500;
const backoffMaxMs = 60_000;

export interface LogWatchOptions {
  readonly store: Pick<ObjectStore, 'awaitObject'>;
  /** The key of the commit after the head. */
  readonly nextKey: () => ObjectKey;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pace: PollPace;
  /** True: the next commit may be there. False: the pause until the next poll has become shorter. */
  readonly onHint: (isThere: boolean) => void;
}

export class LogWatch {
  readonly #options: LogWatchOptions;
  #usedMs: number;
  #movedMs: number;
  #moves = 0;
  /** The store has proven that it can wait. */
  #isWatching = false;
  #stopped = false;
  #waiting: AbortController | undefined;
  #resume: (() => void) | undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: LogWatchOptions) {
    this.#options = options;
    this.#usedMs = this.#movedMs = options.clock.monotonicMs();
  }

  start(): void {
    if (this.#options.store.awaitObject) this.#loop = this.#watch();
  }

  /** Called when applications use the mount. After a long rest this triggers a poll at once. */
  used(): void {
    const now = this.#options.clock.monotonicMs();
    const pauseMs = this.pauseMs(now);
    this.#usedMs = now;
    if (!this.#isWatching && pauseMs > this.#options.pace.busyMs) this.#options.onHint(false);
  }

  /** The log's head has moved, so the key to wait for has changed. */
  moved(): void {
    this.#movedMs = this.#options.clock.monotonicMs();
    this.#moves++;
    this.#waiting?.abort(new Error('the log has moved'));
    this.#resume?.();
  }

  /** The pause until the next poll, as things are. */
  pauseMs(now = this.#options.clock.monotonicMs()): number {
    const { busyMs, idleMs } = this.#options.pace;
    if (this.#isWatching) return Math.max(watchedPollMs, busyMs);
    const quietMs = now - Math.max(this.#usedMs, this.#movedMs);
    return Math.min(Math.max(idleMs, busyMs), Math.max(busyMs, quietMs / quietShare));
  }

  /** Nothing has happened for so long that polls have become as rare and as small as they get. */
  isResting(now = this.#options.clock.monotonicMs()): boolean {
    const { busyMs, idleMs } = this.#options.pace;
    return !this.#isWatching && idleMs > localPace.idleMs && this.pauseMs(now) >= Math.max(idleMs, busyMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.moved();
    await this.#loop;
  }

  async #watch(): Promise<void> {
    const { nextKey, clock, logger, onHint } = this.#options;
    /** Consecutive failures and useless answers. */
    let useless = 0;
    while (!this.#stopped) {
      const movesBefore = this.#moves;
      const startMs = clock.monotonicMs();
      const waiting = new AbortController();
      this.#waiting = waiting;
      try {
        const isThere = await this.#options.store.awaitObject?.(nextKey(), { timeoutMs: awaitMs, signal: waiting.signal });
        this.#isWatching = true;
        if (isThere === true) {
          onHint(true);
          // If there really is a commit, the head moves; otherwise the answer was wrong and the next request waits
          // longer each time.
          useless++;
        } else useless = clock.monotonicMs() - startMs < hastyMs ? useless + 1 : 0;
        if (useless > 3) this.#isWatching = false;
      } catch (error) {
        useless++;
        if (this.#isWatching && !waiting.signal.aborted) {
          this.#isWatching = false;
          logger.info('the store no longer tells of new commits: it is polled', { reason: describeError(error) });
          onHint(false);
        }
      } finally {
        this.#waiting = undefined;
      }
      if (this.#moves !== movesBefore) useless = 0;
      else if (useless > 0) useless = await this.#rest(Math.min(backoffMaxMs, backoffMinMs * 2 ** (useless - 1)), useless);
    }
  }

  /** Sleeps until the log moves, at most `delayMs`. Returns the new count of useless answers. */
  async #rest(delayMs: number, useless: number): Promise<number> {
    if (this.#stopped) return 0;
    const nap = new AbortController();
    const moved = new Promise<'moved'>((resolve) => {
      this.#resume = () => resolve('moved');
    });
    const outcome = await Promise.race([moved, this.#options.clock.sleep(delayMs, nap.signal).catch(() => {})]);
    this.#resume = undefined;
    nap.abort();
    return outcome === 'moved' ? 0 : useless;
  }
}
