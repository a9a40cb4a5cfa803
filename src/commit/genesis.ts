/**
 * The genesis: commit 0, which fixes what never changes in a volume, and whose hash is the volume id (doc/format.md,
 * "Commit").
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | random | 16 |
 * | created | i53, ms since 1970 |
 * | chunk size | u32 |
 * | suite | u8 |
 * | creator | its enrolment, index 0, with the owner's key |
 * | signature | 64: by the creator, over `"sealdrive v1 genesis"` and all before |
 */
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { SlotHeader } from '../crypto/keyslot.js';
import type { Suite } from '../crypto/seal-format.js';
import { isSuite } from '../crypto/seal-format.js';
import { isSignedBy, Signer, signatureLength } from '../crypto/signature.js';
import type { RootKeys } from '../crypto/volume-keys.js';
import { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import type { DeviceId, Enrolment, Mutation, Sequence } from './commit.js';
import { encodeCommit, padCommit, readEnrolment, writeEnrolment } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { cleanDeviceName } from './device-name.js';
import { LocalLog } from './local-log.js';
import { commitPlace } from './log-name.js';
import { StoredLog } from './stored-log.js';

export interface Genesis {
  readonly volumeId: Uint8Array;
  readonly createdMs: number;
  /** The most bytes of plaintext that a chunk holds. */
  readonly chunkSize: number;
  readonly suite: Suite;
  readonly creator: Enrolment;
}

const version = 1;
const label = Buffer.from('sealdrive v1 genesis', 'latin1');
const noPlace = new Uint8Array(0);
const chunkSizeMin = 4096;
const chunkSizeMax = 4 * 1024 * 1024;
/** A whole genesis is smaller than this; more is not fetched. */
export const genesisObjectMax = 4096;

const messageOf = (unsigned: Uint8Array): Uint8Array => Buffer.concat([label, unsigned]);

interface NewVolume {
  readonly store: ObjectStore;
  readonly root: RootKeys;
  readonly random: Random;
  readonly createdMs: number;
  readonly chunkSize: number;
  readonly suite: Suite;
  readonly creatorName: string;
  /** The content that the volume begins with, which is the root directory. Ascending keys. */
  readonly mutations: readonly Mutation[];
  readonly filesDelta: number;
  /** The owner's, 32 bytes, borrowed. */
  readonly ownerSeed: Uint8Array;
  /** Makes the keyslots of the volume, before the first commit is sealed. */
  readonly makeSlots: (volumeId: Uint8Array) => Promise<readonly SlotHeader[]>;
}

/**
 * Writes the genesis and the first commit of a new volume, as the owner: every device that mounts enrols as another
 * author. Puts no keyslots into the store. Throws StoreError, and what `makeSlots` throws, before anything is written.
 */
export async function createVolumeLog(options: NewVolume): Promise<{ readonly volumeId: Uint8Array }> {
  const { store, root, random, suite, chunkSize } = options;
  assert(chunkSize >= chunkSizeMin && chunkSize <= chunkSizeMax, 'the chunk size is within bounds');
  const owner = new Signer(options.ownerSeed);
  try {
    const deviceId = toHex(random.bytes(16)) as DeviceId;
    const creator: Enrolment = { deviceId, deviceIndex: 0, publicKey: owner.publicKey, name: cleanDeviceName(options.creatorName) };
    const writer = new ByteWriter(512).u8(version).bytes(random.bytes(16)).i53(options.createdMs).u32(chunkSize).u8(suite);
    writeEnrolment(writer, creator);
    const payload = writer.bytes(owner.sign(messageOf(writer.copy()))).finish();
    const sealed = root.genesis(suite).seal(noPlace, payload as Plaintext);
    payload.fill(0);
    const volumeId = hashBytes(sealed);
    // Before the first commit, which is to list them.
    await options.makeSlots(volumeId);

    const keys = new VolumeKeys({ root, volumeId, suite, random });
    const links = { sequence: 1 as Sequence, previousHash: volumeId, deviceId, deviceCounter: 1, previousOwn: 0 as Sequence };
    const content = {
      wallTimeMs: options.createdMs,
      nextInoCounter: 0,
      operationSerial: 0,
      filesDelta: options.filesDelta,
      bytesDelta: 0,
      packs: [],
    };
    const lists = { lastCheckpoint: 0 as Sequence, acknowledgements: [], enrolments: [], checkpoint: undefined, mutations: options.mutations };
    const first = encodeCommit({ ...links, ...content, ...lists }, volumeId, (message) => owner.sign(message));
    const sealedFirst = keys.current.commit.seal(commitPlace(1, volumeId), padCommit(first));
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
    const createdMs = reader.i53();
    const chunkSize = reader.u32();
    const suite = reader.u8();
    const creator = readEnrolment(reader);
    const unsigned = payload.subarray(0, reader.offset);
    const signature = reader.bytes(signatureLength);
    reader.end();
    if (!isSuite(suite) || creator.deviceIndex !== 0) throw new MalformedBytesError('a genesis with an unknown suite or creator');
    if (chunkSize < chunkSizeMin || chunkSize > chunkSizeMax) throw new MalformedBytesError('a chunk size out of range');
    if (!isSignedBy(creator.publicKey, messageOf(unsigned), signature))
      throw new CommitError('BAD_SIGNATURE', 'the genesis is not signed by its creator');
    payload.fill(0);
    return { volumeId, createdMs, chunkSize, suite, creator };
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
