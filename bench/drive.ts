/**
 * Measures how fast the mounted drive is at everyday work, compared with a plain directory and gocryptfs in the same
 * run. It reports ratios, since absolute figures depend on the machine. All three are mounted at the same time and take
 * turns at each row.
 *
 * node dist/bench/drive.js [--targets plain,gocryptfs,sealdrive] [--base CHECKOUT] [--rows NAME,...] [--size MIB]
 * [--files N] [--random N] [--rounds N] [--scratch DIRECTORY] [--tree DIRECTORY] [--json FILE] [--list]
 *
 * `--base` adds the target `base`: another checkout of Sealdrive, whose build takes turns with this one.
 *
 * "stored" rows end when the bytes are safe at their destination: on the plain disk, in gocryptfs's folder, in the
 * store. Cold means: unmounted, mounted again, and the kernel's caches dropped (as root). The contents do not compress,
 * except tar's tree.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { Drive, detach, type ProcessUse, processesWith, runWithInput, useOf } from '../test/mount/drive-process.js';

const run = promisify(execFile);

interface Target {
  readonly name: string;
  /** The folder for the work. */
  readonly directory: string;
  /** Creates and mounts it, once. */
  start(): Promise<void>;
  /** Resolves when everything written is at its destination. */
  settle(): Promise<void>;
  /** Mounts again with cold caches. */
  remount(): Promise<void>;
  /** The processes whose time and memory are measured. */
  processes(): Promise<number[]>;
  stop(): Promise<void>;
}

async function syncFilesystem(path: string): Promise<void> {
  await run('sync', ['-f', path]);
}

async function dropCaches(): Promise<void> {
  await writeFile('/proc/sys/vm/drop_caches', '3\n');
}

function plainTarget(scratch: string): Target {
  const directory = join(scratch, 'plain');
  return {
    name: 'plain',
    directory,
    async start() {
      await mkdir(directory);
    },
    settle: () => syncFilesystem(directory),
    remount: async () => {},
    processes: async () => [],
    stop: async () => {},
  };
}

function gocryptfsTarget(scratch: string): Target {
  const [store, directory, state] = [join(scratch, 'gocryptfs-store'), join(scratch, 'gocryptfs'), join(scratch, 'gocryptfs-state')];
  const environment = { ...process.env, XDG_STATE_HOME: state };
  const mount = (): Promise<string> => runWithInput(['gocryptfs', '-q', store, directory], 'bench passphrase\n', environment);
  return {
    name: 'gocryptfs',
    directory,
    async start() {
      await mkdir(store);
      await mkdir(directory);
      // A cheap key derivation, so that mounting measures the mount.
      await runWithInput(['gocryptfs', '-q', '-init', '-scryptn', '10', store], 'bench passphrase\nbench passphrase\n', environment);
      await mount();
    },
    async settle() {
      await syncFilesystem(directory).catch(() => {});
      await syncFilesystem(store);
    },
    async remount() {
      await run('fusermount', ['-u', directory]).catch(() => run('fusermount3', ['-u', directory]));
      while ((await processesWith(`XDG_STATE_HOME=${state}`)).length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      await mount();
    },
    processes: () => processesWith(`XDG_STATE_HOME=${state}`),
    stop: () => detach(directory),
  };
}

function sealdriveTarget(scratch: string, name = 'sealdrive', program?: string): Target {
  const own = join(scratch, name);
  const drive = new Drive({ scratch: own, ...(program === undefined ? {} : { program }) });
  return {
    name,
    directory: drive.directory,
    async start() {
      await mkdir(own);
      await drive.init();
      await drive.mount();
    },
    async settle() {
      await drive.flush();
      await syncFilesystem(own);
    },
    async remount() {
      await drive.unmount();
      await drive.mount();
    },
    processes: () => drive.processes(),
    stop: () => drive.destroy(),
  };
}

const makers: Readonly<Record<string, (scratch: string) => Target>> = {
  plain: plainTarget,
  gocryptfs: gocryptfsTarget,
  sealdrive: sealdriveTarget,
};

interface Settings {
  readonly sizeMib: number;
  readonly files: number;
  readonly random: number;
  /** An archive of a source tree. */
  readonly archive: string;
  readonly archiveEntries: number;
}

/** The data that a row leaves behind or needs; it is made untimed where it is missing. */
type Fixture = 'big' | 'small' | 'tree' | 'repository';

interface Row {
  readonly name: string;
  readonly title: (settings: Settings) => string;
  readonly needs?: Fixture;
  /** Removed before the row, which makes it. */
  readonly makes?: Fixture;
  readonly removes?: Fixture;
  readonly cold?: boolean;
  /** Runs once before, untimed. */
  readonly warm?: boolean;
  /** The milliseconds of the work, and until it was synced where the work reports that. */
  readonly work: (path: (name: string) => string, settings: Settings) => Promise<number>;
  /** Title of a second figure: the same work until everything is stored. */
  readonly stored?: string;
  /** The number and unit of the rate, for one run. */
  readonly amount: (settings: Settings) => readonly [number, string];
}

async function bench(work: string, path: string, count: number): Promise<number> {
  const { stdout } = await run(process.execPath, [join(import.meta.dirname, 'drive-work.js'), work, path, String(count)]);
  return (JSON.parse(stdout) as { ms: number }).ms;
}

async function timed(command: string, argument: readonly string[], cwd = '/'): Promise<number> {
  const began = performance.now();
  // The output is produced and discarded, as with a fast terminal.
  await new Promise<void>((resolve, reject) => {
    const child = spawn(command, argument, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
    const errors: Buffer[] = [];
    child.stderr.on('data', (part: Buffer) => errors.push(part));
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`${command} ${argument.join(' ')}: ${Buffer.concat(errors).toString().slice(-500)}`)),
    );
  });
  return performance.now() - began;
}

const git = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost', '-c', 'gc.auto=0', '-c', 'core.fsmonitor=false', '-c', 'safe.directory=*'];
const megabytes = ({ sizeMib }: Settings): readonly [number, string] => [sizeMib, 'MiB/s'];
const fileCount = ({ files }: Settings): readonly [number, string] => [files, 'files/s'];
const entryCount = ({ archiveEntries }: Settings): readonly [number, string] => [archiveEntries, 'entries/s'];
const randomCount = ({ random }: Settings): readonly [number, string] => [random, 'ops/s'];
const syncCount = ({ random }: Settings): readonly [number, string] => [Math.ceil(random / 10), 'ops/s'];

const rows: readonly Row[] = [
  {
    name: 'write',
    title: (s) => `sequential write, ${s.sizeMib} MiB`,
    makes: 'big',
    stored: '  until stored',
    amount: megabytes,
    work: (path, s) => bench('write', path('big'), s.sizeMib),
  },
  {
    name: 'read',
    title: () => 'sequential read, cold',
    needs: 'big',
    cold: true,
    amount: megabytes,
    work: (path, s) => bench('read', path('big'), s.sizeMib),
  },
  {
    name: 'read-warm',
    warm: true,
    title: () => 'sequential read, warm',
    needs: 'big',
    amount: megabytes,
    work: (path, s) => bench('read', path('big'), s.sizeMib),
  },
  {
    name: 'random-read',
    title: (s) => `random 4 KiB reads, cold, ${s.random}`,
    needs: 'big',
    cold: true,
    amount: randomCount,
    work: (path, s) => bench('randomRead', path('big'), s.random),
  },
  {
    name: 'random-write',
    title: (s) => `random 4 KiB writes, ${s.random}`,
    needs: 'big',
    stored: '  until stored',
    amount: randomCount,
    work: (path, s) => bench('randomWrite', path('big'), s.random),
  },
  {
    name: 'random-write-sync',
    title: (s) => `random 4 KiB writes, fdatasync each, ${Math.ceil(s.random / 10)}`,
    needs: 'big',
    amount: syncCount,
    work: (path, s) => bench('randomWriteSync', path('big'), Math.ceil(s.random / 10)),
  },
  {
    name: 'create',
    title: (s) => `create ${s.files} files of 4 KiB`,
    makes: 'small',
    stored: '  until stored',
    amount: fileCount,
    work: (path, s) => bench('create', path('small'), s.files),
  },
  {
    name: 'read-files',
    title: () => 'read them, cold',
    needs: 'small',
    cold: true,
    amount: fileCount,
    work: (path, s) => bench('readAll', path('small'), s.files),
  },
  {
    name: 'read-files-warm',
    warm: true,
    title: () => 'read them, warm',
    needs: 'small',
    amount: fileCount,
    work: (path, s) => bench('readAll', path('small'), s.files),
  },
  {
    name: 'remove-files',
    title: () => 'rm -rf of them',
    needs: 'small',
    removes: 'small',
    stored: '  until stored',
    amount: fileCount,
    work: (path) => timed('rm', ['-rf', path('small')]),
  },
  {
    name: 'tar',
    title: (s) => `tar x of a source tree, ${s.archiveEntries} entries`,
    makes: 'tree',
    stored: '  until stored',
    amount: entryCount,
    async work(path, s) {
      await mkdir(path('tree'));
      return timed('tar', ['xf', s.archive, '-C', path('tree')]);
    },
  },
  { name: 'find', title: () => 'find, cold', needs: 'tree', cold: true, amount: entryCount, work: (path) => timed('find', [path('tree')]) },
  { name: 'find-warm', warm: true, title: () => 'find, warm', needs: 'tree', amount: entryCount, work: (path) => timed('find', [path('tree')]) },
  { name: 'ls', title: () => 'ls -lR, cold', needs: 'tree', cold: true, amount: entryCount, work: (path) => timed('ls', ['-lR', path('tree')]) },
  { name: 'ls-warm', warm: true, title: () => 'ls -lR, warm', needs: 'tree', amount: entryCount, work: (path) => timed('ls', ['-lR', path('tree')]) },
  {
    name: 'grep',
    title: () => 'grep -r, cold',
    needs: 'tree',
    cold: true,
    amount: entryCount,
    work: (path) => timed('sh', ['-c', 'grep -rc zzyzx "$0" || true', path('tree')]),
  },
  {
    name: 'git-commit',
    title: () => 'git add and commit of the tree',
    needs: 'tree',
    makes: 'repository',
    amount: entryCount,
    work: (path) => commitTree(path('tree')),
  },
  {
    name: 'git-status',
    title: () => 'git status, cold',
    needs: 'repository',
    cold: true,
    amount: entryCount,
    work: (path) => timed('git', [...git, 'status', '--porcelain'], path('tree')),
  },
  {
    name: 'git-status-warm',
    warm: true,
    title: () => 'git status, warm',
    needs: 'repository',
    amount: entryCount,
    work: (path) => timed('git', [...git, 'status', '--porcelain'], path('tree')),
  },
  {
    name: 'remove-tree',
    title: () => 'rm -rf of the tree',
    needs: 'tree',
    removes: 'tree',
    stored: '  until stored',
    amount: entryCount,
    work: (path) => timed('rm', ['-rf', path('tree')]),
  },
];

async function commitTree(path: string): Promise<number> {
  let ms = await timed('git', [...git, 'init', '-q', '.'], path);
  ms += await timed('git', [...git, 'add', '-A'], path);
  ms += await timed('git', [...git, 'commit', '-q', '-m', 'all'], path);
  return ms;
}

const fixturePath: Readonly<Record<Fixture, string>> = { big: 'big', small: 'small', tree: 'tree', repository: 'tree/.git' };

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function makeFixture(fixture: Fixture, path: (name: string) => string, settings: Settings): Promise<void> {
  if (await exists(path(fixturePath[fixture]))) return;
  if (fixture === 'repository') await makeFixture('tree', path, settings);
  const maker = rows.find((row) => row.makes === fixture);
  await maker?.work(path, settings);
}

interface Sample {
  readonly ms: number;
  readonly storedMs: number | undefined;
  readonly cpuMs: number;
  readonly resident: number;
  readonly residentMax: number;
}

async function measure(row: Row, target: Target, settings: Settings): Promise<Sample> {
  const path = (name: string): string => join(target.directory, name);
  if (row.makes !== undefined) await run('rm', ['-rf', path(fixturePath[row.makes])]);
  if (row.needs !== undefined) await makeFixture(row.needs, path, settings);
  await target.settle();
  if (row.cold) {
    await target.remount();
    await dropCaches();
  }
  // Twice: the kernel keeps what is in a directory from the second listing on.
  if (row.warm) for (let round = 0; round < 2; round++) await row.work(path, settings);
  const processes = await target.processes();
  const before: ProcessUse = await useOf(processes);
  const ms = await row.work(path, settings);
  const settling = performance.now();
  await target.settle();
  const settledMs = performance.now() - settling;
  const after = await useOf(processes);
  return {
    ms,
    storedMs: row.stored === undefined ? undefined : ms + settledMs,
    cpuMs: after.cpuMs - before.cpuMs,
    resident: after.resident,
    residentMax: after.residentMax,
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

interface Figure {
  readonly row: string;
  readonly title: string;
  readonly unit: string;
  /** Results by target. */
  readonly ms: Readonly<Record<string, number>>;
  readonly rate: Readonly<Record<string, number>>;
  readonly cpuMs: Readonly<Record<string, number>>;
  readonly resident: Readonly<Record<string, number>>;
  readonly residentMax: Readonly<Record<string, number>>;
  /** The ratio of speeds: 0.5 is half as fast as the other. */
  readonly ratios: Readonly<Record<string, number>>;
}

function figuresOf(row: Row, samples: ReadonlyMap<string, readonly Sample[]>, settings: Settings): Figure[] {
  const [amount, unit] = row.amount(settings);
  const by = (value: (sample: Sample) => number): Record<string, number> =>
    Object.fromEntries([...samples].map(([name, list]) => [name, median(list.map(value))]));
  const figure = (title: string, ms: Record<string, number>): Figure => {
    const ratios: Record<string, number> = {};
    for (const [a, b] of [
      ['gocryptfs', 'plain'],
      ['sealdrive', 'plain'],
      ['sealdrive', 'gocryptfs'],
      ['sealdrive', 'base'],
    ] as const) {
      const [own, other] = [ms[a], ms[b]];
      if (own !== undefined && other !== undefined) ratios[`${a}/${b}`] = other / own;
    }
    const rate = Object.fromEntries(Object.entries(ms).map(([name, value]) => [name, amount / (value / 1000)]));
    return {
      row: row.name,
      title,
      unit,
      ms,
      rate,
      ratios,
      cpuMs: by((s) => s.cpuMs),
      resident: by((s) => s.resident),
      residentMax: by((s) => s.residentMax),
    };
  };
  const list = [
    figure(
      row.title(settings),
      by((sample) => sample.ms),
    ),
  ];
  if (row.stored !== undefined)
    list.push(
      figure(
        row.stored,
        by((sample) => sample.storedMs ?? 0),
      ),
    );
  return list;
}

function seconds(ms: number | undefined): string {
  return ms === undefined ? '-' : ms < 100 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function rateText(rate: number | undefined, unit: string): string {
  return rate === undefined ? '' : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} ${unit}`;
}

function table(figures: readonly Figure[], targets: readonly string[]): string {
  const ratioNames = ['gocryptfs/plain', 'sealdrive/plain', 'sealdrive/gocryptfs', 'sealdrive/base'].filter((name) =>
    name.split('/').every((part) => targets.includes(part)),
  );
  const daemons = targets.filter((name) => name !== 'plain');
  const head = [
    '',
    ...targets.flatMap((name) => [name, '']),
    ...ratioNames,
    ...daemons.map((name) => `cpu ${name}`),
    ...daemons.map((name) => `rss ${name}`),
  ];
  const lines = figures.map((figure) => [
    figure.title,
    ...targets.flatMap((name) => [seconds(figure.ms[name]), rateText(figure.rate[name], figure.unit)]),
    ...ratioNames.map((name) => (figure.ratios[name] === undefined ? '-' : `${figure.ratios[name].toFixed(2)}x`)),
    ...daemons.map((name) => (figure.title.startsWith(' ') ? '' : seconds(figure.cpuMs[name]))),
    ...daemons.map((name) => (figure.title.startsWith(' ') ? '' : `${Math.round((figure.resident[name] ?? 0) / (1 << 20))} MiB`)),
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    line
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [render(head), ...lines.map(render)].join('\n');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      targets: { type: 'string', default: 'plain,gocryptfs,sealdrive' },
      base: { type: 'string' },
      rows: { type: 'string' },
      size: { type: 'string', default: '1024' },
      files: { type: 'string', default: '10000' },
      random: { type: 'string', default: '10000' },
      rounds: { type: 'string', default: '3' },
      scratch: { type: 'string', default: '/var/tmp' },
      tree: { type: 'string', default: '/usr/include' },
      json: { type: 'string' },
      list: { type: 'boolean', default: false },
    },
  });
  if (values.list) {
    process.stdout.write(`${rows.map((row) => row.name).join('\n')}\n`);
    return;
  }
  const chosen = values.rows?.split(',');
  const unknown = chosen?.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}; --list shows them`);
  const scratch = await mkdtemp(join(values.scratch, 'drive-bench-'));
  const archive = join(scratch, 'tree.tar');
  await run('tar', ['cf', archive, '-C', values.tree, '.']);
  const { stdout: listing } = await run('tar', ['tf', archive], { maxBuffer: 1 << 28 });
  const settings: Settings = {
    sizeMib: Number(values.size),
    files: Number(values.files),
    random: Number(values.random),
    archive,
    archiveEntries: listing.split('\n').length - 1,
  };
  const targets = values.targets.split(',').map((name) => {
    const make = makers[name];
    if (make === undefined) throw new Error(`there is no target ${name}`);
    return make(scratch);
  });
  if (values.base !== undefined) targets.push(sealdriveTarget(scratch, 'base', resolve(values.base, 'bin', 'sealdrive')));
  const stop = async (): Promise<void> => {
    for (const target of targets) await target.stop();
    await rm(scratch, { recursive: true, force: true });
  };
  process.once('SIGINT', () => {
    void stop().finally(() => process.exit(130));
  });
  try {
    for (const target of targets) await target.start();
    const samples = new Map<string, Map<string, Sample[]>>();
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const row of rows) {
        if (chosen !== undefined && !chosen.includes(row.name)) continue;
        const order = targets.map((_, i) => targets[(i + round) % targets.length]).filter((target) => target !== undefined);
        for (const target of order) {
          const sample = await measure(row, target, settings);
          process.stderr.write(
            `round ${round + 1}  ${row.name.padEnd(18)} ${target.name.padEnd(10)} ${seconds(sample.ms)}${sample.storedMs === undefined ? '' : `, stored ${seconds(sample.storedMs)}`}\n`,
          );
          const byTarget = samples.get(row.name) ?? new Map<string, Sample[]>();
          byTarget.set(target.name, [...(byTarget.get(target.name) ?? []), sample]);
          samples.set(row.name, byTarget);
        }
      }
    }
    const figures = rows.flatMap((row) => {
      const byTarget = samples.get(row.name);
      if (byTarget === undefined) return [];
      const inOrder = new Map(targets.map((target) => [target.name, byTarget.get(target.name) ?? []]));
      return figuresOf(row, inOrder, settings);
    });
    process.stdout.write("Ratios are of speed: 0.50x is half as fast. cpu and rss are the daemon's.\n");
    process.stdout.write(
      `${table(
        figures,
        targets.map((target) => target.name),
      )}\n`,
    );
    if (values.json !== undefined) {
      const kernel = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim();
      await writeFile(
        values.json,
        `${JSON.stringify({ node: process.version, kernel, cpu: cpus()[0]?.model, cores: cpus().length, settings, rounds: Number(values.rounds), figures }, undefined, 2)}\n`,
      );
    }
  } finally {
    await stop();
  }
}

await main();
