/**
 * Makes inodes: mknod, mkdir, symlink, O_TMPFILE. A new inode takes owner, group, set-group-id, default ACL and umask
 * from its maker and its directory (doc/semantics.md, "New files").
 */
import type { ByteString } from '../base/brand.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type Ino, xattrKey } from '../meta/key.js';
import type { ReadView } from '../operation/view.js';
import type { Volume } from '../volume/volume.js';
import { accessAclName, decodeAcl, defaultAclName, encodeAcl, inheritAcl, isMinimalAcl } from './acl.js';
import type { Caller } from './caller.js';
import { heldDirectory, inoNamed, mayAddName, S_ISGID } from './protection.js';
import { VfsError } from './vfs-error.js';

/** The most bytes that the target of a link may have (PATH_MAX without its NUL). */
export const linkTargetMax = 4095;

type Xattrs = readonly (readonly [name: ByteString, value: Uint8Array])[];
const noXattrs: Xattrs = [];

interface Inheritance {
  readonly mode: number;
  readonly gid: number;
  readonly xattrs: Xattrs;
}

function inherit(view: ReadView, parent: Ino, directory: Inode, caller: Caller, mode: number): Inheritance {
  const type = mode & S_IFMT;
  const setgid = (directory.mode & S_ISGID) !== 0;
  const gid = setgid ? directory.gid : caller.gid;
  const asked = setgid && type === S_IFDIR ? mode | S_ISGID : mode;
  if (type === S_IFLNK) return { mode: S_IFLNK | 0o777, gid, xattrs: noXattrs };
  const value = view.get(xattrKey(parent, defaultAclName));
  if (value === undefined) return { mode: asked & ~(caller.umask & 0o777), gid, xattrs: noXattrs };
  const inherited = inheritAcl(decodeAcl(value), asked);
  const xattrs: (readonly [ByteString, Uint8Array])[] = [];
  if (!isMinimalAcl(inherited.access)) xattrs.push([accessAclName, encodeAcl(inherited.access)]);
  if (type === S_IFDIR) xattrs.push([defaultAclName, new Uint8Array(value)]);
  return { mode: inherited.mode, gid, xattrs };
}

/** Answers the new inode's number. `mode` has type and permission bits; without a type, a regular file. */
export function makeInode(
  volume: Volume,
  caller: Caller,
  parent: Ino,
  name: ByteString | undefined,
  mode: number,
  rdev: number,
  target: ByteString | undefined,
): MaybePromise<Ino> {
  if (target !== undefined && (target.length === 0 || target.length > linkTargetMax)) {
    throw new VfsError(target.length === 0 ? 'ENOENT' : 'ENAMETOOLONG', 'a link target has 1 to 4,095 bytes');
  }
  const typed = (mode & S_IFMT) === 0 ? mode | S_IFREG : mode;
  const ino = volume.allocateIno();
  const time = volume.now();
  return volume.transact((view) => {
    const directory = heldDirectory(volume, view, parent);
    mayAddName(directory);
    if (name !== undefined && inoNamed(view, parent, name) !== undefined) throw new VfsError('EEXIST', 'the name is taken');
    const { mode: newMode, gid, xattrs } = inherit(view, parent, directory, caller, typed);
    return { operation: { type: 'create', parent, name, ino, mode: newMode, uid: caller.uid, gid, rdev, target, xattrs, time }, result: ino };
  });
}
