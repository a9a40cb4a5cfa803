/**
 * Tests how many requests a device makes to a remote store, and how large they are: with a round trip of 30 ms they
 * decide the speed of a drive (doc/architecture.md, "A read" and "A write"). Times are measured by bench/network.ts.
 */
import t from 'tap';
import { bodySize } from '../../src/store/file-body.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ObjectBody, ObjectKey, PutOutcome } from '../../src/store/object-store.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import type { TestVolume } from '../suite/test-device.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);
const mib = 1024 * 1024;

/** Records the requests made to it. */
class WatchedStore extends MemoryStore {
  readonly gets: { readonly key: ObjectKey; readonly length: number }[] = [];
  readonly puts: { readonly key: ObjectKey; readonly size: number }[] = [];
  underWay = 0;
  underWayMax = 0;

  override async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const bytes = await super.get(key, options);
    if (!key.startsWith('packs/')) return bytes;
    this.gets.push({ key, length: bytes?.byteLength ?? 0 });
    this.underWay += bytes?.byteLength ?? 0;
    this.underWayMax = Math.max(this.underWayMax, this.underWay);
    // Requests made in the meantime overlap with this one.
    await new Promise((resolve) => setImmediate(resolve));
    this.underWay -= bytes?.byteLength ?? 0;
    return bytes;
  }

  override put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean } = {}): Promise<PutOutcome> {
    if (key.startsWith('packs/')) this.puts.push({ key, size: bodySize(body) });
    return super.put(key, body, options);
  }
}

async function newDevice(volume: TestVolume, disk: SimulatedDisk, name: string): Promise<TestDevice> {
  await disk.makeDirectory(`/${name}`);
  return TestDevice.open(volume, { disk, stateDirectory: `/${name}`, deviceName: name });
}

async function begin(): Promise<{ store: WatchedStore; volume: TestVolume; disk: SimulatedDisk; writer: TestDevice }> {
  const disk = new SimulatedDisk();
  const store = new WatchedStore({ disk });
  const volume = await createTestVolume(store);
  return { store, volume, disk, writer: await newDevice(volume, disk, 'writer') };
}

const sum = (sizes: readonly number[]): number => sizes.reduce((total, size) => total + size, 0);

t.test('a large file is uploaded while it is written, with little overhead', async (t) => {
  const { store, writer } = await begin();
  const size = 40 * mib;
  const content = random.bytes(4 * mib);
  let before = 0;
  for (let offset = 0; offset < size; offset += content.byteLength) {
    content[0]!++;
    await writer.write('large', content, offset);
    await writer.volume.sealContent(await writer.ino('large'));
    before = store.puts.length;
  }
  t.ok(before > 0, 'packs went up before anyone asked');
  await writer.volume.flush();
  const bytes = sum(store.puts.map((put) => put.size));
  t.ok(bytes < 1.01 * size, `${bytes} bytes for ${size}`);
  t.ok(store.puts.length <= 3, `${store.puts.length} packs`);
  await writer.close();
});

t.test('a large file is read ahead in few requests, up to a limit', async (t) => {
  const { store, volume, disk, writer } = await begin();
  const content = random.bytes(32 * mib);
  await writer.write('large', content);
  await writer.volume.flush();
  const reader = await newDevice(volume, disk, 'reader');
  t.ok((await reader.read('large')).equals(content));
  t.ok(store.gets.length < 24, `${store.gets.length} requests`);
  t.ok(store.underWayMax > 2 * mib, 'several are under way at once');
  t.ok(store.underWayMax <= 20 * mib, `${store.underWayMax} bytes under way`);
  t.ok(sum(store.gets.map(({ length }) => length)) < 1.01 * content.byteLength, 'nothing is requested twice');
  await Promise.all([writer.close(), reader.close()]);
});

t.test('hundreds of small files take few objects, and few requests to read in any order', async (t) => {
  const { store, volume, disk, writer } = await begin();
  const names = Array.from({ length: 300 }, (_, index) => `file-${index}`);
  const content = new Map(names.map((name) => [name, random.bytes(4096)]));
  for (const [name, bytes] of content) await writer.write(name, bytes);
  await writer.volume.flush();
  t.equal(store.puts.length, 1, 'one pack');
  for (const order of ['as written', 'shuffled']) {
    store.gets.length = 0;
    const reader = await newDevice(volume, disk, order);
    const left = [...names];
    let differences = 0;
    while (left.length > 0) {
      const [name] = left.splice(order === 'shuffled' ? random.below(left.length) : 0, 1);
      if (!(await reader.read(name!)).equals(content.get(name!) ?? Buffer.alloc(0))) differences++;
    }
    t.equal(differences, 0);
    t.ok(store.gets.length < 20, `${order}: ${store.gets.length} requests`);
    t.ok(sum(store.gets.map(({ length }) => length)) < 1.5 * 300 * 4200, `${order}: ${sum(store.gets.map(({ length }) => length))} bytes`);
    await reader.close();
  }
  await writer.close();
});

t.test('closed small files are uploaded before their commit, in packs of several megabytes', async (t) => {
  const { store, writer } = await begin();
  const count = 90;
  for (let i = 0; i < count; i++) await writer.write(`file-${i}`, random.bytes(64 * 1024));
  const before = sum(store.puts.map(({ size }) => size));
  t.ok(before > 0.4 * count * 64 * 1024, `${before} bytes went up before anyone asked`);
  t.ok(
    store.puts.every(({ size }) => size > 4 * mib),
    'none is small',
  );
  await writer.volume.flush();
  t.ok(store.puts.length <= 3, `${store.puts.length} packs`);
  t.ok(sum(store.puts.map(({ size }) => size)) < 1.1 * count * 64 * 1024);
  await writer.close();
});

t.test('a damaged prefetched chunk is requested again and refused if it stays damaged', async (t) => {
  const { store, volume, disk, writer } = await begin();
  const names = Array.from({ length: 100 }, (_, index) => `file-${index}`);
  for (const name of names) await writer.write(name, random.bytes(4096));
  await writer.volume.flush();
  const reader = await newDevice(volume, disk, 'reader');
  await reader.read(names[0]!);
  const get = store.get.bind(store);
  let isLying = true;
  store.get = async (key, options) => {
    const bytes = await get(key, options);
    // All chunks of the request except the first.
    if (isLying && key.startsWith('packs/')) bytes?.fill(0, 4300);
    return bytes;
  };
  await reader.read(names[1]!);
  await t.rejects(reader.read(names[2]!), { code: 'CORRUPT' });
  isLying = false;
  t.equal((await reader.read(names[2]!)).byteLength, 4096);
  t.equal((await reader.read(names[50]!)).byteLength, 4096);
  await Promise.all([writer.close(), reader.close()]);
});
