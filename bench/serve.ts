/**
 * Measures the cost of `sealdrive serve`: requests and bytes a second through one client, and the server's processor
 * time for them, compared with the bare directory that it serves and lighttpd's WebDAV, all on one disk over loopback.
 * The client's own work is in every figure; the processor time is the server's alone.
 *
 *   node dist/bench/serve.js [--scratch DIRECTORY] [--json]
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Sealed } from '../src/base/brand.js';
import { systemRandom } from '../src/crypto/system-random.js';
import { systemDisk } from '../src/disk/system-disk.js';
import type { ObjectStore } from '../src/store/object-store.js';
import { openStore } from '../src/store/open-store.js';
import { writeWhole } from '../test/suite/whole-file.js';
import { Lighttpd, skipWebdav } from '../test/support/lighttpd.js';
import { Serve } from '../test/support/serve.js';

const { values } = parseArgs({ options: { scratch: { type: 'string' }, json: { type: 'boolean', default: false } } });
const scratch = mkdtempSync(join(values.scratch ?? tmpdir(), 'sealdrive-bench-'));
const smallSize = 4096;
const smallCount = 1500;
const largeSize = 16 * 1024 * 1024;
const largeCount = 12;

interface Subject {
  readonly name: string;
  readonly store: ObjectStore;
  /** The process of the server; `undefined` when there is none. */
  readonly pid: number | undefined;
  readonly stop: () => Promise<unknown>;
}

interface Row {
  readonly store: string;
  readonly what: string;
  readonly perSecond: number;
  readonly unit: 'requests' | 'MiB';
  /** The server's processor time for a request or a MiB, in milliseconds. */
  readonly cpuMs: number | undefined;
}

/** Milliseconds of processor time that a process has used so far (proc(5): utime and stime in ticks of 10 ms). */
function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function measure(
  subject: Subject,
  what: string,
  unit: Row['unit'],
  amount: number,
  parallel: number,
  tasks: (() => Promise<unknown>)[],
): Promise<Row> {
  const cpuBefore = subject.pid === undefined ? 0 : cpuMsOf(subject.pid);
  const startMs = performance.now();
  const queue = tasks.values();
  await Promise.all(
    Array.from({ length: parallel }, async () => {
      for (const task of queue) await task();
    }),
  );
  const seconds = (performance.now() - startMs) / 1000;
  return {
    store: subject.name,
    what,
    unit,
    perSecond: Math.round(amount / seconds),
    cpuMs: subject.pid === undefined ? undefined : Math.round(((cpuMsOf(subject.pid) - cpuBefore) / amount) * 1000) / 1000,
  };
}

async function examine(subject: Subject, run: number): Promise<Row[]> {
  const { store } = subject;
  const small = Array.from({ length: smallCount }, (_, index) => `packs/${run}/small-${index}`);
  const large = Array.from({ length: largeCount }, (_, index) => `packs/${run}/large-${index}`);
  const path = await writeWhole(systemDisk, join(scratch, `body-${subject.name}-${run}`), systemRandom.bytes(largeSize));
  const body = systemRandom.bytes(smallSize) as Sealed;
  const range = { offset: 3_000_000, length: 256 * 1024 };
  const mib = (largeSize * largeCount) / 1024 / 1024;
  return [
    await measure(
      subject,
      'put 4 KiB',
      'requests',
      smallCount,
      8,
      small.map((key) => () => store.put(key, body, { ifAbsent: true })),
    ),
    await measure(
      subject,
      'get 4 KiB',
      'requests',
      smallCount,
      8,
      small.map((key) => () => store.get(key)),
    ),
    await measure(
      subject,
      'head',
      'requests',
      smallCount,
      8,
      small.map((key) => () => store.head(key)),
    ),
    await measure(
      subject,
      'put 16 MiB',
      'MiB',
      mib,
      2,
      large.map((key) => () => store.put(key, { path, size: largeSize }, { ifAbsent: true })),
    ),
    await measure(
      subject,
      'get 16 MiB',
      'MiB',
      mib,
      2,
      large.map((key) => () => store.get(key)),
    ),
    await measure(
      subject,
      'get 256 KiB of it',
      'MiB',
      (smallCount * range.length) / 1024 / 1024,
      8,
      small.map((_, index) => () => store.get(large[index % largeCount]!, { range })),
    ),
  ];
}

const subjects: Subject[] = [];
try {
  const open = (location: string, create = false): Promise<ObjectStore> => openStore(location, { disk: systemDisk, random: systemRandom, create });
  subjects.push({ name: 'directory', store: await open(join(scratch, 'directory'), true), pid: undefined, stop: async () => {} });
  mkdirSync(join(scratch, 'serve'));
  const serve = await Serve.start(join(scratch, 'serve'));
  subjects.push({ name: 'serve', store: await open(serve.volume('bench').location), pid: serve.pid, stop: () => serve.stop() });
  if (skipWebdav() === undefined) {
    mkdirSync(join(scratch, 'lighttpd'));
    const lighttpd = await Lighttpd.start(join(scratch, 'lighttpd'));
    const location = `webdav+${lighttpd.origin}/open/bench`;
    subjects.push({ name: 'lighttpd', store: await open(location, true), pid: lighttpd.pid, stop: () => lighttpd.stop() });
  }
  const rows: Row[] = [];
  // The first round warms up.
  for (const run of [0, 1]) {
    for (const subject of subjects) {
      const found = await examine(subject, run);
      if (run > 0) rows.push(...found);
    }
  }
  if (values.json) process.stdout.write(`${JSON.stringify(rows, undefined, 2)}\n`);
  else {
    for (const { store, what, unit, perSecond, cpuMs } of rows.toSorted((a, b) => (a.what < b.what ? -1 : Number(a.what > b.what)))) {
      const cpu = cpuMs === undefined ? '' : `${cpuMs.toFixed(3)} ms of the server's processor for each`;
      process.stdout.write(`${what.padEnd(18)} ${store.padEnd(10)} ${String(perSecond).padStart(6)} ${unit}/s  ${cpu}\n`.replace(/ +\n/, '\n'));
    }
  }
} finally {
  for (const { store, stop } of subjects) {
    await store.close();
    await stop();
  }
  rmSync(scratch, { recursive: true, force: true });
}
