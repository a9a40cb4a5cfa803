/**
 * The capabilities of each driver: what it passes on to the filesystem and what it cannot. Callers and tests consult
 * this table, not the driver's name.
 */
export interface DriverCapabilities {
  /** {@link Notifier} reaches the kernel's caches. */
  readonly invalidation: boolean;
  /** {@link RequestContext.signal} aborts when the caller gets a signal. */
  readonly interrupt: boolean;
  /** Names may be any bytes; otherwise UTF-8 only. */
  readonly byteNames: boolean;
  /** Times before 1970 survive. */
  readonly negativeTimes: boolean;
  /** utimensat(2) can set atime and mtime to different values. */
  readonly separateTimes: boolean;
  /** Extended attributes with names of any namespace, and ACLs. */
  readonly xattr: boolean;
  /** Inodes keep their identity: hard links, st_ino, and files that are open while unlinked. */
  readonly inodes: boolean;
  /** RENAME_NOREPLACE and RENAME_EXCHANGE. */
  readonly renameFlags: boolean;
  /** The birth time reaches statx(2). */
  readonly birthTime: boolean;
  /** fallocate, SEEK_DATA/SEEK_HOLE and copy_file_range reach the filesystem. */
  readonly ranges: boolean;
  /** Requests carry up to this many bytes. */
  readonly payloadMax: number;
  /** The kernel collects writes (FUSE_WRITEBACK_CACHE) when the mount asks for it. */
  readonly writebackCache: boolean;
  /** The unmount of a busy filesystem fails with BUSY unless forced. */
  readonly busyUnmount: boolean;
}

export const nativeCapabilities: DriverCapabilities = {
  invalidation: true,
  interrupt: true,
  byteNames: true,
  negativeTimes: true,
  separateTimes: true,
  xattr: true,
  inodes: true,
  renameFlags: true,
  birthTime: true,
  ranges: true,
  payloadMax: 1 << 20,
  writebackCache: true,
  busyUnmount: true,
};

/** fuse-native 2.2 on libfuse 2.9. */
export const portableCapabilities: DriverCapabilities = {
  invalidation: false,
  interrupt: false,
  byteNames: false,
  negativeTimes: false,
  // Its addon passes atime twice.
  separateTimes: false,
  // It does not pass on the size of the caller's buffer, and so cannot answer ERANGE.
  xattr: false,
  inodes: false,
  renameFlags: false,
  birthTime: false,
  ranges: false,
  payloadMax: 128 << 10,
  writebackCache: false,
  busyUnmount: false,
};
