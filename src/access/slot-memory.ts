/**
 * What this machine remembers of a volume's keyslots, by volume, wherever that lies: those that it removed, which it never opens again, and those that it
 * made or opened, which it tries first. The store shows what it likes; these lists are ours. No secret is in them.
 */
import { join } from 'node:path';
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from '../disk/files.js';
import { Failure } from '../terminal/exit-code.js';
import { defaultStateBase } from './state-directory.js';

const folder = (): string => join(defaultStateBase(), 'keyslots');
const removedPath = (volumeId: string): string => join(folder(), `${volumeId}.removed`);
const usedPath = (volumeId: string): string => join(folder(), `${volumeId}.used`);
/** Of each volume; the others are tried like any. */
const usedMax = 16;

/** Slots of the volume (hex) that were removed from here, by id (doc/security.md, attack 6). Throws Failure `LOCAL_DISK`. */
export const removedSlots = (volumeId: string): ReadonlySet<string> => new Set(readIds(removedPath(volumeId)));

export function noteRemovedSlot(volumeId: string, slotId: string): void {
  write(removedPath(volumeId), (path) => appendFileSync(path, `${slotId}\n`, { mode: 0o600 }));
}

/** Slots of the volume (hex) that this machine made or opened, by id, the last one first. Throws Failure `LOCAL_DISK`. */
export const usedSlots = (volumeId: string): readonly string[] => readIds(usedPath(volumeId));

export function noteUsedSlot(volumeId: string, slotId: string): void {
  const known = usedSlots(volumeId);
  if (known[0] === slotId) return;
  const ids = [slotId, ...known.filter((id) => id !== slotId)].slice(0, usedMax);
  write(usedPath(volumeId), (path) => {
    writeFileSync(`${path}.new`, ids.map((id) => `${id}\n`).join(''), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  });
}

function readIds(path: string): readonly string[] {
  try {
    return readFileSync(path, 'latin1').match(/^[0-9a-f]{16}$/gm) ?? [];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new Failure('LOCAL_DISK', `${path} cannot be read`, { cause: error });
  }
}

function write(path: string, change: (path: string) => void): void {
  try {
    mkdirSync(folder(), { recursive: true, mode: 0o700 });
    change(path);
  } catch (error) {
    throw new Failure('LOCAL_DISK', `${path} cannot be written`, { cause: error });
  }
}
