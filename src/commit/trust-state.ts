/**
 * The state of the log that this device has verified, kept over restarts: the anchor against rollback and forks
 * (doc/format.md, "Local files"). It is replaced before anything that depends on it is shown to anybody.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 2 |
 * | epoch | u32 |
 * | head | sequence u53, hash 32 |
 * | checkpoint | u8 0/1; if 1: sequence u53, hash 32, hash before it 32 |
 * | members | varint count, then each as below |
 * | of a member | enrolment; counter varint |
 * | | u8 0/1; if 1: when it enrolled i53, ms since 1970 |
 * | | u8 0/1; if 1: newest sequence, next ino counter, operation serial, varint each |
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { ChainState, CheckpointLink, Member } from './chain.js';
import type { DeviceId, Sequence } from './commit.js';
import { readEnrolment, writeEnrolment } from './commit-codec.js';
import { CommitError } from './commit-error.js';

const fileName = 'trust';
const version = 2;
/** Without rotation, all objects are of the first epoch. */
const epoch = 1;

function encode(state: ChainState): Uint8Array {
  const writer = new ByteWriter(1024).u8(version).u32(epoch).u53(state.head.sequence).bytes(state.head.hash);
  const { checkpoint } = state;
  if (checkpoint) writer.u8(1).u53(checkpoint.sequence).bytes(checkpoint.hash).bytes(checkpoint.previousHash);
  else writer.u8(0);
  writer.varint(state.members.length);
  for (const { enrolment, counter, enrolledMs, newest } of state.members) {
    writeEnrolment(writer, enrolment);
    writer.varint(counter);
    if (enrolledMs === undefined) writer.u8(0);
    else writer.u8(1).i53(enrolledMs);
    if (newest) writer.u8(1).varint(newest.sequence).varint(newest.nextInoCounter).varint(newest.operationSerial);
    else writer.u8(0);
  }
  return writer.finish();
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new MalformedBytesError('a flag out of range');
  return flag === 1;
}

function decode(payload: Uint8Array): ChainState {
  const reader = new ByteReader(payload);
  if (reader.u8() !== version || reader.u32() !== epoch) throw new MalformedBytesError('an unknown version of the trust state');
  const readHash = (): Uint8Array => new Uint8Array(reader.bytes(32));
  const head = { sequence: reader.u53() as Sequence, hash: readHash() };
  const checkpoint: CheckpointLink | undefined = readFlag(reader)
    ? { sequence: reader.u53() as Sequence, hash: readHash(), previousHash: readHash() }
    : undefined;
  const count = reader.varint();
  const members: Member[] = [];
  for (let index = 0; index < count; index++) {
    const enrolment = readEnrolment(reader);
    const counter = reader.varint();
    const enrolledMs = readFlag(reader) ? reader.i53() : undefined;
    const newest = readFlag(reader)
      ? { sequence: reader.varint() as Sequence, nextInoCounter: reader.varint(), operationSerial: reader.varint() }
      : undefined;
    members.push({ enrolment, counter, enrolledMs, newest });
  }
  reader.end();
  return { head, checkpoint, members };
}

export interface TrustFile {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** The key of kind `trust`. */
  readonly key: SealKey;
  readonly deviceId: DeviceId;
}

/** Durable when it resolves. One call at a time. */
export async function saveTrust(file: TrustFile, state: ChainState): Promise<void> {
  await replaceFile(file.disk, join(file.stateDirectory, fileName), file.key.seal(fromHex(file.deviceId), encode(state) as Plaintext));
}

/**
 * `undefined` when this device trusts nothing yet. A damaged file is never taken for none: throws CommitError
 * `BAD_STATE`.
 */
export async function loadTrust(file: TrustFile): Promise<ChainState | undefined> {
  const sealed = await readWholeFile(file.disk, join(file.stateDirectory, fileName));
  if (!sealed) return undefined;
  try {
    return decode(file.key.open(fromHex(file.deviceId), sealed));
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError)
      throw new CommitError('BAD_STATE', 'the trust file is damaged or belongs to another volume or device', {}, { cause: error });
    throw error;
  }
}
