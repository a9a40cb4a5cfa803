/**
 * This installation's identity: an id, a signing key, an encryption key, and the certificate of whoever admitted it,
 * sealed in the state directory (doc/format.md, "Local files").
 *
 * | field | encoding |
 * | --- | --- |
 * | state id | 16: what the other files of the state directory are sealed for; never changed |
 * | device id | 16 |
 * | Ed25519 seed, X-Wing seed | 32 each |
 * | certificate | 64: zeros before somebody with the owner's rights has mounted here |
 * | admitted by | varint: 0 the owner, else a device index |
 * | role | u8: 1 admin, 2 writer, 3 reader |
 * | name | varint length, UTF-8 |
 * | former index | varint: that of the identity before this one; 0: it is the first |
 * | landed serial | varint: this installation's operations up to here are in commits of former identities |
 *
 * An installation whose identity turns out to be in use elsewhere takes a new one (doc/concurrency.md, "One identity,
 * two installations"). That is one replacement of this file.
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { kemSeedLength } from '../crypto/kem-key.js';
import type { SealKey } from '../crypto/seal-key.js';
import { Signer, seedLength, signatureLength } from '../crypto/signature.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';
import { CommitError } from './commit-error.js';
import { cleanDeviceName } from './device-name.js';
import { admissionMessage, type DeviceId, type Enrolment, type Identity, ownerIndex, type Role, readRole, writeRole } from './enrolment.js';
import type { ProgramVersion } from './program-version.js';
import { readText, writeText } from './text-field.js';

export interface Device {
  /** 16 bytes. */
  readonly stateId: Uint8Array;
  readonly id: DeviceId;
  readonly name: string;
  readonly role: Role;
  readonly signer: Signer;
  /** 32 bytes, of X-Wing. */
  readonly encryptionSeed: Uint8Array;
  /** `undefined` while nobody has admitted it. */
  readonly certificate: Uint8Array | undefined;
  /** The index of the device that signed the certificate; 0: the owner. */
  readonly admittedBy: number;
  /** The index of the identity that this one replaced; 0 when it is the first. */
  readonly formerIndex: number;
  /** This installation's operations up to this serial are in commits of its former identities. */
  readonly landedSerial: number;
}

/**
 * Whoever holds the owner's seed makes a machine of its own an admin, which can do all that the seed could do there.
 */
const roleByOwner: Role = 'admin';
const fileName = 'device';
const noPlace = new Uint8Array(0);

interface SeededDevice {
  readonly device: Device;
  /** Of the signer. The caller wipes it. */
  readonly seed: Uint8Array;
}

/** A new identity that nobody has admitted. */
export function newDevice(name: string, random: Random): SeededDevice {
  const seed = random.bytes(seedLength);
  const id = toHex(random.bytes(16)) as DeviceId;
  const encryptionSeed = random.bytes(kemSeedLength);
  const first = { stateId: random.bytes(16), admittedBy: ownerIndex, formerIndex: 0, landedSerial: 0, certificate: undefined };
  return { device: { ...first, id, name: cleanDeviceName(name), role: roleByOwner, signer: new Signer(seed), encryptionSeed }, seed };
}

/** X-Wing is loaded when a device is admitted, and not by each mount. */
async function identityOf({ id, role, signer, encryptionSeed }: Device): Promise<Identity> {
  const { kemPublicKey } = await import('../crypto/x-wing.js');
  return { deviceId: id, role, signingKey: signer.publicKey, encryptionKey: kemPublicKey(encryptionSeed) };
}

/** How the device enrols. It has been admitted. */
export async function enrolmentOf(device: Device, certificate: Uint8Array, deviceIndex: number, program: ProgramVersion): Promise<Enrolment> {
  return { ...(await identityOf(device)), deviceIndex, admittedBy: device.admittedBy, program, name: device.name, certificate };
}

export interface DevicePlace {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** The key of kind `device`. */
  readonly key: SealKey;
}

interface NewIdentity {
  readonly name: string;
  readonly random: Random;
  readonly volumeId: Uint8Array;
  /** Admits the device; without it, it stays as it is. */
  readonly owner: Signer | undefined;
}

/**
 * This installation's identity, which is made if there is none, and admitted if `owner` is given and nobody has done so
 * before, or only a former identity; durable when it resolves. Throws CommitError `BAD_STATE`, disk errors.
 */
export async function openDevice(place: DevicePlace, wanted: NewIdentity): Promise<{ readonly device: Device; readonly isNew: boolean }> {
  const { name, random, volumeId, owner } = wanted;
  const known = await load(place);
  const { device, seed } = known ?? newDevice(name, random);
  try {
    // The word of a former identity is worth nothing in a history that does not know that one.
    const isAdmission = owner !== undefined && (device.certificate === undefined || device.admittedBy !== ownerIndex);
    const admitted = isAdmission ? await admit(device, volumeId, owner, ownerIndex) : device;
    if (!known || isAdmission) await save(place, admitted, seed);
    return { device: admitted, isNew: known === undefined };
  } finally {
    seed.fill(0);
  }
}

async function admit(device: Device, volumeId: Uint8Array, admitter: Signer, admittedBy: number): Promise<Device> {
  return { ...device, admittedBy, certificate: admitter.sign(admissionMessage(volumeId, await identityOf(device))) };
}

/**
 * The history that this installation is in now has nothing of its former identity; durable when it resolves. Throws
 * disk errors.
 */
export async function forgetLanded(place: DevicePlace, device: Device): Promise<Device> {
  const known = await load(place);
  const changed = { ...device, landedSerial: 0 };
  if (!known) return changed;
  try {
    await save(place, changed, known.seed);
    return changed;
  } finally {
    wipeDevice(known.device);
    known.seed.fill(0);
  }
}

/** What a new identity takes over from the one before it, and who admits it. */
interface Renewal {
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly formerIndex: number;
  readonly landedSerial: number;
  readonly admitter: Signer;
  readonly admittedBy: number;
}

/**
 * Gives this installation a new identity in place of `former`, with the same name; durable when it resolves. Throws
 * disk errors.
 */
export async function renewDevice(place: DevicePlace, former: Device, renewal: Renewal): Promise<Device> {
  const { volumeId, random, formerIndex, landedSerial, admitter, admittedBy } = renewal;
  const { device, seed } = newDevice(former.name, random);
  try {
    const renewed = await admit({ ...device, stateId: former.stateId, formerIndex, landedSerial }, volumeId, admitter, admittedBy);
    await save(place, renewed, seed);
    return renewed;
  } finally {
    seed.fill(0);
  }
}

/** Wipes the secret keys. The device is of no use afterwards. */
export function wipeDevice({ signer, encryptionSeed }: Device): void {
  signer.wipe();
  encryptionSeed.fill(0);
}

/** `undefined` when this installation has no identity yet. Throws CommitError `BAD_STATE`, disk errors. */
export async function loadDevice(place: DevicePlace): Promise<Device | undefined> {
  const loaded = await load(place);
  loaded?.seed.fill(0);
  return loaded?.device;
}

/** Durable when it resolves. `seed` is that of the signer, borrowed. */
async function save({ disk, stateDirectory, key }: DevicePlace, device: Device, seed: Uint8Array): Promise<void> {
  const writer = new ByteWriter(512).bytes(device.stateId).bytes(fromHex(device.id)).bytes(seed).bytes(device.encryptionSeed);
  writer.bytes(device.certificate ?? new Uint8Array(signatureLength)).varint(device.admittedBy);
  writeRole(writer, device.role);
  writeText(writer, device.name);
  writer.varint(device.formerIndex).varint(device.landedSerial);
  const payload = writer.finish();
  const sealed = key.seal(noPlace, payload as Plaintext);
  payload.fill(0);
  await replaceFile(disk, join(stateDirectory, fileName), sealed);
}

async function load({ disk, stateDirectory, key }: DevicePlace): Promise<SeededDevice | undefined> {
  const sealed = await readWholeFile(disk, join(stateDirectory, fileName));
  if (!sealed) return undefined;
  try {
    const payload = key.open(noPlace, sealed);
    const reader = new ByteReader(payload);
    const stateId = new Uint8Array(reader.bytes(16));
    const id = toHex(reader.bytes(16)) as DeviceId;
    const seed = new Uint8Array(reader.bytes(seedLength));
    const encryptionSeed = new Uint8Array(reader.bytes(kemSeedLength));
    const certificate = new Uint8Array(reader.bytes(signatureLength));
    const admittedBy = reader.varint();
    const role = readRole(reader);
    const name = readText(reader);
    const [formerIndex, landedSerial] = [reader.varint(), reader.varint()];
    reader.end();
    payload.fill(0);
    const admission = { admittedBy, certificate: certificate.some((byte) => byte !== 0) ? certificate : undefined };
    return { device: { stateId, id, name, role, signer: new Signer(seed), encryptionSeed, ...admission, formerIndex, landedSerial }, seed };
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError)
      throw new CommitError('BAD_STATE', 'the device file is damaged or belongs to another volume', {}, { cause: error });
    throw error;
  }
}
