/**
 * All sequences of two actions, each cut off at every point in every way, in worker processes. This takes too long for
 * the test command (`crash-points.test.ts` samples it, and does all single actions). Power loss takes every subset of
 * what was not synced, torn writes included, where there are at most `--losses` combinations; where there are more, see
 * `SimulatedDisk.powerLosses`. Ends with 1 when anything was lost.
 *
 * npm run crash-points -- [--actions 1|2|3] [--losses 32] [--settle 4] [--workers N] [--seed N] [--setting INDEX]
 * [--sample N]
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { type Action, actions, addTally, CrashBase, type CrashSetting, type CrashTally, emptyTally, tryAllPoints } from '../suite/crash-workload.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

export const crashSettings: readonly CrashSetting[] = [
  { store: 'memory', folds: false, foreign: false },
  { store: 'memory', folds: true, foreign: false },
  { store: 'directory', folds: false, foreign: false },
  { store: 'memory', folds: false, foreign: true },
  { store: 'directory', folds: true, foreign: true },
];

export const settingName = ({ store, folds, foreign }: CrashSetting): string =>
  `${store === 'memory' ? 'a store elsewhere' : 'a store on the same disk'}${folds ? ', checkpoints' : ''}${foreign ? ', another device' : ''}`;

interface Job {
  readonly setting: number;
  /** Indices of actions; every action is tried as the last one. */
  readonly prefix: readonly number[];
}

interface JobRequest extends Job {
  readonly seed: number;
  readonly lossesMax: number;
  readonly settleEvery: number;
}

const bases = new Map<number, CrashBase>();

/** A prefix and then any action: the points of the prefix alone belong to the shorter sequence. */
async function run({ setting, prefix, seed, lossesMax, settleEvery }: JobRequest): Promise<CrashTally> {
  const base = bases.get(setting) ?? (await CrashBase.make(crashSettings[setting]!));
  bases.set(setting, base);
  const tally = emptyTally();
  // A flush that overlaps the next action is a plain flush as the last action.
  for (const last of actions.filter(({ overlaps }) => !overlaps)) {
    const sequence: Action[] = [...prefix.map((index) => actions[index]!), last];
    const overlapsBefore = sequence.findIndex(({ overlaps }) => overlaps);
    // Work in progress continues during the last action.
    const from = overlapsBefore === -1 ? prefix.length : Math.min(overlapsBefore, prefix.length);
    addTally(tally, await tryAllPoints(base, sequence, { seed, from, lossesMax, settleEvery }));
  }
  return tally;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Distributes the jobs among processes; resolves when all are done. */
function runAll(jobs: readonly Job[], request: Omit<JobRequest, keyof Job>, workers: number): Promise<CrashTally[]> {
  const tallies = crashSettings.map(emptyTally);
  let next = 0;
  let done = 0;
  const began = performance.now();
  const worker = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(import.meta.filename, ['--worker'], { execArgv: process.execArgv });
      let job: Job | undefined;
      const give = (): void => {
        job = jobs[next++];
        if (job) child.send({ ...job, ...request });
        else child.disconnect();
      };
      child.on('message', (tally: CrashTally) => {
        if (!job) return;
        addTally(tallies[job.setting]!, tally);
        done++;
        say(
          `${done}/${jobs.length} after ${Math.round((performance.now() - began) / 1000)} s: ${settingName(crashSettings[job.setting]!)}; ` +
            `${[...job.prefix.map((index) => actions[index]!.name), 'any'].join(', ')}: ` +
            `${tally.points} points, ${tally.outcomes} outcomes, ${tally.recoveries} recoveries, ${tally.wrong.length} failures`,
        );
        for (const text of tally.wrong.slice(0, 3)) say(`  FAIL ${text}`);
        give();
      });
      child.on('error', reject);
      child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`a worker ended with ${code} at ${JSON.stringify(job)}`))));
      give();
    });
  return Promise.all(Array.from({ length: Math.min(workers, jobs.length) }, worker)).then(() => tallies);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      worker: { type: 'boolean', default: false },
      actions: { type: 'string', default: '2' },
      losses: { type: 'string', default: '32' },
      settle: { type: 'string', default: '4' },
      workers: { type: 'string', default: String(availableParallelism()) },
      seed: { type: 'string', default: String(testSeed()) },
      setting: { type: 'string' },
      sample: { type: 'string' },
    },
  });
  if (values.worker) {
    process.on('message', (request: JobRequest) => {
      void run(request).then((tally) => process.send?.(tally));
    });
    return;
  }
  const seed = Number(values.seed);
  const length = Number(values.actions);
  let jobs: Job[] = [];
  for (const setting of values.setting === undefined ? crashSettings.keys() : [Number(values.setting)]) {
    let prefixes: number[][] = [[]];
    for (let at = 1; at < length; at++) prefixes = prefixes.flatMap((prefix) => actions.map((_, index) => [...prefix, index]));
    for (const prefix of prefixes) jobs.push({ setting, prefix });
  }
  if (values.sample !== undefined) {
    const random = new SeededRandom(seed);
    const drawn = jobs.map((job) => ({ job, order: random.u32() })).toSorted((a, b) => a.order - b.order);
    jobs = drawn.slice(0, Number(values.sample)).map(({ job }) => job);
  }
  const tallies = await runAll(jobs, { seed, lossesMax: Number(values.losses), settleEvery: Number(values.settle) }, Number(values.workers));
  const total = emptyTally();
  for (const [index, tally] of tallies.entries()) {
    if (tally.points === 0 && tally.wrong.length === 0) continue;
    addTally(total, tally);
    say(
      `${settingName(crashSettings[index]!)}: ${tally.points} points (${tally.sampled} with more losses than are all tried), ${tally.outcomes} outcomes, ` +
        `${tally.recoveries} recoveries, ${tally.wrong.length} failures`,
    );
  }
  say(
    `${total.points} points, ${total.outcomes} outcomes, ${total.recoveries} recoveries, ${total.wrong.length} failures (seed ${seed}, ${length} actions)`,
  );
  if (total.wrong.length > 0) process.exitCode = 1;
}

if (process.argv[1] === import.meta.filename) await main();
