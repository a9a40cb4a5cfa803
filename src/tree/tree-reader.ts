/** Reads of a tree, synchronous over pages in memory: skeleton, the signatures only. */
import type { Plaintext } from '../base/brand.js';
import type { PageReference } from '../pack/page-reference.js';

export interface PageSource {
  readPage(reference: PageReference): Promise<Plaintext>;
}

export declare class TreeReader {
  constructor(pages: PageSource, options?: { readonly cacheMax?: number });
  /** The value, borrowed; `undefined` root: the empty tree. Throws PageFault; its `load` rejects with TreeError, PackError, StoreError. */
  get(root: PageReference | undefined, key: string): Uint8Array | undefined;
  /** Entries with `from <= key < to`, ascending; values borrowed. Throws PageFault. */
  scan(root: PageReference | undefined, from: string, to: string): IterableIterator<readonly [string, Uint8Array]>;
  /** The greatest entry with `from <= key <= to`. Throws PageFault. */
  floor(root: PageReference | undefined, from: string, to: string): readonly [string, Uint8Array] | undefined;
}
