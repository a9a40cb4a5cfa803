/**
 * Many processes work at random on one drive, with each call checked against a model where there is one. After the
 * unmount the volume is checked with all its content, and mounted by a new device, which must show the same tree. The
 * public tools fsstress and fsx (of xfstests or LTP) take part when their programs are named. It kills nothing: that is
 * crash-loop.ts.
 *
 *   node dist/test/mount/stress.js [--minutes N] [--processes N] [--seed N] [--scratch DIRECTORY] [--store URL]
 *                                  [--fsstress PROGRAM] [--fsx PROGRAM] [--cache-size SIZE]
 */
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomIo } from '../model/random-io.js';
import { RandomTree } from '../model/random-tree.js';
import { testSeed } from '../model/seeded-random.js';
import { Drive } from './drive-process.js';
import { Probe, type ProbeAnswer, RawName, unescapeName } from './posix-probe.js';

export interface StressOptions {
  /** The drive is created and not mounted; it is left unmounted. */
  readonly drive: Drive;
  readonly durationMs: number;
  /** The number of random trees, each worked on by a process of its own; one more process works within files. */
  readonly processes: number;
  readonly seed: number;
  /** A folder for the output of the public tools. */
  readonly scratch: string;
  readonly fsstress?: string | undefined;
  readonly fsx?: string | undefined;
  readonly report?: (line: string) => void;
}

/** The work that was verified: counts of successful calls; `entries` are all names on the drive at the end. */
export interface StressResult {
  readonly treeOperations: number;
  readonly fileOperations: number;
  readonly fsxOperations: number;
  readonly entries: number;
}

export class StressError extends Error {
  override readonly name = 'StressError';
}

const operationsOfOneFile = 3000;
const operationsOfOneFsx = 10_000;
/** A hung tool is a failure. */
const graceMs = 300_000;

/** Runs a public tool to its end; its output is the error when it fails. `output` may be large. */
function runTool(program: string, parameters: readonly string[], cwd: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, [...parameters], { cwd, timeout: timeoutMs, maxBuffer: 1 << 30 }, (error: ExecFileException | null, out, err) => {
      if (error === null) return resolve();
      const why = error.killed === true ? `no end after ${timeoutMs} ms` : `exit ${error.code ?? error.signal}`;
      reject(new StressError(`${program} ${parameters.join(' ')}: ${why}\n${`${out}\n${err}`.trim().slice(-4000)}`));
    });
  });
}

/** The attributes that a remount must keep: everything except the access time and the device number. */
function lasting(answer: ProbeAnswer): string {
  return JSON.stringify(answer, (key, value: unknown) => (key === 'atime' || key === 'dev' || key === 'value' ? undefined : value));
}

/** Every name below `root`, as the probe writes it, and its attributes. Directories are read one after another. */
async function everything(root: string): Promise<Map<string, string>> {
  const probe = await Probe.start();
  try {
    const found = new Map<string, string>();
    const todo: Uint8Array[] = [Buffer.from(root)];
    for (let directory = todo.pop(); directory !== undefined; directory = todo.pop()) {
      const handle = await probe.ok('opendir', new RawName(directory));
      const { entries = [] } = await probe.need('readdir', handle);
      await probe.ok('closedir', handle);
      for (const { name, type } of entries) {
        if (name === '.' || name === '..') continue;
        const path = Buffer.concat([directory, Buffer.from('/'), unescapeName(name)]);
        found.set(path.toString('latin1').slice(root.length), lasting(await probe.call('describe', new RawName(path))));
        if (type === 4) todo.push(path);
      }
    }
    return found;
  } finally {
    await probe.close();
  }
}

function differencesOf(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  const told: string[] = [];
  for (const [path, was] of before)
    if (after.get(path) !== was) told.push(`${JSON.stringify(path)}\n  was ${was}\n  is  ${after.get(path) ?? 'gone'}`);
  for (const path of after.keys()) if (!before.has(path)) told.push(`${JSON.stringify(path)} was not there`);
  return told;
}

/** Rejects with {@link StressError} at the first failure or difference. */
export async function stress(options: StressOptions): Promise<StressResult> {
  const { drive, durationMs, processes, seed, scratch, fsstress, fsx, report = () => {} } = options;
  await drive.mount();
  const began = performance.now();
  const left = (): number => durationMs - (performance.now() - began);
  const maker = await Probe.start();
  const folders = ['files', 'fsx', 'fsstress', ...Array.from({ length: processes }, (_, i) => `tree-${i}`)];
  for (const folder of folders) await maker.ok('mkdir', join(drive.directory, folder));
  await maker.close();

  const trees = Array.from({ length: processes }, (_, i) => new RandomTree({ directory: join(drive.directory, `tree-${i}`), seed: seed + i }));
  let fileOperations = 0;
  let fsxOperations = 0;
  const inFiles = async (): Promise<void> => {
    for (let next = seed; left() > 0; next++)
      fileOperations += await randomIo({
        directory: join(drive.directory, 'files'),
        ops: operationsOfOneFile,
        seed: next,
        durationMs: Math.max(left(), 0),
      });
  };
  const withFsx = async (program: string): Promise<void> => {
    await mkdir(join(scratch, 'fsx'), { recursive: true });
    for (let next = seed; left() > 0; next++) {
      const parameters = ['-q', '-N', String(operationsOfOneFsx), '-S', String(next), '-c', '100', '-P', join(scratch, 'fsx')];
      await runTool(program, [...parameters, join(drive.directory, 'fsx', `file-${next % 4}`)], scratch, durationMs + graceMs);
      fsxOperations += operationsOfOneFsx;
    }
  };
  const withFsstress = (program: string): Promise<void> =>
    runTool(
      program,
      ['-p', String(processes), '-s', String(seed), `--duration=${Math.ceil(durationMs / 1000)}`, '-d', join(drive.directory, 'fsstress')],
      scratch,
      durationMs + graceMs,
    );
  const inTree = (tree: RandomTree): Promise<void> =>
    tree.run({ durationMs }).catch((cause: unknown) => {
      throw new StressError(`seed ${seed}: ${JSON.stringify(tree.pending)} failed; before it:\n${tree.history.join('\n')}`, { cause });
    });
  const verify = async (when: string): Promise<void> => {
    for (const [i, tree] of trees.entries()) {
      const differences = await tree.verify();
      await tree.close();
      if (differences.length > 0) throw new StressError(`seed ${seed}, tree ${i}, ${when}:\n${differences.join('\n')}`);
    }
  };

  try {
    await Promise.all([
      ...trees.map(inTree),
      inFiles(),
      ...(fsx === undefined ? [] : [withFsx(fsx)]),
      ...(fsstress === undefined ? [] : [withFsstress(fsstress)]),
    ]);
    const treeOperations = trees.reduce((sum, tree) => sum + tree.count, 0);
    report(`${treeOperations} operations on trees, ${fileOperations} within files, ${fsxOperations} of fsx: no error`);
    await verify('before the unmount');
    const before = await everything(drive.directory);
    await drive.unmount();
    await drive.check();
    report('examined with all content: nothing found');
    const warnings = await drive.warnings();
    if (warnings.length > 0) throw new StressError(`seed ${seed}: the daemon logged\n${warnings.join('\n')}`);
    await drive.forget();
    await drive.mount();
    await verify('on a device that knew nothing');
    const differences = differencesOf(before, await everything(drive.directory));
    if (differences.length > 0)
      throw new StressError(`seed ${seed}: ${differences.length} names differ after the remount:\n${differences.slice(0, 20).join('\n')}`);
    await drive.unmount();
    report(`${before.size} names are the same on a device that knew nothing`);
    return { treeOperations, fileOperations, fsxOperations, entries: before.size };
  } finally {
    for (const tree of trees) await tree.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      processes: { type: 'string', default: '4' },
      seed: { type: 'string', default: String(testSeed()) },
      scratch: { type: 'string', default: tmpdir() },
      store: { type: 'string' },
      fsstress: { type: 'string' },
      fsx: { type: 'string' },
      'cache-size': { type: 'string' },
    },
  });
  await mkdir(values.scratch, { recursive: true });
  const scratch = await mkdtemp(join(values.scratch, 'stress-'));
  const cacheSize = values['cache-size'];
  const drive = new Drive({
    scratch,
    withKeyFile: true,
    ...(values.store === undefined ? {} : { store: values.store }),
    ...(cacheSize === undefined ? {} : { mountOptions: ['--cache-size', cacheSize] }),
  });
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  try {
    await drive.init();
    say(`seed ${values.seed}, ${values.minutes} minutes, ${values.processes} processes`);
    await stress({
      drive,
      durationMs: Number(values.minutes) * 60_000,
      processes: Number(values.processes),
      seed: Number(values.seed),
      scratch,
      fsstress: values.fsstress,
      fsx: values.fsx,
      report: say,
    });
    await rm(scratch, { recursive: true, force: true });
  } catch (error) {
    const told = error instanceof Error ? `${error.message}\n${error.cause instanceof Error ? error.cause.message : ''}` : String(error);
    await writeFile(join(scratch, 'failure'), told).catch(() => {});
    say(`FAIL  ${told}\nkept: ${scratch}`);
    process.exitCode = 1;
  } finally {
    await drive.destroy();
  }
}
