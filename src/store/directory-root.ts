/**
 * The directory of a store itself: whether it holds a store, whether it is still the same one, and for whom it is. The
 * disk that holds it may be unplugged at any time, which must never look like an empty store (doc/stores.md).
 */
import { join } from 'node:path';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { Disk, DiskStat } from '../disk/disk.js';
import { diskErrorCode, hasNoFolder, isAbsent } from '../disk/disk.js';
import { replaceFile } from '../disk/whole-file.js';
import { openPlain } from './directory-objects.js';
import type { FolderAccess } from './folder-access.js';
import { accessIn, setAccess } from './folder-access.js';
import { describeNames, namesInTheWay } from './folder-leftovers.js';
import { StoreError } from './object-store.js';

/** The folder of temporary files, on the filesystem of the store. */
export const temporaryPlace = '_tmp';
/**
 * Holds random bytes made with the store. Its absence shows an empty mount point where the disk of the store should be.
 */
const markerName = '_sealdrive';
const markerSize = 32;

export class DirectoryRoot {
  readonly path: string;
  readonly #disk: Disk;
  readonly #marker: Uint8Array | undefined;
  /** Replaced when the same store comes back under other numbers, as when its disk is plugged in again. */
  #identity: { readonly device: number; readonly ino: number };
  #access: FolderAccess;
  /** Folders below that are known to exist durably; forgotten with the identity. */
  readonly durableFolders = new Set<string>();

  private constructor(disk: Disk, path: string, stat: DiskStat, marker: Uint8Array | undefined) {
    this.path = path;
    this.#disk = disk;
    this.#identity = stat;
    this.#access = accessIn(stat);
    this.#marker = marker;
  }

  /** Changes nothing in the directory. Throws {@link StoreError} `NOT_A_STORE` when it holds no store. */
  static async open(disk: Disk, path: string): Promise<DirectoryRoot> {
    const stat = await disk.stat(path).catch((error: unknown) => {
      if (hasNoFolder(error)) {
        throw new StoreError('NOT_A_STORE', `there is no directory ${path}; is the disk that holds it mounted?`, { cause: error });
      }
      throw error;
    });
    if (stat.kind !== 'directory') throw new StoreError('NOT_A_STORE', `${path} is not a directory`);
    const marker = await readMarker(disk, path);
    if (!marker) {
      // A copy made by other tools may lack the marker, but every volume has keyslots.
      const names = (await disk.readDirectory(path)).map((entry) => entry.name);
      if (!names.includes('keys')) {
        throw new StoreError('NOT_A_STORE', `${path} holds no Sealdrive store; is the disk that holds it mounted?`);
      }
    }
    return new DirectoryRoot(disk, path, stat, marker);
  }

  /** Makes the directory (not its parents) where there is none, and a store in it where there is none. */
  static async create(disk: Disk, path: string, random: Random): Promise<void> {
    await disk.makeDirectory(path).then(
      () => disk.syncDirectory(join(path, '..')),
      (error: unknown) => {
        if (isAbsent(error)) throw new StoreError('NOT_A_STORE', `there is no directory to make ${path} in`, { cause: error });
        if (diskErrorCode(error) !== 'EEXIST') throw error;
      },
    );
    const names = namesInTheWay((await disk.readDirectory(path)).map((entry) => entry.name));
    if (!names.includes(markerName) && !names.includes('keys')) {
      if (names.length > 0) {
        throw new StoreError('NOT_A_STORE', `${path} holds other files (${describeNames(names)}): a store is made in an empty directory`);
      }
      await writeMarker(disk, path, random);
    }
  }

  /** Who may use what is made in the store, as of the last check. */
  get access(): FolderAccess {
    return this.#access;
  }

  /**
   * Throws `UNAVAILABLE` when the directory is gone or is another one now (its disk was unplugged): nothing may be
   * called absent then.
   */
  async check(): Promise<void> {
    const stat = await this.#disk.stat(this.path).catch((error: unknown) => {
      if (!hasNoFolder(error)) throw error;
      throw new StoreError('UNAVAILABLE', `the directory ${this.path} is gone; is the disk that holds it mounted?`, { cause: error });
    });
    this.#access = accessIn(stat);
    if (stat.device === this.#identity.device && stat.ino === this.#identity.ino) return;
    const marker = await readMarker(this.#disk, this.path);
    if (!this.#marker || !marker || !equalBytes(marker, this.#marker)) {
      throw new StoreError('UNAVAILABLE', `another directory took the place of ${this.path}; is the disk that holds the store mounted?`);
    }
    this.#identity = stat;
    this.durableFolders.clear();
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
    // Another process may make a store there at the same time.
    temporary: join(root, `${markerName}-${text.toString('latin1', 0, 8)}`),
    isExclusive: true,
    prepare: async (file) => {
      if (access.isShared) await setAccess(file, access.file);
    },
  });
}
