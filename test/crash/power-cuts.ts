/**
 * Cuts the power under a directory store: objects are put into a store in a file system on a disk that records its
 * writes and flushes (recording-disk.ts). Then the disk is rebuilt as a power cut at some moment can leave it: with
 * everything that was flushed before, and nothing, all, a prefix (its last write torn between sectors) or any part of
 * the later writes. Each of these disks is checked by the tool of the file system, or mounted as it is; every object
 * that was acknowledged by then must be there, whole, and every interrupted put can be repeated. A directory whose
 * object was not acknowledged may be damaged, but no name may stay unusable.
 *
 * node dist/test/crash/power-cuts.js FILESYSTEM [--cuts N] [--seed N] needs root, loop devices, and the file system in
 * the kernel
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Sealed } from '../../src/base/brand.js';
import { equalBytes } from '../../src/base/bytes.js';
import { describeError } from '../../src/base/errors.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { SeededRandom } from '../suite/seeded-random.js';
import type { DiskRecord, RecordedWrite } from './recording-disk.js';
import { readRecord } from './recording-disk.js';

const execute = promisify(execFile);
const mebibyte = 1024 * 1024;
const sector = 512;

interface FilesystemKind {
  readonly size: number;
  readonly make: readonly string[];
  /** The tool that repairs what a mount of the file system does not; its argument is the device. */
  readonly check?: readonly string[];
  /** The exit codes of the tool when it has repaired something. */
  readonly mended?: readonly number[];
}

export const filesystems: Readonly<Record<string, FilesystemKind>> = {
  vfat: { size: 40 * mebibyte, make: ['mkfs.vfat', '-F', '32', '-s', '1'], check: ['fsck.vfat', '-a', '-w'], mended: [1] },
  exfat: { size: 16 * mebibyte, make: ['mkfs.exfat'], check: ['fsck.exfat', '-y'], mended: [1] },
  ext4: { size: 16 * mebibyte, make: ['mkfs.ext4', '-q'], check: ['fsck.ext4', '-p'], mended: [1] },
  xfs: { size: 320 * mebibyte, make: ['mkfs.xfs', '-q'] },
  btrfs: { size: 128 * mebibyte, make: ['mkfs.btrfs', '-q'] },
  f2fs: { size: 128 * mebibyte, make: ['mkfs.f2fs', '-q'] },
};

const searchPath = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
const hasProgram = (name: string): boolean => searchPath.some((folder) => existsSync(join(folder, name)));
const env = { ...process.env, PATH: searchPath.join(':') };

/** Why this machine cannot cut a file system; false when it can. */
export function whyNoCuts(name: string): string | false {
  const missing = ['losetup', 'mount', filesystems[name]!.make[0], filesystems[name]!.check?.[0] ?? 'mount'].filter((tool) => !hasProgram(tool!));
  if (missing.length > 0) return `needs ${missing.join(', ')}`;
  if (process.getuid?.() !== 0 || !existsSync('/dev/loop-control') || !existsSync('/dev/fuse')) return 'needs root, loop devices and /dev/fuse';
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/);
  return known.includes(name) ? false : `this kernel has no ${name}`;
}

async function run(program: string, ...parameters: string[]): Promise<string> {
  return (await execute(program, parameters, { env })).stdout.trim();
}

interface Put {
  readonly key: string;
  readonly bytes: Sealed;
  /** The end of the record when the put was acknowledged. */
  readonly acknowledged: number;
}

/** The events on a disk: its record, and the part of it that made the empty file system. */
interface Trace {
  readonly record: DiskRecord;
  readonly puts: readonly Put[];
  readonly firstByte: number;
}

async function withMounted<T>(name: string, image: string, folder: string, work: () => Promise<T>): Promise<T> {
  const device = await run('losetup', '--find', '--show', image);
  try {
    await run('mount', '-t', name, '-o', 'noatime', device, folder);
    try {
      return await work();
    } finally {
      await run('umount', folder);
    }
  } finally {
    await run('losetup', '--detach', device);
  }
}

/** The keys that a volume puts: commits one after the other, packs in parallel, and a keyslot. */
const rounds = 12;

export async function trace(name: string, scratch: string, random: SeededRandom): Promise<Trace> {
  const [disk, mounted, recordPath] = [join(scratch, 'disk'), join(scratch, 'mounted'), join(scratch, 'record')];
  mkdirSync(disk);
  mkdirSync(mounted, { recursive: true });
  const recorder = spawn(process.execPath, [join(import.meta.dirname, 'recording-disk.js'), disk, recordPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((settle) => void recorder.on('close', () => settle()));
  await new Promise<void>((settle, reject) => {
    recorder.stdout.once('data', () => settle());
    recorder.once('close', () => reject(new Error('the recording disk did not start')));
  });
  const puts: Put[] = [];
  let firstByte = 0;
  try {
    const image = join(disk, 'image');
    await run('truncate', '--size', String(filesystems[name]!.size), image);
    const [make = '', ...options] = filesystems[name]!.make;
    await run(make, ...options, image);
    await withMounted(name, image, mounted, async () => {
      await run('sync', '--file-system', mounted);
      firstByte = statSync(recordPath).size;
      const store = await DirectoryStore.create(join(mounted, 'store'), { disk: systemDisk, random: systemRandom });
      const put = async (key: string, size: number): Promise<void> => {
        const bytes = random.bytes(size) as Sealed;
        await store.put(key, bytes, { ifAbsent: true });
        puts.push({ key, bytes, acknowledged: statSync(recordPath).size });
      };
      await put('keys/0123456789abcdef', 400);
      for (let round = 0; round < rounds; round++) {
        const packs = Array.from({ length: 3 }, (_, index) => `packs/${(round * 3 + index).toString(16).padStart(2, '0')}/${round}-${index}`);
        await Promise.all(packs.map((key) => put(key, 1 + random.below(60_000))));
        await put(`log/${String(round).padStart(16, '0')}-abcdef`, 200 + random.below(2000));
      }
      await store.close();
    });
  } finally {
    recorder.kill('SIGTERM');
    await ended;
  }
  return { record: readRecord(recordPath), puts, firstByte };
}

/** The fate of the writes since the last flush. */
function survivors(since: readonly RecordedWrite[], way: number, random: SeededRandom): readonly RecordedWrite[] {
  if (way === 0) return [];
  if (way === 1) return since;
  if (way === 2) {
    const kept = since.slice(0, random.below(since.length + 1));
    const torn = since.at(kept.length);
    if (!torn) return kept;
    const size = random.below(torn.bytes.byteLength / sector + 1) * sector;
    return [...kept, { offset: torn.offset, bytes: torn.bytes.subarray(0, size) }];
  }
  return since.filter(() => random.below(2) === 0);
}

export interface CutReport {
  readonly writes: number;
  readonly flushes: number;
  readonly cuts: number;
  /** Objects that had been acknowledged when the power went, over all cuts. */
  readonly acknowledged: number;
  /** Disks on which the tool of the file system had something to repair. */
  readonly mended: number;
  /** A description of what was lost. */
  readonly losses: readonly string[];
}

/** Records the life of a store and cuts it `cuts` times. */
export async function cutPower(name: string, cuts: number, seed: number, progress: (done: number) => void = () => {}): Promise<CutReport> {
  const random = new SeededRandom(seed);
  const scratch = mkdtempSync(join(tmpdir(), 'sealdrive-cuts-'));
  const losses: string[] = [];
  let [acknowledged, mended] = [0, 0];
  try {
    const { record, puts, firstByte } = await trace(name, scratch, random);
    const image = Buffer.alloc(filesystems[name]!.size);
    const write = (to: Buffer, { offset, bytes }: RecordedWrite): void => to.set(bytes, offset);
    const first = record.ends.findIndex((end) => end > firstByte);
    const moments = Array.from({ length: cuts }, () => first + random.below(record.entries.length - first + 1)).toSorted((a, b) => a - b);
    /** Entries before this one are on `image`: the last is a flush. */
    let settled = 0;
    for (const [index, moment] of moments.entries()) {
      const flushed = record.entries.slice(0, moment).lastIndexOf(undefined) + 1;
      for (const entry of record.entries.slice(settled, flushed)) if (entry) write(image, entry);
      settled = Math.max(settled, flushed);
      const since = record.entries.slice(settled, moment).filter((entry) => entry !== undefined);
      const way = random.below(4);
      const disk = Buffer.from(image);
      for (const entry of survivors(since, way, random)) write(disk, entry);
      const path = join(scratch, 'cut');
      writeFileSync(path, disk);
      const position = moment === 0 ? 0 : record.ends[moment - 1];
      const expected = puts.filter((put) => put.acknowledged <= position!);
      acknowledged += expected.length;
      const isChecked = filesystems[name]!.check !== undefined && random.below(2) === 0;
      const where = `${name}, seed ${seed}, cut ${index} at entry ${moment}, way ${way}, ${isChecked ? 'checked' : 'as it is'}`;
      try {
        if (isChecked && (await check(name, path))) mended++;
        await withMounted(name, path, join(scratch, 'mounted'), () =>
          examine(join(scratch, 'mounted/store'), expected, puts, (loss) => void losses.push(`${loss}: ${where}`)),
        );
      } catch (error) {
        losses.push(`${describeError(error)}: ${where}`);
      }
      progress(index + 1);
    }
    const flushes = record.entries.filter((entry) => entry === undefined).length;
    return { writes: record.entries.length - flushes, flushes, cuts, acknowledged, mended, losses };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Runs the tool of the file system. Returns true when it repaired something. */
async function check(name: string, path: string): Promise<boolean> {
  const { check: words = [], mended = [] } = filesystems[name]!;
  try {
    await run(words[0]!, ...words.slice(1), path);
    return false;
  } catch (error) {
    const { code } = error as { code?: number };
    if (code === undefined || !mended.includes(code)) throw error;
    return true;
  }
}

async function examine(root: string, expected: readonly Put[], all: readonly Put[], lost: (loss: string) => void): Promise<void> {
  if (!existsSync(root)) {
    if (expected.length > 0) lost('the store is gone');
    return;
  }
  const store = await DirectoryStore.create(root, { disk: systemDisk, random: systemRandom });
  for (const { key, bytes } of expected) {
    const found = await store.get(key);
    if (!found || !equalBytes(found, bytes)) lost(`${key} ${found ? `has ${found.byteLength} other bytes` : 'is gone'}`);
  }
  for await (const _ of store.list(''));
  for (const { key, bytes } of all) {
    if (expected.some((put) => put.key === key)) continue;
    const before = await store.get(key);
    if (before && !equalBytes(before, bytes)) lost(`${key}, which was not acknowledged, has ${before.byteLength} of ${bytes.byteLength} bytes`);
    const outcome = await store.put(key, bytes, { ifAbsent: true });
    const after = await store.get(key);
    if (!after || (!before && outcome === 'created' && !equalBytes(after, bytes))) lost(`${key} cannot be put again (${outcome})`);
  }
  await store.close();
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { cuts: { type: 'string' }, seed: { type: 'string' } } });
  const names = positionals.length > 0 ? positionals : Object.keys(filesystems);
  for (const name of names) {
    if (!Object.hasOwn(filesystems, name)) throw new Error(`name file systems: ${Object.keys(filesystems).join(', ')}`);
    const why = whyNoCuts(name);
    if (why !== false) {
      say(`${name}: ${why}`);
      continue;
    }
    const report = await cutPower(name, Number(values.cuts ?? 100), Number(values.seed ?? 1), (done) => {
      if (done % 50 === 0) say(`${name}: ${done} cuts`);
    });
    const { losses, ...figures } = report;
    say(`${name}: ${JSON.stringify(figures)}, ${losses.length} losses`);
    for (const loss of losses.slice(0, 40)) say(`  ${loss}`);
    if (losses.length > 0) process.exitCode = 1;
  }
}
