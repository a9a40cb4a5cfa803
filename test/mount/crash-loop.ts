/**
 * Kills the daemon (kill -9) at random moments under load, mounts again, and verifies that everything acknowledged is
 * there: the promise "close returned: survives kill -9 of the daemon" of doc/semantics.md, "Durability", and that no
 * fsck is needed. Power loss is not tried here. At a difference it keeps the scratch folder and the model's state, and
 * prints the seed.
 *
 *   node dist/test/mount/crash-loop.js [--rounds N] [--seed N] [--writers N] [--time MS]
 *                                      [--scratch DIRECTORY] [--store URL]
 *                                      [--without OPERATION,...]
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isGone, RandomTree, type RandomTreeOptions } from '../model/random-tree.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { Drive } from './drive-process.js';
import { Probe, ProbeGoneError } from './posix-probe.js';

export interface CrashLoopOptions {
  readonly drive: Drive;
  readonly rounds: number;
  readonly seed: number;
  /** The number of trees, each worked on by a process of its own. */
  readonly writers?: number;
  /** Longest time between a mount and the kill. */
  readonly roundMs?: number;
  /** Every nth round has an orderly unmount and mount too (0: never). */
  readonly orderlyEvery?: number;
  /** Operations that are left out. */
  readonly without?: RandomTreeOptions['without'];
  readonly report?: (line: string) => void;
}

export class CrashLoopError extends Error {
  override readonly name = 'CrashLoopError';
  /** The writers' models with what was acknowledged, for `random-tree --verify`. */
  readonly models: readonly string[];
  constructor(message: string, models: readonly string[], options?: ErrorOptions) {
    super(message, options);
    this.models = models;
  }
}

/**
 * The drive must be created and not mounted; it is left unmounted. Resolves with the number of operations that were
 * acknowledged and found again; rejects with {@link CrashLoopError} at the first loss.
 */
export async function crashLoop(options: CrashLoopOptions): Promise<number> {
  const { drive, rounds, seed, writers = 2, roundMs = 3000, orderlyEvery = 5, without = [], report = () => {} } = options;
  const random = new SeededRandom(seed);
  await drive.mount();
  const maker = await Probe.start();
  const trees: RandomTree[] = [];
  for (let i = 0; i < writers; i++) {
    const directory = join(drive.directory, `tree-${seed}-${i}`);
    await maker.ok('mkdir', directory);
    trees.push(new RandomTree({ directory, seed: seed + i, without }));
  }
  await maker.close();
  const fail = (message: string, cause?: unknown): never => {
    throw new CrashLoopError(
      message,
      trees.map((tree) => tree.save()),
      { cause },
    );
  };
  const judge = async (what: string, round: number): Promise<void> => {
    for (const [i, tree] of trees.entries()) {
      const differences = await tree.settle().catch((cause: Error) => [cause.message]);
      if (differences.length === 0) continue;
      fail(`seed ${seed}, round ${round}, writer ${i}, ${what}:\n${differences.join('\n')}\nthe last operations:\n${tree.history.join('\n')}`);
    }
  };
  const close = async (): Promise<void> => {
    for (const tree of trees) await tree.close();
  };
  try {
    for (let round = 0; round < rounds; round++) {
      let isKilled = false;
      const ended = new AbortController();
      const before = trees.reduce((sum, tree) => sum + tree.count, 0);
      const working = trees.map((tree) =>
        tree.run({ signal: ended.signal }).catch((error: unknown) => {
          if (!isKilled || !(isGone(error) || error instanceof ProbeGoneError)) {
            fail(`seed ${seed}, round ${round}: ${JSON.stringify(tree.pending)} failed ${isKilled ? 'after' : 'before'} the kill`, error);
          }
        }),
      );
      const stopped = Promise.all(working);
      // A failure before the kill ends the round at once.
      const early = await Promise.race([stopped.then(() => true), wait(random.below(roundMs)).then(() => false)]);
      if (early) fail(`seed ${seed}, round ${round}: the writers stopped by themselves`);
      const isFlushing = random.chance(0.4);
      const flushing = isFlushing ? drive.flush().catch(() => {}) : undefined;
      if (isFlushing) await wait(random.below(300));
      isKilled = true;
      await drive.kill();
      ended.abort();
      await stopped;
      await flushing;
      await close();
      const mounting = performance.now();
      await drive.mount();
      const mountedMs = Math.round(performance.now() - mounting);
      await judge(`after kill -9${isFlushing ? ' during a flush' : ''}`, round);
      const acknowledged = trees.reduce((sum, tree) => sum + tree.count, 0) - before;
      report(
        `round ${round + 1}: ${acknowledged} operations, killed${isFlushing ? ' during a flush' : ''}, mounted again in ${mountedMs} ms, all there`,
      );
      if (orderlyEvery > 0 && round % orderlyEvery === orderlyEvery - 1) {
        await close();
        await drive.unmount();
        await drive.mount();
        await judge('after an orderly unmount and mount', round);
        report(`round ${round + 1}: all there after an orderly unmount`);
      }
    }
    await close();
    await drive.unmount();
    return trees.reduce((sum, tree) => sum + tree.count, 0);
  } finally {
    await close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '20' },
      seed: { type: 'string', default: String(testSeed()) },
      writers: { type: 'string', default: '2' },
      time: { type: 'string', default: '3000' },
      scratch: { type: 'string', default: tmpdir() },
      store: { type: 'string' },
      without: { type: 'string', default: '' },
    },
  });
  await mkdir(values.scratch, { recursive: true });
  const scratch = await mkdtemp(join(values.scratch, 'crash-loop-'));
  const drive = new Drive({ scratch, ...(values.store === undefined ? {} : { store: values.store }) });
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  try {
    await drive.init();
    const count = await crashLoop({
      drive,
      rounds: Number(values.rounds),
      seed: Number(values.seed),
      writers: Number(values.writers),
      roundMs: Number(values.time),
      without: values.without.split(',') as NonNullable<RandomTreeOptions['without']>,
      report: say,
    });
    await rm(scratch, { recursive: true, force: true });
    say(`${count} acknowledged operations survived ${values.rounds} crashes (seed ${values.seed})`);
  } catch (error) {
    if (error instanceof CrashLoopError) {
      for (const [i, model] of error.models.entries()) await writeFile(join(scratch, `model-${i}.json`), model);
    }
    say(
      `FAIL  ${error instanceof Error ? `${error.message}\n${error.cause instanceof Error ? error.cause.message : ''}` : String(error)}\nkept: ${scratch}`,
    );
    process.exitCode = 1;
  } finally {
    await drive.destroy();
  }
}
