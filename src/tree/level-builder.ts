/**
 * The entries that wait to become pages of one level of a new tree. It knows how to cut pages, not what they hold or where they go.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { latin1Slice } from '../base/bytes.js';
import { pageReferenceLength } from '../pack/page-reference.js';
import type { TreePage } from './tree-page.js';
import { entryHeaderLength, pageHeaderLength, pageMax } from './tree-page.js';

/** No page is larger, but for one that holds a single entry. */
export const splitSize = 64 * 1024;
/** What a page gets when more follows; twice it waits before that, so that the last two pages are never small. */
export const fillSize = 48 * 1024;
/** A smaller page is merged with its right neighbour. */
export const mergeSize = 16 * 1024;

export interface CutPage {
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
  /** Entries that became pages already. */
  #cutCount = 0;
  /** Whether the new tree has anything before what waits here: entries of this level, or a subtree that was taken over above it. */
  #isBegun = false;

  constructor(level: number) {
    this.level = level;
  }

  /** Entries that wait. */
  get count(): number {
    return this.#starts.length;
  }

  /** Entries ever pushed. */
  get total(): number {
    return this.#cutCount + this.#starts.length;
  }

  /** The size of one page of all that waits. */
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

  /** A level above took something over that lies before whatever comes here. */
  begin(): void {
    this.#isBegun = true;
  }

  /** Takes copies. On a branch the very first key of the tree becomes empty: it bounds everything from below. */
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
    const start = page.offsets[first];
    const end = page.offsets[to];
    const shift = this.#reserve(end - start) - start;
    this.#body.set(page.bytes.subarray(start, end), start + shift);
    for (let index = first; index < to; index++) this.#starts.push(page.offsets[index] + shift);
  }

  /** How many entries from the first on make a page of at most `size` bytes; at least one. */
  fitting(size: number): number {
    let low = 1;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const end = middle < this.#starts.length ? this.#starts[middle] : this.#length;
      if (pageHeaderLength + 4 * middle + end <= size) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Makes a page of the first `count` entries, which wait no more. On a branch the references are filled in by `bind`, by ordinal of the entry. */
  cut(count: number, references: (ordinal: number) => Uint8Array | undefined): CutPage {
    const end = count < this.#starts.length ? this.#starts[count] : this.#length;
    const entriesAt = pageHeaderLength + 4 * count;
    const bytes = Buffer.allocUnsafe(entriesAt + end);
    bytes.writeUInt32LE(this.level, 0);
    bytes.writeUInt32LE(count, 4);
    for (let index = 0; index < count; index++) bytes.writeUInt32LE(entriesAt + this.#starts[index], pageHeaderLength + 4 * index);
    this.#body.copy(bytes, entriesAt, 0, end);
    if (this.level > 0) {
      for (let index = 0; index < count; index++) {
        const reference = references(this.#cutCount + index);
        const entryEnd = entriesAt + (index + 1 < this.#starts.length ? this.#starts[index + 1] : this.#length);
        if (reference) bytes.set(reference, entryEnd - pageReferenceLength);
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

  /** The only waiting entry's reference, as its bytes are so far: for a root that would have a single child. */
  soleValue(): Uint8Array {
    assert(this.#starts.length === 1 && this.level > 0, 'a branch with one entry');
    return new Uint8Array(this.#body.subarray(this.#length - pageReferenceLength, this.#length));
  }
}
