import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Plaintext, Sealed } from '../../src/base/brand.js';
import { isPromise } from '../../src/base/maybe-promise.js';
import { segmentLength } from '../../src/crypto/stream-format.js';
import { PackError } from '../../src/pack/pack-error.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { newPackId, packKey } from '../../src/pack/pack-id.js';
import { readPackIndex } from '../../src/pack/pack-index.js';
import type { PackSourceOptions } from '../../src/pack/pack-source.js';
import { PackSource } from '../../src/pack/pack-source.js';
import type { RunPlace } from '../../src/pack/pack-writer.js';
import { PackWriter } from '../../src/pack/pack-writer.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ObjectKey } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { packKeys } from '../suite/pack-keys.js';
import { SeededRandom } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

/** Counts requests, and answers as the test says. */
class WatchedStore extends MemoryStore {
  readonly requests: { readonly key: ObjectKey; readonly offset: number; readonly length: number }[] = [];
  answer: ((bytes: Uint8Array | undefined) => Uint8Array | undefined) | undefined;

  override async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    this.requests.push({ key, offset: options.range?.offset ?? 0, length: options.range?.length ?? 0 });
    const bytes = await super.get(key, options);
    return this.answer ? this.answer(bytes) : bytes;
  }
}

/** A disk cache in memory. */
class RangeCache {
  readonly held = new Map<string, Uint8Array>();
  evictions = 0;

  async read(pack: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    const held = this.held.get(`${pack} ${offset} ${length}`);
    return held && new Uint8Array(held);
  }

  has(pack: string, offset: number, length: number): boolean {
    return this.held.has(`${pack} ${offset} ${length}`);
  }

  async write(pack: string, offset: number, bytes: Sealed): Promise<void> {
    this.held.set(`${pack} ${offset} ${bytes.byteLength}`, new Uint8Array(bytes));
  }

  async evict(): Promise<void> {
    this.evictions++;
    this.held.clear();
  }
}

interface Fixture {
  readonly store: WatchedStore;
  readonly id: PackId;
  readonly run: RunPlace;
  readonly chunks: readonly Plaintext[];
  readonly page: PageReference;
  readonly pagePlain: Plaintext;
  open(options?: Partial<PackSourceOptions>): PackSource;
}

const random = new SeededRandom(9);
const chunkCount = 40;

async function fixture(): Promise<Fixture> {
  const disk = new SimulatedDisk();
  await disk.makeDirectory('/staging');
  const store = new WatchedStore({ disk });
  const id = newPackId(random);
  const writer = await PackWriter.create({ disk, id, path: `/staging/${id}`, keys: packKeys, random });
  const chunks = Array.from(
    { length: chunkCount },
    (_, index) => (index % 3 === 0 ? Buffer.alloc(262_144, index) : randomBytes(262_144)) as Uint8Array as Plaintext,
  );
  const run = await writer.appendRun(chunks, { ino: 2, offset: 0 });
  const pagePlain = Buffer.alloc(30_000, 'a page ') as Uint8Array as Plaintext;
  const page = await writer.appendPage(pagePlain);
  await store.put(packKey(id), await writer.finish());
  await writer.close();
  const open = (options: Partial<PackSourceOptions> = {}): PackSource => new PackSource({ store, keys: packKeys, staging: new Map(), ...options });
  return { store, id, run, chunks, page, pagePlain, open };
}

const same = (found: readonly Uint8Array[], wanted: readonly Uint8Array[]): boolean =>
  found.length === wanted.length && found.every((bytes, index) => Buffer.compare(bytes, wanted[index]!) === 0);

/** Chunks `first` to `last` of a run, as a run. */
const part = (run: RunPlace, first: number, last: number): RunPlace => ({
  pack: run.pack,
  packOffset: offsetOf(run, first),
  chunks: run.chunks.slice(first, last + 1),
});

const offsetOf = (run: RunPlace, index: number): number =>
  run.chunks.slice(0, index).reduce((sum, chunk) => sum + chunk.sealedLength, run.packOffset);

void t.test('adjacent chunks are fetched with one request of at most 4 MiB, and are then in memory', async (t) => {
  const { store, run, chunks, open } = await fixture();
  const source = open();
  t.ok(same(await source.readRun(run, 3, 9), chunks.slice(3, 10)));
  t.equal(store.requests.length, 1);
  t.equal(store.requests[0]!.offset, offsetOf(run, 3));
  const again = source.readRun(run, 4, 8);
  t.notOk(isPromise(again), 'no promise for what is in memory');
  t.equal(store.requests.length, 1);
  t.ok(same(await source.readRun(run, 0, 12), chunks.slice(0, 13)), 'both sides of what is there');
  t.equal(store.requests.length, 3, 'only what is missing is asked for');
  t.ok(same(await source.readRun(run, 0, chunkCount - 1), chunks));
  t.ok(store.requests.every(({ length }) => length <= 4 * 1024 * 1024 + 64 * 1024));
  const total = store.requests.reduce((sum, { length }) => sum + length, 0);
  t.equal(total, offsetOf(run, chunkCount) - run.packOffset, 'nothing is asked for twice');
});

void t.test('concurrent reads of one chunk share one request', async (t) => {
  const { store, id, run, chunks, open } = await fixture();
  const source = open();
  const one = (): ReturnType<PackSource['readChunk']> => source.readChunk(id, offsetOf(run, 5), run.chunks[5]!);
  source.prefetchRuns([part(run, 4, 6)]);
  const found = await Promise.all([one(), one(), source.readRun(run, 5, 6)]);
  t.ok(same([found[0], found[1], ...found[2]], [chunks[5]!, chunks[5]!, chunks[5]!, chunks[6]!]));
  t.equal(store.requests.length, 1);
});

void t.test('bytes that do not verify are never returned', async (t) => {
  const { store, run, page, open } = await fixture();
  for (let round = 0; round < 40; round++) {
    store.answer = (bytes) => {
      if (bytes) bytes[random.below(bytes.byteLength)]! ^= 1 << random.below(8);
      return bytes;
    };
    const index = random.below(chunkCount);
    await t.rejects(async () => open().readRun(run, index, index), { code: 'NOT_AUTHENTIC' });
    await t.rejects(open().readPage(page), { code: 'NOT_AUTHENTIC' });
  }
});

void t.test('one damaged chunk does not fail its neighbours', async (t) => {
  const { store, id, run, chunks, open } = await fixture();
  store.answer = (bytes) => {
    if (bytes) bytes[run.chunks[0]!.sealedLength + 100]! ^= 1;
    return bytes;
  };
  const source = open();
  source.prefetchRuns([part(run, 0, 1), part(run, 2, 2)]);
  const read = async (index: number): Promise<Plaintext> => source.readChunk(id, offsetOf(run, index), run.chunks[index]!);
  const outcomes = await Promise.allSettled([read(0), read(1), read(2)]);
  t.equal(store.requests.length, 1, 'runs side by side come together');
  t.same(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  t.ok(same([await read(0), await read(2)], [chunks[0]!, chunks[2]!]));
});

void t.test('a missing or truncated pack is MISSING, an unavailable store is UNAVAILABLE', async (t) => {
  const { store, run, page, open } = await fixture();
  store.answer = () => undefined;
  await t.rejects(async () => open().readRun(run, 0, 0), { code: 'MISSING' });
  await t.rejects(open().readPage(page), { code: 'MISSING' });
  store.answer = (bytes) => bytes?.subarray(0, bytes.byteLength - 1);
  await t.rejects(async () => open().readRun(run, 0, 0), { code: 'MISSING' });
  const source = open();
  store.answer = () => {
    throw new StoreError('UNAVAILABLE', 'away');
  };
  await t.rejects(async () => source.readRun(run, 0, 0), { code: 'UNAVAILABLE' });
  store.answer = undefined;
  t.equal((await source.readRun(run, 0, 0)).length, 1, 'a failure is not remembered');
});

void t.test('a chunk of another length than the tree records is an error', async (t) => {
  const { id, run, open } = await fixture();
  const source = open();
  const shorter = { ...run.chunks[0]!, plainLength: 262_143 };
  await t.rejects(async () => source.readChunk(id, run.packOffset, shorter), { code: 'NOT_AUTHENTIC' });
  await source.readChunk(id, run.packOffset, run.chunks[0]!);
  t.throws(() => source.readChunk(id, run.packOffset, shorter), { code: 'MALFORMED' }, 'also from memory');
});

void t.test('the disk cache serves data from the store, and damaged copies in it are fetched again', async (t) => {
  const { store, run, chunks, page, pagePlain, open } = await fixture();
  const diskCache = new RangeCache();
  await open({ diskCache }).readRun(run, 0, 3);
  await open({ diskCache }).readPage(page);
  t.equal(store.requests.length, 2);
  t.ok(same(await open({ diskCache }).readRun(run, 0, 3), chunks.slice(0, 4)));
  t.ok(same([await open({ diskCache }).readPage(page)], [pagePlain]));
  t.equal(store.requests.length, 2, 'from the disk');
  for (const bytes of diskCache.held.values()) bytes[500]! ^= 4;
  t.ok(same(await open({ diskCache }).readRun(run, 0, 3), chunks.slice(0, 4)));
  t.equal(diskCache.evictions, 1);
  t.ok(same([await open({ diskCache }).readPage(page)], [pagePlain]));
  t.equal(store.requests.length, 4, 'fetched again');
  diskCache.held.clear();
  store.answer = (bytes) => {
    if (bytes) bytes[10]! ^= 1;
    return bytes;
  };
  await t.rejects(async () => open({ diskCache }).readRun(run, 0, 0), { code: 'NOT_AUTHENTIC' });
  t.equal(diskCache.held.size, 0, 'bad bytes are not kept');
  t.equal(store.requests.length, 5, 'and not asked for again');
});

void t.test('chunks that were moved to another pack do not open', async (t) => {
  const { store, id, run, open } = await fixture();
  const moved = newPackId(random);
  const bytes = (await store.get(packKey(id))) as Uint8Array;
  await store.put(packKey(moved), bytes as Sealed);
  await t.rejects(async () => open().readChunk(moved, run.packOffset, run.chunks[0]!), { code: 'NOT_AUTHENTIC' });
  const read = async (offset: number, length: number): Promise<Uint8Array> => bytes.subarray(offset, offset + length);
  await t.rejects(readPackIndex(packKeys, moved, bytes.byteLength, read), { code: 'NOT_AUTHENTIC' });
});

/** A store whose bytes can be read synchronously. */
class PresentStore extends WatchedStore {
  readsNow = 0;
  damage = false;
  /** What is not in the page cache has to be waited for. */
  isPresent = true;
  readonly objects = new Map<ObjectKey, Uint8Array>();
  /** What was read, at once or later. */
  readonly ranges: { offset: number; length: number }[] = [];

  async readInto(key: ObjectKey, target: Uint8Array, offset: number): Promise<number | undefined> {
    const bytes = this.objects.get(key)?.subarray(offset, offset + target.byteLength);
    if (!bytes) return undefined;
    this.ranges.push({ offset, length: target.byteLength });
    target.set(bytes);
    return bytes.byteLength;
  }

  readNow(key: ObjectKey, target: Uint8Array, offset: number): boolean {
    const bytes = this.objects.get(key);
    if (!this.isPresent) return false;
    this.ranges.push({ offset, length: target.byteLength });
    if (!bytes || offset + target.byteLength > bytes.byteLength) return false;
    target.set(bytes.subarray(offset, offset + target.byteLength));
    if (this.damage) target[100]! ^= 1;
    this.readsNow++;
    return true;
  }
}

async function presentFixture(): Promise<Fixture & { readonly present: PresentStore }> {
  const made = await fixture();
  const present = new PresentStore({ local: true });
  present.objects.set(packKey(made.id), (await made.store.get(packKey(made.id))) as Uint8Array);
  return { ...made, present };
}

void t.test('chunks of a local store in the page cache are opened synchronously, and refused if they do not verify', async (t) => {
  const { run, chunks, present, open } = await presentFixture();
  const source = open({ store: present });
  const raw = source.readRun(run, 1, 1);
  t.notOk(isPromise(raw));
  t.ok(same(await raw, [chunks[1]!]));
  t.ok(same(await source.readRun(run, 3, 3), [chunks[3]!]), 'one that is compressed');
  t.equal(present.readsNow, 2);
  t.equal(present.requests.length, 0);
  present.damage = true;
  await t.rejects(async () => source.readRun(run, 4, 4), { code: 'NOT_AUTHENTIC' });
  await t.rejects(async () => source.readPart(run, 5, 10, 20), { code: 'NOT_AUTHENTIC' });
  t.equal(present.requests.length, 0, 'not asked for again');
  present.damage = false;
  t.ok(same(await source.readRun(run, 4, 4), [chunks[4]!]), 'an error is not kept');
});

void t.test('reads of parts return the right bytes and evict no chunks that are used more often', async (t) => {
  const { run, chunks, present, open } = await presentFixture();
  const source = open({ store: present, memory: { chunks: 1024 * 1024 } });
  for (let count = 0; count < 200; count++) {
    const index = random.below(chunkCount);
    const from = random.below(262_144);
    const to = from + 1 + random.below(262_144 - from);
    t.equal(
      Buffer.compare(await source.readPart(run, index, from, to), chunks[index]!.subarray(from, to)),
      0,
      `chunk ${index} from ${from} to ${to}`,
    );
    t.ok(source.memoryBytes <= 1024 * 1024);
  }
  const calm = open({ store: present, memory: { chunks: 1024 * 1024 } });
  for (const index of [0, 1, 2]) await calm.readRun(run, index, index);
  const before = present.readsNow;
  for (let index = 10; index < 20; index++) await calm.readPart(run, index, 0, 10);
  t.equal(present.readsNow, before + 10);
  const known = calm.readRun(run, 0, 2);
  t.notOk(isPromise(known));
  t.equal(present.readsNow, before + 10, 'what was there is still there');
  await calm.readPart(run, 15, 0, 10);
  await calm.readPart(run, 15, 0, 10);
  t.equal(present.readsNow, before + 11, 'what has to be opened as a whole is kept when it is wanted twice');
});

void t.test('of a raw chunk only the segments that hold a part are read', async (t) => {
  const { run, chunks, present, open } = await presentFixture();
  const source = open({ store: present });
  const at = offsetOf(run, 1);
  const one = segmentLength + 16;
  const cases = [
    { from: 3 * segmentLength, to: 3 * segmentLength + 4096, segments: 1 },
    { from: 3 * segmentLength - 1, to: 3 * segmentLength + 1, segments: 2 },
    { from: 0, to: 1, segments: 1 },
    { from: 262_143, to: 262_144, segments: 1 },
  ];
  for (const isPresent of [true, false]) {
    present.isPresent = isPresent;
    for (const { from, to, segments } of cases) {
      present.ranges.length = 0;
      t.ok(Buffer.compare(await source.readPart(run, 1, from, to), chunks[1]!.subarray(from, to)) === 0);
      t.same(present.ranges, [{ offset: at + Math.floor(from / segmentLength) * one, length: segments * one }], `${from} to ${to}`);
    }
  }
});

void t.test('a part whose staging pack is closed during the read comes from the store', async (t) => {
  const { id, run, chunks, present, open } = await presentFixture();
  present.isPresent = false;
  const staging = new Map<PackId, { read: () => Promise<never> }>();
  const read = async (): Promise<never> => {
    staging.delete(id);
    throw new PackError('MISSING', 'closed');
  };
  staging.set(id, { read });
  t.ok(Buffer.compare(await open({ store: present, staging }).readPart(run, 1, 100, 5000), chunks[1]!.subarray(100, 5000)) === 0);
  const failing = new Map([[id, { read: () => Promise.reject(new PackError('IO', 'the disk failed')) }]]);
  await t.rejects(async () => open({ store: present, staging: failing }).readPart(run, 1, 100, 5000), { code: 'IO' });
});

void t.test('a part that was read does not change with later reads', async (t) => {
  const { run, chunks, present, open } = await presentFixture();
  const source = open({ store: present, memory: { chunks: 0 } });
  const parts = [1, 2, 4].map((index) => source.readPart(run, index, 5, 5000));
  t.notOk(parts.some(isPromise));
  t.ok(
    same(
      parts as Uint8Array[],
      [1, 2, 4].map((index) => chunks[index]!.subarray(5, 5000)),
    ),
  );
});

void t.test('the disk cache is read synchronously, and damage in it is fetched again asynchronously', async (t) => {
  const { store, run, chunks, open } = await fixture();
  let damage = false;
  class PresentCache extends RangeCache {
    readNow(pack: string, target: Uint8Array, offset: number): boolean {
      const bytes = this.held.get(`${pack} ${offset} ${target.byteLength}`);
      if (bytes) target.set(bytes);
      if (damage) target[90]! ^= 1;
      return bytes !== undefined;
    }
  }
  const cache = new PresentCache();
  await open({ diskCache: cache }).readRun(run, 1, 1);
  t.equal(store.requests.length, 1);
  const again = open({ diskCache: cache }).readRun(run, 1, 1);
  t.notOk(isPromise(again));
  damage = true;
  t.ok(same(await open({ diskCache: cache }).readRun(run, 1, 1), [chunks[1]!]));
});

void t.test('large reads of a local store share memory without disturbing each other', async (t) => {
  const { run, chunks, present, open } = await presentFixture();
  class FilledStore extends PresentStore {
    filled = 0;

    override async get(key: ObjectKey, { range }: GetOptions = {}): Promise<Uint8Array | undefined> {
      const bytes = present.objects.get(key);
      return bytes?.slice(range?.offset, range && range.offset + range.length);
    }

    override async readInto(key: ObjectKey, target: Uint8Array, offset: number): Promise<number | undefined> {
      const bytes = present.objects.get(key);
      await new Promise((resolve) => setImmediate(resolve));
      if (!bytes) return undefined;
      const found = bytes.subarray(offset, offset + target.byteLength);
      target.set(found);
      if (this.damage) target[100]! ^= 1;
      this.filled++;
      return found.byteLength;
    }
  }
  const store = new FilledStore({ local: true });
  const source = open({ store });
  const found = await Promise.all(Array.from({ length: 20 }, async (_, index) => source.readRun(run, index, index + 3)));
  t.ok(found.every((part, index) => same(part, chunks.slice(index, index + 4))));
  for (let first = 0; first < chunkCount - 3; first += 4) {
    t.ok(same(await open({ store }).readRun(run, first, first + 3), chunks.slice(first, first + 4)), `from ${first} on`);
  }
  t.ok(store.filled >= 10, `${store.filled}`);
  store.damage = true;
  await t.rejects(async () => open({ store }).readRun(run, 1, 4), { code: 'NOT_AUTHENTIC' });
  store.damage = false;
  present.objects.clear();
  await t.rejects(async () => open({ store }).readRun(run, 1, 4), { code: 'MISSING' });
});
