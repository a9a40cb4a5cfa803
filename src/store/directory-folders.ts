/**
 * The folders of a directory store: made durably, and with the rights of the root, which several users may share
 * (doc/stores.md, "A folder for several users"). Remembers what the filesystem turned out not to have.
 */
import { join } from 'node:path';
import type { Random } from '../base/random.js';
import type { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk, DiskAccess } from '../disk/disk.js';
import { diskErrorCode, hasNoFolder, isAbsent } from '../disk/disk.js';
import { temporaryName } from '../disk/temporary-file.js';
import type { ObjectPlace } from './directory-objects.js';
import type { DirectoryRoot } from './directory-root.js';
import { temporaryPlace } from './directory-root.js';
import type { AccessHolder } from './folder-access.js';
import { setAccess } from './folder-access.js';
import { SharedSync } from './shared-sync.js';

export class DirectoryFolders {
  readonly #disk: Disk;
  readonly #random: Random;
  readonly #root: DirectoryRoot;
  readonly #folder: ConfinedFolder;
  readonly #syncs: SharedSync;
  #syncsFolders = true;
  #keepsRights = true;
  /** Folders get the rights of the root by themselves, as on filesystems that have only those of the mount. */
  #givesRights = false;

  constructor(disk: Disk, random: Random, root: DirectoryRoot, folder: ConfinedFolder) {
    this.#disk = disk;
    this.#random = random;
    this.#root = root;
    this.#folder = folder;
    this.#syncs = new SharedSync((place) => folder.use(place, (path) => this.syncPath(path)));
  }

  /** False once the filesystem could not sync a folder. */
  get syncsFolders(): boolean {
    return this.#syncsFolders;
  }

  /** False once rights could not be given. */
  get keepsRights(): boolean {
    return this.#keepsRights;
  }

  /** Resolves when every name made in the folder `place` before the call is durable. */
  sync(place: string): Promise<void> {
    return this.#syncs.sync(place);
  }

  /** Resolves when an object that was found, whoever made it, is durable: a file, or a folder that holds one. */
  async persist({ key, folder }: ObjectPlace): Promise<void> {
    await this.syncIfFolder(key);
    await this.sync(folder);
  }

  /** Syncs the folder `place`, if there is one. */
  async syncIfFolder(place: string): Promise<void> {
    await this.#folder
      .use(place, (inside) => this.syncPath(inside))
      .catch((error: unknown) => {
        if (!hasNoFolder(error)) throw error;
      });
  }

  /** Syncs the folder that `path` leads to, for one caller. */
  async syncPath(path: string): Promise<void> {
    if (!(await this.#disk.syncDirectory(path))) this.#syncsFolders = false;
  }

  /** Makes the folder `place` and its parents, durably. */
  async ensure(place: string): Promise<void> {
    if (place === '' || this.#root.durableFolders.has(place)) return;
    const at = place.lastIndexOf('/');
    const [folder, name] = [place.slice(0, Math.max(0, at)), place.slice(at + 1)];
    await this.ensure(folder);
    // Others use a folder as soon as it has its name, so a shared store gives it its rights before.
    const isMoved = this.#root.access.isShared && !this.#givesRights && place !== temporaryPlace;
    const isReady = isMoved && (await this.#moveFolderTo(folder, name));
    if (!isReady) {
      await this.#folder.use(folder, async (parent) => {
        const path = join(parent, name);
        await this.#disk.makeDirectory(path).catch((error: unknown) => {
          if (diskErrorCode(error) !== 'EEXIST') throw error;
        });
        // Its maker may have died before this, or had an older version.
        await this.shareFolder(path);
      });
    }
    // Another maker of the folder may not have synced it yet.
    await this.#syncs.sync(folder);
    this.#root.durableFolders.add(place);
  }

  /** To be called when someone has removed a folder: every folder is made again when it is next needed. */
  forget(): void {
    this.#root.durableFolders.clear();
  }

  /**
   * Makes a folder elsewhere and moves it to its place. False when something is there already, or when folders need no
   * moving here.
   */
  async #moveFolderTo(folder: string, name: string): Promise<boolean> {
    await this.ensure(temporaryPlace);
    return this.#folder.use(folder, async (parent) => {
      const found = await this.#disk.lstat(join(parent, name)).catch((error: unknown) => {
        if (!isAbsent(error)) throw error;
      });
      if (found) return false;
      return this.#folder.use(temporaryPlace, async (temporaryFolder) => {
        const made = join(temporaryFolder, `${temporaryName(this.#random)}d`);
        await this.#disk.makeDirectory(made);
        try {
          const { mode, group } = await this.#disk.lstat(made);
          await this.shareFolder(made);
          this.#givesRights = !this.#keepsRights || (mode === this.#root.access.folder.mode && group === this.#root.access.folder.group);
          // FAT is such a filesystem; there it is better to move nothing.
          if (this.#givesRights) {
            await this.#disk.removeDirectory(made);
            return false;
          }
          await this.#disk.rename(made, join(parent, name));
          return true;
        } catch (error) {
          await this.#disk.removeDirectory(made).catch(() => {});
          if (['EEXIST', 'ENOTEMPTY'].includes(diskErrorCode(error) ?? '')) return false;
          throw error;
        }
      });
    });
  }

  /** Gives the new folder that `path` leads to the rights of the root, where others share it. */
  async shareFolder(path: string): Promise<void> {
    if (!this.#root.access.isShared) return;
    const directory = await this.#disk.openDirectory(path);
    try {
      await this.setAccess(directory, this.#root.access.folder);
    } finally {
      directory.close();
    }
  }

  /** Gives a new file or folder its rights, as far as the filesystem keeps any. */
  async setAccess(made: AccessHolder, access: DiskAccess): Promise<void> {
    if (!(await setAccess(made, access))) this.#keepsRights = false;
  }
}
