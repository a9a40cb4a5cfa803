/**
 * Authors of commits for tests: the owner, devices that somebody has admitted, and others who only have the keys.
 */
import type { Sealed } from '../../src/base/brand.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import { encodeCommit, padCommit } from '../../src/commit/commit-codec.js';
import { newDevice } from '../../src/commit/device.js';
import { admissionMessage, type DeviceId, type Enrolment, encryptionKeyLength, ownerId, ownerIndex, type Role } from '../../src/commit/enrolment.js';
import { commitPlace } from '../../src/commit/log-name.js';
import { Signer } from '../../src/crypto/signature.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import type { VolumeKeys } from '../../src/crypto/volume-keys.js';
import { testProgram } from './test-program.js';

export interface Author {
  readonly id: DeviceId;
  readonly signer: Signer;
  /** Its place in the roster, once it is there. */
  readonly index: number;
}

export const ownerOf = (ownerSeed: Uint8Array): Author => ({ id: ownerId, signer: new Signer(ownerSeed), index: ownerIndex });

/** Somebody new, to be enrolled under `index`. */
export function newAuthor(index: number): Author {
  const { id, signer } = newDevice('author', systemRandom).device;
  return { id, signer, index };
}

/** How `author` enrols with a certificate of `admitter`. */
export function enrolmentOf(author: Author, admitter: Author, volumeId: Uint8Array, role: Role = 'admin'): Enrolment {
  const identity = { deviceId: author.id, role, signingKey: author.signer.publicKey, encryptionKey: new Uint8Array(encryptionKeyLength) };
  const certificate = admitter.signer.sign(admissionMessage(volumeId, identity));
  return { ...identity, deviceIndex: author.index, admittedBy: admitter.index, program: testProgram, name: 'author', certificate };
}

/** The commit as an object of the log, signed by `signer`, whoever that is. */
export function sealCommit(keys: VolumeKeys, fields: CommitFields, signer: Signer): Sealed {
  const encoded = encodeCommit(fields, keys.volumeId, (message) => signer.sign(message));
  return sealPayload(keys, fields, encoded);
}

/** Any bytes, sealed for a place in the log. */
export function sealPayload(
  keys: VolumeKeys,
  { sequence, previousHash }: Pick<CommitFields, 'sequence' | 'previousHash'>,
  bytes: Uint8Array,
): Sealed {
  return keys.current.commit.seal(commitPlace(sequence, previousHash), padCommit(bytes));
}
