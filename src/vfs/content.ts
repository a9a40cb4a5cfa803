/**
 * The content of files: read, write, fallocate, lseek, copy_file_range (doc/semantics.md, "Content"). Offsets and
 * lengths are in bytes. There are no handles: an open file is nothing but the kernel's reference to the inode.
 */
import type { Timespec } from '../base/clock.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { FS_APPEND_FL, type Inode, isDirectory, isRegular } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { fileSizeMax, OperationError } from '../operation/operation.js';
import type { ReadableVolume } from '../volume/readable-volume.js';
import type { Volume } from '../volume/volume.js';
import type { AccessTimes } from './access-time.js';
import type { Caller } from './caller.js';
import { heldInode, mayChange, mayOverwrite, withoutSetId } from './protection.js';
import { dropSetId } from './setattr.js';
import { VfsError } from './vfs-error.js';

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_COLLAPSE_RANGE = 8;
export const FALLOC_FL_ZERO_RANGE = 16;
export const FALLOC_FL_INSERT_RANGE = 32;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** The size of one step of a copy that cannot share chunks, and of one clone operation. */
const copyStep = 1 << 20;
const cloneStep = 2 ** 30;

function requireRegular(inode: Inode): void {
  if (!isRegular(inode)) throw new VfsError(isDirectory(inode) ? 'EISDIR' : 'EINVAL', 'only regular files have content');
}

function regularInode(volume: ReadableVolume, ino: Ino): MaybePromise<Inode> {
  return volume.read((view) => {
    const inode = heldInode(volume, view, ino);
    requireRegular(inode);
    return inode;
  });
}

/** Up to `size` bytes, short only at the end of the file. The pieces are borrowed: use them at once. */
export function readFile(
  volume: ReadableVolume,
  accessTimes: AccessTimes | undefined,
  ino: Ino,
  offset: number,
  size: number,
  signal: AbortSignal | undefined,
): MaybePromise<readonly Uint8Array[]> {
  return andThen(regularInode(volume, ino), (inode) => {
    accessTimes?.note(ino, inode);
    return volume.readContent(ino, offset, size, signal);
  });
}

/** Writes all of `data`, which it owns from here on, or throws. */
export function writeFile(
  volume: Volume,
  caller: Caller,
  ino: Ino,
  offset: number,
  data: Uint8Array,
  time: Timespec | undefined,
  dropsSetId: boolean,
): MaybePromise<void> {
  if (offset + data.byteLength > fileSizeMax) throw new VfsError('EFBIG', 'files end at 2^53 - 1 bytes');
  return andThen(regularInode(volume, ino), (inode) => writeInto(volume, caller, ino, inode, offset, data, time, dropsSetId));
}

function writeInto(
  volume: Volume,
  caller: Caller,
  ino: Ino,
  inode: Inode,
  offset: number,
  data: Uint8Array,
  time: Timespec | undefined,
  dropsSetId: boolean,
): MaybePromise<void> {
  if ((inode.flags & FS_APPEND_FL) !== 0 && offset < inode.size) {
    return appendInto(volume, caller, ino, inode, offset, data, time, dropsSetId);
  }
  mayChange(inode);
  if (!dropsSetId || withoutSetId(inode, caller) === inode.mode) return volume.writeContent(ino, offset, data, time);
  return andThen(dropSetId(volume, caller, ino), () => volume.writeContent(ino, offset, data, time));
}

/**
 * Writes to an append-only file from before its end, since the kernel's writeback cache writes whole pages. Content
 * that was there already must be the same. EPERM.
 */
async function appendInto(
  volume: Volume,
  caller: Caller,
  ino: Ino,
  inode: Inode,
  offset: number,
  data: Uint8Array,
  time: Timespec | undefined,
  dropsSetId: boolean,
): Promise<void> {
  const present = Buffer.concat(await volume.readContent(ino, offset, Math.min(data.byteLength, inode.size - offset), caller.signal));
  mayChange(inode);
  if (present.compare(data, 0, present.byteLength) !== 0) throw new VfsError('EPERM', 'the file is append-only');
  const added = data.subarray(present.byteLength);
  if (added.byteLength > 0) await writeInto(volume, caller, ino, inode, offset + present.byteLength, added, time, dropsSetId);
}

/** `mode` of fallocate(2). EOPNOTSUPP for a combination that has no meaning here. */
export function allocate(volume: Volume, ino: Ino, offset: number, length: number, mode: number, time: Timespec | undefined): MaybePromise<void> {
  if (offset < 0 || length <= 0) throw new VfsError('EINVAL', 'a range to allocate begins in the file and is not empty');
  if (offset + length > fileSizeMax) throw new VfsError('EFBIG', 'files end at 2^53 - 1 bytes');
  const kind = mode & ~FALLOC_FL_KEEP_SIZE;
  const known = kind === 0 || kind === FALLOC_FL_ZERO_RANGE || kind === FALLOC_FL_COLLAPSE_RANGE || kind === FALLOC_FL_INSERT_RANGE;
  // Punching must keep the size (fallocate(2)); collapsing and inserting cannot.
  const punches = mode === (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  if (!punches && !(known && ((kind !== FALLOC_FL_COLLAPSE_RANGE && kind !== FALLOC_FL_INSERT_RANGE) || mode === kind))) {
    throw new VfsError('EOPNOTSUPP', 'fallocate mode that is not offered');
  }
  return andThen(volume.sealContent(ino), () => {
    const stamp = volume.nextStamp();
    return volume.transact((view) => {
      const inode = heldInode(volume, view, ino);
      if (!isRegular(inode)) throw new VfsError(isDirectory(inode) ? 'EISDIR' : 'ENXIO', 'only regular files have content');
      if (kind === 0) mayChange(inode);
      else mayOverwrite(inode);
      return { operation: { type: 'fallocate', ino, offset, length, mode, stamp, time }, result: undefined };
    });
  });
}

/**
 * Where data or a hole begins. ENXIO at or past the end, and before the beginning: the kernel passes on a negative
 * offset as a huge one.
 */
export function seekContent(volume: ReadableVolume, ino: Ino, offset: number, whence: number): MaybePromise<number> {
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new VfsError('EINVAL', 'only data and holes are sought here');
  if (offset < 0 || offset > fileSizeMax) throw new VfsError('ENXIO', 'outside of every file');
  return andThen(volume.seek(ino, offset, whence === SEEK_DATA ? 'data' : 'hole'), (found) => {
    if (found === undefined) throw new VfsError('ENXIO', 'past the end of the file');
    return found;
  });
}

/** A range of one file, to be copied to another file or to another place in the same one. */
export interface RangeCopy {
  readonly from: Ino;
  readonly fromOffset: number;
  readonly to: Ino;
  readonly toOffset: number;
  readonly length: number;
  /** The time of the change. Undefined: the caller sets the times itself. */
  readonly time: Timespec | undefined;
}

/**
 * Copies by sharing chunks, or byte for byte where that is not possible. Answers how much was copied: less than
 * `length` at the end of the source, or when the caller gave up in between.
 */
export async function copyRange(volume: Volume, copy: RangeCopy, signal: AbortSignal | undefined): Promise<number> {
  const { from, fromOffset, to, toOffset, length } = copy;
  if (toOffset + length > fileSizeMax) throw new VfsError('EFBIG', 'files end at 2^53 - 1 bytes');
  if (from === to && fromOffset < toOffset + length && toOffset < fromOffset + length) throw new VfsError('EINVAL', 'the ranges overlap');
  const source = await regularInode(volume, from);
  mayOverwrite(await regularInode(volume, to));
  const wanted = Math.max(0, Math.min(length, source.size - fromOffset));
  let copied = 0;
  let shares = wanted > 0;
  while (copied < wanted) {
    if (signal?.aborted === true) {
      if (copied > 0) break;
      throw new VfsError('EINTR', 'the caller gave up');
    }
    const rest = { ...copy, fromOffset: fromOffset + copied, toOffset: toOffset + copied, length: wanted - copied };
    const share = { ...rest, length: Math.min(rest.length, cloneStep) };
    try {
      if (shares) shares = await cloneStepOf(volume, share);
      const moved = shares ? share.length : await copyStepOf(volume, { ...rest, length: Math.min(rest.length, copyStep) }, signal);
      // The source was cut short meanwhile.
      if (moved === 0) break;
      copied += moved;
    } catch (error) {
      // The part that was copied is reported first; asking for the rest meets the same error again.
      if (copied > 0) break;
      throw error;
    }
  }
  return copied;
}

/** False: these bytes cannot be shared. */
async function cloneStepOf(volume: Volume, copy: RangeCopy): Promise<boolean> {
  await volume.sealContent(copy.from);
  await volume.sealContent(copy.to);
  try {
    await volume.apply({ type: 'clone', ...copy, stamp: volume.nextStamp() });
    return true;
  } catch (error) {
    if (error instanceof OperationError && error.code === 'EOPNOTSUPP') return false;
    throw error;
  }
}

async function copyStepOf(
  volume: Volume,
  { from, fromOffset, to, toOffset, length, time }: RangeCopy,
  signal: AbortSignal | undefined,
): Promise<number> {
  await volume.writeRoom();
  // The pieces are borrowed from caches, and a write owns its bytes.
  const data = Buffer.concat(await volume.readContent(from, fromOffset, length, signal));
  if (data.byteLength > 0) await volume.writeContent(to, toOffset, data, time);
  return data.byteLength;
}
