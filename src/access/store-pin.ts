/**
 * Remembers which volume this user last saw in which store. A store that shows another volume of the same user, which
 * the same secret opens, is detected before anything is typed or written (doc/security.md, attack 7). The files lie
 * beside the registry of mounts and hold no secrets. What is known of a volume's history is not here but in its trust
 * state.
 */
import { join } from 'node:path';
import { Failure } from '../terminal/exit-code.js';
import { quoteForShell } from '../terminal/terminal.js';
import { readNote, removeNote, writeNote } from './note-file.js';
import { defaultStateBase } from './state-directory.js';
import { placeNames } from './store-place.js';

const pinFolder = (): string => join(defaultStateBase(), 'stores');
const pinPaths = (location: string): string[] => placeNames(location).map((name) => join(pinFolder(), name));

/** The path of another note about a store. */
export const storeNotePath = (location: string, kind: string): string => join(pinFolder(), `${placeNames(location)[0]}.${kind}`);

/** The volume (hex) that was in the store when this user last used it. */
export async function pinnedVolume(location: string): Promise<string | undefined> {
  for (const path of pinPaths(location)) {
    const volumeId = (await readNote(path))?.trim();
    if (volumeId !== undefined && /^[0-9a-f]{64}$/.test(volumeId)) return volumeId;
  }
  return undefined;
}

/** Throws Failure `INTEGRITY` when another volume than `volumeId` (hex) was there. */
export async function requirePinned(location: string, volumeId: string): Promise<void> {
  const known = await pinnedVolume(location);
  if (known === undefined || known === volumeId) return;
  throw new Failure(
    'INTEGRITY',
    `the store holds volume ${volumeId.slice(0, 16)} now, it held volume ${known.slice(0, 16)} when it was last used here: it was exchanged. ` +
      `If you did that yourself, run "${forgetting(location)}"; nothing was changed`,
  );
}

/** Throws Failure `INTEGRITY` when a volume was there: a new one in its place would hide that it is gone. */
export async function requireUnpinned(location: string): Promise<void> {
  const known = await pinnedVolume(location);
  if (known === undefined) return;
  throw new Failure(
    'INTEGRITY',
    `this place held volume ${known.slice(0, 16)} when it was last used here: put that volume back, or choose another place. ` +
      `If it is to be gone, run "${forgetting(location)}" first; nothing was changed`,
  );
}

/** The command after which nothing is known of a place. */
export const forgetting = (location: string): string => `sealdrive volume forget ${quoteForShell(location)}`;

export async function pinStore(location: string, volumeId: string): Promise<void> {
  for (const path of pinPaths(location)) if ((await readNote(path))?.trim() !== volumeId) await writeNote(path, `${volumeId}\n`);
}

/** Forgets what was known of the place: which volume it held, and what the store can do. */
export async function forgetStore(location: string): Promise<void> {
  for (const path of [...pinPaths(location), storeNotePath(location, 'probe')]) await removeNote(path);
}
