/**
 * Executes setattr: modes, owners, times, flags, and truncation. `vfs` decides who may do so and what a write clears
 * (set-user-ID bits), and puts the result into the operation. Flags are only stored here (doc/semantics.md,
 * "Attributes").
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { type Inode, S_IFMT } from '../meta/inode.js';
import type { Execution } from './execution.js';
import { requireInode } from './inode-view.js';
import { fileSizeMax, type SetattrOperation } from './operation.js';
import { checkRange, cutExtents, requireRegular } from './operation-content.js';

export function executeSetattr(run: Execution, operation: SetattrOperation): void {
  const { ino, mode, size, time } = operation;
  if (size !== undefined) {
    requireRegular(run.view, ino);
    checkRange(size, 0);
  }
  const before = requireInode(run.view, ino);
  assert(size === undefined || operation.stamp !== undefined, 'a truncation has a stamp');

  const content = size === undefined ? {} : truncated(run, operation, before, size);
  run.changeInode(ino, () => ({
    ...content,
    mode: mode === undefined ? before.mode : (before.mode & S_IFMT) | (mode & 0o7777),
    uid: operation.uid ?? before.uid,
    gid: operation.gid ?? before.gid,
    flags: operation.flags ?? before.flags,
    atime: operation.atime ?? before.atime,
    mtime: operation.mtime ?? (size !== undefined && time ? time : before.mtime),
    ctime: operation.ctime ?? time ?? before.ctime,
  }));
}

/** Drops everything past the end, including reserved space, even if the size stays; growing makes a hole. */
function truncated(run: Execution, { ino, stamp }: SetattrOperation, before: Inode, size: number): Partial<Inode> {
  const freed = size <= before.size ? cutExtents(run.view, ino, size, fileSizeMax) : 0;
  const inline = size < before.inline.byteLength ? (before.inline.slice(0, size) as Plaintext) : before.inline;
  const allocated = before.allocated - freed - (before.inline.byteLength - inline.byteLength);
  return { size, inline, allocated, ...(stamp && { stamp }) };
}
