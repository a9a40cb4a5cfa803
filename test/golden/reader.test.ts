/**
 * The independent reader (contrib/reader), which was written from doc/format.md alone, against the drive: on volumes
 * that were just made, and on damaged ones.
 */
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { scratchDirectory } from '../suite/scratch.js';
import { type FreshVolume, makeFreshVolume } from './fresh-volume.js';
import { runReader } from './independent-reader.js';
import { describeFolder, differences, type TreeDescription } from './tree-description.js';

t.setTimeout(0);
const seed = testSeed();
const random = new SeededRandom(seed);
const volume: Promise<FreshVolume> = makeFreshVolume(t, random, { rounds: 6, steps: 60 });

t.test(`the reader writes out the files of a new volume byte for byte (TEST_SEED=${seed})`, async (t) => {
  const { folder, keyFile, content } = await volume;
  const output = join(await scratchDirectory(t), 'out');
  const extracted = await runReader('extract', folder, output, '--key-file', keyFile);
  t.equal(extracted.code, 0, extracted.stderr);
  t.same(differences(await describeFolder(output), content), []);
});

t.test(`the reader finds a new volume sound, and counts what is in it (TEST_SEED=${seed})`, async (t) => {
  const { folder, keyFile, content } = await volume;
  const verified = await runReader('verify', folder, '--key-file', keyFile, '--json');
  t.equal(verified.code, 0, verified.stderr);
  const found = JSON.parse(verified.stdout) as Record<string, number | object>;
  t.ok(Number(found['files']) > 30 && Object.keys(content).length > 30, 'the volume has files');
  for (const what of ['packs', 'chunks', 'pages']) t.ok(Number(found[what]) > 1, `the volume has ${what}`);
  t.ok(Object.keys(found['void'] as object).length > 0, 'the volume has void commits');
});

/** What was done to a copy of the volume, and what `verify` may say of it. */
interface Damage {
  readonly what: string;
  readonly codes: readonly number[];
  readonly make: (folder: string) => Promise<void>;
}

const change =
  (key: string, to: (bytes: Buffer) => Uint8Array) =>
  async (folder: string): Promise<void> => {
    const bytes = await readFile(join(folder, key));
    await rm(join(folder, key));
    await writeFile(join(folder, key), to(bytes));
  };

function flipped(bytes: Buffer, at: number): Buffer {
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  return bytes;
}

const swap =
  (one: string, other: string) =>
  async (folder: string): Promise<void> => {
    const between = join(folder, 'between');
    await rename(join(folder, one), between);
    await rename(join(folder, other), join(folder, one));
    await rename(between, join(folder, other));
  };

const locked = [3];
const notTrusted = [8];
const damaged = [1];

/** Damage to single objects: one that is not whole is as good as absent, and never taken for another. */
function damageTo(key: string, size: number, codes: readonly number[]): readonly Damage[] {
  const at = random.below(size);
  const length = random.below(size);
  return [
    { what: `a bit of ${key} is flipped at ${at} of ${size}`, codes, make: change(key, (bytes) => flipped(bytes, at)) },
    { what: `${key} is cut off at ${length} of ${size}`, codes, make: change(key, (bytes) => bytes.subarray(0, length)) },
    { what: `a byte is appended to ${key}`, codes, make: change(key, (bytes) => Buffer.concat([bytes, new Uint8Array(1)])) },
    { what: `${key} is emptied`, codes, make: change(key, () => new Uint8Array(0)) },
    { what: `${key} is deleted`, codes: key.startsWith('keys/') ? [4] : codes, make: (folder) => rm(join(folder, key)) },
  ];
}

/** The keys of a folder's objects, ascending. */
async function keysBelow(folder: string, prefix: string): Promise<string[]> {
  const entries = await readdir(join(folder, prefix), { recursive: true, withFileTypes: true });
  const keys = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  return keys.toSorted();
}

/** The packs that the volume names: one that a device has put and then not committed belongs to nothing. */
async function namedPacks({ folder, keyFile }: FreshVolume): Promise<string[]> {
  const named: string[] = [];
  for (const key of await keysBelow(folder, 'packs')) {
    const copy = join(await scratchDirectory(t), 'store');
    await cp(folder, copy, { recursive: true });
    await rm(join(copy, key));
    if ((await runReader('verify', copy, '--key-file', keyFile)).code !== 0) named.push(key);
  }
  return named;
}

async function damages(whole: FreshVolume): Promise<readonly Damage[]> {
  const { folder } = whole;
  const size = async (key: string): Promise<number> => (await readFile(join(folder, key))).byteLength;
  const [slot = ''] = await keysBelow(folder, 'keys');
  const log = await keysBelow(folder, 'log');
  const packs = await namedPacks(whole);
  const inside = log.slice(1, -1);
  const chosen = [log[0]!, random.pick(inside), random.pick(inside)];
  const [one, other] = [random.pick(inside.slice(0, 5)), random.pick(inside.slice(6))];
  const all: Damage[] = [...damageTo(slot, await size(slot), locked)];
  for (const key of chosen) all.push(...damageTo(key, await size(key), notTrusted));
  for (const key of [random.pick(packs), random.pick(packs)]) all.push(...damageTo(key, await size(key), damaged));
  for (let count = 0; count < 6; count++) {
    const pack = random.pick(packs);
    // Where the items of a large pack begin.
    all.push(damageTo(pack, Math.min(4096, await size(pack)), damaged)[0]!);
  }
  all.push(
    { what: `${one} and ${other} change places`, codes: notTrusted, make: swap(one, other) },
    { what: 'two packs change places', codes: damaged, make: swap(packs[0]!, packs.at(-1)!) },
    { what: `${one} is in the place of ${other}`, codes: notTrusted, make: (to) => cp(join(to, one), join(to, other)) },
    { what: `${slot} has another name`, codes: locked, make: (to) => rename(join(to, slot), join(to, 'keys', '0123456789abcdef')) },
    { what: 'the whole log is deleted', codes: notTrusted, make: (to) => rm(join(to, 'log'), { recursive: true }) },
  );
  return all;
}

/** Checks that what was written without being called damaged is what the volume holds. */
function expectNothingWrong(t: Test, found: TreeDescription, wanted: TreeDescription): void {
  const wrong = Object.entries(found).filter(([path, { sha256, target }]) => {
    const right = wanted[path];
    if (right) return right['sha256'] !== sha256 || right['target'] !== target;
    return !path.endsWith('.damaged');
  });
  t.same(wrong, [], 'what is not called damaged is right');
}

t.test(`the reader reports every damage, and writes nothing that is wrong (TEST_SEED=${seed})`, async (t) => {
  const whole = await volume;
  t.jobs = 2;
  for (const { what, codes, make } of await damages(whole)) {
    t.test(what, async (t) => {
      const scratch = await scratchDirectory(t);
      const copy = join(scratch, 'store');
      await cp(whole.folder, copy, { recursive: true });
      await make(copy);
      const verified = await runReader('verify', copy, '--key-file', whole.keyFile);
      t.ok(codes.includes(verified.code), `verify ends with ${verified.code}: ${verified.stderr}`);
      const output = join(scratch, 'out');
      const extracted = await runReader('extract', copy, output, '--key-file', whole.keyFile);
      // The index of a pack is not needed for reading files.
      t.ok([...codes, ...(codes === damaged ? [0] : [])].includes(extracted.code), `extract ends with ${extracted.code}: ${extracted.stderr}`);
      for (const { code, stderr } of [verified, extracted]) {
        t.notMatch(stderr, /Traceback/);
        if (code !== 0) t.match(stderr, /^sealdrive_reader: ./, 'it says why');
      }
      if (codes !== damaged) return;
      const found = await describeFolder(output);
      if (extracted.code === 0) t.same(differences(found, whole.content), []);
      else expectNothingWrong(t, found, whole.content);
    });
  }
});

t.test(`an older version of the store is read as it was (TEST_SEED=${seed})`, async (t) => {
  const { folder, keyFile, earlier } = await volume;
  const copy = join(await scratchDirectory(t), 'store');
  await cp(folder, copy, { recursive: true });
  for (const key of await keysBelow(copy, 'log')) if (Number.parseInt(key.slice(4, 20), 16) > earlier.head) await rm(join(copy, key));
  const output = join(await scratchDirectory(t), 'out');
  const extracted = await runReader('extract', copy, output, '--key-file', keyFile);
  t.equal(extracted.code, 0, extracted.stderr);
  t.match(extracted.stdout, `commits 0 to ${earlier.head}:`);
  t.same(differences(await describeFolder(output), earlier.content), []);
});
