/**
 * Opens and makes stores for commands and mounts, with limits and retries where there is a network in between. It is
 * the part of the composition root (compose.ts) that concerns stores, and knows nothing of what lies in one
 * (doc/stores.md).
 */
import { resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import { type MemoryBudget, readsUsual, writesUsual } from '../base/memory-budget.js';
import type { Bandwidth } from '../base/rate-limit.js';
import { RateLimit } from '../base/rate-limit.js';
import { systemRandom } from '../crypto/system-random.js';
import type { Disk } from '../disk/disk.js';
import { environment } from '../disk/environment.js';
import { systemDisk } from '../disk/system-disk.js';
import type { LimitedStoreOptions } from '../store/limited-store.js';
import { LimitedStore } from '../store/limited-store.js';
import { filePathOf } from '../store/location-url.js';
import type { ObjectStore } from '../store/object-store.js';
import { openStore } from '../store/open-store.js';
import type { Reachability } from '../store/reachability-store.js';
import { ReachabilityStore } from '../store/reachability-store.js';
import { RefusedObjects } from '../store/refused-objects.js';
import { RetryingStore } from '../store/retrying-store.js';
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
export const waitingClock: Clock = {
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

/** Makes the store at `location`; opens the one that is there. Throws StoreError, StoreLocationError. */
export function makeVolumeStore(location: string): Promise<ObjectStore> {
  return openPatientStore(location, true);
}
