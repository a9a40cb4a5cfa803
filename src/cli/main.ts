/** The program's entry: runs what was asked for and ends with its exit code. Loads only what that needs (doc/decision/0015). */
import { exactArguments, keepWorkingDirectoryExact } from '../disk/environment.js';
import { serveCommandName } from '../program/detached-mount.js';
import { keepDebuggerOut, refuseMeddling } from '../program/runtime-guard.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { tell } from '../terminal/terminal.js';

/** Why the working directory cannot be named: it is gone, too deep, or below one that may not be searched. */
function troubleOfDirectory(): unknown {
  try {
    process.cwd();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Loads the command line. A working directory that cannot be named is in nobody's way until a path is given that begins there. */
async function loadCommandLine(): Promise<typeof import('./command-line.js')> {
  const cause = troubleOfDirectory();
  // A library asks for it while it is loaded, and does nothing with it.
  if (cause !== undefined) process.cwd = () => '/';
  const loaded = await import('./command-line.js');
  if (cause !== undefined) {
    process.cwd = () => {
      throw new Failure('USAGE', 'the working directory is gone or cannot be named: go to another one, or give absolute paths', { cause });
    };
  }
  return loaded;
}

async function run(given: readonly string[]): Promise<number> {
  keepWorkingDirectoryExact();
  const words = exactArguments(given);
  if (!words) {
    tell('sealdrive: the command line holds bytes that are no UTF-8 text, and this system does not tell which');
    return exitCodes.USAGE;
  }
  // What `mount` starts is no command that people type: options and help would be loaded for nothing.
  if (words[0] === serveCommandName) return (await import('../program/serve-mount.js')).serveDetachedMount(words[1] ?? '');
  const { reportFailure, runCommandLine } = await loadCommandLine();
  try {
    refuseMeddling(process.execArgv, process.env);
  } catch (error) {
    return reportFailure(words, error);
  }
  return runCommandLine(words);
}

export async function main(): Promise<void> {
  // Each connection asks for verification itself; what libraries make of this variable, and Node's warning about it, would mislead.
  delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  await keepDebuggerOut();
  const code = await run(process.argv.slice(2));
  // Not left to the event loop: a lazily detached mount may keep it alive.
  process.exit(code);
}
