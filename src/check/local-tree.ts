/**
 * A plain directory that a salvaged volume is written into. Names are bytes; nothing that is there is ever followed or overwritten. It knows
 * nothing of volumes.
 */
import { constants } from 'node:fs';
import { chmod, link, mkdir, open, readdir, rename, symlink, utimes } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';

/** Path components below the directory. */
export type TreePath = readonly ByteString[];

export interface TreeFile {
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Sets the size and closes. */
  finish(size: number): Promise<void>;
  abandon(): Promise<void>;
}

export class LocalTree {
  readonly #root: Buffer;

  private constructor(path: string) {
    this.#root = Buffer.from(path);
  }

  /** Makes the directory, or takes an empty one. Throws system errors; ENOTEMPTY when something is in it. */
  static async prepare(path: string): Promise<LocalTree> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    if ((await readdir(path)).length > 0) throw Object.assign(new Error(`${path} is not empty`), { code: 'ENOTEMPTY', syscall: 'mkdir' });
    return new LocalTree(path);
  }

  #path(path: TreePath): Buffer {
    return Buffer.concat([this.#root, ...path.map((name) => Buffer.from(`/${name}`, 'latin1'))]);
  }

  async makeDirectory(path: TreePath): Promise<void> {
    await mkdir(this.#path(path), { mode: 0o700 });
  }

  async createFile(path: TreePath): Promise<TreeFile> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    return fileOf(await open(this.#path(path), flags, 0o600));
  }

  async makeLink(target: ByteString, path: TreePath): Promise<void> {
    await symlink(Buffer.from(target, 'latin1'), this.#path(path));
  }

  async linkFile(existing: TreePath, path: TreePath): Promise<void> {
    await link(this.#path(existing), this.#path(path));
  }

  async rename(from: TreePath, to: TreePath): Promise<void> {
    await rename(this.#path(from), this.#path(to));
  }

  /** Of a file or directory. Set-id bits are left out: the owner is another one. */
  async setAttributes(path: TreePath, mode: number, atime: Timespec, mtime: Timespec): Promise<void> {
    const at = this.#path(path);
    await chmod(at, mode & 0o777);
    await utimes(at, atime.sec + atime.nsec / 1e9, mtime.sec + mtime.nsec / 1e9);
  }
}

function fileOf(file: FileHandle): TreeFile {
  return {
    async write(bytes, offset) {
      for (let at = 0; at < bytes.byteLength; ) at += (await file.write(bytes, at, bytes.byteLength - at, offset + at)).bytesWritten;
    },
    async finish(size) {
      try {
        await file.truncate(size);
      } finally {
        await file.close();
      }
    },
    abandon: () => file.close(),
  };
}
