/** `sealdrive salvage STORE DIRECTORY`: copies out everything that can still be read, however damaged the volume is. */
import { join, relative, resolve } from 'node:path';
import { wipeSecrets } from '../access/keyslots.js';
import { openKnownStore } from '../access/known-volume.js';
import { stateDirectoryOf } from '../access/state-directory.js';
import { localFolderOf } from '../access/volume-store.js';
import { toHex } from '../base/bytes.js';
import { printable, printableJson, unicodeValue } from '../base/printable.js';
import { openCommitCopies } from '../check/commit-copies.js';
import { LocalTree } from '../check/local-tree.js';
import type { SalvageReport } from '../check/salvage-volume.js';
import { isComplete, salvageVolume } from '../check/salvage-volume.js';
import type { SalvagedTree } from '../check/salvager.js';
import { systemRandom } from '../crypto/system-random.js';
import { writeFileSync } from '../disk/files.js';
import { systemDisk } from '../disk/system-disk.js';
import { unlockVolume } from '../program/unlock-volume.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { interruptible } from '../terminal/interruption.js';
import type { SecretOptions } from '../terminal/secret.js';
import { secretOptions } from '../terminal/secret.js';
import { formatBytes, plural, print, printJson } from '../terminal/terminal.js';
import { trustOf } from './command-check.js';
import { jsonOption, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { showPhases } from './phase-progress.js';

interface SalvageArguments extends SecretOptions {
  readonly store: string;
  readonly directory: string;
  readonly at: number | undefined;
  readonly stateDir: string | undefined;
  readonly json: boolean;
}

export const salvageCommand = defineCommand<SalvageArguments>({
  command: 'salvage <store> <directory>',
  describe: 'Copy everything that can still be read into a plain directory',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .positional('directory', {
        type: 'string',
        demandOption: true,
        describe: 'An empty directory, made when absent; what is copied is not encrypted there',
      })
      .options({
        at: { type: 'number', describe: 'The state after this commit, instead of the newest one' },
        ...stateOption,
        ...secretOptions,
        ...jsonOption,
      })
      .example('$0 salvage ~/Cloud/drive ~/saved', 'tree/, lost+found/ and report.json in ~/saved')
      .epilogue('Exit codes: 0 everything came out, 8 something is missing (report.json says what), 14 nothing can be read.'),
  handler: async (args) => {
    if (args.at !== undefined && !(Number.isSafeInteger(args.at) && args.at >= 1)) throw new Failure('USAGE', '--at takes the number of a commit');
    const store = await openKnownStore(args.store);
    try {
      const { unlocked } = await unlockVolume(store, args);
      const { rootSecret, volumeId } = unlocked;
      const display = showPhases(args.json ? 'silent' : 'auto', phaseLabels);
      try {
        const folder = localFolderOf(args.store);
        const path = resolve(args.directory);
        if (folder !== undefined && !relative(folder, path).startsWith('..'))
          throw new Failure('USAGE', `${printable(path)} lies in the store: name another directory`);
        const stateDirectory = stateDirectoryOf(toHex(volumeId), args.stateDir);
        const copies = await openCommitCopies(systemDisk, stateDirectory);
        const trust = await trustOf(unlocked, args.stateDir);
        const report = await interruptible((signal) =>
          useTarget(path, (target) =>
            salvageVolume({
              store,
              rootSecret,
              volumeId,
              random: systemRandom,
              target,
              copies,
              trust,
              at: args.at,
              signal,
              onProgress: ({ phase, done, total }) => display.update(phase, done, total),
            }),
          ),
        );
        display.stop();
        writeFileSync(join(path, 'report.json'), `${printableJson(unicodeValue(report), 2)}\n`, { flag: 'wx', mode: 0o600 });
        if (args.json) printJson(report);
        else printReport(report, path);
        if (!isComplete(report)) process.exitCode = exitCodes.INTEGRITY;
      } finally {
        display.stop();
        wipeSecrets(unlocked);
      }
    } finally {
      await store.close();
    }
  },
});

const phaseLabels = { log: 'Reading commits', names: 'Reading names', files: 'Copying files' } as const;

async function useTarget<T>(path: string, work: (target: LocalTree) => Promise<T>): Promise<T> {
  try {
    return await LocalTree.use(path, work);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTEMPTY')
      throw new Failure('USAGE', `${printable(path)} is not empty: name an empty directory`, { cause: error });
    throw error;
  }
}

/** Paths of one kind that are printed; report.json has all. */
const shownMax = 20;

function printReport(report: SalvageReport, path: string): void {
  const { directories, files, links, bytes, sequence, lostCommits, lostPages, mayBeStale } = report;
  print(
    `Saved ${plural(files, 'file')} of ${formatBytes(bytes)}, ${plural(directories, 'folder')} and ${plural(links, 'symbolic link')} to ${printable(path)}`,
  );
  print(`as they were at commit ${sequence}.`);
  if (lostCommits.length > 0) print(`${plural(lostCommits.length, 'commit')} could not be read.`);
  if (lostPages > 0) print(`${plural(lostPages, 'page')} of the tree could not be read; older ones and the commits since then stood in.`);
  if (mayBeStale) print('Something may be older than it was, or be gone without being named here.');
  printTree(report);
  printUnproven(report);
  print(isComplete(report) ? 'Nothing is missing.' : 'report.json has all of it.');
}

function printTree({ damaged, renamed, missing, skipped, failed, plainAttributes }: SalvagedTree): void {
  list(
    'Damaged, with zeros in place of what is missing',
    damaged.map((file) => file.path),
  );
  list(
    'Under another name, since it could not have its own there',
    renamed.map((file) => `${file.original} is ${file.path}`),
  );
  list('Lost but for the name', missing);
  list('Not copied, since they are no files', skipped);
  list(
    'Could not be written',
    failed.map((file) => `${file.path}: ${file.reason}`),
  );
  if (plainAttributes > 0) print(`The destination did not take the permissions and times of ${plural(plainAttributes, 'file')}.`);
}

function printUnproven({ unproven, unprovenCommits }: SalvageReport): void {
  if (!unproven) return;
  print(
    `${plural(unprovenCommits.length, 'commit')} can be read, but no device of the volume is known to have written ${unprovenCommits.length === 1 ? 'it' : 'them'}: ` +
      'somebody who had the keys may have forged it.',
  );
  print(
    `${plural(unproven.files, 'file')} of ${formatBytes(unproven.bytes)} that nothing else gives are in unproven/: look at them before you use them.`,
  );
  if (unproven.stopped !== null) print(`Not all of that could be copied: ${unproven.stopped}`);
  printTree(unproven);
}

function list(title: string, paths: readonly string[]): void {
  if (paths.length === 0) return;
  print(`${title}:`);
  for (const path of paths.slice(0, shownMax)) print(`  ${printable(path)}`);
  if (paths.length > shownMax) print(`  and ${paths.length - shownMax} more`);
}
