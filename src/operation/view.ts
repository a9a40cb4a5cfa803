/**
 * The synchronous view of the volume's key space that queries and operations run on. If a page that they need is not in
 * memory, the view throws a PageFault; the caller loads the page and runs the function again from its start. Everything
 * that one function reads is therefore from one instant, metadata needs no locks, and the same function runs again when
 * operations are rebased onto a newer commit. It does not load pages itself (doc/concurrency.md, "One instant").
 */
import type { TreeKey } from '../meta/key.js';

export interface ReadView {
  /** The value, borrowed (do not change it), or `undefined`. Throws PageFault. */
  get(key: TreeKey): Uint8Array | undefined;
  /** Entries with `from <= key < to`, ascending. Throws PageFault on any step. */
  scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]>;
  /** The greatest entry with `from <= key <= to`, such as the extent that covers an offset. Throws PageFault. */
  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined;
}

/**
 * A view that one operation changes. The changes appear together when the operation returns, and not at all when it
 * throws.
 */
export interface Transaction extends ReadView {
  put(key: TreeKey, value: Uint8Array): void;
  delete(key: TreeKey): void;
}
