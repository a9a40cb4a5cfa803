/**
 * A segment of the journal that takes records (doc/format.md, "Journal segment"): one file that grows, with the cipher
 * that seals its records. Which segments there are, and when a record is needed no more, is up to `journal.ts`.
 */
import { join } from 'node:path';
import type { Random } from '../base/random.js';
import type { RecordCipher } from '../crypto/record-cipher.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import type { SegmentKey } from './segment.js';
import { createSegment, RecordAad, recordFrameLength, recordHeaderLength, segmentHeaderLength, segmentName } from './segment.js';

/**
 * A segment that is synced gets up to this many zeros behind its records, which the next records overwrite. fdatasync
 * of a file that does not grow writes data only, and not also the filesystem's journal, which takes twice as long.
 */
const spareMax = 256 * 1024;
/** At first as many zeros as there are records, so that a segment that is synced once or twice stays small. */
const spareFirst = 8 * 1024;
const zeros = new Uint8Array(spareMax);

export interface SegmentOptions extends SegmentKey {
  readonly disk: Disk;
  readonly directory: string;
  readonly random: Random;
}

export class SegmentFile {
  readonly number: number;
  readonly path: string;
  readonly #file: DiskFile;
  readonly #cipher: RecordCipher;
  readonly #aad: RecordAad;
  #size = segmentHeaderLength;
  /** Up to where the file was written, zeros included. */
  #writtenTo = segmentHeaderLength;
  /** The number of the next record, which is never used twice, even when writing the record failed. */
  #recordNext = 0;
  #first: number | undefined;

  private constructor(number: number, path: string, file: DiskFile, cipher: RecordCipher) {
    this.number = number;
    this.path = path;
    this.#file = file;
    this.#cipher = cipher;
    this.#aad = new RecordAad(number);
  }

  /** A new segment, whose header is on stable storage before any record can follow it. Throws disk errors. */
  static async create(options: SegmentOptions, number: number): Promise<SegmentFile> {
    const { disk, directory, random } = options;
    const path = join(directory, segmentName(number));
    const { cipher, header } = createSegment(options, number, random);
    const file = await disk.open(path, 'create-new');
    try {
      await file.write(header, 0);
      await file.datasync();
      await disk.syncDirectory(directory);
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
    return new SegmentFile(number, path, file, cipher);
  }

  /** Bytes of header and records. */
  get size(): number {
    return this.#size;
  }

  /** The position of the first record; `undefined` without any. */
  get first(): number | undefined {
    return this.#first;
  }

  /** The bytes that a record takes in the file. */
  static recordLength(parts: readonly Uint8Array[]): number {
    return parts.reduce((sum, part) => sum + part.byteLength, recordFrameLength);
  }

  /**
   * Seals `parts` as one record in `buffer`, which has at least the record's length, and writes it. The record counts
   * once {@link SegmentFile.accept} is called: until then the next one overwrites it. Throws disk errors.
   */
  write(parts: readonly Uint8Array[], total: number, buffer: Buffer): void {
    const number = this.#recordNext++;
    const length = total - recordHeaderLength;
    buffer.writeUInt32LE(length, 0);
    buffer.writeUInt32LE(number, 4);
    this.#cipher.encrypt(number, this.#aad.for(length, number), parts, buffer, recordHeaderLength);
    this.#file.writeSync(buffer.subarray(0, total), this.#size);
  }

  /** The record of `total` bytes that was written last has this position. */
  accept(total: number, position: number): void {
    this.#first ??= position;
    this.#size += total;
    this.#writtenTo = Math.max(this.#writtenTo, this.#size);
  }

  /** Writes zeros behind the records, at most `max`. A scan ends at them as at the end of the file. */
  writeSpare(max: number): void {
    const length = Math.min(spareMax, max, Math.max(spareFirst, this.#size));
    if (this.#first === undefined || this.#writtenTo - this.#size >= length / 8) return;
    try {
      this.#file.writeSync(zeros.subarray(0, length), this.#writtenTo);
      this.#writtenTo += length;
    } catch {
      // The disk is full: from now on this segment does without.
      this.#writtenTo = Number.POSITIVE_INFINITY;
    }
  }

  datasync(): Promise<void> {
    return this.#file.datasync();
  }

  /** Whether the file has lost its name. Cheap, and never waits. */
  isUnlinked(): boolean {
    return this.#file.isUnlinked();
  }

  /** Whether the file is where the next start looks for it. */
  isInPlace(): Promise<boolean> {
    return this.#file.isAt(this.path);
  }

  /** No record can be written afterwards. */
  wipeKey(): void {
    this.#cipher.wipe();
  }

  close(): Promise<void> {
    this.#cipher.wipe();
    return this.#file.close();
  }
}
