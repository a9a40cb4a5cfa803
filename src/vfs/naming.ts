/**
 * Adds, removes and moves names: link, unlink, rmdir, rename. The inodes behind the names are read in the instant in
 * which the operation runs and are part of it: after a rebase, only those may be removed or replaced (doc/semantics.md,
 * "Conflicts").
 */
import type { ByteString } from '../base/brand.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { type Inode, isDirectory } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { ReadView } from '../operation/view.js';
import type { Volume } from '../volume/volume.js';
import { heldDirectory, heldInode, inoNamed, mayAddName, mayOverwrite, mayRemoveName } from './protection.js';
import { VfsError } from './vfs-error.js';

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** What a name stood for until it was taken away. */
export interface Removed {
  readonly ino: Ino;
  /** It was the last name: the inode is an orphan now. */
  readonly orphaned: boolean;
}

export interface Renamed {
  readonly ino: Ino;
  /** The inode that had the new name: it was replaced or, with `RENAME_EXCHANGE`, has the old name now. */
  readonly other: Ino | undefined;
  /** `other` lost its last name. */
  readonly orphaned: boolean;
}

function named(volume: Volume, view: ReadView, parent: Ino, name: ByteString): { readonly ino: Ino; readonly inode: Inode } {
  const ino = inoNamed(view, parent, name);
  if (ino === undefined) throw new VfsError('ENOENT', 'no such name');
  return { ino, inode: heldInode(volume, view, ino) };
}

const losesLastName = (inode: Inode): boolean => isDirectory(inode) || inode.nlink <= 1;

/** Gives an inode one more name; this is also how an O_TMPFILE inode comes into the tree. */
export function link(volume: Volume, ino: Ino, newParent: Ino, newName: ByteString): MaybePromise<void> {
  const time = volume.now();
  const number = volume.allocateIno();
  return volume.transact((view) => {
    mayAddName(heldDirectory(volume, view, newParent));
    const inode = heldInode(volume, view, ino);
    if (isDirectory(inode)) throw new VfsError('EPERM', 'a directory has one name');
    mayOverwrite(inode);
    if (inoNamed(view, newParent, newName) !== undefined) throw new VfsError('EEXIST', 'the name is taken');
    return { operation: { type: 'link', ino, parent: newParent, name: newName, number, time }, result: undefined };
  });
}

export function unlink(volume: Volume, parent: Ino, name: ByteString): MaybePromise<Removed> {
  const time = volume.now();
  return volume.transact((view) => {
    const { ino, inode } = named(volume, view, parent, name);
    mayRemoveName(heldDirectory(volume, view, parent), inode);
    if (isDirectory(inode)) throw new VfsError('EISDIR', 'a directory is removed by rmdir');
    return { operation: { type: 'unlink', parent, name, ino, time }, result: { ino, orphaned: losesLastName(inode) } };
  });
}

export function rmdir(volume: Volume, parent: Ino, name: ByteString): MaybePromise<Removed> {
  const time = volume.now();
  return volume.transact((view) => {
    const { ino, inode } = named(volume, view, parent, name);
    mayRemoveName(heldDirectory(volume, view, parent), inode);
    if (!isDirectory(inode)) throw new VfsError('ENOTDIR', 'not a directory');
    return { operation: { type: 'rmdir', parent, name, ino, time }, result: { ino, orphaned: true } };
  });
}

export function rename(volume: Volume, parent: Ino, name: ByteString, newParent: Ino, newName: ByteString, flags: number): MaybePromise<Renamed> {
  const exchange = (flags & RENAME_EXCHANGE) !== 0;
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0 || (exchange && flags !== RENAME_EXCHANGE)) {
    throw new VfsError('EINVAL', 'rename flags that do not go together');
  }
  const time = volume.now();
  const whiteoutIno = (flags & RENAME_WHITEOUT) === 0 ? undefined : volume.allocateIno();
  return volume.transact((view) => {
    const { ino, inode } = named(volume, view, parent, name);
    mayRemoveName(heldDirectory(volume, view, parent), inode);
    const newDirectory = heldDirectory(volume, view, newParent);
    const replacedIno = inoNamed(view, newParent, newName);
    let orphaned = false;
    if (replacedIno === undefined) {
      if (exchange) throw new VfsError('ENOENT', 'nothing to exchange with');
      mayAddName(newDirectory);
    } else {
      if ((flags & RENAME_NOREPLACE) !== 0) throw new VfsError('EEXIST', 'the name is taken');
      const replaced = heldInode(volume, view, replacedIno);
      mayRemoveName(newDirectory, replaced);
      orphaned = !exchange && replacedIno !== ino && losesLastName(replaced);
    }
    // For two names of one inode, rename(2) says that nothing happens, not even an error.
    const nothing = replacedIno === ino;
    return {
      operation: nothing ? undefined : { type: 'rename', parent, name, newParent, newName, flags, ino, replacedIno, whiteoutIno, time },
      result: { ino, other: nothing ? undefined : replacedIno, orphaned },
    };
  });
}
