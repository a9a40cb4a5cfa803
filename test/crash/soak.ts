/**
 * A soak: random trees, SQLite, git and rsync at work on the mounted drive, a `kill -9` of the daemon every 20 seconds
 * (some rounds end in a flush or an orderly unmount instead), everything acknowledged verified after each mount, and
 * the daemon's memory and descriptors watched. At a difference it keeps the scratch folder and prints the seed.
 *
 *   npm run soak -- [--minutes 30] [--round SECONDS] [--seed N] [--writers N] [--scratch DIRECTORY] [--store URL]
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { isGone, RandomTree } from '../model/random-tree.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { Drive, useOf } from '../mount/drive-process.js';
import { Probe, ProbeGoneError } from '../mount/posix-probe.js';
import { GitWorker, SqliteWorker, type Worker } from '../mount/worker.js';
import { RsyncWorker } from './rsync-worker.js';

const execute = promisify(execFile);

export interface SoakOptions {
  /** The drive is created and not mounted; it is left unmounted. */
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

/** The maximum use of a daemon in one round. */
interface DaemonUse {
  residentMax: number;
  descriptorMax: number;
}

/** A daemon with caches of 112 MiB and 64 MiB of dirty data stays well below this; a leaking one exceeds it. */
const residentBound = 900 * 1024 * 1024;
const descriptorBound = 400;
/** The number of rounds before the last ones are compared with the first. */
const trendRounds = 12;

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

/** Samples the daemon every half second until `signal`. */
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

/** Rejects with {@link SoakError} at the first loss. Returns what was done and observed. */
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
  if (await has('rsync')) workers.push(new RsyncWorker(drive.directory, scratch, seed));
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
      const use = uses[uses.length - 1]!;
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
      const meanOf = (some: typeof uses): number => mean(some.map(({ residentMax }) => residentMax));
      const [first, last] = [meanOf(uses.slice(1, third)), meanOf(uses.slice(-third))];
      if (last > first * 1.5 + 64 * 2 ** 20) fail(`memory grew from ${first} to ${last} bytes`);
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
