/**
 * Tests an open volume from outside: acknowledged data survives what it must, and two volumes agree.
 */

import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { usualBudget } from '../../src/base/memory-budget.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { FaultyStore } from '../suite/faulty-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

async function directoryVolume(t: Parameters<typeof scratchDirectory>[0]) {
  const scratch = await scratchDirectory(t);
  const store = await DirectoryStore.create(join(scratch, 'store'), { disk: systemDisk, random: systemRandom });
  const volume = await createTestVolume(store);
  const stateDirectory = async (name: string): Promise<{ disk: typeof systemDisk; stateDirectory: string }> => {
    const path = join(scratch, name);
    await mkdir(path, { recursive: true });
    return { disk: systemDisk, stateDirectory: path };
  };
  return { volume, store, stateDirectory };
}

t.test('a new device sees everything that was flushed', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const first = await TestDevice.open(volume, await stateDirectory('a'));
  await first.mkdir('photos');
  await first.write('photos/small', 'a small file');
  const large = randomBytes(3 * 1024 * 1024 + 17);
  await first.write('photos/large', large);
  await first.write('text', 'words '.repeat(100_000));
  const picture = await first.picture();
  t.equal(picture['photos/large'], large.toString('latin1'), 'reads its own writes');
  await first.volume.flush();
  t.strictSame(await first.picture(), picture, 'and after the flush');
  await first.close();
  const second = await TestDevice.open(volume, await stateDirectory('b'));
  t.strictSame(await second.picture(), picture);
  await second.close();
});

t.test('closed files survive the daemon without a flush and reach the store with the next one', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const first = await TestDevice.open(volume, await stateDirectory('a'));
  await first.write('a', 'inline');
  await first.write('b', randomBytes(100_000));
  await first.write('c', randomBytes(2_000_000));
  await first.mkdir('d');
  await first.rename('a', 'd/a');
  await first.truncate('b', 50_000);
  const picture = await first.picture();
  await first.close();
  const again = await TestDevice.open(volume, await stateDirectory('a'));
  t.strictSame(await again.picture(), picture, 'replayed');
  t.ok(again.volume.pending().operations > 0, 'still pending');
  await again.volume.flush();
  t.equal(again.volume.pending().operations, 0);
  t.strictSame(await again.picture(), picture);
  await again.close();
  const other = await TestDevice.open(volume, await stateDirectory('b'));
  t.strictSame(await other.picture(), picture, 'another device sees the same');
  await other.close();
});

t.test('a small change of a large file uploads little', async (t) => {
  const { volume, store, stateDirectory } = await directoryVolume(t);
  const device = await TestDevice.open(volume, await stateDirectory('a'));
  const size = 8 * 1024 * 1024;
  const content = randomBytes(size);
  for (let offset = 0; offset < size; offset += 1024 * 1024) await device.write('big', content.subarray(offset, offset + 1024 * 1024), offset);
  await device.volume.flush();
  const before = await storeBytes(store);
  const change = randomBytes(4096);
  await device.write('big', change, 5 * 4096);
  await device.volume.flush();
  change.copy(content, 5 * 4096);
  t.ok((await storeBytes(store)) - before < 64 * 1024);
  t.ok((await device.read('big')).equals(content));
  await device.close();
});

async function storeBytes(store: DirectoryStore): Promise<number> {
  let total = 0;
  for await (const { size } of store.list('')) total += size ?? 0;
  return total;
}

t.test('checkpoints preserve the volume for this device and new ones', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const bounds = { foldBounds: { entries: 50, bytes: 1 << 30 } };
  const first = await TestDevice.open(volume, { ...(await stateDirectory('a')), ...bounds });
  for (let round = 0; round < 6; round++) {
    await first.mkdir(`d${round}`);
    for (let file = 0; file < 30; file++) await first.write(`d${round}/f${file}`, `content ${round} ${file}`);
    if (round > 1) await first.unlink(`d${round - 1}/f3`);
    await first.volume.flush();
  }
  const picture = await first.picture();
  t.ok(Object.keys(picture).length > 150);
  await first.close();
  const again = await TestDevice.open(volume, { ...(await stateDirectory('a')), ...bounds });
  t.strictSame(await again.picture(), picture, 'opened again');
  await again.close();
  const second = await TestDevice.open(volume, { ...(await stateDirectory('b')), ...bounds });
  t.strictSame(await second.picture(), picture, 'opened by a new device');
  t.equal(second.volume.statistics().files, again.volume.statistics().files, 'the totals agree');
  await second.close();
});

t.test('each of two devices sees the changes of the other, and nothing is overwritten silently', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const a = await TestDevice.open(volume, { ...(await stateDirectory('a')), deviceName: 'anna' });
  const b = await TestDevice.open(volume, { ...(await stateDirectory('b')), deviceName: 'bert' });
  await a.write('shared', 'first');
  await a.volume.flush();
  await b.volume.refresh();
  t.equal(await b.text('shared'), 'first');
  await a.write('shared', 'by anna');
  await b.write('shared', 'by bert');
  await a.write('mine', 'anna');
  await b.write('mine', 'bert');
  await a.volume.flush();
  await b.volume.flush();
  await a.volume.refresh();
  const pictureA = await a.picture();
  t.strictSame(pictureA, await b.picture(), 'both see the same tree');
  const contents = Object.values(pictureA);
  for (const text of ['by anna', 'by bert', 'anna', 'bert']) t.ok(contents.includes(text), `${text} is kept`);
  t.equal(await a.text('shared'), 'by anna', 'the first in the log keeps the name');
  await a.close();
  await b.close();
});

t.test("a truncation between unsealed writes is not taken for another device's change", async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const a = await TestDevice.open(volume, await stateDirectory('a'));
  const b = await TestDevice.open(volume, await stateDirectory('b'));
  const content = randomBytes(10_000);
  await a.write('file', content);
  await a.truncate('file', 9000);
  await a.write('file', content.subarray(0, 5000), 9000);
  await b.write('other', 'by b');
  await b.volume.flush();
  await a.volume.flush();
  t.strictSame(Object.keys(await a.picture()).toSorted(), ['file', 'other'], 'no conflict copy');
  t.ok((await a.read('file')).equals(Buffer.concat([content.subarray(0, 9000), content.subarray(0, 5000)])));
  await a.close();
  await b.close();
});

t.test('the kernel is not told of files that others did not change, even uncommitted ones', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const a = await TestDevice.open(volume, await stateDirectory('a'));
  const b = await TestDevice.open(volume, await stateDirectory('b'));
  const told: string[] = [];
  a.volume.onChange({
    collect: async () => true,
    isCollected: () => true,
    hold() {},
    done() {},
    isUsed: () => false,
    changed: ({ entries }) => told.push(...entries.map(({ name }) => name)),
  });
  await a.mkdir('mine');
  await a.write('mine/file', 'content');
  await b.mkdir('theirs');
  await b.write('same', 'by b');
  await b.volume.flush();
  await a.write('same', 'by a');
  await a.volume.flush();
  t.notOk(told.includes('mine') || told.includes('file'), `told of ${told.join(', ')}`);
  const conflict = Object.keys(await a.picture()).find((name) => name.startsWith('same ('));
  t.strictSame([...new Set(told)].toSorted(), ['same', 'theirs', ...(conflict === undefined ? ['no conflict copy'] : [conflict])].toSorted());
  await a.close();
  await b.close();
});

t.test('commits to other files leave pending operations unchanged, also in the journal', async (t) => {
  const { volume, stateDirectory } = await directoryVolume(t);
  const here = await stateDirectory('a');
  const first = await TestDevice.open(volume, here);
  const b = await TestDevice.open(volume, await stateDirectory('b'));
  await first.mkdir('ours');
  await first.mkdir('theirs');
  await first.volume.flush();
  await b.volume.refresh();
  const content = randomBytes(300_000);
  for (let index = 0; index < 30; index++) await first.write(`ours/${index}`, content.subarray(index * 1000, index * 9000));
  const pending = first.volume.pending();
  for (let index = 0; index < 3; index++) {
    await b.write(`theirs/${index}`, `by b ${index}`);
    await b.volume.flush();
    await first.volume.refresh();
    t.equal(await first.text(`theirs/${index}`), `by b ${index}`, 'changes of the other device are visible at once');
  }
  t.equal(first.volume.pending().operations, pending.operations, 'pending operations are unchanged');
  const picture = await first.picture();
  await first.close();
  const again = await TestDevice.open(volume, here);
  t.strictSame(await again.picture(), picture, 'replayed on the new base');
  await again.volume.flush();
  await b.volume.refresh();
  t.strictSame(await b.picture(), picture, 'on the other device');
  await again.close();
  await b.close();
});

t.test('synced data survives a power loss at any moment', async (t) => {
  const store = new MemoryStore();
  const volume = await createTestVolume(store);
  const disk = new SimulatedDisk({ seed: 7 });
  await disk.makeDirectory('/state');
  const first = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
  await first.mkdir('d');
  await first.write('d/a', randomBytes(10_000));
  await first.write('b', 'tiny');
  await first.volume.sync();
  const picture = await first.picture();
  await first.write('later', 'maybe');
  const next = disk.crash('power');
  const again = await TestDevice.open(volume, { disk: next, stateDirectory: '/state' });
  const found = await again.picture();
  delete found['later'];
  t.strictSame(found, picture);
  await again.close();
});

t.test('after a crash between upload and commit the volume opens while its store is offline', async (t) => {
  const disk = new SimulatedDisk({ seed: 11 });
  await disk.makeDirectory('/state');
  await disk.syncDirectory('/');
  const objects = new MemoryStore({ disk });
  const volume = await createTestVolume(objects);
  const store = new FaultyStore(objects, new SeededRandom(1), {});
  const first = await TestDevice.open({ ...volume, store }, { disk, stateDirectory: '/state' });
  const content = randomBytes(400_000);
  await first.write('large', content);
  await first.volume.sync();
  // The packs reach the store; the commit does not.
  store.refuses = (key) => key.startsWith('log/');
  await t.rejects(first.volume.flush(), { code: 'UNAVAILABLE' });
  const next = disk.crash('process');
  store.faults = { lostRequests: 100 };
  const again = await TestDevice.open({ ...volume, store }, { disk: next, stateDirectory: '/state' });
  t.ok((await again.read('large')).equals(content), 'everything is on this machine');
  await again.close();
});

t.test('an unreadable staging pack is reported as a failure of the local disk', async (t) => {
  const disk = new SimulatedDisk({ seed: 12 });
  await disk.makeDirectory('/state');
  await disk.syncDirectory('/');
  const volume = await createTestVolume(new MemoryStore({ disk }));
  const first = await TestDevice.open(volume, { disk, stateDirectory: '/state', contentLimits: { journalBytesMax: 0 } });
  const content = randomBytes(400_000);
  await first.write('large', content);
  await first.volume.sync();
  const next = disk.crash('process');
  next.fault = ({ kind, path }) => (path.includes('/staging/') && (kind === 'open' || kind === 'read') ? 'EIO' : undefined);
  await t.rejects(TestDevice.open(volume, { disk: next, stateDirectory: '/state' }), { name: 'PackError', code: 'IO' }, 'at opening');
  next.fault = undefined;
  const again = await TestDevice.open(volume, { disk: next, stateDirectory: '/state' });
  next.fault = ({ kind, path }) => (path.includes('/staging/') && kind === 'read' ? 'EIO' : undefined);
  await t.rejects(again.read('large'), { name: 'VolumeError', code: 'DISK' }, 'while it is mounted');
  next.fault = undefined;
  t.ok((await again.read('large')).equals(content), 'and everything is there once the disk can be read again');
  await again.close();
});

t.test('everything works with a cache that holds no pages', async (t) => {
  const disk = new SimulatedDisk({ seed: 13 });
  for (const path of ['/a', '/b']) await disk.makeDirectory(path);
  await disk.syncDirectory('/');
  const volume = await createTestVolume(new MemoryStore({ disk }));
  const memory = { ...usualBudget, shares: { ...usualBudget.shares, treePages: 1 } };
  const options = { disk, memory, foldBounds: { entries: 10, bytes: 1 << 30 } };
  const first = await TestDevice.open(volume, { ...options, stateDirectory: '/a' });
  for (const folder of ['one', 'two']) {
    await first.mkdir(folder);
    for (let index = 0; index < 40; index++) await first.write(`${folder}/${'long name '.repeat(12)}${index}`, `content ${index} `.repeat(60));
  }
  await first.volume.flush();
  const picture = await first.picture();
  const second = await TestDevice.open(volume, { ...options, stateDirectory: '/b', deviceName: 'b' });
  t.strictSame(await second.picture(), picture);
  // A rename across folders needs pages of both folders, of the inode, and of the file it replaces.
  await second.rename(`one/${'long name '.repeat(12)}7`, `two/${'long name '.repeat(12)}31`);
  await first.write(`one/${'long name '.repeat(12)}8`, 'changed');
  await second.volume.flush();
  await first.volume.flush();
  await second.volume.refresh();
  t.strictSame(await second.picture(), await first.picture(), 'rebased, too');
  const again = await TestDevice.open(volume, { ...options, disk: disk.crash('process'), stateDirectory: '/a' });
  t.match(await again.text(`one/${'long name '.repeat(12)}8`), /^changed/, 'and opened again');
  await again.close();
});

t.test('a write time set by the kernel is stored with the content without an operation', async (t) => {
  const disk = new SimulatedDisk({ seed: 14 });
  await disk.makeDirectory('/a');
  await disk.syncDirectory('/');
  const volume = await createTestVolume(new MemoryStore({ disk }));
  const options = { disk, stateDirectory: '/a' };
  const first = await TestDevice.open(volume, options);
  await first.write('file', 'old');
  const ino = await first.ino('file');
  first.filesystem.leaveContentTimesToCaller();
  const caller = { uid: 0, gid: 0, umask: 0, signal: new AbortController().signal };
  const times = async (device: TestDevice): Promise<unknown> => {
    const { mtime, ctime } = await device.filesystem.getattr(ino);
    return { mtime, ctime };
  };
  const written = { sec: 4_000_000_000, nsec: 5 };
  await first.volume.flush();
  await first.filesystem.write(caller, ino, 0, Buffer.from('new'), false);
  const told = await first.filesystem.setattr(ino, { mtime: written, ctime: written });
  t.match(told, { mtime: written, ctime: written });
  t.equal(first.volume.pending().operations, 0);
  const after = disk.crash('process');
  const again = await TestDevice.open(volume, { ...options, disk: after });
  t.equal(await again.text('file'), 'new', 'both survive the daemon');
  t.same(await times(again), { mtime: written, ctime: written });
  await again.volume.flush();
  t.same(await times(again), { mtime: written, ctime: written }, 'and are in the store');

  again.filesystem.leaveContentTimesToCaller();
  await again.filesystem.write(caller, ino, 0, Buffer.from('newer'), false);
  const later = { sec: 4_000_000_001, nsec: 0 };
  await again.filesystem.setattr(ino, { mtime: later, ctime: later });
  const changed = { sec: 4_000_000_002, nsec: 0 };
  await again.filesystem.setattr(ino, { mode: 0o100600, ctime: changed });
  t.same(await times(again), { mtime: later, ctime: changed });
  await again.volume.flush();
  t.same(await times(again), { mtime: later, ctime: changed }, 'a change of its mode was later');

  await again.filesystem.write(caller, ino, 0, Buffer.from('newest'), false);
  await again.filesystem.setattr(ino, { mtime: written, ctime: changed });
  t.equal(again.volume.pending().operations, 1, 'a time that was set is an operation');
  await again.volume.flush();
  t.same(await times(again), { mtime: written, ctime: changed });
  await again.close();
});
