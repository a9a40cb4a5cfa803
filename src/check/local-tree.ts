/**
 * A plain directory into which a salvaged volume is written (doc/cli.md, "check, repair, salvage"). It knows nothing of
 * volumes. Names are bytes. Links are not followed and files not overwritten: a file that cannot have its own name gets
 * another one. The depth is not limited, since every operation names one component below an open directory, so that no
 * path is longer than the system allows.
 *
 * One call at a time, except for those of an open file.
 */
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import { diskErrorCode } from '../disk/disk.js';
import { copyFile, link, mkdir, open, readdir, rename, symlink } from '../disk/file-promises.js';
import { existsSync } from '../disk/files.js';
import { formsOf, spareNames } from './spare-name.js';

/** A directory of the tree; only the root has no parent. */
export interface TreeFolder {
  readonly parent: TreeFolder | undefined;
  readonly name: ByteString;
  /** 0: the root. */
  readonly depth: number;
}

export interface TreeAttributes {
  /** Permissions, without set-id bits, since the owner is not the original one. */
  readonly mode: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
}

export interface TreeFile {
  /** The name that it was given. */
  readonly name: ByteString;
  write(bytes: Uint8Array, offset: number): Promise<void>;
  resize(size: number): Promise<void>;
  setAttributes(attributes: TreeAttributes): Promise<void>;
  close(): Promise<void>;
}

/** Whether a name is left for another file when a substitute is chosen. */
export type IsReserved = (name: ByteString) => boolean;

interface OpenFolder {
  readonly handle: FileHandle;
  holds: number;
}

/** Errors for which another name does not help, since the destination takes nothing any more. */
export const hopelessCodes: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);
/** The errors of link(2) where a file can have only one name. */
const noLinkCodes: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EACCES']);
const openFoldersMax = 32;
/** On Linux, where an open directory can be the beginning of a path. */
const descriptorFolder = '/proc/self/fd';

export class LocalTree {
  readonly root: TreeFolder = { parent: undefined, name: '', depth: 0 };
  readonly #path: string;
  readonly #hasDescriptors = existsSync(descriptorFolder);
  /** The root, and the directories that were used last, the oldest first. */
  readonly #open = new Map<TreeFolder, OpenFolder>();

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#open.set(this.root, { handle, holds: 1 });
  }

  /**
   * Makes the directory, or uses an empty one. The caller closes it. Throws system errors; ENOTEMPTY when it is not
   * empty.
   */
  static async prepare(path: string): Promise<LocalTree> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    if ((await readdir(path)).length > 0) throw Object.assign(new Error(`${path} is not empty`), { code: 'ENOTEMPTY', syscall: 'mkdir' });
    return new LocalTree(resolve(path), await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  /** Runs `work` with a tree that is closed when it ends. Throws the errors of `prepare` and `work`. */
  static async use<T>(path: string, work: (tree: LocalTree) => Promise<T>): Promise<T> {
    const tree = await LocalTree.prepare(path);
    try {
      return await work(tree);
    } finally {
      await tree.close();
    }
  }

  async close(): Promise<void> {
    const handles = [...this.#open.values()];
    this.#open.clear();
    for (const { handle } of handles) await handle.close();
  }

  /** Makes a new directory, called `name` if that is free and possible. */
  async makeFolder(parent: TreeFolder, name: ByteString, isReserved?: IsReserved): Promise<TreeFolder> {
    const made = await this.#place(parent, name, (path) => mkdir(path, { mode: 0o700 }), { isReserved });
    return { parent, name: made.name, depth: parent.depth + 1 };
  }

  async createFile(folder: TreeFolder, name: ByteString, isReserved?: IsReserved): Promise<TreeFile> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const made = await this.#place(folder, name, (path) => open(path, flags, 0o600), { isReserved });
    return fileOf(made.name, made.value);
  }

  /** Returns the name that the symbolic link was given. */
  async makeLink(target: ByteString, folder: TreeFolder, name: ByteString, isReserved?: IsReserved): Promise<ByteString> {
    const bytes = Buffer.from(target, 'latin1');
    return (await this.#place(folder, name, (path) => symlink(bytes, path), { isReserved })).name;
  }

  /**
   * Makes another name for a file, or a copy where the destination has no hard links. Returns the name that it was
   * given.
   */
  async linkFile(
    existing: { readonly folder: TreeFolder; readonly name: ByteString },
    folder: TreeFolder,
    name: ByteString,
    options: SpareOptions,
  ): Promise<ByteString> {
    return this.#within(existing.folder, async (from) => {
      const source = pathIn(from, existing.name);
      const make = async (path: Buffer): Promise<void> => {
        try {
          await link(source, path);
        } catch (error) {
          if (!noLinkCodes.has(diskErrorCode(error))) throw error;
          await copyFile(source, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
        }
      };
      return (await this.#place(folder, name, make, options)).name;
    });
  }

  /**
   * Renames a file of ours to `wanted` with the suffix. The new name is created first and then replaced, so that no
   * other file can be overwritten.
   */
  async renameFile(folder: TreeFolder, name: ByteString, wanted: ByteString, options: SpareOptions): Promise<ByteString> {
    const reserve = async (path: Buffer): Promise<void> =>
      (await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)).close();
    const { name: renamed } = await this.#place(folder, wanted, reserve, options);
    await this.#within(folder, (at) => rename(pathIn(at, name), pathIn(at, renamed)));
    return renamed;
  }

  async setFolderAttributes(folder: TreeFolder, attributes: TreeAttributes): Promise<void> {
    await this.#enter(folder);
    const opened = this.#open.get(folder);
    if (opened) await setAttributes(opened.handle, attributes);
  }

  /** Makes something in `folder` under the first name that is free and possible there. */
  async #place<T>(
    folder: TreeFolder,
    wanted: ByteString,
    make: (path: Buffer) => Promise<T>,
    { suffix = '', isReserved = () => false }: SpareOptions,
  ): Promise<{ readonly name: ByteString; readonly value: T }> {
    return this.#within(folder, async (at) => {
      let failure: unknown;
      for (const form of formsOf(wanted)) {
        for (const name of spareNames(form, suffix)) {
          if (name !== wanted && isReserved(name)) continue;
          try {
            return { name, value: await make(pathIn(at, name)) };
          } catch (error) {
            const code = diskErrorCode(error);
            if (code === undefined || hopelessCodes.has(code)) throw error;
            failure ??= error;
            // Any other error may be due to the name: try a plainer one. If that fails as well, the first error says
            // most.
            if (code !== 'EEXIST') break;
          }
        }
      }
      throw failure;
    });
  }

  /** Runs `work` with the beginning of a path into `folder`, which stays open meanwhile. */
  async #within<T>(folder: TreeFolder, work: (at: Buffer) => Promise<T>): Promise<T> {
    if (!this.#hasDescriptors) return work(this.#longPath(folder));
    const opened = await this.#enter(folder);
    opened.holds++;
    try {
      return await work(Buffer.from(`${descriptorFolder}/${opened.handle.fd}`));
    } finally {
      opened.holds--;
    }
  }

  /** Opens a folder from the nearest open one above it, one component at a time. */
  async #enter(folder: TreeFolder): Promise<OpenFolder> {
    const chain: TreeFolder[] = [];
    for (let at = folder; !this.#open.has(at) && at.parent; at = at.parent) chain.push(at);
    for (const one of chain.toReversed()) {
      const above = one.parent && this.#open.get(one.parent);
      const at = above && this.#hasDescriptors ? Buffer.from(`${descriptorFolder}/${above.handle.fd}`) : this.#longPath(one.parent ?? this.root);
      const handle = await open(pathIn(at, one.name), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      this.#open.set(one, { handle, holds: 0 });
      await this.#closeOldest(one);
    }
    const opened = this.#open.get(folder);
    if (!opened) throw new Error('the tree is closed');
    this.#open.delete(folder);
    this.#open.set(folder, opened);
    return opened;
  }

  async #closeOldest(kept: TreeFolder): Promise<void> {
    for (const [folder, opened] of this.#open) {
      if (this.#open.size <= openFoldersMax) return;
      if (opened.holds > 0 || folder === kept) continue;
      this.#open.delete(folder);
      await opened.handle.close();
    }
  }

  #longPath(folder: TreeFolder): Buffer {
    return Buffer.concat([Buffer.from(this.#path), ...componentsOf(folder).map((name) => Buffer.from(`/${name}`, 'latin1'))]);
  }
}

export interface SpareOptions {
  /** Is appended to the name, which is shortened if the two are too long together. */
  readonly suffix?: string;
  readonly isReserved?: IsReserved | undefined;
}

/** The names from the root, which has none, to the folder. */
export function componentsOf(folder: TreeFolder): ByteString[] {
  const names: ByteString[] = [];
  for (let at = folder; at.parent; at = at.parent) names.push(at.name);
  return names.toReversed();
}

const pathIn = (at: Buffer, name: ByteString): Buffer => Buffer.concat([at, Buffer.from(`/${name}`, 'latin1')]);

async function setAttributes(file: FileHandle, { mode, atime, mtime }: TreeAttributes): Promise<void> {
  await file.chmod(mode & 0o777);
  await file.utimes(atime.sec + atime.nsec / 1e9, mtime.sec + mtime.nsec / 1e9);
}

function fileOf(name: ByteString, file: FileHandle): TreeFile {
  return {
    name,
    async write(bytes, offset) {
      for (let at = 0; at < bytes.byteLength; ) at += (await file.write(bytes, at, bytes.byteLength - at, offset + at)).bytesWritten;
    },
    resize: (size) => file.truncate(size),
    setAttributes: (attributes) => setAttributes(file, attributes),
    close: () => file.close(),
  };
}
