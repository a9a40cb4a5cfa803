/**
 * A directory that another process may remove, move or replace while we use it, and a check that its path still leads
 * to it. Anything written to a directory that took its place would be lost at the next start, and could belong to
 * another user.
 */

import type { Disk } from './disk.js';
import { diskErrorCode } from './disk.js';

export class HeldDirectory {
  readonly path: string;
  readonly #disk: Disk;
  readonly #device: number;
  readonly #ino: number;

  private constructor(disk: Disk, path: string, device: number, ino: number) {
    this.#disk = disk;
    this.path = path;
    this.#device = device;
    this.#ino = ino;
  }

  /** As it is now. Throws the system error when it is not there. */
  static async hold(disk: Disk, path: string): Promise<HeldDirectory> {
    const { device, ino } = await disk.stat(path);
    return new HeldDirectory(disk, path, device, ino);
  }

  async isInPlace(): Promise<boolean> {
    try {
      const { device, ino } = await this.#disk.stat(this.path);
      return device === this.#device && ino === this.#ino;
    } catch (error) {
      if (diskErrorCode(error) === undefined) throw error;
      return false;
    }
  }
}
