/** `sealdrive snapshot`: names past states of a mounted drive, and keeps them. */
import type { CommandModule } from 'yargs';
import { byteStringOf, textOf } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import { labelMax, type PolicyReport, type SnapshotReport, type SnapshotRequest } from '../daemon/past-protocol.js';
import { askDaemon, findMount } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { duration, readOptional } from '../terminal/option-kind.js';
import { formatBytes, plural, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';

interface CommonArguments {
  readonly drive: string | undefined;
  readonly json: boolean;
}

type Answer = { readonly snapshots?: readonly SnapshotReport[]; readonly policy?: PolicyReport };

const driveWords = { type: 'string', describe: 'The mount point, or the name of a volume (not needed when there is one mount)' } as const;

async function ask(drive: string | undefined, request: SnapshotRequest): Promise<Answer> {
  const { record } = await findMount(drive);
  const answer = await askDaemon<'snapshot'>(record.socket, request);
  if (!answer) throw new Failure('MOUNT_POINT', 'the daemon is gone: mount again');
  return answer;
}

/** As programs read it. */
const plain = ({ name, timeMs, ...rest }: SnapshotReport): Record<string, unknown> => ({
  name: textOf(name),
  time: new Date(timeMs).toISOString(),
  ...rest,
});

const createCommand = defineCommand<CommonArguments & { readonly label: string }>({
  command: 'create [drive]',
  describe: 'Take a snapshot of everything as it is now',
  builder: (yargs) =>
    yargs
      .positional('drive', driveWords)
      .options({ label: { type: 'string', default: '', describe: 'Part of its name' }, ...jsonOption })
      .example('$0 snapshot create --label before-the-move', 'it stays until it is removed'),
  handler: async ({ drive, label, json }) => {
    if (/[/\0]/.test(label) || Buffer.byteLength(label) > labelMax) throw new Failure('USAGE', `a label has no slash, and at most ${labelMax} bytes`);
    const { snapshots: [taken] = [] } = await ask(drive, { method: 'snapshot', action: 'create', label });
    if (!taken) throw new Failure('UNEXPECTED', 'the daemon took no snapshot');
    if (json) printJson(plain(taken));
    else print(printable(textOf(taken.name)));
  },
});

const listCommand = defineCommand<CommonArguments>({
  command: 'list [drive]',
  describe: 'Show the snapshots',
  builder: (yargs) => yargs.positional('drive', driveWords).options({ ...jsonOption }),
  handler: async ({ drive, json }) => {
    const { snapshots = [] } = await ask(drive, { method: 'snapshot', action: 'list' });
    if (json) {
      printJson({ snapshots: snapshots.map(plain) });
      return;
    }
    for (const { name, kind, isHeld, files, bytes } of snapshots)
      print(
        `${printable(textOf(name)).padEnd(32)}  ${(isHeld ? `${kind}, held` : kind).padEnd(14)}  ${plural(files, 'file')}, ${formatBytes(bytes)}`,
      );
    if (snapshots.length === 0) tell('there are no snapshots: "sealdrive snapshot create" takes one');
  },
});

const changes = {
  hold: { describe: 'Keep a snapshot until it is released', done: 'is held' },
  release: { describe: 'Let a snapshot that is held be removed', done: 'is not held any more' },
  remove: { describe: 'Remove a snapshot; the files of the drive are not concerned', done: 'is removed' },
} as const;

const changeCommand = (action: keyof typeof changes): CommandModule =>
  defineCommand<CommonArguments & { readonly name: string }>({
    command: `${action} <name> [drive]`,
    describe: changes[action].describe,
    builder: (yargs) =>
      yargs
        .positional('name', { type: 'string', demandOption: true, describe: 'As "snapshot list" shows it' })
        .positional('drive', driveWords)
        .options({ ...jsonOption }),
    handler: async ({ name, drive, json }) => {
      const { snapshots: [changed] = [] } = await ask(drive, { method: 'snapshot', action, name: byteStringOf(name) });
      if (json) printJson(changed ? plain(changed) : {});
      else print(`${printable(name)} ${changes[action].done}`);
    },
  });

interface PolicyArguments extends CommonArguments {
  readonly hourly: string | undefined;
  readonly daily: string | undefined;
  readonly weekly: string | undefined;
  readonly monthly: string | undefined;
}

const kinds = ['hourly', 'daily', 'weekly', 'monthly'] as const;

const policyCommand = defineCommand<PolicyArguments>({
  command: 'policy [drive]',
  describe: 'Show or change how long snapshots are kept that the drive takes by itself',
  builder: (yargs) =>
    yargs
      .positional('drive', driveWords)
      .options({
        ...Object.fromEntries(kinds.map((kind) => [kind, { type: 'string', describe: `Such as 48h or 14d; 0s: take no ${kind} ones` }] as const)),
        ...jsonOption,
      })
      .example('$0 snapshot policy --hourly 24h --monthly 730d', 'for all devices of the volume'),
  handler: async (args) => {
    const change: Partial<Record<(typeof kinds)[number], number>> = {};
    for (const kind of kinds) {
      const ms = readOptional(duration, args[kind], kind);
      if (ms !== undefined) change[kind] = Math.floor(ms / 1000);
    }
    const { policy } = await ask(args.drive, { method: 'snapshot', action: 'policy', change });
    if (!policy) throw new Failure('UNEXPECTED', 'the daemon answered no policy');
    if (args.json) {
      printJson({ policy });
      return;
    }
    for (const kind of kinds) print(`${kind.padEnd(8)} ${policy[kind] === 0 ? 'none' : `kept for ${describeTime(policy[kind])}`}`);
  },
});

function describeTime(seconds: number): string {
  if (seconds % 86_400 === 0) return plural(seconds / 86_400, 'day');
  return seconds % 3600 === 0 ? plural(seconds / 3600, 'hour') : plural(seconds, 'second');
}

export const snapshotCommand: CommandModule = {
  command: 'snapshot',
  describe: 'Take, list, hold and remove snapshots of a mounted drive',
  builder: (yargs) =>
    yargs
      .command(createCommand)
      .command(listCommand)
      .command(changeCommand('hold'))
      .command(changeCommand('release'))
      .command(changeCommand('remove'))
      .command(policyCommand)
      .demandCommand(1, 'Say what: create, list, hold, release, remove or policy'),
  handler() {},
};
