/**
 * Commits that the log has lost, kept apart from the copies of the log, whose numbers now belong to others
 * (doc/format.md, "Local files"). They are needed until their work is in the journal again, and then for as long as
 * others may carry it.
 */
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import { type Disk, diskErrorCode } from '../disk/disk.js';
import { ensureDirectory, readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { CheckpointLink, LogPosition } from './chain.js';
import { sequenceName } from './log-name.js';

/** A lost commit, and what it did, both sealed. */
export interface LostCopy {
  readonly sealed: Sealed;
  /** `undefined` for a commit that did nothing to files. */
  readonly work: Sealed | undefined;
}

const workSuffix = '.work';

export class LostFiles {
  readonly #disk: Disk;
  readonly #directory: string;

  constructor(disk: Disk, stateDirectory: string) {
    this.#disk = disk;
    this.#directory = join(stateDirectory, 'lost');
  }

  /** Durable when it resolves. Throws disk errors. */
  async keep(link: CheckpointLink, { sealed, work }: LostCopy): Promise<void> {
    await ensureDirectory(this.#disk, this.#directory);
    if (work) await replaceFile(this.#disk, this.#path(link) + workSuffix, work);
    await replaceFile(this.#disk, this.#path(link), sealed);
  }

  /** `undefined` when it is not kept. Throws disk errors. */
  async read(link: CheckpointLink): Promise<LostCopy | undefined> {
    const sealed = await readWholeFile(this.#disk, this.#path(link));
    if (!sealed) return undefined;
    const work = await readWholeFile(this.#disk, this.#path(link) + workSuffix);
    return { sealed: sealed as Sealed, work: work as Sealed | undefined };
  }

  /** Whether the commit is kept. Throws disk errors. */
  async has(position: LogPosition): Promise<boolean> {
    return (await readWholeFile(this.#disk, this.#path(position))) !== undefined;
  }

  /** Removes those before `sequence`. Throws disk errors. */
  async removeBefore(sequence: number): Promise<void> {
    const entries = await this.#disk.readDirectory(this.#directory).catch((error: unknown) => {
      if (diskErrorCode(error) !== 'ENOENT') throw error;
      return [];
    });
    for (const { name } of entries) if (Number.parseInt(name.slice(0, 16), 16) < sequence) await this.#remove(join(this.#directory, name));
  }

  /** Throws disk errors. */
  async clear(links: readonly CheckpointLink[]): Promise<void> {
    for (const link of links) for (const path of [this.#path(link), this.#path(link) + workSuffix]) await this.#remove(path);
  }

  async #remove(path: string): Promise<void> {
    await this.#disk.unlink(path).catch((error: unknown) => {
      if (diskErrorCode(error) !== 'ENOENT') throw error;
    });
  }

  #path({ sequence, hash }: LogPosition): string {
    return join(this.#directory, `${sequenceName(sequence)}-${toHex(hash).slice(0, 16)}`);
  }
}
