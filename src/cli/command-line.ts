/**
 * The command line: reads the arguments, runs one command, and returns its exit code (exit-code.ts). The commands are
 * in `command-*.ts`.
 */

import type { Argv, CommandModule } from 'yargs';
import yargs from 'yargs';
import { applyNamedVolume } from '../access/named-volume.js';
import { explain } from '../program/explain.js';
import { version } from '../program/version.js';
import { exitCodeHelp, exitCodes, Failure } from '../terminal/exit-code.js';
import { optionOf } from '../terminal/option-kind.js';
import { printJson, tell, tellLines } from '../terminal/terminal.js';
import { volumeCompletion } from './completion.js';
import { refuseOtherBytes } from './exact-words.js';

/** The files of the commands, in the order of the help. */
const loaders: ReadonlyMap<string, () => Promise<readonly CommandModule[]>> = new Map(
  Object.entries({
    init: async () => [(await import('./command-init.js')).initCommand],
    mount: async () => [(await import('./command-mount.js')).mountCommand],
    unmount: async () => [(await import('./command-unmount.js')).unmountCommand],
    status: async () => [(await import('./command-status.js')).statusCommand],
    flush: async () => [(await import('./command-flush.js')).flushCommand],
    limit: async () => [(await import('./command-limit.js')).limitCommand],
    pin: async () => {
      const { pinCommand, unpinCommand } = await import('./command-pin.js');
      return [pinCommand, unpinCommand];
    },
    versions: async () => {
      const { versionsCommand, undeleteCommand, restoreCommand, rollbackCommand } = await import('./command-past.js');
      return [versionsCommand, undeleteCommand, restoreCommand, rollbackCommand];
    },
    conflicts: async () => [(await import('./command-conflicts.js')).conflictsCommand],
    snapshot: async () => [(await import('./command-snapshot.js')).snapshotCommand],
    volume: async () => [(await import('./command-volume.js')).volumeCommand],
    key: async () => [(await import('./command-key.js')).keyCommand],
    check: async () => [(await import('./command-check.js')).checkCommand],
    repair: async () => [(await import('./command-repair.js')).repairCommand],
    gc: async () => [(await import('./command-gc.js')).gcCommand],
    rejoin: async () => [(await import('./command-rejoin.js')).rejoinCommand],
    salvage: async () => [(await import('./command-salvage.js')).salvageCommand],
    doctor: async () => [(await import('./command-doctor.js')).doctorCommand],
    drive: async () => [(await import('./command-drive.js')).driveCommand],
    serve: async () => [(await import('./command-serve.js')).serveCommand],
    token: async () => [(await import('./command-token.js')).tokenCommand],
  }),
);
/** Second names, and commands that share a file. */
const sharing: ReadonlyMap<string, string> = new Map([
  ['umount', 'unmount'],
  ['unpin', 'pin'],
  ['undelete', 'versions'],
  ['restore', 'versions'],
  ['rollback', 'versions'],
]);

/** A named command is loaded alone; help, completion and a misspelt command need all of them. */
async function commandsFor(word = ''): Promise<readonly CommandModule[]> {
  const named = loaders.get(sharing.get(word) ?? word);
  const wanted = named ? [named] : [...loaders.values()];
  return (await Promise.all(wanted.map((load) => load()))).flat();
}

const wantsJson = (words: readonly string[]): boolean => words.includes('--json') || words.includes('--json=true');

/** The help that fits what was typed. */
function helpFor(words: readonly string[]): string {
  const command = words[0] ?? '';
  return /^[a-z]+$/.test(command) ? `sealdrive ${command} --help` : 'sealdrive --help';
}

/**
 * A volume's name in place of a store brings its settings along. They replace the defaults of yargs, not what was
 * typed.
 */
async function insertNamedVolume(args: Record<string, unknown>, parser: Argv): Promise<void> {
  const { defaulted = {} } = (parser as unknown as { readonly parsed: { readonly defaulted?: Readonly<Record<string, boolean>> } }).parsed;
  // It lists options as they were declared.
  await applyNamedVolume(args, (name) => args[name] !== undefined && !defaulted[optionOf(name)]);
}

/** Runs the command that `words` spell; resolves with the exit code. Reports failures itself. */
export async function runCommandLine(words: readonly string[]): Promise<number> {
  const commands = await commandsFor(words[0]);
  // It must not search the working directory, which may be gone.
  const parser = yargs([...words], '/')
    .scriptName('sealdrive')
    .usage('$0 COMMAND: an end-to-end encrypted drive in any object store')
    .command([...commands])
    .completion('completion', 'Print a completion script: add it to ~/.bashrc or ~/.zshrc', await volumeCompletion(words))
    .demandCommand(1, 'Say what to do')
    .recommendCommands()
    .strict()
    .parserConfiguration({ 'duplicate-arguments-array': false })
    .version(version)
    .help()
    .alias('help', 'h')
    // The help is prepared before every command, and wrapping its lines takes longer than everything else here.
    .wrap(words.includes('--help') || words.includes('-h') ? Math.min(110, process.stdout.columns || 110) : null)
    .example('$0 init ~/Cloud/drive', 'make a volume')
    .example('$0 mount ~/Cloud/drive ~/Drive', 'mount it')
    .example('$0 unmount ~/Drive', 'upload what is pending and unmount')
    .epilogue(exitCodeHelp)
    .exitProcess(false)
    .fail((message, error) => {
      // A message without one of our errors is from yargs, about the command line.
      if (message) throw new Failure('USAGE', `${message.replaceAll(/\s*\n\s*/g, ' ')}; see "${helpFor(words)}"`);
      throw error;
    });
  parser.middleware(async (args) => {
    refuseOtherBytes(args);
    await insertNamedVolume(args, parser);
  });
  try {
    await parser.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return reportFailure(words, error);
  }
}

/** Says why a command failed, as `words` ask for it; its exit code. */
export function reportFailure(words: readonly string[], error: unknown): number {
  const failure = explain(error);
  if (wantsJson(words)) printJson({ error: { code: failure.code, message: failure.message } });
  else tell(`sealdrive: ${failure.message}`);
  if (failure.code === 'UNEXPECTED' && process.env['SEALDRIVE_DEBUG'])
    tellLines(error instanceof Error ? (error.stack ?? error.message) : String(error));
  return exitCodes[failure.code];
}
