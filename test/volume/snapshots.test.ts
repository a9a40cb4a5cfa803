/** Snapshots of a volume (doc/past.md, "Snapshots"): what they show, and what becomes of them on several devices. */
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { OpenVolume } from '../../src/volume/open-volume.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

const makeVolume = (): Promise<TestVolume> => createTestVolume(new MemoryStore({ disk: systemDisk }));

async function open(t: Parameters<typeof scratchDirectory>[0], volume: TestVolume, options: Partial<DeviceOptions> = {}): Promise<TestDevice> {
  return TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), ...options });
}

const labels = async ({ snapshots }: OpenVolume): Promise<string[]> => (await snapshots.list()).map(({ label }) => label);

t.test('a snapshot shows what was there, on every device, whatever happens to the files', async (t) => {
  const volume = await makeVolume();
  const [one, two] = [await open(t, volume), await open(t, volume)];
  await one.mkdir('folder');
  await one.write('folder/file', Buffer.alloc(100_000, 'before '));
  const ino = await one.ino('folder/file');
  const taken = await one.volume.snapshots.create('first');
  t.match(taken.name, /^\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\dZ-first$/);
  await one.unlink('folder/file');
  await one.volume.flush();
  await two.volume.refresh();
  const fresh = await open(t, volume);
  for (const device of [one, two, fresh]) {
    const [snapshot] = await device.volume.snapshots.list();
    t.strictSame(snapshot, taken);
    const past = device.volume.past.ofSnapshot(snapshot!);
    t.ok(Buffer.concat([...(await past.readContent(ino, 0, 1 << 20))]).equals(Buffer.alloc(100_000, 'before ')));
    t.equal((await past.read((view) => past.inode(view, ino)))?.nlink, 1);
    t.notOk(await device.exists('folder/file'));
  }
  for (const device of [one, two, fresh]) await device.close();
});

t.test('a snapshot of an unchanged volume uses the tree that there is', async (t) => {
  const volume = await makeVolume();
  const device = await open(t, volume);
  await device.write('file', 'text');
  const first = await device.volume.snapshots.create('first');
  const second = await device.volume.snapshots.create('second');
  t.strictSame(second.root, first.root);
  t.equal(second.sequence, first.sequence);
  await device.write('file', 'more');
  const third = await device.volume.snapshots.create('third');
  t.ok(third.sequence > second.sequence);
  await device.close();
});

t.test('what is held is not removed before it is released', async (t) => {
  const device = await open(t, await makeVolume());
  const { snapshots } = device.volume;
  const { name } = await snapshots.create('');
  t.equal(await snapshots.hold(name, true), 'done');
  t.equal(await snapshots.remove(name), 'held');
  t.equal((await snapshots.get(name))?.isHeld, true);
  t.equal(await snapshots.hold(name, false), 'done');
  t.equal(await snapshots.remove(name), 'done');
  t.equal(await snapshots.remove(name), 'absent');
  t.equal(await snapshots.hold(name, true), 'absent');
  t.strictSame(await snapshots.list(), []);
  await device.close();
});

t.test('of two devices that change the same snapshot, the first in the log wins', async (t) => {
  const volume = await makeVolume();
  const [one, two] = [await open(t, volume), await open(t, volume)];
  const { name } = await one.volume.snapshots.create('shared');
  await two.volume.refresh();
  // Held by one, removed by the other.
  t.equal(await one.volume.snapshots.hold(name, true), 'done');
  t.equal(await two.volume.snapshots.remove(name), 'done');
  await one.volume.flush();
  await two.volume.flush();
  await one.volume.refresh();
  for (const device of [one, two]) t.equal((await device.volume.snapshots.get(name))?.isHeld, true);
  // Both take one of the same name, without knowing of each other.
  const about = { timeMs: 0, label: '', isHeld: false };
  await one.write('one', 'changes the tree');
  const [ours, theirs] = [
    await one.volume.snapshots.take('hourly', about, () => '1970-01-01T00.00.00Z'),
    await two.volume.snapshots.take('daily', about, () => '1970-01-01T00.00.00Z'),
  ];
  t.strictSame(theirs, ours, 'the second device has that of the first');
  t.equal((await two.volume.snapshots.list()).length, 2);
  for (const device of [one, two]) await device.close();
});

t.test('two snapshots of the same second have two names', async (t) => {
  const device = await open(t, await makeVolume(), {});
  const taken = [];
  for (let count = 0; count < 3; count++) taken.push((await device.volume.snapshots.create('same')).name);
  t.equal(new Set(taken).size, 3);
  t.strictSame(await labels(device.volume), ['same', 'same', 'same']);
  await device.close();
});

t.test('the policy is kept in the volume', async (t) => {
  const volume = await makeVolume();
  const [one, two] = [await open(t, volume), await open(t, volume)];
  t.equal((await one.volume.snapshots.policy()).daily, 14 * 86_400, 'as it is usually');
  await one.volume.snapshots.changePolicy({ daily: 0, hourly: 7200 });
  await one.volume.flush();
  await two.volume.refresh();
  t.match(await two.volume.snapshots.policy(), { daily: 0, hourly: 7200, weekly: 56 * 86_400 });
  for (const device of [one, two]) await device.close();
});

t.test('a change of a snapshot survives the death of the process', async (t) => {
  const volume = await makeVolume();
  const stateDirectory = await scratchDirectory(t);
  const device = await open(t, volume, { stateDirectory });
  const { name } = await device.volume.snapshots.create('kept');
  await device.volume.snapshots.hold(name, true);
  await device.close();
  const again = await open(t, volume, { stateDirectory });
  t.equal((await again.volume.snapshots.get(name))?.isHeld, true);
  await again.volume.flush();
  await again.close();
  const fresh = await open(t, volume);
  t.equal((await fresh.volume.snapshots.get(name))?.isHeld, true);
  await fresh.close();
});

t.test('a walk into the past may begin at a snapshot', async (t) => {
  const volume = await makeVolume();
  const device = await open(t, volume);
  for (let count = 0; count < 10; count++) {
    await device.write('file', `version ${count}`);
    await device.volume.flush();
  }
  const { sequence } = await device.volume.snapshots.create('');
  for (let count = 10; count < 20; count++) {
    await device.write('file', `version ${count}`);
    await device.volume.flush();
  }
  const fresh = await open(t, volume);
  const ino = await fresh.ino('file');
  for (const [at, text] of [
    [sequence, 'version 9'],
    [sequence - 3, 'version 6'],
    [sequence + 3, 'version 10'],
  ] as const) {
    const past = await fresh.volume.past.at(at);
    t.equal(Buffer.concat([...((await past?.readContent(ino, 0, 100)) ?? [])]).toString(), text);
  }
  for (const one of [device, fresh]) await one.close();
});
