/**
 * The command line: reads the arguments, runs one command, and tells its exit code (exit-code.ts). What a command does is in `command-*.ts`.
 */
import yargs from 'yargs';
import type { Argv } from 'yargs';
import { checkCommand } from './command-check.js';
import { doctorCommand } from './command-doctor.js';
import { driveCommand } from './command-drive.js';
import { flushCommand } from './command-flush.js';
import { initCommand } from './command-init.js';
import { keyCommand } from './command-key.js';
import { limitCommand } from './command-limit.js';
import { mountCommand } from './command-mount.js';
import { pinCommand, unpinCommand } from './command-pin.js';
import { repairCommand } from './command-repair.js';
import { salvageCommand } from './command-salvage.js';
import { serveCommand } from './command-serve.js';
import { statusCommand } from './command-status.js';
import { tokenCommand } from './command-token.js';
import { unmountCommand } from './command-unmount.js';
import { volumeCommand } from './command-volume.js';
import { completeVolumes } from './completion.js';
import { Failure, exitCodeHelp, exitCodes } from './exit-code.js';
import { explain } from './explain.js';
import { applyNamedVolume } from './named-volume.js';
import { printJson, tell } from './terminal.js';
import { version } from './version.js';

const wantsJson = (words: readonly string[]): boolean => words.includes('--json') || words.includes('--json=true');

/** The help that fits what was typed. */
function helpFor(words: readonly string[]): string {
  const command = words[0] ?? '';
  return /^[a-z]+$/.test(command) ? `sealdrive ${command} --help` : 'sealdrive --help';
}

/** A name in the place of a store brings its settings; what was written on the command line stays, what yargs put there by default does not. */
function insertNamedVolume(args: Record<string, unknown>, parser: Argv): void {
  const { defaulted = {} } = (parser as unknown as { readonly parsed: { readonly defaulted?: Readonly<Record<string, boolean>> } }).parsed;
  applyNamedVolume(args, (option) => args[option] !== undefined && !defaulted[option]);
}

/** Runs the command that `words` spell; resolves with the exit code. Reports failures itself. */
export async function runCommandLine(words: readonly string[]): Promise<number> {
  const parser = yargs([...words])
    .scriptName('sealdrive')
    .usage('$0 COMMAND: an end-to-end encrypted drive in any object store')
    .command(initCommand)
    .command(mountCommand)
    .command(unmountCommand)
    .command(statusCommand)
    .command(flushCommand)
    .command(limitCommand)
    .command(pinCommand)
    .command(unpinCommand)
    .command(volumeCommand)
    .command(keyCommand)
    .command(checkCommand)
    .command(repairCommand)
    .command(salvageCommand)
    .command(doctorCommand)
    .command(driveCommand)
    .command(serveCommand)
    .command(tokenCommand)
    .completion('completion', 'Print a completion script: add it to ~/.bashrc or ~/.zshrc', completeVolumes)
    .demandCommand(1, 'Say what to do')
    .recommendCommands()
    .strict()
    .parserConfiguration({ 'duplicate-arguments-array': false })
    .version(version)
    .help()
    .alias('help', 'h')
    // A help is made ready before every command, and filling its lines takes longer than all else here.
    .wrap(words.includes('--help') || words.includes('-h') ? Math.min(110, process.stdout.columns || 110) : null)
    .example('$0 init ~/Cloud/drive', 'make a volume')
    .example('$0 mount ~/Cloud/drive ~/Drive', 'mount it')
    .example('$0 unmount ~/Drive', 'upload what is pending and unmount')
    .epilogue(exitCodeHelp)
    .exitProcess(false)
    .fail((message, error) => {
      // A message without an error of ours is yargs's own, about the command line.
      if (message) throw new Failure('USAGE', `${message.replaceAll(/\s*\n\s*/g, ' ')}; see "${helpFor(words)}"`);
      throw error;
    });
  parser.middleware((args) => insertNamedVolume(args, parser));
  try {
    await parser.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    const failure = explain(error);
    if (wantsJson(words)) printJson({ error: { code: failure.code, message: failure.message } });
    else tell(`sealdrive: ${failure.message}`);
    if (failure.code === 'UNEXPECTED' && process.env['SEALDRIVE_DEBUG']) tell(error instanceof Error ? error.stack : String(error));
    return exitCodes[failure.code];
  }
}
