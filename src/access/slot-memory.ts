/**
 * What this machine remembers of a volume's keyslots, wherever the volume lies: those that it removed, which it never
 * opens again, and those that it made or opened, which it tries first. A store could show anything; these lists are our
 * own. They hold no secrets.
 */
import { join } from 'node:path';
import { appendNote, readNote, writeNote } from './note-file.js';
import { defaultStateBase } from './state-directory.js';

const folder = (): string => join(defaultStateBase(), 'keyslots');
const removedPath = (volumeId: string): string => join(folder(), `${volumeId}.removed`);
const usedPath = (volumeId: string): string => join(folder(), `${volumeId}.used`);
/** This many are remembered for each volume; the others are tried like any slot. */
const usedMax = 16;

/**
 * Slots of the volume (hex) that were removed from here, by id (doc/security.md, attack 6). Throws Failure
 * `LOCAL_DISK`.
 */
export const removedSlots = (volumeId: string): Promise<readonly string[]> => readIds(removedPath(volumeId));

/** Throws Failure `LOCAL_DISK`. */
export const noteRemovedSlot = (volumeId: string, slotId: string): Promise<void> => appendNote(removedPath(volumeId), slotId);

/**
 * Slots of the volume (hex) that this machine made or opened, by id, the last one first. Throws Failure `LOCAL_DISK`.
 */
export const usedSlots = (volumeId: string): Promise<readonly string[]> => readIds(usedPath(volumeId));

/** Throws Failure `LOCAL_DISK`. */
export async function noteUsedSlot(volumeId: string, slotId: string): Promise<void> {
  const known = await usedSlots(volumeId);
  if (known[0] === slotId) return;
  const ids = [slotId, ...known.filter((id) => id !== slotId)].slice(0, usedMax);
  await writeNote(usedPath(volumeId), ids.map((id) => `${id}\n`).join(''));
}

const readIds = async (path: string): Promise<readonly string[]> => (await readNote(path))?.match(/^[0-9a-f]{16}$/gm) ?? [];
