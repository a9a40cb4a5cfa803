/**
 * The real disk, on node:fs. Plain descriptors and callbacks, not FileHandle: half the overhead a call, and no
 * finalizer that closes a descriptor behind our back.
 */

import type { Dir, Dirent, Stats, StatsFs } from 'node:fs';
import {
  close,
  closeSync,
  constants,
  existsSync,
  fchmod,
  fchown,
  fdatasync,
  fstat,
  fstatSync,
  fsync,
  ftruncate,
  read,
  write,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Disk, DiskAccess, DiskEntry, DiskEntryKind, DiskFile, DiskStat, OpenMode } from './disk.js';
import { diskErrorCode } from './disk.js';
import { link, lstat, mkdir, open, opendir, readdir, rename, rmdir, stat, statfs, unlink } from './files.js';

type Done<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

function settle<T>(start: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))));
}

/** The same for calls without a result. */
function settleVoid(start: (done: (error: NodeJS.ErrnoException | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())));
}

const safe = constants.O_NOFOLLOW | constants.O_NONBLOCK;
const openFlags: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY | safe,
  write: constants.O_RDWR | safe,
  create: constants.O_RDWR | constants.O_CREAT | safe,
  'create-new': constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | safe,
};

const kindOf = (of: Stats | Dirent): DiskEntryKind => (of.isFile() ? 'file' : of.isDirectory() ? 'directory' : 'other');

function statOf(stats: Stats): DiskStat {
  return {
    kind: kindOf(stats),
    size: stats.size,
    allocated: stats.blocks * 512,
    device: stats.dev,
    ino: stats.ino,
    linkCount: stats.nlink,
    mode: stats.mode & 0o7777,
    group: stats.gid,
    mtimeMs: stats.mtimeMs,
  };
}

async function setAccessOf(fd: number, { mode, group }: DiskAccess): Promise<void> {
  const stats = await settle<Stats>((done) => fstat(fd, done));
  // The group first: giving a file away takes bits from it. Without the right to give it away the mode is of use all
  // the same.
  const failure = await (stats.gid === group ? undefined : settleVoid((done) => fchown(fd, -1, group, done)).catch((error: unknown) => ({ error })));
  if ((stats.mode & 0o7777) !== mode) await settleVoid((done) => fchmod(fd, mode, done));
  if (failure) throw failure.error;
}

/** Of a directory at once, which is faster, or some at a time. */
async function entriesOf(path: string, isMany: boolean): Promise<Iterable<Dirent> | AsyncIterable<Dirent>> {
  if (isMany) return settle<Dir>((done) => opendir(path, { bufferSize: 1024 }, done));
  return settle<Dirent[]>((done) => readdir(path, { withFileTypes: true }, done));
}

/**
 * Pieces of zeros to reserve space with: Node.js has no fallocate(2), and written zeros reserve on every filesystem.
 */
const zeros = new Uint8Array(256 * 1024);

/** The addon's part in it: reads without waiting for the disk, -1 when that cannot be. */
export interface NativeReads {
  readNow(fd: number, target: Uint8Array, position: number): number;
}

class SystemFile implements DiskFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** For those who make files that can read without waiting. */
  protected get fd(): number {
    return this.#fd;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < target.byteLength) {
      const count = await settle<number>((settled) => read(this.#fd, target, done, target.byteLength - done, position + done, settled));
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      done += await settle<number>((settled) => write(this.#fd, bytes, done, bytes.byteLength - done, position + done, settled));
    }
  }

  writeSync(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.byteLength; ) done += writeSync(this.#fd, bytes, done, bytes.byteLength - done, position + done);
  }

  datasync(): Promise<void> {
    return settleVoid((done) => fdatasync(this.#fd, done));
  }

  sync(): Promise<void> {
    return settleVoid((done) => fsync(this.#fd, done));
  }

  truncate(size: number): Promise<void> {
    return settleVoid((done) => ftruncate(this.#fd, size, done));
  }

  async allocate(size: number): Promise<void> {
    for (let at = (await this.stat()).size; at < size; ) {
      const count = Math.min(zeros.byteLength, size - at);
      await this.write(zeros.subarray(0, count), at);
      at += count;
    }
  }

  async stat(): Promise<DiskStat> {
    return statOf(await settle<Stats>((done) => fstat(this.#fd, done)));
  }

  setAccess(access: DiskAccess): Promise<void> {
    return setAccessOf(this.#fd, access);
  }

  isUnlinked(): boolean {
    return fstatSync(this.#fd).nlink === 0;
  }

  async isAt(path: string): Promise<boolean> {
    const own = fstatSync(this.#fd);
    try {
      const found = await settle<Stats>((done) => stat(path, done));
      return found.ino === own.ino && found.dev === own.dev;
    } catch (error) {
      if (diskErrorCode(error) === undefined) throw error;
      return false;
    }
  }

  close(): Promise<void> {
    return settleVoid((done) => close(this.#fd, done));
  }
}

class PresentFile extends SystemFile {
  readonly #native: NativeReads;

  constructor(fd: number, native: NativeReads) {
    super(fd);
    this.#native = native;
  }

  readNow(target: Uint8Array, position: number): number | undefined {
    const count = this.#native.readNow(this.fd, target, position);
    return count < 0 ? undefined : count;
  }
}

/**
 * {@link systemDisk} whose files can tell what is in the page cache: reading that takes microseconds, a trip to the
 * thread pool many times that.
 */
export function presentDisk(native: NativeReads): Disk {
  return { ...systemDisk, open: async (path, mode) => new PresentFile(await openFile(path, mode), native) };
}

const openFile = (path: string, mode: OpenMode): Promise<number> => settle<number>((done) => open(path, openFlags[mode], 0o600, done));

/**
 * Linux leads from here into what a descriptor has open, without its name. Elsewhere the name has to do, and holding it
 * open proves nothing.
 */
const descriptors = '/proc/self/fd';
const hasDescriptors = existsSync(descriptors);

export const systemDisk: Disk = {
  async open(path, mode) {
    return new SystemFile(await openFile(path, mode));
  },
  async stat(path) {
    return statOf(await settle<Stats>((done) => stat(path, done)));
  },
  async lstat(path) {
    return statOf(await settle<Stats>((done) => lstat(path, done)));
  },
  async openDirectory(path) {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    const fd = await settle<number>((done) => open(path, flags, done));
    // Closing a directory waits for no disk.
    return {
      path: hasDescriptors ? `${descriptors}/${fd}` : path,
      setAccess: (access) => setAccessOf(fd, access),
      close: () => closeSync(fd),
    };
  },
  async readDirectory(path, isWanted) {
    const found: DiskEntry[] = [];
    for await (const entry of await entriesOf(path, isWanted !== undefined)) {
      if (isWanted?.(entry.name) === false) continue;
      const typed = entry.isFile() || entry.isDirectory() || entry.isSymbolicLink() || entry.isFIFO() || entry.isSocket() || entry.isBlockDevice();
      if (typed || entry.isCharacterDevice()) found.push({ name: entry.name, kind: kindOf(entry) });
      else {
        // Some network filesystems name no types in a directory.
        const stats = await settle<Stats>((done) => lstat(join(path, entry.name), done)).catch(() => undefined);
        if (stats) found.push({ name: entry.name, kind: kindOf(stats) });
      }
    }
    return found;
  },
  makeDirectory: (path) => settleVoid((done) => mkdir(path, 0o700, done)),
  removeDirectory: (path) => settleVoid((done) => rmdir(path, done)),
  rename: (from, to) => settleVoid((done) => rename(from, to, done)),
  link: (from, to) => settleVoid((done) => link(from, to, done)),
  unlink: (path) => settleVoid((done) => unlink(path, done)),
  async syncDirectory(path) {
    const fd = await settle<number>((done) => open(path, constants.O_RDONLY | constants.O_DIRECTORY, done));
    try {
      await settleVoid((done) => fsync(fd, done));
      return true;
    } catch (error) {
      // Filesystems that cannot sync a directory (some network and FUSE mounts) say so with EINVAL or ENOTSUP: nothing
      // more can be done.
      if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(diskErrorCode(error) ?? '')) throw error;
      return false;
    } finally {
      await settleVoid((done) => close(fd, done));
    }
  },
  async space(path) {
    const stats = await settle<StatsFs>((done) => statfs(path, done));
    return { free: stats.bavail * stats.bsize, total: stats.blocks * stats.bsize };
  },
};
