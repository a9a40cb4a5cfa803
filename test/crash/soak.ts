/**
 * A soak: random trees, SQLite and git at work on the mounted drive, a `kill -9` of the daemon every 20 seconds (some rounds end in a flush or
 * an orderly unmount instead), everything acknowledged verified after each mount, and the daemon's memory and descriptors watched. Then rsync brings
 * a tree and compares. At a difference it keeps the scratch folder and tells the seed.
 *
 *   npm run soak -- [--minutes 30] [--round SECONDS] [--seed N] [--writers N] [--scratch DIRECTORY] [--store URL]
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { RandomTree, isGone } from '../model/random-tree.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { compareTrees } from '../mount/compare-trees.js';
import { Drive, useOf } from '../mount/drive-process.js';
import { Probe, ProbeGoneError } from '../mount/posix-probe.js';

const execute = promisify(execFile);

export interface SoakOptions {
  /** Made and not mounted; it is left unmounted. */
  readonly drive: Drive;
  /** On another filesystem than the drive. */
  readonly scratch: string;
  readonly durationMs: number;
  readonly roundMs: number;
  readonly seed: number;
  readonly writers: number;
  readonly report?: (line: string) => void;
}

export class SoakError extends Error {
  override readonly name = 'SoakError';
}

/** The most that was seen of a daemon in one round. */
interface DaemonUse {
  residentMax: number;
  descriptorMax: number;
}

/** A daemon with caches of 112 MiB and 64 MiB of dirty data stays well below this; one that leaks passes it. */
const residentBound = 900 * 1024 * 1024;
const descriptorBound = 400;
/** Rounds that must have been seen before the last ones are compared with the first. */
const trendRounds = 12;

/** Programs other than the random trees: each notes what was acknowledged, and says after a mount whether it is there. */
interface Worker {
  readonly name: string;
  begin(): void;
  /** After the drive went away, or before it is unmounted. */
  end(): Promise<void>;
  verify(): Promise<string | undefined>;
}

/** Inserts rising numbers, each in a transaction of its own; sqlite3 prints each one after its COMMIT. */
class SqliteWorker implements Worker {
  readonly name = 'sqlite';
  readonly #file: string;
  readonly #journalMode: string;
  #child: ChildProcess | undefined;
  #next = 1;
  #acknowledged = 0;

  constructor(directory: string, journalMode: string) {
    this.#file = join(directory, `${journalMode}.db`);
    this.#journalMode = journalMode;
  }

  begin(): void {
    const child = spawn('sqlite3', ['-batch', this.#file], { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/' });
    child.on('error', () => {});
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
      feed();
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

/** Commits again and again; a commit that git has reported is there afterwards, and the repository is whole. */
class GitWorker implements Worker {
  readonly name = 'git';
  readonly #directory: string;
  #running: Promise<void> | undefined;
  #stopped = false;
  #acknowledged: string | undefined;
  #count = 0;

  constructor(directory: string) {
    this.#directory = join(directory, 'repository');
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
    this.#running = this.#work().catch(() => {});
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
    }
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async verify(): Promise<string | undefined> {
    if (this.#acknowledged === undefined) {
      // The first commit was under way: git cannot go on with what an interrupted "init" left.
      await rm(this.#directory, { recursive: true, force: true });
      return undefined;
    }
    // Locks of a git that was killed are its user's to remove.
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

async function descriptorsOf(pids: readonly number[]): Promise<number> {
  const counts = await Promise.all(
    pids.map((pid) =>
      readdir(`/proc/${pid}/fd`).then(
        (names) => names.length,
        () => 0,
      ),
    ),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Looks at the daemon every half second until `signal`. */
async function watch(drive: Drive, signal: AbortSignal): Promise<DaemonUse> {
  const use: DaemonUse = { residentMax: 0, descriptorMax: 0 };
  const pids = await drive.processes();
  while (!signal.aborted) {
    use.residentMax = Math.max(use.residentMax, (await useOf(pids)).resident);
    use.descriptorMax = Math.max(use.descriptorMax, await descriptorsOf(pids));
    await wait(500, undefined, { signal }).catch(() => {});
  }
  return use;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** Rejects with {@link SoakError} at the first loss. Answers what was done and seen. */
export async function soak(
  options: SoakOptions,
): Promise<{ readonly rounds: number; readonly operations: number; readonly uses: readonly DaemonUse[] }> {
  const { drive, scratch, durationMs, roundMs, seed, writers, report = () => {} } = options;
  const random = new SeededRandom(seed);
  const began = performance.now();
  await drive.mount();
  const maker = await Probe.start();
  const trees: RandomTree[] = [];
  for (let index = 0; index < writers; index++) {
    const directory = join(drive.directory, `tree-${index}`);
    await maker.ok('mkdir', directory);
    trees.push(new RandomTree({ directory, seed: seed + index }));
  }
  await maker.close();
  const has = async (program: string): Promise<boolean> =>
    execute('which', [program]).then(
      () => true,
      () => false,
    );
  const workers: Worker[] = [];
  if (await has('sqlite3')) workers.push(new SqliteWorker(drive.directory, 'delete'), new SqliteWorker(drive.directory, 'truncate'));
  if (await has('git')) workers.push(new GitWorker(drive.directory));
  report(`at work: ${writers} random trees, ${workers.map(({ name }) => name).join(', ')}`);
  const uses: DaemonUse[] = [];
  let rounds = 0;
  const fail = (message: string, cause?: unknown): never => {
    throw new SoakError(`seed ${seed}, round ${rounds}: ${message}`, { cause });
  };
  const judge = async (what: string): Promise<void> => {
    for (const [index, tree] of trees.entries()) {
      const differences = await tree.settle().catch((cause: Error) => [cause.message]);
      if (differences.length > 0) {
        await writeFile(join(scratch, `model-${index}.json`), tree.save());
        fail(`${what}, tree ${index}:\n${differences.join('\n')}\nthe last operations:\n${tree.history.join('\n')}`);
      }
    }
    for (const worker of workers) {
      const wrong = await worker.verify();
      if (wrong !== undefined) fail(`${what}, ${worker.name}: ${wrong}`);
    }
  };
  try {
    for (; performance.now() - began < durationMs; rounds++) {
      const killing = rounds % 4 !== 3;
      let isOver = false;
      const ended = new AbortController();
      const watching = new AbortController();
      const watched = watch(drive, watching.signal);
      const working = Promise.all(
        trees.map((tree) =>
          tree.run({ signal: ended.signal }).catch((error: unknown) => {
            if (!isOver || !(isGone(error) || error instanceof ProbeGoneError)) fail(`${JSON.stringify(tree.pending)} failed`, error);
          }),
        ),
      );
      for (const worker of workers) worker.begin();
      const early = await Promise.race([working.then(() => true), wait(roundMs / 2 + random.below(roundMs)).then(() => false)]);
      if (early) fail('the writers stopped by themselves');
      if (killing) {
        isOver = true;
        watching.abort();
        await drive.kill();
        ended.abort();
      } else {
        // Under load, and with everything in the store afterwards.
        await drive.flush();
        ended.abort();
      }
      await working;
      for (const worker of workers) await worker.end();
      watching.abort();
      uses.push(await watched);
      for (const tree of trees) await tree.close();
      if (!killing) await drive.unmount();
      await drive.mount();
      await judge(killing ? 'after kill -9' : 'after a flush and an orderly unmount');
      const use = uses[uses.length - 1];
      const operations = trees.reduce((sum, tree) => sum + tree.count, 0);
      report(
        `round ${rounds + 1}, ${Math.round((performance.now() - began) / 1000)} s: ${killing ? 'killed' : 'unmounted'}, all there; ` +
          `${operations} operations, ${Math.round(use.residentMax / 2 ** 20)} MiB, ${use.descriptorMax} descriptors`,
      );
      if (use.residentMax > residentBound) fail(`the daemon took ${use.residentMax} bytes of memory`);
      if (use.descriptorMax > descriptorBound) fail(`the daemon had ${use.descriptorMax} open files`);
    }
    if (uses.length >= trendRounds) {
      const third = Math.floor(uses.length / 3);
      const [first, last] = [uses.slice(1, third), uses.slice(-third)].map((some) => mean(some.map(({ residentMax }) => residentMax)));
      if (last > first * 1.5 + 64 * 2 ** 20) fail(`memory grew from ${first} to ${last} bytes`);
    }
    if (await has('rsync')) {
      const source = join(scratch, 'source');
      await mkdir(join(source, 'deep', 'deeper'), { recursive: true });
      for (let index = 0; index < 200; index++)
        await writeFile(join(source, 'deep', index % 2 === 0 ? `f${index}` : `deeper/f${index}`), random.bytes(random.below(50_000)));
      // rsync leaves a time alone that differs by less than a second.
      for (const path of ['deep/deeper', 'deep', '.']) await utimes(join(source, path), 1_000_000_000, 1_000_000_000);
      const target = join(drive.directory, 'rsync');
      await execute('rsync', ['-a', `${source}/`, target]);
      for (const when of ['at once', 'after kill -9']) {
        const { differences } = await compareTrees(source, target);
        if (differences.length > 0) fail(`rsync, ${when}:\n${differences.join('\n')}`);
        if (when !== 'at once') break;
        await drive.kill();
        await drive.mount();
      }
      report('rsync: all there after kill -9');
    }
    await drive.unmount();
    return { rounds, operations: trees.reduce((sum, tree) => sum + tree.count, 0), uses };
  } finally {
    for (const worker of workers) await worker.end().catch(() => {});
    for (const tree of trees) await tree.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '30' },
      round: { type: 'string', default: '20' },
      seed: { type: 'string', default: String(testSeed()) },
      writers: { type: 'string', default: '2' },
      scratch: { type: 'string', default: tmpdir() },
      store: { type: 'string' },
    },
  });
  await mkdir(values.scratch, { recursive: true });
  const scratch = await mkdtemp(join(values.scratch, 'soak-'));
  const drive = new Drive({ scratch, ...(values.store === undefined ? {} : { store: values.store }) });
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  try {
    await drive.init();
    const { rounds, operations } = await soak({
      drive,
      scratch,
      durationMs: Number(values.minutes) * 60_000,
      roundMs: Number(values.round) * 1000,
      seed: Number(values.seed),
      writers: Number(values.writers),
      report: say,
    });
    await rm(scratch, { recursive: true, force: true });
    say(`${operations} acknowledged operations survived ${rounds} rounds (seed ${values.seed})`);
  } catch (error) {
    say(
      `FAIL  ${error instanceof Error ? `${error.message}\n${error.cause instanceof Error ? error.cause.message : ''}` : String(error)}\nkept: ${scratch}`,
    );
    process.exitCode = 1;
  } finally {
    await drive.destroy();
  }
}
