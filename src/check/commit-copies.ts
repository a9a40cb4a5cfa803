/** Sealed commits that a device has kept in its state directory: where the store has lost some, they are as good, since their hashes and seals tell. */
import { join } from 'node:path';
import { LocalLog } from '../commit/local-log.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';

export interface CommitCopies {
  /** Unchecked bytes. */
  read(sequence: number): Promise<Uint8Array | undefined>;
  /** The smallest number but for the genesis, and the greatest number there is a copy of; 0 without any. */
  readonly oldest: number;
  readonly newest: number;
}

export const noCopies: CommitCopies = { read: () => Promise.resolve(undefined), oldest: 0, newest: 0 };

/** Reads only. A directory that is not there has no copies. Throws disk errors. */
export async function openCommitCopies(disk: Disk, stateDirectory: string): Promise<CommitCopies> {
  const log = new LocalLog(disk, stateDirectory);
  let oldest = 0;
  let newest = 0;
  try {
    for (const { name } of await disk.readDirectory(join(stateDirectory, 'log'))) {
      const sequence = /^[0-9a-f]{16}$/.test(name) ? Number.parseInt(name, 16) : 0;
      if (sequence > 0 && (oldest === 0 || sequence < oldest)) oldest = sequence;
      newest = Math.max(newest, sequence);
    }
  } catch (error) {
    if (diskErrorCode(error) !== 'ENOENT') throw error;
    return noCopies;
  }
  return { read: (sequence) => log.read(sequence), oldest, newest };
}
