/**
 * The kernel's side of the FUSE protocol as numbers: versions, flags, and where each field of each struct lies. Names
 * are those of <linux/fuse.h>, so that the two can be read side by side; so are the sizes. All fields are little-endian
 * here (the protocol is native-endian, and the hosts that we build for are little-endian). Opcodes: opcode.ts.
 */

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor version whose structs we know. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** The oldest that we accept: Linux 5.4. */
export const FUSE_KERNEL_MINOR_VERSION_MIN = 31;

// INIT flags. Bits 32 and up travel in flags2.
export const FUSE_ASYNC_READ = 1n << 0n;
export const FUSE_EXPORT_SUPPORT = 1n << 4n;
export const FUSE_BIG_WRITES = 1n << 5n;
export const FUSE_DONT_MASK = 1n << 6n;
export const FUSE_DO_READDIRPLUS = 1n << 13n;
export const FUSE_READDIRPLUS_AUTO = 1n << 14n;
export const FUSE_WRITEBACK_CACHE = 1n << 16n;
export const FUSE_NO_OPEN_SUPPORT = 1n << 17n;
export const FUSE_PARALLEL_DIROPS = 1n << 18n;
export const FUSE_POSIX_ACL = 1n << 20n;
export const FUSE_MAX_PAGES = 1n << 22n;
export const FUSE_CACHE_SYMLINKS = 1n << 23n;
export const FUSE_NO_OPENDIR_SUPPORT = 1n << 24n;
export const FUSE_EXPLICIT_INVAL_DATA = 1n << 25n;
export const FUSE_HANDLE_KILLPRIV_V2 = 1n << 28n;
export const FUSE_SETXATTR_EXT = 1n << 29n;
export const FUSE_INIT_EXT = 1n << 30n;
export const FUSE_HAS_EXPIRE_ONLY = 1n << 35n;

export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_CTIME = 1 << 10;
export const FATTR_KILL_SUIDGID = 1 << 11;

export const FOPEN_DIRECT_IO = 1 << 0;
export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_CACHE_DIR = 1 << 3;
export const FOPEN_NOFLUSH = 1 << 5;

export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;
export const FUSE_FSYNC_FDATASYNC = 1 << 0;
export const FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0;

export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;
export const FUSE_NOTIFY_STORE = 4;
export const FUSE_NOTIFY_DELETE = 6;
/** 7.44 */
export const FUSE_NOTIFY_INC_EPOCH = 8;
/** 7.45 */
export const FUSE_NOTIFY_PRUNE = 9;
export const FUSE_NOTIFY_PRUNE_SINCE = 45;

/**
 * A read of the device must offer this much beyond max_write: fuse_in_header and fuse_write_in, rounded up to a page.
 */
export const REQUEST_HEADROOM = 4096;
export const PAGE_SIZE = 4096;

// <linux/stat.h>
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;

// <errno.h>: only what the protocol itself answers with.
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const ENOTTY = 25;
export const EOPNOTSUPP = 95;
export const ERANGE = 34;
export const ENOSYS = 38;
export const EPROTO = 71;

// Offsets of fields in bytes, and SIZE of the whole struct. Padding is left out.
export const fuse_in_header = { len: 0, opcode: 4, unique: 8, nodeid: 16, uid: 24, gid: 28, pid: 32, total_extlen: 36, SIZE: 40 } as const;
export const fuse_out_header = { len: 0, error: 4, unique: 8, SIZE: 16 } as const;
export const fuse_attr = {
  ino: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimensec: 48,
  mtimensec: 52,
  ctimensec: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blksize: 80,
  flags: 84,
  SIZE: 88,
} as const;
export const fuse_entry_out = {
  nodeid: 0,
  generation: 8,
  entry_valid: 16,
  attr_valid: 24,
  entry_valid_nsec: 32,
  attr_valid_nsec: 36,
  attr: 40,
  SIZE: 128,
} as const;
export const fuse_attr_out = { attr_valid: 0, attr_valid_nsec: 8, attr: 16, SIZE: 104 } as const;
export const fuse_kstatfs = { blocks: 0, bfree: 8, bavail: 16, files: 24, ffree: 32, bsize: 40, namelen: 44, frsize: 48, SIZE: 80 } as const;
export const fuse_forget_in = { nlookup: 0, SIZE: 8 } as const;
export const fuse_forget_one = { nodeid: 0, nlookup: 8, SIZE: 16 } as const;
export const fuse_batch_forget_in = { count: 0, SIZE: 8 } as const;
export const fuse_mknod_in = { mode: 0, rdev: 4, umask: 8, SIZE: 16 } as const;
export const fuse_mkdir_in = { mode: 0, umask: 4, SIZE: 8 } as const;
export const fuse_rename_in = { newdir: 0, SIZE: 8 } as const;
export const fuse_rename2_in = { newdir: 0, flags: 8, SIZE: 16 } as const;
export const fuse_link_in = { oldnodeid: 0, SIZE: 8 } as const;
export const fuse_setattr_in = {
  valid: 0,
  fh: 8,
  size: 16,
  lock_owner: 24,
  atime: 32,
  mtime: 40,
  ctime: 48,
  atimensec: 56,
  mtimensec: 60,
  ctimensec: 64,
  mode: 68,
  uid: 76,
  gid: 80,
  SIZE: 88,
} as const;
export const fuse_open_in = { flags: 0, open_flags: 4, SIZE: 8 } as const;
export const fuse_create_in = { flags: 0, mode: 4, umask: 8, open_flags: 12, SIZE: 16 } as const;
export const fuse_open_out = { fh: 0, open_flags: 8, SIZE: 16 } as const;
export const fuse_release_in = { fh: 0, flags: 8, release_flags: 12, lock_owner: 16, SIZE: 24 } as const;
/**
 * open(2)'s flag as it stands in `fuse_read_in.flags`, the same on every architecture that has FUSE but Alpha, PA-RISC
 * and SPARC.
 */
export const O_NOATIME = 0o1000000;
export const O_WRONLY = 1;
export const O_ACCMODE = 3;
export const fuse_read_in = { fh: 0, offset: 8, size: 16, read_flags: 20, lock_owner: 24, flags: 32, SIZE: 40 } as const;
export const fuse_write_in = { fh: 0, offset: 8, size: 16, write_flags: 20, lock_owner: 24, flags: 32, SIZE: 40 } as const;
export const fuse_write_out = { size: 0, SIZE: 8 } as const;
export const fuse_fsync_in = { fh: 0, fsync_flags: 8, SIZE: 16 } as const;
export const fuse_setxattr_in = { size: 0, flags: 4, setxattr_flags: 8, SIZE: 16 } as const;
export const fuse_getxattr_in = { size: 0, SIZE: 8 } as const;
export const fuse_getxattr_out = { size: 0, SIZE: 8 } as const;
export const fuse_init_in = { major: 0, minor: 4, max_readahead: 8, flags: 12, flags2: 16, SIZE: 64 } as const;
export const fuse_init_out = {
  major: 0,
  minor: 4,
  max_readahead: 8,
  flags: 12,
  max_background: 16,
  congestion_threshold: 18,
  max_write: 20,
  time_gran: 24,
  max_pages: 28,
  flags2: 32,
  SIZE: 64,
} as const;
export const fuse_interrupt_in = { unique: 0, SIZE: 8 } as const;
export const fuse_fallocate_in = { fh: 0, offset: 8, length: 16, mode: 24, SIZE: 32 } as const;
export const fuse_dirent = { ino: 0, off: 8, namelen: 16, type: 20, SIZE: 24 } as const;
export const fuse_notify_inval_inode_out = { ino: 0, off: 8, len: 16, SIZE: 24 } as const;
export const fuse_notify_inval_entry_out = { parent: 0, namelen: 8, flags: 12, SIZE: 16 } as const;
export const fuse_notify_delete_out = { parent: 0, child: 8, namelen: 16, SIZE: 24 } as const;
export const fuse_notify_store_out = { nodeid: 0, offset: 8, size: 16, SIZE: 24 } as const;
/** Followed by `count` node ids of 64 bits. */
export const fuse_notify_prune_out = { count: 0, SIZE: 16 } as const;
export const fuse_lseek_in = { fh: 0, offset: 8, whence: 16, SIZE: 24 } as const;
export const fuse_lseek_out = { offset: 0, SIZE: 8 } as const;
export const fuse_copy_file_range_in = { fh_in: 0, off_in: 8, nodeid_out: 16, fh_out: 24, off_out: 32, len: 40, flags: 48, SIZE: 56 } as const;
export const fuse_flush_in = { fh: 0, lock_owner: 16, SIZE: 24 } as const;
export const fuse_getattr_in = { getattr_flags: 0, fh: 8, SIZE: 16 } as const;
export const fuse_syncfs_in = { SIZE: 8 } as const;
/** 7.39 */
export const fuse_statx_in = { getattr_flags: 0, fh: 8, sx_flags: 16, sx_mask: 20, SIZE: 24 } as const;
export const fuse_sx_time = { tv_sec: 0, tv_nsec: 8, SIZE: 16 } as const;
export const fuse_statx = {
  mask: 0,
  blksize: 4,
  attributes: 8,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  attributes_mask: 56,
  atime: 64,
  btime: 80,
  ctime: 96,
  mtime: 112,
  rdev_major: 128,
  rdev_minor: 132,
  dev_major: 136,
  dev_minor: 140,
  SIZE: 256,
} as const;
export const fuse_statx_out = { attr_valid: 0, attr_valid_nsec: 8, flags: 12, stat: 32, SIZE: 288 } as const;
/** 7.45: answer to COPY_FILE_RANGE_64. */
export const fuse_copy_file_range_out = { bytes_copied: 0, SIZE: 8 } as const;
export const fuse_ioctl_in = { fh: 0, flags: 8, cmd: 12, arg: 16, in_size: 24, out_size: 28, SIZE: 32 } as const;
export const fuse_ioctl_out = { result: 0, flags: 4, in_iovs: 8, out_iovs: 12, SIZE: 16 } as const;

// <linux/fs.h>: the two ioctls that read and write an inode's flags, in their old form and in that of XFS. The kernel
// gives the old one a number of 32 bits, although its command says long.
export const FS_IOC_GETFLAGS = 0x80086601;
export const FS_IOC_SETFLAGS = 0x40086602;
export const FS_IOC_FSGETXATTR = 0x801c581f;
export const FS_IOC_FSSETXATTR = 0x401c5820;
export const fsxattr = { fsx_xflags: 0, fsx_extsize: 4, fsx_nextents: 8, fsx_projid: 12, fsx_cowextsize: 16, SIZE: 28 } as const;
/** The same flags under two numbers: FS_*_FL and FS_XFLAG_*. */
export const inodeFlagPairs = [
  [0x08, 0x20], // sync
  [0x10, 0x08], // immutable
  [0x20, 0x10], // append-only
  [0x40, 0x80], // no dump
  [0x80, 0x40], // no atime
] as const;

/** Size of fuse_setxattr_in without FUSE_SETXATTR_EXT. */
export const FUSE_COMPAT_SETXATTR_IN_SIZE = 8;
