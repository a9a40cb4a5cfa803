/**
 * The local disk as the layers above see it: the few POSIX operations whose order decides what survives a crash.
 * Everything that Sealdrive writes on this machine goes through it, so that the crash simulator can stop at each one
 * (doc/concurrency.md). It is not a filesystem abstraction: paths are absolute, errors are Node.js system errors and
 * carry their `code`.
 */

/**
 * - `read`: an existing file, reading only
 * - `write`: an existing file, reading and writing
 * - `create`: reading and writing, made when absent
 * - `create-new`: as `create`, but EEXIST when there is one already (O_EXCL)
 *
 * A symbolic link in the last place is refused (ELOOP), and opening a FIFO or device does not block.
 */
export type OpenMode = 'read' | 'write' | 'create' | 'create-new';

export type DiskEntryKind = 'file' | 'directory' | 'other';

export interface DiskStat {
  readonly kind: DiskEntryKind;
  /** Bytes from the first to the last, holes included. */
  readonly size: number;
  /** Bytes that lie on the disk. */
  readonly allocated: number;
  readonly device: number;
  readonly ino: number;
  readonly linkCount: number;
  /** Permission bits, with those for set-id and sticky. */
  readonly mode: number;
  /** The id of the group that it belongs to. */
  readonly group: number;
  /** Milliseconds since 1970, by the clock of the machine that serves the disk. */
  readonly mtimeMs: number;
}

export interface DiskEntry {
  readonly name: string;
  readonly kind: DiskEntryKind;
}

/** Who may use a file or directory. */
export interface DiskAccess {
  readonly mode: number;
  readonly group: number;
}

/** An open file. Calls may overlap; `close` waits for none of them, so the caller must know that all have ended. */
export interface DiskFile {
  /**
   * Fills `target` from `position` on; returns how many bytes there were: fewer than asked only at the end of the file.
   */
  read(target: Uint8Array, position: number): Promise<number>;
  /**
   * {@link DiskFile.read} that does not wait: how many bytes there were when they are in memory anyway, else
   * `undefined` (then `target` may hold anything). Left out where nobody can tell.
   */
  readNow?(target: Uint8Array, position: number): number | undefined;
  /** Writes all of `bytes` at `position`; they must not change before the promise settles. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** {@link DiskFile.write} that blocks: for short records that must reach the page cache before the caller answers. */
  writeSync(bytes: Uint8Array, position: number): void;
  /** Content and size are on stable storage when it resolves. The name is not: see {@link Disk.syncDirectory}. */
  datasync(): Promise<void>;
  /** {@link DiskFile.datasync}, and times and modes as well. */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  /**
   * Makes the file at least `size` bytes long with space reserved for them: ENOSPC comes now, not in the middle of a
   * record.
   */
  allocate(size: number): Promise<void>;
  /**
   * Whatever the umask is; the owner stays. What cannot be set for want of rights throws, and what can be is set
   * before.
   */
  setAccess(access: DiskAccess): Promise<void>;
  stat(): Promise<DiskStat>;
  /**
   * Whether the last of its names was removed: what is in it ends with this open file. Takes some microseconds, and
   * never waits.
   */
  isUnlinked(): boolean;
  /** Whether `path` leads to this very file: somebody may have removed, moved or replaced it, or a folder above it. */
  isAt(path: string): Promise<boolean>;
  close(): Promise<void>;
}

/** A directory that is held open: it is the same one for as long as that, whatever its name comes to mean. */
export interface DiskDirectory {
  /**
   * Leads into this directory. For calls of {@link Disk} with a name joined to it, and for those that take a directory.
   */
  readonly path: string;
  /** As {@link DiskFile.setAccess}. */
  setAccess(access: DiskAccess): Promise<void>;
  close(): void;
}

export interface Disk {
  /** New files get mode 0600. */
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** What is at `path`, symbolic links followed; ENOENT when there is nothing. */
  stat(path: string): Promise<DiskStat>;
  /** What is at `path` itself: a symbolic link is `other`. */
  lstat(path: string): Promise<DiskStat>;
  /** Opens a directory; ENOTDIR when something else is there, or a symbolic link to one. */
  openDirectory(path: string): Promise<DiskDirectory>;
  /**
   * In no order. With `isWanted` only names for which it says so are kept, so that the others take no memory, however
   * many there are; what it throws ends the reading.
   */
  readDirectory(path: string, isWanted?: (name: string) => boolean): Promise<DiskEntry[]>;
  /** One directory of mode 0700; EEXIST when it is there, ENOENT without its parent. */
  makeDirectory(path: string): Promise<void>;
  removeDirectory(path: string): Promise<void>;
  /** Atomic; replaces a file at `to`, and an empty directory by a directory. */
  rename(from: string, to: string): Promise<void>;
  /** A second name for a file; EEXIST when `to` is taken. */
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /**
   * Names made, moved and removed in this directory are on stable storage when it resolves; false where the file system
   * has no way to do that.
   */
  syncDirectory(path: string): Promise<boolean>;
  /** Bytes that this user may still write, and bytes in all, on the filesystem that holds `path`. */
  space(path: string): Promise<{ readonly free: number; readonly total: number }>;
}

/** The system error code (`ENOENT`, ...) of something that a {@link Disk} threw, or `undefined`. */
export function diskErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Whether nothing is at the path. */
export const isAbsent = (error: unknown): boolean => diskErrorCode(error) === 'ENOENT';

/** Whether the folder of a path, or one above it, is absent or is no folder. */
export const hasNoFolder = (error: unknown): boolean => isAbsent(error) || diskErrorCode(error) === 'ENOTDIR';
