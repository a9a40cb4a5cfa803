/** `sealdrive mount STORE DIR`: mounts a volume and stays behind as a daemon, or in the foreground. */
import { resolve } from 'node:path';
import { toHex } from '../base/bytes.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { bytesOf, durationMsOf, jsonOption, stateOption } from './command-options.js';
import { defaultDeviceName } from './compose.js';
import { findMounts } from './control-client.js';
import { defineCommand } from './define-command.js';
import { startDetachedMount } from './detached-mount.js';
import { Failure } from './exit-code.js';
import { claimedVolumeId, listSlots } from './keyslots.js';
import { examineMachine, systemProbe } from './machine.js';
import { prepareMountPoint, refuseOverlap, resolveMountPoint } from './mount-point.js';
import type { MountRequest } from './mount-request.js';
import { secretOptions } from './secret.js';
import type { SecretOptions } from './secret.js';
import { serveMount } from './serve-mount.js';
import { pinStore, requirePinned } from './store-pin.js';
import { defaultStateBase, ensurePrivateDirectory, registryFolder, stateDirectoryOf } from './state-directory.js';
import { print, printJson, tell } from './terminal.js';
import { unlockVolume } from './unlock-volume.js';
import { localFolderOf, openVolumeStore } from './volume-store.js';

export interface MountArguments extends SecretOptions {
  readonly store: string;
  readonly directory: string;
  readonly foreground: boolean;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly cacheSize: string | undefined;
  readonly driver: 'native' | 'fuse-native';
  readonly deviceName: string | undefined;
  readonly headCode: string | undefined;
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
  cacheSize: undefined,
  driver: 'native',
  deviceName: undefined,
  headCode: undefined,
  stateDir: undefined,
  logFile: undefined,
  debug: false,
  trace: false,
  stopTimeout: '30s',
  json: false,
} as const satisfies Omit<MountArguments, 'store' | 'directory'>;

export const mountCommand = defineCommand<MountArguments>({
  command: 'mount <store> <directory>',
  describe: 'Mount a volume at an empty directory',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .positional('directory', { type: 'string', demandOption: true, describe: 'Where it shall appear' })
      .options({
        foreground: { type: 'boolean', alias: 'f', default: false, describe: 'Do not detach (for systemd and for looking at problems)' },
        'read-only': { type: 'boolean', alias: 'r', default: false, describe: 'Take no writes' },
        'allow-other': { type: 'boolean', default: false, describe: 'Let other users of this machine in, as far as modes allow' },
        'cache-size': { type: 'string', describe: 'Ciphertext kept on the local disk, for instance 10G' },
        driver: { choices: ['native', 'fuse-native'] as const, default: 'native' as const, describe: 'How to talk to the kernel' },
        'device-name': { type: 'string', describe: 'How other devices see this one (default: the host name)' },
        'head-code': {
          type: 'string',
          describe: 'What "status" shows as headCode on another device: refuse a store that shows an older or another history',
        },
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
    process.exitCode = await serveMount(request, () => {
      if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint: request.mountPoint, pid: process.pid });
      else tell(`Mounted at ${request.mountPoint}`);
    });
    return undefined;
  },
});

/** Mounts with what the arguments name, or with a secret that is known already, and says so when the mount answers. */
export async function mountDetached(args: MountArguments, secret?: SlotSecret): Promise<void> {
  const request = await prepareMount(args, secret);
  const pid = await startDetachedMount(request);
  if (args.json) printJson({ volumeId: toHex(request.volumeId), mountPoint: request.mountPoint, pid });
  else print(`Mounted at ${request.mountPoint}`);
}

/** Everything that can be found wrong is found before the passphrase is asked for, and before anything is changed. */
async function prepareMount(args: MountArguments, secret?: SlotSecret): Promise<MountRequest> {
  const cacheSize = bytesOf(args.cacheSize, 'cache-size');
  const stopFlushTimeoutMs = durationMsOf(args.stopTimeout, 'stop-timeout') ?? 0;
  headCodeOf(args.headCode);
  requireMachine(args);
  const store = await openVolumeStore(args.store);
  try {
    const claimed = claimedVolumeId(await listSlots(store));
    const mountPoint = await resolveMountPoint(args.directory);
    const mounts = await findMounts();
    if (claimed !== undefined) {
      requirePinned(args.store, claimed);
      const stateDirectory = stateDirectoryOf(claimed, args.stateDir);
      const other = mounts.find((mount) => mount.record.stateDirectory === stateDirectory);
      if (other) {
        throw new Failure('IN_USE', `this volume is mounted already, at ${other.record.mountPoint}: unmount it first, or give another --state-dir`);
      }
    }
    const { recovered } = await prepareMountPoint(mountPoint, () => Promise.resolve(mounts.some((mount) => mount.record.mountPoint === mountPoint)));
    const stateBase = args.stateDir === undefined ? defaultStateBase() : resolve(args.stateDir);
    const folder = localFolderOf(args.store);
    await refuseOverlap(mountPoint, [
      { what: 'the state directory', path: stateBase },
      ...(folder === undefined ? [] : [{ what: 'the store', path: folder }]),
    ]);
    const { unlocked } = await unlockVolume(store, args, secret);
    const volumeId = toHex(unlocked.volumeId);
    requirePinned(args.store, volumeId);
    const stateDirectory = stateDirectoryOf(volumeId, args.stateDir);
    ensurePrivateDirectory(stateBase);
    ensurePrivateDirectory(stateDirectory);
    pinStore(args.store, volumeId);
    const request: MountRequest = {
      store: folder ?? args.store,
      mountPoint,
      stateDirectory,
      registryFolder: registryFolder(),
      volumeId: unlocked.volumeId,
      rootSecret: unlocked.rootSecret,
      readOnly: args.readOnly,
      allowOther: args.allowOther,
      cacheSize,
      driver: args.driver,
      deviceName: args.deviceName ?? defaultDeviceName(),
      headCode: headCodeOf(args.headCode),
      logFile: args.logFile === undefined ? undefined : resolve(args.logFile),
      debug: args.debug,
      trace: args.trace,
      stopFlushTimeoutMs,
    };
    if (recovered) tell(`took away what a daemon that died had left at ${mountPoint}`);
    return request;
  } finally {
    await store.close();
  }
}

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
