/**
 * Commits as bytes (doc/format.md, "Commit"): payload, signature, compression and padding. The rules of the chain are
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
import { decompress, frameLength } from '../pack/compression.js';
import type { PackId } from '../pack/pack-id.js';
import { readPageReference, writePageReference } from '../pack/page-reference.js';
import type { Checkpoint, Commit, CommitPack, Mutation } from './commit.js';
import type { DeviceId } from './enrolment.js';
import { readProgramVersion, writeProgramVersion } from './program-version.js';
import { readRecords, writeRecords } from './record.js';
import type { Sequence } from './sequence.js';
import { readList } from './text-field.js';

export type CommitFields = Omit<Commit, 'hash'>;

const version = 1;
const label = Buffer.from('sealdrive v1 commit', 'latin1');
const keyLengthMax = 0xffff;
/** The first letters of the tree keys that commits may change (doc/format.md, "Tree keys"); the others are reserved. */
const keyLetters: ReadonlySet<string | undefined> = new Set('DEINOX');
/** A commit's payload, decompressed, has at most this many bytes. */
export const commitPlainMax = 48 * 1024 * 1024;
/** Its sealed object has at most this many bytes; more is not fetched. */
export const commitObjectMax = 56 * 1024 * 1024;

function signedMessage(volumeId: Uint8Array, unsigned: Uint8Array): Uint8Array {
  return Buffer.concat([label, volumeId, unsigned]);
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
  writer.varint(commit.packs.length);
  for (const { id, size, epoch, indexHash } of commit.packs) writer.bytes(fromHex(id)).varint(size).varint(epoch).bytes(indexHash);
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

export interface DecodedCommit {
  readonly commit: CommitFields;
  readonly signature: Uint8Array;
  readonly signedMessage: Uint8Array;
}

/** Up to `previous own`: version, sequence, hash, author, counter. */
const previousOwnAt = 1 + 8 + 32 + 16 + 8;

/** What a commit that counts names as its author's commit before it, without decoding the rest. */
export function previousOwnOf(payload: Uint8Array): Sequence {
  return new ByteReader(payload.subarray(previousOwnAt)).u53() as Sequence;
}

/** Strict. The commit shares no memory with `payload`. Throws MalformedBytesError. */
export function decodeCommit(payload: Uint8Array, volumeId: Uint8Array): DecodedCommit {
  const reader = new ByteReader(payload);
  if (reader.u8() !== version) throw new MalformedBytesError('an unknown version of commit');
  const sequence = reader.u53() as Sequence;
  const previousHash = new Uint8Array(reader.bytes(32));
  const author = toHex(reader.bytes(16)) as DeviceId;
  const counter = reader.u53();
  const previousOwn = reader.u53() as Sequence;
  const wallTimeMs = reader.i53();
  const program = readProgramVersion(reader);
  const lastCheckpoint = reader.u53() as Sequence;
  const nextInoCounter = reader.u53();
  const operationSerial = reader.u53();
  const filesDelta = reader.i53();
  const bytesDelta = reader.i53();
  const records = readRecords(reader);
  const packs = readList(reader, 50, (): CommitPack => {
    const id = toHex(reader.bytes(16)) as PackId;
    return { id, size: reader.varint(), epoch: reader.varint(), indexHash: new Uint8Array(reader.bytes(32)) };
  });
  const checkpoint = readCheckpoint(reader);
  let keyBefore: string | undefined;
  const mutations = readList(reader, 3, (): Mutation => {
    const keyLength = reader.varint();
    if (keyLength === 0 || keyLength > keyLengthMax) throw new MalformedBytesError('a key of an impossible length');
    const key = reader.byteString(keyLength);
    if (!keyLetters.has(key[0])) throw new MalformedBytesError('a key of a reserved kind');
    if (keyBefore !== undefined && key <= keyBefore) throw new MalformedBytesError('mutations out of order');
    keyBefore = key;
    const valueLength = reader.varint();
    return [key, valueLength === 0 ? null : new Uint8Array(reader.bytes(valueLength - 1))];
  });
  const message = signedMessage(volumeId, payload.subarray(0, reader.offset));
  const signature = new Uint8Array(reader.bytes(signatureLength));
  reader.end();
  const links = { sequence, previousHash, author, counter, previousOwn, program, lastCheckpoint, records };
  const content = { wallTimeMs, nextInoCounter, operationSerial, filesDelta, bytesDelta, packs, checkpoint, mutations };
  return { commit: { ...links, ...content }, signature, signedMessage: message };
}

function readCheckpoint(reader: ByteReader): Checkpoint | undefined {
  const flag = reader.u8();
  if (flag === 0) return undefined;
  if (flag > 2) throw new MalformedBytesError('an unknown checkpoint flag');
  const root = flag === 1 ? readPageReference(reader) : undefined;
  return { root, covers: reader.u53() as Sequence, files: reader.u53(), bytes: reader.u53() };
}

const codecRaw = 0;
const codecZstd = 1;
const codecHeaderLength = 8;

/**
 * Pads an encoded commit for the seal: codec u8, 3 zeros, plain length u32, data, zeros up to the PADMÉ size. It is not
 * compressed, since the size would show how well the names compress; compressed commits are read, however.
 */
export function padCommit(encoded: Uint8Array): Plaintext[] {
  const header = new ByteWriter(codecHeaderLength).u8(codecRaw).zeros(3).u32(encoded.byteLength).finish();
  const length = codecHeaderLength + encoded.byteLength;
  return [header, encoded, new Uint8Array(padmeLength(length) - length)] as Plaintext[];
}

/** Undoes {@link padCommit}. Throws MalformedBytesError, or PackError for data that does not decompress. */
export async function decompressCommit(payload: Plaintext): Promise<Uint8Array> {
  const reader = new ByteReader(payload);
  const codec = reader.u8();
  if (reader.u8() + reader.u8() + reader.u8() !== 0) throw new MalformedBytesError('reserved bytes are set');
  const plainLength = reader.u32();
  if (plainLength > commitPlainMax) throw new MalformedBytesError('a commit that claims to be too large');
  if (codec !== codecRaw && codec !== codecZstd) throw new MalformedBytesError('an unknown codec');
  const rest = reader.bytes(reader.remaining);
  const dataLength = codec === codecRaw ? plainLength : frameLength(rest, plainLength);
  if (payload.byteLength !== padmeLength(codecHeaderLength + dataLength)) throw new MalformedBytesError('wrong padding');
  for (let at = dataLength; at < rest.byteLength; at++) if (rest[at] !== 0) throw new MalformedBytesError('padding is not zero');
  return codec === codecRaw ? rest.subarray(0, dataLength) : decompress(rest, plainLength);
}
