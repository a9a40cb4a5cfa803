/**
 * The entries that wait to become pages of one level of a new tree (doc/format.md, "Tree page"). It cuts pages; where
 * they go is up to `tree-writer.ts`.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { latin1Slice } from '../base/bytes.js';
import { pageReferenceLength } from '../pack/page-reference.js';
import type { TreePage } from './tree-page.js';
import { entryHeaderLength, pageHeaderLength, pageMax } from './tree-page.js';

/** No page is larger, except for one with a single entry. */
export const splitSize = 64 * 1024;
/**
 * The size of a page when more follows. A page is cut when twice as much waits, so that the last two pages are never
 * small.
 */
export const fillSize = 48 * 1024;
/** A smaller page is merged with its right neighbour. */
export const mergeSize = 16 * 1024;

interface CutPage {
  readonly key: string;
  readonly bytes: Plaintext;
  readonly first: number;
  readonly count: number;
}

export class LevelBuilder {
  readonly level: number;
  #body = Buffer.allocUnsafe(2 * fillSize + splitSize);
  #length = 0;
  /** Where each waiting entry begins in the body. */
  #starts: number[] = [];
  /** How many entries have become pages. */
  #cutCount = 0;
  /**
   * Whether the new tree has anything before the waiting entries: entries of this level, or a subtree that was adopted
   * at a level above.
   */
  #isBegun = false;

  constructor(level: number) {
    this.level = level;
  }

  /** How many entries wait. */
  get count(): number {
    return this.#starts.length;
  }

  /** How many entries were ever pushed. */
  get total(): number {
    return this.#cutCount + this.#starts.length;
  }

  /** The size of a page with all waiting entries. */
  get size(): number {
    return pageHeaderLength + 4 * this.#starts.length + this.#length;
  }

  #reserve(count: number): number {
    const at = this.#length;
    if (at + count > this.#body.length) {
      const grown = Buffer.allocUnsafe(2 * (at + count));
      this.#body.copy(grown, 0, 0, at);
      this.#body = grown;
    }
    this.#length += count;
    return at;
  }

  /** A level above has adopted a subtree that lies before all entries that will come here. */
  begin(): void {
    this.#isBegun = true;
  }

  /**
   * Copies key and value. On a branch the very first key of the tree becomes empty, since it bounds all keys from
   * below.
   */
  push(key: string, value: Uint8Array): void {
    const kept = this.level > 0 && !this.#isBegun ? '' : key;
    this.#isBegun = true;
    const size = entryHeaderLength + kept.length + value.byteLength;
    assert(kept.length <= 0xffff && pageHeaderLength + 4 + size <= pageMax, 'an entry fits a page');
    const at = this.#reserve(size);
    this.#starts.push(at);
    this.#body.writeUInt16LE(kept.length, at);
    this.#body.writeUInt32LE(value.byteLength, at + 2);
    this.#body.write(kept, at + entryHeaderLength, 'latin1');
    this.#body.set(value, at + entryHeaderLength + kept.length);
  }

  /** Entries `from` to `to` (exclusive) of a page of this level, as they are. */
  pushRange(page: TreePage, from: number, to: number): void {
    let first = from;
    if (first < to && this.level > 0 && !this.#isBegun) {
      this.push('', page.valueAt(first));
      first++;
    }
    if (first >= to) return;
    this.#isBegun = true;
    const [start, end] = [page.offsetAt(first), page.offsetAt(to)];
    const shift = this.#reserve(end - start) - start;
    this.#body.set(page.bytes.subarray(start, end), start + shift);
    for (let index = first; index < to; index++) this.#starts.push(page.offsetAt(index) + shift);
  }

  /** Where the first `count` waiting entries end in the body. */
  #endOf(count: number): number {
    return this.#starts[count] ?? this.#length;
  }

  /** How many of the first entries fit a page of at most `size` bytes; at least one. */
  fitting(size: number): number {
    let low = 1;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (pageHeaderLength + 4 * middle + this.#endOf(middle) <= size) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * Makes a page of the first `count` entries and removes them. On a branch, `references` fills in the references, by
   * ordinal of the entry.
   */
  cut(count: number, references: (ordinal: number) => Uint8Array | undefined): CutPage {
    const end = this.#endOf(count);
    const entriesAt = pageHeaderLength + 4 * count;
    const bytes = Buffer.allocUnsafe(entriesAt + end);
    bytes.writeUInt32LE(this.level, 0);
    bytes.writeUInt32LE(count, 4);
    for (const [index, start] of this.#starts.slice(0, count).entries()) bytes.writeUInt32LE(entriesAt + start, pageHeaderLength + 4 * index);
    this.#body.copy(bytes, entriesAt, 0, end);
    if (this.level > 0) {
      for (let index = 0; index < count; index++) {
        const reference = references(this.#cutCount + index);
        if (reference) bytes.set(reference, entriesAt + this.#endOf(index + 1) - pageReferenceLength);
      }
    }
    const key = latin1Slice(bytes, entriesAt + entryHeaderLength, entriesAt + entryHeaderLength + bytes.readUInt16LE(entriesAt));
    const first = this.#cutCount;
    this.#body.copyWithin(0, end, this.#length);
    this.#length -= end;
    this.#starts = this.#starts.slice(count).map((start) => start - end);
    this.#cutCount += count;
    return { key, bytes: bytes as Uint8Array as Plaintext, first, count };
  }

  /** The reference in the only waiting entry, for a root that would have a single child. */
  soleValue(): Uint8Array {
    assert(this.#starts.length === 1 && this.level > 0, 'a branch with one entry');
    return new Uint8Array(this.#body.subarray(this.#length - pageReferenceLength, this.#length));
  }
}
