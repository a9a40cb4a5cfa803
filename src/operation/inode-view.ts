/**
 * Reads inodes, directory entries and extents through a {@link ReadView}: decoded, synchronous, nothing cached. It
 * knows the tree's keys and values (doc/format.md, "Tree keys") but no operations; `operation-*.ts` change them.
 */
import type { ByteString } from '../base/brand.js';
import { type Dirent, decodeDirent, decodeNumbered, type NamedDirent } from '../meta/dirent.js';
import { decodeExtent, type Extent } from '../meta/extent.js';
import { decodeInode, type Inode } from '../meta/inode.js';
import {
  decodeKey,
  direntEnd,
  direntKey,
  extentEnd,
  extentKey,
  type Ino,
  inodeKey,
  numberedEnd,
  numberedKey,
  numberIn,
  type TreeKey,
  xattrEnd,
  xattrKey,
} from '../meta/key.js';
import { OperationError } from './operation.js';
import type { ReadView } from './view.js';

export interface PlacedExtent {
  readonly offset: number;
  readonly extent: Extent;
}

export function readInode(view: ReadView, ino: Ino): Inode | undefined {
  const value = view.get(inodeKey(ino));
  return value === undefined ? undefined : decodeInode(value);
}

/** Throws ESTALE when there is no such inode (any more). */
export function requireInode(view: ReadView, ino: Ino): Inode {
  const inode = readInode(view, ino);
  if (inode === undefined) throw new OperationError('ESTALE', 'the inode is gone');
  return inode;
}

export function lookup(view: ReadView, parent: Ino, name: ByteString): Dirent | undefined {
  const value = view.get(direntKey(parent, name));
  return value === undefined ? undefined : decodeDirent(value);
}

/** The directory's entries, without `.` and `..`, by ascending number; only those with numbers above `after`. */
export function* scanEntries(view: ReadView, directory: Ino, after = 0): IterableIterator<NamedDirent> {
  for (const [key, value] of view.scan(numberedKey(directory, after + 1), numberedEnd(directory))) yield decodeNumbered(numberIn(key), value);
}

/** The directory's entries in the byte order of their names. */
export function* scanNames(view: ReadView, directory: Ino): IterableIterator<NamedDirent> {
  for (const [key, value] of view.scan(direntKey(directory, ''), direntEnd(directory))) yield { ...decodeDirent(value), name: key.slice(9) };
}

/** An entry of the directory that names the inode. */
export function findEntry(view: ReadView, directory: Ino, ino: Ino): NamedDirent | undefined {
  // Most entries have the number of their inode.
  const value = view.get(numberedKey(directory, ino));
  const likely = value && decodeNumbered(ino, value);
  if (likely?.ino === ino) return likely;
  for (const entry of scanEntries(view, directory)) if (entry.ino === ino) return entry;
  return undefined;
}

export function isEmptyDirectory(view: ReadView, directory: Ino): boolean {
  for (const _ of view.scan(direntKey(directory, ''), direntEnd(directory))) return false;
  return true;
}

const offsetOf = (key: TreeKey): number => {
  const decoded = decodeKey(key);
  return decoded.type === 'extent' ? decoded.offset : 0;
};

/**
 * The whole extents that cover any byte from `from` to `to` (exclusive), ascending: the first may begin before `from`,
 * the last end after `to`.
 */
export function* scanExtents(view: ReadView, ino: Ino, from: number, to: number): IterableIterator<PlacedExtent> {
  if (to <= from) return;
  const before = from > 0 ? view.floor(extentKey(ino, 0), extentKey(ino, from - 1)) : undefined;
  if (before !== undefined) {
    const offset = offsetOf(before[0]);
    const extent = decodeExtent(before[1]);
    if (offset + extent.length > from) yield { offset, extent };
  }
  // An inode's keys end below extentEnd; a `to` of 2^53 - 1 still encodes.
  const end = to >= Number.MAX_SAFE_INTEGER ? extentEnd(ino) : extentKey(ino, to);
  for (const [key, value] of view.scan(extentKey(ino, from), end)) yield { offset: offsetOf(key), extent: decodeExtent(value) };
}

/** Names and values (borrowed) of the extended attributes, in byte order. */
export function* scanXattrs(view: ReadView, ino: Ino): IterableIterator<readonly [name: ByteString, value: Uint8Array]> {
  for (const [key, value] of view.scan(xattrKey(ino, ''), xattrEnd(ino))) yield [key.slice(9), value];
}
