/**
 * The options of `mount`, each in one row: from it the command line reads, explains and completes the option, the
 * config file of named volumes accepts it, and the process that serves the mount gets its value. doc/cli.md has the
 * same table ("Options of mount"; a test compares them). Options that serve the command alone (the secret, the state
 * directory, the output) are not here.
 */
import { memoryMin } from '../base/memory-budget.js';
import type { OptionKind, OptionWord } from '../terminal/option-kind.js';
import { choice, count, duration, flag, optionOf, path, rate, readOption, refusing, size, text, textKind } from '../terminal/option-kind.js';
import { accessTimePolicies } from '../vfs/access-time-policy.js';

export interface MountOption {
  readonly kind: OptionKind<unknown>;
  readonly describe: string;
  readonly alias?: string;
  /** As it would be typed. Without one, the value can be `undefined`. */
  readonly default?: OptionWord;
  /** What happens without the option, in words, where that depends on the machine or the store. */
  readonly usual?: string;
  /** The heading in the help. */
  readonly group?: string;
  /** May stand in the config file. */
  readonly isSetting?: true;
}

/** A pack fills at this size. */
const queueSizeMin = 16 * 1024 * 1024;

/** Each one leaves an object in the store for good. */
const heartbeatMinMs = 60_000;

/** `SEQUENCE-HEX`, as `status` shows it. */
const headCode = textKind(
  'what "sealdrive status" shows as headCode, for instance "17-0123456789abcdef"',
  '',
  (word): { readonly sequence: number; readonly hashStart: string } | undefined => {
    const [, digits, hashStart] = /^([1-9][0-9]{0,15})-([0-9a-f]{16,64})$/.exec(word.trim().toLowerCase()) ?? [];
    return digits === undefined || hashStart === undefined ? undefined : { sequence: Number(digits), hashStart };
  },
);

/** Empty: none. */
const folderNameOrNone: OptionKind<string, ''> = {
  input: { type: 'string' },
  takes: 'a name without a slash',
  unit: '',
  parse: (word) => {
    if (word === false) return '';
    return typeof word === 'string' && !['', '.', '..'].includes(word) && !/[/\0]/.test(word) && Buffer.byteLength(word) <= 255 ? word : undefined;
  },
};

const network = { group: 'Network:' } as const;
const setting = { isSetting: true } as const;

export const mountOptions = {
  readOnly: { kind: flag, alias: 'r', default: false, describe: 'Take no writes', ...setting },
  allowOther: { kind: flag, default: false, describe: 'Let other users of this machine in, as far as modes allow' },
  suid: { kind: flag, default: false, describe: 'Root only: programs on the drive get the ids and capabilities that they are marked with' },
  dev: { kind: flag, default: false, describe: 'Root only: device nodes on the drive open devices of this machine' },
  atime: {
    kind: choice(accessTimePolicies),
    default: 'lazy',
    describe: 'Access times: as relatime, but kept on this machine (lazy), or as mount(8) names them',
    ...setting,
  },
  nodiratime: { kind: flag, default: false, describe: 'Listing a folder leaves its access time as it is', ...setting },
  snapshotDir: {
    kind: folderNameOrNone,
    default: '.snapshots',
    describe: 'The name under which every folder shows its snapshots; --no-snapshot-dir: none does',
    ...setting,
  },
  gc: { kind: flag, default: true, describe: 'Give back the space of what is not kept any more, now and then', ...setting },
  timeout: {
    kind: refusing(duration, (ms) => ms < 1000, 'is at least 1s'),
    default: '30s',
    describe: 'How long a program may wait for a store that does not answer',
    ...setting,
  },
  cacheSize: { kind: size, usual: '10G; 0 for a local store', describe: 'Ciphertext kept on the local disk', ...setting },
  cacheFreeMin: { kind: size, usual: '1G, or 5 % if that is less', describe: 'The cache leaves this much free on its disk', ...setting },
  queueSize: {
    kind: refusing(size, (bytes) => bytes < queueSizeMin, 'is at least 16M'),
    usual: '10G, or half of what is free',
    describe: 'How much may wait on the local disk for the store before writers wait',
    ...setting,
  },
  memory: {
    kind: refusing(size, (bytes) => bytes < memoryMin, 'is at least 64M'),
    usual: "a quarter of the machine's, from 64M to 384M",
    describe: 'How much memory the drive may take for caches, unsaved data and transfers',
    ...setting,
  },
  inhibit: { kind: flag, default: true, describe: 'Keep the machine from sleeping while something is being uploaded (systemd)', ...setting },
  uploadLimit: { kind: rate, usual: 'off', describe: 'Bytes a second to the store, for instance 5M', ...setting, ...network },
  downloadLimit: { kind: rate, usual: 'off', describe: 'Bytes a second from the store', ...setting, ...network },
  readsAtOnce: { kind: count, usual: '24; less with little memory', describe: 'How many requests may read at once', ...setting, ...network },
  writesAtOnce: { kind: count, usual: '8; less with little memory', describe: 'How many requests may write at once', ...setting, ...network },
  pollInterval: {
    kind: refusing(duration, (ms) => ms < 100, 'is at least 100ms'),
    usual: '2s; a folder: 250ms',
    describe: 'How often to look for what other devices did while the drive is in use',
    ...setting,
    ...network,
  },
  singleWriterAnyway: {
    kind: flag,
    default: false,
    describe: 'Where the store cannot keep two devices apart: this one replaces another, which never writes again',
    ...network,
  },
  driver: { kind: choice(['native', 'fuse-native']), default: 'native', describe: 'How to talk to the kernel' },
  deviceName: { kind: text, usual: 'the host name', describe: 'How other devices see this one', ...setting },
  headCode: {
    kind: headCode,
    describe: 'What "status" shows as headCode on another device: refuse a store that shows an older or another history',
  },
  heartbeat: {
    kind: refusing(duration, (ms) => ms !== 0 && ms < heartbeatMinMs, 'is at least 1m, or 0 for never: each one is a commit'),
    usual: '8h',
    describe: 'How often to show other devices that this one lives when it changes nothing (0: never)',
  },
  maxStaleness: { kind: duration, describe: 'Warn when no other device gave a sign of life for this long: "status" then exits with 15' },
  logFile: { kind: path, usual: 'daemon.log in the state directory', describe: 'Where the daemon logs' },
  stopTimeout: { kind: duration, default: '30s', describe: 'How long a stop by signal may upload before it leaves the rest for next time' },
  debug: { kind: flag, default: false, describe: 'Log more' },
  trace: { kind: flag, default: false, describe: 'Log every request of the kernel (no names, no content)' },
} as const satisfies Readonly<Record<string, MountOption>>;

type Table = typeof mountOptions;
export type MountOptionName = keyof Table;

/** The names of the options that may stand in the config file. */
export type SettingOptionName = { [Name in MountOptionName]: Table[Name] extends { readonly isSetting: true } ? Name : never }[MountOptionName];

type ValueOf<Kind> = Kind extends OptionKind<infer Value> ? Value : never;
type UnitOf<Kind> = Kind extends OptionKind<unknown, infer Unit> ? Unit : never;

/** The values, as the process that serves the mount gets them: `timeout` is `timeoutMs` there. */
export type MountOptions = {
  readonly [Name in MountOptionName as `${Name}${UnitOf<Table[Name]['kind']>}`]:
    | ValueOf<Table[Name]['kind']>
    | (Table[Name] extends { readonly default: OptionWord } ? never : undefined);
};

/** The options as they are typed; those that are left out have their defaults. */
export type MountWords = { readonly [Name in MountOptionName]?: OptionWord | undefined };

/** All rows, in order. */
export const mountOptionRows: readonly (readonly [name: string, row: MountOption])[] = Object.entries(mountOptions);

/** Throws Failure `USAGE`, which names the option. */
export function readMountOptions(words: MountWords): MountOptions {
  const given: Readonly<Record<string, OptionWord | undefined>> = words;
  const values = mountOptionRows.map(([name, row]) => {
    const word = given[name] ?? row.default;
    return [`${name}${row.kind.unit}`, word === undefined ? undefined : readOption(row.kind, word, optionOf(name))] as const;
  });
  // Each value is what its row's kind parses, which fromEntries() cannot say.
  return Object.fromEntries(values) as MountOptions;
}
