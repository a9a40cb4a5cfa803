/**
 * Opens one sealed commit at its place and decodes it (doc/format.md, "Commit"). Whether it may follow the commit
 * before it is decided in `chain.ts`.
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

/** Borrows `sealed`. Its signature and links are not checked here. Throws CommitError `NOT_AUTHENTIC`, `MALFORMED`. */
export async function openCommit(keys: VolumeKeys, sealed: Uint8Array, sequence: number, previousHash: Uint8Array): Promise<DecodedCommit> {
  try {
    const payload = keys.current.commit.open(commitPlace(sequence, previousHash), sealed);
    const decoded = decodeCommit(await decompressCommit(payload), keys.volumeId);
    if (decoded.commit.sequence !== sequence || !equalBytes(decoded.commit.previousHash, previousHash))
      throw new MalformedBytesError('it names another place than the one it is sealed for');
    return decoded;
  } catch (error) {
    const evidence = { sequence, foundHash: toHex(hashBytes(sealed)) };
    if (error instanceof CryptoError)
      throw new CommitError('NOT_AUTHENTIC', `commit ${sequence} does not open at its place`, evidence, { cause: error });
    if (error instanceof MalformedBytesError || error instanceof PackError)
      throw new CommitError('MALFORMED', `commit ${sequence} is malformed`, evidence, { cause: error });
    throw error;
  }
}
