/**
 * Knows whether the store answers at all, and spares everybody the wait while it does not: requests that have been
 * without any answer for `timeoutMs` are given up together, new ones fail at once, and a small question in the
 * background finds out when the store is back (doc/concurrency.md, "A store that is offline"). It stands inside the
 * retries, so that it sees every attempt: an outage that is shorter than the timeout is ridden out by them, and nobody
 * but the log hears of it.
 *
 * An answer is anything that the store says, refusals included. One answer to anybody ends an outage.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import type { AwaitOptions, GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from './object-store.js';
import { StoreError } from './object-store.js';

/** What the upper layers see of it. */
export interface Reachability {
  /**
   * Since when the store has not answered, in milliseconds of the monotonic clock; `undefined`: it answers, as far as
   * is known.
   */
  readonly offlineSinceMs: number | undefined;
  /**
   * Called with true when requests begin to fail at once, with false when the store answers again. Ends with the
   * function that it returns.
   */
  onChange(listener: (isOffline: boolean) => void): () => void;
}

export interface ReachabilityStoreOptions {
  readonly clock: Clock;
  readonly logger?: Logger;
  /** The longest wait for a store that does not answer. */
  readonly timeoutMs: number;
  /**
   * A question that costs little, past all limits of requests. Rejects with StoreError `UNAVAILABLE` when there is no
   * answer.
   */
  readonly probe: (signal: AbortSignal) => Promise<unknown>;
  /** Begins as if the store had not answered; the first answer to the probe ends that. */
  readonly offline?: boolean;
}

/** Between two probes: the first pause, and the longest. */
const probePauseMs = 1000;
const probePauseMaxMs = 5000;

interface Attempt {
  readonly startedMs: number;
  /** This request expects silence, which says nothing about the store. */
  readonly isPatient: boolean;
  readonly giveUp: (error: StoreError) => void;
}

export class ReachabilityStore implements ObjectStore, Reachability {
  readonly awaitObject?: (key: ObjectKey, options: AwaitOptions) => Promise<boolean>;
  readonly #inner: ObjectStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #timeoutMs: number;
  readonly #probe: (signal: AbortSignal) => Promise<unknown>;
  readonly #attempts = new Set<Attempt>();
  readonly #listeners = new Set<(isOffline: boolean) => void>();
  readonly #closing = new AbortController();
  /** Time of the last answer, or of the start. */
  #answeredMs: number;
  /** Nothing was answered since `sinceMs`, and a probe runs. A new object for each outage. */
  #outage: { readonly sinceMs: number } | undefined;
  #offline: boolean;
  #isGuarding = false;

  constructor(inner: ObjectStore, options: ReachabilityStoreOptions) {
    this.#inner = inner;
    const awaitObject = inner.awaitObject?.bind(inner);
    if (awaitObject) {
      this.awaitObject = (key, options) => this.#attempt(options.signal, (signal) => awaitObject(key, { ...options, signal }), true);
    }
    this.#clock = options.clock;
    this.#logger = options.logger ?? silentLogger;
    this.#timeoutMs = options.timeoutMs;
    this.#probe = options.probe;
    this.#answeredMs = this.#clock.monotonicMs();
    this.#offline = options.offline ?? false;
    if (this.#offline) this.#suspect(this.#answeredMs);
  }

  get description(): string {
    return this.#inner.description;
  }

  get local(): boolean {
    return this.#inner.local;
  }

  get listsWhole(): boolean | undefined {
    return this.#inner.listsWhole;
  }

  get offlineSinceMs(): number | undefined {
    return this.#offline ? this.#outage?.sinceMs : undefined;
  }

  onChange(listener: (isOffline: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#attempt(options.signal, (signal) => this.#inner.get(key, { ...options, signal }));
  }

  put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    return this.#attempt(options.signal, (signal) => this.#inner.put(key, body, { ...options, signal }));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#attempt(undefined, () => this.#inner.head(key));
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#attempt(undefined, () => this.#inner.delete(keys));
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const objects = this.#inner.list(prefix, options)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const step = await this.#attempt(options.signal, () => objects.next());
        if (step.done) return;
        yield step.value;
      }
    } finally {
      // Not awaited: a list that was given up ends when its request does.
      objects.return?.().then(undefined, () => {});
    }
  }

  close(): Promise<void> {
    this.#closing.abort(new StoreError('UNAVAILABLE', 'the store is being closed'));
    return this.#inner.close();
  }

  /** One attempt; `signal` is the caller's, and that of giving up together with all others. */
  async #attempt<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>, isPatient = false): Promise<T> {
    if (this.#offline) throw this.#offlineError();
    signal?.throwIfAborted();
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const startedMs = this.#clock.monotonicMs();
    let giveUp: (error: StoreError) => void = () => {};
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = (error) => {
        // Rejected first, so that the error of the aborted work comes too late.
        reject(error);
        controller.abort(error);
      };
    });
    givenUp.catch(() => {});
    const attempt: Attempt = { startedMs, isPatient, giveUp };
    this.#attempts.add(attempt);
    if (!isPatient) this.#guard();
    try {
      const answer = await Promise.race([work(controller.signal), givenUp]);
      this.#answered();
      return answer;
    } catch (error) {
      if (!controller.signal.aborted && error instanceof StoreError) {
        if (error.code === 'UNAVAILABLE') this.#suspect(Math.max(isPatient ? this.#clock.monotonicMs() : startedMs, this.#answeredMs));
        else this.#answered();
      }
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#attempts.delete(attempt);
    }
  }

  #offlineError(): StoreError {
    // "Infinity": trying again at once is of no use, the probe does that for all.
    return new StoreError('UNAVAILABLE', `${this.description} does not answer; it is asked again in the background`, {
      retryAfterMs: Number.POSITIVE_INFINITY,
    });
  }

  /** While requests are under way, looks now and then whether any of them was answered. */
  #guard(): void {
    if (this.#isGuarding) return;
    this.#isGuarding = true;
    const stepMs = this.#timeoutMs / 3;
    const watch = async (): Promise<void> => {
      while (!this.#closing.signal.aborted) {
        await this.#clock.sleep(stepMs, this.#closing.signal);
        const oldest = [...this.#attempts].find((attempt) => !attempt.isPatient);
        if (!oldest) break;
        const silentSinceMs = Math.max(oldest.startedMs, this.#answeredMs);
        if (this.#clock.monotonicMs() - silentSinceMs >= stepMs) this.#suspect(silentSinceMs);
      }
    };
    watch().then(
      () => {
        this.#isGuarding = false;
      },
      () => {},
    );
  }

  #answered(): void {
    this.#answeredMs = this.#clock.monotonicMs();
    this.#outage = undefined;
    if (!this.#offline) return;
    this.#offline = false;
    this.#logger.info('the store answers again');
    this.#tell(false);
  }

  #suspect(sinceMs: number): void {
    if (this.#outage || this.#closing.signal.aborted) return;
    const outage = { sinceMs };
    this.#outage = outage;
    // Ends by itself, or with the close.
    this.#investigate(outage).catch(() => {});
  }

  async #investigate(outage: { readonly sinceMs: number }): Promise<void> {
    let pauseMs = probePauseMs;
    while (this.#outage === outage) {
      const isAnswered = await this.#ask(outage);
      if (this.#outage !== outage || this.#closing.signal.aborted) return;
      if (isAnswered) return this.#answered();
      const leftMs = this.#leftMs(outage);
      if (leftMs <= 0) this.#giveUp();
      await this.#clock.sleep(this.#offline ? pauseMs : Math.min(pauseMs, Math.max(1, leftMs)), this.#closing.signal);
      pauseMs = Math.min(probePauseMaxMs, pauseMs * 2);
    }
  }

  #leftMs(outage: { readonly sinceMs: number }): number {
    return outage.sinceMs + this.#timeoutMs - this.#clock.monotonicMs();
  }

  async #ask(outage: { readonly sinceMs: number }): Promise<boolean> {
    const limitMs = this.#offline ? this.#timeoutMs : Math.max(1, Math.min(this.#timeoutMs / 3, this.#leftMs(outage)));
    const limit = new AbortController();
    const done = new AbortController();
    const onClose = (): void => limit.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClose, { once: true });
    const late = this.#clock.sleep(limitMs, done.signal).then(
      () => {
        limit.abort(new StoreError('UNAVAILABLE', 'no answer to the probe'));
        return false;
      },
      () => false,
    );
    try {
      return await Promise.race([late, this.#probe(limit.signal).then(() => true)]);
    } catch (error) {
      if (limit.signal.aborted) return false;
      return error instanceof StoreError && error.code !== 'UNAVAILABLE';
    } finally {
      done.abort();
      this.#closing.signal.removeEventListener('abort', onClose);
    }
  }

  #giveUp(): void {
    if (this.#offline) return;
    this.#offline = true;
    this.#logger.warn('the store does not answer: working offline', { waiting: this.#attempts.size });
    const error = this.#offlineError();
    for (const attempt of this.#attempts) attempt.giveUp(error);
    this.#tell(true);
  }

  #tell(isOffline: boolean): void {
    for (const listener of this.#listeners) {
      try {
        listener(isOffline);
      } catch (error) {
        this.#logger.error('a listener failed', { reason: describeError(error) });
      }
    }
  }
}
