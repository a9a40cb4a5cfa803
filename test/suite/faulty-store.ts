/**
 * A store that fails as networks do, determined by a seed: requests never arrive, answers are lost after the work was
 * done, and answers come out of order. On demand it also ignores the condition of a put, as some servers do.
 */

import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import type { SeededRandom } from './seeded-random.js';

export interface Faults {
  /** Percentage of requests that never arrive. */
  readonly lostRequests?: number;
  /** Percentage of requests that are executed, but whose answer is lost. */
  readonly lostAnswers?: number;
  /** Percentage of requests that take some turns of the event loop. */
  readonly delays?: number;
}

export class FaultyStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #random: SeededRandom;
  faults: Faults;
  /** Puts of keys for which it returns true never arrive. */
  refuses: ((key: ObjectKey) => boolean) | undefined;

  constructor(inner: ObjectStore, random: SeededRandom, faults: Faults) {
    this.#inner = inner;
    this.#random = random;
    this.faults = faults;
  }

  get description(): string {
    return `faulty ${this.#inner.description}`;
  }

  get local(): boolean {
    return this.#inner.local;
  }

  #chance(percent: number | undefined): boolean {
    return this.#random.below(100) < (percent ?? 0);
  }

  async #request<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.#chance(this.faults.delays)) {
      for (let turns = this.#random.below(8); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    }
    if (this.#chance(this.faults.lostRequests)) throw new StoreError('UNAVAILABLE', `${what}: the request was lost`);
    const loseAnswer = this.#chance(this.faults.lostAnswers);
    const answer = await work();
    if (loseAnswer) throw new StoreError('UNAVAILABLE', `${what}: the answer was lost`);
    return answer;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#request('get', () => this.#inner.get(key, options));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#request('head', () => this.#inner.head(key));
  }

  put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    if (this.refuses?.(key)) return Promise.reject(new StoreError('UNAVAILABLE', 'put: the request was lost'));
    return this.#request('put', () => this.#inner.put(key, body, options));
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#request('delete', () => this.#inner.delete(keys));
  }

  async *list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    for await (const object of this.#inner.list(prefix, options)) {
      await this.#request('list', () => Promise.resolve());
      yield object;
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

/** Accepts every put and answers `created`, like a server that ignores `If-None-Match: *`. */
export class UnconditionalStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly description = 'unconditional';
  readonly local = false;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#inner.get(key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#inner.head(key);
  }

  async put(key: ObjectKey, body: ObjectBody): Promise<PutOutcome> {
    await this.#inner.delete([key]);
    await this.#inner.put(key, body);
    return 'created';
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#inner.delete(keys);
  }

  list(prefix: string, options?: { readonly after?: ObjectKey }): AsyncIterable<ListedObject> {
    return this.#inner.list(prefix, options);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
