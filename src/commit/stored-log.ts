/**
 * The commit log as objects in the store (doc/format.md, "Keys"): one object per number, named with the volume's PRF,
 * never replaced. It moves sealed bytes and finds out which numbers exist. Whether the bytes are a commit that may
 * stand there is decided in `chain.ts`.
 */
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { RootKeys } from '../crypto/volume-keys.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { commitObjectMax } from './commit-codec.js';
import { missingCommit } from './commit-error.js';
import { logKey, logPrefix, sequenceName, sequenceOfKey } from './log-name.js';
import type { Sequence } from './sequence.js';

/** Each of several objects that are fetched at once has at most this size; a larger one is fetched alone. */
const windowCommitMax = 1024 * 1024;

export class StoredLog {
  /** Whether each listing makes the store read the whole folder. */
  readonly listsWhole: boolean;
  readonly #store: ObjectStore;
  readonly #root: RootKeys;

  constructor(store: ObjectStore, root: RootKeys) {
    this.#store = store;
    this.#root = root;
    this.listsWhole = store.listsWhole ?? false;
  }

  keyOf(sequence: number): ObjectKey {
    return logKey(this.#root, sequence);
  }

  /**
   * The object's bytes; `undefined` when there is none. Throws StoreError, `PROTOCOL` when it is larger than `sizeMax`.
   */
  fetch(sequence: number, signal?: AbortSignal, sizeMax = commitObjectMax): Promise<Uint8Array | undefined> {
    return this.#store.get(this.keyOf(sequence), { sizeMax, ...(signal ? { signal } : {}) });
  }

  /** As `fetch`, for one of several objects that are fetched at once; `large` when it is too large for that. */
  async fetchSmall(sequence: number, signal?: AbortSignal): Promise<Uint8Array | 'large' | undefined> {
    try {
      return await this.fetch(sequence, signal, windowCommitMax);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'PROTOCOL') return 'large';
      throw error;
    }
  }

  /**
   * The objects from `from` on: as many of the next `count` as precede the first large one, or that one alone. Never
   * empty. Throws StoreError.
   */
  async fetchWindow(from: number, count: number, signal: AbortSignal | undefined): Promise<(Uint8Array | undefined)[]> {
    if (count === 1) return [await this.fetch(from, signal)];
    const results = await Promise.allSettled(Array.from({ length: count }, (_, index) => this.fetchSmall(from + index, signal)));
    const fetched: (Uint8Array | undefined)[] = [];
    for (const result of results) {
      if (result.status === 'rejected') throw result.reason;
      if (result.value === 'large') break;
      fetched.push(result.value);
    }
    return fetched.length > 0 ? fetched : [await this.fetch(from, signal)];
  }

  /**
   * Fetches `sequence` once more after it was absent, if a later number exists: its commit was put on top of this one,
   * so this one must have been there. `later` is what the numbers behind it gave; without any, and with `checkHole`,
   * the next number is asked for. Throws CommitError `MISSING` for a hole; StoreError.
   */
  async fetchBeforeLater(
    sequence: number,
    later: readonly (Uint8Array | undefined)[],
    checkHole: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    const index = later.findIndex((sealed) => sealed !== undefined);
    if (index < 0 && !(checkHole && later.length === 0 && (await this.has(sequence + 1, signal)))) return undefined;
    const sealed = await this.fetch(sequence, signal);
    if (!sealed) throw missingCommit(sequence, sequence + 1 + Math.max(0, index));
    return sealed;
  }

  /** Makes commits that were read outlast a power cut, before this device relies on them. Throws StoreError. */
  async persist(sequences: readonly number[]): Promise<void> {
    await this.#store.persist?.(sequences.map((sequence) => this.keyOf(sequence)));
  }

  /** Whether the store has an object under the number. Throws StoreError. */
  async has(sequence: number, signal: AbortSignal | undefined): Promise<boolean> {
    // One byte instead of a HEAD request, after which HTTP clients close their connection.
    const range = { offset: 0, length: 1 };
    return (await this.#store.get(this.keyOf(sequence), { range, fresh: true, ...(signal ? { signal } : {}) })) !== undefined;
  }

  /** Whether the object under the number begins with these bytes; `undefined` when there is none. Throws StoreError. */
  async beginsWith(sequence: number, beginning: Uint8Array, signal: AbortSignal | undefined): Promise<boolean | undefined> {
    const range = { offset: 0, length: beginning.byteLength };
    const found = await this.#store.get(this.keyOf(sequence), { range, fresh: true, ...(signal ? { signal } : {}) });
    return found && equalBytes(found, beginning);
  }

  /**
   * The numbers from `from` on, in the order of the store's list; `undefined` for each name that no holder of the keys
   * has given.
   */
  async *list(from: number, signal: AbortSignal | undefined): AsyncGenerator<Sequence | undefined, void> {
    // Greater than every name of the number before.
    const after = from > 0 ? { after: `${logPrefix}${sequenceName(from - 1)}-${'z'.repeat(12)}` } : {};
    for await (const { key } of this.#store.list(logPrefix, { ...after, ...(signal ? { signal } : {}) })) yield sequenceOfKey(this.#root, key);
  }

  /** Whether `sealed` is now the object `sequence`. Throws StoreError when the outcome is unknown. */
  async put(sequence: number, sealed: Sealed, signal?: AbortSignal): Promise<boolean> {
    let failure: unknown;
    try {
      const outcome = await this.#store.put(this.keyOf(sequence), sealed, { ifAbsent: true, ...(signal ? { signal } : {}) });
      if (outcome === 'created') return true;
    } catch (error) {
      failure = error;
    }
    // The answer was lost, or a repeated attempt met the first one. No two sealed objects are alike, so comparing the
    // bytes decides.
    let found: Uint8Array | undefined;
    try {
      found = await this.fetch(sequence, signal);
    } catch (error) {
      throw failure ?? error;
    }
    if (found) return equalBytes(found, sealed);
    throw failure ?? new StoreError('PROTOCOL', `the store refuses the number ${sequence} as taken, but does not return what it has there`);
  }
}
