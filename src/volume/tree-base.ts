/** A tree at one root as the bottom of a view (doc/concurrency.md, "Layers"). */
import type { TreeKey } from '../meta/key.js';
import type { BaseView } from '../operation/layered-view.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from '../tree/tree-reader.js';

/** A root of `undefined` is the empty tree. */
export function treeBase(tree: TreeReader, root: PageReference | undefined): BaseView {
  return {
    get: (key) => tree.get(root, key),
    scan: (from, to) => tree.scan(root, from, to) as IterableIterator<readonly [TreeKey, Uint8Array]>,
    floor: (from, to) => tree.floor(root, from, to) as readonly [TreeKey, Uint8Array] | undefined,
  };
}
