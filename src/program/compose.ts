/**
 * The composition root: the only place where implementations are chosen and put together. Parts are passed down, and
 * nothing below looks anything up (doc/architecture.md, "Composition"). Modules that only a mount needs are loaded for
 * a mount, so that small commands start fast.
 */

import { spawn } from 'node:child_process';
import { closeSync, constants } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { NewlyMadeSlot } from '../access/keyslots.js';
import { makeSlot, putSlot, wipeSecrets } from '../access/keyslots.js';
import { usualMemory } from '../access/machine-memory.js';
import type { MountOptions } from '../access/mount-options.js';
import { beginProbe, requireUsable } from '../access/store-probe.js';
import { syncClientOf } from '../access/sync-client.js';
import { localFolderOf, openMountedStore } from '../access/volume-store.js';
import { byteStringOf } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { ClosingStack } from '../base/closing-stack.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import { budgetOf } from '../base/memory-budget.js';
import { printable } from '../base/printable.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { CommitLog, CommitLogOptions } from '../commit/commit-log.js';
import { noFeatures, workFeatures } from '../commit/features.js';
import { parseProgramVersion } from '../commit/program-version.js';
import { nativeCipher } from '../crypto/bulk-cipher.js';
import type { SlotHeader, SlotSecret } from '../crypto/keyslot.js';
import { systemRandom } from '../crypto/system-random.js';
import type { PeerCheck } from '../daemon/control-server.js';
import type { DaemonParts } from '../daemon/daemon.js';
import type { Inhibition } from '../daemon/shutdown-inhibitor.js';
import { readFile } from '../disk/file-promises.js';
import { openSync } from '../disk/files.js';
import { programWithPath } from '../disk/path-program.js';
import { presentDisk, systemDisk } from '../disk/system-disk.js';
import { kernelClock } from '../fuse/kernel-clock.js';
import { findHolders } from '../fuse/mount-holders.js';
import type { NativeAddon } from '../fuse/native.js';
import type { Driver } from '../fuse/operations.js';
import type { ObjectStore } from '../store/object-store.js';
import { preloadStore } from '../store/open-store.js';
import { isSingleWriter } from '../store/probe.js';
import { Failure } from '../terminal/exit-code.js';
import type { Filesystem } from '../vfs/filesystem.js';
import type { OpenVolume } from '../volume/open-volume.js';
import { isStoreUnusable } from '../volume/remedy.js';
import type { Volume } from '../volume/volume.js';
import type { MountRequest } from './mount-request.js';
import { findAddon } from './native-addon.js';
import { version } from './version.js';

/** As commits and enrolments name it. */
const programVersion = parseProgramVersion(version);

/** How other devices see this one, by default. */
export const defaultDeviceName = (): string => hostname() || 'device';

/** Switches off core dumps, and tracing by other processes of the user: keys are in memory from here on. */
export function hardenProcess(logger: Logger): void {
  const addon = findAddon();
  if (addon) addon.setDumpable(false);
  else logger.warn('core dumps are not switched off: there is no native addon');
}

async function selectDriver(name: MountOptions['driver']): Promise<Driver> {
  if (name === 'native') return (await import('../fuse/native-driver.js')).nativeDriver;
  return (await import('../fuse/portable-driver.js')).portableDriver;
}

/**
 * Admits the user who runs the daemon, and root. Without the addon only the modes of the socket and its folder decide.
 */
function createPeerCheck(addon: NativeAddon | undefined): PeerCheck {
  return (socket) => {
    // Node.js has no public way to a socket's descriptor.
    const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
    if (!addon) return { pid: 0 };
    if (fd === undefined || fd < 0) return undefined;
    const { uid, pid } = addon.peerCredentials(fd);
    return uid === 0 || uid === process.getuid?.() ? { pid } : undefined;
  };
}

/** How many of the processes that keep a drive busy are named. */
const holdersMax = 3;

const syncTimeoutMs = 60_000;
const syncedGraceMs = 600_000;

/** Runs in another process: syncfs(2) blocks until we have answered the writes that it causes. */
function syncKernel(mountPoint: string): Promise<void> {
  return new Promise((settle, reject) => {
    const child = spawn(...programWithPath('sync', ['--file-system'], mountPoint), {
      stdio: 'ignore',
      cwd: '/',
      timeout: syncTimeoutMs,
      killSignal: 'SIGKILL',
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? settle() : reject(new Error(`sync ended with ${code ?? 'a signal'}`))));
  });
}

/**
 * Runs another process, which holds logind's lock as long as its input is open: it ends when we end, however that
 * happens.
 */
function inhibitShutdown(): Inhibition {
  const what = ['--what=shutdown:sleep', '--who=Sealdrive', '--why=Files are being uploaded', '--mode=block'];
  const child = spawn('systemd-inhibit', [...what, 'cat'], { stdio: ['pipe', 'ignore', 'ignore'], cwd: '/' });
  let isGranted = true;
  child.on('error', () => {
    isGranted = false;
  });
  child.on('exit', () => {
    isGranted = false;
  });
  child.stdin.on('error', () => {});
  child.unref();
  return { isGranted: () => isGranted, end: () => child.stdin.end() };
}

/** What a new volume is to be opened with. */
export interface FirstSecret {
  readonly secret: SlotSecret;
  readonly label: string;
}

/**
 * Makes a volume with an owner of its own in an empty store, and a keyslot for each secret, which come last: a store
 * without them holds no volume yet. Returns the ids of the slots in the order of the secrets.
 */
export async function createVolumeWithSecrets(
  store: ObjectStore,
  secrets: readonly FirstSecret[],
  /** Whether its commits hold the operations that made them, so that histories which meet can be put together. */
  keepsWork: boolean,
): Promise<{ readonly volumeId: Uint8Array; readonly slotIds: readonly string[] }> {
  const { createVolume } = await import('../volume/create-volume.js');
  const rootSecret = systemRandom.bytes(32);
  const ownerSeed = systemRandom.bytes(32);
  const made: NewlyMadeSlot[] = [];
  const makeSlots = async (volumeId: Uint8Array): Promise<readonly SlotHeader[]> => {
    const maker = { volumeId, rootSecret, ownerSeed, generation: 1, since: 0 };
    for (const { secret, label } of secrets) made.push(await makeSlot(maker, secret, label, systemRandom));
    return made.map(({ header }) => header);
  };
  try {
    const { volumeId } = await createVolume({
      store,
      rootSecret,
      ownerSeed,
      random: systemRandom,
      clock: systemClock,
      program: programVersion,
      features: keepsWork ? workFeatures : noFeatures,
      makeSlots,
    });
    for (const slot of made) await putSlot(store, slot);
    return { volumeId, slotIds: made.map(({ header }) => header.slotId) };
  } finally {
    wipeSecrets({ rootSecret, ownerSeed });
  }
}

const loadMount = () =>
  Promise.all([
    import('../volume/volume-opening.js'),
    import('../vfs/filesystem.js'),
    import('../daemon/fuse-filesystem.js'),
    import('../daemon/kernel-cache.js'),
    import('../daemon/errno.js'),
    import('../daemon/snapshot-operations.js'),
    import('../vfs/snapshot-tree.js'),
  ] as const);

/** Loads the modules that a mount of a store of this kind needs, while there is nothing else to do. */
export function preloadMount(storeKind: string): void {
  // An error is reported to whoever needs the module.
  for (const loading of [loadMount(), selectDriver('native'), preloadStore(storeKind)]) loading.catch(() => {});
}

/** What a volume is opened with, mounted or not. Its secrets are taken over. */
export type VolumeRequest = Omit<MountRequest, 'mountPoint' | 'registryFolder'>;

interface ComposedVolume {
  readonly volume: OpenVolume;
  readonly store: ObjectStore;
  readonly bandwidth: Bandwidth;
  readonly addon: NativeAddon | undefined;
  readonly findSingleWriter: () => Promise<boolean>;
}

/** Opens the volume with all that it needs, which `opened` closes again. Throws what the layers throw. */
async function composeVolume(request: VolumeRequest, logger: Logger, opened: ClosingStack, isMount: boolean): Promise<ComposedVolume> {
  const { openVolume } = await import('../volume/volume-opening.js');
  const { options } = request;
  const addon = findAddon();
  opened.push(lockStateDirectory(request.stateDirectory, addon));
  const disk = addon ? presentDisk(addon) : systemDisk;
  const memory = budgetOf(options.memory ?? usualMemory());
  const syncClient = await syncClientOf(request.store);
  const link = { logger, timeoutMs: options.timeoutMs, isOffline: request.isOffline, disk };
  const { store, bandwidth, reachability, refused } = await openMountedStore(request.store, link, options, memory);
  opened.push(() => store.close());
  // It runs beside the opening, which needs the result before this device enrols, and removes what it made.
  const probe = request.isSingleWriter === undefined ? beginProbe(store, request.store, logger) : undefined;
  if (probe) opened.push(() => probe.stop());
  const findSingleWriter = async (): Promise<boolean> => {
    const verdict = await probe?.verdict;
    if (!verdict) return request.isSingleWriter ?? false;
    requireUsable(verdict);
    return isSingleWriter(verdict);
  };
  const volume = await openVolume({
    store,
    disk,
    random: systemRandom,
    clock: addon ? kernelClock(systemClock, addon) : systemClock,
    logger,
    stateDirectory: request.stateDirectory,
    volumeId: request.volumeId,
    rootSecret: request.rootSecret,
    ownerSeed: request.ownerSeed,
    program: programVersion,
    readOnly: options.readOnly,
    reachability,
    refused,
    patienceMs: options.timeoutMs,
    cacheSize: options.cacheSize,
    cacheFreeMin: options.cacheFreeMin,
    bootId: await readBootId(),
    queueSize: options.queueSize,
    memory,
    deviceName: options.deviceName ?? defaultDeviceName(),
    pollIntervalMs: options.pollIntervalMs,
    heartbeatMs: options.heartbeatMs,
    // The next commit may be on its way for as long as a sync client needs.
    graceMs: syncClient === undefined ? undefined : syncedGraceMs,
    syncClient,
    maxStalenessMs: options.maxStalenessMs,
    headCode: options.headCode,
    beforeEnrolment: async (otherDevices) => {
      if (!options.singleWriterAnyway && (await findSingleWriter())) requireSoleDevice(otherDevices);
    },
    cipher: addon ? nativeCipher(addon) : undefined,
    takesSnapshots: isMount,
    // A history that lacks a burial which this device has seen is not followed, and there histories part.
    collects: isMount && options.gc && syncClient === undefined,
  }).catch(async (error: unknown) => {
    // Where no volume can be used, the probe knows better what is wrong.
    await findSingleWriter();
    throw error;
  });
  request.ownerSeed?.fill(0);
  opened.push(() => volume.close());
  return { volume, store, bandwidth, addon, findSingleWriter };
}

/** Opens a volume that is not mounted, for one piece of work. Throws what the layers throw, and what `work` throws. */
export async function withVolume<T>(request: VolumeRequest, logger: Logger, work: (volume: OpenVolume) => Promise<T>): Promise<T> {
  const opened = new ClosingStack();
  try {
    const { volume } = await composeVolume(request, logger, opened, false);
    return await work(volume);
  } finally {
    await opened.close();
  }
}

/**
 * Everything that a mount is made of, with the volume open. Takes over the secrets of the request. Throws what the
 * layers throw.
 */
export async function composeMount(
  request: MountRequest,
  logger: Logger,
): Promise<{ readonly parts: DaemonParts; readonly storeDescription: string; readonly isSingleWriter: boolean }> {
  const [
    ,
    { Filesystem },
    { FuseFilesystem },
    { KernelCache, briefValidity, lastingValidity },
    { createErrnoOf },
    { SnapshotOperations },
    { SnapshotTree },
  ] = await loadMount();
  const { options } = request;
  const opened = new ClosingStack();
  try {
    const { volume, store, bandwidth, addon, findSingleWriter } = await composeVolume(request, logger, opened, true);
    const folder = localFolderOf(request.store);
    const mount = volume.frontEnd();
    const filesystem = new Filesystem(mount, {
      logger,
      accessTimes: { policy: options.atime, keepsFolders: options.nodiratime },
      space: folder === undefined ? () => Promise.resolve(offlineSpace(volume)) : () => systemDisk.space(folder),
    });
    await startFilesystem(filesystem, logger);
    const isForOne = await findSingleWriter();
    const cache = new KernelCache(filesystem, options.driver === 'native' ? lastingValidity : briefValidity);
    mount.onChange(cache);
    const present = new FuseFilesystem(filesystem, cache, volume);
    const snapshots =
      options.snapshotDir === ''
        ? undefined
        : new SnapshotOperations({
            below: present,
            inoOf: (nodeId) => cache.inoOf(nodeId),
            nodeIdOf: (ino) => cache.nodeIdOf(ino),
            tree: new SnapshotTree(volume),
            name: byteStringOf(options.snapshotDir),
            validity: lastingValidity,
          });
    const parts: DaemonParts = {
      served: {
        volume,
        details: () => {
          const facts = volume.details();
          const memoryNow = { ...facts['memory'], residentBytes: process.memoryUsage.rss() };
          return { ...facts, memory: memoryNow, ...describeLink(isForOne, bandwidth) };
        },
        close: () => opened.close(),
      },
      filesystem: snapshots ?? present,
      cache: {
        attach: (notifier) => {
          cache.attach(notifier);
          snapshots?.attach(notifier);
        },
      },
      driver: await selectDriver(options.driver),
      errnoOf: createErrnoOf(logger),
      clock: systemClock,
      logger,
      bandwidth: store.local ? undefined : bandwidth,
      identifyPeer: createPeerCheck(addon),
      notifyService: (message) => void addon?.notifySystemd(message),
      syncKernel,
      // Other users may hold the drive, which only root could see.
      findHolders: () => (options.allowOther && process.getuid?.() !== 0 ? Promise.resolve(undefined) : findHolders(request.mountPoint, holdersMax)),
      inhibitShutdown: options.inhibit ? inhibitShutdown : undefined,
    };
    return { parts, storeDescription: store.description, isSingleWriter: isForOne };
  } catch (error) {
    await opened.close().catch((cause: unknown) => logger.warn('not everything could be closed', { reason: describeError(cause) }));
    throw error;
  }
}

/** Throws Failure `STORE`. */
function requireSoleDevice(otherDevices: number): void {
  if (otherDevices === 0) return;
  throw new Failure(
    'STORE',
    'this store cannot keep two devices apart, and another device writes to the volume already: mount with --read-only, ' +
      'or, when that device will never write again, with --single-writer-anyway; nothing was changed',
  );
}

/** What `status` shows of the way to the store. */
function describeLink(isSingleWriter: boolean, { upload, download }: Bandwidth): ReturnType<OpenVolume['details']> {
  const limits = {
    ...(upload.bytesPerSecond === undefined ? {} : { uploadPerSecondBytes: upload.bytesPerSecond }),
    ...(download.bytesPerSecond === undefined ? {} : { downloadPerSecondBytes: download.bytesPerSecond }),
  };
  return {
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
    ...(isSingleWriter ? { warning: { singleWriter: 'use this store from one device only: it cannot keep two apart' } } : {}),
  };
}

/**
 * Starts the filesystem before the first request of the kernel. Offline the tree may be out of reach; files that a
 * crash left without a name are then freed at a later start.
 */
async function startFilesystem(filesystem: Filesystem, logger: Logger): Promise<void> {
  try {
    await filesystem.start();
  } catch (error) {
    if (!isStoreUnusable(error)) throw error;
    logger.info('removed files that a crash left are freed at a later start', { reason: describeError(error) });
  }
}

/**
 * While the store is offline, only as much can be written as fits into the queue. Programs that check the free space
 * before they copy see that.
 */
function offlineSpace(volume: Pick<Volume, 'offlineRoomBytes' | 'statistics'>): { readonly free: number; readonly total: number } | undefined {
  const free = volume.offlineRoomBytes();
  return free === undefined ? undefined : { free, total: free + volume.statistics().bytes };
}

/** The id of the current boot; `undefined` where the system has none. */
async function readBootId(): Promise<string | undefined> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim().slice(0, 64);
  } catch {
    return undefined;
  }
}

export type DeviceLogOptions = Pick<CommitLogOptions, 'store' | 'keys' | 'genesis' | 'stateDirectory' | 'ownerSeed'>;

/**
 * Keeps other processes away from a state directory that is not mounted until the result is called. Throws Failure
 * `IN_USE`.
 */
export const lockDevice = (stateDirectory: string): (() => void) => lockStateDirectory(stateDirectory, findAddon());

/**
 * Opens the commit log of a volume as the device of a state directory that is not mounted; a new device enrols. The
 * caller closes the log, then releases the lock. Throws Failure `IN_USE`, CommitError, StoreError.
 */
export async function openDeviceLog(options: DeviceLogOptions): Promise<{ readonly log: CommitLog; readonly release: () => void }> {
  const { CommitLog } = await import('../commit/commit-log.js');
  const release = lockDevice(options.stateDirectory);
  try {
    const common = { disk: systemDisk, random: systemRandom, clock: systemClock, logger: silentLogger, readOnly: false };
    return { log: await CommitLog.open({ ...common, ...options, program: programVersion, deviceName: defaultDeviceName() }), release };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * Locks a state directory: two daemons would write one journal. The lock ends with the process, however it ends.
 * Returns the function that releases it. Throws Failure `IN_USE`.
 */
function lockStateDirectory(stateDirectory: string, addon: NativeAddon | undefined): () => void {
  // Without the addon there is no flock; the registry of mounts, which was read before, must be enough.
  if (!addon) return () => {};
  const fd = openSync(join(stateDirectory, 'lock'), constants.O_RDWR | constants.O_CREAT, 0o600);
  if (!addon.lockExclusive(fd)) {
    closeSync(fd);
    throw new Failure(
      'IN_USE',
      `the state directory ${printable(stateDirectory)} is in use by another mount of this volume: unmount it, or give another --state-dir`,
    );
  }
  let held = true;
  return () => {
    if (held) closeSync(fd);
    held = false;
  };
}
