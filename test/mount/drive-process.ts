/**
 * A sealdrive daemon as its users run it: through the command line, in processes of its own, with its state in a
 * scratch directory. Benchmarks, the crash loop and the tests of the mount spell out commands and options only here. It
 * never touches the mounted directory itself, since a caller that may hang on it must be another process.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdir, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { sourcePath } from './posix-probe.js';

const run = promisify(execFile);

/** The command lines; each list follows the program. SEALDRIVE_COMMAND (split at spaces) replaces the program. */
export const driveCommands = {
  program: process.env['SEALDRIVE_COMMAND']?.split(' ') ?? [sourcePath('bin', 'sealdrive')],
  init: (store: string, secret: readonly string[]): string[] => ['init', store, '--no-recovery', ...secret],
  mount: (store: string, directory: string, secret: readonly string[]): string[] => ['mount', store, directory, ...secret],
  status: ['status', '--json'],
  flush: (directory: string): string[] => ['flush', directory],
  unmount: (directory: string): string[] => ['unmount', directory],
  check: (store: string, secret: readonly string[]): string[] => ['check', store, '--data', ...secret],
} as const;

export class CommandError extends Error {
  override readonly name = 'CommandError';
}

/** Runs a command with `input` on its standard input; resolves with its standard output once it exits with 0. */
export function runWithInput(command: readonly string[], input: string, env: NodeJS.ProcessEnv, timeoutMs = 120_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const [program = '', ...argument] = command;
    const child = spawn(program, argument, { env, stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    let isTimedOut = false;
    const timer = setTimeout(() => {
      isTimedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout.on('data', (part: Buffer) => out.push(part));
    child.stderr.on('data', (part: Buffer) => err.push(part));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', reject);
    // A daemon may hold the pipes open, so the exit of the command counts and not the end of its output.
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      child.stdout.destroy();
      child.stderr.destroy();
      if (code === 0) return resolve(Buffer.concat(out).toString());
      const why = isTimedOut ? `no end after ${timeoutMs} ms` : `exit ${code ?? signal}`;
      reject(new CommandError(`${command.join(' ')}: ${why}: ${Buffer.concat(err).toString().trim().slice(-2000)}`));
    });
  });
}

/** Whether something is mounted at this very directory, also if it no longer answers. */
export async function isMounted(directory: string): Promise<boolean> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table.split('\n').some((line) => line.split(' ')[4]?.replaceAll('\\040', ' ') === directory);
}

/** Processes that were started with this variable in their environment, which a detached daemon keeps. */
export async function processesWith(variable: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const environment = await readFile(`/proc/${entry}/environ`, 'latin1').catch(() => '');
    const [isOurs, isAlive] = [environment.split('\0').includes(variable), (await readlink(`/proc/${entry}/exe`).catch(() => '')) !== ''];
    if (isOurs && isAlive) found.push(Number(entry));
  }
  return found;
}

/** Processor time and memory of processes. */
export interface ProcessUse {
  readonly cpuMs: number;
  /** Resident memory now and at its peak, in bytes. */
  readonly resident: number;
  readonly residentMax: number;
}

export async function useOf(pids: readonly number[]): Promise<ProcessUse> {
  let [cpuMs, resident, residentMax] = [0, 0, 0];
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // utime and stime are fields 14 and 15 of proc(5), counted in ticks of 10 ms.
    cpuMs += (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 10;
    resident += Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
    residentMax += Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }
  return { cpuMs, resident, residentMax };
}

/** Detaches whatever is mounted at a directory, without asking the daemon. */
export async function detach(directory: string): Promise<void> {
  while (await isMounted(directory)) await run('umount', ['-l', directory]);
}

export class Drive {
  readonly store: string;
  readonly directory: string;
  readonly #program: readonly string[];
  readonly #environment: NodeJS.ProcessEnv;
  readonly #marker: string;
  readonly #passphrase: string;
  readonly #mountOptions: readonly string[];
  readonly #secret: readonly string[];

  /**
   * `scratch` gets the folders `state`, `cache`, `mount` and (unless a store is named) `store`; the caller removes it.
   * The passphrase is for tests only.
   */
  constructor(options: {
    readonly scratch: string;
    readonly store?: string;
    readonly directory?: string;
    readonly passphrase?: string;
    readonly mountOptions?: readonly string[];
    /** The environment variables that the kind of store needs. */
    readonly environment?: Readonly<Record<string, string>>;
    /** `bin/sealdrive` of another build, in place of this one's. */
    readonly program?: string;
    /** Uses the key file `key` in the scratch folder, which costs no Argon2id; `init` makes it when it is not there. */
    readonly withKeyFile?: boolean;
  }) {
    const { scratch } = options;
    this.store = options.store ?? join(scratch, 'store');
    this.directory = options.directory ?? join(scratch, 'mount');
    this.#program = options.program === undefined ? driveCommands.program : [options.program];
    this.#passphrase = options.passphrase ?? 'correct horse battery staple';
    this.#mountOptions = options.mountOptions ?? [];
    this.#secret = options.withKeyFile ? ['--key-file', join(scratch, 'key')] : ['--passphrase-fd', '0'];
    const state = join(scratch, 'state');
    this.#marker = `XDG_STATE_HOME=${state}`;
    this.#environment = {
      ...process.env,
      ...options.environment,
      XDG_STATE_HOME: state,
      XDG_CACHE_HOME: join(scratch, 'cache'),
      XDG_RUNTIME_DIR: join(scratch, 'run'),
    };
  }

  async #prepare(): Promise<void> {
    await mkdir(this.directory, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
      // A mount whose daemon is dead exists but does not answer.
      if (!['EEXIST', 'ENOTCONN', 'ECONNABORTED'].includes(cause.code ?? '')) throw cause;
    });
    for (const variable of ['XDG_STATE_HOME', 'XDG_CACHE_HOME', 'XDG_RUNTIME_DIR']) {
      await mkdir(this.#environment[variable] ?? '', { recursive: true, mode: 0o700 });
    }
  }

  #run(argument: readonly string[], timeoutMs?: number): Promise<string> {
    return runWithInput([...this.#program, ...argument], `${this.#passphrase}\n`, this.#environment, timeoutMs);
  }

  /** Creates the volume. */
  async init(): Promise<void> {
    await this.#prepare();
    await this.#run(driveCommands.init(this.store, this.#secret));
  }

  /** Mounts; resolves once the directory answers. The daemon cleans up what a crash left there. */
  async mount(timeoutMs?: number): Promise<void> {
    await this.#prepare();
    await this.#run([...driveCommands.mount(this.store, this.directory, this.#secret), ...this.#mountOptions], timeoutMs);
    if (!(await isMounted(this.directory))) throw new CommandError(`mount ended well, but nothing is mounted at ${this.directory}`);
  }

  /** Resolves once everything is in the store. */
  async flush(timeoutMs = 600_000): Promise<void> {
    await this.#run(driveCommands.flush(this.directory), timeoutMs);
  }

  /** As {@link flush}, retried while the drive is still offline. */
  async flushPatiently(patienceMs = 300_000): Promise<void> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      try {
        return await this.flush();
      } catch (error) {
        if (!(error instanceof CommandError && error.message.includes('exit 9')) || performance.now() > deadline) throw error;
        await wait(500);
      }
    }
  }

  /** Runs another command of the program in the environment of the drive; resolves with its output. */
  command(...words: readonly string[]): Promise<string> {
    return this.#run(words);
  }

  /** The output of `sealdrive status --json`. */
  status(): Promise<string> {
    return this.#run(driveCommands.status);
  }

  /** Checks the volume with all its content; rejects with the findings. */
  async check(): Promise<void> {
    await this.#run(driveCommands.check(this.store, this.#secret));
  }

  /** The log lines of its daemons at `warn` and above, oldest first, as JSON. */
  async warnings(): Promise<string[]> {
    const folder = join(this.#environment['XDG_STATE_HOME'] ?? '', 'sealdrive');
    const found: string[] = [];
    for (const name of await readdir(folder, { recursive: true })) {
      if (!/(^|\/)daemon\.log$/.test(name)) continue;
      const lines = (await readFile(join(folder, name), 'utf8')).split('\n');
      found.push(...lines.filter((line) => /"level":"(warn|error)"/.test(line)));
    }
    return found;
  }

  /**
   * Removes everything that this machine knows of the volume, so that it becomes a new device. Only while unmounted.
   */
  async forget(): Promise<void> {
    await rm(this.#environment['XDG_STATE_HOME'] ?? '', { recursive: true, force: true });
  }

  /** Unmounts and resolves once the daemon is gone. */
  async unmount(timeoutMs = 600_000): Promise<void> {
    await this.#run(driveCommands.unmount(this.directory), timeoutMs);
    await this.#ended();
  }

  async processes(): Promise<number[]> {
    return processesWith(this.#marker);
  }

  async #ended(): Promise<void> {
    for (let tries = 0; (await this.processes()).length > 0; tries++) {
      if (tries > 600) throw new CommandError('the daemon did not end');
      await wait(50);
    }
  }

  /** Crashes the daemon with kill -9. The mount stays behind and answers ENOTCONN. */
  async kill(): Promise<void> {
    for (const pid of await this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    await this.#ended();
  }

  /** For a teardown: leaves nothing running or mounted, whatever the state. */
  async destroy(): Promise<void> {
    await this.kill();
    await detach(this.directory);
  }
}
