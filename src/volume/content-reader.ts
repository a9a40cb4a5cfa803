/**
 * Reads file content: dirty segments over extents over holes, as borrowed pieces. A read is planned in one synchronous
 * query, so it shows one instant; only chunks that are not in memory are awaited (doc/architecture.md, "A read").
 * Chunks are fetched ahead for sequential readers. It does not write: `content-writer.ts` does.
 */
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js';
import { type DataExtent, sliceExtent } from '../meta/extent.js';
import type { Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { readInode, requireInode, scanExtents } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';
import type { PackSource } from '../pack/pack-source.js';
import type { ContentWriter } from './content-writer.js';

/** The source of opened chunks. */
export type ChunkSource = Pick<PackSource, 'readRun' | 'readPart' | 'prefetchRuns'>;

/** Content that is not sealed yet. */
export type DirtyContent = Pick<ContentWriter, 'get' | 'effective'>;
export const nothingDirty: DirtyContent = { get: () => undefined, effective: (_ino, inode) => inode };

type Piece = Uint8Array | { readonly extent: DataExtent; readonly from: number; readonly to: number };

const zeros = new Uint8Array(1024 * 1024);
/** The most streams that are tracked; a new one replaces the oldest. */
const streamsMax = 256;
const readAheadFirst = 512 * 1024;
/** Read-ahead is requested in pieces of up to this size: several are on their way, and as one ends the next begins. */
const readAheadStep = 4 * 1024 * 1024;
/** Streams with a read among this many latest reads share the total. */
const recentReads = 64;

/** How many bytes are fetched ahead. */
export interface ReadAhead {
  /** For one sequential reader. */
  readonly max: number;
  /** For all readers together: the chunks must still be in memory when they are read. */
  readonly total: number;
}

interface Stream {
  next: number;
  window: number;
  fetchedTo: number;
  /** The number of its last read, counted over all streams. */
  lastRead: number;
}

export class ContentReader {
  readonly #read: <T>(query: (view: ReadView) => T) => MaybePromise<T>;
  readonly #writer: DirtyContent;
  readonly #chunks: ChunkSource;
  readonly #ahead: ReadAhead;
  readonly #streams = new Map<Ino, Stream>();
  #reads = 0;

  constructor(read: <T>(query: (view: ReadView) => T) => MaybePromise<T>, writer: DirtyContent, chunks: ChunkSource, ahead: ReadAhead) {
    this.#read = read;
    this.#writer = writer;
    this.#chunks = chunks;
    this.#ahead = ahead;
  }

  /** See Volume.readContent. Returns `undefined` when there is no such inode. */
  read(ino: Ino, offset: number, size: number): MaybePromise<readonly Uint8Array[] | undefined> {
    const ahead = this.#follow(ino, offset, size);
    const jumps = this.#streams.get(ino)?.window === 0;
    const plan = this.#read((view) => {
      const stored = readInode(view, ino);
      if (!stored) return undefined;
      const inode = this.#writer.effective(ino, stored);
      const end = Math.min(inode.size, offset + size);
      const pieces = offset < end ? this.#plan(view, ino, stored, offset, end) : [];
      const beyond = ahead ? plannedAhead(view, ino, ahead.from, Math.min(stored.size, ahead.to)) : [];
      return { pieces, beyond };
    });
    return andThen(plan, (planned) => {
      if (!planned) return undefined;
      const resolved = this.#resolve(planned.pieces, jumps);
      if (planned.beyond.length > 0) this.#chunks.prefetchRuns(planned.beyond);
      return resolved;
    });
  }

  /** See Volume.seek. */
  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined> {
    return this.#read((view) => {
      const stored = requireInode(view, ino);
      const { size } = this.#writer.effective(ino, stored);
      if (offset >= size) return undefined;
      let at = offset;
      for (const [from, to] of dataRanges(view, ino, stored, this.#writer, offset, size)) {
        if (from > at) return what === 'hole' ? at : from;
        if (what === 'data') return at;
        at = Math.max(at, to);
      }
      return what === 'hole' ? Math.min(at, size) : undefined;
    });
  }

  /** The range to fetch ahead after this read, if any. It grows while reads follow each other. */
  #follow(ino: Ino, offset: number, size: number): { readonly from: number; readonly to: number } | undefined {
    const read = ++this.#reads;
    const stream = this.#streams.get(ino);
    if (!stream) {
      if (this.#streams.size >= streamsMax) this.#streams.delete(this.#streams.keys().next().value as Ino);
      this.#streams.set(ino, { next: offset + size, window: offset === 0 ? readAheadFirst / 2 : 0, fetchedTo: 0, lastRead: read });
      return undefined;
    }
    stream.lastRead = read;
    // The kernel may send the reads of one stream slightly out of order.
    const sequential = Math.abs(offset - stream.next) <= 2 * size;
    if (!sequential) {
      stream.next = offset + size;
      stream.window = 0;
      stream.fetchedTo = 0;
      return undefined;
    }
    stream.next = Math.max(stream.next, offset + size);
    const wanted = Math.max(readAheadFirst, stream.window * 2);
    stream.window = Math.min(wanted, this.#ahead.max);
    const from = Math.max(stream.fetchedTo, stream.next);
    if (from >= stream.next + stream.window) return undefined;
    const share = Math.max(readAheadFirst, Math.floor(this.#ahead.total / this.#recentStreams(read)));
    const window = Math.min(stream.window, share);
    const step = Math.min(readAheadStep, window / 4);
    // One query and one request serve many reads. Pieces end at the same offsets for all of them, as runs of chunks do.
    const to = Math.floor((stream.next + window) / step) * step;
    if (to - from < step) return undefined;
    stream.fetchedTo = to;
    return { from, to };
  }

  #recentStreams(read: number): number {
    let count = 0;
    for (const stream of this.#streams.values()) if (stream.window > 0 && read - stream.lastRead < recentReads) count++;
    return count;
  }

  #plan(view: ReadView, ino: Ino, stored: Inode, from: number, to: number): Piece[] {
    const dirty = this.#writer.get(ino)?.overlapping(from, to) ?? [];
    const pieces: Piece[] = [];
    let at = from;
    for (const segment of dirty) {
      const start = Math.max(segment.offset, from);
      const end = Math.min(segment.offset + segment.bytes.byteLength, to);
      if (at < start) planStored(view, ino, stored, at, start, pieces);
      pieces.push(segment.bytes.subarray(start - segment.offset, end - segment.offset));
      at = end;
    }
    if (at < to) planStored(view, ino, stored, at, to, pieces);
    return pieces;
  }

  #resolve(pieces: readonly Piece[], jumps: boolean): MaybePromise<readonly Uint8Array[]> {
    let waits = false;
    const parts = pieces.map((piece) => {
      if (piece instanceof Uint8Array) return piece;
      const part = this.#resolveExtent(piece.extent, piece.from, piece.to, jumps);
      waits ||= isPromise(part);
      return part;
    });
    return waits
      ? Promise.all(parts.map((part) => Promise.resolve(part))).then((all) => all.flat())
      : (parts as (Uint8Array | Uint8Array[])[]).flat();
  }

  /**
   * Bytes `from` to `to` of the extent's content. `jumps`: this reader is not expected to need the rest of these
   * chunks.
   */
  #resolveExtent(extent: DataExtent, from: number, to: number, jumps: boolean): MaybePromise<Uint8Array | Uint8Array[]> {
    const runFrom = extent.skip + from;
    const runTo = extent.skip + to;
    // The chunks `first` to `last` hold these bytes; `first` begins at `firstAt` of the run, `last` ends at `end`.
    let [first, firstAt, last, end] = [0, 0, -1, 0];
    for (const { plainLength } of extent.chunks) {
      if (end >= runTo) break;
      if (end <= runFrom) [first, firstAt] = [last + 1, end];
      end += plainLength;
      last++;
    }
    if (jumps && first === last && to - from < end - firstAt) {
      return this.#chunks.readPart(extent, first, runFrom - firstAt, runTo - firstAt);
    }
    return andThen(this.#chunks.readRun(extent, first, last), (chunks) => {
      let at = firstAt;
      return chunks.map((chunk) => {
        const part = chunk.subarray(Math.max(0, runFrom - at), Math.min(chunk.byteLength, runTo - at));
        at += chunk.byteLength;
        return part;
      });
    });
  }
}

/** Stored bytes `[from, to)`: inline content, extents and holes. */
function planStored(view: ReadView, ino: Ino, stored: Inode, from: number, to: number, pieces: Piece[]): void {
  let at = from;
  if (stored.inline.byteLength > 0) {
    if (at < stored.inline.byteLength) {
      const end = Math.min(to, stored.inline.byteLength);
      pieces.push(stored.inline.subarray(at, end));
      at = end;
    }
  } else {
    for (const { offset, extent } of scanExtents(view, ino, from, to)) {
      const start = Math.max(offset, from);
      const end = Math.min(offset + extent.length, to);
      if (at < start) pushZeros(pieces, start - at);
      if (extent.kind === 'data') pieces.push({ extent, from: start - offset, to: end - offset });
      else pushZeros(pieces, end - start);
      at = end;
    }
  }
  if (at < to) pushZeros(pieces, to - at);
}

function pushZeros(pieces: Piece[], count: number): void {
  for (let left = count; left > 0; left -= zeros.byteLength) pieces.push(left >= zeros.byteLength ? zeros : zeros.subarray(0, left));
}

function plannedAhead(view: ReadView, ino: Ino, from: number, to: number): DataExtent[] {
  const ahead: DataExtent[] = [];
  if (from >= to) return ahead;
  for (const { offset, extent } of scanExtents(view, ino, from, to)) {
    if (extent.kind !== 'data') continue;
    ahead.push(sliceData(extent, Math.max(0, from - offset), Math.min(extent.length, to - offset)));
  }
  return ahead;
}

function sliceData(extent: DataExtent, from: number, to: number): DataExtent {
  const sliced = sliceExtent(extent, from, to);
  return sliced.kind === 'data' ? sliced : extent;
}

/**
 * Ranges of the file that hold data (or reserved space), ascending, possibly touching; the first is the one that ends
 * after `from`.
 */
function* dataRanges(
  view: ReadView,
  ino: Ino,
  stored: Inode,
  writer: DirtyContent,
  from: number,
  to: number,
): IterableIterator<readonly [from: number, to: number]> {
  const dirty = (writer.get(ino)?.overlapping(from, to) ?? []).map(({ offset, bytes }) => [offset, offset + bytes.byteLength] as const);
  const storedRanges = stored.inline.byteLength > from ? [[0, stored.inline.byteLength] as const] : extentRanges(view, ino, from, to);
  for (const range of storedRanges) {
    for (let next = dirty[0]; next && next[0] < range[0]; next = dirty[0]) {
      yield next;
      dirty.shift();
    }
    yield range;
  }
  yield* dirty;
}

function* extentRanges(view: ReadView, ino: Ino, from: number, to: number): IterableIterator<readonly [number, number]> {
  for (const { offset, extent } of scanExtents(view, ino, from, to)) if (extent.kind === 'data') yield [offset, offset + extent.length];
}
