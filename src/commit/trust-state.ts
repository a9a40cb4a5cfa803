/**
 * The state of the log that this device has verified, kept over restarts: the anchor against rollback and forks
 * (doc/format.md, "Local files"). It is replaced before anything that depends on it is shown to anybody.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 3 |
 * | head | sequence u53, hash 32 |
 * | checkpoint | u8 0/1; if 1: sequence u53, hash 32, hash before it 32 |
 * | state | as in a checkpoint (`log-state.ts`) |
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { ChainState, CheckpointLink } from './chain.js';
import { CommitError } from './commit-error.js';
import type { DeviceId } from './enrolment.js';
import { encodeLogState, readLogState } from './log-state.js';
import type { Sequence } from './sequence.js';

const fileName = 'trust';
const version = 3;

function encode({ head, checkpoint, log }: ChainState): Uint8Array {
  const writer = new ByteWriter(4096).u8(version).u53(head.sequence).bytes(head.hash);
  if (checkpoint) writer.u8(1).u53(checkpoint.sequence).bytes(checkpoint.hash).bytes(checkpoint.previousHash);
  else writer.u8(0);
  return writer.bytes(encodeLogState(log)).finish();
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new MalformedBytesError('a flag out of range');
  return flag === 1;
}

function decode(payload: Uint8Array): ChainState {
  const reader = new ByteReader(payload);
  if (reader.u8() !== version) throw new MalformedBytesError('an unknown version of the trust state');
  const readHash = (): Uint8Array => new Uint8Array(reader.bytes(32));
  const readSequence = (): Sequence => reader.u53() as Sequence;
  const head = { sequence: readSequence(), hash: readHash() };
  const checkpoint: CheckpointLink | undefined = readFlag(reader)
    ? { sequence: readSequence(), hash: readHash(), previousHash: readHash() }
    : undefined;
  const log = readLogState(reader);
  reader.end();
  return { head, checkpoint, log };
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
