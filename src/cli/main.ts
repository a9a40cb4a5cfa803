/** The program's entry: runs what was asked for and ends with its exit code. Loads only what that needs (doc/decision/0015). */
import { exactArguments, keepWorkingDirectoryExact } from '../disk/environment.js';
import { serveCommandName } from './detached-mount.js';
import { exitCodes } from './exit-code.js';
import { tell } from './terminal.js';

async function run(given: readonly string[]): Promise<number> {
  keepWorkingDirectoryExact();
  const words = exactArguments(given);
  if (!words) {
    tell('sealdrive: the command line holds bytes that are no UTF-8 text, and this system does not tell which');
    return exitCodes.USAGE;
  }
  // What `mount` starts is no command that people type: options and help would be loaded for nothing.
  if (words[0] === serveCommandName) return (await import('./serve-mount.js')).serveDetachedMount(words[1] ?? '');
  return (await import('./command-line.js')).runCommandLine(words);
}

export async function main(): Promise<void> {
  // Each connection asks for verification itself; what libraries make of this variable, and Node's warning about it, would mislead.
  delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  const code = await run(process.argv.slice(2));
  // Not left to the event loop: a lazily detached mount may keep it alive.
  process.exit(code);
}
