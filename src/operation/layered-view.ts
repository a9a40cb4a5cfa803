/**
 * One sorted key space made of layers: overlays, newest first, over the tree (doc/concurrency.md, "Layers"). The newest
 * mention of a key wins; a deletion hides what is below. `TransactionView` adds an overlay with the changes of a single
 * operation.
 */
import type { TreeKey } from '../meta/key.js';
import { Overlay, type OverlayCursor } from './overlay.js';
import type { ReadView, Transaction } from './view.js';

/** The bottom: a tree at one root. Its methods throw PageFault. */
export interface BaseView {
  get(key: TreeKey): Uint8Array | undefined;
  scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]>;
  /** The greatest entry with `from <= key <= to`. */
  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined;
}

export const emptyBase: BaseView = {
  get: () => undefined,
  scan: () => [][Symbol.iterator](),
  floor: () => undefined,
};

export class LayeredView implements ReadView {
  readonly #overlays: readonly Overlay[];
  readonly #base: BaseView;

  /** `overlays`: newest first. They may keep changing; a scan sees changes ahead of it. */
  constructor(overlays: readonly Overlay[], base: BaseView) {
    this.#overlays = overlays;
    this.#base = base;
  }

  get(key: TreeKey): Uint8Array | undefined {
    for (const overlay of this.#overlays) {
      const value = overlay.get(key);
      if (value !== undefined) return value ?? undefined;
    }
    return this.#base.get(key);
  }

  *scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]> {
    const overlays = this.#overlays.filter((overlay) => overlay.count > 0);
    const cursors = overlays.map((overlay) => overlay.cursor(from));
    const base = this.#base.scan(from, to);
    let below = base.next();
    for (;;) {
      const top = lowest(cursors, to);
      const key = cursors[top]?.key;
      if (key === undefined) {
        if (below.done) return;
        yield below.value;
        below = base.next();
        continue;
      }
      if (!below.done && below.value[0] < key) {
        yield below.value;
        below = base.next();
        continue;
      }
      const value = overlays[top]?.get(key);
      if (!below.done && below.value[0] === key) below = base.next();
      for (const cursor of cursors) if (cursor.key === key) cursor.advance();
      if (value) yield [key, value];
    }
  }

  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined {
    // If the candidate is deleted, the search continues below it; long runs of deletions are rare.
    for (let bound = to; ; ) {
      let best: TreeKey | undefined;
      for (const overlay of this.#overlays) {
        const key = overlay.floorKey(from, bound);
        if (key !== undefined && (best === undefined || key > best)) best = key;
      }
      const below = this.#base.floor(from, bound);
      if (below && (best === undefined || below[0] > best)) return below;
      if (best === undefined) return undefined;
      const value = this.get(best);
      if (value) return [best, value];
      bound = predecessor(best);
      if (bound < from) return undefined;
    }
  }
}

/** Index of the cursor with the smallest key below `to`, the newest of equals; -1 when all are past it. */
function lowest(cursors: readonly OverlayCursor[], to: TreeKey): number {
  let best = -1;
  let bestKey: TreeKey | undefined;
  // Once for each entry of a scan, so without an iterator.
  for (let index = 0; index < cursors.length; index++) {
    const { key } = cursors[index]!;
    if (key !== undefined && key < to && (bestKey === undefined || key < bestKey)) {
      best = index;
      bestKey = key;
    }
  }
  return best;
}

/** A key just below `key` and above every shorter or smaller key that can exist (names are at most 255 bytes). */
function predecessor(key: TreeKey): TreeKey {
  const last = key.charCodeAt(key.length - 1);
  const head = key.slice(0, -1);
  return (last === 0 ? head : head + String.fromCharCode(last - 1) + '\xff'.repeat(256)) as TreeKey;
}

/**
 * The view of one operation and its changes. Nothing reaches the layers below until the caller absorbs {@link changes}.
 */
export class TransactionView implements Transaction {
  readonly changes = new Overlay();
  readonly #layers: LayeredView;

  constructor(overlays: readonly Overlay[], base: BaseView) {
    this.#layers = new LayeredView([this.changes, ...overlays], base);
  }

  get(key: TreeKey): Uint8Array | undefined {
    return this.#layers.get(key);
  }

  scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]> {
    return this.#layers.scan(from, to);
  }

  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined {
    return this.#layers.floor(from, to);
  }

  put(key: TreeKey, value: Uint8Array): void {
    this.changes.set(key, value);
  }

  delete(key: TreeKey): void {
    this.changes.set(key, null);
  }
}
