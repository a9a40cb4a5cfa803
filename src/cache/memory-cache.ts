/**
 * A cache in memory that is bounded in bytes and evicts the least recently used value. A missing value is loaded once,
 * however many callers ask for it; a present one is answered without a promise (doc/concurrency.md). Only this file
 * imports lru-cache.
 */
import { LRUCache } from 'lru-cache';
import type { MaybePromise } from '../base/maybe-promise.js';
import { isPromise } from '../base/maybe-promise.js';

export interface MemoryCacheOptions<K, V> {
  /** 0 turns the cache off: nothing is kept, but concurrent loads of one key are still one. */
  readonly bytesMax: number;
  /** How many bytes a value holds, bookkeeping included. One that exceeds `bytesMax` alone is not kept. */
  readonly sizeOf: (value: V, key: K) => number;
}

export class MemoryCache<K extends string | number | bigint | symbol | object, V extends object | string | number | boolean> {
  readonly #lru: LRUCache<K, V> | undefined;
  readonly #loading = new Map<K, Promise<V>>();

  constructor(options: MemoryCacheOptions<K, V>) {
    const { bytesMax, sizeOf } = options;
    if (bytesMax > 0) {
      this.#lru = new LRUCache<K, V>({ maxSize: bytesMax, sizeCalculation: (value, key) => Math.max(1, Math.ceil(sizeOf(value, key))) });
    }
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#lru?.calculatedSize ?? 0;
  }

  get count(): number {
    return this.#lru?.size ?? 0;
  }

  /** The value, shared with the cache and everybody else: it is not to be changed. */
  get(key: K): V | undefined {
    return this.#lru?.get(key);
  }

  /** Whether it is there, without counting as a use. */
  has(key: K): boolean {
    return this.#lru?.has(key) ?? false;
  }

  set(key: K, value: V): void {
    // A load that is under way would put its older value over this one.
    this.#loading.delete(key);
    this.#lru?.set(key, value);
  }

  /** Forgets a value; a load of it that is under way still answers those who wait, but is not kept. */
  delete(key: K): void {
    this.#loading.delete(key);
    this.#lru?.delete(key);
  }

  clear(): void {
    this.#loading.clear();
    this.#lru?.clear();
  }

  /**
   * The value, loaded by `load` when it is not there: once for all who ask meanwhile. A failed load is theirs to see
   * and not kept.
   */
  load(key: K, load: (key: K) => MaybePromise<V>): MaybePromise<V> {
    const known = this.#lru?.get(key);
    if (known !== undefined) return known;
    const running = this.#loading.get(key);
    if (running) return running;
    const value = load(key);
    if (!isPromise(value)) {
      this.#lru?.set(key, value);
      return value;
    }
    const settled: Promise<V> = value.then(
      (loaded) => {
        if (this.#loading.get(key) === settled) {
          this.#loading.delete(key);
          this.#lru?.set(key, loaded);
        }
        return loaded;
      },
      (error: unknown) => {
        if (this.#loading.get(key) === settled) this.#loading.delete(key);
        throw error;
      },
    );
    this.#loading.set(key, settled);
    return settled;
  }
}
