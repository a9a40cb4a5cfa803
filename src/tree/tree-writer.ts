/** Makes a new tree of an old one and sorted changes: skeleton, the signatures only. */
import type { Plaintext } from '../base/brand.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from './tree-reader.js';

/** Where new pages go: a pack writer, or what rotates packs. */
export interface PageSink {
  appendPage(page: Plaintext): Promise<PageReference>;
}

/** `undefined` deletes. */
export type TreeChange = readonly [key: string, value: Uint8Array | undefined];

/** Applies `changes` (ascending, no key twice) to the tree at `root`; answers the new root, `undefined` when nothing is left. */
export declare function applyBatch(
  reader: TreeReader,
  root: PageReference | undefined,
  changes: Iterable<TreeChange> | AsyncIterable<TreeChange>,
  sink: PageSink,
): Promise<PageReference | undefined>;
