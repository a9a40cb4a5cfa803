/**
 * Executes the operations on extended attributes. `vfs` decides which namespaces exist and who may use them; here every
 * name is just bytes (doc/semantics.md, "Attributes").
 */
import type { ByteString } from '../base/brand.js';
import { S_IFMT } from '../meta/inode.js';
import { xattrKey } from '../meta/key.js';
import type { Execution } from './execution.js';
import { requireInode, scanXattrs } from './inode-view.js';
import { OperationError, type RemovexattrOperation, type SetxattrOperation } from './operation.js';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h: a longer list could not be answered by listxattr. */
export const xattrValueMax = 65536;
export const xattrListBytesMax = 65536;

/** Throws EINVAL (if the tree cannot hold the name) or E2BIG. */
export function checkXattr(name: ByteString, value: Uint8Array): void {
  if (name.length < 1 || name.length > 255 || name.includes('\0')) throw new OperationError('EINVAL', 'not an attribute name');
  if (value.byteLength > xattrValueMax) throw new OperationError('E2BIG', 'an attribute has at most 65,536 bytes');
}

/** The length of the listxattr result: every name with its zero byte. */
export function xattrListBytes(names: Iterable<ByteString>): number {
  let total = 0;
  for (const name of names) total += name.length + 1;
  return total;
}

function* namesOf(run: Execution, ino: SetxattrOperation['ino']): IterableIterator<ByteString> {
  for (const [name] of scanXattrs(run.view, ino)) yield name;
}

export function executeSetxattr(run: Execution, operation: SetxattrOperation): void {
  const { ino, name, value, flags, mode, time } = operation;
  requireInode(run.view, ino);
  checkXattr(name, value);
  const exists = run.view.get(xattrKey(ino, name)) !== undefined;
  if (exists && (flags & XATTR_CREATE) !== 0) throw new OperationError('EEXIST', 'the attribute exists');
  if (!exists && (flags & XATTR_REPLACE) !== 0) throw new OperationError('ENODATA', 'the attribute does not exist');
  if (!exists && xattrListBytes(namesOf(run, ino)) + name.length + 1 > xattrListBytesMax) throw new OperationError('E2BIG', 'too many attributes');

  run.view.put(xattrKey(ino, name), value);
  run.changeInode(ino, (inode) => ({ mode: mode === undefined ? inode.mode : (inode.mode & S_IFMT) | (mode & 0o7777), ctime: time }));
}

export function executeRemovexattr(run: Execution, { ino, name, time }: RemovexattrOperation): void {
  requireInode(run.view, ino);
  if (run.view.get(xattrKey(ino, name)) === undefined) throw new OperationError('ENODATA', 'the attribute does not exist');

  run.view.delete(xattrKey(ino, name));
  run.changeInode(ino, () => ({ ctime: time }));
}
