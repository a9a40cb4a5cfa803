/** The program's entry: runs what was asked for and ends with its exit code. Loads only what that needs (doc/decision/0015). */
import { serveCommandName } from './detached-mount.js';

async function run(words: readonly string[]): Promise<number> {
  // What `mount` starts is no command that people type: options and help would be loaded for nothing.
  if (words[0] === serveCommandName) return (await import('./serve-mount.js')).serveDetachedMount(words[1] ?? '');
  return (await import('./command-line.js')).runCommandLine(words);
}

export async function main(): Promise<void> {
  const code = await run(process.argv.slice(2));
  // Not left to the event loop: a lazily detached mount may keep it alive.
  process.exit(code);
}
