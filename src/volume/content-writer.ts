/**
 * Takes written content to staging packs: holds it in memory (`dirty-file.ts`), journals small amounts, seals what is
 * large or old, and bounds the total. It does not change the state itself: its operations go through the volume like
 * any other (doc/concurrency.md, "Dirty data").
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { type Clock, compareTimespec, type Timespec } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { type DataExtent, runChunksMax } from '../meta/extent.js';
import { type ContentStamp, type Inode, inlineMax } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { type InlineOperation, type Operation, OperationError, type WriteOperation } from '../operation/operation.js';
import type { Renumbering } from '../operation/renumbering.js';
import type { ChunkOwner } from '../pack/pack-index.js';
import { DirtyFile, type DirtyRange, type DirtySegment, gather } from './dirty-file.js';
import type { DirtyEntry } from './journal-entry.js';

/** What the writer needs from the volume around it. */
export interface ContentHost {
  inodeOf(ino: Ino): MaybePromise<Inode | undefined>;
  apply(operation: Operation): MaybePromise<void>;
  nextStamp(): ContentStamp;
  /** Seals consecutive chunks of a file side by side into one staging pack. */
  appendRun(chunks: readonly Plaintext[], owner: ChunkOwner): Promise<Pick<DataExtent, 'pack' | 'packOffset' | 'chunks'>>;
  /** How many chunks the next run should have at most, at least one. */
  runRoom(): number;
  journalDirty(ino: Ino, segment: DirtySegment, mtime: Timespec | undefined): void;
  /** Called when closed files were sealed: their packs may be uploaded. */
  sealedAhead(): void;
  /** Called when the first data becomes dirty: a flush should follow. */
  becameDirty(): void;
}

export interface ContentLimits {
  readonly chunkSize: number;
  /** Writers wait while more than this many bytes are dirty. */
  readonly dirtyBytesMax: number;
  /** A file with this much dirty data is sealed in the background while it is still being written. */
  readonly sealBytes: number;
  /**
   * Up to this much data that is not in the journal is journalled when a file is closed or synced; more is sealed at
   * once.
   */
  readonly journalBytesMax: number;
  /**
   * Closed files are sealed in the background when they hold this much together. The commit then finds most of its
   * packs in the store.
   */
  readonly sealAheadBytes: number;
}

export const defaultContentLimits = {
  sealBytes: 4 * 1024 * 1024,
  journalBytesMax: 256 * 1024,
  // Worth it only where an upload takes longer than sealing.
  sealAheadBytes: Number.POSITIVE_INFINITY,
} as const;

export class ContentWriter {
  readonly #files = new Map<Ino, DirtyFile>();
  readonly #host: ContentHost;
  readonly #limits: ContentLimits;
  readonly #clock: Clock;
  #bytes = 0;
  #version = 0;
  /** Files closed since the last time that closed files were sealed. */
  #closed = new Set<Ino>();
  #closedBytes = 0;
  #isSealingAhead = false;
  #waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];

  constructor(host: ContentHost, limits: ContentLimits, clock: Clock) {
    this.#host = host;
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Plaintext bytes that are not sealed yet. */
  get bytes(): number {
    return this.#bytes;
  }

  get fileCount(): number {
    return this.#files.size;
  }

  inos(): IterableIterator<Ino> {
    return this.#files.keys();
  }

  get(ino: Ino): DirtyFile | undefined {
    return this.#files.get(ino);
  }

  /** The inode with its dirty data taken into account. */
  effective(ino: Ino, inode: Inode): Inode {
    const file = this.#files.get(ino);
    if (!file || file.bytes === 0) return inode;
    const end = file.end;
    const mtime = file.mtime ?? inode.mtime;
    const size = Math.max(inode.size, end);
    return {
      ...inode,
      size,
      // The data may fill a hole or overwrite allocated space. Too large a value is harmless; too small a value makes
      // tar and cp believe that there is a hole.
      allocated: Math.max(inode.allocated, Math.min(size, inode.allocated + file.bytes)),
      mtime,
      ctime: file.mtime && compareTimespec(file.mtime, inode.ctime) > 0 ? file.mtime : inode.ctime,
    };
  }

  /**
   * Keeps `data` without a copy. Returns a promise when the writer must wait until enough was sealed; it rejects if
   * sealing fails.
   */
  write(ino: Ino, inode: Inode, offset: number, data: Uint8Array, mtime: Timespec | undefined): MaybePromise<void> {
    let file = this.#files.get(ino);
    if (!file) {
      if (this.#files.size === 0) this.#host.becameDirty();
      file = new DirtyFile(ino, inode.stamp, this.#clock.monotonicMs());
      this.#files.set(ino, file);
    }
    this.#change(file, () => file.write(offset, data, ++this.#version, false));
    if (mtime) file.mtime = mtime;
    if (file.bytes >= this.#limits.sealBytes && !file.sealing) this.#sealInBackground(file, true);
    if (this.#bytes <= this.#limits.dirtyBytesMax) return undefined;
    this.#relieve();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Restores dirty data from the journal during replay. */
  restore(ino: Ino, baseStamp: ContentStamp, offset: number, bytes: Uint8Array, version: number, mtime: Timespec | undefined): void {
    let file = this.#files.get(ino);
    if (!file) {
      file = new DirtyFile(ino, baseStamp, this.#clock.monotonicMs());
      this.#files.set(ino, file);
    }
    this.#version = Math.max(this.#version, version);
    this.#change(file, () => file.write(offset, Buffer.from(bytes), version, true));
    if (mtime) file.mtime = mtime;
  }

  /** Updates the dirty data of a file after an operation on it was applied. */
  applied(operation: Operation): void {
    if (operation.type === 'create') return;
    const file = 'ino' in operation ? this.#files.get(operation.ino) : undefined;
    if (!file) return;
    switch (operation.type) {
      case 'setattr': {
        const { size, stamp } = operation;
        if (size !== undefined) this.#change(file, () => file.truncate(size));
        // The remaining dirty data is sealed on top of this: no other device changed the content.
        if (stamp) file.baseStamp = stamp;
        if (operation.mtime !== undefined) file.mtime = undefined;
        break;
      }
      case 'write':
        this.#change(file, () => {
          const ranges = operation.pieces.map(({ offset, extent }) => ({ from: offset, to: offset + extent.length }));
          file.forget(
            operation.upTo,
            ranges.toSorted((a, b) => a.from - b.from),
          );
        });
        file.baseStamp = operation.stamp;
        break;
      case 'inline':
        this.#change(file, () => file.forget(operation.upTo, [{ from: 0, to: Number.POSITIVE_INFINITY }]));
        file.baseStamp = operation.stamp;
        break;
      case 'fallocate':
        file.baseStamp = operation.stamp;
        break;
      case 'reclaim':
        this.#change(file, () => file.truncate(0));
        break;
      default:
    }
    if (file.bytes === 0 && !file.sealing) this.#files.delete(file.ino);
  }

  /**
   * From now on what is dirty belongs to inodes with these numbers. What is being sealed follows when it is applied.
   */
  renumber(numbers: Renumbering): void {
    const files = [...this.#files.values()];
    this.#files.clear();
    for (const file of files) {
      file.baseStamp = numbers.stamp(file.baseStamp, file.ino);
      file.ino = numbers.ino(file.ino);
      this.#files.set(file.ino, file);
    }
    this.#closed = new Set([...this.#closed].map((ino) => numbers.ino(ino)));
  }

  /** The dirty data that the journal holds. */
  journalled(): Omit<DirtyEntry, 'type'>[] {
    return [...this.#files.values()].flatMap(({ ino, mtime, segments }) =>
      segments.filter(({ journalled }) => journalled).map(({ version, offset, bytes }) => ({ ino, version, offset, mtime, bytes })),
    );
  }

  get journalledBytes(): number {
    let bytes = 0;
    for (const file of this.#files.values()) bytes += file.bytes - file.unjournalledBytes;
    return bytes;
  }

  /** Makes everything written to the file so far survive the daemon: journalled, or sealed if it is too much. */
  persist(ino: Ino): MaybePromise<void> {
    const file = this.#files.get(ino);
    if (!file) return undefined;
    const unjournalled = file.unjournalledBytes;
    if (unjournalled === 0) return undefined;
    if (unjournalled > this.#limits.journalBytesMax) return this.seal(ino);
    for (const segment of file.segments) {
      if (segment.journalled) continue;
      this.#host.journalDirty(ino, segment, file.mtime);
      segment.journalled = true;
    }
    return undefined;
  }

  /**
   * An application has closed the file. It is unlikely to be written again soon and may be sealed ahead of the next
   * commit.
   */
  closed(ino: Ino): void {
    const file = this.#files.get(ino);
    if (!file || this.#closed.has(ino)) return;
    this.#closed.add(ino);
    this.#closedBytes += file.bytes;
    this.#sealAhead();
  }

  /**
   * Sets the modification time of dirty data and journals it with the data, so that no operation is needed for it.
   * Returns false, and does nothing, when the data is already in the journal, is too much, or is being sealed.
   */
  noteTime(ino: Ino, mtime: Timespec): boolean {
    const file = this.#files.get(ino);
    if (!file || file.sealing) return false;
    const unjournalled = file.unjournalledBytes;
    if (unjournalled === 0 || unjournalled > this.#limits.journalBytesMax) return false;
    file.mtime = mtime;
    const persisted = this.persist(ino);
    assert(persisted === undefined, 'what fits the journal is there at once');
    return true;
  }

  async persistAll(): Promise<void> {
    // Files rather than inodes: a file may get another number meanwhile.
    const files = [...this.#files.values()];
    for (const file of files) await this.persist(file.ino);
  }

  /** Turns every byte that is dirty now into extents (or inline content). */
  async seal(ino: Ino): Promise<void> {
    const upTo = this.#version;
    const file = this.#files.get(ino);
    if (!file) return;
    // It may get another number meanwhile.
    while (this.#files.get(file.ino) === file) {
      if (file.sealing) await file.sealing;
      else if (file.segments.some((segment) => segment.version <= upTo)) await this.#seal(file, false);
      else return;
    }
  }

  /** Seals everything that is dirty now. */
  sealAll(): Promise<void> {
    this.#closed.clear();
    this.#closedBytes = 0;
    return this.#sealThese([...this.#files.values()]);
  }

  /** Ignores failures: what was not sealed stays dirty until the next flush. */
  #sealAhead(): void {
    if (this.#isSealingAhead || this.#closedBytes < this.#limits.sealAheadBytes) return;
    const files = [...this.#closed].map((ino) => this.#files.get(ino)).filter((file) => file !== undefined);
    this.#closed.clear();
    this.#closedBytes = 0;
    this.#isSealingAhead = true;
    void this.#sealThese(files)
      .then(() => this.#host.sealedAhead())
      .catch(() => {})
      .finally(() => {
        this.#isSealingAhead = false;
        this.#sealAhead();
      });
  }

  /** Seals a few files at a time. */
  async #sealThese(files: readonly DirtyFile[]): Promise<void> {
    const left = files.values();
    const worker = async (): Promise<void> => {
      for (const file of left) await this.seal(file.ino);
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  }

  /** Resolves when no snapshot of the file is being sealed; `undefined` if none is now. */
  sealing(ino: Ino): Promise<void> | undefined {
    return this.#files.get(ino)?.sealing;
  }

  #change(file: DirtyFile, change: () => void): void {
    const before = file.bytes;
    change();
    this.#bytes += file.bytes - before;
    if (this.#waiting.length > 0 && this.#bytes <= this.#limits.dirtyBytesMax) {
      for (const waiter of this.#waiting.splice(0)) waiter.resolve();
    }
  }

  #sealInBackground(file: DirtyFile, wholeChunksOnly: boolean): void {
    this.#seal(file, wholeChunksOnly).catch((error: unknown) => {
      // The data stays dirty and the next flush retries; writers that wait for room must not wait forever.
      for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
    });
  }

  /** Seals the files with the most dirty data. */
  #relieve(): void {
    const bulky = [...this.#files.values()].toSorted((a, b) => b.bytes - a.bytes).slice(0, 4);
    for (const file of bulky) if (!file.sealing && file.bytes > 0) this.#sealInBackground(file, false);
  }

  #seal(file: DirtyFile, wholeChunksOnly: boolean): Promise<void> {
    const done = this.#sealSnapshot(file, wholeChunksOnly).finally(() => {
      file.sealing = undefined;
      if (file.bytes === 0 && this.#files.get(file.ino) === file) this.#files.delete(file.ino);
      else if (this.#waiting.length > 0) this.#relieve();
    });
    file.sealing = done;
    // Waiters of `sealing` only need to know that it ended; the caller of `#seal` gets the error.
    file.sealing = done.catch(() => {});
    return done;
  }

  async #sealSnapshot(file: DirtyFile, wholeChunksOnly: boolean): Promise<void> {
    try {
      await this.#sealDirty(file, wholeChunksOnly);
    } catch (error) {
      // The file was removed and closed for the last time while its content was being sealed: nobody can ask for it any
      // more.
      if (!(error instanceof OperationError && error.code === 'ESTALE') || (await this.#host.inodeOf(file.ino)) !== undefined) throw error;
      this.#change(file, () => file.truncate(0));
    }
  }

  async #sealDirty(file: DirtyFile, wholeChunksOnly: boolean): Promise<void> {
    const { ino } = file;
    const upTo = this.#version;
    const snapshot = file.ranges();
    const inode = await this.#host.inodeOf(ino);
    if (!inode) {
      this.#change(file, () => file.truncate(0));
      return;
    }
    const end = snapshot.reduce((last, range) => Math.max(last, range.offset + range.length), 0);
    const size = Math.max(inode.size, end);
    const inlineOnly = inode.allocated === inode.inline.byteLength;
    if (!wholeChunksOnly && size <= inlineMax && inlineOnly) {
      const content = new Uint8Array(Math.max(end, inode.inline.byteLength));
      content.set(inode.inline);
      for (const range of snapshot) gather(range.segments, range.offset, content.subarray(range.offset, range.offset + range.length));
      const operation: InlineOperation = {
        type: 'inline',
        ino: file.ino,
        content,
        size,
        mtime: file.mtime,
        stamp: this.#host.nextStamp(),
        baseStamp: file.baseStamp,
        upTo,
      };
      await this.#host.apply(operation);
      return;
    }
    const ranges = wholeChunksOnly && inode.inline.byteLength === 0 ? this.#wholeChunks(snapshot) : withInline(inode, snapshot, ino);
    if (ranges.length === 0) return;
    const pieces = (await Promise.all(ranges.map((range) => this.#sealRange(ino, range)))).flat();
    const operation: WriteOperation = {
      type: 'write',
      // It may have another number since.
      ino: file.ino,
      pieces,
      size: pieces.reduce((last, piece) => Math.max(last, piece.offset + piece.extent.length), 0),
      mtime: file.mtime,
      stamp: this.#host.nextStamp(),
      baseStamp: file.baseStamp,
      upTo,
    };
    await this.#host.apply(operation);
  }

  /** Cuts a range at the chunk grid and seals it as runs. */
  async #sealRange(ino: Ino, range: DirtyRange): Promise<{ offset: number; extent: DataExtent }[]> {
    const { chunkSize } = this.#limits;
    const rangeEnd = range.offset + range.length;
    const pieces: { offset: number; extent: DataExtent }[] = [];
    for (let runStart = range.offset; runStart < rangeEnd; ) {
      const chunks: Plaintext[] = [];
      const chunksMax = Math.min(runChunksMax, this.#host.runRoom());
      let at = runStart;
      while (at < rangeEnd && chunks.length < chunksMax) {
        const chunkEnd = Math.min(rangeEnd, (Math.floor(at / chunkSize) + 1) * chunkSize);
        chunks.push(plaintextOf(range.segments, at, chunkEnd));
        at = chunkEnd;
      }
      const run = await this.#host.appendRun(chunks, { ino, offset: runStart });
      pieces.push({ offset: runStart, extent: { kind: 'data', length: at - runStart, skip: 0, ...run } });
      runStart = at;
    }
    return pieces;
  }

  /** The parts of the ranges that fill whole chunks of the file's grid. */
  #wholeChunks(ranges: readonly DirtyRange[]): DirtyRange[] {
    const { chunkSize } = this.#limits;
    const whole: DirtyRange[] = [];
    for (const range of ranges) {
      const offset = Math.ceil(range.offset / chunkSize) * chunkSize;
      const end = Math.floor((range.offset + range.length) / chunkSize) * chunkSize;
      if (offset < end) whole.push({ offset, length: end - offset, segments: range.segments });
    }
    return whole;
  }
}

/** The file's bytes `[from, to)` from adjacent segments: borrowed if one segment holds them all, otherwise gathered. */
function plaintextOf(segments: readonly DirtySegment[], from: number, to: number): Plaintext {
  for (const segment of segments) {
    const at = from - segment.offset;
    if (at >= 0 && at + (to - from) <= segment.bytes.byteLength) return segment.bytes.subarray(at, at + (to - from)) as Plaintext;
  }
  const bytes = Buffer.allocUnsafeSlow(to - from);
  gather(segments, from, bytes);
  return bytes as Uint8Array as Plaintext;
}

/** Extents replace inline content as a whole, so the inline content becomes part of the data to seal. */
function withInline(inode: Inode, snapshot: readonly DirtyRange[], ino: Ino): readonly DirtyRange[] {
  if (inode.inline.byteLength === 0) return snapshot;
  const merged = new DirtyFile(ino, inode.stamp, 0);
  merged.write(0, inode.inline, 0, false);
  for (const range of snapshot)
    for (const segment of range.segments) merged.write(segment.offset, segment.bytes, segment.version, segment.journalled);
  return merged.ranges();
}
