/**
 * Commits that this device has verified before, read again from the local copies or from the store (doc/format.md,
 * "Local files"). A hash from the trust state, or the seal of the commit after it, says which bytes are right, and the
 * state of the log says which of them count; signatures and counters are not checked again.
 */
import type { Sealed } from '../base/brand.js';
import { equalBytes, toHex } from '../base/bytes.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { LogPosition } from './chain.js';
import type { Commit } from './commit.js';
import { previousOwnOf, unpadCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import type { LocalLog } from './local-log.js';
import { commitPlace } from './log-name.js';
import { openCommit, opensAt } from './open-commit.js';
import type { StoredLog } from './stored-log.js';

/** A commit's place in a history: its own hash and that of the commit before it. */
interface KnownLink extends LogPosition {
  readonly previousHash: Uint8Array;
}

export class KnownCommits {
  readonly #keys: VolumeKeys;
  readonly #stored: StoredLog;
  readonly #local: LocalLog;

  constructor(keys: VolumeKeys, stored: StoredLog, local: LocalLog) {
    this.#keys = keys;
    this.#stored = stored;
    this.#local = local;
  }

  /**
   * A commit that counts. Throws CommitError `MISSING`, `FORK`, `MALFORMED`, `NOT_AUTHENTIC`; StoreError; disk
   * errors.
   */
  async read({ sequence, hash, previousHash }: KnownLink): Promise<Commit> {
    const { decoded } = openCommit(this.#keys, await this.#sealed(sequence, hash), sequence, previousHash);
    if (!decoded) throw new CommitError('MALFORMED', `commit ${sequence} is malformed`, { sequence });
    return { ...decoded, hash };
  }

  /**
   * The commits with `after < sequence <= head` that count, ascending: those in `newest`, which are the newest of their
   * authors, those that these name as their authors' commits before them, and so on. Throws as `read` does.
   */
  async *readUpTo(head: LogPosition, after: number, newest: readonly number[]): AsyncGenerator<Commit, void> {
    // A commit opens only on top of the right one before it, so the hashes are collected first, from the head back.
    const counting = new Set(newest);
    const links: KnownLink[] = [];
    let { sequence, hash } = head;
    while (sequence > after) {
      const before = await this.before({ sequence, hash });
      if (counting.has(sequence)) {
        const link = { sequence, hash, previousHash: before.hash };
        counting.add(await this.#previousOwn(link));
        links.push(link);
      }
      ({ sequence, hash } = before);
    }
    for (const link of links.toReversed()) yield await this.read(link);
  }

  async #previousOwn({ sequence, hash, previousHash }: KnownLink): Promise<number> {
    const payload = this.#keys.current.commit.open(commitPlace(sequence, previousHash), await this.#sealed(sequence, hash));
    return previousOwnOf(unpadCommit(payload));
  }

  /** The position before `position`, proven by the seal of the commit at `position`. Throws as `read` does. */
  async before({ sequence, hash }: LogPosition): Promise<LogPosition> {
    const previous = (sequence - 1) as LogPosition['sequence'];
    if (previous === 0) return { sequence: previous, hash: this.#keys.volumeId };
    const sealed = await this.#sealed(sequence, hash);
    const isBefore = (bytes: Uint8Array): boolean => opensAt(this.#keys, sealed, sequence, hashBytes(bytes));
    const copy = await this.#local.read(previous);
    if (copy && isBefore(copy)) return { sequence: previous, hash: hashBytes(copy) };
    const fetched = await this.#stored.fetch(previous);
    if (!fetched || !isBefore(fetched))
      throw new CommitError('MISSING', `commit ${previous} is gone, or the store has another one in its place`, { sequence: previous });
    // An offline start will need it.
    await this.#local.write([{ sequence: previous, bytes: fetched as Sealed }]);
    return { sequence: previous, hash: hashBytes(fetched) };
  }

  /** The sealed bytes that hash to `hash`: the local copy, or the store's, which become the copy. */
  async #sealed(sequence: number, hash: Uint8Array): Promise<Uint8Array> {
    const copy = await this.#local.read(sequence);
    if (copy && equalBytes(hashBytes(copy), hash)) return copy;
    const sealed = await this.#stored.fetch(sequence);
    const expectedHash = toHex(hash);
    if (!sealed) throw new CommitError('MISSING', `commit ${sequence} is gone`, { sequence, expectedHash });
    const found = hashBytes(sealed);
    if (!equalBytes(found, hash)) {
      const evidence = { sequence, expectedHash, foundHash: toHex(found) };
      throw new CommitError('FORK', `commit ${sequence} is not the one that this device has seen`, evidence);
    }
    await this.#local.write([{ sequence, bytes: sealed as Sealed }]);
    return sealed;
  }
}
