/**
 * The genesis: commit 0, which fixes what never changes in a volume, and whose hash is the volume id (doc/format.md,
 * "The chain").
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | random | 16 |
 * | created | i53, ms since 1970 |
 * | chunk size | u32 |
 * | suite | u8 |
 * | hash id | u8 = 1 |
 * | owner key | 32 |
 * | features | `features.ts` |
 * | signature | 64: by the owner, over `"sealdrive v1 genesis"` and all before |
 */
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { SlotHeader } from '../crypto/keyslot.js';
import type { Suite } from '../crypto/seal-format.js';
import { isSignedBy, Signer, signatureLength } from '../crypto/signature.js';
import type { RootKeys } from '../crypto/volume-keys.js';
import { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { chainFromGenesis, nextCommit } from './chain.js';
import type { Mutation } from './commit.js';
import { encodeCommit, padCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { ownerId } from './enrolment.js';
import { type Features, readFeatures, writeFeatures } from './features.js';
import { LocalLog } from './local-log.js';
import { commitPlace } from './log-name.js';
import { chunkSizeMax, chunkSizeMin, keyslotEntry, readConstants, type VolumeConstants, writeConstants } from './log-state.js';
import type { ProgramVersion } from './program-version.js';
import { StoredLog } from './stored-log.js';

export interface Genesis extends VolumeConstants {
  readonly volumeId: Uint8Array;
  /** What the volume begins with. */
  readonly features: Features;
}

const version = 1;
const label = Buffer.from('sealdrive v1 genesis', 'latin1');
const noPlace = new Uint8Array(0);
/** A whole genesis is smaller than this; more is not fetched. */
export const genesisObjectMax = 4096;

const messageOf = (unsigned: Uint8Array): Uint8Array => Buffer.concat([label, unsigned]);

interface NewVolume {
  readonly store: ObjectStore;
  readonly root: RootKeys;
  /** 32 bytes, borrowed: the owner signs the genesis and the first commit. */
  readonly ownerSeed: Uint8Array;
  readonly random: Random;
  readonly createdMs: number;
  readonly chunkSize: number;
  readonly suite: Suite;
  readonly program: ProgramVersion;
  /** Makes the keyslots, once the id is known. */
  readonly makeSlots: (volumeId: Uint8Array) => Promise<readonly SlotHeader[]>;
  /** The content that the volume begins with, which is the root directory. Ascending keys. */
  readonly mutations: readonly Mutation[];
  readonly filesDelta: number;
  readonly features: Features;
}

/** Writes the genesis and the first commit of a new volume, which names its keyslots. Throws StoreError. */
export async function createVolumeLog(options: NewVolume): Promise<{ readonly volumeId: Uint8Array }> {
  const { store, root, random, suite, chunkSize, createdMs, program, mutations, filesDelta } = options;
  assert(chunkSize >= chunkSizeMin && chunkSize <= chunkSizeMax, 'the chunk size is within bounds');
  const owner = new Signer(options.ownerSeed);
  try {
    const constants = { createdMs, chunkSize, suite, ownerKey: owner.publicKey };
    const writer = new ByteWriter(512).u8(version).bytes(random.bytes(16));
    writeConstants(writer, constants);
    writeFeatures(writer, options.features);
    const payload = writer.bytes(owner.sign(messageOf(writer.copy()))).finish();
    const sealed = root.genesis(suite).seal(noPlace, payload as Plaintext);
    const volumeId = hashBytes(sealed);

    const keyslots = (await options.makeSlots(volumeId)).map(keyslotEntry);
    const keys = new VolumeKeys({ root, volumeId, suite, random });
    const content = { wallTimeMs: createdMs, nextInoCounter: 0, operationSerial: 0, filesDelta, bytesDelta: 0, packs: [] };
    const chain = chainFromGenesis(volumeId, { ...constants, features: options.features });
    const first = nextCommit(chain, ownerId, program, { ...content, checkpoint: undefined, mutations }, [{ type: 'keyslots', keyslots }]);
    const encoded = encodeCommit(first, volumeId, (message) => owner.sign(message));
    const sealedFirst = keys.current.commit.seal(commitPlace(1, volumeId), padCommit(encoded));
    const log = new StoredLog(store, root);
    for (const [sequence, bytes] of [sealed, sealedFirst].entries()) {
      if (!(await log.put(sequence, bytes)))
        throw new StoreError('PROTOCOL', `the store has another object under the new name ${log.keyOf(sequence)}`);
    }
    return { volumeId };
  } finally {
    owner.wipe();
  }
}

/** Opens and verifies the genesis of the volume `volumeId`. Throws CommitError. */
export function openGenesis(root: RootKeys, sealed: Uint8Array, volumeId: Uint8Array): Genesis {
  const hash = hashBytes(sealed);
  if (!equalBytes(hash, volumeId))
    throw new CommitError('FORK', 'this is another volume', { sequence: 0, expectedHash: toHex(volumeId), foundHash: toHex(hash) });
  try {
    const payload = root.genesis().open(noPlace, sealed);
    const reader = new ByteReader(payload);
    if (reader.u8() !== version) throw new MalformedBytesError('an unknown version of genesis');
    reader.bytes(16);
    const constants = readConstants(reader);
    const features = readFeatures(reader);
    const unsigned = payload.subarray(0, reader.offset);
    const signature = reader.bytes(signatureLength);
    reader.end();
    if (!isSignedBy(constants.ownerKey, messageOf(unsigned), signature))
      throw new CommitError('BAD_SIGNATURE', 'the genesis is not signed by the owner of the volume');
    return { volumeId, features, ...constants };
  } catch (error) {
    if (error instanceof CryptoError) throw new CommitError('NOT_AUTHENTIC', 'the genesis does not open', { sequence: 0 }, { cause: error });
    if (error instanceof MalformedBytesError) throw new CommitError('MALFORMED', 'the genesis is malformed', { sequence: 0 }, { cause: error });
    throw error;
  }
}

interface GenesisSource {
  readonly store: ObjectStore;
  readonly disk: Disk;
  readonly stateDirectory: string;
  readonly root: RootKeys;
  /** The one that the keyslot names. */
  readonly volumeId: Uint8Array;
}

/**
 * The genesis from the local copy, or from the store, whose bytes become the copy. Throws CommitError, StoreError, disk
 * errors.
 */
export async function readGenesis({ store, disk, stateDirectory, root, volumeId }: GenesisSource): Promise<Genesis> {
  const copies = new LocalLog(disk, stateDirectory);
  const copy = await copies.read(0);
  if (copy && equalBytes(hashBytes(copy), volumeId)) return openGenesis(root, copy, volumeId);
  const sealed = await new StoredLog(store, root).fetch(0, undefined, genesisObjectMax);
  if (!sealed) throw new CommitError('MISSING', 'the genesis of the volume is not in the store', { sequence: 0, expectedHash: toHex(volumeId) });
  const genesis = openGenesis(root, sealed, volumeId);
  await copies.write([{ sequence: 0, bytes: sealed as Sealed }]);
  return genesis;
}
