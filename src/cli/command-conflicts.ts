/** `sealdrive conflicts`: goes through the conflict copies on a mounted drive (doc/conflicts.md, "Names"). */
import { dirname, join } from 'node:path';
import type { CommandModule } from 'yargs';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { lstat, readdir, rename, rm } from '../disk/file-promises.js';
import { findMounts } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { formatBytes, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption, severalWords } from './command-options.js';
import { defineCommand } from './define-command.js';
import { locateOnDrive } from './drive-path.js';

interface ConflictCopy {
  readonly path: string;
  /** The name beside which it stands. */
  readonly of: string;
  readonly device: string;
  readonly date: string;
  readonly size: number;
  readonly isFolder: boolean;
}

const pattern = /^(.+) \(conflict (.+) (\d{4}-\d\d-\d\d)(?: \d+)?\)(\.[^.]{1,15})?$/;

function nameOf(name: string): Pick<ConflictCopy, 'of' | 'device' | 'date'> | undefined {
  const [, stem, device, date, extension = ''] = pattern.exec(name) ?? [];
  return stem === undefined || device === undefined || date === undefined ? undefined : { of: `${stem}${extension}`, device, date };
}

async function* copiesBelow(folder: string): AsyncGenerator<ConflictCopy, void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const conflict = nameOf(entry.name);
    if (conflict) {
      const { size } = await lstat(path);
      yield { path, ...conflict, of: join(folder, conflict.of), size, isFolder: entry.isDirectory() };
    }
    if (entry.isDirectory()) yield* copiesBelow(path);
  }
}

interface PathArguments {
  readonly path: readonly string[];
  readonly json: boolean;
}

const listCommand = defineCommand<{ readonly folder: string; readonly json: boolean }>({
  command: 'list <folder>',
  describe: 'Show the conflict copies below a folder of a drive',
  builder: (yargs) => yargs.positional('folder', { type: 'string', demandOption: true, describe: 'On a mounted drive' }).options({ ...jsonOption }),
  handler: async ({ folder, json }) => {
    await locateOnDrive(folder, await findMounts());
    const copies: ConflictCopy[] = [];
    for await (const copy of copiesBelow(folder)) copies.push(copy);
    if (json) {
      printJson({ conflicts: copies });
      return;
    }
    for (const { path, device, date, size, isFolder } of copies)
      print(`${date}  ${isFolder ? 'folder'.padStart(10) : formatBytes(size).padStart(10)}  by ${printable(device)}  ${printable(path)}`);
    if (copies.length === 0) tell('there are no conflict copies');
  },
});

const changes = {
  keep: { describe: 'Put conflict copies in the place of the files that they are copies of', done: 'took the place of' },
  drop: { describe: 'Remove conflict copies', done: 'was removed; it was a copy of' },
} as const;

const changeCommand = (action: keyof typeof changes): CommandModule =>
  defineCommand<PathArguments>({
    command: `${action} <path..>`,
    describe: changes[action].describe,
    builder: (yargs) =>
      yargs
        .parserConfiguration(severalWords)
        .positional('path', { type: 'string', array: true, demandOption: true, describe: 'As "conflicts list" shows it' })
        .options({ ...jsonOption }),
    handler: async ({ path, json }) => {
      const mounts = await findMounts();
      for (const copy of path) {
        const { name } = await locateOnDrive(copy, mounts);
        const conflict = nameOf(Buffer.from(name, 'latin1').toString());
        if (!conflict) throw new Failure('USAGE', `${printable(copy)} is not called like a conflict copy`);
        const original = join(dirname(copy), conflict.of);
        await (action === 'keep' ? rename(copy, original) : rm(copy, { recursive: true })).catch((error: unknown) => {
          throw new Failure('STORE', `${printable(copy)}: ${describeError(error)}`, { cause: error });
        });
        if (!json) print(`${printable(copy)} ${changes[action].done} ${printable(original)}`);
      }
      if (json) printJson({ [action]: path });
    },
  });

export const conflictsCommand: CommandModule = {
  command: 'conflicts',
  describe: 'Go through conflict copies',
  builder: (yargs) =>
    yargs.command(listCommand).command(changeCommand('keep')).command(changeCommand('drop')).demandCommand(1, 'Say what: list, keep or drop'),
  handler() {},
};
