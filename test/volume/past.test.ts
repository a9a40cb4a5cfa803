/**
 * Past states of a volume (doc/past.md): what two devices did at random is shown as it was after each commit, by a
 * device that was there and by a new one, and a store that changes the past shows nothing instead of something else.
 */
import t from 'tap';
import type { Sealed } from '../../src/base/brand.js';
import { systemClock, timespecOfMs } from '../../src/base/clock.js';
import type { Commit } from '../../src/commit/commit.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { TreeKey } from '../../src/meta/key.js';
import { impliedEntries } from '../../src/meta/pack-entry.js';
import type { ReadView } from '../../src/operation/view.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { OpenVolume } from '../../src/volume/open-volume.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

type Dump = Record<string, string>;

const dumpOf = (view: ReadView): Dump =>
  Object.fromEntries([...view.scan('A' as TreeKey, 'Z' as TreeKey)].map(([key, value]) => [key, Buffer.from(value).toString('hex')]));

async function pastDump({ past }: OpenVolume, sequence: number): Promise<Dump> {
  const state = await past.at(sequence);
  if (!state) throw new Error(`there is no commit ${sequence}`);
  return state.read(dumpOf);
}

async function commitsOf({ past }: OpenVolume): Promise<Commit[]> {
  const commits: Commit[] = [];
  for await (const commit of past.commitsBack(past.newest)) commits.push(commit);
  return commits.toReversed();
}

/** What each commit left behind, from the commits alone: no checkpoint is looked at. */
function replayed(commits: readonly Commit[]): Map<number, Dump> {
  const dumps = new Map<number, Dump>();
  let dump: Dump = {};
  for (const { sequence, packs, mutations } of commits) {
    dump = { ...dump };
    for (const [key, value] of [...mutations, ...impliedEntries(sequence, packs)]) {
      if (value === null) delete dump[key];
      else dump[key] = Buffer.from(value).toString('hex');
    }
    dumps.set(sequence, dump);
  }
  return dumps;
}

async function step(device: TestDevice, random: SeededRandom): Promise<void> {
  const name = `f${random.below(12)}`;
  const exists = await device.exists(name);
  switch (random.below(6)) {
    case 0:
      if (exists) await device.unlink(name);
      return;
    case 1:
      if (exists) await device.rename(name, `f${random.below(12)}`);
      return;
    case 2:
      return device.volume.flush();
    default:
      return device.write(name, Buffer.alloc(1 + random.below(9000), `${random.below(1000)} `), random.below(3) * 1000);
  }
}

t.test('every past state is the one that was there, for each device', async (t) => {
  for (let round = 0; round < 3; round++) {
    const seed = testSeed() + round;
    const random = new SeededRandom(seed);
    const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
    const open = async (entries: number): Promise<TestDevice> =>
      TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), foldBounds: { entries, bytes: 1 << 30 } });
    const [one, two] = [await open(20), await open(45)];
    const seen = new Map<number, Dump>();
    for (let count = 0; count < 150; count++) {
      const device = random.below(2) === 0 ? one : two;
      await step(device, random);
      if (random.below(5) > 0) continue;
      await device.volume.refresh();
      await device.volume.flush();
      const dump = await device.volume.read(dumpOf);
      // A removed file is freed by an operation of its own, which may come behind the flush.
      if (device.volume.pending().operations === 0) seen.set(device.volume.past.newest, dump);
    }
    await one.volume.refresh();
    await two.volume.refresh();
    const fresh = await open(1 << 20);
    const commits = await commitsOf(one.volume);
    const wanted = replayed(commits);
    t.ok(commits.filter(({ checkpoint }) => checkpoint).length > 3, `there are checkpoints between (TEST_SEED=${seed})`);
    for (const [sequence, dump] of seen) t.strictSame(dump, wanted.get(sequence), `commit ${sequence} as it was seen then`);
    for (const { sequence } of commits.toSorted(() => random.below(3) - 1)) {
      for (const { volume: opened } of [one, two, fresh])
        t.strictSame(await pastDump(opened, sequence), wanted.get(sequence), `commit ${sequence} (TEST_SEED=${seed})`);
    }
    t.equal(await one.volume.past.at(0), undefined, 'there is nothing before the first commit');
    t.equal(await one.volume.past.at(one.volume.past.newest + 1), undefined, 'nor behind the last one');
    for (const device of [one, two, fresh]) await device.close();
  }
});

/** A volume with a file `text` of five versions, and many commits between them. */
async function withVersions(t: Parameters<typeof scratchDirectory>[0], volume: TestVolume, options: Partial<DeviceOptions>): Promise<TestDevice> {
  const stateDirectory = await scratchDirectory(t);
  return TestDevice.open(volume, { disk: systemDisk, stateDirectory, foldBounds: { entries: 12, bytes: 1 << 30, commits: 8 }, ...options });
}

t.test('the content of an overwritten and removed file can be read', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const device = await withVersions(t, volume, {});
  const sequences: number[] = [];
  for (let version = 0; version < 5; version++) {
    await device.write('text', Buffer.alloc(300_000, `version ${version}, `));
    await device.volume.flush();
    sequences.push(device.volume.past.newest);
  }
  const ino = await device.ino('text');
  await device.unlink('text');
  await device.volume.flush();
  for (const [version, sequence] of sequences.entries()) {
    const past = await device.volume.past.at(sequence);
    const content = Buffer.concat([...((await past?.readContent(ino, 0, 1 << 20)) ?? [])]);
    t.ok(content.equals(Buffer.alloc(300_000, `version ${version}, `)), `version ${version}`);
    t.equal(await past?.seek(ino, 0, 'hole'), 300_000);
  }
  const now = await device.volume.past.at(device.volume.past.newest);
  await t.rejects(async () => now?.readContent(ino, 0, 1), { code: 'ESTALE' }, 'it is gone after that');
  await device.close();
});

t.test('a time is the newest commit that is not later, whatever clocks say in between', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  let nowMs = 2_000_000_000_000;
  const clock = { ...systemClock, now: () => timespecOfMs(nowMs), roughSec: () => Math.floor(nowMs / 1000) };
  const device = await withVersions(t, volume, { clock });
  const at: { readonly ms: number; readonly sequence: number }[] = [];
  for (const seconds of [100, 100, -50, 500, 100]) {
    nowMs += seconds * 1000;
    await device.write('text', `at ${nowMs}`);
    await device.volume.flush();
    at.push({ ms: nowMs, sequence: device.volume.past.newest });
  }
  const found = async (ms: number): Promise<number | undefined> => (await device.volume.past.findTime(ms))?.sequence;
  t.equal(await found(at[4]!.ms), at[4]!.sequence);
  t.equal(await found(at[4]!.ms - 1), at[3]!.sequence);
  t.equal(await found(at[3]!.ms - 1), at[2]!.sequence, 'the clock went back: the later commit');
  t.equal(await found(at[0]!.ms), at[0]!.sequence);
  t.equal(await found(0), undefined, 'before the volume was made');
  await device.close();
});

t.test('a store that exchanges or withholds a past commit is found out', async (t) => {
  const store = new MemoryStore({ disk: systemDisk });
  const volume = await createTestVolume(store);
  const device = await withVersions(t, volume, {});
  for (let version = 0; version < 40; version++) {
    await device.write('text', `version ${version}`);
    await device.volume.flush();
  }
  const { past } = device.volume;
  const keys = [];
  for await (const { key } of store.list('log/')) keys.push(key);
  const [changed, other] = [keys[4]!, keys[5]!];
  const [original, instead] = [await store.get(changed), await store.get(other)];
  t.ok(original && instead);
  for (const [what, bytes] of [
    ['another commit', instead],
    ['nothing', undefined],
  ] as const) {
    // A new device has no copies of its own.
    const fresh = await withVersions(t, volume, {});
    await store.delete([changed]);
    if (bytes) await store.put(changed, bytes as Sealed, { ifAbsent: true });
    t.strictSame(await pastDump(fresh.volume, past.newest), await device.volume.read(dumpOf), 'the present is not concerned');
    await t.rejects(pastDump(fresh.volume, 4), { code: 'CORRUPT' }, `${what} in its place`);
    await store.delete([changed]);
    if (original) await store.put(changed, original as Sealed, { ifAbsent: true });
    t.ok(Object.keys(await pastDump(fresh.volume, 4)).length > 0, 'once it is there again, so is the past');
    await fresh.close();
  }
  await device.close();
});
