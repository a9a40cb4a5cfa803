/**
 * Content of one file that was written and is not sealed yet: sorted, disjoint segments of plaintext in memory. Segment
 * bytes never change (readers borrow them); an overwrite replaces what it covers. It does not decide when to seal:
 * `content-writer.ts` does (doc/concurrency.md, "Dirty data").
 */
import { assert } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import type { ContentStamp } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';

export interface DirtySegment {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Volume-wide write counter: later writes have greater versions. */
  readonly version: number;
  /** The journal holds it, so it survives the daemon. */
  journalled: boolean;
}

/** A range of the file in which all data is dirty. */
export interface DirtyRange {
  readonly offset: number;
  readonly length: number;
  /** Ascending and adjacent. */
  readonly segments: readonly DirtySegment[];
}

export class DirtyFile {
  ino: Ino;
  /** The stamp of the content that the first of these writes was based on. */
  baseStamp: ContentStamp;
  /** Time of the last write, unless the times were set explicitly since. */
  mtime: Timespec | undefined;
  /** Set while a snapshot of the segments is being sealed: operations that cut content wait for it. */
  sealing: Promise<void> | undefined;
  /** When the oldest segment was written, in monotonic ms. */
  sinceMs: number;
  #segments: DirtySegment[] = [];
  #bytes = 0;

  constructor(ino: Ino, baseStamp: ContentStamp, sinceMs: number) {
    this.ino = ino;
    this.baseStamp = baseStamp;
    this.sinceMs = sinceMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** One past the last dirty byte, 0 when there is none. */
  get end(): number {
    const last = this.#segments.at(-1);
    return last ? last.offset + last.bytes.byteLength : 0;
  }

  get unjournalledBytes(): number {
    let bytes = 0;
    for (const segment of this.#segments) if (!segment.journalled) bytes += segment.bytes.byteLength;
    return bytes;
  }

  get segments(): readonly DirtySegment[] {
    return this.#segments;
  }

  /** Puts `bytes` (kept without a copy) over whatever was dirty there. */
  write(offset: number, bytes: Uint8Array, version: number, journalled: boolean): void {
    const end = offset + bytes.byteLength;
    const segment: DirtySegment = { offset, bytes, version, journalled };
    this.#bytes += bytes.byteLength;
    if (offset >= this.end) {
      this.#segments.push(segment);
      return;
    }
    const first = this.#firstReaching(offset);
    const covered = this.overlapping(offset, end);
    const around: DirtySegment[] = [];
    for (const old of covered) {
      const oldEnd = old.offset + old.bytes.byteLength;
      this.#bytes -= Math.min(oldEnd, end) - Math.max(old.offset, offset);
      if (old.offset < offset) around.push(part(old, old.offset, offset));
      if (oldEnd > end) around.push(part(old, end, oldEnd));
    }
    const before = around.filter((piece) => piece.offset < offset);
    const after = around.filter((piece) => piece.offset > offset);
    this.#segments.splice(first, covered.length, ...before, segment, ...after);
  }

  /** Forgets everything at or after `size`. */
  truncate(size: number): void {
    this.#keep((segment) => {
      const end = segment.offset + segment.bytes.byteLength;
      if (end <= size) return segment;
      return segment.offset < size ? part(segment, segment.offset, size) : undefined;
    });
  }

  /** Forgets what was sealed: segments up to version `upTo` within `ranges` (ascending, disjoint, `to` exclusive). */
  forget(upTo: number, ranges: readonly { readonly from: number; readonly to: number }[]): void {
    const kept: DirtySegment[] = [];
    this.#bytes = 0;
    let passed = 0;
    for (const segment of this.#segments) {
      const end = segment.offset + segment.bytes.byteLength;
      while ((ranges[passed]?.to ?? Number.POSITIVE_INFINITY) <= segment.offset) passed++;
      if (segment.version > upTo) {
        kept.push(segment);
        continue;
      }
      let from = segment.offset;
      for (let index = passed, range = ranges[index]; range && range.from < end; range = ranges[++index]) {
        if (range.from > from) kept.push(part(segment, from, range.from));
        from = Math.max(from, range.to);
      }
      if (from === segment.offset) kept.push(segment);
      else if (from < end) kept.push(part(segment, from, end));
    }
    this.#segments = kept;
    for (const segment of kept) this.#bytes += segment.bytes.byteLength;
  }

  /** The whole segments that overlap `[from, to)`, ascending. */
  overlapping(from: number, to: number): DirtySegment[] {
    const found: DirtySegment[] = [];
    let index = this.#firstReaching(from);
    for (let segment = this.#segments[index]; segment && segment.offset < to; segment = this.#segments[++index]) found.push(segment);
    return found;
  }

  /** The dirty data as ranges without gaps. */
  ranges(): DirtyRange[] {
    const ranges: { offset: number; length: number; segments: DirtySegment[] }[] = [];
    for (const segment of this.#segments) {
      const last = ranges.at(-1);
      if (last && last.offset + last.length === segment.offset) {
        last.length += segment.bytes.byteLength;
        last.segments.push(segment);
      } else ranges.push({ offset: segment.offset, length: segment.bytes.byteLength, segments: [segment] });
    }
    return ranges;
  }

  #keep(choose: (segment: DirtySegment) => DirtySegment | undefined): void {
    this.#segments = this.#segments.map(choose).filter((segment) => segment !== undefined);
    this.#bytes = this.#segments.reduce((total, segment) => total + segment.bytes.byteLength, 0);
  }

  /** Index of the first segment that ends after `offset`. */
  #firstReaching(offset: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      // `low <= middle < high`.
      const segment = this.#segments[middle]!;
      if (segment.offset + segment.bytes.byteLength <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function part(segment: DirtySegment, from: number, to: number): DirtySegment {
  assert(from < to, 'a segment has at least one byte');
  return {
    offset: from,
    bytes: segment.bytes.subarray(from - segment.offset, to - segment.offset),
    version: segment.version,
    journalled: segment.journalled,
  };
}

/** Copies the file's bytes `[from, from + target.length)` from adjacent segments that cover them. */
export function gather(segments: readonly DirtySegment[], from: number, target: Uint8Array): void {
  const to = from + target.byteLength;
  for (const segment of segments) {
    const start = Math.max(from, segment.offset);
    const end = Math.min(to, segment.offset + segment.bytes.byteLength);
    if (start < end) target.set(segment.bytes.subarray(start - segment.offset, end - segment.offset), start - from);
  }
}
