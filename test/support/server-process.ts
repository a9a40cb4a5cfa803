/**
 * Real servers as children of a test: started on loopback in a scratch folder, polled until they are ready, and stopped
 * only by their own process ids. They die with the test, however it ends.
 */

import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const readyMs = 60_000;

/** The path of a program, daemons' folders included; `undefined` when it is not installed. */
export function findProgram(name: string): string | undefined {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), ...systemFolders]) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: try the next one.
    }
  }
  return undefined;
}

/**
 * Why tests of `kind` cannot run here, or `undefined` when they can. Throws where TEST_REQUIRE names the kind (as in
 * `TEST_REQUIRE=s3,webdav,sftp`): then a test that does not run is a failure.
 */
export function reasonToSkip(kind: string, programs: readonly string[]): string | undefined {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) return undefined;
  const reason = `${missing.join(', ')} not installed: ".ci/setup --test" as root installs it`;
  if ((process.env['TEST_REQUIRE'] ?? '').split(',').includes(kind)) throw new Error(`${kind} is required: ${reason}`);
  return reason;
}

/** A TCP port on loopback without a listener. */
export function freePort(): Promise<number> {
  return new Promise((settle, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => settle(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Runs a program to its end; throws with its output when it fails. */
export function runTool(program: string, parameters: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const { status, stdout, stderr, error } = spawnSync(findProgram(program) ?? program, parameters, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: readyMs,
  });
  if (error || status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/** The process and its descendants that are alive. */
function familyOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    return [pid, ...children.flatMap(familyOf)];
  } catch {
    return [];
  }
}

export class ServerProcess {
  readonly #name: string;
  readonly #parameters: readonly string[];
  #child: ChildProcess;
  #ended: Promise<void>;
  #said = '';

  /** In the foreground, so that the child is the server. */
  constructor(program: string, parameters: readonly string[]) {
    this.#name = program;
    this.#parameters = parameters;
    [this.#child, this.#ended] = this.#start();
  }

  #start(): [ChildProcess, Promise<void>] {
    const path = findProgram(this.#name) ?? this.#name;
    const guard = findProgram('setpriv');
    const [command, words] = guard === undefined ? [path, this.#parameters] : [guard, ['--pdeathsig', 'KILL', path, ...this.#parameters]];
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const listen = (data: Buffer): void => {
      this.#said = (this.#said + data.toString('utf8')).slice(-4000);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    const ended = new Promise<void>((settle) => {
      child.on('exit', () => settle());
      child.on('error', () => settle());
    });
    return [child, ended];
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Starts it again after {@link kill}, with the same arguments; then wait for {@link ready}. */
  restart(): void {
    [this.#child, this.#ended] = this.#start();
  }

  /** Polls until the result is true; throws with the server's output if it ends instead. */
  async ready(ask: () => Promise<boolean>): Promise<void> {
    const endMs = performance.now() + readyMs;
    while (!(await ask())) {
      if (this.#child.exitCode !== null || performance.now() > endMs) throw new Error(`${this.#name} does not start: ${this.#said}`);
      await delay(50);
    }
  }

  /** Sends a signal to it and its descendants: `SIGSTOP` makes it hang, `SIGCONT` lets it continue. */
  signal(signal: NodeJS.Signals): void {
    for (const pid of this.#child.pid === undefined ? [] : familyOf(this.#child.pid)) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }

  /** Kills it and its descendants with kill -9. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.signal('SIGKILL');
    await this.#ended;
  }
}

/** Whether something accepts connections at a port on loopback. */
export function isListening(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      settle(true);
    });
    socket.on('error', () => settle(false));
  });
}

/**
 * Makes a certificate with a new authority for `names` (as openssl spells them: `DNS:localhost`), valid for `days`; the
 * paths of its two files.
 */
export function makeCertificate(folder: string, name: string, names: string, days: number): { readonly certificate: string; readonly key: string } {
  const certificate = join(folder, `${name}.crt`);
  const key = join(folder, `${name}.key`);
  runTool(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', certificate].concat([
      '-days',
      String(days),
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=${names}`,
    ]),
  );
  return { certificate, key };
}
