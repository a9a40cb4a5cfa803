/**
 * chmod, chown, truncate, utimensat, and their consequences: set-id bits that are lost, an access ACL that must follow
 * the mode (doc/semantics.md, "Attributes"). The kernel has checked who may (default_permissions) and says when
 * privileges must be dropped (FUSE_HANDLE_KILLPRIV_V2), although two calls can be told apart only by what they leave
 * out ({@link silentCall}).
 */
import { compareTimespec, type Timespec } from '../base/clock.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { clampTime, FS_APPEND_FL, FS_IMMUTABLE_FL, type Inode, isDirectory, isRegular, isSymlink, S_IFMT } from '../meta/inode.js';
import { type Ino, xattrKey } from '../meta/key.js';
import { fileSizeMax, type Operation, type SetattrOperation } from '../operation/operation.js';
import type { ReadView } from '../operation/view.js';
import type { Volume } from '../volume/volume.js';
import type { AccessTimes } from './access-time.js';
import { accessAclName, aclAfterChmod, decodeAcl, encodeAcl } from './acl.js';
import type { Caller } from './caller.js';
import { heldInode, withoutSetId } from './protection.js';
import { VfsError } from './vfs-error.js';

/** Only what is to change is present. */
export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Timespec | 'now';
  readonly mtime?: Timespec | 'now';
  readonly ctime?: Timespec;
  readonly killSuidgid?: boolean;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function mayApply(inode: Inode, change: AttributeChange): void {
  const { flags } = inode;
  if ((flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) === 0) return;
  // The writeback cache reports the times of a write late, here of one from before the flag was set: its ctime says so.
  const { ctime, mtime, atime } = change;
  const isLate = ctime !== undefined && mtime !== undefined && mtime !== 'now' && atime === undefined && compareTimespec(ctime, inode.ctime) <= 0;
  // With its writeback cache the kernel passes "now" as the same time that it gives as ctime.
  const isNow = mtime === undefined || mtime === 'now' || (ctime !== undefined && compareTimespec(mtime, ctime) === 0);
  const onlyNow = isNow && (atime === undefined || atime === 'now');
  const others = change.mode !== undefined || change.uid !== undefined || change.gid !== undefined || change.size !== undefined;
  if (isLate && !others) return;
  // An append-only file may be touched, and gets new times with new content (then ctime comes along, and no atime).
  const isWritten = ctime !== undefined && atime === undefined;
  if ((flags & FS_IMMUTABLE_FL) !== 0 || others || !(onlyNow || isWritten)) throw new VfsError('EPERM', 'immutable or append-only');
}

/** The time of a write that the kernel's writeback cache has written back. The kernel reports it in this form only. */
function timeOfWrite({ mode, uid, gid, size, atime, mtime, ctime, killSuidgid }: AttributeChange): Timespec | undefined {
  const others = mode !== undefined || uid !== undefined || gid !== undefined || size !== undefined || atime !== undefined || killSuidgid === true;
  if (others || mtime === undefined || mtime === 'now' || ctime === undefined) return undefined;
  return compareTimespec(mtime, ctime) === 0 ? mtime : undefined;
}

function changesCtimeOnly(inode: Inode, { mode, uid, gid, size, atime, mtime }: AttributeChange): boolean {
  if (mode !== undefined || uid !== undefined || gid !== undefined || size !== undefined || atime !== undefined || mtime === 'now') return false;
  return mtime === undefined || compareTimespec(mtime, inode.mtime) === 0;
}

/** Moves times that no inode can hold to the nearest one that it can. */
function withinRange(change: AttributeChange): AttributeChange {
  const bounded = (time: Timespec | 'now'): Timespec | 'now' => (time === 'now' ? time : clampTime(time));
  return {
    ...change,
    ...(change.atime && { atime: bounded(change.atime) }),
    ...(change.mtime && { mtime: bounded(change.mtime) }),
    ...(change.ctime && { ctime: clampTime(change.ctime) }),
  };
}

/**
 * The meaning of a request that changes nothing. The kernel makes such requests in two cases (fuse_do_setattr): for
 * chown(2) with neither owner nor group (for regular files with the time of change, for all others with nothing); and,
 * with nothing and for regular files only, before it changes content in a way that has no flag for it (fallocate,
 * copy_file_range), if there are set-id bits or capabilities to drop.
 */
function silentCall(inode: Inode, change: AttributeChange): 'chown' | 'content' | undefined {
  const { mode, uid, gid, size, atime, mtime, ctime, killSuidgid } = change;
  if ((mode ?? uid ?? gid ?? size ?? atime ?? mtime ?? killSuidgid) !== undefined) return undefined;
  return ctime === undefined && isRegular(inode) ? 'content' : 'chown';
}

/** Throws VfsError `EPERM`: chown(2) without an owner would take bits away from somebody else's file. */
function newMode(inode: Inode, change: AttributeChange, silent: ReturnType<typeof silentCall>, caller: Caller | undefined): number | undefined {
  const chowned = (change.uid !== undefined || change.gid !== undefined || silent === 'chown') && !isDirectory(inode);
  // Capabilities are dropped whoever changes the content, so the kernel also asks for callers who may keep the bits.
  const overwritten = silent === 'content' && caller?.keepsSetId !== true;
  let mode = change.mode === undefined ? inode.mode : (inode.mode & S_IFMT) | (change.mode & 0o7777);
  // A mode that is given together with an owner is the one that the caller wants after the change.
  if (change.killSuidgid === true || overwritten || (chowned && change.mode === undefined)) mode = withoutSetId({ mode, gid: inode.gid }, caller);
  if (mode === inode.mode && change.mode === undefined) return undefined;
  if (silent === 'chown' && caller !== undefined && caller.uid !== inode.uid && caller.uid !== 0) {
    throw new VfsError('EPERM', 'only the owner changes the mode');
  }
  return mode;
}

/**
 * Applies the change, together with the noted access time. Without `caller`, the drive itself makes it. `keepsTimes`: a
 * truncation without times changes none. ESTALE, EPERM, EISDIR, EINVAL, EFBIG.
 */
export function setAttributes(
  volume: Volume,
  accessTimes: AccessTimes,
  caller: Caller | undefined,
  ino: Ino,
  asked: AttributeChange,
  keepsTimes: boolean,
): MaybePromise<void> {
  const change = withinRange(asked);
  const time = volume.now();
  if (change.size !== undefined && change.size > fileSizeMax) throw new VfsError('EFBIG', 'files end at 2^53 - 1 bytes');
  const resize = change.size === undefined ? undefined : { size: change.size, stamp: volume.nextStamp() };
  if (change.atime !== undefined) accessTimes.forget(ino);
  const applied = volume.transact<Operation | undefined>((view) => {
    const inode = heldInode(volume, view, ino);
    mayApply(inode, change);
    // The kernel writes back the ctime of a file whose last name is gone: nobody can ever see it.
    const silent = silentCall(inode, change);
    if (inode.nlink === 0 && silent === undefined && changesCtimeOnly(inode, change)) return { operation: undefined, result: undefined };
    const written = inode.flags === 0 ? timeOfWrite(change) : undefined;
    if (written && volume.noteWriteTime(ino, written)) return { operation: undefined, result: undefined };
    if (change.size !== undefined && !isRegular(inode))
      throw new VfsError(isDirectory(inode) ? 'EISDIR' : 'EINVAL', 'only regular files have a size to set');
    if (change.mode !== undefined && isSymlink(inode)) throw new VfsError('EOPNOTSUPP', 'a link has no permissions of its own');
    const mode = newMode(inode, change, silent, caller);
    const operation: Writable<SetattrOperation> = { type: 'setattr', ino, time };
    let plain = silent === 'chown';
    if (change.uid !== undefined) plain = ((operation.uid = change.uid), true);
    if (change.gid !== undefined) plain = ((operation.gid = change.gid), true);
    if (resize !== undefined) plain = (Object.assign(operation, resize), true);
    if (change.atime !== undefined) plain = ((operation.atime = change.atime === 'now' ? time : change.atime), true);
    if (change.mtime !== undefined) plain = ((operation.mtime = change.mtime === 'now' ? time : change.mtime), true);
    if (change.ctime !== undefined) plain = ((operation.ctime = change.ctime), true);
    // truncate(2) to the size that the file has already is no change.
    if (change.size !== undefined && change.mtime === undefined && (keepsTimes || change.size === inode.size)) {
      operation.mtime = inode.mtime;
      if (mode === undefined) operation.ctime ??= inode.ctime;
    }
    // A mode that an access ACL shows changes together with the ACL, in an operation of its own. The rest, which is
    // rare, follows.
    const aclOperation = mode === undefined ? undefined : changedAcl(view, ino, mode, time);
    if (aclOperation !== undefined) return { operation: aclOperation, result: plain ? operation : undefined };
    if (mode !== undefined) operation.mode = mode;
    const noted = accessTimes.noted(ino, inode);
    if (noted !== undefined) operation.atime ??= noted;
    return { operation: plain || mode !== undefined ? operation : undefined, result: undefined };
  });
  return andThen(applied, (rest) => (rest === undefined ? undefined : volume.apply(rest)));
}

function changedAcl(view: ReadView, ino: Ino, mode: number, time: Timespec): Operation | undefined {
  const value = view.get(xattrKey(ino, accessAclName));
  if (value === undefined) return undefined;
  return { type: 'setxattr', ino, name: accessAclName, value: encodeAcl(aclAfterChmod(decodeAcl(value), mode)), flags: 0, mode, time };
}

/** Drops the set-id bits, if there are any, since a caller without CAP_FSETID changes content. */
export function dropSetId(volume: Volume, caller: Caller, ino: Ino): MaybePromise<void> {
  const time = volume.now();
  return volume.transact((view) => {
    const inode = heldInode(volume, view, ino);
    const mode = withoutSetId(inode, caller);
    return { operation: mode === inode.mode ? undefined : { type: 'setattr', ino, mode, time }, result: undefined };
  });
}
