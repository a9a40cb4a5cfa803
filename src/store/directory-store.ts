/**
 * An object store in a directory: one file an object, at the path that its key spells. It may lie on any filesystem, be
 * shared over a network, and be written by several devices at once (doc/format.md, "Keys"; doc/architecture.md, "The
 * store").
 *
 * Others may write into the directory, and they may be hostile: no symbolic link below the root is followed, and
 * nothing is removed there but objects that are to be deleted and temporary files of ours (doc/security.md).
 */

import { isAbsolute, join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { OpenFiles } from '../disk/open-files.js';
import { DirectoryFolders } from './directory-folders.js';
import { DirectoryListing } from './directory-listing.js';
import type { ObjectPlace, OpenObject } from './directory-objects.js';
import { DirectoryObjects, placeOf } from './directory-objects.js';
import { DirectoryPut } from './directory-put.js';
import { DirectoryRoot, temporaryPlace } from './directory-root.js';
import { listWithin } from './listing-budget.js';
import type {
  FolderLack,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOutcome,
  StoreErrorCode,
  StoreTraits,
} from './object-store.js';
import { defaultSizeMax, StoreError } from './object-store.js';

export interface DirectoryStoreOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
}

/** Open files kept for ranged reads: opening costs as much as reading. */
const openFilesMax = 64;

const codes: Readonly<Record<string, StoreErrorCode>> = {
  ENOSPC: 'FULL',
  EDQUOT: 'FULL',
  EFBIG: 'FULL',
  EACCES: 'DENIED',
  EPERM: 'DENIED',
  EROFS: 'READ_ONLY',
  EISDIR: 'PROTOCOL',
  ENOTDIR: 'PROTOCOL',
  ELOOP: 'PROTOCOL',
  ENXIO: 'PROTOCOL',
  ENAMETOOLONG: 'PROTOCOL',
};

function storeError(error: unknown, doing: string): StoreError {
  if (error instanceof StoreError) return error;
  const code = diskErrorCode(error);
  // A broken invariant (or a simulated crash) must not be disguised as an operating error of the disk.
  if (code === undefined) throw error;
  return new StoreError(codes[code] ?? 'UNAVAILABLE', `${doing}: ${describeError(error)}`, { cause: error });
}

export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly local = true;
  readonly #root: DirectoryRoot;
  readonly #clock: Clock;
  readonly #folders: DirectoryFolders;
  readonly #objects: DirectoryObjects;
  readonly #listing: DirectoryListing;
  readonly #put: DirectoryPut;
  readonly #open = new OpenFiles<OpenObject>(openFilesMax);

  private constructor(root: DirectoryRoot, { disk, random, clock = systemClock }: DirectoryStoreOptions) {
    const folder = new ConfinedFolder(disk, root.path);
    this.#root = root;
    this.#clock = clock;
    this.#folders = new DirectoryFolders(disk, random, root, folder);
    this.#objects = new DirectoryObjects(disk, folder);
    this.#listing = new DirectoryListing(disk, folder, this.#objects);
    this.#put = new DirectoryPut({ disk, random, clock, root, folder, folders: this.#folders, objects: this.#objects });
    this.description = `directory ${root.path}`;
  }

  /**
   * Opens the store at `path` (absolute), and changes nothing in it. Throws {@link StoreError} `NOT_A_STORE` when there
   * is none.
   */
  static async open(path: string, options: DirectoryStoreOptions): Promise<DirectoryStore> {
    assert(isAbsolute(path), 'the path of a store is absolute');
    try {
      return new DirectoryStore(await DirectoryRoot.open(options.disk, path), options);
    } catch (error) {
      throw storeError(error, `opening ${path}`);
    }
  }

  /**
   * Makes the directory (not its parents) where there is none, and a store in it; opens the store that is there
   * already.
   */
  static async create(path: string, options: DirectoryStoreOptions): Promise<DirectoryStore> {
    assert(isAbsolute(path), 'the path of a store is absolute');
    try {
      await DirectoryRoot.create(options.disk, path, options.random);
    } catch (error) {
      throw storeError(error, `making a store in ${path}`);
    }
    return DirectoryStore.open(path, options);
  }

  /**
   * A folder (made when needed) in which a file can be prepared before it is put. It is on the filesystem of the store,
   * and files left behind in it are removed one day.
   */
  get temporaryFolder(): string {
    return join(this.#root.path, temporaryPlace);
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { range, signal, fresh = false } = options;
    signal?.throwIfAborted();
    const place = placeOf(key);
    try {
      const read = async (object: OpenObject): Promise<Uint8Array> => {
        const start = Math.min(range?.offset ?? 0, object.size);
        const length = Math.min(range?.length ?? Infinity, object.size - start);
        const sizeMax = options.sizeMax ?? range?.length ?? defaultSizeMax;
        if (length > sizeMax) throw new StoreError('PROTOCOL', `object ${key} has ${length} bytes, at most ${sizeMax} are expected`);
        const bytes = Buffer.allocUnsafeSlow(length);
        const count = await object.file.read(bytes, start);
        signal?.throwIfAborted();
        return count === length ? bytes : bytes.subarray(0, count);
      };
      // A reader of one range will soon read another one of the same object.
      if (range && !fresh) return await this.#open.use(key, () => this.#openObject(place), read);
      const object = await this.#openObject(place);
      if (!object) return undefined;
      try {
        return await read(object);
      } finally {
        await object.file.close();
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      throw storeError(error, `reading ${key}`);
    }
  }

  readNow(key: ObjectKey, target: Uint8Array, offset: number): boolean {
    return this.#open.peek(key)?.file.readNow?.(target, offset) === target.byteLength;
  }

  async readInto(key: ObjectKey, target: Uint8Array, offset: number): Promise<number | undefined> {
    const place = placeOf(key);
    try {
      return await this.#open.use(
        key,
        () => this.#openObject(place),
        ({ file }) => file.read(target, offset),
      );
    } catch (error) {
      throw storeError(error, `reading ${key}`);
    }
  }

  async put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    options.signal?.throwIfAborted();
    const place = placeOf(key);
    try {
      await this.#root.check();
      return await this.#put.put(place, body);
    } catch (error) {
      throw storeError(error, `writing ${key}`);
    }
  }

  async persist(keys: readonly ObjectKey[]): Promise<void> {
    try {
      await Promise.all(keys.map((key) => this.#folders.persist(placeOf(key))));
    } catch (error) {
      throw storeError(error, 'syncing the store');
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    try {
      await this.#root.check();
      yield* listWithin(prefix, options, this.#clock, (after, budget) => this.#listing.walk(prefix, after, budget));
      // Objects that vanish together with the disk during the walk look as if they had been removed.
      await this.#root.check();
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw storeError(error, `listing ${prefix}`);
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const folders = new Set<string>();
    let doing = 'removing objects';
    try {
      await this.#root.check();
      for (const key of keys) {
        doing = `removing ${key}`;
        const place = placeOf(key);
        if (await this.#objects.remove(place)) folders.add(place.folder);
        await this.#open.drop(key);
      }
      for (const folder of folders) await this.#folders.sync(folder);
    } catch (error) {
      throw storeError(error, doing);
    }
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    const place = placeOf(key);
    try {
      const size = await this.#objects.size(place);
      if (size === undefined) await this.#root.check();
      return size;
    } catch (error) {
      throw storeError(error, `looking for ${key}`);
    }
  }

  async traits(): Promise<StoreTraits> {
    const lacks: FolderLack[] = [];
    if (!this.#put.hasLinks) lacks.push('hard-links');
    if (!this.#folders.syncsFolders) lacks.push('folder-sync');
    if (!this.#folders.keepsRights) lacks.push('rights');
    return { lacks };
  }

  async close(): Promise<void> {
    await this.#open.close();
  }

  /** `undefined` when there is no such object. */
  async #openObject(place: ObjectPlace): Promise<OpenObject | undefined> {
    const opened = await this.#objects.open(place);
    if (!opened) await this.#root.check();
    return opened;
  }
}
