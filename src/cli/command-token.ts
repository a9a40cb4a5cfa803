/**
 * `sealdrive token add|list|remove|quota`: who may use which volume of `sealdrive serve` (doc/server.md, "Tokens and
 * rights"). It talks to no server: a running one notices that the file has changed.
 */

import { closeSync, fsyncSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { printable, printableText } from '../base/printable.js';
import { systemRandom } from '../crypto/system-random.js';
import { openSync, unlinkSync } from '../disk/files.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath } from '../disk/whole-file.js';
import type { TokenRight } from '../server/token.js';
import { isVolumeName, makeToken, tokenRights } from '../server/token.js';
import { changeTokenFile, readTokenFile } from '../server/token-file.js';
import { Failure } from '../terminal/exit-code.js';
import { readOption, readOptional, size } from '../terminal/option-kind.js';
import { formatBytes, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { tokensOption, tokensPathOf } from './command-serve.js';
import { defineCommand } from './define-command.js';
import { idOf } from './short-id.js';

interface CommonArguments {
  readonly tokens: string | undefined;
  readonly json: boolean;
}

interface AddArguments extends CommonArguments {
  readonly volume: string;
  readonly right: TokenRight;
  readonly quota: string | undefined;
  readonly label: string;
  readonly out: string | undefined;
}

const labelMax = 200;

function requireVolumeName(volume: string): void {
  if (isVolumeName(volume)) return;
  throw new Failure('USAGE', 'a volume is called by small letters, digits and - (at most 63, and not keys, log, packs or probe)');
}

const addCommand = defineCommand<AddArguments>({
  command: 'add <volume>',
  describe: 'Make a token and print it, once; the volume is there with it',
  builder: (yargs) =>
    yargs
      .positional('volume', { type: 'string', demandOption: true, describe: 'The volume that it is for' })
      .options({
        right: { choices: tokenRights, default: 'full' as const, describe: 'append: never deletes or overwrites anything' },
        quota: { type: 'string', describe: 'What the volume may hold, such as 10G (of all its tokens together)' },
        label: { type: 'string', default: '', describe: 'For whom it is' },
        out: { type: 'string', normalize: true, describe: 'Write the token to this new file (mode 0600) instead of printing it' },
        ...tokensOption,
        ...jsonOption,
      })
      .example('$0 token add photos --out photos.token', 'then give the file to the device')
      .example('$0 token add photos --right append --quota 10G', 'a device that can only add'),
  handler: async (args) => {
    const { volume, right } = args;
    requireVolumeName(volume);
    const quota = readOptional(size, args.quota, 'quota');
    if (args.label.length > labelMax || printableText(args.label) !== args.label) {
      throw new Failure('USAGE', `a label has at most ${labelMax} characters, and none that cannot be seen`);
    }
    const path = tokensPathOf(args.tokens);
    const token = makeToken(systemRandom);
    // Written first: a token that is in no list is worthless, but a valid one that is lost cannot be recovered.
    const out = args.out === undefined ? undefined : resolve(args.out);
    if (out !== undefined) writeTokenFile(out, token.text);
    try {
      await makeFolder(dirname(path));
      const entry = { id: token.id, volume, right, hash: token.hash, label: args.label, created: systemClock.now().sec };
      await changeTokenFile(systemDisk, path, ({ tokens, quotas }) => ({
        tokens: [...tokens, entry],
        quotas: quota === undefined ? quotas : new Map([...quotas, [volume, quota]]),
      }));
    } catch (error) {
      if (out !== undefined) unlinkSync(out);
      throw error;
    }
    if (args.json) {
      printJson({ id: token.id, volume, right, ...(out === undefined ? { token: token.text } : { file: out }) });
      return;
    }
    if (out === undefined) print(token.text);
    else print(`Wrote token ${token.id} to ${out}`);
    tell(
      `Token ${token.id} has the right ${right} in ${volume}. ${out === undefined ? 'It is not shown again: keep it in a file of mode 0600.' : ''}`.trimEnd(),
    );
  },
});

const listCommand = defineCommand<CommonArguments>({
  command: 'list',
  describe: 'Show the tokens (not their secrets, which nobody has) and quotas',
  builder: (yargs) => yargs.options({ ...tokensOption, ...jsonOption }),
  handler: async (args) => {
    const { tokens, quotas } = await readTokenFile(tokensPathOf(args.tokens));
    if (args.json) {
      printJson({
        tokens: tokens.map(({ id, volume, right, label, created }) => ({ id, volume, right, label, created: dateOf(created) })),
        quotas: Object.fromEntries(quotas),
      });
      return;
    }
    for (const { id, volume, right, label, created } of tokens) {
      print(`${id}  ${volume.padEnd(16)}  ${right.padEnd(6)}  ${dateOf(created).slice(0, 10)}  ${printable(label)}`.trimEnd());
    }
    for (const [volume, bytes] of quotas) print(`${volume} may hold ${formatBytes(bytes)}`);
    if (tokens.length === 0) tell('there are no tokens: "sealdrive token add VOLUME" makes one');
  },
});

interface RemoveArguments extends CommonArguments {
  readonly id: string;
}

const removeCommand = defineCommand<RemoveArguments>({
  command: 'remove <id>',
  describe: 'Remove a token; a running server follows within a second',
  builder: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Its id, or the beginning of it, as "token list" shows it' })
      .options({ ...tokensOption, ...jsonOption }),
  handler: async (args) => {
    let removed = '';
    await changeTokenFile(systemDisk, tokensPathOf(args.tokens), ({ tokens, quotas }) => {
      const ids = tokens.map(({ id }) => id);
      removed = idOf(ids, args.id, 'token', 'token list');
      return { tokens: tokens.filter(({ id }) => id !== removed), quotas };
    });
    if (args.json) printJson({ removed });
    else print(`Removed token ${removed}. What the volume holds is untouched.`);
  },
});

interface QuotaArguments extends CommonArguments {
  readonly volume: string;
  readonly size: string;
}

const quotaCommand = defineCommand<QuotaArguments>({
  command: 'quota <volume> <size>',
  describe: 'Set what a volume may hold; "none" removes its quota',
  builder: (yargs) =>
    yargs
      .positional('volume', { type: 'string', demandOption: true, describe: 'The volume' })
      .positional('size', { type: 'string', demandOption: true, describe: 'Such as 10G, or none' })
      .options({ ...tokensOption, ...jsonOption }),
  handler: async (args) => {
    const { volume } = args;
    requireVolumeName(volume);
    const quota = args.size === 'none' ? undefined : readOption(size, args.size, 'quota');
    await changeTokenFile(systemDisk, tokensPathOf(args.tokens), ({ tokens, quotas }) => {
      const others = [...quotas].filter(([name]) => name !== volume);
      return { tokens, quotas: new Map(quota === undefined ? others : [...others, [volume, quota] as const]) };
    });
    if (args.json) printJson({ volume, quota: quota ?? null });
    else print(quota === undefined ? `${volume} has no quota of its own` : `${volume} may hold ${formatBytes(quota)}`);
  },
});

export const tokenCommand: CommandModule = {
  command: 'token',
  describe: 'Make and remove the tokens of "serve"',
  builder: (yargs) =>
    yargs
      .command(addCommand)
      .command(listCommand)
      .command(removeCommand)
      .command(quotaCommand)
      .demandCommand(1, 'Say what: add, list, remove or quota'),
  handler() {},
};

const dateOf = (created: number): string => new Date(Math.min(created, 8.64e12) * 1000).toISOString();

async function makeFolder(path: string): Promise<void> {
  try {
    await ensureDirectoryPath(systemDisk, path);
  } catch (error) {
    throw new Failure('LOCAL_DISK', `the folder ${printable(path)} cannot be made: ${describeError(error)}`, { cause: error });
  }
}

function writeTokenFile(path: string, text: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (error) {
    throw new Failure('USAGE', `the token cannot be written to ${printable(path)}: ${describeError(error)}`, { cause: error });
  }
  try {
    writeSync(fd, `${text}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
