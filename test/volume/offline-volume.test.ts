/**
 * Tests a volume whose store goes offline and comes back: what works meanwhile, what is refused and when, and what is
 * uploaded without being asked (doc/concurrency.md, "A store that is offline").
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { FileState } from '../../src/volume/file-status.js';
import { VolumeError } from '../../src/volume/volume-error.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SwitchedStore, until } from '../suite/switched-store.js';
import type { DeviceOptions, TestVolume } from '../suite/test-device.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const MiB = 1024 * 1024;

// The volume's timers do not keep a process alive, and a store in memory has no connections that would.
const hold = setInterval(() => {}, 2 ** 30);
t.teardown(() => clearInterval(hold));

interface World {
  readonly store: SwitchedStore;
  readonly volume: TestVolume;
  open(name: string, options?: Partial<DeviceOptions>): Promise<TestDevice>;
  stateOf(name: string): string;
}

async function createWorld(t: Parameters<typeof scratchDirectory>[0]): Promise<World> {
  const scratch = await scratchDirectory(t);
  const store = new SwitchedStore();
  const volume = await createTestVolume(store);
  return {
    store,
    volume,
    stateOf: (name) => join(scratch, name),
    async open(name, options = {}) {
      const stateDirectory = join(scratch, name);
      await mkdir(stateDirectory, { recursive: true });
      return TestDevice.open(volume, { disk: systemDisk, stateDirectory, reachability: store, patienceMs: 60_000, cacheFreeMin: 0, ...options });
    },
  };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof VolumeError ? error.code : String(error)),
  );

t.test('a known volume opens and works without the store, and uploads everything when it is back', async (t) => {
  const { store, open } = await createWorld(t);
  const first = await open('a');
  await first.mkdir('folder');
  await first.write('folder/stored', randomBytes(300_000));
  await first.volume.flush();
  await first.write('folder/waiting', randomBytes(700_000));
  await first.write('small', 'a few bytes');
  const before = await first.picture();
  await first.close();
  store.mood = 'away';
  const offline = await open('a');
  t.equal(offline.volume.isOffline, true);
  t.strictSame(await offline.picture(), before);
  await offline.write('folder/stored', 'changed', 10);
  await offline.rename('small', 'folder/small');
  await offline.write('new', randomBytes(2 * MiB));
  const changed = await offline.picture();
  await t.rejects(offline.volume.flush(), { code: 'UNAVAILABLE' });
  await offline.close();
  const again = await open('a', { commitDelayMs: 20 });
  t.strictSame(await again.picture(), changed, 'and again');
  store.mood = 'there';
  await until(() => again.volume.pending().operations === 0);
  await again.close();
  const other = await open('b');
  t.strictSame(await other.picture(), changed, 'another device has it all');
  await other.close();
});

t.test('while offline, files on this machine can be read and others are refused', async (t) => {
  const { store, open } = await createWorld(t);
  const writer = await open('a');
  await writer.write('read', randomBytes(500_000));
  await writer.write('unread', randomBytes(500_000));
  await writer.volume.flush();
  const reader = await open('b');
  const read = await reader.read('read');
  await until(async () => (await reader.volume.fileStatus(await reader.ino('read')))?.hereBytes !== 0);
  await reader.close();
  store.mood = 'away';
  const offline = await open('b', { patienceMs: 100 });
  t.strictSame(await offline.list(), ['read', 'unread']);
  t.ok(read.equals(await offline.read('read')));
  const gets = store.gets;
  t.equal(await codeOf(offline.read('unread')), 'UNAVAILABLE');
  t.ok(store.gets - gets <= 1);
  store.mood = 'hanging';
  t.equal(await codeOf(offline.read('unread')), 'UNAVAILABLE', 'also before the drive is known to be offline');
  const caller = new AbortController();
  const given = codeOf(Promise.resolve(offline.volume.readContent(await offline.ino('unread'), 0, 4096, caller.signal)));
  caller.abort();
  t.equal(await given, 'INTERRUPTED', 'and an interrupted caller need not wait');
  await offline.close();
  await writer.close();
});

t.test('the status of a file follows it from stored through pending and uploading to stored', async (t) => {
  const { store, open } = await createWorld(t);
  const device = await open('a');
  await device.mkdir('folder');
  await device.write('folder/file', 'one');
  await device.volume.flush();
  const stateOf = async (path: string): Promise<FileState | undefined> => (await device.volume.fileStatus(await device.ino(path)))?.state;
  t.equal(await stateOf('folder/file'), 'stored');
  await device.write('folder/file', randomBytes(100_000));
  await device.write('folder/other', randomBytes(100_000));
  t.equal(await stateOf('folder/file'), 'pending');
  t.equal(await stateOf('folder/other'), 'local');
  const tree = await device.volume.subtreeStatus(await device.ino('folder'));
  t.strictSame(tree?.states, { stored: 0, uploading: 0, pending: 2, local: 1 }, 'the folder has a new entry');
  store.hold();
  const flushed = device.volume.flush();
  await until(() => store.heldCount > 0);
  t.equal(await stateOf('folder/file'), 'uploading');
  t.equal(await stateOf('folder/other'), 'uploading');
  await device.write('folder/file', 'more', 5);
  t.equal(await stateOf('folder/file'), 'pending', 'and has changed again meanwhile');
  store.release();
  await flushed;
  await device.volume.flush();
  t.equal(await stateOf('folder/file'), 'stored');
  t.equal(await stateOf('folder/other'), 'stored');
  await device.close();
});

t.test('pinned files are fetched, kept up to date and never evicted', async (t) => {
  const { store, open, stateOf } = await createWorld(t);
  const writer = await open('a');
  await writer.mkdir('music');
  await writer.mkdir('music/deep');
  for (let number = 0; number < 30; number++) await writer.write(`music/song${number}`, randomBytes(20_000));
  await writer.write('music/deep/long', randomBytes(3 * MiB));
  await writer.write('elsewhere', randomBytes(100_000));
  await writer.volume.flush();
  const reader = await open('b', { pollIntervalMs: 10 });
  const music = await reader.ino('music');
  const root = await reader.ino('');
  t.strictSame(await reader.volume.pins.add({ ino: music, parent: root, name: 'music' }), { fits: true });
  const never = new AbortController().signal;
  const report = await reader.volume.pins.completed(music, () => {}, never);
  t.match(report, { state: 'complete', files: 31, hereFiles: 31 });
  t.equal(report?.bytes, report?.hereBytes);
  t.equal((await reader.volume.fileStatus(await reader.ino('music/deep/long')))?.isPinned, true);
  t.equal((await reader.volume.fileStatus(await reader.ino('elsewhere')))?.isPinned, false);
  // Another device changes, adds, and replaces.
  await writer.write('music/song3', randomBytes(20_000));
  await writer.write('music/deep/new', randomBytes(200_000));
  await writer.volume.flush();
  await until(async () => (await reader.exists('music/deep/new')) && reader.volume.pins.list()[0]?.files === 32);
  await until(() => reader.volume.pins.list()[0]?.state === 'complete');
  await reader.close();
  const sealed = Buffer.concat(
    await Promise.all((await readdir(stateOf('b'))).filter((name) => name === 'pins').map((name) => readFile(join(stateOf('b'), name)))),
  );
  t.ok(sealed.length > 0);
  t.equal(sealed.includes('music'), false, 'its name cannot be read on the disk');
  store.mood = 'away';
  const offline = await open('b');
  for (const path of ['music/song3', 'music/song29', 'music/deep/long', 'music/deep/new']) {
    t.ok((await writer.read(path)).equals(await offline.read(path)), `${path} is read without the store`);
  }
  t.equal(await offline.volume.pathOf(music), '/music');
  t.equal(await codeOf(offline.read('elsewhere')), 'UNAVAILABLE');
  t.equal(await offline.volume.pins.remove(music), true);
  t.equal(await offline.volume.pins.remove(music), false);
  await offline.close();
  t.strictSame((await open('b').then(async (device) => [device, await device.close()] as const))[0].volume.pins.list(), []);
  store.mood = 'there';
  await writer.close();
});

t.test('a pinned file that is replaced under its name stays pinned', async (t) => {
  const { open } = await createWorld(t);
  const device = await open('a');
  await device.write('letter', 'one');
  const root = await device.ino('');
  await device.volume.pins.add({ ino: await device.ino('letter'), parent: root, name: 'letter' });
  await device.write('letter.new', 'two');
  await device.rename('letter.new', 'letter');
  await device.volume.flush();
  const ino = await device.ino('letter');
  await until(() => device.volume.pins.list()[0]?.ino === ino);
  await device.close();
});

t.test('a folder that does not fit into the cache is not pinned', async (t) => {
  const { open } = await createWorld(t);
  const writer = await open('a');
  await writer.write('large', randomBytes(3 * MiB));
  await writer.volume.flush();
  const reader = await open('b', { cacheSize: 2 * MiB });
  const pin = { ino: await reader.ino('large'), parent: await reader.ino(''), name: 'large' };
  const outcome = await reader.volume.pins.add(pin);
  t.equal(outcome.fits, false);
  t.strictSame(reader.volume.pins.list(), []);
  await reader.close();
  await writer.close();
});

t.test('a writer that is faster than the store waits, and the queue stays bounded', async (t) => {
  const { store, open } = await createWorld(t);
  const queueSize = 24 * MiB;
  const device = await open('a', { queueSize, commitDelayMs: 20, contentLimits: { dirtyBytesMax: 4 * MiB } });
  store.hold();
  let written = 0;
  let largest = 0;
  const writing = (async () => {
    for (; written < 80; written++) await device.write('large', randomBytes(MiB), written * MiB);
  })();
  await until(() => store.heldCount > 0 && written >= 20);
  const bytesNow = (): number => (device.volume.details()['queue']!['bytes'] as number | undefined) ?? 0;
  for (let turn = 0; turn < 20; turn++) {
    largest = Math.max(largest, bytesNow());
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.ok(written < 40, `the writer waits after ${written} MiB`);
  t.ok(largest <= queueSize + 6 * MiB, `${largest} bytes wait`);
  const timer = setInterval(() => {
    store.release();
    largest = Math.max(largest, bytesNow());
  }, 5);
  store.release();
  await writing;
  clearInterval(timer);
  await device.volume.flush();
  t.equal((await device.read('large')).byteLength, 80 * MiB);
  t.ok(largest <= queueSize + 6 * MiB, `${largest} bytes waited at most`);
  await device.close();
});

t.test('the disk counts as full while the queue is full and the store is offline, and nothing is lost', async (t) => {
  const { store, open } = await createWorld(t);
  const device = await open('a', { queueSize: 16 * MiB, commitDelayMs: 20, patienceMs: 50, contentLimits: { dirtyBytesMax: 4 * MiB } });
  await device.write('precious', 'old content');
  await device.volume.flush();
  store.mood = 'away';
  let error = 'done';
  for (let number = 0; number < 40 && error === 'done'; number++) error = await codeOf(device.write('large', randomBytes(MiB), number * MiB));
  t.equal(error, 'FULL');
  t.equal(device.volume.offlineRoomBytes(), 0, 'and df says so');
  t.equal(await codeOf(device.write('another', 'x')), 'FULL');
  t.equal(await codeOf(device.truncate('precious', 0)), 'FULL', 'a file to be rewritten is not truncated first');
  t.equal(await device.text('precious'), 'old content');
  await device.mkdir('a folder');
  await device.unlink('large');
  store.mood = 'there';
  await until(() => device.volume.pending().operations === 0 && device.volume.pending().uploadBytes === 0);
  await device.write('another', 'x');
  await device.volume.flush();
  t.strictSame(await device.list(), ['precious', 'a folder', 'another']);
  await device.close();
});

t.test('an interrupted flush ends at once, even during an upload', async (t) => {
  const { store, open } = await createWorld(t);
  const device = await open('a', { commitDelayMs: 1 });
  store.hold();
  await device.write('file', randomBytes(MiB));
  await until(() => store.heldCount > 0);
  const limit = new AbortController();
  const flushed = codeOf(device.volume.flush({ signal: limit.signal }));
  limit.abort(new VolumeError('INTERRUPTED', 'enough'));
  t.equal(await flushed, 'INTERRUPTED');
  await device.close();
  store.release();
});

t.test('folders that were never opened can be listed while the store is offline', async (t) => {
  const { store, open } = await createWorld(t);
  const writer = await open('a', { foldBounds: { entries: 10, bytes: 1000 } });
  for (let folder = 0; folder < 5; folder++) {
    await writer.mkdir(`folder${folder}`);
    for (let number = 0; number < 20; number++) await writer.write(`folder${folder}/file${number}`, `content ${number}`);
  }
  await writer.volume.flush();
  const reader = await open('b');
  await until(() => reader.volume.details()['cache']!['wholeTree'] === true);
  await reader.close();
  store.mood = 'away';
  const offline = await open('b');
  t.equal((await offline.list('folder4')).length, 20);
  t.equal(await offline.text('folder3/file7'), 'content 7', 'small files are in the tree');
  await offline.close();
  await writer.close();
});
