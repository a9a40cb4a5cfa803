/**
 * Which volume lies in which store, as this user has seen it last: a store that shows another volume of the same user, which the same secret
 * opens, is found out before anything is typed or written (doc/security.md, attack 7). One small file a store, beside the registry of mounts;
 * no secret is in it. What is true of a volume's history is not here but in its trust state.
 */
import { join } from 'node:path';
import { toHex } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import { encodeSystemText } from '../base/system-text.js';
import { hashBytes } from '../crypto/hash.js';
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from '../disk/files.js';
import { Failure } from './exit-code.js';
import { defaultStateBase } from './state-directory.js';
import { localFolderOf } from './volume-store.js';

const pinFolder = (): string => join(defaultStateBase(), 'stores');

/** The location may hold a user name or worse: only its hash is a name. */
function pinPath(location: string): string {
  const place = localFolderOf(location) ?? location.replace(/\/+$/, '');
  return join(pinFolder(), toHex(hashBytes(encodeSystemText(place))).slice(0, 32));
}

/** Where something else is remembered of a store. */
export const storeNotePath = (location: string, kind: string): string => `${pinPath(location)}.${kind}`;

/** The volume (hex) that was in the store when this user last used it. */
export function pinnedVolume(location: string): string | undefined {
  try {
    const text = readFileSync(pinPath(location), 'latin1').trim();
    return /^[0-9a-f]{64}$/.test(text) ? text : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Failure('LOCAL_DISK', `${printable(pinPath(location))} cannot be read`, { cause: error });
  }
}

/** Slots that were removed from here, by id: a store that brings one back finds no one to open it on this machine (attack 6). */
export function removedSlots(location: string): ReadonlySet<string> {
  try {
    return new Set(readFileSync(`${pinPath(location)}.removed`, 'latin1').match(/^[0-9a-f]{16}$/gm) ?? []);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Set();
    throw new Failure('LOCAL_DISK', `${printable(pinPath(location))}.removed cannot be read`, { cause: error });
  }
}

export function noteRemovedSlot(location: string, slotId: string): void {
  const path = `${pinPath(location)}.removed`;
  try {
    mkdirSync(pinFolder(), { recursive: true, mode: 0o700 });
    appendFileSync(path, `${slotId}\n`, { mode: 0o600 });
  } catch (error) {
    throw new Failure('LOCAL_DISK', `${printable(path)} cannot be written`, { cause: error });
  }
}

/** Throws Failure `INTEGRITY` when another volume than `volumeId` (hex) was there. */
export function requirePinned(location: string, volumeId: string): void {
  const known = pinnedVolume(location);
  if (known === undefined || known === volumeId) return;
  throw new Failure(
    'INTEGRITY',
    `the store holds volume ${volumeId.slice(0, 16)} now, it held volume ${known.slice(0, 16)} when it was last used here: it was exchanged. ` +
      `If you did that yourself, remove ${printable(pinPath(location))}; nothing was changed`,
  );
}

export function pinStore(location: string, volumeId: string): void {
  if (pinnedVolume(location) === volumeId) return;
  const path = pinPath(location);
  try {
    mkdirSync(pinFolder(), { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, `${volumeId}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new Failure('LOCAL_DISK', `${printable(path)} cannot be written`, { cause: error });
  }
}
