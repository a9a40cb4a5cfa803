/**
 * A store inside a store: every key gets a prefix, and nothing outside it is visible. Closing it closes the outer
 * store.
 */
import { assert } from '../base/assert.js';
import type { AwaitOptions, GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from './object-store.js';
import { isObjectKey } from './object-store.js';

export class PrefixedStore implements ObjectStore {
  readonly awaitObject?: (key: ObjectKey, options: AwaitOptions) => Promise<boolean>;
  readonly #inner: ObjectStore;
  readonly #prefix: string;

  /** `prefix` ends in a slash, or is empty. */
  constructor(inner: ObjectStore, prefix: string) {
    assert(prefix === '' || (prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1))), 'a key prefix is made of whole segments');
    this.#inner = inner;
    this.#prefix = prefix;
    const awaitObject = inner.awaitObject?.bind(inner);
    if (awaitObject) this.awaitObject = (key, options) => awaitObject(prefix + key, options);
  }

  get description(): string {
    return `${this.#inner.description}, under ${this.#prefix}`;
  }

  get local(): boolean {
    return this.#inner.local;
  }

  get listsWhole(): boolean | undefined {
    return this.#inner.listsWhole;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#inner.get(this.#prefix + key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#inner.head(this.#prefix + key);
  }

  put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    return this.#inner.put(this.#prefix + key, body, options);
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#inner.delete(keys.map((key) => this.#prefix + key));
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const after = options.after === undefined ? undefined : this.#prefix + options.after;
    for await (const { key, size } of this.#inner.list(this.#prefix + prefix, { ...options, after })) {
      // A store may answer with anything.
      if (key.startsWith(this.#prefix)) yield { key: key.slice(this.#prefix.length), size };
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
