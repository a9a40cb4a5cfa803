/**
 * An object store in a directory: one file an object, at the path that its key spells. It may lie on any filesystem, be
 * shared over a network, and be written by several devices at once (doc/format.md, "Keys"; doc/architecture.md, "The
 * store").
 *
 * An object appears whole or not at all: its bytes are synced under a temporary name in `_tmp/` and linked to their
 * key, which link(2) refuses when it is taken. Filesystems without hard links (vfat, some network mounts) get the
 * object as a directory that holds one file, `_body`: renaming a directory onto one that is not empty fails,
 * atomically, everywhere. Both kinds may stand side by side. `_` is in no key, so none of these names can be one.
 *
 * Others may write into the directory, and they may be hostile: no symbolic link below the root is followed, and
 * nothing is removed there but objects that are to be deleted and temporary files of ours (doc/security.md). What is
 * made there is for those whom the root is for.
 */

import { isAbsolute, join } from 'node:path';
import { assert } from '../base/assert.js';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk, DiskAccess, DiskFile, DiskStat } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { OpenFiles } from '../disk/open-files.js';
import { removeStaleFiles, temporaryName } from '../disk/temporary-file.js';
import { replaceFile } from '../disk/whole-file.js';
import { bodyPieces } from './file-body.js';
import type { AccessHolder, FolderAccess } from './folder-access.js';
import { accessIn, setAccess } from './folder-access.js';
import type { ListingBudget } from './listing-budget.js';
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
import { isObjectKey, StoreError } from './object-store.js';
import { SharedSync } from './shared-sync.js';

export interface DirectoryStoreOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
}

const temporaryPlace = '_tmp';
const bodyName = '_body';
/**
 * Holds random bytes made with the store: an empty mount point where the store's disk should be is told apart by its
 * absence.
 */
const markerName = '_sealdrive';
const markerSize = 32;
const newMarkerPattern = /^_sealdrive-[0-9a-f]{8}$/;
/**
 * Whether a folder that holds no more than such names is empty for a store: a file system makes them, or a creation
 * that was cut off left them.
 */
export const isLeftover = (name: string): boolean => name === 'lost+found' || name === temporaryPlace || newMarkerPattern.test(name);
const defaultSizeMax = 64 * 1024 * 1024;
const statBatch = 32;
/** Names of one folder that are kept, to be sorted. */
const folderNamesMax = 1_000_000;
/** How much of a file is copied at once. */
const copyPieceSize = 1024 * 1024;
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
  // Not an operating error of the disk: a broken invariant (or a simulated crash) must not be dressed up as one.
  if (code === undefined) throw error;
  return new StoreError(codes[code] ?? 'UNAVAILABLE', `${doing}: ${describeError(error)}`, { cause: error });
}

const isAbsent = (error: unknown): boolean => diskErrorCode(error) === 'ENOENT';
/** Nothing is in a folder that is not there, or is a file. */
const hasNoFolder = (error: unknown): boolean => isAbsent(error) || diskErrorCode(error) === 'ENOTDIR';
const isTaken = (error: unknown): boolean => diskErrorCode(error) === 'EEXIST';
/**
 * Filesystems have many words for "no hard links here" (EPERM, ENOTSUP, ENOSYS, EXDEV, EIO ...): anything that says
 * nothing else.
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

/** Where an object lies: the folder as {@link ConfinedFolder.use} takes it, and the name there. */
interface ObjectPlace {
  readonly key: ObjectKey;
  readonly folder: string;
  readonly name: string;
}

function placeOf(key: ObjectKey): ObjectPlace {
  // Keys come from our own formats: one that could climb out of the root is a bug of ours.
  assert(isObjectKey(key), 'an object key is made of plain segments');
  const at = key.lastIndexOf('/');
  return { key, folder: key.slice(0, Math.max(0, at)), name: key.slice(at + 1) };
}

interface OpenObject {
  readonly file: DiskFile;
  readonly size: number;
}

export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly local = true;
  readonly #root: string;
  readonly #disk: Disk;
  readonly #random: Random;
  readonly #clock: Clock;
  readonly #folder: ConfinedFolder;
  readonly #syncs: SharedSync;
  /**
   * What the root was when last seen, to notice that its disk is gone; replaced when the same store comes back under
   * other numbers.
   */
  #identity: { readonly device: number; readonly ino: number };
  readonly #marker: Uint8Array | undefined;
  /** For whom the root is. */
  #access: FolderAccess;
  /** False once the file system has refused a hard link. */
  #hasLinks = true;
  /** False once the file system could not sync a folder. */
  #syncsFolders = true;
  /** False once rights could not be given. */
  #keepsRights = true;
  /** Folders get the rights of the root by themselves, as on file systems that have none but those of a mount. */
  #givesRights = false;
  #isTidy = false;
  readonly #open = new OpenFiles<OpenObject>(openFilesMax);
  /** Folders that exist durably, made or seen by us. */
  readonly #folders = new Set<string>();

  private constructor(root: string, options: DirectoryStoreOptions, stat: DiskStat, marker: Uint8Array | undefined) {
    this.#root = root;
    this.#disk = options.disk;
    this.#random = options.random;
    this.#clock = options.clock ?? systemClock;
    this.#folder = new ConfinedFolder(options.disk, root);
    this.#syncs = new SharedSync((place) => this.#folder.use(place, (path) => this.#syncFolder(path)));
    this.#identity = stat;
    this.#access = accessIn(stat);
    this.#marker = marker;
    this.description = `directory ${root}`;
  }

  /**
   * Opens the store at `path` (absolute), and changes nothing in it. Throws {@link StoreError}: `NOT_A_STORE` when
   * there is none.
   */
  static async open(path: string, options: DirectoryStoreOptions): Promise<DirectoryStore> {
    assert(isAbsolute(path), 'the path of a store is absolute');
    const { disk } = options;
    try {
      const stat = await disk.stat(path).catch((error: unknown) => {
        if (isAbsent(error) || diskErrorCode(error) === 'ENOTDIR') {
          throw new StoreError('NOT_A_STORE', `there is no directory ${path}; is the disk that holds it mounted?`, { cause: error });
        }
        throw error;
      });
      if (stat.kind !== 'directory') throw new StoreError('NOT_A_STORE', `${path} is not a directory`);
      const marker = await readMarker(disk, path);
      if (!marker) {
        // A copy made by other tools may lack the marker, but no volume lacks its keyslots.
        const names = (await disk.readDirectory(path)).map((entry) => entry.name);
        if (!names.includes('keys')) {
          throw new StoreError('NOT_A_STORE', `${path} holds no Sealdrive store; is the disk that holds it mounted?`);
        }
      }
      return new DirectoryStore(path, options, stat, marker);
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
    const { disk } = options;
    try {
      await disk.makeDirectory(path).then(
        () => disk.syncDirectory(join(path, '..')),
        (error: unknown) => {
          if (isAbsent(error)) throw new StoreError('NOT_A_STORE', `there is no directory to make ${path} in`, { cause: error });
          if (diskErrorCode(error) !== 'EEXIST') throw error;
        },
      );
      const names = (await disk.readDirectory(path)).map((entry) => entry.name).filter((name) => !isLeftover(name));
      if (!names.includes(markerName) && !names.includes('keys')) {
        if (names.length > 0) {
          throw new StoreError('NOT_A_STORE', `${path} holds other files: a store is made in an empty directory`);
        }
        await writeMarker(disk, path, options.random);
      }
      return await DirectoryStore.open(path, options);
    } catch (error) {
      throw storeError(error, `making a store in ${path}`);
    }
  }

  /**
   * A folder (made when it is needed) where a file can be finished that is then put: it is on the file system of the
   * store, and what stays in it is removed one day.
   */
  get temporaryFolder(): string {
    return join(this.#root, temporaryPlace);
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { range, signal } = options;
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
      // Who reads a range will soon read another one of the same object.
      if (range) return await this.#open.use(key, () => this.#openObject(place), read);
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
      if (body instanceof Uint8Array) await this.#checkRoot();
      else await this.#checkBody(body.path, body.size);
      const outcome = await this.#place(place, body).catch(async (error: unknown) => {
        if (!isAbsent(error)) throw error;
        // Someone removed a folder (or our temporary file) that we had made: once more from the start.
        this.#folders.clear();
        return this.#place(place, body);
      });
      // Also when it exists: its writer may have died before this, and the caller will rely on it.
      if (outcome === 'exists') await this.#syncPlaced(place);
      await this.#syncs.sync(place.folder);
      return outcome;
    } catch (error) {
      throw storeError(error, `writing ${key}`);
    }
  }

  async #checkBody(path: string, size: number): Promise<void> {
    await this.#checkRoot();
    const stat = await this.#disk.stat(path).catch((error: unknown) => {
      if (diskErrorCode(error) === undefined) throw error;
      throw new StoreError('PROTOCOL', 'the file of an object to store cannot be read', { cause: error });
    });
    assert(stat.size === size, 'a file body is finished before it is put');
  }

  async #place(place: ObjectPlace, body: ObjectBody): Promise<PutOutcome> {
    await this.#ensureFolder(place.folder);
    return this.#folder.use(place.folder, async (parent) => {
      const target = join(parent, place.name);
      // Where a group (or an access list, which shows as the group's rights) decides who may read, a file from
      // elsewhere would not have its rights.
      const canLink = this.#hasLinks && !this.#access.isByGroup;
      const linked = canLink && !(body instanceof Uint8Array) ? await this.#linkBody(body.path, target) : undefined;
      return linked ?? this.#placeCopy(place, target, body);
    });
  }

  /** `undefined`: the file cannot be linked there. */
  async #linkBody(path: string, target: string): Promise<PutOutcome | undefined> {
    if (this.#access.isShared) {
      const file = await this.#disk.open(path, 'read');
      try {
        await this.#setAccess(file, this.#access.file);
      } finally {
        await file.close();
      }
    }
    return this.#link(path, target);
  }

  /** `undefined`: there are no hard links, or not between these two. */
  async #link(path: string, target: string): Promise<PutOutcome | undefined> {
    try {
      await this.#disk.link(path, target);
      return 'created';
    } catch (error) {
      if (isTaken(error)) return 'exists';
      if (hasNoLinks(error)) return undefined;
      throw error;
    }
  }

  async #placeCopy(place: ObjectPlace, target: string, body: ObjectBody): Promise<PutOutcome> {
    await this.#ensureFolder(temporaryPlace);
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
          // What stays behind is removed as stale one day; a failure here says nothing about the object.
          await this.#disk.unlink(temporary).catch(() => {});
        }
      }
      const outcome = await this.#placeAsDirectory(place, target, folder, body);
      // Whatever was wrong with links, this works.
      this.#hasLinks = false;
      return outcome;
    });
  }

  /** For filesystems without hard links: see the top of this file. */
  async #placeAsDirectory(place: ObjectPlace, target: string, folder: string, body: ObjectBody): Promise<PutOutcome> {
    // A single writer stays safe even where renaming replaces what is there (the probe finds that out).
    if ((await this.#size(place)) !== undefined) return 'exists';
    const name = `${temporaryName(this.#random)}d`;
    const wrapper = join(folder, name);
    await this.#disk.makeDirectory(wrapper);
    let isPlaced = false;
    try {
      await this.#shareFolder(wrapper);
      await this.#folder.use(join(temporaryPlace, name), async (inside) => {
        await this.#write(join(inside, bodyName), body);
        await this.#syncFolder(inside);
      });
      await this.#disk.rename(wrapper, target);
      isPlaced = true;
    } catch (error) {
      // Network filesystems have many words for a name that is taken.
      if (diskErrorCode(error) !== undefined && (await this.#size(place)) !== undefined) return 'exists';
      throw error;
    } finally {
      if (!isPlaced) {
        await this.#folder.use(join(temporaryPlace, name), (inside) => this.#disk.unlink(join(inside, bodyName))).catch(() => {});
        await this.#disk.removeDirectory(wrapper).catch(() => {});
      }
    }
    // FAT keeps the place of a directory on the disk beside its name, and writes it there only when the directory
    // itself is synced.
    await this.#syncPlaced(place);
    await this.#syncs.sync(temporaryPlace);
    return 'created';
  }

  async #syncFolder(path: string): Promise<void> {
    if (!(await this.#disk.syncDirectory(path))) this.#syncsFolders = false;
  }

  async #setAccess(made: AccessHolder, access: DiskAccess): Promise<void> {
    if (!(await setAccess(made, access))) this.#keepsRights = false;
  }

  /** Syncs an object that was placed as a directory, perhaps by somebody else. */
  async #syncPlaced(place: ObjectPlace): Promise<void> {
    await this.#folder
      .use(place.key, (inside) => this.#syncFolder(inside))
      .catch((error: unknown) => {
        if (!hasNoFolder(error)) throw error;
      });
  }

  async #write(path: string, body: ObjectBody): Promise<void> {
    const file = await this.#disk.open(path, 'create-new');
    try {
      let at = 0;
      for await (const piece of bodyPieces(this.#disk, body, copyPieceSize)) {
        await file.write(piece, at);
        at += piece.byteLength;
      }
      if (this.#access.isShared) await this.#setAccess(file, this.#access.file);
      await (this.#access.isShared ? file.sync() : file.datasync());
    } finally {
      await file.close();
    }
  }

  /** Makes a folder below the root, and its parents, durably. */
  async #ensureFolder(place: string): Promise<void> {
    if (place === '' || this.#folders.has(place)) return;
    const at = place.lastIndexOf('/');
    const [folder, name] = [place.slice(0, Math.max(0, at)), place.slice(at + 1)];
    await this.#ensureFolder(folder);
    // Others use a folder as soon as it has its name: in a shared store it gets its rights before.
    const isMoved = this.#access.isShared && !this.#givesRights && place !== temporaryPlace;
    const isReady = isMoved && (await this.#moveFolderTo(folder, name));
    if (!isReady) {
      await this.#folder.use(folder, async (parent) => {
        const path = join(parent, name);
        await this.#disk.makeDirectory(path).catch((error: unknown) => {
          if (!isTaken(error)) throw error;
        });
        // Also when it was there: its maker may have died before this, or had an older version.
        await this.#shareFolder(path);
      });
    }
    // Also when it was there: its maker may not have synced it yet.
    await this.#syncs.sync(folder);
    this.#folders.add(place);
  }

  /** Makes a folder elsewhere and moves it to its place. False: something is there already, or there is no need to. */
  async #moveFolderTo(folder: string, name: string): Promise<boolean> {
    await this.#ensureFolder(temporaryPlace);
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
          await this.#shareFolder(made);
          this.#givesRights = !this.#keepsRights || (mode === this.#access.folder.mode && group === this.#access.folder.group);
          // FAT is such a file system, where it is better to move nothing.
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

  async #shareFolder(path: string): Promise<void> {
    if (!this.#access.isShared) return;
    const directory = await this.#disk.openDirectory(path);
    try {
      await this.#setAccess(directory, this.#access.folder);
    } finally {
      directory.close();
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    try {
      await this.#checkRoot();
      yield* listWithin(prefix, options, this.#clock, (after, budget) => this.#walk(prefix, after, budget));
      // Names that vanish with the disk in the middle of a walk look like removed ones.
      await this.#checkRoot();
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw storeError(error, `listing ${prefix}`);
    }
  }

  /** One directory at a time is in memory: the 256 of `packs/` are never held together. */
  async *#walk(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
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
        yield* this.#walk(`${key}/`, after, budget);
        continue;
      }
      batch.push(key);
      if (batch.length < statBatch && found[index + 1]?.directory === false) continue;
      yield* this.#withSizes(place, batch.splice(0), budget);
    }
  }

  /** Objects of one folder, whose sizes are asked for together; those that are gone are left out. */
  async *#withSizes(place: string, keys: readonly string[], budget: ListingBudget): AsyncGenerator<ListedObject> {
    const sizes = await this.#folder
      .use(place, (path) => Promise.all(keys.map((key) => this.#sizeIn(path, placeOf(key)))))
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

  /** Size of an object, in either of its two shapes. */
  async #size(place: ObjectPlace): Promise<number | undefined> {
    try {
      return await this.#folder.use(place.folder, (path) => this.#sizeIn(path, place));
    } catch (error) {
      if (hasNoFolder(error)) return undefined;
      throw error;
    }
  }

  /** {@link #size} where `path` leads to its folder. */
  async #sizeIn(path: string, { key, name }: ObjectPlace): Promise<number | undefined> {
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

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const folders = new Set<string>();
    let doing = 'removing objects';
    try {
      await this.#checkRoot();
      for (const key of keys) {
        doing = `removing ${key}`;
        const place = placeOf(key);
        if (await this.#remove(place)) folders.add(place.folder);
        await this.#open.drop(key);
      }
      for (const folder of folders) await this.#syncs.sync(folder);
    } catch (error) {
      throw storeError(error, doing);
    }
  }

  async #remove(place: ObjectPlace): Promise<boolean> {
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
      // A directory of other keys, not an object; or someone else removed or replaced it meanwhile.
      if (!isAbsent(error) && diskErrorCode(error) !== 'ENOTEMPTY') throw error;
    }
    return true;
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    const place = placeOf(key);
    try {
      const size = await this.#size(place);
      if (size === undefined) await this.#checkRoot();
      return size;
    } catch (error) {
      throw storeError(error, `looking for ${key}`);
    }
  }

  async traits(): Promise<StoreTraits> {
    const lacks: FolderLack[] = [];
    if (!this.#hasLinks) lacks.push('hard-links');
    if (!this.#syncsFolders) lacks.push('folder-sync');
    if (!this.#keepsRights) lacks.push('rights');
    return { lacks };
  }

  async close(): Promise<void> {
    await this.#open.close();
  }

  /**
   * Throws `UNAVAILABLE` when the root is gone or is something else now (its disk was unplugged): "absent" would be a
   * lie.
   */
  async #checkRoot(): Promise<void> {
    const stat = await this.#disk.stat(this.#root).catch((error: unknown) => {
      if (!isAbsent(error) && diskErrorCode(error) !== 'ENOTDIR') throw error;
      throw new StoreError('UNAVAILABLE', `the directory ${this.#root} is gone; is the disk that holds it mounted?`, { cause: error });
    });
    this.#access = accessIn(stat);
    if (stat.device === this.#identity.device && stat.ino === this.#identity.ino) return;
    const marker = await readMarker(this.#disk, this.#root);
    if (!this.#marker || !marker || !equalBytes(marker, this.#marker)) {
      throw new StoreError('UNAVAILABLE', `another directory took the place of ${this.#root}; is the disk that holds the store mounted?`);
    }
    this.#identity = stat;
    this.#folders.clear();
  }

  /** The file of an object, in either of its two shapes; `undefined` when there is none. */
  async #openObject(place: ObjectPlace): Promise<OpenObject | undefined> {
    const opened = await this.#openIn(place.folder, place);
    if (!opened) await this.#checkRoot();
    return opened;
  }

  async #openIn(folder: string, { key, name }: ObjectPlace): Promise<OpenObject | undefined> {
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
}

/**
 * The plain file at `path`, which is called `shown`; `undefined` when nothing is there. Nothing else than a file or
 * directory is touched.
 */
async function openPlain(disk: Disk, path: string, shown: string): Promise<OpenObject | 'directory' | undefined> {
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

async function readMarker(disk: Disk, root: string): Promise<Uint8Array | undefined> {
  const marker = await openPlain(disk, join(root, markerName), markerName);
  if (!marker) return undefined;
  if (marker === 'directory') throw new StoreError('NOT_A_STORE', `${join(root, markerName)} is a directory`);
  try {
    const bytes = Buffer.alloc(markerSize);
    return bytes.subarray(0, await marker.file.read(bytes, 0));
  } finally {
    await marker.file.close();
  }
}

async function writeMarker(disk: Disk, root: string, random: Random): Promise<void> {
  const access = accessIn(await disk.stat(root));
  const text = Buffer.from(toHex(random.bytes(markerSize / 2)), 'latin1');
  await replaceFile(disk, join(root, markerName), text, {
    // Others may make a store there at the same time.
    temporary: join(root, `${markerName}-${text.toString('latin1', 0, 8)}`),
    isExclusive: true,
    prepare: async (file) => {
      if (access.isShared) await setAccess(file, access.file);
    },
  });
}
