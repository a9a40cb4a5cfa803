/**
 * Opens one sealed commit at its place and decodes it (doc/format.md, "Commit"). Whether it counts is decided in
 * `chain.ts`.
 */
import { equalBytes, MalformedBytesError, toHex } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import { PackError } from '../pack/pack-error.js';
import type { DecodedCommit } from './commit-codec.js';
import { decodeCommit, decompressCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { commitPlace } from './log-name.js';
import type { Sequence } from './sequence.js';

/** Somebody with the keys has sealed these bytes for this place in the log of this volume. */
export interface OpenedCommit {
  readonly volumeId: Uint8Array;
  readonly sequence: Sequence;
  /** H of its sealed bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
  /** `undefined` when what was sealed is no commit for this place. */
  readonly decoded: DecodedCommit | undefined;
}

/** Borrows `sealed`. Its signature and links are not checked here. Throws CommitError `NOT_AUTHENTIC`. */
export async function openCommit(keys: VolumeKeys, sealed: Uint8Array, sequence: number, previousHash: Uint8Array): Promise<OpenedCommit> {
  const hash = hashBytes(sealed);
  const place = { volumeId: keys.volumeId, sequence: sequence as Sequence, hash, previousHash };
  try {
    const payload = keys.current.commit.open(commitPlace(sequence, previousHash), sealed);
    const decoded = decodeCommit(await decompressCommit(payload), keys.volumeId);
    const { commit } = decoded;
    const isHere = commit.sequence === sequence && equalBytes(commit.previousHash, previousHash);
    return { ...place, decoded: isHere ? decoded : undefined };
  } catch (error) {
    if (error instanceof CryptoError)
      throw new CommitError('NOT_AUTHENTIC', `commit ${sequence} does not open at its place`, { sequence, foundHash: toHex(hash) }, { cause: error });
    if (error instanceof MalformedBytesError || error instanceof PackError) return { ...place, decoded: undefined };
    throw error;
  }
}
