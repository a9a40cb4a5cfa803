/**
 * The objects of a directory store where they lie: each is a plain file, or, where a filesystem has no hard links, a
 * directory that holds one file (doc/format.md, "Keys"). Both shapes may stand side by side. For puts see
 * directory-put.ts.
 */
import { join } from 'node:path';
import { assert } from '../base/assert.js';
import type { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode, hasNoFolder, isAbsent } from '../disk/disk.js';
import type { ObjectKey } from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';

/** The file in an object that is a directory. `_` is in no key. */
export const bodyName = '_body';

/** Where an object lies: the folder as {@link ConfinedFolder.use} takes it, and the name there. */
export interface ObjectPlace {
  readonly key: ObjectKey;
  readonly folder: string;
  readonly name: string;
}

export function placeOf(key: ObjectKey): ObjectPlace {
  // Keys come from our own formats, so one that could climb out of the root is a bug of ours.
  assert(isObjectKey(key), 'an object key is made of plain segments');
  const at = key.lastIndexOf('/');
  return { key, folder: key.slice(0, Math.max(0, at)), name: key.slice(at + 1) };
}

export interface OpenObject {
  readonly file: DiskFile;
  readonly size: number;
}

export class DirectoryObjects {
  readonly #disk: Disk;
  readonly #folder: ConfinedFolder;

  constructor(disk: Disk, folder: ConfinedFolder) {
    this.#disk = disk;
    this.#folder = folder;
  }

  /** Opens the file of an object; `undefined` when there is none. */
  async open({ key, folder, name }: ObjectPlace): Promise<OpenObject | undefined> {
    try {
      const opened = await this.#folder.use(folder, (path) => openPlain(this.#disk, join(path, name), key));
      if (opened !== 'directory') return opened;
      const body = await this.#folder.use(key, (inside) => openPlain(this.#disk, join(inside, bodyName), key));
      return body === 'directory' ? undefined : body;
    } catch (error) {
      if (hasNoFolder(error)) return undefined;
      throw error;
    }
  }

  /** The size of an object; `undefined` when there is none. */
  async size(place: ObjectPlace): Promise<number | undefined> {
    try {
      return await this.#folder.use(place.folder, (path) => this.sizeIn(path, place));
    } catch (error) {
      if (hasNoFolder(error)) return undefined;
      throw error;
    }
  }

  /** {@link size} where `path` leads to the folder of the object. */
  async sizeIn(path: string, { key, name }: ObjectPlace): Promise<number | undefined> {
    try {
      const stat = await this.#disk.lstat(join(path, name));
      if (stat.kind === 'file') return stat.size;
      if (stat.kind === 'other') return undefined;
      const body = await this.#folder.use(key, (inside) => this.#disk.lstat(join(inside, bodyName)));
      return body.kind === 'file' ? body.size : undefined;
    } catch (error) {
      if (hasNoFolder(error)) return undefined;
      throw error;
    }
  }

  /** False when nothing was there. */
  async remove(place: ObjectPlace): Promise<boolean> {
    try {
      return await this.#folder.use(place.folder, (path) => this.#removeIn(path, place));
    } catch (error) {
      if (hasNoFolder(error)) return false;
      throw error;
    }
  }

  async #removeIn(folder: string, { key, name }: ObjectPlace): Promise<boolean> {
    const path = join(folder, name);
    try {
      await this.#disk.unlink(path);
      return true;
    } catch (error) {
      const code = diskErrorCode(error);
      // Linux says EISDIR, others EPERM.
      if (code !== 'EISDIR' && code !== 'EPERM') throw error;
      if ((await this.#disk.lstat(path)).kind !== 'directory') throw error;
    }
    try {
      await this.#folder.use(key, (inside) => this.#disk.unlink(join(inside, bodyName)));
      await this.#disk.removeDirectory(path);
    } catch (error) {
      // The directory holds other keys and is no object, or someone else has removed or replaced it.
      if (!isAbsent(error) && diskErrorCode(error) !== 'ENOTEMPTY') throw error;
    }
    return true;
  }
}

/**
 * Opens the plain file at `path`, which messages call `shown`; `undefined` when nothing is there. Throws
 * {@link StoreError} `PROTOCOL` for anything that is neither a file nor a directory.
 */
export async function openPlain(disk: Disk, path: string, shown: string): Promise<OpenObject | 'directory' | undefined> {
  let file: DiskFile;
  try {
    file = await disk.open(path, 'read');
  } catch (error) {
    const code = diskErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'EISDIR') return 'directory';
    if (code === 'ELOOP') throw new StoreError('PROTOCOL', `${shown} is a symbolic link, and no link is followed in a store`, { cause: error });
    throw error;
  }
  let isKept = false;
  try {
    const { kind, size } = await file.stat();
    // A FIFO or device would be read for ever.
    if (kind === 'other') throw new StoreError('PROTOCOL', `${shown} is not a plain file`);
    if (kind === 'directory') return kind;
    isKept = true;
    return { file, size };
  } finally {
    if (!isKept) await file.close();
  }
}
