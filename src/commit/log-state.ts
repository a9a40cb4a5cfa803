/**
 * What the log says at some commit, beside the tree: who takes part, the keyslots, the features (doc/format.md,
 * "Records"). A checkpoint holds it, and the trust state of a device, in the same bytes.
 *
 * | field | encoding |
 * | --- | --- |
 * | created | i53, ms since 1970 |
 * | chunk size, suite, hash id | u32, u8, u8 = 1 |
 * | owner key | 32 |
 * | features | `features.ts` |
 * | keyring | generation u32; varint count, each older epoch: number varint, key 32; ascending |
 * | keyslots | varint count, each: slot id 8, slot type u8, H(slot key) 32, label (varint length, UTF-8) |
 * | owner | counter varint, newest sequence varint |
 * | devices | varint count, each: enrolment (`enrolment.ts`), then as below |
 * | of a device | enrolled i53, ms since 1970; status u8: 0 active, 1 removed, 2 lapsed |
 * | | varint each: counter, newest sequence, next ino counter, operation serial |
 */
import { type ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import { hashBytes } from '../crypto/hash.js';
import type { SlotHeader, SlotType } from '../crypto/keyslot.js';
import { isSuite, type Suite } from '../crypto/seal-format.js';
import { type DeviceId, type Enrolment, readEnrolment, writeEnrolment } from './enrolment.js';
import { type Features, readFeatures, writeFeatures } from './features.js';
import type { Sequence } from './sequence.js';
import { readList, readText, writeText } from './text-field.js';

export type MemberStatus = 'active' | 'removed' | 'lapsed';
/** As in the slots themselves, from 1 on. */
const slotTypes: readonly SlotType[] = ['passphrase', 'recovery-words', 'key-file'];
const statuses: readonly MemberStatus[] = ['active', 'removed', 'lapsed'];

/** An enrolled device, as far as the log shows. */
export interface Member {
  readonly enrolment: Enrolment;
  /** When it enrolled, by its own clock, in ms since 1970. */
  readonly enrolledMs: number;
  readonly status: MemberStatus;
  /** The counter of its newest commit. */
  readonly counter: number;
  /** The number of its newest commit. */
  readonly newest: Sequence;
  readonly nextInoCounter: number;
  readonly operationSerial: number;
}

export interface Keyring {
  /** Which root secret the keyslots hold; 1 for the first. */
  readonly generation: number;
  /** The epochs before that of the generation which are still needed. */
  readonly epochs: readonly { readonly number: number; readonly key: Uint8Array }[];
}

/** A keyslot of the volume as the log names it. */
export interface KeyslotEntry {
  /** 16 hex digits. */
  readonly slotId: string;
  readonly type: SlotType;
  /** H of the slot key, 32 bytes. */
  readonly keyHash: Uint8Array;
  readonly label: string;
}

/** What the genesis fixes. */
export interface VolumeConstants {
  readonly createdMs: number;
  /** The most bytes of plaintext that a chunk holds. */
  readonly chunkSize: number;
  readonly suite: Suite;
  /** Ed25519, 32 bytes. */
  readonly ownerKey: Uint8Array;
}

export interface LogState extends VolumeConstants {
  readonly features: Features;
  readonly keyring: Keyring;
  readonly keyslots: readonly KeyslotEntry[];
  readonly owner: { readonly counter: number; readonly newest: Sequence };
  /** By device index, from 1 on. */
  readonly members: readonly Member[];
}

/** H is SHA-256. */
export const hashId = 1;
export const chunkSizeMin = 4096;
export const chunkSizeMax = 4 * 1024 * 1024;

export function stateAfterGenesis(constants: VolumeConstants, features: Features): LogState {
  const { createdMs, chunkSize, suite, ownerKey } = constants;
  const nobody = { owner: { counter: 0, newest: 0 as Sequence }, members: [], keyslots: [] };
  return { createdMs, chunkSize, suite, ownerKey, features, keyring: { generation: 1, epochs: [] }, ...nobody };
}

export const keyslotEntry = ({ slotId, type, slotKey, label }: Pick<SlotHeader, 'slotId' | 'type' | 'slotKey' | 'label'>): KeyslotEntry => ({
  slotId,
  type,
  keyHash: hashBytes(slotKey),
  label,
});

/** The newest commit of each author. All others that count are found from these, by what each names as previous own. */
export const newestOfAuthors = ({ owner, members }: LogState): number[] => [owner, ...members].map(({ newest }) => newest);

export const memberOf = ({ members }: LogState, deviceId: DeviceId): Member | undefined =>
  members.find(({ enrolment }) => enrolment.deviceId === deviceId);

/** The key that signs as `index`: the owner's, or that of an admin; `undefined` for anybody else. */
export function admitterKey({ ownerKey, members }: LogState, index: number): Uint8Array | undefined {
  if (index === 0) return ownerKey;
  const enrolment = members[index - 1]?.enrolment;
  return enrolment?.role === 'admin' ? enrolment.signingKey : undefined;
}

/** The same, unless that device was removed. */
export function ableAdmitterKey(log: LogState, index: number): Uint8Array | undefined {
  return log.members[index - 1]?.status === 'removed' ? undefined : admitterKey(log, index);
}

export function writeKeyring(writer: ByteWriter, { generation, epochs }: Keyring): void {
  writer.u32(generation).varint(epochs.length);
  for (const { number, key } of epochs) writer.varint(number).bytes(key);
}

/** Throws MalformedBytesError. */
export function readKeyring(reader: ByteReader): Keyring {
  const generation = reader.u32();
  let before = 0;
  const epochs = readList(reader, 33, () => {
    const number = reader.varint();
    if (number <= before || number >= generation) throw new MalformedBytesError('an impossible epoch');
    before = number;
    return { number, key: new Uint8Array(reader.bytes(32)) };
  });
  return { generation, epochs };
}

export function writeKeyslots(writer: ByteWriter, keyslots: readonly KeyslotEntry[]): void {
  writer.varint(keyslots.length);
  for (const { slotId, type, keyHash, label } of keyslots) {
    writer
      .bytes(fromHex(slotId))
      .u8(slotTypes.indexOf(type) + 1)
      .bytes(keyHash);
    writeText(writer, label);
  }
}

/** Throws MalformedBytesError. */
export function readKeyslots(reader: ByteReader): readonly KeyslotEntry[] {
  return readList(reader, 42, () => {
    const slotId = toHex(reader.bytes(8));
    const type = slotTypes[reader.u8() - 1];
    if (!type) throw new MalformedBytesError('an unknown type of keyslot');
    return { slotId, type, keyHash: new Uint8Array(reader.bytes(32)), label: readText(reader) };
  });
}

export function writeConstants(writer: ByteWriter, { createdMs, chunkSize, suite, ownerKey }: VolumeConstants): void {
  writer.i53(createdMs).u32(chunkSize).u8(suite).u8(hashId).bytes(ownerKey);
}

/** Throws MalformedBytesError. */
export function readConstants(reader: ByteReader): VolumeConstants {
  const createdMs = reader.i53();
  const chunkSize = reader.u32();
  const suite = reader.u8();
  if (!isSuite(suite) || reader.u8() !== hashId) throw new MalformedBytesError('an unknown suite or hash');
  if (chunkSize < chunkSizeMin || chunkSize > chunkSizeMax) throw new MalformedBytesError('a chunk size out of range');
  return { createdMs, chunkSize, suite, ownerKey: new Uint8Array(reader.bytes(32)) };
}

export function encodeLogState(state: LogState): Uint8Array {
  const writer = new ByteWriter(256 + 1600 * state.members.length);
  writeConstants(writer, state);
  writeFeatures(writer, state.features);
  writeKeyring(writer, state.keyring);
  writeKeyslots(writer, state.keyslots);
  writer.varint(state.owner.counter).varint(state.owner.newest).varint(state.members.length);
  for (const { enrolment, enrolledMs, status, ...numbers } of state.members) {
    writeEnrolment(writer, enrolment);
    writer.i53(enrolledMs).u8(statuses.indexOf(status));
    writer.varint(numbers.counter).varint(numbers.newest).varint(numbers.nextInoCounter).varint(numbers.operationSerial);
  }
  return writer.finish();
}

/** Strict, and shares no memory with the input. Throws MalformedBytesError. */
export function readLogState(reader: ByteReader): LogState {
  const constants = readConstants(reader);
  const features = readFeatures(reader);
  const keyring = readKeyring(reader);
  const keyslots = readKeyslots(reader);
  const owner = { counter: reader.varint(), newest: reader.varint() as Sequence };
  let index = 0;
  const members = readList(reader, 1300, (): Member => {
    const enrolment = readEnrolment(reader);
    if (enrolment.deviceIndex !== ++index) throw new MalformedBytesError('devices out of order');
    const enrolledMs = reader.i53();
    const status = statuses[reader.u8()];
    if (!status) throw new MalformedBytesError('an unknown status of a device');
    const [counter, newest] = [reader.varint(), reader.varint() as Sequence];
    return { enrolment, enrolledMs, status, counter, newest, nextInoCounter: reader.varint(), operationSerial: reader.varint() };
  });
  return { ...constants, features, keyring, keyslots, owner, members };
}
