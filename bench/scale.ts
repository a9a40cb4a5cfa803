/**
 * Measures whether the drive scales to a million files: how fast they are created from the first to the last, the
 * daemon's memory and whether it answers meanwhile, how long the mount of a new device takes, and the cost of `find`
 * and `ls -lR`. It prints figures and judges the promised ones: a mount in two seconds, 300 MiB of memory after `find`.
 *
 * With --generate the files are not made through the kernel, but by scale-volume.ts, which takes a fraction of the
 * time.
 *
 * node dist/bench/scale.js [--files N] [--flat N] [--generate] [--sparse BYTES] [--scratch DIRECTORY] [--debug]
 * [--keep]
 */
import { execFile, spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, promisify } from 'node:util';
import { Drive, useOf } from '../test/mount/drive-process.js';

const run = promisify(execFile);
const mib = 1 << 20;
const mountMsMax = 2000;
const residentMax = 300 * mib;
const sampleMs = 500;
/** The daemon is asked for its status every this many samples. */
const samplesPerStatus = 8;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '1000000' },
    flat: { type: 'string', default: '0' },
    sparse: { type: 'string', default: String(2 ** 40) },
    scratch: { type: 'string', default: tmpdir() },
    generate: { type: 'boolean', default: false },
    debug: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
});

const scratch = await mkdtemp(join(values.scratch, 'scale-'));
const drive = new Drive({ scratch, withKeyFile: true, mountOptions: values.debug ? ['--debug', '--log-file', join(scratch, 'daemon.log')] : [] });
const missed: string[] = [];

function say(line: string): void {
  process.stdout.write(`${line}\n`);
  appendFileSync(join(scratch, 'figures.txt'), `${line}\n`);
}

const inMib = (bytes: number): string => `${Math.round(bytes / mib)} MiB`;
const inSeconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;

async function timed<T>(work: () => Promise<T>): Promise<{ readonly ms: number; readonly result: T }> {
  const began = performance.now();
  const result = await work();
  return { ms: performance.now() - began, result };
}

/** Only the daemon counts, since commands that query it run in the same environment. */
async function daemons(): Promise<number[]> {
  const pids = await drive.processes();
  const names = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return pids.filter((_, index) => names[index]!.includes('serve-mount'));
}

/** Does the work while it samples the daemon; returns the time taken and the daemon's use of resources. */
async function watched(name: string, work: () => Promise<unknown>): Promise<{ readonly residentMax: number }> {
  const pids = await daemons();
  const before = await useOf(pids);
  let [highest, statusMs, samples, busy] = [before.resident, 0, 0, false];
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    void sample().finally(() => {
      busy = false;
    });
  }, sampleMs);
  const sample = async (): Promise<void> => {
    highest = Math.max(highest, (await useOf(pids)).resident);
    if (++samples % samplesPerStatus === 0) statusMs = Math.max(statusMs, (await timed(() => drive.status())).ms);
  };
  const { ms } = await timed(work);
  clearInterval(timer);
  const after = await useOf(pids);
  highest = Math.max(highest, after.resident);
  const status = statusMs === 0 ? '' : `, slowest status ${inSeconds(statusMs)}`;
  say(
    `${name.padEnd(28)} ${inSeconds(ms).padStart(10)}   cpu ${inSeconds(after.cpuMs - before.cpuMs)}, resident ${inMib(after.resident)}, most ${inMib(highest)}${status}`,
  );
  return { residentMax: highest };
}

/** Runs one of the programs beside this one, and passes its output on. */
async function workOf(program: string, ...argument: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, program), ...argument], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  for await (const line of createInterface({ input: child.stdout })) say(`    ${line}`);
  const code = await ended;
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
}

/** Runs a listing program, and returns the number of lines that it printed. */
function countLines(command: string, argument: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, argument, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, LC_ALL: 'C' } });
    let lines = 0;
    child.stdout.on('data', (part: Buffer) => {
      for (const byte of part) if (byte === 10) lines++;
    });
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(lines) : reject(new Error(`${command} ended with ${code}`))));
  });
}

async function mountFresh(): Promise<void> {
  if ((await daemons()).length > 0) await drive.unmount();
  await drive.forget();
  await run('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3\n').catch(() => say('    (not root: the kernel keeps its caches)'));
  const { ms } = await timed(() => drive.mount());
  say(`${'mount, nothing cached'.padEnd(28)} ${inSeconds(ms).padStart(10)}`);
  if (ms > mountMsMax) missed.push(`the mount took ${inSeconds(ms)}`);
}

async function listAll(directory: string, expected: number): Promise<void> {
  const list = async (): Promise<void> => {
    const lines = await countLines('find', [directory]);
    if (lines < expected) throw new Error(`find shows ${lines} names of ${expected}`);
  };
  const found = await watched('find', list);
  if (found.residentMax > residentMax) missed.push(`${inMib(found.residentMax)} are resident after find`);
  await watched('find again', list);
  await watched('ls -lR', async () => {
    await countLines('ls', ['-lR', directory]);
  });
}

async function fill(shape: 'tree' | 'flat', count: number): Promise<void> {
  if (values.generate) {
    await drive.unmount();
    const { ms } = await timed(() =>
      workOf('scale-volume.js', drive.store, join(scratch, 'key'), join(scratch, `generator-${shape}`), String(count), shape),
    );
    say(`${`generate ${count} (${shape})`.padEnd(28)} ${inSeconds(ms).padStart(10)}`);
    return;
  }
  await watched(`make ${count} files (${shape})`, () => workOf('scale-work.js', shape, join(drive.directory, shape), String(count)));
  await watched('flush', () => drive.flush());
}

try {
  await drive.init();
  await drive.mount();
  const files = Number(values.files);
  if (files > 0) {
    await fill('tree', files);
    await mountFresh();
    await listAll(join(drive.directory, 'tree'), files);
  }
  if (Number(values.flat) > 0) {
    const directory = join(drive.directory, 'flat');
    await fill('flat', Number(values.flat));
    await mountFresh();
    await listAll(directory, Number(values.flat));
    await watched('rm -rf of the folder', () => run('rm', ['-rf', directory]));
    await watched('flush', () => drive.flush());
  }
  if (Number(values.sparse) > 0) await watched('a sparse file', () => workOf('scale-work.js', 'sparse', drive.directory, values.sparse));
  await drive.unmount();
  for (const line of missed) say(`MISSED: ${line}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await drive.destroy();
  if (!values.keep) await rm(scratch, { recursive: true, force: true });
}
