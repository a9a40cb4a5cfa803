/**
 * Puts objects into a directory store safely on any filesystem. An object appears whole or not at all: its bytes are
 * synced under a temporary name and linked to their key, which link(2) refuses when it is taken. Filesystems without
 * hard links (vfat, some network mounts) get the object as a directory that holds one file, `_body`: renaming a
 * directory onto one that is not empty fails, atomically, everywhere (doc/stores.md).
 */
import { join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode, isAbsent } from '../disk/disk.js';
import { removeStaleFiles, temporaryName } from '../disk/temporary-file.js';
import type { DirectoryFolders } from './directory-folders.js';
import type { DirectoryObjects, ObjectPlace } from './directory-objects.js';
import { bodyName } from './directory-objects.js';
import type { DirectoryRoot } from './directory-root.js';
import { temporaryPlace } from './directory-root.js';
import { bodyPieces } from './file-body.js';
import type { ObjectBody, PutOutcome } from './object-store.js';
import { StoreError } from './object-store.js';

/** How much of a file is copied at once. */
const copyPieceSize = 1024 * 1024;
/**
 * Filesystems have many words for "no hard links here" (EPERM, ENOTSUP, ENOSYS, EXDEV, EIO ...): every code means it
 * that does not clearly mean something else.
 */
const otherThanLinks: ReadonlySet<string | undefined> = new Set([
  undefined,
  'ENOENT',
  'ENOTDIR',
  'ELOOP',
  'ENAMETOOLONG',
  'EACCES',
  'EROFS',
  'ENOSPC',
  'EDQUOT',
  'ESTALE',
]);
const hasNoLinks = (error: unknown): boolean => !otherThanLinks.has(diskErrorCode(error));

export interface DirectoryPutParts {
  readonly disk: Disk;
  readonly random: Random;
  readonly clock: Clock;
  readonly root: DirectoryRoot;
  readonly folder: ConfinedFolder;
  readonly folders: DirectoryFolders;
  readonly objects: DirectoryObjects;
}

export class DirectoryPut {
  readonly #disk: Disk;
  readonly #random: Random;
  readonly #clock: Clock;
  readonly #root: DirectoryRoot;
  readonly #folder: ConfinedFolder;
  readonly #folders: DirectoryFolders;
  readonly #objects: DirectoryObjects;
  #hasLinks = true;
  #isTidy = false;

  constructor({ disk, random, clock, root, folder, folders, objects }: DirectoryPutParts) {
    this.#disk = disk;
    this.#random = random;
    this.#clock = clock;
    this.#root = root;
    this.#folder = folder;
    this.#folders = folders;
    this.#objects = objects;
  }

  /** False once the filesystem has refused a hard link. */
  get hasLinks(): boolean {
    return this.#hasLinks;
  }

  /** Resolves when the object is durable, or another one that was there before it. */
  async put(place: ObjectPlace, body: ObjectBody): Promise<PutOutcome> {
    if (!(body instanceof Uint8Array)) await this.#checkBody(body.path, body.size);
    const outcome = await this.#place(place, body).catch(async (error: unknown) => {
      if (!isAbsent(error)) throw error;
      // Someone removed a folder (or temporary file) that we had made, so everything is made again.
      this.#folders.forget();
      return this.#place(place, body);
    });
    // The writer of an existing object may have died before this, and the caller will rely on the object.
    if (outcome === 'exists') await this.#folders.persist(place);
    else await this.#folders.sync(place.folder);
    return outcome;
  }

  async #checkBody(path: string, size: number): Promise<void> {
    const stat = await this.#disk.stat(path).catch((error: unknown) => {
      if (diskErrorCode(error) === undefined) throw error;
      throw new StoreError('PROTOCOL', 'the file of an object to store cannot be read', { cause: error });
    });
    assert(stat.size === size, 'a file body is finished before it is put');
  }

  async #place(place: ObjectPlace, body: ObjectBody): Promise<PutOutcome> {
    await this.#folders.ensure(place.folder);
    return this.#folder.use(place.folder, async (parent) => {
      const target = join(parent, place.name);
      // A file from elsewhere would lack the rights of a group, or of an access list, which shows as a group's rights.
      const canLink = this.#hasLinks && !this.#root.access.isByGroup;
      const linked = canLink && !(body instanceof Uint8Array) ? await this.#linkBody(body.path, target) : undefined;
      return linked ?? this.#placeCopy(place, target, body);
    });
  }

  /** `undefined` when the file cannot be linked there. */
  async #linkBody(path: string, target: string): Promise<PutOutcome | undefined> {
    if (this.#root.access.isShared) {
      const file = await this.#disk.open(path, 'read');
      try {
        await this.#folders.setAccess(file, this.#root.access.file);
      } finally {
        await file.close();
      }
    }
    return this.#link(path, target);
  }

  /** `undefined` when there are no hard links, or none between these two folders. */
  async #link(path: string, target: string): Promise<PutOutcome | undefined> {
    try {
      await this.#disk.link(path, target);
      return 'created';
    } catch (error) {
      if (diskErrorCode(error) === 'EEXIST') return 'exists';
      if (hasNoLinks(error)) return undefined;
      throw error;
    }
  }

  async #placeCopy(place: ObjectPlace, target: string, body: ObjectBody): Promise<PutOutcome> {
    await this.#folders.ensure(temporaryPlace);
    if (!this.#isTidy) {
      this.#isTidy = true;
      await removeStaleFiles(this.#disk, this.#folder, temporaryPlace, this.#clock, bodyName);
    }
    return this.#folder.use(temporaryPlace, async (folder) => {
      if (this.#hasLinks) {
        const temporary = join(folder, temporaryName(this.#random));
        try {
          await this.#write(temporary, body);
          const linked = await this.#link(temporary, target);
          if (linked) return linked;
        } finally {
          // A file that stays behind is removed as stale one day; a failure here says nothing about the object.
          await this.#disk.unlink(temporary).catch(() => {});
        }
      }
      const outcome = await this.#placeAsDirectory(place, target, folder, body);
      // Directories work here, whatever was wrong with links.
      this.#hasLinks = false;
      return outcome;
    });
  }

  /** For filesystems without hard links. */
  async #placeAsDirectory(place: ObjectPlace, target: string, folder: string, body: ObjectBody): Promise<PutOutcome> {
    // Keeps a single writer safe even where renaming replaces an existing directory (the probe detects that).
    if ((await this.#objects.size(place)) !== undefined) return 'exists';
    const name = `${temporaryName(this.#random)}d`;
    const wrapper = join(folder, name);
    await this.#disk.makeDirectory(wrapper);
    let isPlaced = false;
    try {
      await this.#folders.shareFolder(wrapper);
      await this.#folder.use(join(temporaryPlace, name), async (inside) => {
        await this.#write(join(inside, bodyName), body);
        await this.#folders.syncPath(inside);
      });
      await this.#disk.rename(wrapper, target);
      isPlaced = true;
    } catch (error) {
      // Network filesystems have many words for a name that is taken.
      if (diskErrorCode(error) !== undefined && (await this.#objects.size(place)) !== undefined) return 'exists';
      throw error;
    } finally {
      if (!isPlaced) {
        await this.#folder.use(join(temporaryPlace, name), (inside) => this.#disk.unlink(join(inside, bodyName))).catch(() => {});
        await this.#disk.removeDirectory(wrapper).catch(() => {});
      }
    }
    // FAT keeps the place of a directory on the disk beside its name, and writes it there only when the directory
    // itself is synced.
    await this.#folders.syncIfFolder(place.key);
    await this.#folders.sync(temporaryPlace);
    return 'created';
  }

  async #write(path: string, body: ObjectBody): Promise<void> {
    const file = await this.#disk.open(path, 'create-new');
    try {
      let at = 0;
      for await (const piece of bodyPieces(this.#disk, body, copyPieceSize)) {
        await file.write(piece, at);
        at += piece.byteLength;
      }
      if (this.#root.access.isShared) await this.#folders.setAccess(file, this.#root.access.file);
      await (this.#root.access.isShared ? file.sync() : file.datasync());
    } finally {
      await file.close();
    }
  }
}
