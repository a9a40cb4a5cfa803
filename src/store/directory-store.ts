/**
 * An object store in a directory: one file an object, at the path that its key spells. It may lie on any filesystem, be shared
 * over a network, and be written by several devices at once (doc/format.md, "Keys"; doc/architecture.md, "The store").
 *
 * An object appears whole or not at all: its bytes are synced under a temporary name in `_tmp/` and linked to their key, which
 * link(2) refuses when it is taken. Filesystems without hard links (vfat, some network mounts) get the object as a directory
 * that holds one file, `_body`: renaming a directory onto one that is not empty fails, atomically, everywhere. Both kinds may
 * stand side by side. `_` is in no key, so none of these names can be one.
 */
import { isAbsolute, join } from 'node:path';
import { assert } from '../base/assert.js';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/log.js';
import type { Random } from '../base/random.js';
import { diskErrorCode } from '../disk/disk.js';
import type { Disk, DiskFile, DiskStat } from '../disk/disk.js';
import { OpenFiles } from '../disk/open-files.js';
import { StoreError, isObjectKey } from './object-store.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOutcome, StoreErrorCode } from './object-store.js';
import { SharedSync } from './shared-sync.js';

export interface DirectoryStoreOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
}

const temporaryName = '_tmp';
const bodyName = '_body';
/** Holds random bytes made with the store: an empty mount point where the store's disk should be is told apart by its absence. */
const markerName = '_sealdrive';
const markerSize = 32;
const defaultSizeMax = 64 * 1024 * 1024;
/** A temporary file this old belongs to nobody: several devices may share the directory, and none can ask another. */
const staleMs = 24 * 60 * 60 * 1000;
const statBatch = 32;
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
const isTaken = (error: unknown): boolean => diskErrorCode(error) === 'EEXIST';
/** How renaming a directory onto something that is there fails: onto a directory that is not empty, or onto a file. */
const isTakenByRename = (error: unknown): boolean => ['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(diskErrorCode(error) ?? '');
const hasNoLinks = (error: unknown): boolean => ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV', 'EMLINK'].includes(diskErrorCode(error) ?? '');

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
  readonly #syncs: SharedSync;
  /** What the root was when last seen, to notice that its disk is gone; replaced when the same store comes back under other numbers. */
  #identity: { readonly device: number; readonly ino: number };
  readonly #marker: Uint8Array | undefined;
  readonly #open = new OpenFiles<OpenObject>(openFilesMax);
  /** Directories that exist durably, made or seen by us. */
  readonly #directories = new Set<string>();

  private constructor(root: string, options: DirectoryStoreOptions, stat: DiskStat, marker: Uint8Array | undefined) {
    this.#root = root;
    this.#disk = options.disk;
    this.#random = options.random;
    this.#syncs = new SharedSync(options.disk);
    this.#identity = stat;
    this.#marker = marker;
    this.description = `directory ${root}`;
  }

  /** Opens the store at `path` (absolute). Throws {@link StoreError}: `NOT_A_STORE` when there is none. */
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
      const store = new DirectoryStore(path, options, stat, marker);
      await store.#removeStale(options.clock ?? systemClock);
      return store;
    } catch (error) {
      throw storeError(error, `opening ${path}`);
    }
  }

  /** Makes the directory (not its parents) where there is none, and a store in it; opens the store that is there already. */
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
      const names = (await disk.readDirectory(path)).map((entry) => entry.name).filter((name) => name !== 'lost+found');
      if (!names.includes(markerName) && !names.includes('keys')) {
        if (names.some((name) => name !== temporaryName)) {
          throw new StoreError('NOT_A_STORE', `${path} holds other files: a store is made in an empty directory`);
        }
        await writeMarker(disk, path, options.random);
      }
      return await DirectoryStore.open(path, options);
    } catch (error) {
      throw storeError(error, `making a store in ${path}`);
    }
  }

  /** A folder (made when it is needed) where a file can be finished that is then put: it is on the file system of the store, and what stays in it is removed one day. */
  get temporaryFolder(): string {
    return join(this.#root, temporaryName);
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { range, signal } = options;
    signal?.throwIfAborted();
    const path = this.#path(key);
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
      if (range) return await this.#open.use(path, () => this.#openObject(path), read);
      const object = await this.#openObject(path);
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
    return this.#open.peek(this.#path(key))?.file.readNow?.(target, offset) === target.byteLength;
  }

  async readInto(key: ObjectKey, target: Uint8Array, offset: number): Promise<number | undefined> {
    const path = this.#path(key);
    try {
      return await this.#open.use(
        path,
        () => this.#openObject(path),
        ({ file }) => file.read(target, offset),
      );
    } catch (error) {
      throw storeError(error, `reading ${key}`);
    }
  }

  async put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    options.signal?.throwIfAborted();
    const path = this.#path(key);
    try {
      if (body instanceof Uint8Array) await this.#checkRoot();
      else await this.#checkBody(body.path, body.size);
      const parent = join(path, '..');
      await this.#ensureDirectory(parent);
      const outcome = await this.#place(path, body).catch(async (error: unknown) => {
        if (!isAbsent(error)) throw error;
        // Someone removed a directory (or our temporary file) that we had made: once more from the start.
        this.#directories.clear();
        await this.#ensureDirectory(parent);
        return this.#place(path, body);
      });
      // Also when it exists: whoever put it may have died before this, and the caller will rely on it.
      await this.#syncs.sync(parent);
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

  async #place(path: string, body: ObjectBody): Promise<PutOutcome> {
    if (!(body instanceof Uint8Array)) {
      try {
        await this.#disk.link(body.path, path);
        return 'created';
      } catch (error) {
        if (isTaken(error)) return 'exists';
        if (!hasNoLinks(error)) throw error;
      }
    }
    const temporary = join(this.#root, temporaryName, toHex(this.#random.bytes(16)));
    try {
      await this.#writeTemporary(temporary, body);
      try {
        await this.#disk.link(temporary, path);
        return 'created';
      } catch (error) {
        if (isTaken(error)) return 'exists';
        if (!hasNoLinks(error)) throw error;
      }
      return await this.#placeAsDirectory(temporary, path);
    } finally {
      // What stays behind is removed as stale one day; a failure here says nothing about the object.
      await this.#disk.unlink(temporary).catch(() => {});
    }
  }

  /** For filesystems without hard links: see the top of this file. */
  async #placeAsDirectory(temporary: string, path: string): Promise<PutOutcome> {
    const wrapper = `${temporary}d`;
    await this.#disk.makeDirectory(wrapper);
    try {
      await this.#disk.rename(temporary, join(wrapper, bodyName));
      await this.#disk.syncDirectory(wrapper);
      await this.#disk.rename(wrapper, path);
      return 'created';
    } catch (error) {
      const taken = isTakenByRename(error) && (await this.#size(path)) !== undefined;
      await this.#disk.unlink(join(wrapper, bodyName)).catch(() => {});
      await this.#disk.removeDirectory(wrapper).catch(() => {});
      if (taken) return 'exists';
      throw error;
    }
  }

  async #writeTemporary(temporary: string, body: ObjectBody): Promise<void> {
    await this.#ensureDirectory(join(this.#root, temporaryName));
    if (!(body instanceof Uint8Array)) await this.#disk.copyFile(body.path, temporary);
    const file = await this.#disk.open(temporary, body instanceof Uint8Array ? 'create-new' : 'write');
    try {
      if (body instanceof Uint8Array) await file.write(body, 0);
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** Makes a directory below the root, and its parents, durably. */
  async #ensureDirectory(path: string): Promise<void> {
    if (path === this.#root || this.#directories.has(path)) return;
    const parent = join(path, '..');
    await this.#ensureDirectory(parent);
    await this.#disk.makeDirectory(path).catch((error: unknown) => {
      if (diskErrorCode(error) !== 'EEXIST') throw error;
    });
    // Also when it was there: whoever made it may not have synced it yet.
    await this.#syncs.sync(parent);
    this.#directories.add(path);
  }

  async *list(prefix: string, options: { readonly after?: ObjectKey; readonly signal?: AbortSignal } = {}): AsyncIterable<ListedObject> {
    assert(prefix === '' || (prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1))), 'a list prefix is empty or ends in a slash');
    try {
      await this.#checkRoot();
      yield* this.#walk(prefix, options.after ?? '', options.signal);
      // Names that vanish with the disk in the middle of a walk look like removed ones.
      await this.#checkRoot();
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw storeError(error, `listing ${prefix}`);
    }
  }

  /** One directory at a time is in memory: the 256 of `packs/` are never held together. */
  async *#walk(prefix: string, after: string, signal: AbortSignal | undefined): AsyncGenerator<ListedObject> {
    signal?.throwIfAborted();
    const entries = await this.#disk.readDirectory(join(this.#root, prefix)).catch((error: unknown) => {
      if (isAbsent(error) || diskErrorCode(error) === 'ENOTDIR') return [];
      throw error;
    });
    const found: { key: string; sort: string; directory: boolean }[] = [];
    for (const { name, kind } of entries) {
      const key = prefix + name;
      // Foreign names are none of ours, whatever they are.
      if (kind === 'other' || name.includes('/') || !isObjectKey(key)) continue;
      if (kind === 'file') {
        if (key > after) found.push({ key, sort: key, directory: false });
        continue;
      }
      // Everything below sorts between `key/` and `key0`.
      if (`${key}0` <= after) continue;
      const body = await this.#disk.stat(join(this.#root, key, bodyName)).catch(() => undefined);
      if (!body) found.push({ key, sort: `${key}/`, directory: true });
      else if (key > after) found.push({ key, sort: key, directory: false });
    }
    found.sort((a, b) => (a.sort < b.sort ? -1 : 1));
    for (let at = 0; at < found.length; ) {
      const next = found[at];
      if (next.directory) {
        at++;
        yield* this.#walk(`${next.key}/`, after, signal);
        continue;
      }
      const batch: string[] = [];
      for (; at < found.length && batch.length < statBatch && !found[at].directory; at++) batch.push(found[at].key);
      const sizes = await Promise.all(batch.map((key) => this.#size(join(this.#root, key))));
      for (const [index, key] of batch.entries()) {
        signal?.throwIfAborted();
        const size = sizes[index];
        if (size !== undefined) yield { key, size };
      }
    }
  }

  /** Sizes of the object at `path`, in either of its two shapes. */
  async #size(path: string): Promise<number | undefined> {
    for (const place of [path, join(path, bodyName)]) {
      try {
        const stat = await this.#disk.stat(place);
        if (stat.kind === 'file') return stat.size;
        if (stat.kind === 'other') return undefined;
      } catch (error) {
        if (isAbsent(error) || diskErrorCode(error) === 'ENOTDIR') return undefined;
        throw error;
      }
    }
    return undefined;
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const parents = new Set<string>();
    let doing = 'removing objects';
    try {
      await this.#checkRoot();
      for (const key of keys) {
        doing = `removing ${key}`;
        const path = this.#path(key);
        if (await this.#remove(path)) parents.add(join(path, '..'));
        await this.#open.drop(path);
      }
      for (const parent of parents) await this.#syncs.sync(parent);
    } catch (error) {
      throw storeError(error, doing);
    }
  }

  async #remove(path: string): Promise<boolean> {
    try {
      await this.#disk.unlink(path);
      return true;
    } catch (error) {
      const code = diskErrorCode(error);
      if (code === 'ENOENT' || code === 'ENOTDIR') return false;
      // Linux says EISDIR, others EPERM.
      if (code !== 'EISDIR' && code !== 'EPERM') throw error;
      if ((await this.#disk.stat(path)).kind !== 'directory') throw error;
    }
    try {
      await this.#disk.unlink(join(path, bodyName));
      await this.#disk.removeDirectory(path);
    } catch (error) {
      // A directory of other keys, not an object; or someone else removed or replaced it meanwhile.
      if (!isAbsent(error) && diskErrorCode(error) !== 'ENOTEMPTY') throw error;
    }
    return true;
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    const path = this.#path(key);
    try {
      const size = await this.#size(path);
      if (size === undefined) await this.#checkRoot();
      return size;
    } catch (error) {
      throw storeError(error, `looking for ${key}`);
    }
  }

  async close(): Promise<void> {
    await this.#open.close();
  }

  #path(key: ObjectKey): string {
    // Keys come from our own formats: one that could climb out of the root is a bug of ours.
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return join(this.#root, key);
  }

  /** Throws `UNAVAILABLE` when the root is gone or is something else now (its disk was unplugged): "absent" would be a lie. */
  async #checkRoot(): Promise<void> {
    const stat = await this.#disk.stat(this.#root).catch((error: unknown) => {
      if (!isAbsent(error) && diskErrorCode(error) !== 'ENOTDIR') throw error;
      throw new StoreError('UNAVAILABLE', `the directory ${this.#root} is gone; is the disk that holds it mounted?`, { cause: error });
    });
    if (stat.device === this.#identity.device && stat.ino === this.#identity.ino) return;
    const marker = await readMarker(this.#disk, this.#root);
    if (!this.#marker || !marker || !equalBytes(marker, this.#marker)) {
      throw new StoreError('UNAVAILABLE', `another directory took the place of ${this.#root}; is the disk that holds the store mounted?`);
    }
    this.#identity = stat;
    this.#directories.clear();
  }

  /** The file of the object at `path`, in either of its two shapes; `undefined` when there is none. */
  async #openObject(path: string): Promise<OpenObject | undefined> {
    const opened = (await this.#openPlain(path)) ?? (await this.#openPlain(join(path, bodyName)));
    if (!opened) await this.#checkRoot();
    return opened;
  }

  /** The plain file at `path`; `undefined` when nothing or a directory is there. */
  async #openPlain(path: string): Promise<OpenObject | undefined> {
    let file: DiskFile;
    try {
      file = await this.#disk.open(path, 'read');
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(diskErrorCode(error) ?? '')) return undefined;
      throw error;
    }
    let kept = false;
    try {
      const { kind, size } = await file.stat();
      // A FIFO or device would be read for ever.
      if (kind === 'other') throw new StoreError('PROTOCOL', `${path} is not a plain file`);
      kept = kind === 'file';
      return kept ? { file, size } : undefined;
    } finally {
      if (!kept) await file.close();
    }
  }

  async #removeStale(clock: Clock): Promise<void> {
    const place = join(this.#root, temporaryName);
    const entries = await this.#disk.readDirectory(place).catch(() => []);
    const nowMs = clock.now().sec * 1000;
    for (const { name, kind } of entries) {
      const path = join(place, name);
      const stat = await this.#disk.stat(path).catch(() => undefined);
      // On a store that takes no writes they stay: that is no reason not to read it.
      if (!stat || nowMs - stat.mtimeMs < staleMs) continue;
      if (kind === 'directory') {
        await this.#disk.unlink(join(path, bodyName)).catch(() => {});
        await this.#disk.removeDirectory(path).catch(() => {});
      } else await this.#disk.unlink(path).catch(() => {});
    }
  }
}

async function readMarker(disk: Disk, root: string): Promise<Uint8Array | undefined> {
  let file: DiskFile;
  try {
    file = await disk.open(join(root, markerName), 'read');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  try {
    const bytes = Buffer.alloc(markerSize);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

async function writeMarker(disk: Disk, root: string, random: Random): Promise<void> {
  const text = Buffer.from(toHex(random.bytes(markerSize / 2)), 'latin1');
  const temporary = join(root, `${markerName}-${text.toString('latin1', 0, 8)}`);
  const file = await disk.open(temporary, 'create-new');
  try {
    await file.write(text, 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, join(root, markerName));
  await disk.syncDirectory(root);
}
