/**
 * Extended attributes (xattr(7)), access control lists among them. The kernel checks who may read and write which
 * namespace, except for listing: there the filesystem has to hide what the caller may not see.
 */
import type { ByteString } from '../base/brand.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { isDirectory, isSymlink, S_IFMT } from '../meta/inode.js';
import { type Ino, xattrKey } from '../meta/key.js';
import { scanXattrs } from '../operation/inode-view.js';
import type { Operation } from '../operation/operation.js';
import type { ReadableVolume } from '../volume/readable-volume.js';
import type { Volume } from '../volume/volume.js';
import { accessAclName, decodeAcl, defaultAclName, encodeAcl, isMinimalAcl, permissionBitsOf } from './acl.js';
import type { Caller } from './caller.js';
import { heldInode, mayOverwrite, S_ISGID } from './protection.js';
import { VfsError } from './vfs-error.js';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

function checkName(name: ByteString): void {
  if (name.length === 0 || name.length > 255) throw new VfsError('EINVAL', 'an attribute name has 1 to 255 bytes');
  if (name === accessAclName || name === defaultAclName) return;
  for (const prefix of ['user.', 'trusted.', 'security.']) {
    if (!name.startsWith(prefix)) continue;
    if (name.length === prefix.length) throw new VfsError('EINVAL', 'an attribute name ends with its namespace');
    return;
  }
  throw new VfsError('EOPNOTSUPP', 'attribute of an unknown namespace');
}

/** The value, borrowed. ENODATA. */
export function getXattr(volume: ReadableVolume, ino: Ino, name: ByteString): MaybePromise<Uint8Array> {
  checkName(name);
  const found = volume.read((view) => {
    const value = view.get(xattrKey(ino, name));
    if (value === undefined) heldInode(volume, view, ino);
    return value;
  });
  // Thrown outside of the query, since most files have no attribute that is asked for, and each catch on the way costs.
  return andThen(found, (value) => {
    if (value === undefined) throw new VfsError('ENODATA', 'no such attribute');
    return value;
  });
}

export function listXattrs(volume: ReadableVolume, caller: Caller, ino: Ino): MaybePromise<readonly ByteString[]> {
  return volume.read((view) => {
    heldInode(volume, view, ino);
    const names: ByteString[] = [];
    for (const [name] of scanXattrs(view, ino)) if (caller.uid === 0 || !name.startsWith('trusted.')) names.push(name);
    return names;
  });
}

/** `dropsSetgid`: the caller may not keep set-group-id where an access ACL changes the mode. `value` is copied. */
export function setXattr(volume: Volume, ino: Ino, name: ByteString, value: Uint8Array, flags: number, dropsSetgid: boolean): MaybePromise<void> {
  checkName(name);
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new VfsError('EINVAL', 'unknown flags');
  if (name === accessAclName || name === defaultAclName) return setAcl(volume, ino, name, value, dropsSetgid);
  const kept = new Uint8Array(value);
  const time = volume.now();
  return volume.transact((view) => {
    mayOverwrite(heldInode(volume, view, ino));
    return { operation: { type: 'setxattr', ino, name, value: kept, flags, mode: undefined, time }, result: undefined };
  });
}

function setAcl(volume: Volume, ino: Ino, name: ByteString, value: Uint8Array, dropsSetgid: boolean): MaybePromise<void> {
  const acl = decodeAcl(value);
  const time = volume.now();
  const stored = encodeAcl(acl);
  // A list that says no more than the mode is not stored, as on a local disk: first the mode is set, then an existing
  // list is removed. In between, list and mode agree.
  const applied = volume.transact<boolean>((view) => {
    const inode = heldInode(volume, view, ino);
    mayOverwrite(inode);
    if (isSymlink(inode)) throw new VfsError('EOPNOTSUPP', 'a link has no access control list');
    if (name === defaultAclName) {
      if (!isDirectory(inode)) throw new VfsError('EACCES', 'only directories have a default access control list');
      return { operation: { type: 'setxattr', ino, name, value: stored, flags: 0, mode: undefined, time }, result: false };
    }
    const special = inode.mode & 0o7000 & ~(dropsSetgid ? S_ISGID : 0);
    const mode = (inode.mode & S_IFMT) | special | permissionBitsOf(acl);
    const minimal = isMinimalAcl(acl);
    const had = view.get(xattrKey(ino, name)) !== undefined;
    const operation: Operation =
      minimal && !had ? { type: 'setattr', ino, mode, time } : { type: 'setxattr', ino, name, value: stored, flags: 0, mode, time };
    return { operation, result: minimal && had };
  });
  return andThen(applied, (remove) => (remove ? volume.apply({ type: 'removexattr', ino, name, time }) : undefined));
}

/** ENODATA. */
export function removeXattr(volume: Volume, ino: Ino, name: ByteString): MaybePromise<void> {
  checkName(name);
  const time = volume.now();
  return volume.transact((view) => {
    mayOverwrite(heldInode(volume, view, ino));
    if (view.get(xattrKey(ino, name)) === undefined) throw new VfsError('ENODATA', 'no such attribute');
    return { operation: { type: 'removexattr', ino, name, time }, result: undefined };
  });
}
