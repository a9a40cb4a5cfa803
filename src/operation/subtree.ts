/**
 * Walks a single file or everything below a directory, in steps that each show one instant, for pins and `status PATH`
 * (doc/concurrency.md, "One instant"). It reads metadata only, and may or may not see changes made meanwhile.
 */

import type { MaybePromise } from '../base/maybe-promise.js';
import type { DataExtent } from '../meta/extent.js';
import { type Inode, isDirectory, isRegular } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { readInode, scanEntries, scanExtents } from './inode-view.js';
import type { ReadView } from './view.js';

/** Like Volume.read. */
export type Query = <T>(query: (view: ReadView) => T) => MaybePromise<T>;

export interface FoundInode {
  readonly ino: Ino;
  readonly inode: Inode;
}

const entriesPerStep = 256;
const extentsPerStep = 1024;

/**
 * `root` and everything below it, in batches; each inode once. Ends at once when there is no such inode. Rejects with
 * VolumeError and the signal's reason.
 */
export async function* walkSubtree(read: Query, root: Ino, signal?: AbortSignal): AsyncGenerator<readonly FoundInode[], void> {
  const top = await read((view) => readInode(view, root));
  if (!top) return;
  yield [{ ino: root, inode: top }];
  const directories: Ino[] = isDirectory(top) ? [root] : [];
  // A file with several names is visited once; directories have one name.
  const linked = new Set<Ino>();
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const here = directory;
    for (let after: number | undefined = 0; after !== undefined; ) {
      const from: number = after;
      signal?.throwIfAborted();
      const step = await read((view) => readEntries(view, here, from));
      const found: FoundInode[] = [];
      for (const one of step.found) {
        if (isDirectory(one.inode)) directories.push(one.ino);
        else if (one.inode.nlink > 1) {
          if (linked.has(one.ino)) continue;
          linked.add(one.ino);
        }
        found.push(one);
      }
      yield found;
      after = step.last;
    }
  }
}

function readEntries(view: ReadView, directory: Ino, after: number): { found: FoundInode[]; last: number | undefined } {
  const found: FoundInode[] = [];
  let count = 0;
  for (const { number, ino } of scanEntries(view, directory, after)) {
    const inode = readInode(view, ino);
    if (inode) found.push({ ino, inode });
    if (++count === entriesPerStep) return { found, last: number };
  }
  return { found, last: undefined };
}

/** The file's extents that hold data, ascending, in batches. */
export async function* dataExtentsOf(read: Query, ino: Ino, inode: Inode, signal?: AbortSignal): AsyncGenerator<readonly DataExtent[], void> {
  if (!isRegular(inode) || inode.inline.byteLength > 0) return;
  for (let from = 0; from < inode.size; ) {
    signal?.throwIfAborted();
    const start = from;
    const step = await read((view) => {
      const extents: DataExtent[] = [];
      let end = start;
      for (const { offset, extent } of scanExtents(view, ino, start, inode.size)) {
        if (extent.kind === 'data') extents.push(extent);
        end = offset + extent.length;
        if (extents.length === extentsPerStep) return { extents, end };
      }
      return { extents, end: inode.size };
    });
    if (step.extents.length > 0) yield step.extents;
    from = Math.max(step.end, from + 1);
  }
}
