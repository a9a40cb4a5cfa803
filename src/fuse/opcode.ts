/**
 * The opcodes of <linux/fuse.h>: number, name, and the least payload (bytes after fuse_in_header) that a request of it
 * has.
 */
import {
  FUSE_COMPAT_SETXATTR_IN_SIZE,
  fuse_batch_forget_in,
  fuse_copy_file_range_in,
  fuse_create_in,
  fuse_fallocate_in,
  fuse_flush_in,
  fuse_forget_in,
  fuse_fsync_in,
  fuse_getattr_in,
  fuse_getxattr_in,
  fuse_interrupt_in,
  fuse_ioctl_in,
  fuse_link_in,
  fuse_lseek_in,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_open_in,
  fuse_read_in,
  fuse_release_in,
  fuse_rename_in,
  fuse_rename2_in,
  fuse_setattr_in,
  fuse_statx_in,
  fuse_syncfs_in,
  fuse_write_in,
} from './abi.js';

/** INIT's payload in the oldest form: major and minor. */
const initMin = 8;

const rows = [
  ['LOOKUP', 1, 1],
  ['FORGET', 2, fuse_forget_in.SIZE],
  ['GETATTR', 3, fuse_getattr_in.SIZE],
  ['SETATTR', 4, fuse_setattr_in.SIZE],
  ['READLINK', 5, 0],
  ['SYMLINK', 6, 2],
  ['MKNOD', 8, fuse_mknod_in.SIZE + 1],
  ['MKDIR', 9, fuse_mkdir_in.SIZE + 1],
  ['UNLINK', 10, 1],
  ['RMDIR', 11, 1],
  ['RENAME', 12, fuse_rename_in.SIZE + 2],
  ['LINK', 13, fuse_link_in.SIZE + 1],
  ['OPEN', 14, fuse_open_in.SIZE],
  ['READ', 15, fuse_read_in.SIZE],
  ['WRITE', 16, fuse_write_in.SIZE],
  ['STATFS', 17, 0],
  ['RELEASE', 18, fuse_release_in.SIZE],
  ['FSYNC', 20, fuse_fsync_in.SIZE],
  ['SETXATTR', 21, FUSE_COMPAT_SETXATTR_IN_SIZE + 1],
  ['GETXATTR', 22, fuse_getxattr_in.SIZE + 1],
  ['LISTXATTR', 23, fuse_getxattr_in.SIZE],
  ['REMOVEXATTR', 24, 1],
  ['FLUSH', 25, fuse_flush_in.SIZE],
  ['INIT', 26, initMin],
  ['OPENDIR', 27, fuse_open_in.SIZE],
  ['READDIR', 28, fuse_read_in.SIZE],
  ['RELEASEDIR', 29, fuse_release_in.SIZE],
  ['FSYNCDIR', 30, fuse_fsync_in.SIZE],
  ['GETLK', 31, 0],
  ['SETLK', 32, 0],
  ['SETLKW', 33, 0],
  ['ACCESS', 34, 0],
  ['CREATE', 35, fuse_create_in.SIZE + 1],
  ['INTERRUPT', 36, fuse_interrupt_in.SIZE],
  ['BMAP', 37, 0],
  ['DESTROY', 38, 0],
  ['IOCTL', 39, fuse_ioctl_in.SIZE],
  ['POLL', 40, 0],
  ['NOTIFY_REPLY', 41, 0],
  ['BATCH_FORGET', 42, fuse_batch_forget_in.SIZE],
  ['FALLOCATE', 43, fuse_fallocate_in.SIZE],
  ['READDIRPLUS', 44, fuse_read_in.SIZE],
  ['RENAME2', 45, fuse_rename2_in.SIZE + 2],
  ['LSEEK', 46, fuse_lseek_in.SIZE],
  ['COPY_FILE_RANGE', 47, fuse_copy_file_range_in.SIZE],
  ['SETUPMAPPING', 48, 0],
  ['REMOVEMAPPING', 49, 0],
  ['SYNCFS', 50, fuse_syncfs_in.SIZE],
  ['TMPFILE', 51, fuse_create_in.SIZE],
  ['STATX', 52, fuse_statx_in.SIZE],
  ['COPY_FILE_RANGE_64', 53, fuse_copy_file_range_in.SIZE],
] as const;

export type OpcodeName = (typeof rows)[number][0];

/** An opcode by its name. */
export const opcode = Object.fromEntries(rows.map(([name, code]) => [name, code])) as Readonly<Record<OpcodeName, number>>;

const names: string[] = [];
const payloadMins: number[] = [];
for (const [name, code, payloadMin] of rows) {
  names[code] = name;
  payloadMins[code] = payloadMin;
}

/** The name of an opcode, for people. */
export function opcodeName(code: number): string {
  return names[code] ?? `OPCODE_${code}`;
}

/** Bytes that a request must have after its header; 0 for opcodes that we do not know. */
export function payloadMinOf(code: number): number {
  return payloadMins[code] ?? 0;
}
