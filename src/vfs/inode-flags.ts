/**
 * The flags of chattr(1): immutable, append-only, no atime (doc/semantics.md). What they forbid is in `protection.ts`.
 * The kernel has checked who may set them (the owner, and CAP_LINUX_IMMUTABLE for the first two).
 */
import type { MaybePromise } from '../base/maybe-promise.js';
import { FS_APPEND_FL, FS_IMMUTABLE_FL, FS_NOATIME_FL } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { ReadableVolume } from '../volume/readable-volume.js';
import type { Volume } from '../volume/volume.js';
import { heldInode } from './protection.js';
import { VfsError } from './vfs-error.js';

const keptFlags = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NOATIME_FL;

export function getInodeFlags(volume: ReadableVolume, ino: Ino): MaybePromise<number> {
  return volume.read((view) => heldInode(volume, view, ino).flags & keptFlags);
}

/** EOPNOTSUPP for a flag that would mean nothing here. */
export function setInodeFlags(volume: Volume, ino: Ino, flags: number): MaybePromise<void> {
  if ((flags & ~keptFlags) !== 0) throw new VfsError('EOPNOTSUPP', 'a flag that is not kept');
  const time = volume.now();
  return volume.transact((view) => {
    const inode = heldInode(volume, view, ino);
    const isSame = (inode.flags & keptFlags) === flags;
    return { operation: isSame ? undefined : { type: 'setattr', ino, flags: (inode.flags & ~keptFlags) | flags, time }, result: undefined };
  });
}
