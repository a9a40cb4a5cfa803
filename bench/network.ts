/**
 * Measures how well the drive uses a network, compared with `rclone mount` of a crypt remote on the same S3 gateway,
 * and with a plain client of it (`raw`), which shows what link and gateway allow. Ceph's gateway runs on this machine;
 * the link is bench/network-link.ts. It reports times, requests and ratios. Cold means that this machine has nothing
 * but the keys.
 *
 * node dist/bench/network.js [--targets raw,rclone,sealdrive] [--files N] [--size MIB] [--rounds N] [--round-trip MS]
 * [--rate MBIT] [--rows NAME,...] [--scratch DIRECTORY] [--json FILE] [--trace DIRECTORY]
 */

import type { ChildProcess } from 'node:child_process';
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Sealed } from '../src/base/brand.js';
import { systemRandom } from '../src/crypto/system-random.js';
import { systemDisk } from '../src/disk/system-disk.js';
import { openStore } from '../src/store/open-store.js';
import { useOf } from '../test/mount/drive-process.js';
import { Rgw } from '../test/support/rgw.js';
import type { LinkUse } from './network-link.js';
import { type NetworkTarget, rcloneFlags, rcloneTarget, sealdriveTarget, timed } from './network-target.js';

const run = promisify(execFile);
const mib = 1 << 20;

/** The client of the link's process. */
class Link {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(serverPort: number, roundTripMs: number, megabits: number): Promise<Link> {
    const child = fork(join(import.meta.dirname, 'network-link.js'), [serverPort, roundTripMs, megabits].map(String));
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new Link(child, port);
  }

  /** Returns the traffic since the last call. */
  take(): Promise<LinkUse> {
    return this.#ask('take');
  }

  async hasCarriedPut(): Promise<boolean> {
    return ((await this.#ask('look')).requests['PUT'] ?? 0) > 0;
  }

  async #ask(what: 'take' | 'look'): Promise<LinkUse> {
    const answer = once(this.#child, 'message');
    this.#child.send(what);
    const [use] = (await answer) as [LinkUse];
    return use;
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.disconnect();
    await ended;
  }
}

interface Settings {
  readonly files: number;
  readonly sizeMib: number;
  readonly mediumFiles: number;
  readonly bytesPerMs: number;
}

interface Sample {
  /** The time that the application waited. */
  readonly ms: number;
  /** The time until everything was in the store, where something was written. */
  readonly storedMs: number | undefined;
  readonly use: LinkUse;
  /** Memory and processor time of the daemon. */
  readonly resident: number;
  readonly cpuMs: number;
}

interface Row {
  readonly name: string;
  readonly title: (settings: Settings) => string;
  /** The mount before the row: a cold one, the existing one, or none (the row mounts). */
  readonly from: 'cold' | 'mounted' | 'forgotten' | 'unmounted';
  readonly isWriting?: boolean;
  readonly work: (target: NetworkTarget, path: (name: string) => string, settings: Settings) => Promise<number>;
  /** Bytes of content that had to go over the link, to show its utilization. */
  readonly bytes?: (settings: Settings) => number;
}

async function bench(work: string, path: string, count: number): Promise<number> {
  const { stdout } = await run(process.execPath, [join(import.meta.dirname, 'drive-work.js'), work, path, String(count)]);
  return (JSON.parse(stdout) as { ms: number }).ms;
}

async function timedMount(target: NetworkTarget): Promise<number> {
  const began = performance.now();
  await target.mount();
  return performance.now() - began;
}

/** The order matters, since each row needs the data of earlier ones. */
const rows: readonly Row[] = [
  {
    name: 'create',
    title: ({ files }) => `${files} files of 4 KiB, until stored`,
    from: 'mounted',
    isWriting: true,
    bytes: ({ files }) => files * 4096,
    work: (_, path, { files }) => bench('create', path('small'), files),
  },
  { name: 'mount-cold', title: () => 'mount, nothing known here', from: 'forgotten', work: timedMount },
  { name: 'ls', title: () => 'ls -lR of them, cold', from: 'cold', work: (_, path) => timed('ls', ['-lR', path('small')]) },
  {
    name: 'cat',
    title: () => 'cat of all of them, cold',
    from: 'cold',
    bytes: ({ files }) => files * 4096,
    work: (_, path, { files }) => bench('catAll', path('small'), files),
  },
  {
    name: 'write',
    title: ({ sizeMib }) => `write of ${sizeMib} MiB, until stored`,
    from: 'mounted',
    isWriting: true,
    bytes: ({ sizeMib }) => sizeMib * mib,
    work: (_, path, { sizeMib }) => bench('write', path('big'), sizeMib),
  },
  {
    name: 'medium',
    title: ({ mediumFiles }) => `${mediumFiles} files of 2 MiB, until stored`,
    from: 'mounted',
    isWriting: true,
    bytes: ({ mediumFiles }) => mediumFiles * 2 * mib,
    work: (_, path, { mediumFiles }) => bench('createMedium', path('medium'), mediumFiles),
  },
  {
    name: 'read',
    title: ({ sizeMib }) => `read of ${sizeMib} MiB, cold`,
    from: 'cold',
    bytes: ({ sizeMib }) => sizeMib * mib,
    work: (_, path, { sizeMib }) => bench('read', path('big'), sizeMib),
  },
  {
    name: 'first-byte',
    title: () => 'first byte of a cold file',
    from: 'cold',
    work: (_, path, { mediumFiles }) => bench('firstByte', path('medium'), mediumFiles),
  },
  {
    name: 'patch',
    title: ({ sizeMib }) => `4 KiB changed in ${sizeMib} MiB, until stored`,
    from: 'cold',
    isWriting: true,
    work: (_, path) => bench('patch', path('big'), 1),
  },
  { name: 'mount', title: () => 'mount, known here', from: 'unmounted', work: timedMount },
];

async function measure(row: Row, target: NetworkTarget, settings: Settings, link: Link): Promise<Sample> {
  const path = (name: string): string => join(target.directory, name);
  if (row.from !== 'mounted') {
    await target.settle(() => Promise.resolve(true));
    await target.unmount();
    if (row.from !== 'unmounted') await target.forget();
    if (row.from === 'cold') await target.mount();
  }
  await link.take();
  const before = await useOf(await target.processes());
  const ms = await row.work(target, path, settings);
  const settling = performance.now();
  const storedMs = row.isWriting ? ms + Math.max(0, (await target.settle(() => link.hasCarriedPut())) - settling) : undefined;
  const use = await link.take();
  const { resident, cpuMs } = await useOf(await target.processes());
  return { ms, storedMs, use, resident, cpuMs: Math.max(0, cpuMs - before.cpuMs) };
}

/** Measures what a plain client gets out of link and gateway. */
async function measureRaw(location: string, sizeMib: number, link: Link): Promise<Record<'put' | 'get' | 'head', Sample>> {
  const store = await openStore(location, { disk: systemDisk, random: systemRandom, env: process.env });
  const [partMib, atOnce] = [8, 4];
  const keys = Array.from({ length: Math.ceil(sizeMib / partMib) }, (_, i) => `packs/00/${i.toString(16).padStart(32, '0')}`);
  const body = Buffer.from(systemRandom.bytes(partMib * mib)) as Uint8Array as Sealed;
  const all = async (count: number, work: (key: string) => Promise<unknown>): Promise<Sample> => {
    await link.take();
    const began = performance.now();
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < keys.length) await work(keys[next++] ?? '');
    };
    await Promise.all(Array.from({ length: count }, worker));
    return { ms: performance.now() - began, storedMs: undefined, use: await link.take(), resident: 0, cpuMs: 0 };
  };
  try {
    const put = await all(atOnce, (key) => store.put(key, body));
    const get = await all(atOnce, (key) => store.get(key));
    const times: number[] = [];
    const head = await all(1, async () => {
      const began = performance.now();
      await store.head('packs/00/none');
      times.push(performance.now() - began);
    });
    await store.delete(keys);
    return { put, get, head: { ...head, ms: median(times) } };
  } finally {
    await store.close();
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const requestsOf = (use: LinkUse): number => Object.values(use.requests).reduce((sum, count) => sum + count, 0);

interface Figure {
  readonly row: string;
  readonly title: string;
  readonly target: string;
  readonly ms: number;
  readonly storedMs: number | undefined;
  readonly requests: number;
  readonly requestsByMethod: Readonly<Record<string, number>>;
  readonly connections: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** The share of the link's capacity in that time; content only. */
  readonly linkShare: number | undefined;
  readonly residentMib: number;
  readonly cpuMs: number;
}

function figureOf(row: string, title: string, target: string, samples: readonly Sample[], bytes: number | undefined, bytesPerMs: number): Figure {
  const by = (value: (sample: Sample) => number): number => median(samples.map(value));
  const stored = samples[0]!.storedMs === undefined ? undefined : by((sample) => sample.storedMs ?? 0);
  const ms = by((sample) => sample.ms);
  return {
    row,
    title,
    target,
    ms,
    storedMs: stored,
    requests: by(({ use }) => requestsOf(use)),
    requestsByMethod: samples[0]!.use.requests,
    connections: by(({ use }) => use.connections),
    bytesUp: by(({ use }) => use.bytesUp),
    bytesDown: by(({ use }) => use.bytesDown),
    linkShare: bytes === undefined ? undefined : bytes / bytesPerMs / (stored ?? ms),
    residentMib: by(({ resident }) => resident) / mib,
    cpuMs: by(({ cpuMs }) => cpuMs),
  };
}

const seconds = (ms: number): string => (ms < 1000 ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`);
const bytesText = (bytes: number): string => (bytes < mib ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / mib).toFixed(1)} MiB`);

function table(figures: readonly Figure[]): string {
  const head = ['', '', 'time', 'of the link', 'requests', 'connections', 'up', 'down', 'cpu', 'rss', 'time, rclone over ours', 'requests'];
  let last = '';
  const lines = figures.map((figure) => {
    const title = figure.title === last ? '' : figure.title;
    last = figure.title;
    const other = figure.target === 'sealdrive' ? figures.find(({ row, target }) => row === figure.row && target === 'rclone') : undefined;
    const time = (one: Figure): number => one.storedMs ?? one.ms;
    return [
      title,
      figure.target,
      seconds(time(figure)),
      figure.linkShare === undefined ? '' : `${(figure.linkShare * 100).toFixed(0)} %`,
      String(figure.requests),
      String(figure.connections),
      bytesText(figure.bytesUp),
      bytesText(figure.bytesDown),
      figure.residentMib === 0 ? '' : seconds(figure.cpuMs),
      figure.residentMib === 0 ? '' : `${figure.residentMib.toFixed(0)} MiB`,
      other ? `${(time(other) / time(figure)).toFixed(1)}x` : '',
      other ? `${(other.requests / Math.max(1, figure.requests)).toFixed(1)}x` : '',
    ];
  });
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    line
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [render(head), ...lines.map(render)].join('\n');
}

const makers = { rclone: rcloneTarget, sealdrive: sealdriveTarget } as const;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      targets: { type: 'string', default: 'raw,rclone,sealdrive' },
      files: { type: 'string', default: '10000' },
      size: { type: 'string', default: '512' },
      rounds: { type: 'string', default: '1' },
      'round-trip': { type: 'string', default: '30' },
      rate: { type: 'string', default: '100' },
      rows: { type: 'string' },
      scratch: { type: 'string', default: '/var/tmp' },
      json: { type: 'string' },
      trace: { type: 'string' },
    },
  });
  const [roundTripMs, megabits] = [Number(values['round-trip']), Number(values.rate)];
  const settings: Settings = {
    files: Number(values.files),
    sizeMib: Number(values.size),
    mediumFiles: 11,
    bytesPerMs: (megabits * 1_000_000) / 8 / 1000,
  };
  const chosen = values.rows?.split(',');
  const unknown = chosen?.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}; there are ${rows.map(({ name }) => name).join(', ')}`);
  const names = values.targets.split(',');
  const scratch = await mkdtemp(join(values.scratch, 'network-bench-'));
  const stops: (() => Promise<void>)[] = [() => rm(scratch, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).toReversed()) await one();
  };
  process.once('SIGINT', () => {
    void stop().finally(() => process.exit(130));
  });
  const load = [loadavg()[0]];
  try {
    await mkdir(join(scratch, 'rgw'));
    const gateway = await Rgw.start(join(scratch, 'rgw'));
    stops.push(() => gateway.stop());
    const link = await Link.start(gateway.port, roundTripMs, megabits);
    stops.push(() => link.stop());
    const credentials = join(scratch, 'credentials');
    const { accessKeyId, secretAccessKey } = gateway.user;
    await writeFile(credentials, `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`, { mode: 0o600 });
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    process.env['AWS_SHARED_CREDENTIALS_FILE'] = credentials;
    process.env['AWS_CONFIG_FILE'] = join(scratch, 'none');
    const endpoint = `http://127.0.0.1:${link.port}`;

    const figures: Figure[] = [];
    const say = (text: string): void => void process.stderr.write(`${text}\n`);
    if (names.includes('raw')) {
      await gateway.makeBucket('raw');
      const raw = await measureRaw(`s3://raw?endpoint=${endpoint}`, Math.min(settings.sizeMib, 128), link);
      const bytes = Math.ceil(Math.min(settings.sizeMib, 128) / 8) * 8 * mib;
      figures.push(figureOf('raw-put', 'objects of 8 MiB, four at once', 'put', [raw.put], bytes, settings.bytesPerMs));
      figures.push(figureOf('raw-get', 'objects of 8 MiB, four at once', 'get', [raw.get], bytes, settings.bytesPerMs));
      figures.push(figureOf('raw-head', 'one small request', 'head', [raw.head], undefined, settings.bytesPerMs));
      say(table(figures));
    }
    const targets: NetworkTarget[] = [];
    for (const [name, make] of Object.entries(makers)) {
      if (!names.includes(name)) continue;
      await gateway.makeBucket(name);
      const target = make({ scratch, endpoint, user: gateway.user, bucket: name });
      stops.push(() => target.stop());
      await target.make();
      await target.mount();
      targets.push(target);
    }
    const samples = new Map<string, Sample[]>();
    for (let round = 0; round < Number(values.rounds); round++) {
      // Rows that make something make it again.
      if (round > 0)
        for (const target of targets) await run('rm', ['-rf', ...['small', 'big', 'medium'].map((name) => join(target.directory, name))]);
      for (const row of rows) {
        if (chosen !== undefined && !chosen.includes(row.name)) continue;
        for (const target of targets) {
          const sample = await measure(row, target, settings, link);
          load.push(loadavg()[0]);
          samples.set(`${row.name} ${target.name}`, [...(samples.get(`${row.name} ${target.name}`) ?? []), sample]);
          const { use } = sample;
          say(
            `${row.name.padEnd(12)} ${target.name.padEnd(10)} ${seconds(sample.ms)}${sample.storedMs === undefined ? '' : `, stored ${seconds(sample.storedMs)}`}` +
              `  ${JSON.stringify(use.requests)}  up ${bytesText(use.bytesUp)}, down ${bytesText(use.bytesDown)}, cpu ${seconds(sample.cpuMs)}, rss ${Math.round(sample.resident / mib)} MiB`,
          );
          if (values.trace !== undefined) {
            await mkdir(values.trace, { recursive: true });
            await writeFile(join(values.trace, `${row.name}-${target.name}.txt`), `${use.trace.join('\n')}\n`);
          }
        }
      }
    }
    for (const row of rows) {
      for (const { name } of targets) {
        const found = samples.get(`${row.name} ${name}`);
        if (found) figures.push(figureOf(row.name, row.title(settings), name, found, row.bytes?.(settings), settings.bytesPerMs));
      }
    }
    const loads = load.filter((one) => one !== undefined);
    const about = `${roundTripMs} ms of round trip, ${megabits} Mbit/s, load average ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)} on ${cpus().length} cores`;
    process.stdout.write(`${about}\nrclone mount ${rcloneFlags.join(' ')}\n\n${table(figures)}\n`);
    if (values.json !== undefined) {
      const { stdout: rclone } = await run('rclone', ['version']).catch(() => ({ stdout: '' }));
      const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length, load: loads, rclone: rclone.split('\n')[0] };
      await writeFile(values.json, `${JSON.stringify({ ...machine, roundTripMs, megabits, settings, rcloneFlags, figures }, undefined, 2)}\n`);
    }
  } finally {
    await stop();
  }
}

await main();
