/**
 * The local write-ahead log: entries in order, in segments of sealed records (doc/format.md, "Journal segment";
 * doc/concurrency.md, "Replay"). It does not know what the entries mean. Writing one segment is in `segment-file.ts`,
 * the decision what counts after a crash in `journal-recovery.ts`.
 *
 * When `append` has returned, the record survives the death of the process; when `sync` has resolved, power loss. After
 * a crash the entries are a prefix of those that were appended, with everything in it that was synced.
 */
import { dirname, join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { ByteWriter } from '../base/bytes.js';
import { Lock } from '../base/lock.js';
import type { Logger } from '../base/logger.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode, isAbsent } from '../disk/disk.js';
import { ensureDirectory, isDiskFull } from '../disk/whole-file.js';
import { JournalError } from './journal-error.js';
import type { OldSegment, Recovery } from './journal-recovery.js';
import { isEmpty, readSegment, recover } from './journal-recovery.js';
import { scanSegment, segmentName } from './segment.js';
import type { SegmentOptions } from './segment-file.js';
import { SegmentFile } from './segment-file.js';

export interface JournalOptions extends SegmentOptions {
  readonly logger: Logger;
  /** The size in bytes from which on a new segment begins. Default 16 MiB. */
  readonly segmentSize?: number;
}

export interface JournalEntry {
  readonly entry: Plaintext;
  /** The position of the record; entries that were appended together share it. */
  readonly position: number;
}

/** An entry, whole or in parts that are written one after the other. */
type EntryBytes = Uint8Array | readonly Uint8Array[];

/** The largest record, in bytes. */
const recordLengthMax = 64 * 1024 * 1024;
/** A segment grows to this size, and no further, when the next one cannot be made. */
const segmentSizeMax = 256 * 1024 * 1024;
/** A larger write buffer is not kept. */
const keptBufferMax = 2 * 1024 * 1024;
/** Parts up to this size are gathered, so that many small entries take one call of the cipher. */
const gatheredMax = 32 * 1024;

function journalError(error: unknown, doing: string): JournalError {
  if (error instanceof JournalError) return error;
  return new JournalError(isDiskFull(error) ? 'FULL' : 'IO', `the journal failed ${doing}`, { cause: error });
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #segmentSize: number;
  /** Full segments with records that are needed, oldest first. */
  #old: OldSegment[];
  /** Records before this position were in the journal when it was opened. */
  readonly #replayEnd: number;
  #current: SegmentFile;
  /** Made ahead, so that appending never waits for a file to be created. */
  #next: SegmentFile | undefined;
  #preparing: Promise<void> | undefined;
  /** The next segment is made once the current one has this size. */
  #prepareFrom = 0;
  /** Full segments with records that may not be on stable storage, in order. */
  #unsynced: SegmentFile[] = [];
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

  private constructor(options: JournalOptions, { kept, end, oldest }: Recovery, current: SegmentFile) {
    this.#options = options;
    this.#segmentSize = options.segmentSize ?? 16 * 1024 * 1024;
    this.#old = kept;
    this.#current = current;
    this.#end = end;
    this.#durable = end;
    this.#replayEnd = end;
    this.#oldest = oldest;
  }

  /**
   * Opens the journal in `directory`, which is made when it does not exist (its parent does): decides which records
   * count and makes them durable. One process at a time. Throws {@link JournalError} `CORRUPT`, `IO` or `FULL`.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    try {
      return await Journal.#open(options);
    } catch (error) {
      throw journalError(error, 'opening');
    }
  }

  static async #open(options: JournalOptions): Promise<Journal> {
    const { disk, directory, logger } = options;
    if (await ensureDirectory(disk, directory)) await disk.syncDirectory(dirname(directory));
    const recovery = await recover(disk, directory, options, logger);
    const { kept, dropped, lastNumber } = recovery;
    for (const { path } of kept) await makeDurable(disk, path);
    // Empty segments first: on a full disk they free the space that the new one takes.
    for (const { path } of dropped.filter(isEmpty)) await disk.unlink(path);
    const journal = new Journal(options, recovery, await SegmentFile.create(options, lastNumber + 1));
    try {
      // The decision is recorded before the segments that it drops are removed.
      journal.appendBatch([]);
      await journal.sync();
      for (const segment of dropped) if (!isEmpty(segment)) await disk.unlink(segment.path);
    } catch (error) {
      await journal.close().catch(() => {});
      throw error;
    }
    return journal;
  }

  /** The position that the next record will have. */
  get end(): number {
    return this.#end;
  }

  /** Records before this position survive power loss. */
  get durable(): number {
    return this.#durable;
  }

  /**
   * Set for good once the disk has failed to make records durable, or the journal was moved: it takes no more records.
   */
  get failure(): JournalError | undefined {
    return this.#failed;
  }

  /** Bytes on disk. */
  get bytes(): number {
    const live = this.#current.size + (this.#next?.size ?? 0);
    return this.#old.reduce((sum, segment) => sum + segment.size, live);
  }

  /** The entries that were there at open and are still needed, in order. The caller owns each. Not while trimming. */
  async *entries(): AsyncGenerator<JournalEntry, void> {
    const from = this.#oldest;
    for (const segment of this.#old.filter(({ first }) => first < this.#replayEnd)) {
      const file = await readSegment(this.#options.disk, segment.path).catch((error: unknown) => {
        throw journalError(error, 'reading');
      });
      for (const { record, tail } of scanSegment(this.#options, segment.number, file)) {
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
   * Appends one record with `entries`: after a crash all of them are there or none. Blocks for some microseconds; when
   * it returns, the record survives the death of the process. Borrows the bytes. Returns the position of the record.
   * Throws {@link JournalError} `FULL` or `IO`, having appended nothing; `CLOSED`.
   */
  appendBatch(entries: readonly EntryBytes[]): number {
    this.#check();
    this.#rotate();
    const segment = this.#current;
    const position = this.#end;
    const parts = this.#payload(position, entries);
    const total = SegmentFile.recordLength(parts);
    assert(total <= recordLengthMax, 'a journal record is bounded');
    if (total > this.#buffer.length) this.#buffer = Buffer.allocUnsafe(total);
    try {
      segment.write(parts, total, this.#buffer);
      // A record in a file that has lost its name would not be found again.
      if (segment.isUnlinked()) throw this.#lose();
    } catch (error) {
      throw journalError(error, 'appending');
    } finally {
      if (this.#buffer.length > keptBufferMax) {
        this.#buffer = Buffer.allocUnsafe(64 * 1024);
        this.#gathered = new ByteWriter(gatheredMax);
      }
    }
    segment.accept(total, position);
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

  /**
   * The journal is not where the next start looks for it: it takes no more records. What was appended can still go into
   * the store.
   */
  #lose(): JournalError {
    if (!this.#failed) {
      this.#failed = new JournalError('IO', 'the state directory was removed, moved or replaced while it was in use');
      this.#options.logger.error('the journal is not where it was; it takes no more records until the volume is opened again');
    }
    return this.#failed;
  }

  /**
   * Fails the journal for good if its file, or another one that it depends on, has lost its name. Cheap, and never
   * waits.
   */
  failIfGone(isOtherGone = false): void {
    if (!this.#closed && (isOtherGone || this.#current.isUnlinked())) this.#lose();
  }

  /** Moves on to the next segment when the current one is full and the next one exists. */
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
    last.wipeKey();
    this.#unsynced.push(last);
    this.#old.push({
      number: last.number,
      path: last.path,
      size: last.size,
      first: last.first ?? this.#end,
      end: this.#end,
    });
  }

  /** Makes the next segment. A failure is not final, since the current one continues to grow. */
  #prepare(): Promise<void> {
    this.#preparing ??= (async () => {
      try {
        const number = this.#current.number + 1;
        const { disk, directory } = this.#options;
        // The files in a directory that took the place of ours may belong to somebody else.
        if (!(await this.#current.isInPlace())) throw this.#lose();
        // A file of an earlier attempt that failed has no record.
        await disk.unlink(join(directory, segmentName(number))).catch((error: unknown) => {
          if (!isAbsent(error)) throw error;
        });
        this.#next = await SegmentFile.create(this.#options, number);
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
   * When it resolves, everything that was appended before the call survives power loss. Calls that come while the disk
   * is busy share the next sync. Throws {@link JournalError} `IO`, and then fails the journal for good, since the
   * content of the disk is unknown.
   */
  async sync(): Promise<void> {
    // Even when nothing is left to sync: the file may have been removed since.
    this.failIfGone();
    this.#check();
    const target = this.#end;
    while (this.#durable < target) {
      this.#check();
      this.#syncing ??= this.#syncOnce().finally(() => (this.#syncing = undefined));
      await this.#syncing;
    }
  }

  async #syncOnce(): Promise<void> {
    // No await until #unsynced is taken: with the current segment it holds all records before `target`.
    const target = this.#end;
    const current = this.#current;
    const full = this.#unsynced;
    this.#unsynced = [];
    current.writeSpare(Math.floor(this.#segmentSize / 16));
    try {
      for (const segment of full) {
        await segment.datasync();
        if (!(await segment.isInPlace())) throw this.#lose();
        await segment.close();
      }
      await current.datasync();
      if (!(await current.isInPlace())) throw this.#lose();
    } catch (error) {
      this.#unsynced = [...full, ...this.#unsynced];
      if (this.#failed) throw this.#failed;
      this.#failed = new JournalError('IO', 'the disk failed to make the journal durable', { cause: error });
      this.#options.logger.error('the disk failed to make the journal durable; it takes no more records until the volume is opened again', {
        code: diskErrorCode(error),
      });
      throw this.#failed;
    }
    this.#durable = target;
  }

  /**
   * Declares that records before `position` are not needed any more, and removes the segments that hold only such
   * records. Throws {@link JournalError}; the next call removes what could not be removed.
   */
  trim(position: number): Promise<void> {
    return this.#trimming.run(async () => {
      this.#check();
      assert(position <= this.#end, 'only what was appended can be trimmed');
      try {
        // The current segment too, if all of its records can go and it is large enough to be worth a new file.
        if (position === this.#end && this.#current.size > Math.min(this.#segmentSize / 2, 1024 * 1024)) {
          if (!this.#next) await this.#prepare().catch(() => {});
          if (this.#next) this.#switch();
        }
        const done = this.#old.filter((segment) => segment.end <= position);
        const last = done.at(-1);
        if (!last) return;
        // Recorded first: a gap in the segments that no record explains would count as damage.
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
      // A full disk must not keep the journal from freeing space: the block of the spare segment is enough for this
      // record.
      this.#next = undefined;
      this.#prepareFrom = this.#current.size + this.#segmentSize / 8;
      await spare.close();
      await this.#options.disk.unlink(spare.path);
      await this.#appendOldest(oldest);
    }
  }

  /** Syncs and closes. Nothing may be appended meanwhile or afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.#preparing?.catch(() => {});
      this.failIfGone();
      if (!this.#failed) await this.sync();
    } finally {
      this.#closed = true;
      await this.#trimming.run(() => {});
      for (const segment of [...this.#unsynced, this.#current, ...(this.#next ? [this.#next] : [])]) await segment.close().catch(() => {});
      this.#gathered.reset().zeros(gatheredMax);
    }
  }
}

/**
 * The page cache may be the only place that has a file of an earlier process: records will say that its content is
 * durable.
 */
async function makeDurable(disk: Disk, path: string): Promise<void> {
  const file = await disk.open(path, 'write');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}
