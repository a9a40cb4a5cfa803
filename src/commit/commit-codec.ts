/**
 * Commits as bytes (doc/format.md, "Commit"): payload, signature and padding. The rules of the chain are
 * in `chain.ts`.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | sequence | u53 |
 * | previous hash | 32 |
 * | author | device id 16; zeros: the owner |
 * | counter, previous own | u53 each |
 * | wall time | i53 |
 * | program | 3 x varint |
 * | last checkpoint, next ino counter, operation serial | u53 each |
 * | files delta, bytes delta | i53 each |
 * | records | varint count; each: type u8, length varint, body (`record.ts`) |
 * | packs | varint count; each: pack id 16, size varint, epoch varint, H(sealed index) 32 |
 * | checkpoint | u8: 0 none, 1 with a root page reference 56, 2 of an empty tree; then covers, files, bytes u53 each |
 * | mutations | varint count; each: key length varint, key, 0 = delete or value length + 1 varint, value; ascending |
 * | signature | 64, over `"sealdrive v1 commit" + volume id + all before` |
 */
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import { padmeLength } from '../crypto/padme.js';
import { signatureLength } from '../crypto/signature.js';
import type { PackId } from '../pack/pack-id.js';
import { readPageReference, writePageReference } from '../pack/page-reference.js';
import type { Checkpoint, Commit, CommitPack, Mutation } from './commit.js';
import type { DeviceId, Enrolment } from './enrolment.js';
import { readProgramVersion, writeProgramVersion } from './program-version.js';
import { readAuthorRecords, readRecords, writeRecords } from './record.js';
import type { Sequence } from './sequence.js';
import { readList } from './text-field.js';

export type CommitFields = Omit<Commit, 'hash'>;

const version = 1;
const label = Buffer.from('sealdrive v1 commit', 'latin1');
const keyLengthMax = 0xffff;
/** The first letters of the tree keys that commits may change (doc/format.md, "Tree keys"); the others are reserved. */
const keyLetters: ReadonlySet<string | undefined> = new Set('CDEGINOSX');
/** An encoded commit has at most this many bytes. */
export const commitPlainMax = 48 * 1024 * 1024;
/** Its sealed object has at most this many bytes; more is not fetched. */
export const commitObjectMax = 56 * 1024 * 1024;

function signedMessage(volumeId: Uint8Array, unsigned: Uint8Array): Uint8Array {
  return Buffer.concat([label, volumeId, unsigned]);
}

export function writePacks(writer: ByteWriter, packs: readonly CommitPack[]): void {
  writer.varint(packs.length);
  for (const { id, size, epoch, indexHash } of packs) writer.bytes(fromHex(id)).varint(size).varint(epoch).bytes(indexHash);
}

/** Throws MalformedBytesError. */
export function readPacks(reader: ByteReader): CommitPack[] {
  return readList(reader, 50, (): CommitPack => {
    const id = toHex(reader.bytes(16)) as PackId;
    return { id, size: reader.varint(), epoch: reader.varint(), indexHash: new Uint8Array(reader.bytes(32)) };
  });
}

/** The payload with its signature, which `sign` makes. */
export function encodeCommit(commit: CommitFields, volumeId: Uint8Array, sign: (message: Uint8Array) => Uint8Array): Uint8Array {
  const writer = new ByteWriter(4096)
    .u8(version)
    .u53(commit.sequence)
    .bytes(commit.previousHash)
    .bytes(fromHex(commit.author))
    .u53(commit.counter)
    .u53(commit.previousOwn)
    .i53(commit.wallTimeMs);
  writeProgramVersion(writer, commit.program);
  writer.u53(commit.lastCheckpoint).u53(commit.nextInoCounter).u53(commit.operationSerial).i53(commit.filesDelta).i53(commit.bytesDelta);
  writeRecords(writer, commit.records);
  writePacks(writer, commit.packs);
  const { checkpoint } = commit;
  if (!checkpoint) writer.u8(0);
  else {
    if (checkpoint.root) writePageReference(writer.u8(1), checkpoint.root);
    else writer.u8(2);
    writer.u53(checkpoint.covers).u53(checkpoint.files).u53(checkpoint.bytes);
  }
  writer.varint(commit.mutations.length);
  for (const [key, value] of commit.mutations) {
    writer.varint(key.length).byteString(key);
    if (value === null) writer.varint(0);
    else writer.varint(value.byteLength + 1).bytes(value);
  }
  return writer.bytes(sign(signedMessage(volumeId, writer.copy()))).finish();
}

/**
 * What shows who has written a commit. It is found without making objects of the rest, so that a large commit of
 * somebody who may not write costs nobody memory.
 */
export interface CommitOrigin {
  readonly author: DeviceId;
  readonly wallTimeMs: number;
  /** The first record, if it admits the author. */
  readonly admission: Enrolment | undefined;
  readonly isCheckpoint: boolean;
  /** The newest checkpoint before it; 0: none. */
  readonly lastCheckpoint: Sequence;
  /** The body of its record of the state, if it has one. */
  readonly state: Uint8Array | undefined;
  readonly signature: Uint8Array;
  readonly signedMessage: Uint8Array;
}

/** Up to `previous own`: version, sequence, hash, author, counter. */
const previousOwnAt = 1 + 8 + 32 + 16 + 8;

/** What a commit that counts names as its author's commit before it, without decoding the rest. */
export function previousOwnOf(payload: Uint8Array): Sequence {
  return new ByteReader(payload.subarray(previousOwnAt)).u53() as Sequence;
}

/** The fields before the records. */
function readStart(reader: ByteReader) {
  if (reader.u8() !== version) throw new MalformedBytesError('an unknown version of commit');
  return {
    sequence: reader.u53() as Sequence,
    previousHash: new Uint8Array(reader.bytes(32)),
    author: toHex(reader.bytes(16)) as DeviceId,
    counter: reader.u53(),
    previousOwn: reader.u53() as Sequence,
    wallTimeMs: reader.i53(),
    program: readProgramVersion(reader),
    lastCheckpoint: reader.u53() as Sequence,
    nextInoCounter: reader.u53(),
    operationSerial: reader.u53(),
    filesDelta: reader.i53(),
    bytesDelta: reader.i53(),
  };
}

/** Shares memory with `payload`. Whether the rest decodes is not known then. Throws MalformedBytesError. */
export function readOrigin(payload: Uint8Array, volumeId: Uint8Array): CommitOrigin {
  const reader = new ByteReader(payload);
  const { author, wallTimeMs, lastCheckpoint } = readStart(reader);
  const { admission, state } = readAuthorRecords(reader);
  for (let packs = reader.varint(); packs > 0; packs--) {
    reader.bytes(16);
    reader.varint();
    reader.varint();
    reader.bytes(32);
  }
  const isCheckpoint = reader.u8() !== 0;
  const unsigned = payload.byteLength - signatureLength;
  if (unsigned < reader.offset) throw new MalformedBytesError('a commit without a signature');
  return {
    author,
    wallTimeMs,
    admission: admission?.deviceId === author ? admission : undefined,
    isCheckpoint,
    lastCheckpoint,
    state,
    signature: payload.subarray(unsigned),
    signedMessage: signedMessage(volumeId, payload.subarray(0, unsigned)),
  };
}

/** Strict. The commit shares no memory with `payload`. Throws MalformedBytesError. */
export function decodeCommit(payload: Uint8Array): CommitFields {
  const reader = new ByteReader(payload);
  const start = readStart(reader);
  const records = readRecords(reader);
  const packs = readPacks(reader);
  const checkpoint = readCheckpoint(reader);
  let keyBefore: string | undefined;
  const mutations = readList(reader, 3, (): Mutation => {
    const keyLength = reader.varint();
    if (keyLength === 0 || keyLength > keyLengthMax) throw new MalformedBytesError('a key of an impossible length');
    const key = reader.byteString(keyLength);
    if (keyBefore !== undefined && key <= keyBefore) throw new MalformedBytesError('mutations out of order');
    keyBefore = key;
    const valueLength = reader.varint();
    // A pack gets its entry by being named, and loses it by being buried.
    const isBurial = key.startsWith('P') && valueLength === 0;
    if (!keyLetters.has(key[0]) && !isBurial) throw new MalformedBytesError('a key of a reserved kind');
    return [key, valueLength === 0 ? null : new Uint8Array(reader.bytes(valueLength - 1))];
  });
  reader.bytes(signatureLength);
  reader.end();
  return { ...start, records, packs, checkpoint, mutations };
}

function readCheckpoint(reader: ByteReader): Checkpoint | undefined {
  const flag = reader.u8();
  if (flag === 0) return undefined;
  if (flag > 2) throw new MalformedBytesError('an unknown checkpoint flag');
  const root = flag === 1 ? readPageReference(reader) : undefined;
  return { root, covers: reader.u53() as Sequence, files: reader.u53(), bytes: reader.u53() };
}

const headerLength = 8;

/**
 * Pads an encoded commit for the seal: 4 zeros, length u32, data, zeros up to the PADMÉ size. It is not compressed: the
 * size would show how well the names compress, and whether a commit counts would depend on the decompressor.
 */
export function padCommit(encoded: Uint8Array): Plaintext[] {
  const header = new ByteWriter(headerLength).zeros(4).u32(encoded.byteLength).finish();
  const length = headerLength + encoded.byteLength;
  return [header, encoded, new Uint8Array(padmeLength(length) - length)] as Plaintext[];
}

/** Undoes {@link padCommit}; shares memory with `payload`. Throws MalformedBytesError. */
export function unpadCommit(payload: Plaintext): Uint8Array {
  const reader = new ByteReader(payload);
  if (reader.u32() !== 0) throw new MalformedBytesError('reserved bytes are set');
  const length = reader.u32();
  if (length > commitPlainMax) throw new MalformedBytesError('a commit that claims to be too large');
  const encoded = reader.bytes(length);
  if (payload.byteLength !== padmeLength(headerLength + length)) throw new MalformedBytesError('wrong padding');
  if (reader.bytes(reader.remaining).some((byte) => byte !== 0)) throw new MalformedBytesError('padding is not zero');
  return encoded;
}
