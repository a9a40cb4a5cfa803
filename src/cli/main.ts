/**
 * The program's entry: runs what was asked for and ends with its exit code. It loads only what that needs
 * (doc/decision/0015).
 */
import { exactArguments, keepWorkingDirectoryExact } from '../disk/environment.js';
import { serveCommandName } from '../program/detached-mount.js';
import { keepDebuggerOut, refuseMeddling } from '../program/runtime-guard.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { tell } from '../terminal/terminal.js';

/** Why the working directory has no path: it is gone, too deep, or below one that may not be searched. */
function whyNoDirectory(): unknown {
  try {
    process.cwd();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Loads the command line. A working directory without a path is no obstacle until a relative path is given. */
async function loadCommandLine(): Promise<typeof import('./command-line.js')> {
  const cause = whyNoDirectory();
  // A library asks for it while it is loaded, and does not use it.
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
  // This is started by `mount` and never typed, so it needs no options and no help.
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
  // Each connection requests verification itself. What libraries do with this variable, and Node's warning about it,
  // would be misleading.
  delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  await keepDebuggerOut();
  const code = await run(process.argv.slice(2));
  // The event loop does not decide when to end: a lazily detached mount may keep it alive.
  process.exit(code);
}
