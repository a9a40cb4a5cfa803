/**
 * Executes the operations on names: create, link, unlink, rmdir, rename, reclaim. Each checks everything before it
 * writes anything. `vfs` handles permissions, sticky bits and mount options; `rebase-rules.ts` handles conflicts with
 * other devices (doc/semantics.md, "Names").
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { type Inode, isDirectory, isSymlink, S_IFCHR, S_IFDIR, S_IFMT } from '../meta/inode.js';
import { deviceIndexOf, type Ino, rootIno, xattrKey } from '../meta/key.js';
import { checkName, type Execution, nlinkMax } from './execution.js';
import { isEmptyDirectory, lookup, readInode, requireInode, scanXattrs } from './inode-view.js';
import {
  type CreateOperation,
  fileSizeMax,
  type LinkOperation,
  OperationError,
  type ReclaimOperation,
  type RenameOperation,
  type RmdirOperation,
  type UnlinkOperation,
} from './operation.js';
import { cutExtents } from './operation-content.js';
import { checkXattr, xattrListBytes, xattrListBytesMax } from './operation-xattr.js';
import type { ReadView } from './view.js';

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

const linkTargetMax = 4095;
const noBytes = new Uint8Array(0) as Plaintext;

export function executeCreate(run: Execution, operation: CreateOperation): void {
  const { parent, name, ino, mode, time } = operation;
  const directory = run.requireDirectory(parent);
  if (name !== undefined) {
    checkName(name);
    if (lookup(run.view, parent, name)) throw new OperationError('EEXIST', 'the name is taken');
  }
  for (const [xattr, value] of operation.xattrs) checkXattr(xattr, value);
  if (xattrListBytes(operation.xattrs.map(([xattr]) => xattr)) > xattrListBytesMax) throw new OperationError('E2BIG', 'too many attributes');
  const isDir = (mode & S_IFMT) === S_IFDIR;
  assert(!isDir || name !== undefined, 'a directory is made with a name');
  if (isDir && directory.nlink >= nlinkMax) throw new OperationError('EMLINK', 'too many subdirectories');
  const target = operation.target ?? '';
  if (isSymlink({ mode } as Inode) && target.length === 0) throw new OperationError('ENOENT', 'a link has a target');
  if (target.length > linkTargetMax) throw new OperationError('ENAMETOOLONG', 'a link target has at most 4,095 bytes');

  const inline = target.length === 0 ? noBytes : (Buffer.from(target, 'latin1') as Uint8Array as Plaintext);
  run.createInode(ino, {
    mode,
    nlink: name === undefined ? 0 : isDir ? 2 : 1,
    uid: operation.uid,
    gid: operation.gid,
    rdev: operation.rdev,
    flags: 0,
    size: inline.byteLength,
    allocated: inline.byteLength,
    generation: 0,
    parent: name === undefined ? 0 : parent,
    atime: time,
    mtime: time,
    ctime: time,
    btime: time,
    stamp: { deviceIndex: deviceIndexOf(ino), counter: 0 },
    inline,
  });
  for (const [xattr, value] of operation.xattrs) run.view.put(xattrKey(ino, xattr), value);
  if (name === undefined) {
    run.putOrphan(ino);
    return;
  }
  run.putEntry(parent, { name, ino, type: mode & S_IFMT, number: operation.number ?? ino });
  run.touchDirectory(parent, time, isDir ? 1 : 0);
}

/**
 * Also gives orphans a name: O_TMPFILE files and (only in a rebase) what another device removed, including directories.
 */
export function executeLink(run: Execution, operation: LinkOperation): void {
  const { ino, parent, name, number, time } = operation;
  const directory = run.requireDirectory(parent);
  checkName(name);
  const inode = requireInode(run.view, ino);
  if (lookup(run.view, parent, name)) throw new OperationError('EEXIST', 'the name is taken');
  const isDir = isDirectory(inode);
  const wasOrphan = run.isOrphan(ino);
  if (isDir && !wasOrphan) throw new OperationError('EPERM', 'a directory has one name');
  if (inode.nlink === 0 && !wasOrphan) throw new OperationError('ENOENT', 'the inode was removed');
  if (inode.nlink >= nlinkMax || (isDir && directory.nlink >= nlinkMax)) throw new OperationError('EMLINK', 'too many links');
  // A removed directory is empty, but only the walk up from the parent makes a cycle impossible.
  if (isDir && isInside(run.view, parent, ino)) throw new OperationError('EINVAL', 'a directory cannot be inside itself');

  if (wasOrphan) run.deleteOrphan(ino);
  run.changeInode(ino, () => ({ nlink: isDir ? 2 : inode.nlink + 1, parent, ctime: time }));
  run.putEntry(parent, { name, ino, type: inode.mode & S_IFMT, number });
  run.touchDirectory(parent, time, isDir ? 1 : 0);
}

export function executeUnlink(run: Execution, operation: UnlinkOperation): void {
  const { parent, name, ino, time } = operation;
  run.requireDirectory(parent);
  const entry = lookup(run.view, parent, name);
  if (!entry || entry.ino !== ino) throw new OperationError('ENOENT', 'the name is gone');
  if (isDirectory(requireInode(run.view, ino))) throw new OperationError('EISDIR', 'a directory is removed by rmdir');

  run.deleteEntry(parent, { name, number: entry.number });
  run.touchDirectory(parent, time, 0);
  dropLink(run, operation);
}

export function executeRmdir(run: Execution, operation: RmdirOperation): void {
  const { parent, name, ino, time } = operation;
  run.requireDirectory(parent);
  const entry = lookup(run.view, parent, name);
  if (!entry || entry.ino !== ino) throw new OperationError('ENOENT', 'the name is gone');
  if (!isDirectory(requireInode(run.view, ino))) throw new OperationError('ENOTDIR', 'not a directory');
  if (!isEmptyDirectory(run.view, ino)) throw new OperationError('ENOTEMPTY', 'the directory is not empty');

  run.deleteEntry(parent, { name, number: entry.number });
  run.touchDirectory(parent, time, -1);
  dropLink(run, operation);
}

/**
 * Removes one name. An inode without names stays as an orphan until nobody uses it: a file may be open, a directory may
 * be the cwd of a process.
 */
function dropLink(run: Execution, { ino, time }: { readonly ino: Ino; readonly time: RmdirOperation['time'] }): void {
  const inode = requireInode(run.view, ino);
  const nlink = isDirectory(inode) ? 0 : inode.nlink - 1;
  run.changeInode(ino, () => ({ nlink, ctime: time }));
  if (nlink === 0) run.putOrphan(ino);
}

export function executeRename(run: Execution, operation: RenameOperation): void {
  const { view } = run;
  const { parent, name, newParent, newName, flags, ino, replacedIno, time } = operation;
  const exchange = (flags & RENAME_EXCHANGE) !== 0;
  const whiteout = (flags & RENAME_WHITEOUT) !== 0;
  if (flags > 7 || (exchange && (flags & ~RENAME_EXCHANGE) !== 0)) throw new OperationError('EINVAL', 'flags that exclude each other');
  assert(!whiteout || operation.whiteoutIno !== undefined, 'a whiteout needs an inode number');
  run.requireDirectory(parent);
  const newDirectory = run.requireDirectory(newParent);
  checkName(name);
  checkName(newName);
  const entry = lookup(view, parent, name);
  if (!entry || entry.ino !== ino) throw new OperationError('ENOENT', 'the name is gone');
  const replaced = lookup(view, newParent, newName);
  if (replaced && (flags & RENAME_NOREPLACE) !== 0) throw new OperationError('EEXIST', 'the new name is taken');
  if (!replaced && exchange) throw new OperationError('ENOENT', 'there is nothing to exchange with');
  // Two names of one inode: POSIX requires that nothing happens.
  if (replaced?.ino === ino) return;
  if (replaced && replaced.ino !== replacedIno) throw new OperationError('EEXIST', 'something else took the new name');
  const inode = requireInode(view, ino);
  const isDir = isDirectory(inode);
  if (isDir && isInside(view, newParent, ino)) throw new OperationError('EINVAL', 'a directory cannot move into itself');
  const replacedInode = replaced && requireInode(view, replaced.ino);
  const replacedIsDir = replacedInode !== undefined && isDirectory(replacedInode);
  if (replaced && exchange) {
    if (replacedIsDir && isInside(view, parent, replaced.ino)) throw new OperationError('EINVAL', 'a directory cannot move into itself');
  } else if (replaced) {
    if (isDir && !replacedIsDir) throw new OperationError('ENOTDIR', 'a directory cannot replace a file');
    if (!isDir && replacedIsDir) throw new OperationError('EISDIR', 'a file cannot replace a directory');
    if (replacedIsDir && !isEmptyDirectory(view, replaced.ino)) throw new OperationError('ENOTEMPTY', 'the directory to replace is not empty');
  }
  if (isDir && parent !== newParent && newDirectory.nlink >= nlinkMax) throw new OperationError('EMLINK', 'too many subdirectories');

  const dirs = isDir ? 1 : 0;
  const replacedDirs = replacedIsDir ? 1 : 0;
  // A name that was there keeps its number, so that a listing that is under way gives it once, as local disks do;
  // otherwise the number goes with the entry.
  run.deleteEntry(parent, { name, number: entry.number });
  run.putEntry(newParent, { name: newName, ino, type: inode.mode & S_IFMT, number: replaced?.number ?? entry.number });
  run.changeInode(ino, () => ({ parent: newParent, ctime: time }));
  if (replaced && replacedInode && exchange) {
    run.putEntry(parent, { name, ino: replaced.ino, type: replacedInode.mode & S_IFMT, number: entry.number });
    run.changeInode(replaced.ino, () => ({ parent, ctime: time }));
    run.touchDirectory(parent, time, replacedDirs - dirs);
    run.touchDirectory(newParent, time, dirs - replacedDirs);
    return;
  }
  if (replaced) dropLink(run, { ino: replaced.ino, time });
  if (operation.whiteoutIno !== undefined && whiteout) {
    const { uid, gid } = inode;
    run.createInode(operation.whiteoutIno, whiteoutInode(operation.whiteoutIno, { uid, gid, parent, time }));
    run.putEntry(parent, { name, ino: operation.whiteoutIno, type: S_IFCHR, number: operation.whiteoutIno });
  }
  run.touchDirectory(parent, time, -dirs);
  run.touchDirectory(newParent, time, dirs - replacedDirs);
}

/** The marker that overlayfs uses for a deleted entry: a character device 0:0. */
function whiteoutInode(ino: Ino, { uid, gid, parent, time }: Pick<Inode, 'uid' | 'gid' | 'parent'> & { readonly time: Inode['ctime'] }): Inode {
  const stamp = { deviceIndex: deviceIndexOf(ino), counter: 0 };
  const times = { atime: time, mtime: time, ctime: time, btime: time };
  return { mode: S_IFCHR, nlink: 1, uid, gid, rdev: 0, flags: 0, size: 0, allocated: 0, generation: 0, parent, ...times, stamp, inline: noBytes };
}

/** Whether `directory` is `ancestor` or below it. A directory's `parent` is exact, so the walk ends at the root. */
export function isInside(view: ReadView, directory: Ino, ancestor: Ino): boolean {
  for (let at: Ino = directory; ; ) {
    if (at === ancestor) return true;
    if (at === rootIno) return false;
    const inode = readInode(view, at);
    if (!inode || inode.parent === 0 || inode.parent === at) return false;
    at = inode.parent;
  }
}

export function executeReclaim(run: Execution, { ino }: ReclaimOperation): void {
  const inode = readInode(run.view, ino);
  if (!inode || inode.nlink !== 0 || !run.isOrphan(ino)) return;
  cutExtents(run.view, ino, 0, fileSizeMax);
  const xattrs = [...scanXattrs(run.view, ino)];
  for (const [name] of xattrs) run.view.delete(xattrKey(ino, name));
  run.deleteInode(ino, inode);
  run.deleteOrphan(ino);
}
