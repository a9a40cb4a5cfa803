/**
 * Opens one sealed commit at its place (doc/format.md, "Commit"). Whether it counts is decided in `chain.ts`, which
 * looks at its author before anything else is decoded.
 */
import { equalBytes, toHex, unlessMalformed } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import { isSignedBy } from '../crypto/signature.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import { type CommitFields, type CommitOrigin, decodeCommit, readOrigin, unpadCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { commitPlace } from './log-name.js';
import type { Sequence } from './sequence.js';

interface CommitPlace {
  readonly volumeId: Uint8Array;
  readonly sequence: Sequence;
  /** H of its sealed bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
}

/** Somebody with the keys has sealed these bytes for this place in the log of this volume. */
export class OpenedCommit implements CommitPlace {
  readonly volumeId: Uint8Array;
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
  /** `undefined` when what was sealed is no commit, as far as that shows without decoding all of it. */
  readonly origin: CommitOrigin | undefined;
  readonly #encoded: Uint8Array | undefined;
  #fields: { readonly commit: CommitFields | undefined } | undefined;

  /** `encoded` is undefined when what was sealed is nothing that was padded as a commit. */
  constructor({ volumeId, sequence, hash, previousHash }: CommitPlace, encoded: Uint8Array | undefined) {
    this.volumeId = volumeId;
    this.sequence = sequence;
    this.hash = hash;
    this.previousHash = previousHash;
    this.#encoded = encoded;
    this.origin = encoded && unlessMalformed(() => readOrigin(encoded, volumeId));
  }

  /** Its fields; `undefined` when what was sealed is no commit for this place. */
  get decoded(): CommitFields | undefined {
    this.#fields ??= { commit: this.#decode() };
    return this.#fields.commit;
  }

  isSignedBy(key: Uint8Array): boolean {
    return this.origin !== undefined && isSignedBy(key, this.origin.signedMessage, this.origin.signature);
  }

  #decode(): CommitFields | undefined {
    const encoded = this.#encoded;
    const commit = encoded && unlessMalformed(() => decodeCommit(encoded));
    const isHere = commit?.sequence === this.sequence && equalBytes(commit.previousHash, this.previousHash);
    return isHere ? commit : undefined;
  }
}

/** Whether somebody with the keys has sealed these bytes for this place. Borrows them, and decodes nothing. */
export function opensAt(keys: VolumeKeys, sealed: Uint8Array, sequence: number, previousHash: Uint8Array): boolean {
  try {
    keys.current.commit.open(commitPlace(sequence, previousHash), sealed);
    return true;
  } catch (error) {
    if (error instanceof CryptoError) return false;
    throw error;
  }
}

/** Borrows `sealed`. Its signature and links are not checked here. Throws CommitError `NOT_AUTHENTIC`. */
export function openCommit(keys: VolumeKeys, sealed: Uint8Array, sequence: number, previousHash: Uint8Array): OpenedCommit {
  const hash = hashBytes(sealed);
  try {
    const payload = keys.current.commit.open(commitPlace(sequence, previousHash), sealed);
    const place = { volumeId: keys.volumeId, sequence: sequence as Sequence, hash, previousHash };
    return new OpenedCommit(
      place,
      unlessMalformed(() => unpadCommit(payload)),
    );
  } catch (error) {
    if (error instanceof CryptoError)
      throw new CommitError('NOT_AUTHENTIC', `commit ${sequence} does not open at its place`, { sequence, foundHash: toHex(hash) }, { cause: error });
    throw error;
  }
}
