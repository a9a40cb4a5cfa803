/**
 * A page of the tree, searched in its encoded bytes without an object per entry (doc/format.md, "Tree page").
 *
 * | field | encoding |
 * | --- | --- |
 * | level | u8: 0 leaf, 1.. branch |
 * | zeros | 3 |
 * | count | u32 |
 * | offsets | count x u32: where entry i begins, from the page's start |
 * | entries | key length u16, value length u32, key, value; ascending keys, no duplicates |
 *
 * A leaf's values are the tree's values, a branch's are page references, and a branch's key is a lower bound of its
 * child's keys.
 */
import { assert } from '../base/assert.js';
import { latin1Slice } from '../base/bytes.js';
import type { PageReference } from '../pack/page-reference.js';
import { decodePageReference, pageReferenceLength } from '../pack/page-reference.js';
import { TreeError } from './tree-error.js';

export const pageHeaderLength = 8;
export const entryHeaderLength = 6;
export const pageMax = 2 * 1024 * 1024;
export const levelMax = 11;

const malformed = (what: string): TreeError => new TreeError('MALFORMED', `tree page: ${what}`);

/** Negative, 0 or positive as bytes `from` to `to` sort before, at or after `key`. */
function compareBytes(bytes: Uint8Array, from: number, to: number, key: string): number {
  const length = to - from;
  const shared = Math.min(length, key.length);
  for (let index = 0; index < shared; index++) {
    const difference = bytes[from + index]! - key.charCodeAt(index);
    if (difference !== 0) return difference;
  }
  return length - key.length;
}

export class TreePage {
  readonly level: number;
  readonly count: number;
  /** The whole page, which is never changed: values that are read from it borrow its memory. */
  readonly bytes: Uint8Array;
  /** Where each entry begins, and where the last one ends. */
  readonly #offsets: Uint32Array;
  readonly #view: DataView;
  /**
   * Of a branch: the children that the reader has found in memory. A child that is no longer `resident` is not used.
   */
  readonly children: (TreePage | undefined)[];
  /** Whether the reader's cache holds this page. */
  resident = false;
  /** Set by every use, cleared by the hand of the cache's clock. */
  used = false;

  /** Checks all rules that concern one page alone. Takes ownership of `bytes`. Throws {@link TreeError}. */
  constructor(bytes: Uint8Array) {
    const size = bytes.byteLength;
    if (size < pageHeaderLength || size > pageMax) throw malformed('impossible size');
    const view = new DataView(bytes.buffer, bytes.byteOffset, size);
    const level = view.getUint8(0);
    const count = view.getUint32(4, true);
    if (level > levelMax) throw malformed('level is too high');
    if (bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) throw malformed('reserved bytes are set');
    if (count < 1 || count > (size - pageHeaderLength) / (4 + entryHeaderLength)) throw malformed('impossible count');
    const offsets = new Uint32Array(count + 1);
    let at = pageHeaderLength + 4 * count;
    let previousFrom = 0;
    let previousTo = 0;
    for (let index = 0; index < count; index++) {
      if (view.getUint32(pageHeaderLength + 4 * index, true) !== at) throw malformed('entries do not lie side by side');
      if (at + entryHeaderLength > size) throw malformed('entry reaches past the end');
      offsets[index] = at;
      const keyLength = view.getUint16(at, true);
      const valueLength = view.getUint32(at + 2, true);
      const from = at + entryHeaderLength;
      const to = from + keyLength;
      at = to + valueLength;
      if (at > size) throw malformed('entry reaches past the end');
      if (level > 0 && valueLength !== pageReferenceLength) throw malformed('a value of a branch is not a page reference');
      if (index > 0 && !precedes(bytes, previousFrom, previousTo, from, to)) throw malformed('keys do not ascend');
      previousFrom = from;
      previousTo = to;
    }
    if (at !== size) throw malformed('trailing bytes');
    offsets[count] = at;
    this.bytes = bytes;
    this.level = level;
    this.count = count;
    this.#offsets = offsets;
    this.#view = view;
    this.children = level > 0 ? Array.from<TreePage | undefined>({ length: count }) : [];
  }

  /** Bytes of memory that the page takes. */
  get footprint(): number {
    return this.bytes.byteLength + this.#offsets.byteLength + this.children.length * 8 + 200;
  }

  /** Where entry `index` begins; at `count`, where the last one ends. */
  offsetAt(index: number): number {
    const offset = this.#offsets[index];
    assert(offset !== undefined, 'an entry of the page');
    return offset;
  }

  #keyLength(index: number): number {
    return this.#view.getUint16(this.offsetAt(index), true);
  }

  keyAt(index: number): string {
    const from = this.offsetAt(index) + entryHeaderLength;
    return latin1Slice(this.bytes, from, from + this.#keyLength(index));
  }

  /** Borrowed. */
  valueAt(index: number): Uint8Array {
    return this.bytes.subarray(this.offsetAt(index) + entryHeaderLength + this.#keyLength(index), this.offsetAt(index + 1));
  }

  /** The reference in entry `index` of a branch. */
  referenceAt(index: number): PageReference {
    return decodePageReference(this.valueAt(index));
  }

  /** Negative, 0 or positive as key `index` sorts before, at or after `key`. */
  compareAt(index: number, key: string): number {
    const from = this.offsetAt(index) + entryHeaderLength;
    return compareBytes(this.bytes, from, from + this.#keyLength(index), key);
  }

  /** The first entry whose key is `key` or greater; `count` when there is none. */
  lowerBound(key: string): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compareAt(middle, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The entry of `key`, or -1. */
  find(key: string): number {
    const index = this.lowerBound(key);
    return index < this.count && this.compareAt(index, key) === 0 ? index : -1;
  }

  /** The child of a branch whose range contains `key`; the first one for a key below all ranges. */
  childIndex(key: string): number {
    const index = this.lowerBound(key);
    if (index < this.count && this.compareAt(index, key) === 0) return index;
    return Math.max(0, index - 1);
  }
}

function precedes(bytes: Uint8Array, aFrom: number, aTo: number, bFrom: number, bTo: number): boolean {
  const shared = Math.min(aTo - aFrom, bTo - bFrom);
  for (let index = 0; index < shared; index++) {
    const difference = bytes[aFrom + index]! - bytes[bFrom + index]!;
    if (difference !== 0) return difference < 0;
  }
  return aTo - aFrom < bTo - bFrom;
}

/**
 * Checks that `child` belongs at entry `index` of `parent`: its level, and its keys within the entry's range, which
 * ends before `upper`. Throws {@link TreeError}.
 */
export function checkChild(parent: TreePage, index: number, child: TreePage, upper: string | undefined): void {
  if (child.level !== parent.level - 1) throw malformed('levels do not descend');
  if (child.compareAt(0, parent.keyAt(index)) < 0) throw malformed('a key lies below its range');
  if (upper !== undefined && child.compareAt(child.count - 1, upper) >= 0) throw malformed('a key lies above its range');
}

/** Checks that the leaf `next` begins after `leaf` ends. Throws {@link TreeError}. */
export function checkOrder(leaf: TreePage, next: TreePage): void {
  if (next.compareAt(0, leaf.keyAt(leaf.count - 1)) <= 0) throw malformed('leaves do not ascend');
}
