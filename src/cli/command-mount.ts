/** `sealdrive mount STORE DIR`: mounts a volume, served by a daemon or in the foreground. */
import { resolve } from 'node:path';
import type { SlotList } from '../access/keyslots.js';
import { claimedVolumeId } from '../access/keyslots.js';
import { listKnownSlots, openKnownStore } from '../access/known-volume.js';
import { keepSlots, readKeptSlots } from '../access/local-keyslots.js';
import { examineMachine, systemProbe } from '../access/machine.js';
import type { MountOptions, MountWords } from '../access/mount-options.js';
import { readMountOptions } from '../access/mount-options.js';
import { defaultStateBase, ensurePrivateDirectory, registryFolder, stateDirectoryOf } from '../access/state-directory.js';
import { pinnedVolume, pinStore, requirePinned } from '../access/store-pin.js';
import { rememberedProbe, singleWriterWarning, whyUnusable } from '../access/store-probe.js';
import { localFolderOf } from '../access/volume-store.js';
import { toHex } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { findMounts, requireAnswers, silenceFailure } from '../program/control-client.js';
import type { Mounted, ServingProcess } from '../program/detached-mount.js';
import { startServingProcess } from '../program/detached-mount.js';
import { prepareMountPoint, refuseOverlap, resolveMountPoint } from '../program/mount-point.js';
import type { MountRequest } from '../program/mount-request.js';
import { unlockVolume } from '../program/unlock-volume.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import { storeKindOf } from '../store/open-store.js';
import { isSingleWriter } from '../store/probe.js';
import { Failure } from '../terminal/exit-code.js';
import type { SecretOptions } from '../terminal/secret.js';
import { secretOptions } from '../terminal/secret.js';
import { print, printJson, quoteForShell, tell } from '../terminal/terminal.js';
import { jsonOption, mountTableOptions, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { warnOfSync } from './sync-warning.js';

export interface MountArguments extends SecretOptions, MountWords {
  readonly store: string;
  /** If it is left out, the config file says where. */
  readonly directory?: string | undefined;
  /** From the config file. */
  readonly mountPoint?: string | undefined;
  readonly foreground?: boolean;
  readonly stateDir?: string | undefined;
  readonly json?: boolean;
}

export const mountCommand = defineCommand<MountArguments>({
  command: 'mount <store> [directory]',
  describe: 'Mount a volume at an empty directory',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies, or its name' })
      .positional('directory', { type: 'string', describe: 'Where the drive appears (default: the mount point of the name in the config file)' })
      .options({
        foreground: { type: 'boolean', alias: 'f', default: false, describe: 'Do not detach (for systemd and for looking at problems)' },
        ...mountTableOptions,
        ...stateOption,
        ...secretOptions,
        ...jsonOption,
      })
      .example('$0 mount ~/Cloud/drive ~/Drive', 'asks for the passphrase, returns when the drive is there')
      .example('$0 mount ~/Cloud/drive ~/Drive --foreground', 'stays until unmounted'),
  handler: async (args) => {
    if (!args.foreground) return mountDetached(args);
    const request = await prepareMount(args);
    const { serveMount } = await import('../program/serve-mount.js');
    process.exitCode = await serveMount(request, (found) => {
      if (found.isSingleWriter) tell(singleWriterWarning);
      void warnOfSync(args.store);
      const { mountPoint, isOffline } = request;
      if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint, pid: process.pid, offline: isOffline });
      else tell(describeMount(request));
    });
    return undefined;
  },
});

/** Mounts with the secret that the arguments name, or with a known one, and prints where when the mount answers. */
export async function mountDetached(args: MountArguments, secret?: SlotSecret): Promise<void> {
  let serving: ServingProcess | undefined;
  const start = (stateDirectory: string): ServingProcess => (serving ??= startServingProcess(stateDirectory, storeKindOf(args.store)));
  let request: MountRequest;
  let mount: Mounted;
  try {
    request = await prepareMount(args, secret, start);
    mount = await start(request.stateDirectory).mount(request);
  } finally {
    serving?.abandon();
  }
  if (mount.isSingleWriter) tell(singleWriterWarning);
  await warnOfSync(args.store);
  if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint: request.mountPoint, pid: mount.pid, offline: request.isOffline });
  else print(describeMount(request));
}

function describeMount({ mountPoint, isOffline }: MountRequest): string {
  if (!isOffline) return `Mounted at ${printable(mountPoint)}`;
  return `Mounted at ${printable(mountPoint)}, offline: the store does not answer. What is on this machine can be read; what is written goes to the store when it is back.`;
}

/**
 * Finds everything that can be wrong before it asks for the passphrase and before anything is changed.
 * `onStateDirectory` is called with the state directory as soon as it is known.
 */
async function prepareMount(args: MountArguments, secret?: SlotSecret, onStateDirectory?: (stateDirectory: string) => void): Promise<MountRequest> {
  const options = readMountOptions(args);
  if ((options.uploadLimit ?? options.downloadLimit ?? null) !== null && localFolderOf(args.store) !== undefined) {
    throw new Failure('USAGE', '--upload-limit and --download-limit are for stores with a network in between, not for a folder');
  }
  const directory = args.directory ?? args.mountPoint;
  if (directory === undefined) {
    throw new Failure(
      'USAGE',
      `say where the drive is to appear: sealdrive mount ${quoteForShell(args.store)} DIRECTORY, or "sealdrive volume add --mount-point"`,
    );
  }
  if ((options.suid || options.dev) && process.geteuid?.() !== 0) {
    throw new Failure('USAGE', '--suid and --dev are for root only: anybody who can change the volume could take over this machine with them');
  }
  requireMachine(options);
  const kept = await keptSlotsOf(args);
  if (kept) onStateDirectory?.(stateDirectoryOf(kept.volumeId, args.stateDir));
  const store = await openKnownStore(args.store, kept ? firstAnswerMs : undefined);
  try {
    const { slots, isOffline } = await findSlots(store, args.store, kept?.slots, options.timeoutMs);
    const claimed = claimedVolumeId(slots);
    const mountPoint = await resolveMountPoint(directory);
    const mounts = await findMounts();
    if (claimed !== undefined) {
      await requirePinned(args.store, claimed);
      const stateDirectory = stateDirectoryOf(claimed, args.stateDir);
      const other = [...mounts.answering, ...mounts.silent].find(({ record }) => record?.stateDirectory === stateDirectory);
      if (other && 'reason' in other) throw silenceFailure(other);
      if (other) {
        throw new Failure(
          'IN_USE',
          `this volume is mounted already, at ${printable(other.record.mountPoint)}: unmount it first, or give another --state-dir`,
        );
      }
    }
    requireAnswers(mounts.silent.filter((one) => one.isHere && !one.isDead && one.mountPoint === mountPoint));
    const isServed = mounts.answering.some(({ record, isHere }) => isHere && record.mountPoint === mountPoint);
    const { recovered } = await prepareMountPoint(mountPoint, () => Promise.resolve(isServed));
    const stateBase = args.stateDir === undefined ? defaultStateBase() : resolve(args.stateDir);
    const folder = localFolderOf(args.store);
    await refuseOverlap(mountPoint, [
      { what: 'the state directory', path: stateBase },
      ...(folder === undefined ? [] : [{ what: 'the store', path: folder }]),
    ]);
    const { unlocked } = await unlockVolume(store, args, secret, slots);
    const volumeId = toHex(unlocked.volumeId);
    const stateDirectory = stateDirectoryOf(volumeId, args.stateDir);
    await ensurePrivateDirectory(stateBase);
    await ensurePrivateDirectory(stateDirectory);
    onStateDirectory?.(stateDirectory);
    await pinStore(args.store, volumeId);
    if (!isOffline) await keepSlots(stateDirectory, slots);
    const remembered = options.readOnly ? undefined : await rememberedProbe(args.store);
    // A store that could not be used may have been mended.
    const probe = remembered && whyUnusable(remembered) ? undefined : remembered;
    // If nothing is remembered, it is found out while the volume is being opened.
    const isUnknown = !probe && !options.readOnly && !isOffline;
    const request: MountRequest = {
      store: folder ?? args.store,
      mountPoint,
      stateDirectory,
      registryFolder: registryFolder(),
      volumeId: unlocked.volumeId,
      rootSecret: unlocked.rootSecret,
      ownerSeed: unlocked.ownerSeed,
      isOffline,
      isSingleWriter: isUnknown ? undefined : probe !== undefined && isSingleWriter(probe),
      options,
    };
    if (recovered) tell(`removed what a dead daemon had left at ${printable(mountPoint)}`);
    return request;
  } finally {
    await store.close();
  }
}

/** If there are copies of the keyslots, a store that does not answer for this long is taken to be offline. */
const firstAnswerMs = 3000;
const hungAnswerMs = 10_000;

/** The keyslots as this machine saw them last, if it has mounted what lies in the store before. */
async function keptSlotsOf(args: MountArguments): Promise<{ readonly volumeId: string; readonly slots: SlotList } | undefined> {
  const volumeId = await pinnedVolume(args.store);
  const slots = volumeId === undefined ? undefined : await readKeptSlots(stateDirectoryOf(volumeId, args.stateDir));
  return volumeId === undefined || !slots ? undefined : { volumeId, slots };
}

/** The keyslots that the store shows, or the copies when it does not answer. Throws what `listSlots` throws. */
async function findSlots(
  store: ObjectStore,
  location: string,
  kept: SlotList | undefined,
  timeoutMs: number,
): Promise<{ readonly slots: SlotList; readonly isOffline: boolean }> {
  if (!kept || store.local) return { slots: await listKnownSlots(store, location), isOffline: false };
  const limit = AbortSignal.timeout(Math.min(timeoutMs, hungAnswerMs));
  try {
    return { slots: await listKnownSlots(store, location, limit, kept), isOffline: false };
  } catch (error) {
    if (!limit.aborted && !(error instanceof StoreError && error.code === 'UNAVAILABLE')) throw error;
    return { slots: kept, isOffline: true };
  }
}

function requireMachine({ driver }: Pick<MountOptions, 'driver'>): void {
  const needed = new Set(driver === 'native' ? ['node', 'kernel', 'addon', 'device', 'fusermount3'] : ['node', 'device']);
  const missing = examineMachine(systemProbe, defaultStateBase()).find((finding) => finding.state === 'missing' && needed.has(finding.id));
  if (missing) throw new Failure('MACHINE', `${missing.text}: ${missing.remedy ?? 'see "sealdrive doctor"'}`);
}
