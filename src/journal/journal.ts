/**
 * The local write-ahead log: entries in order, in segments of sealed records (doc/format.md, "Journal segment";
 * doc/concurrency.md). It knows nothing of what the entries mean.
 *
 * What survives: when `append` has returned, the death of the process; when `sync` has resolved, power loss. After a crash the
 * entries are a prefix of what was appended, with everything in it that was synced. Each record says how far the journal was
 * durable when it was written, so that a torn tail (a crash) is told from missing records (damage, `CORRUPT`).
 */

import { dirname, join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { Lock } from '../base/lock.js';
import type { Logger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import type { RecordCipher } from '../crypto/record-cipher.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { ensureDirectory, isDiskFull } from '../disk/whole-file.js';
import { JournalError } from './journal-error.js';
import type { SegmentKey } from './segment.js';
import {
  createSegment,
  RecordAad,
  recordFrameLength,
  recordHeaderLength,
  scanSegment,
  segmentHeaderLength,
  segmentName,
  segmentNumberOf,
} from './segment.js';

export interface JournalOptions {
  readonly disk: Disk;
  /** Made when absent (its parent exists). One process at a time opens it. */
  readonly directory: string;
  /** Of kind journal. */
  readonly sealKey: SealKey;
  /** 16 bytes. */
  readonly deviceId: Uint8Array;
  readonly random: Random;
  readonly logger: Logger;
  /** Bytes after which a new segment begins. Default 16 MiB. */
  readonly segmentSize?: number;
}

export interface JournalEntry {
  readonly entry: Plaintext;
  /** Of the record that holds it; entries that were appended together share it. */
  readonly position: number;
}

/** An entry, whole or in parts that are written one after the other. */
export type EntryBytes = Uint8Array | readonly Uint8Array[];

/** One record holds at most this. */
export const recordLengthMax = 64 * 1024 * 1024;
/** A segment grows to this when no next one can be made, and no further. */
const segmentSizeMax = 256 * 1024 * 1024;
/** A write buffer larger than this is not kept. */
const keptBufferMax = 2 * 1024 * 1024;
/**
 * A segment that is synced gets this many zeros behind its records, to be overwritten by the next ones: fdatasync of a file that does not grow writes data
 * only, and not the filesystem's journal as well, which takes twice as long.
 */
const spareMax = 256 * 1024;
/** As many as there are records, so that a segment that is synced once or twice stays small. */
const spareFirst = 8 * 1024;
const zeros = new Uint8Array(spareMax);
/** Parts up to this are gathered: one cipher call for many small entries. */
const gatheredMax = 32 * 1024;

/** A segment that takes no more records. */
interface OldSegment {
  readonly number: number;
  readonly path: string;
  readonly size: number;
  /** Positions of its records: from `first`, before `end`. */
  readonly first: number;
  readonly end: number;
}

/** A segment that takes records, or will. */
interface OpenSegment {
  readonly number: number;
  readonly path: string;
  readonly file: DiskFile;
  readonly cipher: RecordCipher;
  readonly aad: RecordAad;
  size: number;
  /** Up to where the file has been written, zeros included. */
  spareEnd: number;
  /** The next record's number: never used twice, even when writing it failed. */
  recordNext: number;
  first: number;
}

const isAbsent = (error: unknown): boolean => diskErrorCode(error) === 'ENOENT';

function journalError(error: unknown, doing: string): JournalError {
  if (error instanceof JournalError) return error;
  return new JournalError(isDiskFull(error) ? 'FULL' : 'IO', `the journal failed ${doing}`, { cause: error });
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #key: SegmentKey;
  readonly #segmentSize: number;
  /** Full segments that hold needed records, oldest first. */
  #old: OldSegment[];
  /** Records from here on were not there at open. */
  readonly #replayEnd: number;
  #current: OpenSegment;
  /** Made ahead, so that appending never waits for a file to be made. */
  #next: OpenSegment | undefined;
  #preparing: Promise<void> | undefined;
  /** The size of the current segment from which on the next one is made. */
  #prepareFrom = 0;
  /** Segments with records that may not be on stable storage, in order; the current one is the last when it has any. */
  #retired: OpenSegment[] = [];
  #end: number;
  #durable: number;
  #oldest: number;
  #syncing: Promise<void> | undefined;
  /** Guards trimming: #old and #oldest. */
  readonly #trimming = new Lock();
  #failed: JournalError | undefined;
  #closed = false;
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #gathered = new ByteWriter(gatheredMax);

  private constructor(options: JournalOptions, found: { old: OldSegment[]; current: OpenSegment; end: number; oldest: number }) {
    this.#options = options;
    this.#key = { sealKey: options.sealKey, deviceId: options.deviceId };
    this.#segmentSize = options.segmentSize ?? 16 * 1024 * 1024;
    this.#old = found.old;
    this.#current = found.current;
    this.#end = found.end;
    this.#durable = found.end;
    this.#replayEnd = found.end;
    this.#oldest = found.oldest;
  }

  /**
   * Reads what is there, settles what a crash left behind, and makes everything found durable.
   * Throws {@link JournalError} `CORRUPT`, `IO` or `FULL`.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    try {
      return await openJournal(options, (found) => new Journal(options, found));
    } catch (error) {
      throw journalError(error, 'opening');
    }
  }

  /** The position that the next record will have. */
  get end(): number {
    return this.#end;
  }

  /** Records before this position survive power loss. */
  get durable(): number {
    return this.#durable;
  }

  /** Set for good once the disk has failed to make records durable: nothing can be appended any more. */
  get failure(): JournalError | undefined {
    return this.#failed;
  }

  /** Bytes on disk. */
  get bytes(): number {
    const live = this.#current.size + (this.#next?.size ?? 0);
    return this.#old.reduce((sum, segment) => sum + segment.size, live);
  }

  /** The entries that were there at open and are still needed, in order. Each is the caller's own. Not while trimming. */
  async *entries(): AsyncGenerator<JournalEntry, void> {
    const from = this.#oldest;
    for (const segment of this.#old.filter(({ first }) => first < this.#replayEnd)) {
      const file = await readWhole(this.#options.disk, segment.path).catch((error: unknown) => {
        throw journalError(error, 'reading');
      });
      for (const { record, tail } of scanSegment(this.#key, segment.number, file)) {
        if (tail || record.position >= segment.end) break;
        if (record.position < from) continue;
        for (const entry of record.entries) yield { entry, position: record.position };
      }
    }
  }

  /** Appends one record of one entry: see {@link Journal.appendBatch}. */
  append(entry: EntryBytes): number {
    return this.appendBatch([entry]);
  }

  /**
   * Appends one record that holds `entries`: after a crash all of them are there or none. Blocks for some microseconds; when it
   * returns, the record survives the death of the process. Borrows the bytes. Returns the record's position.
   * Throws {@link JournalError} `FULL` or `IO`: then nothing was appended; `CLOSED`.
   */
  appendBatch(entries: readonly EntryBytes[]): number {
    this.#check();
    this.#rotate();
    const segment = this.#current;
    const position = this.#end;
    const parts = this.#payload(position, entries);
    let payloadLength = 0;
    for (const part of parts) payloadLength += part.byteLength;
    assert(payloadLength <= recordLengthMax, 'a journal record is bounded');
    const total = payloadLength + recordFrameLength;
    if (total > this.#buffer.length) this.#buffer = Buffer.allocUnsafe(total);
    const buffer = this.#buffer;
    const number = segment.recordNext++;
    const length = total - recordHeaderLength;
    buffer.writeUInt32LE(length, 0);
    buffer.writeUInt32LE(number, 4);
    segment.cipher.encrypt(number, segment.aad.for(length, number), parts, buffer, recordHeaderLength);
    try {
      segment.file.writeSync(buffer.subarray(0, total), segment.size);
      // A record in a file that nobody can find again is none.
      if (segment.file.isUnlinked()) throw this.#lose();
    } catch (error) {
      // What was written of it lies where the next record goes; its number is not used again.
      throw journalError(error, 'appending');
    } finally {
      if (buffer.length > keptBufferMax) {
        this.#buffer = Buffer.allocUnsafe(64 * 1024);
        this.#gathered = new ByteWriter(gatheredMax);
      }
    }
    if (segment.size === segmentHeaderLength) segment.first = position;
    segment.size += total;
    segment.spareEnd = Math.max(segment.spareEnd, segment.size);
    this.#end = position + 1;
    return position;
  }

  #payload(position: number, entries: readonly EntryBytes[]): readonly Uint8Array[] {
    const writer = this.#gathered.reset().varint(position).varint(this.#durable).varint(this.#oldest);
    const parts: Uint8Array[] = [];
    let from = 0;
    for (const entry of entries) {
      const entryParts = entry instanceof Uint8Array ? [entry] : entry;
      let entryLength = 0;
      for (const part of entryParts) entryLength += part.byteLength;
      writer.varint(entryLength);
      for (const part of entryParts) {
        if (part.byteLength <= gatheredMax) {
          writer.bytes(part);
          continue;
        }
        parts.push(writer.copy().subarray(from), part);
        from = writer.length;
      }
    }
    return parts.length === 0 ? [writer.finish()] : [...parts, writer.finish().subarray(from)];
  }

  #check(): void {
    if (this.#closed) throw new JournalError('CLOSED', 'the journal is closed');
    if (this.#failed) throw new JournalError(this.#failed.code, this.#failed.message, { cause: this.#failed });
  }

  /** The journal is not where the next start looks for it. Nothing is taken any more, and what there is can still go into the store. */
  #lose(): JournalError {
    if (!this.#failed) {
      this.#failed = new JournalError('IO', 'the state directory was removed, moved or replaced while it was in use');
      this.#options.logger.error('the journal is not where it was; nothing is taken any more until the volume is opened again');
    }
    return this.#failed;
  }

  /** What belongs to it is not where it was, or it is not itself: then it takes nothing any more. Cheap, and never waits. */
  loseIfGone(isOtherGone = false): void {
    if (!this.#closed && (isOtherGone || this.#current.file.isUnlinked())) this.#lose();
  }

  /** Goes over to the next segment when it is time and one is there. */
  #rotate(): void {
    const size = this.#current.size;
    if (!this.#next && size >= this.#prepareFrom) void this.#prepare().catch(() => {});
    if (size <= this.#segmentSize) return;
    if (this.#next) this.#switch();
    else if (size > segmentSizeMax) throw new JournalError('FULL', 'the journal cannot begin a new segment');
  }

  #switch(): void {
    const next = this.#next;
    assert(next, 'there is a next segment');
    const last = this.#current;
    this.#next = undefined;
    this.#current = next;
    last.cipher.wipe();
    this.#retired.push(last);
    this.#old.push({
      number: last.number,
      path: last.path,
      size: last.size,
      first: last.size > segmentHeaderLength ? last.first : this.#end,
      end: this.#end,
    });
  }

  /** Makes the next segment ready. Failing is not final: the current one goes on. */
  #prepare(): Promise<void> {
    this.#preparing ??= (async () => {
      try {
        const number = this.#current.number + 1;
        const { disk, directory } = this.#options;
        // What lies in a directory that took the place of ours may be somebody else's.
        if (!(await this.#current.file.isAt(this.#current.path))) throw this.#lose();
        // One that could not be finished earlier holds no record.
        await disk.unlink(join(directory, segmentName(number))).catch((error: unknown) => {
          if (!isAbsent(error)) throw error;
        });
        this.#next = await makeSegment(this.#options, number);
        this.#prepareFrom = 0;
      } catch (error) {
        this.#prepareFrom = this.#current.size + this.#segmentSize / 8;
        this.#options.logger.warn('no new journal segment could be made', { code: diskErrorCode(error) });
        throw journalError(error, 'making a segment');
      } finally {
        this.#preparing = undefined;
      }
    })();
    return this.#preparing;
  }

  /**
   * Everything appended so far survives power loss when it resolves. Calls that come while the disk is busy share the next
   * turn. Throws {@link JournalError} `IO`; after that the journal takes nothing more, since what the disk holds is unknown.
   */
  async sync(): Promise<void> {
    // Also when all is synced: the file that it was synced to may be gone.
    this.loseIfGone();
    this.#check();
    const target = this.#end;
    while (this.#durable < target) {
      this.#check();
      this.#syncing ??= this.#syncOnce().finally(() => (this.#syncing = undefined));
      await this.#syncing;
    }
  }

  async #syncOnce(): Promise<void> {
    // No await until both are taken: together they are all records before `target`.
    const target = this.#end;
    const current = this.#current;
    const retired = this.#retired;
    this.#retired = [];
    writeSpare(current, Math.min(spareMax, Math.floor(this.#segmentSize / 16), Math.max(spareFirst, current.size)));
    try {
      for (const segment of retired) {
        await segment.file.datasync();
        if (!(await segment.file.isAt(segment.path))) throw this.#lose();
        await segment.file.close();
      }
      await current.file.datasync();
      if (!(await current.file.isAt(current.path))) throw this.#lose();
    } catch (error) {
      this.#retired = [...retired, ...this.#retired];
      if (this.#failed) throw this.#failed;
      this.#failed = new JournalError('IO', 'the disk failed to make the journal durable', { cause: error });
      this.#options.logger.error('the disk failed to make the journal durable; nothing is taken any more until the volume is opened again', {
        code: diskErrorCode(error),
      });
      throw this.#failed;
    }
    this.#durable = target;
  }

  /**
   * Says that records before `position` are not needed any more, and removes the segments that hold only such.
   * Throws {@link JournalError}; what could not be removed goes next time.
   */
  trim(position: number): Promise<void> {
    return this.#trimming.run(async () => {
      this.#check();
      assert(position <= this.#end, 'only what was appended can be trimmed');
      try {
        // The current segment too, when all of it is done with and it is worth a file.
        if (position === this.#end && this.#current.size > Math.min(this.#segmentSize / 2, 1024 * 1024)) {
          if (!this.#next) await this.#prepare().catch(() => {});
          if (this.#next) this.#switch();
        }
        const done = this.#old.filter((segment) => segment.end <= position);
        const last = done.at(-1);
        if (!last) return;
        // Written down first: a gap in the segments that no record explains would be damage.
        if (last.end > this.#oldest) await this.#appendOldest(last.end);
        await this.sync();
        for (const segment of done) {
          await this.#options.disk.unlink(segment.path).catch((error: unknown) => {
            if (!isAbsent(error)) throw error;
          });
          this.#old = this.#old.filter((other) => other !== segment);
        }
        await this.#options.disk.syncDirectory(this.#options.directory);
      } catch (error) {
        throw journalError(error, 'trimming');
      }
    });
  }

  async #appendOldest(oldest: number): Promise<void> {
    const before = this.#oldest;
    this.#oldest = oldest;
    try {
      this.appendBatch([]);
    } catch (error) {
      this.#oldest = before;
      const spare = this.#next;
      if (!spare || !(error instanceof JournalError) || error.code !== 'FULL') throw error;
      // A full disk must not keep the journal from giving space back: the spare segment's block is enough for this record.
      this.#next = undefined;
      this.#prepareFrom = this.#current.size + this.#segmentSize / 8;
      spare.cipher.wipe();
      await spare.file.close();
      await this.#options.disk.unlink(spare.path);
      await this.#appendOldest(oldest);
    }
  }

  /** Syncs and closes. Nothing may be appended meanwhile or afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.#preparing?.catch(() => {});
      this.loseIfGone();
      if (!this.#failed) await this.sync();
    } finally {
      this.#closed = true;
      await this.#trimming.run(() => {});
      for (const segment of [...this.#retired, this.#current, ...(this.#next ? [this.#next] : [])]) {
        segment.cipher.wipe();
        await segment.file.close().catch(() => {});
      }
      this.#gathered.reset().zeros(gatheredMax);
    }
  }
}

async function readWhole(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.allocUnsafe((await file.stat()).size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

/** A new segment whose header is on stable storage before any record can follow it. */
async function makeSegment({ disk, directory, sealKey, deviceId, random }: JournalOptions, number: number): Promise<OpenSegment> {
  const path = join(directory, segmentName(number));
  const { cipher, header } = createSegment({ sealKey, deviceId }, number, random);
  const file = await disk.open(path, 'create-new');
  try {
    await file.write(header, 0);
    await file.datasync();
    await disk.syncDirectory(directory);
  } catch (error) {
    await file.close().catch(() => {});
    throw error;
  }
  return {
    number,
    path,
    file,
    cipher,
    aad: new RecordAad(number),
    size: segmentHeaderLength,
    spareEnd: segmentHeaderLength,
    recordNext: 0,
    first: 0,
  };
}

/** Zeros behind the records, where they come to their end: a scan ends at them as it does at the end of the file. */
function writeSpare(segment: OpenSegment, length: number): void {
  if (segment.size === segmentHeaderLength || segment.spareEnd - segment.size >= length / 8) return;
  try {
    segment.file.writeSync(zeros.subarray(0, length), segment.spareEnd);
    segment.spareEnd += length;
  } catch {
    // The disk is full: it is done without, from now on.
    segment.spareEnd = Number.POSITIVE_INFINITY;
  }
}

/** One segment as it was found. */
interface FoundSegment {
  readonly number: number;
  readonly path: string;
  readonly size: number;
  /** Positions of the records before anything unreadable; both 0 without any. */
  readonly first: number;
  readonly end: number;
  /** The most that any record claims, those behind something unreadable included. */
  readonly durable: number;
  readonly oldest: number;
}

async function inspect(disk: Disk, key: SegmentKey, path: string, number: number): Promise<FoundSegment> {
  const file = await readWhole(disk, path);
  let first = 0;
  let end = 0;
  let durable = 0;
  let oldest = 0;
  try {
    for (const { record, tail } of scanSegment(key, number, file)) {
      durable = Math.max(durable, record.durable);
      oldest = Math.max(oldest, record.oldest);
      if (tail) continue;
      if (end === 0) first = record.position;
      else if (record.position !== end) throw new MalformedBytesError('positions are not consecutive');
      end = record.position + 1;
    }
  } catch (error) {
    if (error instanceof MalformedBytesError) throw new JournalError('CORRUPT', `journal segment ${number} is damaged`, { cause: error });
    throw error;
  }
  return { number, path, size: file.byteLength, first, end, durable, oldest };
}

async function openJournal(
  options: JournalOptions,
  make: (found: { old: OldSegment[]; current: OpenSegment; end: number; oldest: number }) => Journal,
): Promise<Journal> {
  const { disk, directory, logger } = options;
  if (await ensureDirectory(disk, directory)) await disk.syncDirectory(dirname(directory));
  const numbers: number[] = [];
  for (const { name } of await disk.readDirectory(directory)) {
    const number = segmentNumberOf(name);
    if (number === undefined) logger.warn('a foreign file lies in the journal', {});
    else numbers.push(number);
  }
  numbers.sort((a, b) => a - b);
  const key: SegmentKey = { sealKey: options.sealKey, deviceId: options.deviceId };
  const found: FoundSegment[] = [];
  for (const number of numbers) found.push(await inspect(disk, key, join(directory, segmentName(number)), number));

  const { kept, dropped, end, oldest } = settle(found);
  for (const segment of kept) {
    // They may lie in the page cache only: from now on records will say that they are durable.
    const file = await disk.open(segment.path, 'write');
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  }
  const lost = dropped.reduce((sum, segment) => sum + (segment.first >= end ? segment.end - segment.first : 0), 0);
  if (lost > 0) logger.warn('the journal lost records that were never synced', { count: lost });
  // Those without records first: on a full disk they give back the space that the new one takes.
  const isEmpty = (segment: FoundSegment): boolean => segment.size <= segmentHeaderLength;
  for (const segment of dropped.filter(isEmpty)) await disk.unlink(segment.path);
  const current = await makeSegment(options, (numbers.at(-1) ?? 0) + 1);
  const journal = make({ old: kept, current, end, oldest });
  try {
    // What was settled here is written down before any trace of it goes.
    journal.appendBatch([]);
    await journal.sync();
    for (const segment of dropped) if (!isEmpty(segment)) await disk.unlink(segment.path);
  } catch (error) {
    await journal.close().catch(() => {});
    throw error;
  }
  return journal;
}

/** Which segments count, and up to where. Throws {@link JournalError} `CORRUPT` when something is missing that was durable. */
function settle(found: readonly FoundSegment[]): { kept: OldSegment[]; dropped: FoundSegment[]; end: number; oldest: number } {
  const durable = found.reduce((most, segment) => Math.max(most, segment.durable), 0);
  const oldest = found.reduce((most, segment) => Math.max(most, segment.oldest), 0);
  const kept: OldSegment[] = [];
  const dropped: FoundSegment[] = [];
  let end = oldest;
  for (const segment of found) {
    const needed = segment.end > oldest && segment.end > segment.first;
    // A gap: what comes after something that power loss took. Only what was never synced can be missing so.
    if (!needed || segment.first > end) dropped.push(segment);
    else if (kept.length > 0 && segment.first < end) throw new JournalError('CORRUPT', `journal segment ${segment.number} repeats records`);
    else {
      kept.push(segment);
      end = segment.end;
    }
  }
  if (end < durable) throw new JournalError('CORRUPT', `journal records from ${end} to ${durable - 1} are missing`);
  return { kept, dropped, end, oldest };
}
