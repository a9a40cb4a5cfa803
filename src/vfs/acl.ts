/**
 * POSIX access control lists as the kernel passes them in xattrs, and how they and a file's mode keep each other true
 * (acl(5)). The kernel checks access; who stores the list has to keep it in step with the mode, and to let new inodes
 * inherit. No I/O here.
 *
 * Layout (linux/posix_acl_xattr.h, version 2):
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u32 = 2 |
 * | entries | each: tag u16, permission u16 (0..7), id u32 (0xffffffff where the tag has none) |
 *
 * Order: USER_OBJ, USER by id, GROUP_OBJ, GROUP by id, MASK, OTHER. MASK must be there if any USER or GROUP is.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { VfsError } from './vfs-error.js';

export const accessAclName = 'system.posix_acl_access';
export const defaultAclName = 'system.posix_acl_default';

export const ACL_USER_OBJ = 0x01;
export const ACL_USER = 0x02;
export const ACL_GROUP_OBJ = 0x04;
export const ACL_GROUP = 0x08;
export const ACL_MASK = 0x10;
export const ACL_OTHER = 0x20;

export interface AclEntry {
  readonly tag: number;
  readonly permission: number;
  readonly id: number;
}
export type Acl = readonly AclEntry[];

/**
 * Throws VfsError EINVAL for anything that the kernel's posix_acl_valid() would refuse, and EOPNOTSUPP for another
 * version.
 */
export function decodeAcl(bytes: Uint8Array): Acl {
  if (bytes.byteLength < 4 || (bytes.byteLength - 4) % 8 !== 0) throw new VfsError('EINVAL', 'access control list has an impossible length');
  const reader = new ByteReader(bytes);
  if (reader.u32() !== 2) throw new VfsError('EOPNOTSUPP', 'access control list of an unknown version');
  const entries: AclEntry[] = [];
  while (reader.remaining > 0) entries.push({ tag: reader.u16(), permission: reader.u16(), id: reader.u32() });
  checkAcl(entries);
  return entries;
}

function invalid(): never {
  throw new VfsError('EINVAL', 'access control list is malformed');
}

function checkAcl(entries: Acl): void {
  let before = 0;
  let owners = 0;
  let groups = 0;
  let others = 0;
  let masks = 0;
  let named = 0;
  for (const { tag, permission } of entries) {
    // Tags ascend in the order that the list must have; only the named ones repeat.
    if (tag < before || permission > 7) invalid();
    before = tag;
    if (tag === ACL_USER_OBJ) owners++;
    else if (tag === ACL_GROUP_OBJ) groups++;
    else if (tag === ACL_MASK) masks++;
    else if (tag === ACL_OTHER) others++;
    else if (tag === ACL_USER || tag === ACL_GROUP) named++;
    else invalid();
  }
  if (owners !== 1 || groups !== 1 || others !== 1 || masks > 1 || (named > 0 && masks === 0)) invalid();
}

export function encodeAcl(acl: Acl): Uint8Array {
  const writer = new ByteWriter(4 + acl.length * 8).u32(2);
  for (const { tag, permission, id } of acl) writer.u16(tag).u16(permission).u32(id);
  return writer.finish();
}

/** Whether the list says no more than nine permission bits do: then it need not be stored. */
export function isMinimalAcl(acl: Acl): boolean {
  return acl.every(({ tag }) => tag === ACL_USER_OBJ || tag === ACL_GROUP_OBJ || tag === ACL_OTHER);
}

function permissionOf(acl: Acl, tag: number): number | undefined {
  return acl.find((entry) => entry.tag === tag)?.permission;
}

/** The nine permission bits that stat(2) shows for this list: the group bits show the mask where there is one. */
export function permissionBitsOf(acl: Acl): number {
  const group = permissionOf(acl, ACL_MASK) ?? permissionOf(acl, ACL_GROUP_OBJ) ?? 0;
  return ((permissionOf(acl, ACL_USER_OBJ) ?? 0) << 6) | (group << 3) | (permissionOf(acl, ACL_OTHER) ?? 0);
}

/** The list after chmod to `mode`: group bits go to the mask where there is one. */
export function aclAfterChmod(acl: Acl, mode: number): Acl {
  const groupTag = acl.some(({ tag }) => tag === ACL_MASK) ? ACL_MASK : ACL_GROUP_OBJ;
  return acl.map((entry) => {
    if (entry.tag === ACL_USER_OBJ) return { ...entry, permission: (mode >> 6) & 7 };
    if (entry.tag === groupTag) return { ...entry, permission: (mode >> 3) & 7 };
    if (entry.tag === ACL_OTHER) return { ...entry, permission: mode & 7 };
    return entry;
  });
}

/**
 * What a new inode gets from its directory's default list (acl(5), "OBJECT CREATION AND DEFAULT ACLs"). The umask plays
 * no part.
 */
export function inheritAcl(defaultAcl: Acl, mode: number): { readonly mode: number; readonly access: Acl } {
  const groupTag = defaultAcl.some(({ tag }) => tag === ACL_MASK) ? ACL_MASK : ACL_GROUP_OBJ;
  const access = defaultAcl.map((entry) => {
    if (entry.tag === ACL_USER_OBJ) return { ...entry, permission: entry.permission & (mode >> 6) };
    if (entry.tag === groupTag) return { ...entry, permission: entry.permission & (mode >> 3) };
    if (entry.tag === ACL_OTHER) return { ...entry, permission: entry.permission & mode };
    return entry;
  });
  return { mode: (mode & ~0o777) | permissionBitsOf(access), access };
}
