/**
 * Continuous file work on a mounted drive, with another device at work beside it, while its store and the network to it
 * fail again and again (test/support/random-faults.ts) and the daemon is killed now and then. Writes must continue,
 * cached content must stay readable, and nothing may hang longer than `--timeout`. At the end a new device with a
 * healthy connection must find exactly what was acknowledged, and `check --data` must find nothing wrong.
 *
 *   npm run faults -- --store s3|webdav|sftp|http [--minutes 10] [--seed N] [--fault SECONDS]
 *                 [--round SECONDS] [--scratch DIRECTORY]
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { randomIo } from '../model/random-io.js';
import { isGone, RandomTree } from '../model/random-tree.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { RandomFaults } from '../support/random-faults.js';
import { type StoreServer, startStoreServer, storeKindsOf } from '../support/store-server.js';
import { compareTrees } from './compare-trees.js';
import { Drive, useOf } from './drive-process.js';
import { Probe, ProbeCallError, ProbeGoneError } from './posix-probe.js';
import { GitWorker, SqliteWorker, type Worker } from './worker.js';

const execute = promisify(execFile);
const mib = 1 << 20;

export interface FaultRunOptions {
  readonly server: StoreServer;
  /** On another filesystem than the drive; the caller removes it. */
  readonly scratch: string;
  readonly durationMs: number;
  /** Time between two kills of the daemon. */
  readonly roundMs: number;
  readonly lastsMsMax: number;
  /** The `--timeout` of the mounts. */
  readonly timeoutMs: number;
  readonly seed: number;
  readonly report?: (line: string) => void;
  /** Ends it early, as a failure that cleans up. */
  readonly signal?: AbortSignal;
}

export interface FaultRunResult {
  /** Operations of the random trees that were acknowledged and found at the end. */
  readonly operations: number;
  readonly faults: number;
  readonly kills: number;
  /** Reads that had to go to the store: those answered, and those refused with ETIMEDOUT. */
  readonly remoteReads: number;
  readonly remoteReadsRefused: number;
  /** The longest call: of browsing and saving files, and of remote reads. */
  readonly localMsMax: number;
  readonly remoteMsMax: number;
  readonly residentMax: number;
}

export class FaultRunError extends Error {
  override readonly name = 'FaultRunError';
}

/**
 * A daemon with caches of 112 MiB, 64 MiB of dirty data and 128 MiB of uncommitted operations, twice while they are
 * rebased, stays below this.
 */
const residentBound = 640 * mib;
/** The delay that a loaded machine may add to `--timeout`. */
const slackMs = 10_000;
const staticFiles = 12;
const staticSize = 2 * mib;

/** Browses and saves small files, like a file manager and an editor: every call is answered, and soon. */
class FileManager {
  #msMax = 0;
  readonly #directory: string;
  readonly #probe: Probe;

  constructor(directory: string, probe: Probe) {
    this.#directory = directory;
    this.#probe = probe;
  }

  get msMax(): number {
    return this.#msMax;
  }

  async run(signal: AbortSignal): Promise<void> {
    const probe = this.#probe;
    const place = join(this.#directory, 'desk');
    for (let number = 0; !signal.aborted; number++) {
      const steps: readonly (() => Promise<unknown>)[] = [
        async () => {
          const handle = await probe.ok('opendir', this.#directory);
          await probe.need('readdir', handle);
          await probe.ok('closedir', handle);
        },
        () => probe.stat('lstat', place),
        () => probe.writeFile(join(place, 'draft'), `text ${number}\n`.repeat(1 + (number % 300))),
        () => probe.ok('rename', join(place, 'draft'), join(place, `letter-${number % 20}`)),
        async () => {
          const text = await probe.readFile(join(place, `letter-${number % 20}`));
          if (text.toString() !== `text ${number}\n`.repeat(1 + (number % 300))) throw new FaultRunError(`letter ${number} reads differently`);
        },
      ];
      for (const step of steps) {
        const began = performance.now();
        await step();
        this.#msMax = Math.max(this.#msMax, performance.now() - began);
      }
      await wait(200, undefined, { signal }).catch(() => {});
    }
  }
}

/** Another device, with a tiny cache: its reads go to the store, and are right or fail. */
class RemoteReader {
  #answered = 0;
  #refused = 0;
  #msMax = 0;
  readonly #paths: readonly string[];
  readonly #contents: readonly Buffer[];
  readonly #probe: Probe;
  readonly #random: SeededRandom;

  constructor(paths: readonly string[], contents: readonly Buffer[], probe: Probe, random: SeededRandom) {
    this.#paths = paths;
    this.#contents = contents;
    this.#probe = probe;
    this.#random = random;
  }

  get answered(): number {
    return this.#answered;
  }

  get refused(): number {
    return this.#refused;
  }

  get msMax(): number {
    return this.#msMax;
  }

  async run(signal: AbortSignal): Promise<void> {
    const [probe, random] = [this.#probe, this.#random];
    while (!signal.aborted) {
      const index = random.below(this.#paths.length);
      const offset = random.below(staticSize / 65536) * 65536;
      const began = performance.now();
      const error = await this.#read(index, offset).catch((cause: unknown) => {
        if (cause instanceof ProbeCallError) return cause.code;
        throw cause;
      });
      this.#msMax = Math.max(this.#msMax, performance.now() - began);
      if (error === undefined) this.#answered++;
      else if (error === 'ETIMEDOUT') this.#refused++;
      else throw new FaultRunError(`a read from the store failed with ${error}`);
      await wait(20 + random.below(100), undefined, { signal }).catch(() => {});
    }
    await probe.close();
  }

  async #read(index: number, offset: number): Promise<undefined> {
    // Past the kernel's cache.
    const fd = await this.#probe.ok('open', this.#paths[index] ?? '', 'O_RDONLY|O_DIRECT');
    try {
      const found = await this.#probe.readAt(fd, 65536, offset);
      const expected = this.#contents[index]?.subarray(offset, offset + 65536);
      if (!expected || !found.equals(expected)) throw new FaultRunError(`file ${index} of the other device differs at ${offset}`);
    } finally {
      await this.#probe.call('close', fd);
    }
  }
}

/** Copies a tree again and again with cp -a, keeping the last few. */
class Copier implements Worker {
  readonly name = 'cp';
  readonly #source: string;
  readonly #directory: string;
  readonly #finished: string[] = [];
  #count = 0;
  #failure: string | undefined;
  #stopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(source: string, directory: string) {
    this.#source = source;
    this.#directory = directory;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  begin(): void {
    this.#stopped = false;
    this.#failure = undefined;
    this.#running = this.#work().catch((error: Error & { readonly stderr?: string }) => {
      this.#failure = `${error.message} ${error.stderr ?? ''}`.slice(0, 1000);
    });
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      const target = join(this.#directory, `copy-${this.#count++}`);
      await execute('cp', ['-a', this.#source, target], { cwd: '/' });
      this.#finished.push(target);
      if (this.#finished.length > 4) await execute('rm', ['-rf', this.#finished[0]!], { cwd: '/' }).then(() => this.#finished.shift());
      await wait(3000);
    }
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async verify(): Promise<string | undefined> {
    // The oldest may have been half removed when the drive went away.
    for (const target of this.#finished.slice(-4)) {
      const { differences } = await compareTrees(this.#source, target);
      if (differences.length > 0) return `${target}:\n${differences.join('\n')}`;
    }
    return undefined;
  }
}

/** Random I/O on one file, repeated until the drive goes away; each read is compared at once. */
async function ioOn(probe: Probe, directory: string, seed: number, signal: AbortSignal): Promise<void> {
  for (let round = 0; !signal.aborted; round++) {
    const place = join(directory, `io-${seed}-${round}`);
    await probe.ok('mkdir', place);
    await randomIo({ directory: place, ops: 150, seed: seed + round, sizeMax: 1 * mib });
    await wait(500, undefined, { signal }).catch(() => {});
  }
}

/**
 * Runs this many operations, then pauses. At full speed two outages of a minute would fill the queue (100,000
 * operations), and writers would be refused.
 */
async function workAtPace(tree: RandomTree, ops: number, pauseMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await tree.run({ ops, signal });
    await wait(pauseMs, undefined, { signal }).catch(() => {});
  }
}

/**
 * Calls that need the store may be refused: then they did not happen, or only in part, and everything acknowledged
 * before is there as soon as the store is.
 */
const isRefused = (error: unknown): boolean => error instanceof ProbeCallError && error.code === 'ETIMEDOUT';

/**
 * As {@link workAtPace}, on a device with a tiny cache, which must read a page from the store to change a part of it.
 */
async function workUnlessRefused(tree: RandomTree, ops: number, pauseMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await workAtPace(tree, ops, pauseMs, signal);
    } catch (error) {
      if (!isRefused(error)) throw error;
      // This closes its descriptors too.
      await tree.close();
      const differences = await settleOnceAnswered(tree, signal);
      if (differences.length > 0) throw new FaultRunError(`after a refusal:\n${differences.join('\n')}`, { cause: error });
    }
  }
}

async function settleOnceAnswered(tree: RandomTree, signal: AbortSignal): Promise<string[]> {
  while (!signal.aborted) {
    try {
      return await tree.settle();
    } catch (error) {
      if (!isRefused(error)) throw error;
    }
  }
  return [];
}

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Rejects when the run is to end; never resolves. */
function untilAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = (): void => reject(new FaultRunError('it was told to end'));
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Rejects with {@link FaultRunError} at the first loss, refused write or hang. */
export async function faultRun(options: FaultRunOptions): Promise<FaultRunResult> {
  const { server, scratch, durationMs, roundMs, lastsMsMax, timeoutMs, seed, report = () => {} } = options;
  const random = new SeededRandom(seed);
  const proxy = await FaultProxy.start(server.port, random);
  const { environment } = server;
  const mountOptions = ['--timeout', `${timeoutMs}ms`];
  const [aside, around] = [await server.location('faults'), await server.location('faults', proxy.port)];
  const makeDrive = async (name: string, store: string, more: readonly string[] = []): Promise<Drive> => {
    const folder = join(scratch, name);
    await mkdir(folder, { recursive: true });
    if (name !== 'one') await copyFile(join(scratch, 'one', 'key'), join(folder, 'key'));
    // The tree is at one place, whatever it is mounted from, since the models know its paths.
    const directory = name === 'other' ? join(folder, 'mount') : join(scratch, 'mount');
    return new Drive({ scratch: folder, directory, store, environment, withKeyFile: true, mountOptions: [...mountOptions, ...more] });
  };
  const drives: Drive[] = [];
  const began = performance.now();
  const clock = (): string => `${Math.round((performance.now() - began) / 1000)} s`;
  const fail = (message: string, cause?: unknown): never => {
    const reason = cause instanceof Error ? `: ${cause.message}` : '';
    throw new FaultRunError(`seed ${seed}, after ${clock()}: ${message}${reason}`, { cause });
  };
  let [kills, residentMax, localMsMax] = [0, 0, 0];
  /** It ends everything in progress: the faults, the work and the watching. */
  const all = new AbortController();
  const within = (own: AbortController): AbortSignal => AbortSignal.any([all.signal, own.signal]);
  let storm: Promise<void> = Promise.resolve();
  const probes: Probe[] = [];
  const startProbe = async (): Promise<Probe> => {
    const probe = await Probe.start();
    probes.push(probe);
    return probe;
  };
  const trees: RandomTree[] = [];
  /** The random trees of the other device. */
  const others: RandomTree[] = [];
  const workers: Worker[] = [];
  try {
    const drive = await makeDrive('one', around);
    drives.push(drive);
    await drive.init();
    await drive.mount();
    const maker = await startProbe();
    const contents: Buffer[] = [];
    await maker.ok('mkdir', join(drive.directory, 'static'));
    await maker.ok('mkdir', join(drive.directory, 'desk'));
    for (let index = 0; index < staticFiles; index++) {
      const bytes = random.bytes(staticSize);
      contents.push(bytes);
      await maker.writeFile(join(drive.directory, 'static', `${index}`), bytes);
    }
    for (let index = 0; index < 2; index++) {
      const directory = join(drive.directory, `tree-${index}`);
      await maker.ok('mkdir', directory);
      trees.push(new RandomTree({ directory, seed: seed + index }));
    }
    await maker.close();
    const source = join(scratch, 'source');
    await mkdir(source);
    const sourceTree = new RandomTree({ directory: source, seed: seed + 2, sizeMax: 200_000 });
    await sourceTree.run({ ops: 150 });
    await sourceTree.close();
    workers.push(new Copier(source, drive.directory), new GitWorker(drive.directory, 500));
    workers.push(new SqliteWorker(drive.directory, 'delete', 200), new SqliteWorker(drive.directory, 'wal', 100));
    await drive.flush();
    const other = await makeDrive('other', around, ['--cache-size', '4M', '--device-name', 'other']);
    drives.push(other);
    await other.mount();
    const otherPaths = contents.map((_, index) => join(other.directory, 'static', `${index}`));
    const reader = new RemoteReader(otherPaths, contents, await startProbe(), random);
    // Its commits race with those of the first device for the same numbers, but never for the same files.
    const otherTree = new RandomTree({ directory: join(other.directory, 'tree-other'), seed: seed + 3, sizeMax: 50_000, nodeMax: 60 });
    others.push(otherTree);
    const otherMaker = await startProbe();
    await otherMaker.ok('mkdir', join(other.directory, 'tree-other'));
    await otherMaker.close();
    const otherEnd = new AbortController();
    let otherFailure: unknown;
    const otherWorking = Promise.all([reader.run(within(otherEnd)), workUnlessRefused(otherTree, 5, 500, within(otherEnd))]).catch(
      (error: unknown) => {
        otherFailure = error;
      },
    );
    const faults = new RandomFaults({ server, proxy, random, lastsMsMax, report: (fault) => report(`${clock()}: ${fault}`) });
    const watched = (async () => {
      while (!all.signal.aborted) {
        for (const one of [drive, other]) residentMax = Math.max(residentMax, (await useOf(await one.processes())).resident);
        await wait(1000, undefined, { signal: all.signal }).catch(() => {});
      }
    })();

    /** Verifies, without faults, that everything acknowledged is there in the current mount. */
    const judge = async (what: string): Promise<void> => {
      for (const [index, tree] of trees.entries()) {
        const differences = await tree.settle().catch((cause: Error) => [cause.message]);
        if (differences.length === 0) continue;
        await writeFile(join(scratch, `model-${index}.json`), tree.save());
        fail(`${what}, tree ${index}:\n${differences.join('\n')}\nthe last operations:\n${tree.history.join('\n')}`);
      }
      for (const worker of workers) {
        const wrong = await worker.verify();
        if (wrong !== undefined) fail(`${what}, ${worker.name}: ${wrong}`);
      }
    };

    for (let round = 0; round === 0 || performance.now() - began < durationMs; round++) {
      const [ended, calm] = [new AbortController(), new AbortController()];
      let isOver = false;
      const excuse = (what: string) => (error: unknown) => {
        const causes = error instanceof Error ? [error, error.cause] : [error];
        const gone = causes.some((one) => isGone(one) || one instanceof ProbeGoneError);
        if (!isOver || !gone) fail(`${what} failed`, error);
      };
      const [desk, table] = [await startProbe(), await startProbe()];
      const manager = new FileManager(drive.directory, desk);
      storm = faults.run(within(calm));
      const working = Promise.all(
        [
          ...trees.map((tree) => workAtPace(tree, 10, 200, within(ended))),
          manager.run(within(ended)),
          ioOn(table, drive.directory, seed + 1000 * (round + 1), within(ended)),
        ].map((work, index) => work.catch(excuse(index < trees.length ? `tree ${index} (${JSON.stringify(trees[index]?.pending)})` : 'work'))),
      );
      for (const worker of workers) worker.begin();
      const lastsMs = Math.max(1000, Math.min(roundMs, durationMs - (performance.now() - began)));
      const outcome = await Promise.race([
        working.then(() => 'stopped'),
        storm.then(() => 'calm'),
        untilAborted(options.signal),
        wait(roundMs / 2 + random.below(Math.ceil(lastsMs / 2))).then(() => 'over'),
      ]);
      if (outcome !== 'over') fail(`the work or the faults ended by itself (${outcome})`);
      for (const { name, failure } of workers) if (failure !== undefined) fail(`${name}: ${failure}`);
      if (otherFailure !== undefined) fail('the other device', otherFailure);
      const killing = random.chance(0.7);
      isOver = killing;
      // Also during a fault.
      if (killing) await drive.kill();
      ended.abort();
      await working;
      for (const worker of workers) await worker.end();
      await desk.close();
      await table.close();
      localMsMax = Math.max(localMsMax, manager.msMax);
      calm.abort();
      await storm;
      if (killing) {
        kills++;
        for (const tree of trees) await tree.close();
        await drive.mount();
        await judge('after kill -9');
      }
      for (const tree of trees) await tree.close();
      const operations = trees.reduce((sum, tree) => sum + tree.count, 0);
      report(
        `${clock()}: round ${round + 1} ${killing ? 'ended in kill -9, all there' : 'ended'}; ${operations} operations, ${reader.answered} remote reads and ${reader.refused} refused, ` +
          `longest calls ${Math.round(localMsMax)} and ${Math.round(reader.msMax)} ms, ${Math.round(residentMax / mib)} MiB`,
      );
      if (localMsMax > timeoutMs + slackMs) fail(`a call that needs no store took ${localMsMax} ms`);
      if (reader.msMax > timeoutMs + slackMs) fail(`a read from the store took ${reader.msMax} ms`);
      if (residentMax > residentBound) fail(`a daemon took ${residentMax} bytes of memory`);
    }
    otherEnd.abort();
    await otherWorking;
    if (otherFailure !== undefined) fail('the other device', otherFailure);
    await otherTree.close();
    for (const one of [drive, other]) await one.flushPatiently();
    all.abort();
    await watched;
    await drive.unmount();
    await other.unmount();
    for (const one of [drive, other]) {
      // No file is changed by both devices, so there are no conflicts.
      const bad = (await one.warnings()).filter((line) => /"level":"error"|another device changed/.test(line));
      if (bad.length > 0) fail(`the daemon logged: ${bad.slice(0, 5).join('\n')}`);
    }
    report(`${clock()}: everything is in the store; a device that knows nothing looks at it`);
    const fresh = await makeDrive('fresh', aside);
    drives.push(fresh);
    await fresh.mount();
    await judge('on a device that knows nothing');
    const otherSeen = new RandomTree({ directory: join(fresh.directory, 'tree-other'), seed });
    trees.push(otherSeen);
    otherSeen.restore(otherTree.save());
    const otherDifferences = await otherSeen.settle();
    if (otherDifferences.length > 0) fail(`what the other device did:\n${otherDifferences.join('\n')}`);
    for (const tree of trees) await tree.close();
    const looker = await startProbe();
    for (const [index, bytes] of contents.entries()) {
      const found = await looker.readFile(join(fresh.directory, 'static', `${index}`));
      if (digestOf(found) !== digestOf(bytes)) fail(`static file ${index} differs`);
    }
    await looker.close();
    await fresh.unmount();
    await fresh.check();
    return {
      operations: [...trees, otherTree].reduce((sum, tree) => sum + tree.count, 0),
      faults: faults.count,
      kills,
      remoteReads: reader.answered,
      remoteReadsRefused: reader.refused,
      localMsMax: Math.round(localMsMax),
      remoteMsMax: Math.round(reader.msMax),
      residentMax,
    };
  } finally {
    all.abort();
    await storm.catch(() => {});
    for (const drive of drives) await drive.destroy();
    for (const probe of probes) await probe.close();
    for (const worker of workers) await worker.end().catch(() => {});
    for (const tree of [...trees, ...others]) await tree.close();
    await proxy.stop();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      store: { type: 'string', default: 's3' },
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(testSeed()) },
      fault: { type: 'string', default: '60' },
      round: { type: 'string', default: '90' },
      timeout: { type: 'string', default: '30' },
      scratch: { type: 'string', default: tmpdir() },
    },
  });
  await mkdir(values.scratch, { recursive: true });
  const interrupted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort());
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  for (const kind of storeKindsOf(values.store)) {
    const scratch = await mkdtemp(join(values.scratch, `faults-${kind}-`));
    const server = await startStoreServer(kind, join(scratch, 'server'));
    try {
      const result = await faultRun({
        server,
        scratch,
        durationMs: Number(values.minutes) * 60_000,
        roundMs: Number(values.round) * 1000,
        lastsMsMax: Number(values.fault) * 1000,
        timeoutMs: Number(values.timeout) * 1000,
        seed: Number(values.seed),
        report: say,
        signal: interrupted.signal,
      });
      await server.stop();
      await rm(scratch, { recursive: true, force: true });
      say(`${kind}: the tree equals the model, check --data is clean (seed ${values.seed}): ${JSON.stringify(result)}`);
    } catch (error) {
      say(`FAIL  ${kind}: ${error instanceof Error ? error.message : String(error)}\nkept: ${scratch}`);
      process.exitCode = 1;
    } finally {
      server.hold(false);
      await server.stop();
    }
  }
}
