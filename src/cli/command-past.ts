/** `sealdrive versions`, `undelete`, `restore`, `rollback`: what files were, and brings that back (doc/past.md). */

import { textOf } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { printable } from '../base/printable.js';
import type { RestoreResult } from '../daemon/past-protocol.js';
import { askDaemon, findMounts } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { ask, hasTerminal } from '../terminal/prompt.js';
import { formatBytes, plural, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { type FormerPath, locateFormer } from './former-path.js';
import { readPastTime, readTimeMs, timeHelp } from './past-time.js';

const sinceOption = {
  since: { type: 'string', default: '7d', describe: 'How far back to look at commits; snapshots are looked at in any case' },
} as const;
const atOption = { at: { type: 'string', demandOption: true, describe: timeHelp } } as const;
const pathWords = { type: 'string', demandOption: true, describe: 'On a mounted drive' } as const;

const nowMs = (): number => systemClock.now().sec * 1000;

function sinceMs(word: string): number {
  const since = readTimeMs(word, nowMs());
  if (since === undefined) throw new Failure('USAGE', '--since takes a time such as "30d" or "2026-08-22"');
  return since;
}

const gone = (): Failure => new Failure('MOUNT_POINT', 'the daemon is gone: mount again');
const isoOf = (timeMs: number): string => new Date(timeMs).toISOString();

interface VersionsArguments {
  readonly path: string;
  readonly since: string;
  readonly json: boolean;
}

export const versionsCommand = defineCommand<VersionsArguments>({
  command: 'versions <path>',
  describe: 'Show when a file was changed, by which device, and how large it was',
  builder: (yargs) => yargs.positional('path', pathWords).options({ ...sinceOption, ...jsonOption }),
  handler: async ({ path, since, json }) => {
    const { mount, inside } = await locateFormer(path, await findMounts());
    const answer = await askDaemon<'versions'>(mount.record.socket, { method: 'versions', path: inside, sinceMs: sinceMs(since) });
    if (!answer) throw gone();
    const { versions } = answer;
    if (json) {
      const plain = versions.map(({ timeMs, snapshot, ...rest }) => ({
        time: isoOf(timeMs),
        ...(snapshot === undefined ? {} : { snapshot: textOf(snapshot) }),
        ...rest,
      }));
      printJson({ versions: plain });
      return;
    }
    for (const { sequence, timeMs, device, snapshot, size } of versions) {
      const by = snapshot === undefined ? `by ${printable(device ?? '')}` : `in snapshot ${printable(textOf(snapshot))}`;
      print(`@${String(sequence).padEnd(8)} ${isoOf(timeMs)}  ${formatBytes(size).padStart(10)}  ${by}`);
    }
    if (versions.length === 0) tell('no commit since then changed it, and no snapshot has it: --since looks further back');
  },
});

interface UndeleteArguments {
  readonly path: string;
  readonly list: boolean;
  readonly since: string;
  readonly json: boolean;
}

export const undeleteCommand = defineCommand<UndeleteArguments>({
  command: 'undelete <path>',
  describe: 'Bring back what was removed, or list it',
  builder: (yargs) =>
    yargs
      .positional('path', { ...pathWords, describe: 'What was removed; with --list, the folder in which it was' })
      .options({ list: { type: 'boolean', default: false, describe: 'Show what was removed from the folder' }, ...sinceOption, ...jsonOption })
      .example('$0 undelete --list ~/Drive/Letters', 'what was removed there in the last seven days'),
  handler: async ({ path, list, since, json }) => {
    const found = await locateFormer(path, await findMounts());
    if (list) return listRemoved(found, since, json);
    const { inside, mount } = found;
    const request = { method: 'restore', path: inside, to: inside, at: undefined, sinceMs: sinceMs(since) } as const;
    const result = await askDaemon<'restore'>(mount.record.socket, request, showCounts(json));
    return report(result, json);
  },
});

async function listRemoved({ mount, inside }: FormerPath, since: string, isJson: boolean): Promise<void> {
  const answer = await askDaemon<'removed'>(mount.record.socket, { method: 'removed', path: inside, sinceMs: sinceMs(since) });
  if (!answer) throw gone();
  const { removed } = answer;
  if (isJson) {
    printJson({ removed: removed.map(({ name, timeMs, ...rest }) => ({ name: textOf(name), time: isoOf(timeMs), ...rest })) });
    return;
  }
  for (const { name, timeMs, device, size, sequence } of removed)
    print(`${isoOf(timeMs)}  ${formatBytes(size).padStart(10)}  by ${printable(device)}  @${sequence}  ${printable(textOf(name))}`);
  if (removed.length === 0) tell('nothing was removed there since then: --since looks further back');
}

interface RestoreArguments {
  readonly path: string;
  readonly at: string;
  readonly to: string | undefined;
  readonly json: boolean;
}

export const restoreCommand = defineCommand<RestoreArguments>({
  command: 'restore <path>',
  describe: 'Bring back a file or folder as it was at some time',
  builder: (yargs) =>
    yargs
      .positional('path', { ...pathWords, describe: 'On a mounted drive, as it was called then' })
      .options({ ...atOption, to: { type: 'string', describe: 'Another place on the same drive (default: where it was)' }, ...jsonOption })
      .example('$0 restore ~/Drive/thesis.odt --at "2h ago" --to ~/Drive/thesis-old.odt', 'beside the present one'),
  handler: async ({ path, at, to, json }) => {
    const mounts = await findMounts();
    const { mount, inside } = await locateFormer(path, mounts);
    const target = to === undefined ? undefined : await locateFormer(to, mounts);
    if (target && target.mount.record.mountPoint !== mount.record.mountPoint) throw new Failure('USAGE', '--to is on another drive');
    const request = { method: 'restore', path: inside, to: target?.inside ?? inside, at: readPastTime(at, nowMs()), sinceMs: 0 } as const;
    report(await askDaemon<'restore'>(mount.record.socket, request, showCounts(json)), json);
  },
});

interface RollbackArguments {
  readonly folder: string;
  readonly at: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly json: boolean;
}

export const rollbackCommand = defineCommand<RollbackArguments>({
  command: 'rollback <folder>',
  describe: 'Make everything in a folder of a drive what it was at some time',
  builder: (yargs) =>
    yargs
      .positional('folder', { ...pathWords, describe: 'The mount point, or a folder of the drive' })
      .options({
        ...atOption,
        'dry-run': { type: 'boolean', alias: 'n', default: false, describe: 'Only show what would be done' },
        yes: { type: 'boolean', alias: 'y', default: false, describe: 'Do it, without a question' },
        ...jsonOption,
      })
      .example('$0 rollback ~/Drive --at @1234', 'after something has changed or removed everything'),
  handler: async ({ folder, at, dryRun, yes, json }) => {
    const { mount, inside } = await locateFormer(folder, await findMounts());
    const request = { method: 'rollback', path: inside, at: readPastTime(at, nowMs()) } as const;
    const rollBack = (isDryRun: boolean): Promise<RestoreResult | undefined> =>
      askDaemon<'rollback'>(mount.record.socket, { ...request, isDryRun }, showCounts(json));
    if (!dryRun && !yes) {
      const planned = await rollBack(true);
      if (!planned) throw gone();
      tell(`${describeFrom(planned)}: ${describeCounts(planned, true)}`);
      const isAgreed = hasTerminal() && /^y(es)?$/i.test((await ask('Do that? [y/N] ', true)).trim());
      if (!isAgreed) throw new Failure('USAGE', 'nothing was changed; --yes does it without a question');
    }
    report(await rollBack(dryRun), json, dryRun);
  },
});

function showCounts(isJson: boolean): { onRestored?: (counts: RestoreResult['counts']) => void } {
  if (isJson || !process.stderr.isTTY) return {};
  return {
    onRestored: ({ restored, unchanged, removed }) =>
      process.stderr.write(`\r${restored} brought back, ${unchanged} unchanged, ${removed} removed\r`),
  };
}

function describeFrom({ from: { sequence, timeMs, device } }: RestoreResult): string {
  const when = timeMs === undefined ? '' : `, ${isoOf(timeMs)}`;
  return `as after commit ${sequence}${when}${device === undefined ? '' : ` by ${printable(device)}`}`;
}

function describeCounts({ counts: { restored, removed, unchanged, bytes } }: RestoreResult, isPlan: boolean): string {
  const would = isPlan ? 'would be ' : '';
  return `${plural(restored, 'file')} ${would}brought back (${formatBytes(bytes)}), ${removed} ${would}removed, ${unchanged} unchanged`;
}

function report(result: RestoreResult | undefined, isJson: boolean, isPlan = false): void {
  if (!result) throw gone();
  const { from, before, counts } = result;
  if (isJson)
    printJson({
      from: { ...from, ...(from.timeMs === undefined ? {} : { time: isoOf(from.timeMs) }) },
      before: before ?? null,
      ...counts,
      isDryRun: isPlan,
    });
  else {
    print(`${describeFrom(result)}: ${describeCounts(result, isPlan)}`);
    if (!isPlan && before !== undefined) tell(`what was there before is that after commit ${before}: --at @${before}`);
  }
  if (counts.missing > 0) throw new Failure('INTEGRITY', `the content of ${plural(counts.missing, 'file')} is not kept any more`);
}
