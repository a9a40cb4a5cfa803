/**
 * Opens the store of a volume, and compares what it shows with what this machine remembers of the place: a volume that
 * was there and is gone is not "no volume", and a different volume is reported before anybody types a secret
 * (doc/security.md, "Places").
 */
import { toHex } from '../base/bytes.js';
import { existsSync } from '../disk/files.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { SlotList } from './keyslots.js';
import { listSlots } from './keyslots.js';
import { stateDirectoryOf } from './state-directory.js';
import { forgetting, pinnedVolume, requirePinned, requireUnpinned } from './store-pin.js';
import { localFolderOf, openVolumeStore } from './volume-store.js';

/**
 * Like `openVolumeStore`, but also throws Failure `INTEGRITY` when the place held a volume and is no longer a store.
 */
export async function openKnownStore(location: string, deadlineMs?: number): Promise<ObjectStore> {
  try {
    return await openVolumeStore(location, undefined, deadlineMs);
  } catch (error) {
    const known = await pinnedVolume(location);
    if (known === undefined || !(error instanceof StoreError && error.code === 'NOT_A_STORE')) throw error;
    const held = `it held volume ${known.slice(0, 16)} when it was last used here`;
    const folder = localFolderOf(location);
    if (folder !== undefined && !existsSync(folder))
      throw new Failure('NOT_A_VOLUME', `there is no directory ${folder} now, and ${held}: attach and mount the disk that holds it`, {
        cause: error,
      });
    throw new Failure(
      'INTEGRITY',
      `${folder ?? 'the place'} is no store now, and ${held}: mount the disk that holds it, or put the volume back from a copy. ` +
        `If it is to be gone, run "${forgetting(location)}"; nothing was changed`,
      { cause: error },
    );
  }
}

/** Like `listSlots`, but the slots must belong to the volume that is known to be there. Throws Failure `INTEGRITY`. */
export async function listKnownSlots(store: ObjectStore, location: string, signal?: AbortSignal, expected?: SlotList): Promise<SlotList> {
  const known = await pinnedVolume(location);
  let list: SlotList;
  try {
    list = await listSlots(store, signal, expected);
  } catch (error) {
    if (known === undefined || !(error instanceof Failure && error.code === 'NOT_A_VOLUME')) throw error;
    throw new Failure(
      'INTEGRITY',
      `the keyslots of this known volume are gone: ${store.description} held volume ${known.slice(0, 16)} when it was last used here. Put "keys" back from a copy of the store; ` +
        `where the volume was mounted here, ${stateDirectoryOf(known, undefined)}/slots has copies. If it is to be gone, run "${forgetting(location)}"; nothing was changed`,
      { cause: error },
    );
  }
  const [first] = list.slots;
  if (first && list.slots.every(({ header }) => toHex(header.volumeId) !== known)) await requirePinned(location, toHex(first.header.volumeId));
  return list;
}

/**
 * Checks that no volume is known to be where a new one is to be made. If there is one now, `requireVacant` reports it
 * better. Throws Failure `INTEGRITY`.
 */
export async function requireNothingKnown(location: string): Promise<void> {
  if ((await pinnedVolume(location)) === undefined || (await hasKeyslots(location))) return;
  await requireUnpinned(location);
}

async function hasKeyslots(location: string): Promise<boolean> {
  let store: ObjectStore | undefined;
  try {
    store = await openVolumeStore(location);
    for await (const _ of store.list('keys/')) return true;
    return false;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'NOT_A_STORE') return false;
    throw error;
  } finally {
    await store?.close();
  }
}
