/**
 * A folder that others may write into, and below which no symbolic link is followed: a link there could otherwise lead
 * us to any file of this user (doc/security.md). Each folder on the way is opened without following a link and stays
 * open while it is used, so that a link that is swapped in meanwhile leads nowhere either. The folder itself was named
 * by the user and may be a link.
 */
import { join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Disk, DiskDirectory } from './disk.js';
import { diskErrorCode } from './disk.js';

export class ConfinedFolder {
  readonly root: string;
  readonly #disk: Disk;

  /** `root` is absolute. */
  constructor(disk: Disk, root: string) {
    this.#disk = disk;
    this.root = root;
  }

  /**
   * Runs `work` with a path to the folder `place` (names joined by slashes; empty: the root itself) that stays good
   * until `work` has settled. It is for the calls of {@link Disk}, with one more name joined to it. In messages of
   * errors it is written as a path below the root. Throws ELOOP for a link (or FIFO, socket or device) on the way, and
   * else what opening a folder throws: ENOENT, ENOTDIR ...
   */
  async use<T>(place: string, work: (folder: string) => Promise<T>): Promise<T> {
    if (place === '') return work(this.root);
    let shown = this.root;
    let directory: DiskDirectory | undefined;
    try {
      for (const name of place.split('/')) {
        assert(name !== '' && name !== '.' && name !== '..', 'a place is made of plain names');
        const before: DiskDirectory | undefined = directory;
        const next: DiskDirectory = await this.#open(join(before?.path ?? this.root, name), join(shown, name));
        before?.close();
        directory = next;
        shown = join(shown, name);
      }
      assert(directory, 'a place has a name');
      return await work(directory.path);
    } catch (error) {
      if (directory) showPath(error, directory.path, shown);
      throw error;
    } finally {
      directory?.close();
    }
  }

  async #open(path: string, shown: string): Promise<DiskDirectory> {
    try {
      return await this.#disk.openDirectory(path);
    } catch (error) {
      if (!['ELOOP', 'ENOTDIR'].includes(diskErrorCode(error) ?? '')) throw error;
      const found = await this.#disk.lstat(path);
      if (found.kind !== 'other') throw error;
      // Without its cause: that one says no more than "not a directory", of a path that leads through a descriptor.
      throw Object.assign(new Error(`${shown} is a symbolic link or a special file, and no link is followed there`), { code: 'ELOOP' });
    }
  }
}

/** The path of an open folder says nothing to people. */
function showPath(error: unknown, path: string, shown: string): void {
  if (error instanceof Error && path !== shown) error.message = error.message.replaceAll(path, shown);
}
