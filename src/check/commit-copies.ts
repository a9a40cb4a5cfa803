/**
 * The copies of sealed commits in a device's state directory (doc/format.md, "Local files"). Where the store has lost
 * commits they are as good, since hashes and seals prove them.
 */
import { join } from 'node:path';
import { LocalLog } from '../commit/local-log.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';

export interface CommitCopies {
  /** The bytes of a copy, unchecked. */
  read(sequence: number): Promise<Uint8Array | undefined>;
  /** The smallest number (except for the genesis) and the greatest number with a copy; 0 without any. */
  readonly oldest: number;
  readonly newest: number;
}

export const noCopies: CommitCopies = { read: () => Promise.resolve(undefined), oldest: 0, newest: 0 };

/** Only reads. A directory that does not exist has no copies. Throws disk errors. */
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
