/**
 * Executes the operations on content: write, inline, fallocate, clone. They move references to sealed chunks and never
 * see the bytes of a large file; all except those on inline content are byte-exact without reading. Every inode has
 * either extents or inline content (doc/format.md, "Tree keys").
 */
import type { Plaintext } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { compareTimespec, type Timespec } from '../base/clock.js';
import { type Extent, encodeExtent, sliceExtent } from '../meta/extent.js';
import { type Inode, inlineMax, isDirectory, isRegular } from '../meta/inode.js';
import { extentKey, type Ino, inodeKey } from '../meta/key.js';
import type { Execution } from './execution.js';
import { requireInode, scanExtents } from './inode-view.js';
import {
  type CloneOperation,
  type FallocateOperation,
  fileSizeMax,
  type InlineOperation,
  OperationError,
  type RelocateOperation,
  type WriteOperation,
} from './operation.js';
import type { ReadView, Transaction } from './view.js';

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_COLLAPSE_RANGE = 8;
export const FALLOC_FL_ZERO_RANGE = 16;
export const FALLOC_FL_INSERT_RANGE = 32;
/** Allocating, collapsing and inserting work on whole blocks, as on a disk. */
const blockSize = 4096;
const blockStart = (offset: number): number => offset - (offset % blockSize);
const blockEnd = (offset: number): number => Math.min(fileSizeMax, blockStart(offset + blockSize - 1));

const noBytes = new Uint8Array(0) as Plaintext;

/** Requires a regular file. Throws EISDIR or EINVAL. */
export function requireRegular(view: ReadView, ino: Ino): Inode {
  const inode = requireInode(view, ino);
  if (isDirectory(inode)) throw new OperationError('EISDIR', 'a directory has no content');
  if (!isRegular(inode)) throw new OperationError('EINVAL', 'not a regular file');
  return inode;
}

/** Throws EINVAL if it is not a range and EFBIG if it ends past {@link fileSizeMax}. */
export function checkRange(offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0) || (offset <= fileSizeMax && !Number.isInteger(offset))) throw new OperationError('EINVAL', 'not a range');
  if (offset > fileSizeMax || length > fileSizeMax - offset) throw new OperationError('EFBIG', 'past the largest size');
}

/** Removes what covers `from` to `to` (exclusive) and keeps the parts outside. Returns how many bytes were covered. */
export function cutExtents(view: Transaction, ino: Ino, from: number, to: number): number {
  let freed = 0;
  // Collected first: the scan must not meet its own changes.
  const covering = [...scanExtents(view, ino, from, to)];
  for (const { offset, extent } of covering) {
    const end = offset + extent.length;
    if (offset < from) view.put(extentKey(ino, offset), encodeExtent(sliceExtent(extent, 0, from - offset)));
    else view.delete(extentKey(ino, offset));
    if (end > to) view.put(extentKey(ino, to), encodeExtent(sliceExtent(extent, to - offset, extent.length)));
    freed += Math.min(end, to) - Math.max(offset, from);
  }
  return freed;
}

function putExtent(view: Transaction, ino: Ino, offset: number, extent: Extent): void {
  view.put(extentKey(ino, offset), encodeExtent(extent));
}

/**
 * If the inode has inline content, the pieces must include it, because it is dropped: keeping both would need bytes
 * where there are only references.
 */
export function executeWrite(run: Execution, operation: WriteOperation): void {
  const { ino, pieces, mtime, stamp } = operation;
  const before = requireRegular(run.view, ino);
  for (const { offset, extent } of pieces) checkRange(offset, extent.length);

  let allocated = before.allocated - before.inline.byteLength;
  let size = Math.max(before.size, operation.size);
  for (const { offset, extent } of pieces) {
    allocated += extent.length - cutExtents(run.view, ino, offset, offset + extent.length);
    putExtent(run.view, ino, offset, extent);
    size = Math.max(size, offset + extent.length);
  }
  run.changeInode(ino, () => ({ inline: noBytes, allocated, size, stamp, ...writtenTimes(mtime, before) }));
}

/** What was written, cut or removed meanwhile keeps the place that it has. */
export function executeRelocate({ view }: Execution, { ino, pieces }: RelocateOperation): void {
  const inode = view.get(inodeKey(ino));
  if (!inode) return;
  let isMoved = false;
  for (const { offset, from, to } of pieces) {
    const key = extentKey(ino, offset);
    const found = view.get(key);
    if (!found || !equalBytes(found, encodeExtent(from))) continue;
    view.put(key, encodeExtent(to));
    isMoved = true;
  }
  // As it is: an operation mentions the inode of what it changes, so that it is run again when others change that.
  if (isMoved) view.put(inodeKey(ino), inode);
}

/** The content was written at `mtime`, but the inode may have been changed since. */
function writtenTimes(mtime: Timespec | undefined, { ctime }: Inode): { readonly mtime?: Timespec; readonly ctime?: Timespec } {
  return mtime ? { mtime, ctime: compareTimespec(mtime, ctime) > 0 ? mtime : ctime } : {};
}

export function executeInline(run: Execution, operation: InlineOperation): void {
  const { ino, content, mtime, stamp } = operation;
  const before = requireRegular(run.view, ino);
  checkRange(operation.size, 0);
  if (content.byteLength > inlineMax) throw new OperationError('EINVAL', 'too long to be inline');

  cutExtents(run.view, ino, 0, fileSizeMax);
  const allocated = content.byteLength;
  const size = Math.max(operation.size, allocated);
  run.changeInode(ino, () => ({ inline: content as Plaintext, allocated, size, stamp, ...writtenTimes(mtime, before) }));
}

export function executeFallocate(run: Execution, operation: FallocateOperation): void {
  const { ino, offset, length, mode } = operation;
  const before = requireRegular(run.view, ino);
  checkRange(offset, length);
  if (length === 0) throw new OperationError('EINVAL', 'an empty range');
  switch (mode) {
    case 0:
    case FALLOC_FL_KEEP_SIZE:
      return allocate(run, operation, before);
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
      return zero(run, operation, before);
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return zero(run, operation, before);
    case FALLOC_FL_COLLAPSE_RANGE:
      return collapse(run, operation, before);
    case FALLOC_FL_INSERT_RANGE:
      return insert(run, operation, before);
    default:
      throw new OperationError('EOPNOTSUPP', 'no such mode of fallocate');
  }
}

function grownSize({ offset, length, mode }: FallocateOperation, size: number): number {
  return (mode & FALLOC_FL_KEEP_SIZE) !== 0 ? size : Math.max(size, offset + length);
}

/**
 * Reserves the holes of every block that the range touches. A file with inline content has no extents, so only its size
 * grows: reserved space costs nothing anyway.
 */
function allocate(run: Execution, operation: FallocateOperation, before: Inode): void {
  const { ino, offset, length, stamp, time } = operation;
  const size = grownSize(operation, before.size);
  const reserved = before.inline.byteLength > 0 ? 0 : reserveHoles(run.view, ino, blockStart(offset), blockEnd(offset + length));
  run.changeInode(ino, () => ({
    size,
    allocated: before.allocated + reserved,
    stamp,
    ...(time && { ctime: time }),
    ...(time && size !== before.size && { mtime: time }),
  }));
}

function reserveHoles(view: Transaction, ino: Ino, from: number, to: number): number {
  const holes: [from: number, to: number][] = [];
  let at = from;
  for (const { offset, extent } of scanExtents(view, ino, from, to)) {
    if (offset > at) holes.push([at, offset]);
    at = offset + extent.length;
  }
  if (at < to) holes.push([at, to]);
  let reserved = 0;
  for (const [start, end] of holes) {
    putExtent(view, ino, start, { kind: 'reserved', length: end - start });
    reserved += end - start;
  }
  return reserved;
}

/**
 * PUNCH_HOLE leaves nothing and ZERO_RANGE leaves reserved space. A block that is punched in part stays allocated as a
 * whole, and one that is zeroed in part is reserved as a whole.
 */
function zero(run: Execution, operation: FallocateOperation, before: Inode): void {
  const { ino, offset, length, mode, stamp, time } = operation;
  const end = offset + length;
  let { inline, allocated } = before;
  if (inline.byteLength > 0) {
    if (end >= inline.byteLength) {
      inline = inline.slice(0, Math.min(offset, inline.byteLength)) as Plaintext;
    } else {
      inline = new Uint8Array(inline) as Plaintext;
      inline.fill(0, offset, end);
    }
    allocated = inline.byteLength;
  } else {
    const kept = (mode & FALLOC_FL_ZERO_RANGE) === 0 ? coveredInPart(run.view, ino, offset, end, before.size) : [];
    allocated -= cutExtents(run.view, ino, offset, end);
    for (const [from, to] of kept) allocated += reserveHoles(run.view, ino, from, to);
    if ((mode & FALLOC_FL_ZERO_RANGE) !== 0) allocated += reserveHoles(run.view, ino, blockStart(offset), blockEnd(end));
  }
  run.changeInode(ino, () => ({ size: grownSize(operation, before.size), inline, allocated, stamp, ...timesOf(time) }));
}

/**
 * The ranges that stay allocated after a hole from `from` to `to`: whatever takes space in the blocks where it begins
 * and ends. Past the end of the file nothing stays.
 */
function coveredInPart(view: ReadView, ino: Ino, from: number, to: number, size: number): [from: number, to: number][] {
  const edges: [from: number, to: number][] = [];
  if (from % blockSize !== 0) edges.push([from, Math.min(to, blockEnd(from))]);
  if (to % blockSize !== 0 && to <= size) edges.push([Math.max(from, blockStart(to)), to]);
  const kept: [from: number, to: number][] = [];
  for (const [start, end] of edges) {
    for (const { offset, extent } of scanExtents(view, ino, start, end)) kept.push([Math.max(offset, start), Math.min(offset + extent.length, end)]);
  }
  return kept;
}

function checkBlocks({ offset, length }: FallocateOperation): void {
  if (offset % blockSize !== 0 || length % blockSize !== 0) throw new OperationError('EINVAL', 'not whole blocks');
}

/** Removes the range; what follows moves down. The range must end before the end of the file. */
function collapse(run: Execution, operation: FallocateOperation, before: Inode): void {
  const { view } = run;
  const { ino, offset, length, stamp, time } = operation;
  checkBlocks(operation);
  if (offset + length >= before.size) throw new OperationError('EINVAL', 'the range reaches the end of the file');

  let { inline, allocated } = before;
  if (inline.byteLength > 0) {
    inline = joinBytes(inline.subarray(0, offset), inline.subarray(offset + length));
    allocated = inline.byteLength;
  } else {
    allocated -= cutExtents(view, ino, offset, offset + length);
    // In ascending order, so that an extent moves to where the previous one was.
    const moving = [...scanExtents(view, ino, offset + length, fileSizeMax)];
    for (const moved of moving) {
      view.delete(extentKey(ino, moved.offset));
      putExtent(view, ino, moved.offset - length, moved.extent);
    }
  }
  run.changeInode(ino, () => ({ size: before.size - length, inline, allocated, stamp, ...timesOf(time) }));
}

/** Opens a hole at `offset`; what follows moves up. The hole must begin inside the file. */
function insert(run: Execution, operation: FallocateOperation, before: Inode): void {
  const { view } = run;
  const { ino, offset, length, stamp, time } = operation;
  checkBlocks(operation);
  if (offset >= before.size) throw new OperationError('EINVAL', 'the range begins past the end of the file');
  checkRange(before.size, length);
  // Inline content begins at 0 and is shorter than a block, so it could only move as a whole, which it cannot.
  if (offset < before.inline.byteLength) throw new OperationError('EOPNOTSUPP', 'the content of a small file cannot move');

  const moving = [...scanExtents(view, ino, offset, fileSizeMax)].map(({ offset: at, extent }) => {
    if (at >= offset) return { offset: at, extent };
    // The insertion splits this extent: its first part stays.
    putExtent(view, ino, at, sliceExtent(extent, 0, offset - at));
    return { offset, extent: sliceExtent(extent, offset - at, extent.length) };
  });
  let lost = 0;
  for (const { offset: at, extent } of moving.toReversed()) {
    view.delete(extentKey(ino, at));
    // Reserved space past the end of the file may be pushed beyond the largest size.
    const kept = Math.min(extent.length, fileSizeMax - (at + length));
    lost += extent.length - Math.max(0, kept);
    if (kept > 0) putExtent(view, ino, at + length, sliceExtent(extent, 0, kept));
  }
  run.changeInode(ino, () => ({ size: before.size + length, allocated: before.allocated - lost, stamp, ...timesOf(time) }));
}

function joinBytes(first: Uint8Array, second: Uint8Array): Plaintext {
  const joined = new Uint8Array(first.byteLength + second.byteLength);
  joined.set(first);
  joined.set(second, first.byteLength);
  return joined as Plaintext;
}

/**
 * Shares the chunks of `from`; holes and reserved space become holes in `to`. Stops at the end of the source. Throws
 * EOPNOTSUPP if the range covers only part of inline content: the caller then copies bytes.
 */
export function executeClone(run: Execution, operation: CloneOperation): void {
  const { view } = run;
  const { from, fromOffset, to, toOffset, stamp, time } = operation;
  const source = requireRegular(view, from);
  const before = requireRegular(view, to);
  checkRange(fromOffset, operation.length);
  const length = Math.min(operation.length, source.size - fromOffset);
  if (length <= 0) return;
  checkRange(toOffset, length);
  if (from === to && fromOffset < toOffset + length && toOffset < fromOffset + length) throw new OperationError('EINVAL', 'the ranges overlap');
  const toEnd = toOffset + length;
  const size = Math.max(before.size, toEnd);
  const times = timesOf(time);
  if (source.inline.byteLength > 0) {
    const whole = fromOffset === 0 && length >= source.inline.byteLength && toOffset === 0 && toEnd >= before.size && from !== to;
    if (!whole) throw new OperationError('EOPNOTSUPP', 'part of a small file');
    cutExtents(view, to, 0, fileSizeMax);
    run.changeInode(to, () => ({ size, inline: source.inline, allocated: source.inline.byteLength, stamp, ...times }));
    return;
  }
  if (before.inline.byteLength > 0 && (toOffset > 0 || toEnd < before.inline.byteLength)) {
    throw new OperationError('EOPNOTSUPP', 'part of a small file');
  }

  const shared: { offset: number; extent: Extent }[] = [];
  for (const { offset, extent } of scanExtents(view, from, fromOffset, fromOffset + length)) {
    if (extent.kind === 'reserved') continue;
    const start = Math.max(offset, fromOffset);
    const end = Math.min(offset + extent.length, fromOffset + length);
    shared.push({ offset: toOffset + start - fromOffset, extent: sliceExtent(extent, start - offset, end - offset) });
  }
  let allocated = before.allocated - before.inline.byteLength - cutExtents(view, to, toOffset, toEnd);
  for (const { offset, extent } of shared) {
    putExtent(view, to, offset, extent);
    allocated += extent.length;
  }
  run.changeInode(to, () => ({ size, inline: noBytes, allocated, stamp, ...times }));
}

function timesOf(time: Timespec | undefined): Partial<Inode> {
  return time ? { mtime: time, ctime: time } : {};
}
