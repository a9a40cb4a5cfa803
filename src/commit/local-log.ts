/**
 * Copies of sealed commits in the state directory, so that a volume opens offline, and the work of this device's own
 * ones, so that a lost one can be done again (doc/format.md, "Local files"). They are trusted with nothing: readers
 * check every copy against a hash, and fetch a missing or torn one again; work is sealed.
 */
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { ensureDirectory, readWholeFile } from '../disk/whole-file.js';
import { sequenceName } from './log-name.js';

const namePattern = /^[0-9a-f]{16}(?:\.work)?$/;
/** Copies are written this many at a time. */
const concurrencyMax = 8;

const workName = (sequence: number): string => `${sequenceName(sequence)}.work`;

export interface CommitCopy {
  readonly sequence: number;
  readonly bytes: Sealed;
  /** What an own commit did, sealed (`lost-files.ts`). */
  readonly work?: Sealed | undefined;
}

export class LocalLog {
  readonly #disk: Disk;
  readonly #directory: string;

  constructor(disk: Disk, stateDirectory: string) {
    this.#disk = disk;
    this.#directory = join(stateDirectory, 'log');
  }

  async prepare(): Promise<void> {
    await ensureDirectory(this.#disk, this.#directory);
  }

  /** The copy, unchecked; `undefined` when there is none. */
  read(sequence: number): Promise<Uint8Array | undefined> {
    return readWholeFile(this.#disk, join(this.#directory, sequenceName(sequence)));
  }

  /** What the own commit of that number did; `undefined` when it is not kept. */
  readWork(sequence: number): Promise<Uint8Array | undefined> {
    return readWholeFile(this.#disk, join(this.#directory, workName(sequence)));
  }

  /** Durable when it resolves. */
  async write(copies: readonly CommitCopy[]): Promise<void> {
    for (let at = 0; at < copies.length; at += concurrencyMax) {
      await Promise.all(copies.slice(at, at + concurrencyMax).map((copy) => this.#writeOne(copy)));
    }
    if (copies.length > 0) await this.#disk.syncDirectory(this.#directory);
  }

  async #writeOne({ sequence, bytes, work }: CommitCopy): Promise<void> {
    await Promise.all([this.#writeFile(sequenceName(sequence), bytes), work && this.#writeFile(workName(sequence), work)]);
  }

  async #writeFile(name: string, bytes: Sealed): Promise<void> {
    const open = (): Promise<DiskFile> => this.#disk.open(join(this.#directory, name), 'create');
    const file = await open().catch(async (error: unknown) => {
      if (diskErrorCode(error) !== 'ENOENT') throw error;
      // Somebody removed the directory. It held only copies, so start a new one.
      await this.prepare();
      return open();
    });
    try {
      await file.truncate(0);
      await file.write(bytes, 0);
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /**
   * Removes the copies before `sequence` with their work, except for the genesis, `kept`, and the newest `bytesMax` of
   * them: should the history turn out to be another one, they show where it parts.
   */
  async removeBefore(sequence: number, kept: number | undefined, bytesMax: number): Promise<void> {
    const names = (await this.#disk.readDirectory(this.#directory)).map(({ name }) => name).filter((name) => namePattern.test(name));
    let bytes = 0;
    for (const name of names.toSorted().toReversed()) {
      const number = Number.parseInt(name.slice(0, 16), 16);
      if (number === 0 || number >= sequence || number === kept) continue;
      if (bytes <= bytesMax) bytes += (await this.#disk.stat(join(this.#directory, name))).size;
      if (bytes <= bytesMax) continue;
      await this.#disk.unlink(join(this.#directory, name)).catch((error: unknown) => {
        if (diskErrorCode(error) !== 'ENOENT') throw error;
      });
    }
  }
}
