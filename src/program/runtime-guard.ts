/**
 * Options of Node.js itself (on its command line, in NODE_OPTIONS or NODE_DEBUG) can open a debugger to every user of
 * the machine, load other programs into ours, or write down what it sends. `bin/sealdrive` starts Node.js without them;
 * those that come another way are refused here, before there is a secret (doc/cli.md, "Surroundings").
 */
import { Failure } from '../terminal/exit-code.js';

/** Options that may be given for good reasons and that reveal no secret. */
const harmless = new RegExp(
  '^--(' +
    [
      'enable-source-maps',
      'no-warnings',
      'no-deprecation',
      'disable-warning',
      'stack-trace-limit',
      'max-old-space-size(-percentage)?',
      'max-semi-space-size',
      'max-http-header-size',
      'v8-pool-size',
      'secure-heap(-min)?',
      'icu-data-dir',
      'jitless',
      'disable-wasm-trap-handler',
      'dns-result-order',
      '(no-)?network-family-autoselection(-attempt-timeout)?',
      'use-(bundled|openssl|system)-ca',
      'tls-(min|max)-v1\\.[0-3]',
      'disable-sigusr1',
      'inspect-port',
    ].join('|') +
    ')(=.*)?$',
);

/** No machine has this address, so nobody listens there. */
const nowhere = '--inspect-port=0.0.0.1:1024';

/** Variables of the environment that change what Node.js does. */
const meddling = ['NODE_OPTIONS', 'NODE_DEBUG', 'NODE_DEBUG_NATIVE', 'SSLKEYLOGFILE'] as const;

/** Splits the options of Node.js in an environment variable at spaces; they may be quoted. */
const optionsIn = (text: string): string[] =>
  text
    .replaceAll('"', '')
    .split(/\s+/)
    .filter((word) => word !== '');

/**
 * Throws Failure `USAGE` when Node.js was started with something that no process with a secret may do. `given` are the
 * options that it was started with.
 */
export function refuseMeddling(given: readonly string[], env: NodeJS.ProcessEnv): void {
  const variable = (name: string): string => env[name] ?? '';
  const option = [...given, ...optionsIn(variable('NODE_OPTIONS'))].find((word) => !harmless.test(word));
  if (option !== undefined) {
    const source = given.includes(option) ? 'on the command line' : 'in NODE_OPTIONS';
    const name = /^-{1,2}[a-z0-9-]+/.exec(option)?.[0] ?? 'an option';
    throw new Failure('USAGE', `Node.js was started with ${name} (${source}), by which others could get at your keys: leave it out`);
  }
  const watched = ['NODE_DEBUG', 'NODE_DEBUG_NATIVE'].find((name) => variable(name) !== '');
  if (watched !== undefined) throw new Failure('USAGE', `${watched} is set, by which tokens and passwords could be written down: unset it`);
}

/** The options of Node.js for a process that serves a mount, whatever this one was started with. */
export function plainOptions(given: readonly string[]): string[] {
  const kept = given.filter((word) => harmless.test(word) && !word.startsWith('--inspect-port'));
  return [...kept, nowhere, ...(process.allowedNodeEnvironmentFlags.has('--disable-sigusr1') ? ['--disable-sigusr1'] : [])];
}

/** The environment without the variables that change what Node.js does. */
export function plainEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !(meddling as readonly string[]).includes(name)));
}

/**
 * SIGUSR1 would open the debugger, which every user of the machine could then use; this makes it do nothing. A debugger
 * that was opened before our first line ran is closed.
 */
export async function keepDebuggerOut(): Promise<void> {
  process.on('SIGUSR1', () => {});
  // Node.js may have been built without one.
  const inspector = await import('node:inspector').catch(() => undefined);
  if (inspector?.url() !== undefined) inspector.close();
}
