/**
 * Bringing back what was there (doc/past.md, "Restoring"): a volume on which anything was done goes back to each of its
 * former states, byte for byte, without an upload of content; and what two devices get that do so at the same time.
 */
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { rootIno } from '../../src/meta/key.js';
import type { ReadView } from '../../src/operation/view.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { Restoration, type RestoreCounts } from '../../src/vfs/restoration.js';
import { lastWith, removedFrom, resolvePath, versionsOf } from '../../src/volume/former-files.js';
import { OpenVolume } from '../../src/volume/open-volume.js';
import { RandomWork } from '../golden/random-work.js';
import { describeDevice, differences } from '../golden/tree-description.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

const makeVolume = (): Promise<TestVolume> => createTestVolume(new MemoryStore({ disk: systemDisk }));

async function open(t: Parameters<typeof scratchDirectory>[0], volume: TestVolume, options: Partial<DeviceOptions> = {}): Promise<TestDevice> {
  return TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), ...options });
}

async function restorationAt({ volume }: TestDevice, sequence: number, isDryRun = false): Promise<Restoration> {
  const past = await volume.past.at(sequence);
  if (!past) throw new Error(`no commit ${sequence}`);
  return new Restoration({ volume: volume.frontEnd(), past, isDryRun });
}

async function rollBack(device: TestDevice, sequence: number, isDryRun = false): Promise<RestoreCounts> {
  const restoration = await restorationAt(device, sequence, isDryRun);
  await restoration.rollBack(rootIno);
  return restoration.counts;
}

/** Brings back what was at a path then, to another or the same path. */
async function restore(device: TestDevice, sequence: number, path: string, to = path): Promise<RestoreCounts> {
  const past = await device.volume.past.at(sequence);
  const ino = await past?.read((view) => resolvePath(view, path));
  if (ino === undefined) throw new Error(`${path} was not there`);
  const slash = to.lastIndexOf('/');
  const restoration = await restorationAt(device, sequence);
  await restoration.restore(ino, await device.ino(to.slice(0, Math.max(0, slash))), to.slice(slash + 1));
  return restoration.counts;
}

async function contentBytes({ store }: TestVolume): Promise<number> {
  let bytes = 0;
  for await (const { size } of store.list('packs/')) bytes += size ?? 0;
  return bytes;
}

const head = ({ volume }: TestDevice): number => volume.past.newest;

t.test('a rollback makes everything what it was, and shares all content', async (t) => {
  for (let round = 0; round < 3; round++) {
    const seed = testSeed() + round;
    const random = new SeededRandom(seed);
    const volume = await makeVolume();
    const device = await open(t, volume, { foldBounds: { entries: 1 << 20, bytes: 1 << 30 } });
    const states = [];
    for (let count = 0; count < 6; count++) {
      await new RandomWork(device, random).run(50);
      await device.volume.flush();
      states.push({ sequence: head(device), description: await describeDevice(device) });
    }
    const before = await contentBytes(volume);
    for (const { sequence, description } of states.toSorted(() => random.below(3) - 1)) {
      const planned = await rollBack(device, sequence, true);
      const done = await rollBack(device, sequence);
      t.equal(done.missing, 0);
      const isChange = ({ restored, removed }: RestoreCounts): boolean => restored + removed > 0;
      t.equal(isChange(planned), isChange(done), 'a dry run tells what will be done');
      t.same(differences(await describeDevice(device), description), [], `commit ${sequence} (TEST_SEED=${seed})`);
      t.match(await rollBack(device, sequence), { removed: 0, restored: 0 }, 'again, there is nothing left to do');
      await device.volume.flush();
    }
    t.equal(await contentBytes(volume), before, 'nothing was uploaded but commits');
    const fresh = await open(t, volume);
    t.same(differences(await describeDevice(fresh), await describeDevice(device)), [], 'another device has it too');
    for (const one of [device, fresh]) await one.close();
  }
});

t.test('a dry run changes nothing', async (t) => {
  const device = await open(t, await makeVolume());
  await device.mkdir('folder');
  await device.write('folder/file', 'before');
  await device.volume.flush();
  const sequence = head(device);
  await device.unlink('folder/file');
  await device.write('other', 'after');
  await device.volume.flush();
  const description = await describeDevice(device);
  t.match(await rollBack(device, sequence, true), { restored: 1, removed: 1, bytes: 6 });
  t.same(differences(await describeDevice(device), description), []);
  t.equal(device.volume.pending().operations, 0);
  await device.close();
});

t.test('what is brought back survives the death of the process before it is in the store', async (t) => {
  const volume = await makeVolume();
  const stateDirectory = await scratchDirectory(t);
  const device = await open(t, volume, { stateDirectory });
  const content = Buffer.alloc(400_000, 'precious ');
  await device.write('file', content);
  await device.volume.flush();
  const sequence = head(device);
  await device.unlink('file');
  await device.volume.flush();
  await restore(device, sequence, 'file');
  await device.close();
  const again = await open(t, volume, { stateDirectory });
  t.ok((await again.read('file')).equals(content));
  await again.volume.flush();
  await again.close();
  const fresh = await open(t, volume);
  t.ok((await fresh.read('file')).equals(content));
  await fresh.close();
});

t.test('a file gets its former content under the same name, another one, or beside what came since', async (t) => {
  const device = await open(t, await makeVolume());
  await device.mkdir('folder');
  await device.write('folder/file', Buffer.alloc(50_000, 'one '));
  await device.write('folder/small', 'one');
  await device.volume.flush();
  const sequence = head(device);
  const ino = await device.ino('folder/file');
  await device.write('folder/file', 'two');
  await device.truncate('folder/file', 3);
  await device.write('folder/newer', 'stays');
  await device.volume.flush();
  await restore(device, sequence, 'folder/file', 'copy');
  t.ok((await device.read('copy')).equals(Buffer.alloc(50_000, 'one ')));
  t.equal(await device.text('folder/file'), 'two');
  // What is not in the store yet is replaced as well.
  await device.write('folder/file', 'not flushed', 10);
  await restore(device, sequence, 'folder');
  t.ok((await device.read('folder/file')).equals(Buffer.alloc(50_000, 'one ')));
  t.equal(await device.ino('folder/file'), ino);
  t.equal(await device.text('folder/newer'), 'stays');
  await device.volume.flush();
  t.ok((await device.read('folder/file')).equals(Buffer.alloc(50_000, 'one ')));
  await t.rejects(restore(device, sequence, 'folder/file', 'folder'), { code: 'EISDIR' });
  await device.close();
});

t.test('a file that another device changes at the same time is kept, as a conflict copy', async (t) => {
  const volume = await makeVolume();
  const [one, two] = [await open(t, volume, { deviceName: 'one' }), await open(t, volume, { deviceName: 'two' })];
  await one.write('file', 'first');
  await one.volume.flush();
  const sequence = head(one);
  await one.write('file', 'second');
  await one.truncate('file', 6);
  await one.volume.flush();
  await two.volume.refresh();
  await two.write('file', 'theirs');
  await two.volume.flush();
  await restore(one, sequence, 'file');
  await one.volume.flush();
  await two.volume.refresh();
  const contents = new Set(Object.values(await two.picture()));
  t.ok(contents.has('theirs') && contents.has('first'), [...contents].join(', '));
  t.strictSame(await one.picture(), await two.picture());
  for (const device of [one, two]) await device.close();
});

t.test('versions of a file, and what was removed, are found', async (t) => {
  const volume = await makeVolume();
  const device = await open(t, volume, { deviceName: 'laptop' });
  await device.mkdir('folder');
  for (const text of ['one', 'three', 'seven..']) {
    await device.write('folder/file', text);
    await device.volume.flush();
    await device.write('other', text);
    await device.volume.flush();
  }
  const versions = await versionsOf(device.volume, await device.ino('folder/file'), 0);
  t.match(
    versions.map(({ size, device: by }) => [size, by]),
    [
      [7, 'laptop'],
      [5, 'laptop'],
      [3, 'laptop'],
    ],
  );
  await device.rename('other', 'moved');
  await device.unlink('folder/file');
  await device.volume.flush();
  t.match(await removedFrom(device.volume, await device.ino('folder'), 0, 10), [{ name: 'file', size: 7, device: 'laptop' }]);
  t.same(await removedFrom(device.volume, rootIno, 0, 10), [], 'what was moved is not removed');
  const state = await lastWith(device.volume, 'folder/file', 0);
  const ino = await state?.read((view) => resolvePath(view, 'folder/file'));
  t.equal(Buffer.concat([...((await state?.readContent(ino!, 0, 100)) ?? [])]).toString(), 'seven..');
  t.equal(await lastWith(device.volume, 'folder/never', 0), undefined);
  await device.close();
});

t.test('content in a pack that the present tree does not know is not referred to again', async (t) => {
  const device = await open(t, await makeVolume());
  await device.write('large', Buffer.alloc(100_000, 'x'));
  await device.write('small', 'in the inode');
  await device.volume.flush();
  const sequence = head(device);
  const past = await device.volume.past.at(sequence);
  await device.unlink('large');
  await device.unlink('small');
  await device.volume.flush();
  const present = device.volume.frontEnd();
  // As a collector leaves the tree: without the entries of packs that it condemned.
  const without = (view: ReadView): ReadView => ({
    get: (key) => (key[0] === 'P' ? undefined : view.get(key)),
    scan: (from, to) => view.scan(from, to),
    floor: (from, to) => view.floor(from, to),
  });
  present.read = (query) => OpenVolume.prototype.read.call(present, (view) => query(without(view))) as never;
  const restoration = new Restoration({ volume: present, past: past!, isDryRun: false });
  await restoration.rollBack(rootIno);
  t.match(restoration.counts, { missing: 1, restored: 1 });
  t.strictSame(Object.keys(await device.picture()), ['small']);
  await device.close();
});

t.test('what a collector has freed is counted as missing, and what a snapshot shows comes back', async (t) => {
  const device = await open(t, await makeVolume(), { heartbeatMs: 0 });
  const random = new SeededRandom(testSeed());
  const [kept, freed] = [random.bytes(300_000), random.bytes(300_000)];
  await device.write('kept', kept);
  const { sequence } = await device.volume.snapshots.create('before');
  await device.unlink('kept');
  await device.write('freed', freed);
  await device.volume.flush();
  const later = head(device);
  await device.unlink('freed');
  await device.volume.flush();
  t.equal((await removedFrom(device.volume, rootIno, 0, 10)).length, 2);
  const { freed: gone } = await device.volume.collect({ windowMs: 0, dryRun: false });
  t.ok(gone.packs > 0, 'something was freed');
  t.match(await restore(device, later, 'freed'), { missing: 1, restored: 0 });
  t.notOk(await device.exists('freed'));
  t.match(await restore(device, sequence, 'kept'), { missing: 0, restored: 1 });
  t.ok((await device.read('kept')).equals(kept));
  await device.volume.flush();
  await device.volume.collect({ windowMs: 0, dryRun: false });
  t.ok((await device.read('kept')).equals(kept));
  await device.close();
});
