/**
 * `sealdrive volume add|list|remove|forget|upgrade`: the names in the config file, what is remembered of stores, and
 * the features of a volume. None touches data.
 */
import { resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import { listKnownSlots, openKnownStore } from '../access/known-volume.js';
import { volumeIdOf } from '../access/named-volume.js';
import { forgetStore, pinnedVolume } from '../access/store-pin.js';
import type { VolumeSettings, VolumeTable } from '../access/volume-config.js';
import {
  changeVolumes,
  configPath,
  expandHome,
  isVolumeName,
  nearest,
  readVolumes,
  requireSettings,
  volumeSettings,
} from '../access/volume-config.js';
import { localFolderOf } from '../access/volume-store.js';
import { printable } from '../base/printable.js';
import { findMounts } from '../program/control-client.js';
import { requireKnownKind } from '../store/open-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { OptionWord } from '../terminal/option-kind.js';
import { print, printJson } from '../terminal/terminal.js';
import { jsonOption, settingTableOptions } from './command-options.js';
import { defineCommand } from './define-command.js';

interface AddArguments {
  readonly name: string;
  readonly location: string;
  readonly mountPoint: string | undefined;
  readonly replace: boolean;
  readonly json: boolean;
}

/** Settings that are paths; the config file stores them as absolute ones. */
const placeOptions = {
  'mount-point': { type: 'string', normalize: true, describe: 'Where "mount NAME" mounts it', group: 'Settings:' },
  'key-file': { type: 'string', normalize: true, describe: 'The key file that opens it (its path, not its content)', group: 'Settings:' },
  'state-dir': { type: 'string', normalize: true, describe: 'Where local state lies', group: 'Settings:' },
} as const;

const addCommand = defineCommand<AddArguments>({
  command: 'add <name> <location>',
  describe: 'Give a volume a name, and the settings that go with it',
  builder: (yargs) =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'Letters, digits, "-" and "_"' })
      .positional('location', { type: 'string', demandOption: true, describe: 'Where the volume lies: a path or URL' })
      .options({
        replace: { type: 'boolean', default: false, describe: 'Replace the volume of this name' },
        ...placeOptions,
        ...settingTableOptions,
        ...jsonOption,
      })
      .example('$0 volume add photos ~/Cloud/photos --mount-point ~/Photos', 'then: sealdrive mount photos'),
  handler: async (args) => {
    await addVolume(args.name, args.location, { ...args }, args.replace);
    if (args.json) printJson({ name: args.name, ...(await readVolumes())[args.name] });
    else
      print(
        `Added ${printable(args.name)} to ${printable(configPath())}. Mount it with: sealdrive mount ${printable(args.name)}${args.mountPoint === undefined ? ' DIRECTORY' : ''}`,
      );
  },
});

/** Throws Failure `USAGE` when the name is taken or cannot be one, before anything is changed. */
export async function requireFreeName(name: string): Promise<void> {
  if (!isVolumeName(name)) throw new Failure('USAGE', 'a name has letters, digits, "-" and "_", at most 64, and begins with a letter or digit');
  requireAbsent(await readVolumes(), name);
}

function requireAbsent(volumes: VolumeTable, name: string): void {
  if (Object.hasOwn(volumes, name)) {
    throw new Failure(
      'USAGE',
      `there is a volume called ${printable(name)} already, in ${printable(configPath())}: choose another name, or remove that one first`,
    );
  }
}

/**
 * Adds a volume to the config file; relative paths in `settings` start at the working directory. Throws Failure and
 * StoreLocationError.
 */
export async function addVolume(
  name: string,
  location: string,
  settings: Readonly<Record<string, OptionWord | undefined>>,
  replace = false,
): Promise<void> {
  if (!replace) await requireFreeName(name);
  else if (!isVolumeName(name)) throw new Failure('USAGE', 'a name has letters, digits, "-" and "_", and begins with a letter or digit');
  requireKnownKind(location);
  const added: Record<string, unknown> = { store: localFolderOf(location) ?? location };
  for (const [setting, { isPath }] of volumeSettings) {
    const value = settings[setting];
    if (setting !== 'store' && value !== undefined) added[setting] = isPath ? resolve(String(value)) : value;
  }
  requireSettings(added, (flaw) => new Failure('USAGE', `${flaw}; nothing was changed`));
  const place = added.mountPoint;
  await changeVolumes((volumes) => {
    if (!replace) requireAbsent(volumes, name);
    const rival = Object.entries(volumes).find(([other, { mountPoint }]) => other !== name && mountPoint && expandHome(mountPoint) === place);
    if (rival) throw new Failure('USAGE', `${printable(rival[0])} has the mount point ${printable(String(place))} already; nothing was changed`);
    return { ...volumes, [name]: added };
  });
}

const listCommand = defineCommand<{ readonly json: boolean }>({
  command: 'list',
  describe: 'Show the volumes that have names, and where they are mounted',
  builder: (yargs) => yargs.options(jsonOption),
  handler: async (args) => {
    const volumes = Object.entries(await readVolumes());
    const mounts = await findMounts();
    const mountedAt = async (name: string, settings: VolumeSettings): Promise<string[]> => {
      const id = await volumeIdOf({ name, settings });
      return [...mounts.answering, ...mounts.silent].flatMap(({ record }) => (record && record.volumeId === id ? [record.mountPoint] : []));
    };
    if (args.json) {
      printJson({
        path: configPath(),
        volumes: await Promise.all(volumes.map(async ([name, settings]) => ({ name, ...settings, mountedAt: await mountedAt(name, settings) }))),
      });
      return;
    }
    if (volumes.length === 0) print(`No volume has a name; "sealdrive volume add NAME STORE" gives one (in ${printable(configPath())}).`);
    const width = Math.max(...volumes.map(([name]) => name.length));
    for (const [name, settings] of volumes) {
      const places = await mountedAt(name, settings);
      const usual = settings.mountPoint === undefined ? '' : ` (for ${printable(settings.mountPoint)})`;
      print(`${name.padEnd(width)}  ${printable(settings.store)}${places.length > 0 ? `, mounted at ${places.map(printable).join(', ')}` : usual}`);
    }
  },
});

const removeCommand = defineCommand<{ readonly name: string; readonly json: boolean }>({
  command: 'remove <name>',
  describe: 'Forget a name; the volume stays as it is',
  builder: (yargs) => yargs.positional('name', { type: 'string', demandOption: true, describe: 'As "volume list" shows it' }).options(jsonOption),
  handler: async (args) => {
    await changeVolumes((volumes) => {
      if (!Object.hasOwn(volumes, args.name)) {
        throw new Failure(
          'USAGE',
          `no volume is called ${printable(args.name)}${nearest(args.name, Object.keys(volumes))} (in ${printable(configPath())})`,
        );
      }
      return Object.fromEntries(Object.entries(volumes).filter(([name]) => name !== args.name));
    });
    if (args.json) printJson({ removed: args.name });
    else print(`Forgot the name ${printable(args.name)}; the volume and its store are as they were.`);
  },
});

const forgetCommand = defineCommand<{ readonly store: string; readonly json: boolean }>({
  command: 'forget <store>',
  describe: 'Forget which volume a store held, after you have exchanged or removed it yourself',
  builder: (yargs) =>
    yargs.positional('store', { type: 'string', demandOption: true, describe: 'Where it lay: a path, URL or name' }).options(jsonOption),
  handler: async (args) => {
    const known = await pinnedVolume(args.store);
    if (known === undefined) throw new Failure('NOT_A_VOLUME', 'nothing is known of that place: no volume was used there from here');
    await forgetStore(args.store);
    if (args.json) printJson({ forgotten: known });
    else print(`Forgot that volume ${known.slice(0, 16)} was there. The next volume that is found or made there is taken for the right one.`);
  },
});

const upgradeCommand = defineCommand<{ readonly store: string; readonly json: boolean }>({
  command: 'upgrade <store>',
  describe: 'Switch on what this version can do and the volume lacks; older versions may then no longer open it',
  builder: (yargs) =>
    yargs.positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies: a path, URL or name' }).options(jsonOption),
  handler: async (args) => {
    const store = await openKnownStore(args.store);
    try {
      // Throws when there is no volume.
      await listKnownSlots(store, args.store);
    } finally {
      await store.close();
    }
    if (args.json) printJson({ raised: [] });
    else print('There is nothing to upgrade: this version of Sealdrive has no feature that a volume could lack.');
  },
});

export const volumeCommand: CommandModule = {
  command: 'volume',
  describe: 'Give volumes names, list, forget and upgrade them',
  builder: (yargs) =>
    yargs
      .command(addCommand)
      .command(listCommand)
      .command(removeCommand)
      .command(forgetCommand)
      .command(upgradeCommand)
      .demandCommand(1, 'Say what: add, list, remove, forget or upgrade'),
  handler() {},
};
