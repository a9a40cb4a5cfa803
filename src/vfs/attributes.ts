/** What stat(2) shows of an inode (doc/semantics.md, "Attributes"). */
import type { Timespec } from '../base/clock.js';
import { type Inode, isRegular } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';

/** `size` in bytes, `blocks` in units of 512 bytes. */
export interface InodeAttributes {
  readonly ino: Ino;
  readonly generation: number;
  readonly size: number;
  readonly blocks: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  readonly btime: Timespec;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
}

/**
 * The size in which programs should read and write: stdio, Python and cat allocate a buffer of it for each open file,
 * so it is not the chunk's 256 KiB, which cp uses anyway (its own minimum). It is small enough to be harmless, and
 * large enough that calls do not dominate.
 */
export const preferredBlockSize = 131072;

/**
 * A regular file never shows 0 blocks: tar -S would take it for one hole without looking, while its data may still be
 * in the kernel's cache, of which we know nothing. (The inode itself takes space, so 1 is not untrue.) Space is counted
 * in blocks of 4 KiB, as on a disk.
 */
function blocksOf(inode: Inode): number {
  const blocks = Math.ceil(inode.allocated / 4096) * 8;
  return blocks === 0 && isRegular(inode) ? 1 : blocks;
}

/** `atime` may be later than what the inode holds. */
export function attributesOf(ino: Ino, inode: Inode, atime: Timespec): InodeAttributes {
  return {
    ino,
    generation: inode.generation,
    size: inode.size,
    blocks: blocksOf(inode),
    atime,
    mtime: inode.mtime,
    ctime: inode.ctime,
    btime: inode.btime,
    mode: inode.mode,
    nlink: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    rdev: inode.rdev,
    blksize: preferredBlockSize,
  };
}
