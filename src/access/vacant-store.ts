/**
 * Finds out whether a volume can be made at a place, and says what is in the way if not: another volume, what is left
 * of one, the claim of another `init`, or other files (doc/stores.md, "Making a volume").
 */
import { constants } from 'node:fs';
import { dirname } from 'node:path';
import { printable } from '../base/printable.js';
import { access, readdir, stat } from '../disk/file-promises.js';
import { describeNames, namesInTheWay } from '../store/folder-leftovers.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import { quoteForShell } from '../terminal/terminal.js';
import { claimKey, claimLength, listClaims, readClaimTime } from './volume-claim.js';
import { localFolderOf, makeVolumeStore, openVolumeStore } from './volume-store.js';

/** Makes the store at `location`. Also throws what {@link requireVacant} throws. */
export async function createVolumeStore(location: string, takesOver = false): Promise<ObjectStore> {
  await requireVacant(location, takesOver);
  return makeVolumeStore(location);
}

/**
 * Checks that a new volume can be made at `location`. `takesOver`: also where an `init` was broken off, or is still
 * under way. Throws Failure and StoreError.
 */
export async function requireVacant(location: string, takesOver = false): Promise<void> {
  const folder = localFolderOf(location);
  if (folder !== undefined && (await isUnusedFolder(folder))) return;
  const store = await openVolumeStore(location);
  try {
    const taken = await whyTaken(store, location, takesOver);
    if (taken) throw taken;
  } catch (error) {
    // There is no place yet, or it holds nothing of ours: whether a store can be made there is found out by making it.
    if (!(error instanceof StoreError && error.code === 'NOT_A_STORE' && !store.local)) throw error;
  } finally {
    await store.close();
  }
}

/** An `init` writes the first two entries of a log. */
const isFirstEntry = (key: string): boolean => /^log\/0{15}[01]-/.test(key);

/** What keeps a volume from being made in a store; `undefined`: nothing. Throws StoreError. */
export async function whyTaken(store: ObjectStore, location: string, takesOver: boolean): Promise<Failure | undefined> {
  const place = printable(store.description);
  if (await hasAny(store, 'keys/')) {
    return new Failure('NOT_A_VOLUME', `${place} holds a volume already: mount it, or choose another place; nothing was changed`);
  }
  const number = (await listClaims(store)).at(-1);
  const isUsed = await hasAny(store, 'log/', number === undefined ? undefined : (key) => !isFirstEntry(key));
  if (isUsed || (await hasAny(store, 'packs/'))) {
    return new Failure(
      'NOT_A_VOLUME',
      `${place} holds parts of a volume but no keyslot: it is a damaged copy; put "keys" back from a copy of the store, or choose another place; nothing was changed`,
    );
  }
  if (number === undefined || takesOver) return undefined;
  const bytes = await store.get(claimKey(number), { sizeMax: claimLength });
  const createdSec = bytes && readClaimTime(bytes);
  const since = createdSec === undefined ? '' : ` at ${timeOf(createdSec)} by the clock of that machine`;
  return new Failure(
    'NOT_A_VOLUME',
    `an "init" has claimed ${place}${since} and made no keyslot yet: it is under way, or was broken off; ` +
      `"sealdrive init --take-over ${quoteForShell(location)}" makes a volume there all the same; nothing was changed`,
  );
}

const timeOf = (createdSec: number): string => new Date(Math.min(createdSec, 8.64e12) * 1000).toISOString();

async function hasAny(store: ObjectStore, prefix: string, counts: (key: string) => boolean = () => true): Promise<boolean> {
  for await (const { key } of store.list(prefix)) if (counts(key)) return true;
  return false;
}

/** True for an empty folder, and for a missing one that can be made; false if something is in it. */
async function isUnusedFolder(folder: string): Promise<boolean> {
  let names: string[];
  try {
    if (!(await stat(folder)).isDirectory()) throw new Failure('NOT_A_VOLUME', `${printable(folder)} is not a directory: choose another place`);
    names = await readdir(folder);
    await access(folder, constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      await access(dirname(folder), constants.W_OK).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') throw new Failure('NOT_A_VOLUME', `there is no directory ${printable(dirname(folder))} to make the store in`);
        throw new Failure('STORE', `the store cannot be made in ${printable(dirname(folder))}: ${reasonOf(cause)}`, { cause });
      });
      return true;
    }
    if (error instanceof Failure) throw error;
    throw new Failure('STORE', `the store cannot be made in ${printable(folder)}: ${reasonOf(error as NodeJS.ErrnoException)}`, { cause: error });
  }
  const others = namesInTheWay(names);
  if (others.length === 0) return true;
  if (!others.some((name) => name === '_sealdrive' || name === 'keys')) {
    throw new Failure(
      'NOT_A_VOLUME',
      `${printable(folder)} holds other files (${describeNames(others)}): a volume is made in an empty directory; nothing was changed`,
    );
  }
  return false;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EROFS') return 'the disk takes no writes';
  if (error.code === 'EACCES' || error.code === 'EPERM') return 'you may not write there';
  return error.message;
}
