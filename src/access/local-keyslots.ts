/**
 * Copies of a volume's keyslots in its state directory, as they lie in the store: sealed. With them a drive mounts without a network. They are what
 * the store showed last: a slot that was removed elsewhere opens here until this machine has asked the store again (doc/security.md, "Offline").
 */
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { slotLengthMax } from '../crypto/keyslot.js';
import { mkdirSync, readdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from '../disk/files.js';
import { systemDisk } from '../disk/system-disk.js';
import { MemoryStore } from '../store/memory-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { SlotList } from './keyslots.js';
import { listSlots } from './keyslots.js';

const slotPattern = /^[0-9a-f]{16}$/;
const folderOf = (stateDirectory: string): string => join(stateDirectory, 'slots');

/** Makes the copies what the store shows now. The state directory exists. Throws Failure `LOCAL_DISK`. */
export function keepSlots(stateDirectory: string, list: SlotList): void {
  const folder = folderOf(stateDirectory);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const kept = new Set<string>();
    for (const { header, bytes } of list.slots) {
      kept.add(header.slotId);
      const path = join(folder, header.slotId);
      const there = readIfThere(path);
      if (there && equalBytes(there, bytes)) continue;
      writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    }
    for (const name of readdirSync(folder)) if (!kept.has(name)) unlinkSync(join(folder, name));
  } catch (error) {
    throw new Failure('LOCAL_DISK', `the keyslots cannot be kept in ${printable(folder)}: ${describeError(error)}`, { cause: error });
  }
}

/** The copies, or `undefined` when there are none. They are checked like those of a store. Throws Failure, CryptoError. */
export async function readKeptSlots(stateDirectory: string): Promise<SlotList | undefined> {
  const folder = folderOf(stateDirectory);
  const store = new MemoryStore({ disk: systemDisk });
  let count = 0;
  for (const name of namesIn(folder)) {
    if (!slotPattern.test(name)) continue;
    const bytes = readIfThere(join(folder, name));
    if (!bytes || bytes.byteLength > slotLengthMax) continue;
    await store.put(`keys/${name}`, bytes as Uint8Array as Sealed);
    count++;
  }
  return count === 0 ? undefined : listSlots(store);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw new Failure('LOCAL_DISK', `${printable(folder)} cannot be read`, { cause: error });
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
