/**
 * One file of the journal as bytes (doc/format.md, "Journal segment"): its header, the frame of a record, and the scan
 * that finds the whole records. What the records mean together is up to `journal-recovery.ts`.
 *
 * | header | size | | record | size |
 * | --- | --- | --- | --- | --- |
 * | magic `SDJRNL01` | 8 | | length of ciphertext and tag | u32 |
 * | segment number | u64 | | number: rises by 1 or more | u32 |
 * | salt, commitment | 24, 32 | | ciphertext, tag | length |
 *
 * Payload: position varint | durable varint | oldest varint | per entry: length varint, bytes.
 */
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, MalformedBytesError } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { RecordCipher, recordCipherHeaderLength, recordOverhead } from '../crypto/record-cipher.js';
import type { SealKey } from '../crypto/seal-key.js';

const magic = Buffer.from('SDJRNL01', 'latin1');
export const segmentHeaderLength = 8 + 8 + recordCipherHeaderLength;
export const recordHeaderLength = 8;
export const recordFrameLength = recordHeaderLength + recordOverhead;

/** The key that segments are sealed under, and the installation whose journal they belong to. */
export interface SegmentKey {
  /** The key of kind `journal`. */
  readonly sealKey: SealKey;
  /** 16 bytes (`commit/device.ts`). */
  readonly stateId: Uint8Array;
}

const namePattern = /^[0-9a-f]{16}$/;

export function segmentName(number: number): string {
  return number.toString(16).padStart(16, '0');
}

export function segmentNumberOf(name: string): number | undefined {
  const number = namePattern.test(name) ? Number.parseInt(name, 16) : Number.NaN;
  return Number.isSafeInteger(number) ? number : undefined;
}

function placeOf(key: SegmentKey, number: number): Uint8Array {
  return new ByteWriter(24).bytes(key.stateId).u53(number).finish();
}

/** A new segment's cipher and the header to write. */
export function createSegment(key: SegmentKey, number: number, random: Random): { cipher: RecordCipher; header: Uint8Array } {
  const { cipher, header } = RecordCipher.create(key.sealKey, placeOf(key, number), random);
  return { cipher, header: new ByteWriter(segmentHeaderLength).bytes(magic).u53(number).bytes(header).finish() };
}

/** The additional data of records: length, number, segment. One buffer for all records of a segment. */
export class RecordAad {
  readonly #bytes: Buffer;

  constructor(segment: number) {
    this.#bytes = Buffer.from(new ByteWriter(16).zeros(8).u53(segment).finish());
  }

  for(length: number, number: number): Uint8Array {
    this.#bytes.writeUInt32LE(length, 0);
    this.#bytes.writeUInt32LE(number, 4);
    return this.#bytes;
  }
}

interface JournalRecord {
  /** The record's number in the whole journal: 0, 1, ... without gaps. */
  readonly position: number;
  /** All records before this position were on stable storage when this one was written. */
  readonly durable: number;
  /** Records before this position are not needed any more. */
  readonly oldest: number;
  readonly entries: readonly Plaintext[];
}

function decodePayload(payload: Plaintext): JournalRecord {
  const reader = new ByteReader(payload);
  const position = reader.varint();
  const durable = reader.varint();
  const oldest = reader.varint();
  const entries: Plaintext[] = [];
  while (reader.remaining > 0) entries.push(reader.bytes(reader.varint()) as Plaintext);
  if (durable > position || oldest > position) throw new MalformedBytesError('a record that refers to later ones');
  return { position, durable, oldest, entries };
}

/**
 * The records of a whole segment file. `tail` marks records behind something unreadable: they prove what existed, and
 * are never replayed. Yields nothing when the file is at most a header that was never finished. Throws {@link
 * MalformedBytesError} when the header of a segment with records is not authentic.
 */
export function* scanSegment(key: SegmentKey, number: number, file: Uint8Array): Generator<{ record: JournalRecord; tail: boolean }, void> {
  const cipher = openCipher(key, number, file);
  if (!cipher) {
    if (file.byteLength > segmentHeaderLength) throw new MalformedBytesError(`the header of journal segment ${number} is not authentic`);
    return;
  }
  const aad = new RecordAad(number);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let tail = false;
  let numberMin = 0;
  try {
    for (let at = segmentHeaderLength; at + recordFrameLength <= file.byteLength; ) {
      const length = view.getUint32(at, true);
      const recordNumber = view.getUint32(at + 4, true);
      const end = at + recordHeaderLength + length;
      if (length < recordOverhead || end > file.byteLength) return;
      const payload =
        recordNumber < numberMin
          ? undefined
          : cipher.decrypt(recordNumber, aad.for(length, recordNumber), file.subarray(at + recordHeaderLength, end));
      if (payload) {
        yield { record: decodePayload(payload), tail };
        numberMin = recordNumber + 1;
      } else tail = true;
      at = end;
    }
  } finally {
    cipher.wipe();
  }
}

function openCipher(key: SegmentKey, number: number, file: Uint8Array): RecordCipher | undefined {
  if (file.byteLength < segmentHeaderLength || !equalBytes(file.subarray(0, 8), magic)) return undefined;
  const reader = new ByteReader(file.subarray(8, segmentHeaderLength));
  if (reader.u64() !== BigInt(number)) return undefined;
  return RecordCipher.open(key.sealKey, placeOf(key, number), reader.bytes(recordCipherHeaderLength));
}
