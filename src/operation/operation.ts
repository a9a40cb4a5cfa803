/**
 * The semantic operations: everything that changes a volume, as plain data. An operation contains everything that its
 * outcome depends on besides the tree (times, inode numbers, users), so that it can be journalled, replayed after a
 * crash and run again on a newer base (doc/architecture.md, "A write"). `operation-*.ts` execute them;
 * `operation-codec.ts` encodes them for the journal.
 */
import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import { AnswerError } from '../base/errors.js';
import type { DataExtent, Extent } from '../meta/extent.js';
import type { ContentStamp } from '../meta/inode.js';
import type { Ino, TreeKey } from '../meta/key.js';

/** Creates an inode of any type and its name. `name` undefined: O_TMPFILE (nlink 0, an orphan until linked). */
export interface CreateOperation {
  readonly type: 'create';
  readonly parent: Ino;
  readonly name: ByteString | undefined;
  readonly ino: Ino;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly target: ByteString | undefined;
  readonly xattrs: readonly (readonly [name: ByteString, value: Uint8Array])[];
  /**
   * The number of the entry; undefined: that of the inode. An inode that is made again needs one of its own, since an
   * entry that replaced its name may have its number.
   */
  readonly number?: number | undefined;
  readonly time: Timespec;
}

export interface LinkOperation {
  readonly type: 'link';
  readonly ino: Ino;
  readonly parent: Ino;
  readonly name: ByteString;
  /** The number of the new entry, allocated as inode numbers are. */
  readonly number: number;
  readonly time: Timespec;
}

/**
 * Removes a name. `ino` is the inode it named at the time of the request: if another inode has the name now, someone
 * else created it and it stays.
 */
export interface UnlinkOperation {
  readonly type: 'unlink';
  readonly parent: Ino;
  readonly name: ByteString;
  readonly ino: Ino;
  /**
   * The file's stamp at the time of the request: a file that another device has changed since is not deleted. Set by
   * `recordBase`.
   */
  readonly baseStamp?: ContentStamp | undefined;
  readonly time: Timespec;
}

export interface RmdirOperation {
  readonly type: 'rmdir';
  readonly parent: Ino;
  readonly name: ByteString;
  readonly ino: Ino;
  readonly time: Timespec;
}

/** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4 (the new device node is `whiteoutIno`). */
export interface RenameOperation {
  readonly type: 'rename';
  readonly parent: Ino;
  readonly name: ByteString;
  readonly newParent: Ino;
  readonly newName: ByteString;
  readonly flags: number;
  readonly ino: Ino;
  /** The inode that had the new name at the time of the request: only that one may be replaced. */
  readonly replacedIno: Ino | undefined;
  /** Its stamp at the time of the request. Set by `recordBase`. */
  readonly replacedStamp?: ContentStamp | undefined;
  readonly whiteoutIno: Ino | undefined;
  readonly time: Timespec;
}

/**
 * Only the attributes to change are present. `size` needs `stamp`. `time` becomes ctime (and mtime if the size
 * changes).
 */
export interface SetattrOperation {
  readonly type: 'setattr';
  readonly ino: Ino;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly flags?: number;
  readonly atime?: Timespec;
  readonly mtime?: Timespec;
  /** The kernel's own ctime (writeback cache); otherwise `time`. */
  readonly ctime?: Timespec;
  readonly stamp?: ContentStamp;
  /** With `size`: the file's stamp at the time of the request. Set by `recordBase`. */
  readonly baseStamp?: ContentStamp | undefined;
  /** Not set for a mere atime update, which leaves ctime alone. */
  readonly time: Timespec | undefined;
}

/**
 * Puts sealed content in place of whatever it covers: each piece covers `[offset, offset + extent.length)`. Size grows
 * to at least `size`. These extents hold the file's dirty data up to version `upTo`.
 */
export interface WriteOperation {
  readonly type: 'write';
  readonly ino: Ino;
  readonly pieces: readonly { readonly offset: number; readonly extent: Extent }[];
  readonly size: number;
  readonly mtime: Timespec | undefined;
  readonly stamp: ContentStamp;
  /** The file's stamp when this content was based on it; a different one at rebase is a conflict. */
  readonly baseStamp: ContentStamp;
  readonly upTo: number;
}

/** A small file's whole content, replacing everything it had. `size` is at least its length. */
export interface InlineOperation {
  readonly type: 'inline';
  readonly ino: Ino;
  readonly content: Uint8Array;
  readonly size: number;
  readonly mtime: Timespec | undefined;
  readonly stamp: ContentStamp;
  readonly baseStamp: ContentStamp;
  readonly upTo: number;
}

/** `mode`: FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2, COLLAPSE_RANGE 8, ZERO_RANGE 16, INSERT_RANGE 32. */
export interface FallocateOperation {
  readonly type: 'fallocate';
  readonly ino: Ino;
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
  readonly stamp: ContentStamp;
  /** The file's stamp at the time of the request. Set by `recordBase`. */
  readonly baseStamp?: ContentStamp | undefined;
  /** Undefined: the caller sets the times itself (the kernel's writeback cache). */
  readonly time: Timespec | undefined;
}

/** copy_file_range by sharing chunks. The dirty data of both files has been sealed before. */
export interface CloneOperation {
  readonly type: 'clone';
  readonly from: Ino;
  readonly fromOffset: number;
  readonly to: Ino;
  readonly toOffset: number;
  readonly length: number;
  readonly stamp: ContentStamp;
  /** The stamps of `to` and `from` at the time of the request. Set by `recordBase`. */
  readonly baseStamp?: ContentStamp | undefined;
  readonly fromStamp?: ContentStamp | undefined;
  /** As in {@link FallocateOperation}. */
  readonly time: Timespec | undefined;
}

/** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. `mode`: new permission bits that go with an access ACL. */
export interface SetxattrOperation {
  readonly type: 'setxattr';
  readonly ino: Ino;
  readonly name: ByteString;
  readonly value: Uint8Array;
  readonly flags: number;
  readonly mode: number | undefined;
  readonly time: Timespec;
}

export interface RemovexattrOperation {
  readonly type: 'removexattr';
  readonly ino: Ino;
  readonly name: ByteString;
  readonly time: Timespec;
}

/** Frees an orphan that nothing uses any more: its inode, extents, xattrs. Does nothing if it has a name again. */
export interface ReclaimOperation {
  readonly type: 'reclaim';
  readonly ino: Ino;
}

/**
 * Sets what the volume keeps beside its files, a snapshot or a policy, or removes it (`value` undefined). It changes
 * nothing if the value is another one than `base` by then.
 */
export interface RecordOperation {
  readonly type: 'record';
  readonly key: TreeKey;
  readonly value: Uint8Array | undefined;
  /** The value when the change was asked for; undefined: there was none. */
  readonly base: Uint8Array | undefined;
}

/**
 * Gives content another place, for a collector that empties packs: each extent is replaced where it still stands, byte
 * for byte as `from`. Nothing that an application can see changes.
 */
export interface RelocateOperation {
  readonly type: 'relocate';
  readonly ino: Ino;
  readonly pieces: readonly { readonly offset: number; readonly from: DataExtent; readonly to: DataExtent }[];
}

export type Operation =
  | CreateOperation
  | LinkOperation
  | UnlinkOperation
  | RmdirOperation
  | RenameOperation
  | SetattrOperation
  | WriteOperation
  | InlineOperation
  | FallocateOperation
  | CloneOperation
  | SetxattrOperation
  | RemovexattrOperation
  | ReclaimOperation
  | RecordOperation
  | RelocateOperation;

/** The names of errno values that an operation can fail with. */
export type OperationErrorCode =
  | 'EEXIST'
  | 'ENOENT'
  | 'ENOTDIR'
  | 'EISDIR'
  | 'ENOTEMPTY'
  | 'EINVAL'
  | 'EMLINK'
  | 'ENODATA'
  | 'EPERM'
  | 'EFBIG'
  | 'ENAMETOOLONG'
  | 'ESTALE'
  | 'EOPNOTSUPP'
  | 'E2BIG'
  | 'EROFS';
export class OperationError extends AnswerError<OperationErrorCode> {}

/** The largest size and offset: Linux's maximum (2^63 - 1) does not fit into a number, 2^53 - 1 does. */
export const fileSizeMax = Number.MAX_SAFE_INTEGER;

export interface BroughtContent {
  readonly ino: Ino;
  readonly offset: number;
  readonly extent: DataExtent;
}

/** Content that the operation brings: extents of a file, and where in it. */
export function broughtContent(operation: Operation): readonly BroughtContent[] {
  if (operation.type === 'relocate') return operation.pieces.map(({ offset, to }) => ({ ino: operation.ino, offset, extent: to }));
  if (operation.type !== 'write') return [];
  return operation.pieces.flatMap(({ offset, extent }) => (extent.kind === 'data' ? [{ ino: operation.ino, offset, extent }] : []));
}
