/**
 * Retries requests that failed with `UNAVAILABLE`, with exponential backoff and full jitter, until a deadline, which
 * starts again when a part of a large body has arrived. A put whose answer was lost is never repeated blindly: the key
 * is read back and the bytes are compared, so that our own object, stored by an attempt that seemed to fail, is not
 * taken for another device's. `created` may therefore also mean that the same bytes were there before
 * (doc/architecture.md, "The store").
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import type { Disk } from '../disk/disk.js';
import { compareObject } from './compare-object.js';
import type {
  AwaitOptions,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOptions,
  PutOutcome,
  StoreTraits,
} from './object-store.js';
import { StoreError } from './object-store.js';
import type { RefusedObjects } from './refused-objects.js';

export interface RetryingStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Reads file bodies for comparing them. */
  readonly disk: Disk;
  /** Hears how reads end. */
  readonly refused?: RefusedObjects;
  readonly logger?: Logger;
  /** No attempt starts this long after the call did. Default: 60 seconds. */
  readonly deadlineMs?: number;
  /** The first wait lasts 0 to this long. Default: 100. */
  readonly baseMs?: number;
  /** No wait is longer. Default: 10 seconds. */
  readonly waitMaxMs?: number;
}

const isUnavailable = (error: unknown): error is StoreError => error instanceof StoreError && error.code === 'UNAVAILABLE';

type AttemptOptions = Required<Omit<RetryingStoreOptions, 'disk' | 'refused'>>;

/** The attempts of one call: counts them, waits between them, and knows when to give up. */
class Attempts {
  readonly #options: AttemptOptions;
  readonly #doing: string;
  readonly #signal: AbortSignal | undefined;
  #startMs: number;
  #failures = 0;

  constructor(options: AttemptOptions, doing: string, signal: AbortSignal | undefined) {
    this.#options = options;
    this.#doing = doing;
    this.#signal = signal;
    this.#startMs = options.clock.monotonicMs();
  }

  /** A part has succeeded: the deadline and the backoff start anew. */
  reset(): void {
    this.#failures = 0;
    this.#startMs = this.#options.clock.monotonicMs();
  }

  /** Waits before the next attempt, or throws `error` when there is to be none. */
  async afterFailure(error: unknown): Promise<void> {
    if (!isUnavailable(error) || this.#signal?.aborted) throw error;
    if (error.isProgress) this.reset();
    const { clock, random, logger, baseMs, waitMaxMs, deadlineMs } = this.#options;
    const fraction = Buffer.from(random.bytes(4)).readUInt32LE() / 0x100000000;
    const backoffMs = fraction * Math.min(waitMaxMs, baseMs * 2 ** Math.min(this.#failures, 30));
    // On top of what the store asks for: all who were told the same must not come back at once.
    const waitMs = (error.retryAfterMs ?? 0) + backoffMs;
    this.#failures++;
    if (clock.monotonicMs() + waitMs - this.#startMs > deadlineMs) throw error;
    logger.debug('store request failed, retrying', {
      doing: this.#doing,
      failures: this.#failures,
      waitMs: Math.round(waitMs),
      error: describeError(error),
    });
    await clock.sleep(waitMs, this.#signal);
  }
}

export class RetryingStore implements ObjectStore {
  readonly awaitObject?: (key: ObjectKey, options: AwaitOptions) => Promise<boolean>;
  readonly #inner: ObjectStore;
  readonly #disk: Disk;
  readonly #refused: RefusedObjects | undefined;
  readonly #options: AttemptOptions;

  constructor(inner: ObjectStore, options: RetryingStoreOptions) {
    this.#inner = inner;
    // Callers wait in a loop, and decide themselves when to try again.
    if (inner.awaitObject) this.awaitObject = inner.awaitObject.bind(inner);
    this.#disk = options.disk;
    this.#refused = options.refused;
    this.#options = {
      clock: options.clock,
      random: options.random,
      logger: options.logger ?? silentLogger,
      deadlineMs: options.deadlineMs ?? 60_000,
      baseMs: options.baseMs ?? 100,
      waitMaxMs: options.waitMaxMs ?? 10_000,
    };
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

  async get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    try {
      const bytes = await this.#repeat('get', options?.signal, () => this.#inner.get(key, options));
      this.#refused?.ended(key, undefined);
      return bytes;
    } catch (error) {
      this.#refused?.ended(key, error);
      throw error;
    }
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#repeat('head', undefined, () => this.#inner.head(key));
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    // Objects removed by a lost attempt count as removed.
    return this.#repeat('delete', undefined, () => this.#inner.delete(keys));
  }

  async put(key: ObjectKey, body: ObjectBody, options: PutOptions = {}): Promise<PutOutcome> {
    const attempts = new Attempts(this.#options, 'put', options.signal);
    /** An attempt ended without an answer: from then on `exists` may speak of our own object. */
    let uncertain = false;
    for (;;) {
      try {
        if (uncertain) {
          const found = await compareObject(this.#inner, this.#disk, key, body, options.signal);
          if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
        }
        const outcome = await this.#inner.put(key, body, options);
        if (outcome === 'created' || !uncertain) return outcome;
        // Our lost attempt arrived after the read-back, or another writer won the race.
        const found = await compareObject(this.#inner, this.#disk, key, body, options.signal);
        if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
        throw new StoreError('UNAVAILABLE', `the store says both that ${key} exists and that it does not`);
      } catch (error) {
        uncertain = true;
        await attempts.afterFailure(error);
      }
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const attempts = new Attempts(this.#options, 'list', options.signal);
    let after = options.after;
    for (;;) {
      try {
        for await (const object of this.#inner.list(prefix, { ...options, after })) {
          after = object.key;
          attempts.reset();
          yield object;
        }
        return;
      } catch (error) {
        await attempts.afterFailure(error);
      }
    }
  }

  traits(): Promise<StoreTraits> {
    return this.#inner.traits?.() ?? Promise.resolve({});
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #repeat<T>(doing: string, signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    const attempts = new Attempts(this.#options, doing, signal);
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        await attempts.afterFailure(error);
      }
    }
  }
}
