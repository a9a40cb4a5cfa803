/**
 * The log read backwards, from a commit that is known to be right (doc/past.md, "How a past state is found"). The seal
 * of each commit proves the bytes of the one before it, so that the store can withhold the past, but not exchange it.
 * It keeps nothing.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { LogPosition } from './chain.js';
import type { Commit } from './commit.js';
import { CommitError } from './commit-error.js';
import type { LocalLog } from './local-log.js';
import { newestOfAuthors } from './log-state.js';
import { type OpenedCommit, openCommit } from './open-commit.js';
import type { Sequence } from './sequence.js';
import type { StoredLog } from './stored-log.js';

/** A commit whose hash is known, from which the log is read backwards. */
export interface PastStart extends LogPosition {
  /** The newest commits of all authors up to this one. Known from its own record if it is a checkpoint that counts. */
  readonly newest: readonly number[];
}

/** So many objects are fetched at once. */
const windowMax = 16;

export class PastLog {
  readonly #keys: VolumeKeys;
  readonly #stored: StoredLog;
  readonly #local: LocalLog;

  constructor(keys: VolumeKeys, stored: StoredLog, local: LocalLog) {
    this.#keys = keys;
    this.#stored = stored;
    this.#local = local;
  }

  /**
   * The commits that count, from `start` back to the first one. Throws CommitError `MISSING`, `FORK`, `MALFORMED`;
   * StoreError; disk errors.
   */
  async *back(start: PastStart, signal?: AbortSignal): AsyncGenerator<Commit, void> {
    const counting = new Set(start.newest);
    const window = new BackwardWindow(this.#stored, signal);
    let { sequence, hash } = start;
    let sealed: Uint8Array | undefined = sequence > 0 ? await this.#first(start, window) : undefined;
    while (sealed) {
      const { opened, before } = await this.#openOnTopOf(sequence, sealed, window);
      if (counting.delete(sequence)) {
        const { decoded } = opened;
        if (!decoded) throw new CommitError('MALFORMED', `commit ${sequence} is malformed`, { sequence });
        counting.add(decoded.previousOwn);
        for (const record of decoded.records) if (record.type === 'state') for (const newest of newestOfAuthors(record.state)) counting.add(newest);
        yield { ...decoded, hash };
      }
      [sequence, hash, sealed] = [(sequence - 1) as Sequence, opened.previousHash, before];
    }
  }

  async #first({ sequence, hash }: LogPosition, window: BackwardWindow): Promise<Uint8Array> {
    const copy = await this.#local.read(sequence);
    if (copy && equalBytes(hashBytes(copy), hash)) return copy;
    const sealed = await window.get(sequence);
    const expectedHash = toHex(hash);
    if (!sealed) throw new CommitError('MISSING', `commit ${sequence} is gone`, { sequence, expectedHash });
    const found = hashBytes(sealed);
    if (equalBytes(found, hash)) return sealed;
    throw new CommitError('FORK', `commit ${sequence} is not the one that was there`, { sequence, expectedHash, foundHash: toHex(found) });
  }

  /** Opens the commit by trying what this machine and the store have before it. */
  async #openOnTopOf(
    sequence: number,
    sealed: Uint8Array,
    window: BackwardWindow,
  ): Promise<{ readonly opened: OpenedCommit; readonly before: Uint8Array | undefined }> {
    if (sequence === 1) return { opened: openCommit(this.#keys, sealed, 1, this.#keys.volumeId), before: undefined };
    const previous = sequence - 1;
    for (const find of [() => this.#local.read(previous), () => window.get(previous)]) {
      const before = await find();
      const opened = before && this.#opened(sequence, sealed, hashBytes(before));
      if (opened) return { opened, before };
    }
    throw new CommitError('MISSING', `commit ${previous} is gone, or the store has another one in its place`, { sequence: previous });
  }

  #opened(sequence: number, sealed: Uint8Array, previousHash: Uint8Array): OpenedCommit | undefined {
    try {
      return openCommit(this.#keys, sealed, sequence, previousHash);
    } catch (error) {
      if (error instanceof CommitError && error.cause instanceof CryptoError) return undefined;
      throw error;
    }
  }
}

/** The store's objects by descending numbers, fetched several at a time. */
class BackwardWindow {
  readonly #stored: StoredLog;
  readonly #signal: AbortSignal | undefined;
  readonly #fetched = new Map<number, Uint8Array | 'large' | undefined>();

  constructor(stored: StoredLog, signal: AbortSignal | undefined) {
    this.#stored = stored;
    this.#signal = signal;
  }

  /** Throws StoreError. */
  async get(sequence: number): Promise<Uint8Array | undefined> {
    if (!this.#fetched.has(sequence)) await this.#fill(sequence);
    const found = this.#fetched.get(sequence);
    this.#fetched.delete(sequence);
    return found === 'large' ? this.#stored.fetch(sequence, this.#signal) : found;
  }

  async #fill(newest: number): Promise<void> {
    this.#fetched.clear();
    const numbers = Array.from({ length: Math.min(windowMax, newest) }, (_, index) => newest - index);
    const found = await Promise.all(numbers.map((sequence) => this.#stored.fetchSmall(sequence, this.#signal)));
    for (const [index, sequence] of numbers.entries()) this.#fetched.set(sequence, found[index]);
  }
}
