/**
 * Copies of a volume's keyslots in its state directory, sealed as in the store. They let a drive mount without a
 * network. They are what the store showed last: a slot that was removed elsewhere opens here until this machine has
 * asked the store again (doc/security.md, "Offline").
 */
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { slotLengthMax } from '../crypto/keyslot.js';
import { systemRandom } from '../crypto/system-random.js';
import { diskErrorCode } from '../disk/disk.js';
import { readdir } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectory, readWholeFile, replaceSharedFile } from '../disk/whole-file.js';
import { MemoryStore } from '../store/memory-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { SlotList } from './keyslots.js';
import { listSlots } from './keyslots.js';

const slotPattern = /^[0-9a-f]{16}$/;
const folderOf = (stateDirectory: string): string => join(stateDirectory, 'slots');

/**
 * Brings the copies up to date with what the store shows now. The state directory exists. Other processes may do the
 * same at the same time. Throws Failure `LOCAL_DISK`.
 */
export async function keepSlots(stateDirectory: string, list: SlotList): Promise<void> {
  const folder = folderOf(stateDirectory);
  try {
    await ensureDirectory(systemDisk, folder);
    const kept = new Set<string>();
    for (const { header, bytes } of list.slots) {
      kept.add(header.slotId);
      const path = join(folder, header.slotId);
      const there = await readWholeFile(systemDisk, path);
      if (!there || !equalBytes(there, bytes)) await replaceSharedFile(systemDisk, path, bytes, systemRandom);
    }
    for (const name of await readdir(folder)) if (slotPattern.test(name) && !kept.has(name)) await removeCopy(join(folder, name));
  } catch (error) {
    throw new Failure('LOCAL_DISK', `the keyslots cannot be kept in ${printable(folder)}: ${describeError(error)}`, { cause: error });
  }
}

async function removeCopy(path: string): Promise<void> {
  await systemDisk.unlink(path).catch((error: unknown) => {
    if (diskErrorCode(error) !== 'ENOENT') throw error;
  });
}

/**
 * The copies, or `undefined` when there are none. They are checked like those of a store. Throws Failure, CryptoError.
 */
export async function readKeptSlots(stateDirectory: string): Promise<SlotList | undefined> {
  const folder = folderOf(stateDirectory);
  const store = new MemoryStore({ disk: systemDisk });
  let count = 0;
  for (const name of await namesIn(folder)) {
    if (!slotPattern.test(name)) continue;
    const bytes = await readWholeFile(systemDisk, join(folder, name));
    if (!bytes || bytes.byteLength > slotLengthMax) continue;
    await store.put(`keys/${name}`, bytes as Sealed);
    count++;
  }
  return count === 0 ? undefined : listSlots(store);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(diskErrorCode(error) ?? '')) return [];
    throw new Failure('LOCAL_DISK', `${printable(folder)} cannot be read`, { cause: error });
  }
}
