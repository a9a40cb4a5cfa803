/**
 * Bounds the cost of one listing (doc/stores.md, "Lists"). An untrusted store can continue for ever, with empty pages,
 * folders that contain each other, foreign names, or answers that trickle. Each object that is found raises every
 * bound, so that a large store can still be listed.
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import type { ListedObject, ListOptions } from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';

/** Requests that bring nothing. The folders of a store that is empty are some hundreds. */
const barrenRequestsMax = 500;
const bytesMax = 64 * 1024 * 1024;
const bytesPerObject = 4096;
/** Packs of 16 MiB that together are 128 TiB. */
const objectsMax = 8 * 1024 * 1024;
const timeMs = 60_000;
const msPerObject = 5;
/** However much is found: a drive may hold a lock meanwhile. */
const timeMaxMs = 15 * 60_000;

export class ListingBudget {
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #over = new AbortController();
  readonly #ended = new AbortController();
  /** The beginning of an error's message. */
  readonly doing: string;
  /** Aborted when the listing is given up: for the requests that it makes. */
  readonly signal: AbortSignal;
  #requestCount = 0;
  #byteCount = 0;
  #objectCount = 0;

  /** Ended by {@link end}. */
  constructor(doing: string, clock: Clock, signal?: AbortSignal) {
    this.doing = doing;
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    this.signal = signal ? AbortSignal.any([signal, this.#over.signal]) : this.#over.signal;
    void this.#watch();
  }

  /**
   * A request, or another step that takes time, is about to begin. Throws {@link StoreError}, or the reason of the
   * signal.
   */
  request(): void {
    this.signal.throwIfAborted();
    if (++this.#requestCount > barrenRequestsMax + this.#objectCount) throw this.#endless();
  }

  /** Bytes of an answer have come. Throws {@link StoreError}. */
  received(bytes: number): void {
    this.#byteCount += bytes;
    if (this.#byteCount > bytesMax + this.#objectCount * bytesPerObject) throw this.#endless();
  }

  /** A key that can be one of ours, and was not there before. Throws {@link StoreError}. */
  found(): void {
    if (++this.#objectCount > objectsMax) throw this.#endless();
  }

  /** The listing is over, however it ended. */
  end(): void {
    this.#ended.abort(new Error('the listing is over'));
  }

  #endless(): StoreError {
    return new StoreError('PROTOCOL', `${this.doing}: the store's list does not end`);
  }

  async #watch(): Promise<void> {
    for (;;) {
      const allowedMs = Math.min(timeMaxMs, timeMs + this.#objectCount * msPerObject);
      const restMs = this.#startMs + allowedMs - this.#clock.monotonicMs();
      if (restMs <= 0) break;
      try {
        await this.#clock.sleep(restMs, this.#ended.signal);
      } catch {
        return;
      }
    }
    this.#over.abort(new StoreError('UNAVAILABLE', `${this.doing}: the store's list takes too long`));
  }
}

/**
 * {@link ObjectStore.list} within a budget of its own. `prefix` is the caller's; `list` gets the key after which it
 * begins, empty for all.
 */
export async function* listWithin(
  prefix: string,
  { after = '', signal }: ListOptions,
  clock: Clock,
  list: (after: string, budget: ListingBudget) => AsyncIterable<ListedObject>,
): AsyncGenerator<ListedObject> {
  assert(prefix === '' || (prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1))), 'a list prefix is empty or ends in a slash');
  signal?.throwIfAborted();
  const budget = new ListingBudget(prefix === '' ? 'listing the store' : `listing ${prefix}`, clock, signal);
  try {
    yield* list(after, budget);
  } finally {
    budget.end();
  }
}
