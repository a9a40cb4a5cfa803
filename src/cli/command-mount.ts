/** `sealdrive mount STORE DIR`: mounts a volume and stays behind as a daemon, or in the foreground. */
import { resolve } from 'node:path';
import type { SlotList } from '../access/keyslots.js';
import { claimedVolumeId } from '../access/keyslots.js';
import { listKnownSlots, openKnownStore } from '../access/known-volume.js';
import { keepSlots, readKeptSlots } from '../access/local-keyslots.js';
import { examineMachine, systemProbe } from '../access/machine.js';
import { defaultStateBase, ensurePrivateDirectory, registryFolder, stateDirectoryOf } from '../access/state-directory.js';
import { pinnedVolume, pinStore, requirePinned } from '../access/store-pin.js';
import { rememberedProbe, singleWriterWarning } from '../access/store-probe.js';
import { localFolderOf } from '../access/volume-store.js';
import { toHex } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { defaultDeviceName } from '../program/compose.js';
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
import { type AccessTimePolicy, accessTimePolicies } from '../vfs/access-time-policy.js';
import type { TuningArguments } from './command-options.js';
import { bytesOf, durationMsOf, jsonOption, noTuning, stateOption, tuningOf, tuningOptions } from './command-options.js';
import { defineCommand } from './define-command.js';

export interface MountArguments extends SecretOptions, TuningArguments {
  /** Left out: where the config file says. */
  readonly directory: string | undefined;
  /** From the config file. */
  readonly mountPoint?: string;
  readonly foreground: boolean;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly atime: AccessTimePolicy;
  readonly nodiratime: boolean;
  readonly timeout: string;
  readonly cacheSize: string | undefined;
  readonly cacheFreeMin: string | undefined;
  readonly queueSize: string | undefined;
  readonly inhibit: boolean;
  readonly singleWriterAnyway: boolean;
  readonly driver: 'native' | 'fuse-native';
  readonly deviceName: string | undefined;
  readonly headCode: string | undefined;
  readonly heartbeat: string | undefined;
  readonly maxStaleness: string | undefined;
  readonly stateDir: string | undefined;
  readonly logFile: string | undefined;
  readonly debug: boolean;
  readonly trace: boolean;
  readonly stopTimeout: string;
  readonly json: boolean;
}

/** The options that a caller other than yargs need not name. */
export const mountDefaults = {
  passphraseFd: undefined,
  keyFile: undefined,
  recovery: undefined,
  foreground: false,
  readOnly: false,
  allowOther: false,
  suid: false,
  dev: false,
  atime: 'lazy',
  nodiratime: false,
  timeout: '30s',
  cacheSize: undefined,
  ...noTuning,
  cacheFreeMin: undefined,
  queueSize: undefined,
  inhibit: true,
  singleWriterAnyway: false,
  driver: 'native',
  deviceName: undefined,
  headCode: undefined,
  heartbeat: undefined,
  maxStaleness: undefined,
  stateDir: undefined,
  logFile: undefined,
  debug: false,
  trace: false,
  stopTimeout: '30s',
  json: false,
} as const satisfies Omit<MountArguments, 'store' | 'directory'>;

export const mountCommand = defineCommand<MountArguments>({
  command: 'mount <store> [directory]',
  describe: 'Mount a volume at an empty directory',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies, or its name' })
      .positional('directory', { type: 'string', describe: 'Where it shall appear (default: what the config file says of the name)' })
      .options({
        foreground: { type: 'boolean', alias: 'f', default: false, describe: 'Do not detach (for systemd and for looking at problems)' },
        'read-only': { type: 'boolean', alias: 'r', default: false, describe: 'Take no writes' },
        'allow-other': { type: 'boolean', default: false, describe: 'Let other users of this machine in, as far as modes allow' },
        suid: {
          type: 'boolean',
          default: false,
          describe: 'Root only: programs on the drive get the ids and capabilities that they are marked with',
        },
        dev: { type: 'boolean', default: false, describe: 'Root only: device nodes on the drive open devices of this machine' },
        atime: {
          choices: accessTimePolicies,
          default: 'lazy' as const,
          describe: 'Access times: as relatime, but kept on this machine (lazy), or as mount(8) names them',
        },
        nodiratime: { type: 'boolean', default: false, describe: 'Listing a folder leaves its access time' },
        timeout: { type: 'string', default: '30s', describe: 'How long a program may wait for a store that says nothing' },
        'cache-size': { type: 'string', describe: 'Ciphertext kept on the local disk (default: 10G; 0 for a local store)' },
        'cache-free-min': { type: 'string', describe: 'The cache leaves this much free on its disk (default: 1G, or 5 % if that is less)' },
        'queue-size': {
          type: 'string',
          describe: 'How much may wait on the local disk for the store before writers wait (default: 10G, or half of what is free)',
        },
        inhibit: { type: 'boolean', default: true, describe: 'Keep the machine from sleeping while something is being uploaded (systemd)' },
        ...tuningOptions,
        'single-writer-anyway': {
          type: 'boolean',
          default: false,
          describe: 'Where the store cannot keep two devices apart: this one replaces another, which never writes again',
          group: 'Network:',
        },
        driver: { choices: ['native', 'fuse-native'] as const, default: 'native' as const, describe: 'How to talk to the kernel' },
        'device-name': { type: 'string', describe: 'How other devices see this one (default: the host name)' },
        'head-code': {
          type: 'string',
          describe: 'What "status" shows as headCode on another device: refuse a store that shows an older or another history',
        },
        heartbeat: {
          type: 'string',
          describe: 'How often to show other devices that this one lives when it changes nothing (default: 8h; 0: never)',
        },
        'max-staleness': { type: 'string', describe: 'Warn when no other device gave a sign of life for this long: "status" then exits with 15' },
        'log-file': { type: 'string', normalize: true, describe: 'Where the daemon logs (default: daemon.log in the state directory)' },
        'stop-timeout': { type: 'string', default: '30s', describe: 'How long a stop by signal may upload before it leaves the rest for next time' },
        debug: { type: 'boolean', default: false, describe: 'Log more' },
        trace: { type: 'boolean', default: false, describe: 'Log every request of the kernel (no names, no content)' },
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
      const { mountPoint, isOffline } = request;
      if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint, pid: process.pid, offline: isOffline });
      else tell(describeMount(request));
    });
    return undefined;
  },
});

/** Mounts with what the arguments name, or with a secret that is known already, and says so when the mount answers. */
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
  if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint: request.mountPoint, pid: mount.pid, offline: request.isOffline });
  else print(describeMount(request));
}

function describeMount({ mountPoint, isOffline }: MountRequest): string {
  if (!isOffline) return `Mounted at ${printable(mountPoint)}`;
  return `Mounted at ${printable(mountPoint)}, offline: the store does not answer. What is on this machine can be read; what is written goes to the store when it is back.`;
}

/**
 * Everything that can be found wrong is found before the passphrase is asked for, and before anything is changed. `onStateDirectory` is told the state
 * directory as soon as there is one.
 */
async function prepareMount(args: MountArguments, secret?: SlotSecret, onStateDirectory?: (stateDirectory: string) => void): Promise<MountRequest> {
  const cacheSize = bytesOf(args.cacheSize, 'cache-size');
  const cacheFreeMin = bytesOf(args.cacheFreeMin, 'cache-free-min');
  const queueSize = bytesOf(args.queueSize, 'queue-size');
  if (queueSize !== undefined && queueSize < queueSizeMin) throw new Failure('USAGE', '--queue-size is at least 16M');
  const timeoutMs = timeoutOf(args.timeout);
  const stopFlushTimeoutMs = durationMsOf(args.stopTimeout, 'stop-timeout') ?? 0;
  const heartbeatMs = durationMsOf(args.heartbeat, 'heartbeat');
  if (heartbeatMs !== undefined && heartbeatMs !== 0 && heartbeatMs < heartbeatMinMs)
    throw new Failure('USAGE', '--heartbeat is at least 1m, or 0 for never: each one is a commit');
  const maxStalenessMs = durationMsOf(args.maxStaleness, 'max-staleness');
  headCodeOf(args.headCode);
  const tuning = tuningOf(args);
  const directory = args.directory ?? args.mountPoint;
  if (directory === undefined) {
    throw new Failure(
      'USAGE',
      `say where it shall appear: sealdrive mount ${quoteForShell(args.store)} DIRECTORY, or "sealdrive volume add --mount-point"`,
    );
  }
  if ((args.suid || args.dev) && process.geteuid?.() !== 0) {
    throw new Failure('USAGE', '--suid and --dev are for root: whoever can change the volume could take over this machine with them');
  }
  requireMachine(args);
  const kept = await keptSlotsOf(args);
  if (kept) onStateDirectory?.(stateDirectoryOf(kept.volumeId, args.stateDir));
  const store = await openKnownStore(args.store, kept ? firstAnswerMs : undefined);
  try {
    const { slots, isOffline } = await findSlots(store, args.store, kept?.slots, timeoutMs);
    const claimed = claimedVolumeId(slots);
    const mountPoint = await resolveMountPoint(directory);
    const mounts = await findMounts();
    if (claimed !== undefined) {
      requirePinned(args.store, claimed);
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
    ensurePrivateDirectory(stateBase);
    ensurePrivateDirectory(stateDirectory);
    onStateDirectory?.(stateDirectory);
    pinStore(args.store, volumeId);
    if (!isOffline) keepSlots(stateDirectory, slots);
    const probe = args.readOnly ? undefined : rememberedProbe(args.store);
    // Found out while the volume is being opened, where nothing is remembered.
    const isUnknown = !probe && !args.readOnly && !isOffline;
    const request: MountRequest = {
      store: folder ?? args.store,
      mountPoint,
      stateDirectory,
      registryFolder: registryFolder(),
      volumeId: unlocked.volumeId,
      rootSecret: unlocked.rootSecret,
      readOnly: args.readOnly,
      allowOther: args.allowOther,
      suid: args.suid,
      dev: args.dev,
      atime: args.atime,
      nodiratime: args.nodiratime,
      timeoutMs,
      isOffline,
      cacheSize,
      cacheFreeMin,
      queueSize,
      inhibitsShutdown: args.inhibit,
      tuning,
      isSingleWriter: isUnknown ? undefined : probe !== undefined && isSingleWriter(probe),
      singleWriterAnyway: args.singleWriterAnyway,
      driver: args.driver,
      deviceName: args.deviceName ?? defaultDeviceName(),
      headCode: headCodeOf(args.headCode),
      heartbeatMs,
      maxStalenessMs,
      logFile: args.logFile === undefined ? undefined : resolve(args.logFile),
      debug: args.debug,
      trace: args.trace,
      stopFlushTimeoutMs,
    };
    if (recovered) tell(`took away what a daemon that died had left at ${printable(mountPoint)}`);
    return request;
  } finally {
    await store.close();
  }
}

/** One pack that fills. */
const queueSizeMin = 16 * 1024 * 1024;

/** Where there are copies of the keyslots, a store that says nothing for so long is taken for one that is away. */
const firstAnswerMs = 3000;
const hungAnswerMs = 10_000;

/** The keyslots as this machine saw them last, if it has mounted what lies in the store before. */
async function keptSlotsOf(args: MountArguments): Promise<{ readonly volumeId: string; readonly slots: SlotList } | undefined> {
  const volumeId = pinnedVolume(args.store);
  const slots = volumeId === undefined ? undefined : await readKeptSlots(stateDirectoryOf(volumeId, args.stateDir));
  return volumeId === undefined || !slots ? undefined : { volumeId, slots };
}

/** The keyslots that the store shows; the copies when it does not answer. Throws what `listSlots` throws. */
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

function timeoutOf(text: string): number {
  const timeoutMs = durationMsOf(text, 'timeout') ?? 0;
  if (timeoutMs < 1000) throw new Failure('USAGE', '--timeout is at least 1s');
  return timeoutMs;
}

/** Each one is an object in the store for good. */
const heartbeatMinMs = 60_000;

/** `SEQUENCE-HEX`, as `status` shows it. Throws Failure `USAGE`. */
function headCodeOf(text: string | undefined): MountRequest['headCode'] {
  if (text === undefined) return undefined;
  const [, digits, hashStart] = /^([1-9][0-9]{0,15})-([0-9a-f]{16,64})$/.exec(text.trim().toLowerCase()) ?? [];
  if (digits === undefined || hashStart === undefined)
    throw new Failure('USAGE', '--head-code takes what "sealdrive status" shows as headCode, for instance 17-0123456789abcdef');
  return { sequence: Number(digits), hashStart };
}

function requireMachine(args: MountArguments): void {
  const needed = new Set(args.driver === 'native' ? ['node', 'kernel', 'addon', 'device', 'fusermount3'] : ['node', 'device']);
  const missing = examineMachine(systemProbe, defaultStateBase()).find((finding) => finding.state === 'missing' && needed.has(finding.id));
  if (missing) throw new Failure('MACHINE', `${missing.text}: ${missing.remedy ?? 'see "sealdrive doctor"'}`);
}
