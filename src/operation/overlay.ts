/**
 * A sorted map of changes that are not in the tree yet: from tree key to value, or to `null` if the key is deleted
 * (doc/concurrency.md, "Layers"). It is a plain data structure that knows no layers (`layered-view.ts`) and no
 * atomicity (`volume/transactions.ts`). A hash map answers lookups; a list of sorted blocks keeps the order, so that an
 * insertion moves at most one block.
 */
import type { TreeKey } from '../meta/key.js';

const blockMax = 512;
/** Memory that an entry takes in addition to its bytes. */
const entryOverhead = 96;

export class Overlay {
  readonly #values = new Map<TreeKey, Uint8Array | null>();
  /** Sorted blocks of sorted keys; no block is empty. */
  readonly #blocks: TreeKey[][] = [];
  #bytes = 0;
  /** Counts changes of the order, so that a running scan knows when to find its place again. */
  #revision = 0;

  get count(): number {
    return this.#values.size;
  }

  /** Approximate memory in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The value, `null` for a deletion, `undefined` when this overlay does not mention the key. */
  get(key: TreeKey): Uint8Array | null | undefined {
    return this.#values.get(key);
  }

  /** Keeps `value` (does not copy it). */
  set(key: TreeKey, value: Uint8Array | null): void {
    const before = this.#values.get(key);
    this.#values.set(key, value);
    this.#bytes += value?.byteLength ?? 0;
    if (before === undefined) {
      this.#bytes += entryOverhead + key.length;
      this.#insert(key);
    } else this.#bytes -= before?.byteLength ?? 0;
  }

  /** Takes over all changes of `newer`. */
  absorb(newer: Overlay): void {
    for (const [key, value] of newer.#values) this.set(key, value);
  }

  /** The keys of all changes, in no particular order. */
  keys(): IterableIterator<TreeKey> {
    return this.#values.keys();
  }

  /** All changes, ascending by key. */
  *entries(): IterableIterator<readonly [TreeKey, Uint8Array | null]> {
    for (const block of this.#blocks) for (const key of block) yield [key, this.#values.get(key) ?? null];
  }

  /** A cursor at the first key >= `from`. */
  cursor(from: TreeKey): OverlayCursor {
    return new OverlayCursor(this, from);
  }

  /** The greatest key with `from <= key <= to`. */
  floorKey(from: TreeKey, to: TreeKey): TreeKey | undefined {
    const block = this.#blocks[this.#blockFor(to)];
    if (!block) return undefined;
    const index = upperBound(block, to) - 1;
    const key = index < 0 ? undefined : block[index];
    return key !== undefined && key >= from ? key : undefined;
  }

  /** Index of the last block whose first key is <= `key`, at least 0. */
  #blockFor(key: TreeKey): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#blocks[middle]![0]! <= key) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  #insert(key: TreeKey): void {
    this.#revision++;
    const at = this.#blockFor(key);
    const block = this.#blocks[at];
    if (!block) {
      this.#blocks.push([key]);
      return;
    }
    const last = block.at(-1);
    if (last === undefined || key > last) block.push(key);
    else block.splice(upperBound(block, key), 0, key);
    if (block.length > blockMax) {
      // Insertion is usually ascending: splitting off only a little leaves full blocks behind.
      const keep = at === this.#blocks.length - 1 ? blockMax - 32 : blockMax >>> 1;
      this.#blocks.splice(at + 1, 0, block.splice(keep));
    }
  }

  /** For cursors: the position of the first key >= `key` (or > `key` when `after`). */
  place(key: TreeKey, after: boolean): { readonly revision: number; readonly blocks: readonly (readonly TreeKey[])[]; block: number; index: number } {
    let block = this.#blockFor(key);
    const keys = this.#blocks[block];
    let index = keys ? (after ? upperBound(keys, key) : lowerBound(keys, key)) : 0;
    if (keys && index === keys.length) {
      block++;
      index = 0;
    }
    return { revision: this.#revision, blocks: this.#blocks, block, index };
  }

  get revision(): number {
    return this.#revision;
  }
}

/** Walks an overlay in ascending order and sees changes made meanwhile. */
export class OverlayCursor {
  readonly #overlay: Overlay;
  #place: ReturnType<Overlay['place']>;
  #key: TreeKey | undefined;

  constructor(overlay: Overlay, from: TreeKey) {
    this.#overlay = overlay;
    this.#place = overlay.place(from, false);
    this.#key = this.#place.blocks[this.#place.block]?.[this.#place.index];
  }

  /** The key at the cursor, `undefined` at the end. */
  get key(): TreeKey | undefined {
    return this.#key;
  }

  advance(): void {
    if (this.#key === undefined) return;
    const place = this.#place;
    if (place.revision !== this.#overlay.revision) this.#place = this.#overlay.place(this.#key, true);
    else if (++place.index >= (place.blocks[place.block]?.length ?? 0)) {
      place.block++;
      place.index = 0;
    }
    this.#key = this.#place.blocks[this.#place.block]?.[this.#place.index];
  }
}

function lowerBound(keys: readonly TreeKey[], key: TreeKey): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function upperBound(keys: readonly TreeKey[], key: TreeKey): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}
