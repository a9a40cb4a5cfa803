/**
 * What an inode refuses to every caller because of its immutable and append-only flags (chattr(1)), and the set-id bits
 * that it loses when content or owner changes. The kernel checks permission bits and ACLs (doc/semantics.md).
 */
import type { ByteString } from '../base/brand.js';
import { FS_APPEND_FL, FS_IMMUTABLE_FL, type Inode, isDirectory } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { lookup } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';
import type { ReadableVolume } from '../volume/readable-volume.js';
import type { Caller } from './caller.js';
import { VfsError } from './vfs-error.js';

export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;

/** The inode that the kernel holds a reference to. ESTALE if another device removed it. */
export function heldInode(volume: ReadableVolume, view: ReadView, ino: Ino): Inode {
  const inode = volume.inode(view, ino);
  if (inode === undefined) throw new VfsError('ESTALE', 'the inode is gone');
  return inode;
}

/** A directory in which names are looked up or changed. */
export function heldDirectory(volume: ReadableVolume, view: ReadView, ino: Ino): Inode {
  const inode = heldInode(volume, view, ino);
  if (!isDirectory(inode)) throw new VfsError('ENOTDIR', 'not a directory');
  return inode;
}

/** The inode that has this name in the directory, or `undefined`. */
export function inoNamed(view: ReadView, parent: Ino, name: ByteString): Ino | undefined {
  if (name.length > 255) throw new VfsError('ENAMETOOLONG', 'a name has at most 255 bytes');
  return lookup(view, parent, name)?.ino;
}

/** Refuses to add a name to an immutable directory. An append-only one takes new names. */
export function mayAddName(directory: Inode): void {
  if ((directory.flags & FS_IMMUTABLE_FL) !== 0) throw new VfsError('EPERM', 'the directory is immutable');
}

/** Refuses to remove a name from the directory, or a name of `inode`. */
export function mayRemoveName(directory: Inode, inode: Inode): void {
  if (((directory.flags | inode.flags) & (FS_IMMUTABLE_FL | FS_APPEND_FL)) !== 0) throw new VfsError('EPERM', 'immutable or append-only');
}

/** Refuses any change of an immutable inode. */
export function mayChange(inode: Inode): void {
  if ((inode.flags & FS_IMMUTABLE_FL) !== 0) throw new VfsError('EPERM', 'the inode is immutable');
}

/** Refuses a change of what an append-only or immutable inode already has. */
export function mayOverwrite(inode: Inode): void {
  if ((inode.flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) !== 0) throw new VfsError('EPERM', 'immutable or append-only');
}

/**
 * The mode without set-user-id and set-group-id, as the kernel computes it for local disks
 * (setattr_should_drop_suidgid): where the group may not execute, set-group-id means something else, and stays for a
 * caller who is in the group or may keep set-id bits anyway. Without `caller`, the drive itself asks. Pure.
 */
export function withoutSetId({ mode, gid }: Pick<Inode, 'mode' | 'gid'>, caller: Caller | undefined): number {
  const kept = mode & ~S_ISUID;
  if ((mode & S_ISGID) === 0) return kept;
  const meansLocking = (mode & S_IXGRP) === 0;
  const isMember = (): boolean => caller === undefined || caller.keepsSetId === true || (caller.isMemberOf?.(gid) ?? caller.gid === gid);
  return meansLocking && isMember() ? kept : kept & ~S_ISGID;
}
