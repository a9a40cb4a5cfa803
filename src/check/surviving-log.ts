/**
 * The commits that can still be opened, wherever they are: in the store, or among a device's own copies. A commit opens only on top of the
 * one before it (its key comes from that one's hash), so that each loss costs the one behind it, too. Signatures and links are not judged:
 * what opens was sealed by somebody who held the keys of the volume.
 */
import { CommitError } from '../commit/commit-error.js';
import { commitObjectMax } from '../commit/commit-codec.js';
import type { CommitFields } from '../commit/commit-codec.js';
import type { Checkpoint, Sequence } from '../commit/commit.js';
import { logKey, logPrefix, sequenceOfKey } from '../commit/log-name.js';
import { openCommit } from '../commit/open-commit.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import { StoreError } from '../store/object-store.js';
import type { ObjectStore } from '../store/object-store.js';
import type { CommitCopies } from './commit-copies.js';

export interface SurvivingCheckpoint extends Checkpoint {
  readonly sequence: Sequence;
}

export interface Survivors {
  /** The newest commit that opens, 0 without any. */
  readonly newest: number;
  /** Newest first: by what they cover. */
  readonly checkpoints: readonly SurvivingCheckpoint[];
  /** Numbers that do not open, ascending. */
  readonly lost: readonly number[];
}

export class SurvivingLog {
  readonly #store: ObjectStore;
  readonly #keys: VolumeKeys;
  readonly #copies: CommitCopies;
  readonly #signal: AbortSignal | undefined;

  constructor(options: {
    readonly store: ObjectStore;
    readonly keys: VolumeKeys;
    readonly copies: CommitCopies;
    readonly signal?: AbortSignal | undefined;
  }) {
    this.#store = options.store;
    this.#keys = options.keys;
    this.#copies = options.copies;
    this.#signal = options.signal;
  }

  /** What there is up to number `at`. */
  async survey(at: number, onProgress?: (done: number, total: number) => void): Promise<Survivors> {
    const listed = await this.#newestListed();
    const end = Math.min(at, listed);
    const checkpoints: SurvivingCheckpoint[] = [];
    const lost: number[] = [];
    let newest = 0;
    for await (const { sequence, commit } of this.read(0, end)) {
      onProgress?.(sequence, end);
      if (!commit) {
        lost.push(sequence);
        continue;
      }
      newest = sequence;
      if (commit.checkpoint) checkpoints.push({ ...commit.checkpoint, sequence: commit.sequence });
    }
    checkpoints.sort((a, b) => b.covers - a.covers || b.sequence - a.sequence);
    return { newest, checkpoints, lost };
  }

  /** Commits with `after < sequence <= end`, ascending; those that do not open are told, too. */
  async *read(after: number, end: number): AsyncGenerator<{ readonly sequence: number; readonly commit: CommitFields | undefined }, void> {
    let before = after === 0 ? [this.#keys.volumeId] : (await this.#candidates(after)).map(hashBytes);
    for (let sequence = after + 1; sequence <= end; sequence++) {
      this.#signal?.throwIfAborted();
      const candidates = await this.#candidates(sequence);
      yield { sequence, commit: await this.#openOne(sequence, candidates, before) };
      before = candidates.map(hashBytes);
    }
  }

  async #openOne(sequence: number, candidates: readonly Uint8Array[], before: readonly Uint8Array[]): Promise<CommitFields | undefined> {
    for (const sealed of candidates) {
      for (const previousHash of before) {
        try {
          return (await openCommit(this.#keys, sealed, sequence, previousHash)).commit;
        } catch (error) {
          if (!(error instanceof CommitError)) throw error;
        }
      }
    }
    return undefined;
  }

  /** The bytes that may be commit `sequence`: the store's, and the copy's. */
  async #candidates(sequence: number): Promise<Uint8Array[]> {
    const candidates: Uint8Array[] = [];
    try {
      const stored = await this.#store.get(logKey(this.#keys.root, sequence), { sizeMax: commitObjectMax });
      if (stored) candidates.push(stored);
    } catch (error) {
      // A disk that fails in one place has others.
      if (!(error instanceof StoreError)) throw error;
    }
    const copy = await this.#copies.read(sequence).catch(() => undefined);
    if (copy) candidates.push(copy);
    return candidates;
  }

  async #newestListed(): Promise<number> {
    let newest = this.#copies.newest;
    for await (const { key } of this.#store.list(logPrefix)) newest = Math.max(newest, sequenceOfKey(this.#keys.root, key) ?? 0);
    return newest;
  }
}
