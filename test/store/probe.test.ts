import t from 'tap';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ObjectBody, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { probeStore } from '../../src/store/probe.js';
import { FaultyStore, UnconditionalStore } from '../suite/faulty-store.js';
import { collect, sealedText } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

const random = new SeededRandom(testSeed());
const good = { conditionalPut: 'exact', ranges: true, readAfterWrite: true, listAfterWrite: true, listOrdered: true, delete: 'works' };

t.test('a correct store passes, and is left as it was', async (t) => {
  const disk = new SimulatedDisk();
  for (const store of [
    new MemoryStore(),
    await DirectoryStore.create('/store', { disk, random }),
    await DirectoryStore.create('/other', { disk: new SimulatedDisk({ links: false }), random }),
  ]) {
    t.match(await probeStore(store, random), good);
    t.same(await collect(store.list('')), []);
  }
});

t.test('a store that ignores the condition of a put is detected', async (t) => {
  t.match(await probeStore(new UnconditionalStore(new MemoryStore()), random), { ...good, conditionalPut: 'none' });
});

t.test('a store that lets two racing puts win is detected', async (t) => {
  class Racy extends MemoryStore {
    #puts = 0;
    override async put(key: string, body: ObjectBody, options?: { ifAbsent?: boolean }): Promise<PutOutcome> {
      const outcome = await super.put(key, body, options);
      return ++this.#puts === 20 ? 'created' : outcome;
    }
  }
  t.equal((await probeStore(new Racy(), random)).conditionalPut, 'none');
});

t.test('a store that sends whole objects for ranges is detected', async (t) => {
  class NoRanges extends MemoryStore {
    override get(key: string, { signal }: GetOptions = {}): Promise<Uint8Array | undefined> {
      return super.get(key, { signal });
    }
  }
  t.match(await probeStore(new NoRanges(), random), { ...good, ranges: false });
});

t.test('lists that are out of order or lag behind are detected', async (t) => {
  class Shuffled extends MemoryStore {
    override async *list(prefix: string): AsyncIterable<ListedObject> {
      const all: ListedObject[] = [];
      for await (const object of super.list(prefix)) all.push(object);
      yield* all.toReversed();
    }
  }
  class Lagging extends MemoryStore {
    // oxlint-disable-next-line require-yield
    override async *list(): AsyncIterable<ListedObject> {}
  }
  t.match(await probeStore(new Shuffled(), random), { ...good, listOrdered: false });
  t.match(await probeStore(new Lagging(), random), { ...good, listAfterWrite: false });
});

t.test('a store that keeps deleted objects is detected', async (t) => {
  class Keeping extends MemoryStore {
    override async delete(): Promise<void> {}
  }
  t.match(await probeStore(new Keeping(), random), { ...good, delete: 'ignored' });
});

t.test('a store that fails altogether causes an error, not a report', async (t) => {
  await t.rejects(probeStore(new FaultyStore(new MemoryStore(), random, { lostRequests: 100 }), random), { code: 'UNAVAILABLE' });
});

/** A store that records the requested keys. */
class Watched extends MemoryStore {
  readonly touched = new Set<string>();
  override get(key: string, options?: GetOptions): Promise<Uint8Array | undefined> {
    this.touched.add(key);
    return super.get(key, options);
  }
  override put(key: string, body: ObjectBody, options?: { ifAbsent?: boolean }): Promise<PutOutcome> {
    this.touched.add(key);
    return super.put(key, body, options);
  }
  override delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.touched.add(key);
    return super.delete(keys);
  }
}

t.test('the probe touches only its own objects, whatever the store contains', async (t) => {
  const store = new Watched();
  const keys = ['keys/00', 'log/0000000000000000-000000000000', 'packs/00/00', 'probe/00', 'probe/ffffffffffffffff-00'];
  for (const key of keys) await store.put(key, sealedText(key));
  store.touched.clear();
  t.match(await probeStore(store, random), good);
  t.ok([...store.touched].every((key) => /^probe\/[0-9a-f]{16}-[0-9a-f]{2}$/.test(key) && !keys.includes(key)));
  t.same(await collect(store.list('')), keys);
  for (const key of keys) t.equal(Buffer.from((await store.get(key)) ?? []).toString(), key);
});

t.test('a store that refuses deletion keeps only a few harmless objects', async (t) => {
  class AppendOnly extends Watched {
    override delete(): Promise<void> {
      return Promise.reject(new StoreError('DENIED', 'this token may not delete'));
    }
  }
  const store = new AppendOnly();
  t.match(await probeStore(store, random), { ...good, delete: 'refused' });
  const left = await collect(store.list(''));
  t.equal(left.length, 3);
  t.ok(left.every((key) => key.startsWith('probe/')));
});

t.test('a store that fails in the middle is left without probe objects', async (t) => {
  class Failing extends Watched {
    override get(key: string, options?: GetOptions): Promise<Uint8Array | undefined> {
      if (this.touched.size > 2) throw new StoreError('UNAVAILABLE', 'gone');
      return super.get(key, options);
    }
  }
  const store = new Failing();
  await t.rejects(probeStore(store, random), { code: 'UNAVAILABLE' });
  t.same(await collect(store.list('')), []);
});

t.test('the probe detects a store whose conditions fail only when writers race', async (t) => {
  let most = 0;
  const racing = new Map<string, number>();
  class Counting extends MemoryStore {
    override async put(key: string, body: ObjectBody, options?: { ifAbsent?: boolean }): Promise<PutOutcome> {
      const count = (racing.get(key) ?? 0) + 1;
      racing.set(key, count);
      most = Math.max(most, count);
      await new Promise((resolve) => setImmediate(resolve));
      racing.set(key, (racing.get(key) ?? 1) - 1);
      return super.put(key, body, options);
    }
  }
  await probeStore(new Counting(), random);
  t.equal(most, 16);
  most = 0;
  await probeStore(new Counting(), random, { writers: 4, rounds: 1 });
  t.equal(most, 4);
});
