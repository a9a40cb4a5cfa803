/**
 * What this device has verified of the log, kept over restarts: its defence against rollback and forks (doc/format.md,
 * "Local files"). It is replaced before anything that depends on it is shown to anybody.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 4 |
 * | state | a *chain state*, as below |
 * | tail | u8 0/1; if 1: the chain state before this device's own tail |
 * | lost | u8 0/1; if 1: the chain state before the first lost commit; varint count, each as below |
 * | of a lost commit | sequence u53, hash 32, hash before it 32 |
 *
 * | chain state | encoding |
 * | --- | --- |
 * | head | sequence u53, hash 32 |
 * | checkpoint | u8 0/1; if 1: sequence u53, hash 32, hash before it 32 |
 * | state | as in a checkpoint (`log-state.ts`) |
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { ChainState, CheckpointLink } from './chain.js';
import { CommitError } from './commit-error.js';
import { encodeLogState, readLogState } from './log-state.js';
import type { Sequence } from './sequence.js';
import { readList } from './text-field.js';

const fileName = 'trust';
const version = 4;

export interface Trust {
  readonly state: ChainState;
  /** The state before this device's own tail; `state` itself when that is empty. */
  readonly tailStart: ChainState;
  readonly lost: LostCommits | undefined;
}

/** Own commits in whose numbers the log has others now. Their work is not in the journal again yet. */
export interface LostCommits {
  /** The state before the first of them. */
  readonly before: ChainState;
  /** Ascending; all hashes are of sealed bytes. */
  readonly commits: readonly CheckpointLink[];
}

function encode({ state, tailStart, lost }: Trust): Uint8Array {
  const writer = new ByteWriter(8192).u8(version);
  writeChainState(writer, state);
  if (tailStart === state) writer.u8(0);
  else writeChainState(writer.u8(1), tailStart);
  if (!lost) return writer.u8(0).finish();
  writeChainState(writer.u8(1), lost.before);
  writer.varint(lost.commits.length);
  for (const link of lost.commits) writeLink(writer, link);
  return writer.finish();
}

function writeChainState(writer: ByteWriter, { head, checkpoint, log }: ChainState): void {
  writer.u53(head.sequence).bytes(head.hash);
  if (checkpoint) writeLink(writer.u8(1), checkpoint);
  else writer.u8(0);
  writer.bytes(encodeLogState(log));
}

function writeLink(writer: ByteWriter, { sequence, hash, previousHash }: CheckpointLink): void {
  writer.u53(sequence).bytes(hash).bytes(previousHash);
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new MalformedBytesError('a flag out of range');
  return flag === 1;
}

const readHash = (reader: ByteReader): Uint8Array => new Uint8Array(reader.bytes(32));
const readSequence = (reader: ByteReader): Sequence => reader.u53() as Sequence;

function readLink(reader: ByteReader): CheckpointLink {
  return { sequence: readSequence(reader), hash: readHash(reader), previousHash: readHash(reader) };
}

function readChainState(reader: ByteReader): ChainState {
  const head = { sequence: readSequence(reader), hash: readHash(reader) };
  const checkpoint = readFlag(reader) ? readLink(reader) : undefined;
  return { head, checkpoint, log: readLogState(reader) };
}

function decode(payload: Uint8Array): Trust {
  const reader = new ByteReader(payload);
  if (reader.u8() !== version) throw new MalformedBytesError('an unknown version of the trust state');
  const state = readChainState(reader);
  const tailStart = readFlag(reader) ? readChainState(reader) : state;
  const lost = readFlag(reader) ? { before: readChainState(reader), commits: readList(reader, 72, () => readLink(reader)) } : undefined;
  reader.end();
  return { state, tailStart, lost };
}

export interface TrustFile {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** The key of kind `trust`. */
  readonly key: SealKey;
  /** 16 bytes, of the installation (`device.ts`). */
  readonly stateId: Uint8Array;
}

/** Durable when it resolves. One call at a time. */
export async function saveTrust(file: TrustFile, trust: Trust): Promise<void> {
  await replaceFile(file.disk, join(file.stateDirectory, fileName), file.key.seal(file.stateId, encode(trust) as Plaintext));
}

/**
 * `undefined` when this device trusts nothing yet. A damaged file is never taken for none: throws CommitError
 * `BAD_STATE`.
 */
export async function loadTrust(file: TrustFile): Promise<Trust | undefined> {
  const sealed = await readWholeFile(file.disk, join(file.stateDirectory, fileName));
  if (!sealed) return undefined;
  try {
    return decode(file.key.open(file.stateId, sealed));
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError)
      throw new CommitError('BAD_STATE', 'the trust file is damaged or belongs to another volume or installation', {}, { cause: error });
    throw error;
  }
}
