/** An object store in memory, for tests and experiments. It behaves like the strictest real store. */
import { assert } from '../base/assert.js';
import type { Disk } from '../disk/disk.js';
import { readBody } from './file-body.js';
import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from './object-store.js';
import { defaultSizeMax, isObjectKey, StoreError } from './object-store.js';

export class MemoryStore implements ObjectStore {
  readonly description = 'memory';
  readonly local: boolean;
  readonly #disk: Disk | undefined;
  readonly #objects = new Map<ObjectKey, Uint8Array>();
  /** The keys in order; made when a list needs it. */
  #sorted: ObjectKey[] | undefined;
  #closed = false;

  /** `disk` reads file bodies; without it only bytes can be put. `local` as in {@link ObjectStore}. */
  constructor(options: { readonly disk?: Disk; readonly local?: boolean } = {}) {
    this.#disk = options.disk;
    this.local = options.local ?? false;
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    this.#check(key, options.signal);
    const object = this.#objects.get(key);
    if (!object) return undefined;
    const start = options.range?.offset ?? 0;
    const bytes = object.subarray(start, options.range ? start + options.range.length : undefined);
    const sizeMax = options.sizeMax ?? options.range?.length ?? defaultSizeMax;
    if (bytes.byteLength > sizeMax) throw new StoreError('PROTOCOL', `object ${key} has ${bytes.byteLength} bytes, at most ${sizeMax} are expected`);
    // Not slice(): that of a Buffer shares its memory.
    return new Uint8Array(bytes);
  }

  async put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    this.#check(key, options.signal);
    const bytes = body instanceof Uint8Array ? new Uint8Array(body) : await readBody(this.#disk, body);
    if (this.#objects.has(key)) return 'exists';
    this.#objects.set(key, bytes);
    this.#sorted = undefined;
    return 'created';
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    assert(prefix === '' || prefix.endsWith('/'), 'a list prefix is empty or ends in a slash');
    this.#sorted ??= [...this.#objects.keys()].toSorted();
    for (const key of this.#sorted) {
      options.signal?.throwIfAborted();
      if (!key.startsWith(prefix) || key <= (options.after ?? '')) continue;
      const size = this.#objects.get(key)?.byteLength;
      if (size !== undefined) yield { key, size };
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    for (const key of keys) {
      this.#check(key);
      if (this.#objects.delete(key)) this.#sorted = undefined;
    }
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    this.#check(key);
    return this.#objects.get(key)?.byteLength;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #check(key: ObjectKey, signal?: AbortSignal): void {
    assert(!this.#closed, 'a closed store is not used');
    assert(isObjectKey(key), 'an object key is made of plain segments');
    signal?.throwIfAborted();
  }
}
