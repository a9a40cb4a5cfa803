/**
 * Lists the objects in the folders of a directory store, in the order of their keys. Every folder has a bound, and the
 * whole list has a budget (doc/stores.md, "Lists"): others may write into the directory.
 */
import { join } from 'node:path';
import type { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk } from '../disk/disk.js';
import { hasNoFolder } from '../disk/disk.js';
import type { DirectoryObjects } from './directory-objects.js';
import { bodyName, placeOf } from './directory-objects.js';
import type { ListingBudget } from './listing-budget.js';
import type { ListedObject } from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';

/** Names of one folder that are kept, to be sorted. */
const folderNamesMax = 1_000_000;
/** Objects whose sizes are asked for together. */
const statBatch = 32;

export class DirectoryListing {
  readonly #disk: Disk;
  readonly #folder: ConfinedFolder;
  readonly #objects: DirectoryObjects;

  constructor(disk: Disk, folder: ConfinedFolder, objects: DirectoryObjects) {
    this.#disk = disk;
    this.#folder = folder;
    this.#objects = objects;
  }

  /**
   * The objects below `prefix` whose keys come after `after`. Only one directory at a time is in memory: the 256 of
   * `packs/` are never held together.
   */
  async *walk(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    budget.request();
    const place = prefix.slice(0, -1);
    let nameCount = 0;
    const isOurs = (name: string): boolean => {
      budget.signal.throwIfAborted();
      if (name.includes('/') || !isObjectKey(prefix + name)) return false;
      if (++nameCount > folderNamesMax)
        throw new StoreError('PROTOCOL', `listing ${prefix}: there are more than ${folderNamesMax} names in a folder`);
      return true;
    };
    const entries = await this.#folder
      .use(place, (path) => this.#disk.readDirectory(path, isOurs))
      .catch((error: unknown) => {
        if (hasNoFolder(error)) return [];
        throw error;
      });
    const found: { key: string; sort: string; directory: boolean }[] = [];
    for (const { name, kind } of entries) {
      const key = prefix + name;
      if (kind === 'other') continue;
      if (kind === 'file') {
        budget.found();
        if (key > after) found.push({ key, sort: key, directory: false });
        continue;
      }
      // Everything below sorts between `key/` and `key0`.
      if (`${key}0` <= after) continue;
      const body = await this.#folder.use(key, (path) => this.#disk.lstat(join(path, bodyName))).catch(() => undefined);
      if (!body) found.push({ key, sort: `${key}/`, directory: true });
      else if (key > after) found.push({ key, sort: key, directory: false });
    }
    found.sort((a, b) => (a.sort < b.sort ? -1 : 1));
    const batch: string[] = [];
    for (const [index, { key, directory }] of found.entries()) {
      if (directory) {
        yield* this.walk(`${key}/`, after, budget);
        continue;
      }
      batch.push(key);
      if (batch.length < statBatch && found[index + 1]?.directory === false) continue;
      yield* this.#withSizes(place, batch.splice(0), budget);
    }
  }

  /** Objects of one folder with their sizes; those that are gone are left out. */
  async *#withSizes(place: string, keys: readonly string[], budget: ListingBudget): AsyncGenerator<ListedObject> {
    const sizes = await this.#folder
      .use(place, (path) => Promise.all(keys.map((key) => this.#objects.sizeIn(path, placeOf(key)))))
      .catch((error: unknown) => {
        if (hasNoFolder(error)) return [];
        throw error;
      });
    for (const [index, key] of keys.entries()) {
      budget.signal.throwIfAborted();
      const size = sizes[index];
      if (size !== undefined) yield { key, size };
    }
  }
}
