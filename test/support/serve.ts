/**
 * `sealdrive serve` for tests: the real command as a process of its own on loopback, in front of a directory or any
 * other base, with tokens for as many volumes as a test wants. It needs no installed package.
 */

import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { findProgram } from './server-process.js';

const program = join(resolve(import.meta.dirname, '..', '..', '..'), 'bin', 'sealdrive');
const readyMs = 60_000;

export interface ServeOptions {
  /** Default: a directory below the folder. */
  readonly base?: string;
  /** Further arguments of the command line. */
  readonly words?: readonly string[];
  /** PEM files; without them it is plain HTTP. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  readonly env?: Readonly<Record<string, string>>;
  /** The token file of another server, for two servers on one base. */
  readonly tokenFile?: string;
}

export class Serve {
  /** `http://127.0.0.1:PORT`, the same after {@link restart}. */
  readonly origin: string;
  readonly base: string;
  readonly tokenFile: string;
  readonly accessLog: string;
  readonly #folder: string;
  readonly #options: ServeOptions;
  readonly #env: NodeJS.ProcessEnv;
  #process: Running;
  #count = 0;

  private constructor(folder: string, options: ServeOptions, env: NodeJS.ProcessEnv, running: Running, base: string, tokenFile: string) {
    this.#folder = folder;
    this.#options = options;
    this.#env = env;
    this.#process = running;
    this.origin = running.url;
    this.base = base;
    this.tokenFile = tokenFile;
    this.accessLog = join(folder, 'access.log');
  }

  /** `folder` must be empty and for this server alone; the caller removes it after {@link stop}. */
  static async start(folder: string, options: ServeOptions = {}): Promise<Serve> {
    const base = options.base ?? join(folder, 'base');
    const tokenFile = options.tokenFile ?? join(folder, 'tokens.json');
    for (const name of ['home', 'spool']) mkdirSync(join(folder, name));
    const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'], HOME: join(folder, 'home'), ...options.env };
    const running = await launch(wordsOf(folder, base, tokenFile, 0, options), env);
    return new Serve(folder, options, env, running, base, tokenFile);
  }

  get pid(): number {
    return this.#process.child.pid ?? 0;
  }

  get metricsPort(): number | undefined {
    return this.#process.metricsPort;
  }

  /** Its standard error so far, which is its log. */
  get log(): string {
    return this.#process.log();
  }

  /**
   * Makes a token for `volume` in a new file; returns the path of the file, and the location of the volume for
   * commands.
   */
  volume(volume: string, right: 'read' | 'append' | 'full' = 'full', quota?: string): { readonly location: string; readonly tokenPath: string } {
    const tokenPath = join(this.#folder, `token-${this.#count++}`);
    const words = ['token', 'add', volume, '--right', right, '--tokens', this.tokenFile, '--out', tokenPath, '--json'];
    runSealdrive(quota === undefined ? words : [...words, '--quota', quota], this.#env);
    const authorities = this.#options.tls === undefined ? '' : `&ca=${encodeURIComponent(this.#options.tls.certificate)}`;
    return { location: `${this.origin}/${volume}?token-file=${encodeURIComponent(tokenPath)}${authorities}`, tokenPath };
  }

  /** Removes a token through the command line. */
  removeToken(tokenPath: string): void {
    const [, id = ''] = readFileSync(tokenPath, 'utf8').split('_');
    runSealdrive(['token', 'remove', id, '--tokens', this.tokenFile], this.#env);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.child.kill(signal);
  }

  /** SIGTERM; resolves with its exit code when it has ended. */
  async stop(): Promise<number | null> {
    this.signal('SIGTERM');
    return this.#process.ended;
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#process.ended;
  }

  /** Starts it again after {@link stop} or {@link kill}, at the same address. */
  async restart(): Promise<void> {
    const port = Number(new URL(this.origin).port);
    this.#process = await launch(wordsOf(this.#folder, this.base, this.tokenFile, port, this.#options), this.#env);
  }
}

interface Running {
  readonly child: ChildProcess;
  readonly url: string;
  readonly metricsPort: number | undefined;
  readonly ended: Promise<number | null>;
  log(): string;
}

function wordsOf(folder: string, base: string, tokenFile: string, port: number, { words = [], tls }: ServeOptions): string[] {
  return [
    'serve',
    base,
    '--json',
    '--listen',
    `127.0.0.1:${port}`,
    '--tokens',
    tokenFile,
    '--spool',
    join(folder, 'spool'),
    '--access-log',
    join(folder, 'access.log'),
    ...(tls ? ['--tls-cert', tls.certificate, '--tls-key', tls.key] : []),
    ...words,
  ];
}

/** Starts it and waits until it prints its address. It dies with the test, however that ends. */
function launch(words: readonly string[], env: NodeJS.ProcessEnv): Promise<Running> {
  const guard = findProgram('setpriv');
  // tap injects hooks into every Node.js process; this one must run as users run it.
  const rest = ['-u', 'NODE_OPTIONS', process.execPath, program, ...words];
  const child = spawn(guard ?? 'env', guard === undefined ? rest : ['--pdeathsig', 'KILL', 'env', ...rest], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-64 * 1024);
  });
  const ended = new Promise<number | null>((resolve) => {
    child.on('exit', (code) => resolve(code));
    child.on('error', () => resolve(null));
  });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`serve does not start: ${said}${log}`));
    }, readyMs);
    void ended.then((code) => {
      clearTimeout(timer);
      reject(new Error(`serve ended with ${code}: ${said}${log}`));
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      const url = /"url": "([^"]+)"/.exec(said)?.[1];
      if (url === undefined || !said.trimEnd().endsWith('}')) return;
      clearTimeout(timer);
      const port = /"metricsPort": (\d+)/.exec(said)?.[1];
      resolve({ child, url, metricsPort: port === undefined ? undefined : Number(port), ended, log: () => log });
    });
  });
}

function runSealdrive(words: readonly string[], env: NodeJS.ProcessEnv): void {
  // The program must not get the test runner's options of Node.js.
  const command = ['-u', 'NODE_OPTIONS', process.execPath, program, ...words];
  const { status, stderr, stdout } = spawnSync('env', command, { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`sealdrive ${words[0]} ${words[1]} ended with ${status}: ${stderr}${stdout}`);
}
