/**
 * How code looks at the volume's key space: synchronously, or not at all.
 *
 * A query or an operation is a synchronous function over a view. When a page that it needs is not in memory the view throws a
 * PageFault; whoever runs the function loads the page and runs the function again from its start. So everything between two
 * reads of one function happens at one instant, there are no locks on metadata, and the same function runs again when operations
 * are rebased onto a newer commit (doc/concurrency.md).
 */
import type { TreeKey } from '../meta/key.js';

export interface ReadView {
  /** The value, borrowed (do not change it), or `undefined`. Throws PageFault. */
  get(key: TreeKey): Uint8Array | undefined;
  /** Entries with `from <= key < to`, ascending. Throws PageFault on any step. */
  scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]>;
  /** The greatest entry with `from <= key <= to`, such as the extent that begins at or before an offset. Throws PageFault. */
  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined;
}

/** A view that one operation changes; the changes appear together when the operation returns, and not at all when it throws. */
export interface Transaction extends ReadView {
  put(key: TreeKey, value: Uint8Array): void;
  delete(key: TreeKey): void;
}
