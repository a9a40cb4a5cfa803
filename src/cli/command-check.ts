/** `sealdrive check STORE`: examines a volume from its store, and changes nothing. */

import type { Unlocked } from '../access/keyslots.js';
import { wipeSecrets } from '../access/keyslots.js';
import { openKnownStore } from '../access/known-volume.js';
import { stateDirectoryOf } from '../access/state-directory.js';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import type { CheckReport } from '../check/check-volume.js';
import { checkVolume } from '../check/check-volume.js';
import type { Finding, Severity } from '../check/finding.js';
import { readLocalTrust } from '../check/local-anchor.js';
import type { ChainState, LogPosition } from '../commit/chain.js';
import { systemRandom } from '../crypto/system-random.js';
import { systemDisk } from '../disk/system-disk.js';
import { unlockVolume } from '../program/unlock-volume.js';
import { exitCodes } from '../terminal/exit-code.js';
import { interruptible } from '../terminal/interruption.js';
import type { SecretOptions } from '../terminal/secret.js';
import { secretOptions } from '../terminal/secret.js';
import { formatBytes, plural, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { showPhases } from './phase-progress.js';

interface CheckArguments extends SecretOptions {
  readonly store: string;
  readonly data: boolean;
  readonly names: boolean;
  readonly stateDir: string | undefined;
  readonly json: boolean;
}

export const checkCommand = defineCommand<CheckArguments>({
  command: 'check <store>',
  describe: 'Examine a volume, mounted or not, and change nothing',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .options({
        data: { type: 'boolean', default: false, describe: 'Also open every chunk of every file: reads the whole store' },
        names: { type: 'boolean', default: false, describe: 'Show the paths of files that something is wrong with' },
        ...stateOption,
        ...secretOptions,
        ...jsonOption,
      })
      .example('$0 check ~/Cloud/drive', 'history and metadata')
      .example('$0 check ~/Cloud/drive --data --names', 'everything, with paths')
      .epilogue('Exit codes: 0 nothing is wrong, 13 "repair" mends it and nothing is lost, 8 something is lost or damaged, 14 it cannot be mounted.'),
  handler: async (args) => {
    const store = await openKnownStore(args.store);
    try {
      const { unlocked } = await unlockVolume(store, args);
      const display = showPhases(args.json ? 'silent' : 'auto', phaseLabels);
      try {
        const { volumeId, rootSecret } = unlocked;
        const anchor = await anchorOf(unlocked, args.stateDir);
        const { data, names } = args;
        const { report } = await interruptible((signal) =>
          checkVolume({
            store,
            rootSecret,
            volumeId,
            random: systemRandom,
            data,
            names,
            signal,
            anchor,
            onProgress: ({ phase, done, total }) => display.update(phase, done, total),
          }),
        );
        display.stop();
        if (args.json) printJson(report);
        else printReport(report, args.data);
        process.exitCode = exitCodeOf(report.worst);
      } finally {
        display.stop();
        wipeSecrets(unlocked);
      }
    } finally {
      await store.close();
    }
  },
});

export const phaseLabels = {
  log: 'Reading commits',
  tree: 'Reading pages',
  packs: 'Looking for packs',
  content: 'Opening chunks (bytes)',
  names: 'Finding names',
} as const;

/** The newest commit that this device has verified, if the volume was ever mounted here. */
export async function anchorOf(unlocked: Unlocked, stateBase: string | undefined): Promise<LogPosition | undefined> {
  return (await trustOf(unlocked, stateBase))?.head;
}

/** What this device has seen of the volume, if it was ever mounted here. */
export async function trustOf(unlocked: Unlocked, stateBase: string | undefined): Promise<ChainState | undefined> {
  const { rootSecret, volumeId } = unlocked;
  const stateDirectory = stateDirectoryOf(toHex(volumeId), stateBase);
  try {
    return await readLocalTrust({ disk: systemDisk, stateDirectory, rootSecret, volumeId, random: systemRandom });
  } catch (error) {
    tell(`warning: what this device has seen of the volume is not compared: ${describeError(error)}`);
    return undefined;
  }
}

export function exitCodeOf(worst: Severity | undefined): number {
  switch (worst) {
    case 'fatal':
      return exitCodes.UNREADABLE;
    case 'error':
      return exitCodes.INTEGRITY;
    case 'warning':
      return exitCodes.FLAWED;
    default:
      return 0;
  }
}

/** Findings of one code that are printed; JSON has more. */
const shownMax = 20;

export function printReport(report: CheckReport, withContent: boolean): void {
  const shown = new Map<string, number>();
  for (const finding of report.findings) {
    const count = (shown.get(finding.code) ?? 0) + 1;
    shown.set(finding.code, count);
    if (count <= shownMax) print(describeFinding(finding));
  }
  for (const [code, count] of Object.entries(report.counts)) {
    if (count > shownMax) print(`         ${code}: ${plural(count - shownMax, 'more')}`);
  }
  const { commits, sequence, head, files, bytes, packs, chunks, contentBytes } = report.examined;
  print(
    `Examined ${plural(commits, 'commit')} up to number ${sequence} (${head}), ${plural(files, 'file')} of ${formatBytes(bytes)}, ${plural(packs, 'pack')}`,
  );
  if (withContent) print(`and opened ${plural(chunks, 'chunk')} of ${formatBytes(contentBytes)}.`);
  else print('but no content: --data does.');
  print(verdicts[report.worst ?? 'note']);
}

const verdicts: Readonly<Record<Severity, string>> = {
  note: 'Nothing is wrong.',
  warning: 'Nothing is lost; "sealdrive repair" mends what is wrong.',
  error: 'Something is lost or damaged: restore the objects from a copy of the store; "sealdrive repair" and "sealdrive salvage" save what is left.',
  fatal: 'The volume cannot be mounted as it is: restore the objects from a copy of the store, or save what is left with "sealdrive salvage".',
};

function describeFinding(finding: Finding): string {
  const { severity, code, message, ino, parent, offset, pack, object, expected, found, path } = finding;
  const facts = [
    ino === undefined ? '' : `inode ${ino}`,
    parent === undefined ? '' : `in directory ${parent}`,
    pack === undefined || message.includes(pack) ? '' : `pack ${pack}`,
    offset === undefined ? '' : `at ${offset}`,
    object === undefined ? '' : printable(object),
    expected === undefined ? '' : `${found} instead of ${expected}`,
    path === undefined ? '' : printable(path),
  ].filter((fact) => fact !== '');
  return `${severity.padEnd(8)} ${code}: ${message}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`;
}
