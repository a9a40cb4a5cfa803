/**
 * Real programs at work in a directory until they are stopped in any way: each records what was acknowledged to it, and
 * reports afterwards whether all of that is there. They serve crash and fault runs; programs with a model are in
 * test/model.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/**
 * Programs other than the random trees: each records what was acknowledged, and reports after a mount whether it is
 * there.
 */
export interface Worker {
  readonly name: string;
  begin(): void;
  /** The failure at which it stopped by itself, if any. */
  readonly failure: string | undefined;
  /** Called after the drive went away, or before it is unmounted. */
  end(): Promise<void>;
  verify(): Promise<string | undefined>;
}

/** Inserts rising numbers, each in a transaction of its own; sqlite3 prints each one after its COMMIT. */
export class SqliteWorker implements Worker {
  readonly name: string;
  readonly #file: string;
  readonly #journalMode: string;
  readonly #pauseMs: number;
  #failure: string | undefined;
  #child: ChildProcess | undefined;
  #next = 1;
  #acknowledged = 0;

  /** `pauseMs` is the pause between two transactions. */
  constructor(directory: string, journalMode: string, pauseMs = 0) {
    this.#pauseMs = pauseMs;
    this.name = `sqlite (${journalMode})`;
    this.#file = join(directory, `${journalMode}.db`);
    this.#journalMode = journalMode;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  begin(): void {
    const child = spawn('sqlite3', ['-batch', this.#file], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
    let said = '';
    child.stderr.on('data', (part: Buffer) => (said = (said + part.toString()).slice(-1000)));
    child.on('error', () => {});
    this.#failure = undefined;
    child.on('close', (code) => {
      if (this.#child === child) this.#failure = `it ended with ${code} after transaction ${this.#acknowledged}: ${said.trim()}`;
    });
    child.stdin.on('error', () => {});
    this.#child = child;
    const feed = (): void => {
      const number = this.#next++;
      child.stdin.write(
        `BEGIN; INSERT INTO item VALUES (${number}, randomblob(${100 + (number % 50) * 40})); DELETE FROM item WHERE number < ${number - 500}; COMMIT; SELECT ${number};\n`,
      );
    };
    child.stdin.write(
      `.bail on\nPRAGMA journal_mode=${this.#journalMode}; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS item (number INTEGER PRIMARY KEY, body BLOB);\n`,
    );
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!/^\d+$/.test(line) || child !== this.#child) return;
      this.#acknowledged = Number(line);
      if (this.#pauseMs === 0) feed();
      else setTimeout(feed, this.#pauseMs);
    });
    feed();
  }

  async end(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async verify(): Promise<string | undefined> {
    if (this.#acknowledged === 0 && !existsSync(this.#file)) return undefined;
    const { stdout } = await execute('sqlite3', ['-batch', this.#file, 'PRAGMA integrity_check; SELECT coalesce(max(number), 0) FROM item;']);
    const [integrity, max] = stdout.trim().split('\n');
    if (integrity !== 'ok') return `integrity_check: ${stdout.slice(0, 300)}`;
    if (Number(max) < this.#acknowledged) return `transaction ${this.#acknowledged} was committed, the newest is ${max}`;
    this.#next = Number(max) + 1;
    return undefined;
  }
}

/** Commits repeatedly; a commit that git has reported is there afterwards, and the repository is intact. */
export class GitWorker implements Worker {
  readonly name = 'git';
  readonly #directory: string;
  readonly #pauseMs: number;
  #running: Promise<void> | undefined;
  #stopped = false;
  #failure: string | undefined;
  #acknowledged: string | undefined;
  #count = 0;

  /** `pauseMs` is the pause between two commits. */
  constructor(directory: string, pauseMs = 0) {
    this.#pauseMs = pauseMs;
    this.#directory = join(directory, 'repository');
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  async #git(...argument: string[]): Promise<string> {
    const environment = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', LC_ALL: 'C' };
    const options = [
      '-c',
      'user.name=Worker',
      '-c',
      'user.email=worker@localhost',
      '-c',
      'safe.directory=*',
      '-c',
      'gc.auto=50',
      '-c',
      'gc.autoDetach=false',
    ];
    return (await execute('git', ['-C', this.#directory, ...options, ...argument], { env: environment, maxBuffer: 1 << 26 })).stdout;
  }

  begin(): void {
    this.#stopped = false;
    this.#failure = undefined;
    this.#running = this.#work().catch((error: Error & { readonly stderr?: string }) => {
      this.#failure = `${error.message} ${error.stderr ?? ''}`;
    });
  }

  async #work(): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    if (!existsSync(join(this.#directory, '.git', 'HEAD'))) await this.#git('init', '-q');
    while (!this.#stopped) {
      const number = this.#count++;
      await mkdir(join(this.#directory, `part-${number % 7}`), { recursive: true });
      await writeFile(join(this.#directory, `part-${number % 7}`, `file-${number % 40}`), `text ${number}\n`.repeat(1 + (number % 200)));
      await this.#git('add', '-A');
      await this.#git('commit', '-q', '--allow-empty', '-m', `commit ${number}`);
      this.#acknowledged = (await this.#git('rev-parse', 'HEAD')).trim();
      if (this.#pauseMs > 0) await wait(this.#pauseMs);
    }
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async verify(): Promise<string | undefined> {
    if (this.#acknowledged === undefined) {
      // The first commit was in progress: git cannot continue after an interrupted "init".
      await rm(this.#directory, { recursive: true, force: true });
      return undefined;
    }
    // The user has to remove the locks of a killed git.
    for (const name of await readdir(join(this.#directory, '.git'), { recursive: true })) {
      if (name.endsWith('.lock')) await rm(join(this.#directory, '.git', name));
    }
    try {
      await this.#git('fsck', '--full', '--strict', '--no-dangling');
      await this.#git('merge-base', '--is-ancestor', this.#acknowledged, 'HEAD');
    } catch (error) {
      return error instanceof Error ? `${error.message} ${'stderr' in error ? String(error.stderr).slice(0, 500) : ''}` : String(error);
    }
    return undefined;
  }
}
