/**
 * Finds the way from an inode up to the root. It works on any view and keeps nothing (doc/format.md, "Tree keys").
 */
import type { ByteString } from '../base/brand.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { type Ino, rootIno } from '../meta/key.js';
import { findEntry, lookup, readInode } from './inode-view.js';
import type { ReadView } from './view.js';

/** The deepest nesting of folders that is followed. */
const pathDepthMax = 4096;

/**
 * Whether `is` accepts the inode or a directory above it. For a file with several names, its most recent directory
 * counts.
 */
export function hasAncestor(view: ReadView, ino: Ino, is: (ino: Ino) => boolean): boolean {
  let at = ino;
  for (let step = 0; step < pathDepthMax; step++) {
    if (is(at)) return true;
    const parent = readInode(view, at)?.parent ?? 0;
    if (parent === 0 || parent === at) return false;
    at = parent;
  }
  return false;
}

/** A path from the root, with a leading slash; `undefined` when there is none. `hint`: a former name. */
export async function pathOf(
  read: <T>(query: (view: ReadView) => T) => MaybePromise<T>,
  ino: Ino,
  hint?: { readonly parent: Ino; readonly name: ByteString },
): Promise<ByteString | undefined> {
  const names: ByteString[] = [];
  let at = ino;
  for (let depth = 0; at !== rootIno; depth++) {
    if (depth === pathDepthMax) return undefined;
    const child = at;
    const step = await read((view) => {
      if (hint && child === ino && lookup(view, hint.parent, hint.name)?.ino === ino) return hint;
      const parent = readInode(view, child)?.parent ?? 0;
      if (parent === 0) return undefined;
      const entry = findEntry(view, parent, child);
      return entry && { parent, name: entry.name };
    });
    if (!step) return undefined;
    names.push(step.name);
    at = step.parent;
  }
  return `/${names.toReversed().join('/')}`;
}
