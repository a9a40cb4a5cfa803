/**
 * Opens stores for commands and mounts, with limits and retries where there is a network in between, makes them, and
 * examines a place before one is made. It is the part of the composition root (compose.ts) that concerns stores, and
 * knows nothing of what lies in one (doc/stores.md).
 */
import { constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import { type MemoryBudget, readsUsual, writesUsual } from '../base/memory-budget.js';
import { printable } from '../base/printable.js';
import type { Bandwidth } from '../base/rate-limit.js';
import { RateLimit } from '../base/rate-limit.js';
import { systemRandom } from '../crypto/system-random.js';
import type { Disk } from '../disk/disk.js';
import { environment } from '../disk/environment.js';
import { access, readdir, stat } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { isLeftover } from '../store/directory-root.js';
import type { LimitedStoreOptions } from '../store/limited-store.js';
import { LimitedStore } from '../store/limited-store.js';
import { filePathOf } from '../store/location-url.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { openStore } from '../store/open-store.js';
import type { Reachability } from '../store/reachability-store.js';
import { ReachabilityStore } from '../store/reachability-store.js';
import { RefusedObjects } from '../store/refused-objects.js';
import { RetryingStore } from '../store/retrying-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { MountOptions } from './mount-options.js';
import { homeFolder } from './state-directory.js';

/** The absolute path of a store that lies in a local folder; `undefined` for the other kinds. */
export function localFolderOf(location: string): string | undefined {
  const path = location.startsWith('file:') ? filePathOf(location) : location.replace(/^dir:/, '');
  if (path === location && /^[a-z][a-z0-9+.-]*:/.test(location)) return undefined;
  return path === '~' || path.startsWith('~/') ? resolve(homeFolder(), `.${path.slice(1)}`) : resolve(path);
}

/** How a store is used over a network. */
type StoreTuning = Pick<MountOptions, 'uploadLimit' | 'downloadLimit' | 'readsAtOnce' | 'writesAtOnce'>;

/** The limits of commands, which have no options for them. */
const usualLimits: LimitedStoreOptions = { readsMax: readsUsual, writesMax: writesUsual };
/** No attempt starts later than this after the call: file managers ask again, and the committer never stops trying. */
const remoteDeadlineMs = 30_000;

/**
 * Opens the store at `location` for an existing volume. Whether a remote store answers is not known yet, so that a
 * drive can be mounted without a network. Throws StoreError, StoreLocationError.
 */
export function openVolumeStore(location: string, logger?: Logger, deadlineMs?: number): Promise<ObjectStore> {
  return openPatientStore(location, false, logger, deadlineMs);
}

/** A command that waits for the store must keep the process alive: between two attempts nothing else does. */
const waitingClock: Clock = {
  ...systemClock,
  async sleep(delayMs, signal) {
    const hold = setInterval(() => {}, 2 ** 30);
    try {
      await systemClock.sleep(delayMs, signal);
    } finally {
      clearInterval(hold);
    }
  },
};

/** A store with limits and retries around it where there is a network in between. */
async function openPatientStore(
  location: string,
  create: boolean,
  logger: Logger = silentLogger,
  deadlineMs = remoteDeadlineMs,
): Promise<ObjectStore> {
  const store = await openStore(location, { disk: systemDisk, random: systemRandom, clock: systemClock, env: environment(), create });
  if (store.local) return store;
  // The retries are outside, so that waiting for the next attempt occupies no place.
  const limited = new LimitedStore(store, usualLimits);
  return new RetryingStore(limited, { clock: waitingClock, random: systemRandom, disk: systemDisk, logger, deadlineMs });
}

export interface MountedStore {
  readonly store: ObjectStore;
  /** May be changed at any time; without effect on a local store. */
  readonly bandwidth: Bandwidth;
  /** Only for a store with a network in between. */
  readonly reachability: Reachability | undefined;
  readonly refused: RefusedObjects | undefined;
}

/** An object that no volume has: requesting it shows whether the store answers, and costs nothing. */
const probeKey = 'keys/reachable';

/**
 * The store of a mounted drive: like {@link openVolumeStore}, and it knows when the store is offline. With `isOffline`,
 * nobody waits for the first answer. Throws StoreError, StoreLocationError.
 */
export async function openMountedStore(
  location: string,
  { logger, timeoutMs, isOffline, disk }: { readonly logger: Logger; readonly timeoutMs: number; readonly isOffline: boolean; readonly disk: Disk },
  tuning: StoreTuning,
  memory: Pick<MemoryBudget, 'reads' | 'writes'>,
): Promise<MountedStore> {
  const bandwidth = {
    upload: new RateLimit(systemClock, tuning.uploadLimit ?? undefined),
    download: new RateLimit(systemClock, tuning.downloadLimit ?? undefined),
  };
  const store = await openStore(location, { disk, random: systemRandom, clock: systemClock, env: environment(), bandwidth });
  if (store.local) return { store, bandwidth, reachability: undefined, refused: undefined };
  const watched = new ReachabilityStore(
    new LimitedStore(store, { readsMax: tuning.readsAtOnce ?? memory.reads, writesMax: tuning.writesAtOnce ?? memory.writes }),
    {
      clock: systemClock,
      logger,
      timeoutMs,
      probe: (signal) => store.get(probeKey, { signal, sizeMax: 1 }),
      offline: isOffline,
    },
  );
  const refused = new RefusedObjects(logger);
  const retrying = new RetryingStore(watched, { clock: waitingClock, random: systemRandom, disk, logger, deadlineMs: timeoutMs, refused });
  return { store: retrying, bandwidth, reachability: watched, refused };
}

/** Makes the store at `location`. Also throws what {@link requireVacant} throws. */
export async function createVolumeStore(location: string): Promise<ObjectStore> {
  await requireVacant(location);
  return openPatientStore(location, true);
}

/** Checks that a new volume can be made at `location`, without changing anything. Throws Failure and StoreError. */
export async function requireVacant(location: string): Promise<void> {
  const folder = localFolderOf(location);
  if (folder !== undefined && (await isUnusedFolder(folder))) return;
  const store = await openVolumeStore(location);
  try {
    for await (const _ of store.list('keys/')) {
      throw new Failure(
        'NOT_A_VOLUME',
        `${printable(store.description)} holds a volume already: mount it, or choose another place; nothing was changed`,
      );
    }
    for (const prefix of ['log/', 'packs/']) {
      for await (const _ of store.list(prefix)) {
        throw new Failure(
          'NOT_A_VOLUME',
          `${printable(store.description)} holds parts of a volume but no keyslot: an "init" that was interrupted, or a damaged copy; choose another place`,
        );
      }
    }
  } catch (error) {
    // There is no place yet, or it holds nothing of ours: whether a store can be made there is found out by making it.
    if (!(error instanceof StoreError && error.code === 'NOT_A_STORE' && !store.local)) throw error;
  } finally {
    await store.close();
  }
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
  const others = names.filter((name) => !isLeftover(name));
  if (others.length === 0) return true;
  if (!others.some((name) => name === '_sealdrive' || name === 'keys')) {
    throw new Failure('NOT_A_VOLUME', `${printable(folder)} holds other files: a volume is made in an empty directory; nothing was changed`);
  }
  return false;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EROFS') return 'the disk takes no writes';
  if (error.code === 'EACCES' || error.code === 'EPERM') return 'you may not write there';
  return error.message;
}
