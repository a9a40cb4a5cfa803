/** A store decorator that counts requests, for metrics and for tests that bound their number. */
import { bodySize } from '../../src/store/file-body.js';
import type {
  AwaitOptions,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOutcome,
} from '../../src/store/object-store.js';

export interface StoreCounts {
  gets: number;
  puts: number;
  lists: number;
  deletes: number;
  heads: number;
  /** Rejected requests, for any reason. */
  failures: number;
  bytesGot: number;
  /** Bodies that the store received, also for objects that existed. */
  bytesPut: number;
}

export class CountingStore implements ObjectStore {
  readonly awaitObject?: (key: ObjectKey, options: AwaitOptions) => Promise<boolean>;
  readonly #inner: ObjectStore;
  readonly counts: StoreCounts = { gets: 0, puts: 0, lists: 0, deletes: 0, heads: 0, failures: 0, bytesGot: 0, bytesPut: 0 };

  constructor(inner: ObjectStore) {
    this.#inner = inner;
    const awaitObject = inner.awaitObject?.bind(inner);
    if (awaitObject) this.awaitObject = (key, options) => this.#watch(awaitObject(key, options));
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
    this.counts.gets++;
    const bytes = await this.#watch(this.#inner.get(key, options));
    this.counts.bytesGot += bytes?.byteLength ?? 0;
    return bytes;
  }

  head(key: ObjectKey): Promise<number | undefined> {
    this.counts.heads++;
    return this.#watch(this.#inner.head(key));
  }

  async put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    this.counts.puts++;
    const outcome = await this.#watch(this.#inner.put(key, body, options));
    this.counts.bytesPut += bodySize(body);
    return outcome;
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    this.counts.deletes++;
    return this.#watch(this.#inner.delete(keys));
  }

  async *list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    this.counts.lists++;
    try {
      yield* this.#inner.list(prefix, options);
    } catch (error) {
      this.counts.failures++;
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #watch<T>(request: Promise<T>): Promise<T> {
    try {
      return await request;
    } catch (error) {
      this.counts.failures++;
      throw error;
    }
  }
}
