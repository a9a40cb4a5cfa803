/**
 * The composition root: the only place where implementations are chosen and put together. What it makes is handed down; nothing below
 * looks anything up (doc/architecture.md, "Composition"). What only a mount needs is loaded when there is one, so that small commands
 * start fast.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { access, readdir, stat } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../base/clock.js';
import type { Clock } from '../base/clock.js';
import { silentLog } from '../base/log.js';
import type { Log } from '../base/log.js';
import { CommitLog } from '../commit/commit-log.js';
import { nativeCipher } from '../crypto/bulk-cipher.js';
import { systemRandom } from '../crypto/system-random.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { DaemonParts } from '../daemon/daemon.js';
import type { PeerCheck } from '../daemon/control-server.js';
import { systemDisk } from '../disk/system-disk.js';
import { FuseError } from '../fuse/fuse-error.js';
import { kernelClock } from '../fuse/kernel-clock.js';
import { loadNative } from '../fuse/native.js';
import type { NativeAddon } from '../fuse/native.js';
import type { Driver } from '../fuse/operations.js';
import { LimitedStore } from '../store/limited-store.js';
import { StoreError } from '../store/object-store.js';
import type { ObjectStore } from '../store/object-store.js';
import { openStore } from '../store/open-store.js';
import { RetryingStore } from '../store/retrying-store.js';
import { Failure } from './exit-code.js';
import type { MountRequest } from './mount-request.js';

/** How other devices see this one, unless told otherwise. */
export const defaultDeviceName = (): string => hostname() || 'device';

/** The absolute path of a store that lies in a local folder; `undefined` for the other kinds. */
export function localFolderOf(location: string): string | undefined {
  const path = location.startsWith('file:') ? fileURLToPath(location) : location.replace(/^dir:/, '');
  if (path === location && /^[a-z][a-z0-9+.-]*:/.test(location)) return undefined;
  return path === '~' || path.startsWith('~/') ? resolve(homedir(), `.${path.slice(1)}`) : resolve(path);
}

/** Requests at once, over a network: enough to fill a link with 30 ms of round trip, and few enough for a small server. */
const remoteLimits = { readsMax: 24, writesMax: 8 };
/** No attempt starts later than this after the call: file managers ask again, and the committer never stops asking. */
const remoteDeadlineMs = 30_000;

/**
 * The store at `location`, for a volume that is there; of a remote one it cannot be known yet whether it answers, so that a drive mounts
 * without a network. Throws StoreError, StoreLocationError.
 */
export function openVolumeStore(location: string, log?: Log): Promise<ObjectStore> {
  return openPatientStore(location, false, log);
}

/** Whoever waits for an answer of the store keeps the process: between two attempts nothing else would. */
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
async function openPatientStore(location: string, create: boolean, log: Log = silentLog): Promise<ObjectStore> {
  const store = await openStore(location, { disk: systemDisk, random: systemRandom, clock: systemClock, env: process.env, create });
  if (store.local) return store;
  // Retries outside: who waits for the next attempt holds no place.
  const limited = new LimitedStore(store, remoteLimits);
  return new RetryingStore(limited, { clock: waitingClock, random: systemRandom, disk: systemDisk, log, deadlineMs: remoteDeadlineMs });
}

/** Makes the store at `location` where it can be made. Throws what {@link requireVacant} does as well. */
export async function createVolumeStore(location: string): Promise<ObjectStore> {
  await requireVacant(location);
  return openPatientStore(location, true);
}

/** Whether a new volume can be made at `location`, found out without changing anything. Throws Failure and StoreError. */
export async function requireVacant(location: string): Promise<void> {
  const folder = localFolderOf(location);
  if (folder !== undefined && (await isUnusedFolder(folder))) return;
  const store = await openVolumeStore(location);
  try {
    for await (const _ of store.list('keys/')) {
      throw new Failure('NOT_A_VOLUME', `${store.description} holds a volume already: mount it, or choose another place; nothing was changed`);
    }
    for (const prefix of ['log/', 'packs/']) {
      for await (const _ of store.list(prefix)) {
        throw new Failure(
          'NOT_A_VOLUME',
          `${store.description} holds parts of a volume but no keyslot: an "init" that was interrupted, or a damaged copy; choose another place`,
        );
      }
    }
  } catch (error) {
    // There is no place yet, or nothing of ours in it: making the store tells whether it can be made there.
    if (!(error instanceof StoreError && error.code === 'NOT_A_STORE' && !store.local)) throw error;
  } finally {
    await store.close();
  }
}

/** An empty folder, or none where one can be made. False: something is in it. */
async function isUnusedFolder(folder: string): Promise<boolean> {
  let names: string[];
  try {
    if (!(await stat(folder)).isDirectory()) throw new Failure('NOT_A_VOLUME', `${folder} is not a directory: choose another place`);
    names = await readdir(folder);
    await access(folder, constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      await access(dirname(folder), constants.W_OK).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') throw new Failure('NOT_A_VOLUME', `there is no directory ${dirname(folder)} to make the store in`);
        throw new Failure('STORE', `the store cannot be made in ${dirname(folder)}: ${reasonOf(cause)}`, { cause });
      });
      return true;
    }
    if (error instanceof Failure) throw error;
    throw new Failure('STORE', `the store cannot be made in ${folder}: ${reasonOf(error as NodeJS.ErrnoException)}`, { cause: error });
  }
  const others = names.filter((name) => name !== 'lost+found');
  if (others.length === 0) return true;
  if (!others.some((name) => name === '_sealdrive' || name === 'keys')) {
    throw new Failure('NOT_A_VOLUME', `${folder} holds other files: a volume is made in an empty directory; nothing was changed`);
  }
  return false;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EROFS') return 'the disk takes no writes';
  if (error.code === 'EACCES' || error.code === 'EPERM') return 'you may not write there';
  return error.message;
}

/** No core dumps and no tracing by other processes of the user: keys are in memory from here on. */
export function hardenProcess(log: Log): void {
  const addon = findAddon();
  if (addon) addon.setDumpable(false);
  else log.warn('core dumps are not switched off: there is no native addon');
}

/** The portable driver runs without the addon. */
function findAddon(): NativeAddon | undefined {
  try {
    return loadNative();
  } catch (error) {
    if (error instanceof FuseError && error.code === 'NO_ADDON') return undefined;
    throw error;
  }
}

async function selectDriver(name: MountRequest['driver']): Promise<Driver> {
  if (name === 'native') return (await import('../fuse/native-driver.js')).nativeDriver;
  return (await import('../fuse/portable-driver.js')).portableDriver;
}

/** The user who runs the daemon, and root. Without the addon the modes of the socket and its folder decide alone. */
function createPeerCheck(addon: NativeAddon | undefined): PeerCheck {
  return (socket) => {
    // Node.js has no public way to a socket's descriptor.
    const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
    if (!addon) return true;
    if (fd === undefined || fd < 0) return false;
    const { uid } = addon.peerCredentials(fd);
    return uid === 0 || uid === process.getuid?.();
  };
}

const syncTimeoutMs = 60_000;

/** In another process: syncfs(2) blocks until we have answered the writes that it causes. */
function syncKernel(mountPoint: string): Promise<void> {
  return new Promise((settle, reject) => {
    const child = spawn('sync', ['--file-system', mountPoint], { stdio: 'ignore', cwd: '/', timeout: syncTimeoutMs, killSignal: 'SIGKILL' });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? settle() : reject(new Error(`sync ended with ${code ?? 'a signal'}`))));
  });
}

/** Writes a genesis into an empty store; the caller makes the keyslots, and wipes the secret. */
export async function createVolume(
  store: ObjectStore,
): Promise<{ readonly volumeId: Uint8Array; readonly rootSecret: Uint8Array; readonly generation: number }> {
  const { OpenVolume } = await import('../volume/open-volume.js');
  const rootSecret = systemRandom.bytes(32);
  const { volumeId } = await OpenVolume.create({ store, rootSecret, random: systemRandom, clock: systemClock });
  return { volumeId, rootSecret, generation: 1 };
}

/** Everything that a mount is made of, with the volume open. Takes the request's root secret over. Throws what the layers throw. */
export async function composeMount(request: MountRequest, log: Log): Promise<{ readonly parts: DaemonParts; readonly storeDescription: string }> {
  const [{ OpenVolume }, { Filesystem }, { FuseFilesystem, briefValidity, lastingValidity }, { createErrnoOf }] = await Promise.all([
    import('../volume/open-volume.js'),
    import('../vfs/filesystem.js'),
    import('../daemon/fuse-filesystem.js'),
    import('../daemon/errno.js'),
  ]);
  const addon = findAddon();
  const release = lockStateDirectory(request.stateDirectory, addon);
  try {
    const store = await openVolumeStore(request.store, log);
    const opened = await OpenVolume.open({
      store,
      disk: systemDisk,
      random: systemRandom,
      clock: addon ? kernelClock(systemClock, addon) : systemClock,
      log,
      stateDirectory: request.stateDirectory,
      volumeId: request.volumeId,
      rootSecret: request.rootSecret,
      readOnly: request.readOnly,
      cacheSize: request.cacheSize,
      deviceName: request.deviceName,
      headCode: request.headCode,
      cipher: addon ? nativeCipher(addon) : undefined,
    });
    const folder = localFolderOf(request.store);
    const filesystem = new Filesystem(opened, {
      log,
      space: folder === undefined ? undefined : () => systemDisk.space(folder),
    });
    if (!opened.readOnly) await filesystem.start();
    const parts: DaemonParts = {
      served: {
        volume: opened,
        details: () => opened.details(),
        async close() {
          await opened.close();
          await store.close();
          release();
        },
      },
      filesystem: new FuseFilesystem(filesystem, request.driver === 'native' ? lastingValidity : briefValidity),
      driver: await selectDriver(request.driver),
      errnoOf: createErrnoOf(log),
      clock: systemClock,
      log,
      isPeerAllowed: createPeerCheck(addon),
      notifyService: (message) => void addon?.notifySystemd(message),
      syncKernel,
    };
    return { parts, storeDescription: store.description };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * The log of a volume, as the device of a state directory that is not mounted; a new one enrols. The caller closes it, and then releases the
 * lock. Throws Failure `IN_USE`, CommitError, StoreError.
 */
export async function openDeviceLog(
  store: ObjectStore,
  keys: VolumeKeys,
  stateDirectory: string,
): Promise<{ readonly log: CommitLog; readonly release: () => void }> {
  const release = lockStateDirectory(stateDirectory, findAddon());
  try {
    const common = { disk: systemDisk, random: systemRandom, clock: systemClock, log: silentLog, readOnly: false };
    return { log: await CommitLog.open({ ...common, store, keys, stateDirectory, deviceName: defaultDeviceName() }), release };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * One daemon a state directory: two would write one journal. The lock goes with the process, however it ends. Answers what releases it.
 * Throws Failure `IN_USE`.
 */
function lockStateDirectory(stateDirectory: string, addon: NativeAddon | undefined): () => void {
  // Without the addon there is no flock: the registry of mounts, asked before, has to do.
  if (!addon) return () => {};
  const fd = openSync(join(stateDirectory, 'lock'), constants.O_RDWR | constants.O_CREAT, 0o600);
  if (!addon.lockExclusive(fd)) {
    closeSync(fd);
    throw new Failure(
      'IN_USE',
      `the state directory ${stateDirectory} is in use by another mount of this volume: unmount it, or give another --state-dir`,
    );
  }
  let held = true;
  return () => {
    if (held) closeSync(fd);
    held = false;
  };
}
