/**
 * Bounds the number of requests under way, with separate limits for reads and writes: a queue of uploads must not delay
 * an application that reads. Lists are not counted, since their consumer may pause for any length of time.
 */
import { Limiter } from '../base/limiter.js';
import type {
  AwaitOptions,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOutcome,
  StoreTraits,
} from './object-store.js';

export interface LimitedStoreOptions {
  /** Gets and heads at once. */
  readonly readsMax: number;
  /** Puts and deletes at once. */
  readonly writesMax: number;
}

export class LimitedStore implements ObjectStore {
  readonly awaitObject?: (key: ObjectKey, options: AwaitOptions) => Promise<boolean>;
  readonly #inner: ObjectStore;
  readonly #reads: Limiter;
  readonly #writes: Limiter;

  constructor(inner: ObjectStore, options: LimitedStoreOptions) {
    this.#inner = inner;
    // Not limited: waiting requests must keep nobody from reading.
    if (inner.awaitObject) this.awaitObject = inner.awaitObject.bind(inner);
    this.#reads = new Limiter(options.readsMax);
    this.#writes = new Limiter(options.writesMax);
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

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#reads.run(async () => {
      // The request may have been aborted while it waited for its turn.
      options?.signal?.throwIfAborted();
      return this.#inner.get(key, options);
    });
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#reads.run(() => this.#inner.head(key));
  }

  put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    return this.#writes.run(async () => {
      options?.signal?.throwIfAborted();
      return this.#inner.put(key, body, options);
    });
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#writes.run(() => this.#inner.delete(keys));
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    return this.#inner.list(prefix, options);
  }

  traits(): Promise<StoreTraits> {
    return this.#inner.traits?.() ?? Promise.resolve({});
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
