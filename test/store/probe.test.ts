import t from 'tap';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ObjectBody, PutOutcome } from '../../src/store/object-store.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { probeStore } from '../../src/store/probe.js';
import { FaultyStore, UnconditionalStore } from '../suite/faulty-store.js';
import { collect } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

const random = new SeededRandom(testSeed());
const good = { conditionalPut: 'exact', ranges: true, readAfterWrite: true, listAfterWrite: true, listOrdered: true, delete: true };

t.test('a store that does what it should passes, and is left as it was', async (t) => {
  const disk = new SimulatedDisk();
  for (const store of [
    new MemoryStore(),
    await DirectoryStore.create('/store', { disk, random }),
    await DirectoryStore.create('/other', { disk: new SimulatedDisk({ links: false }), random }),
  ]) {
    t.same(await probeStore(store, random), good);
    t.same(await collect(store.list('')), []);
  }
});

t.test('a store that ignores the condition of a put is found out', async (t) => {
  t.same(await probeStore(new UnconditionalStore(new MemoryStore()), random), { ...good, conditionalPut: 'none' });
});

t.test('a store that lets two of many win is found out', async (t) => {
  class Racy extends MemoryStore {
    #puts = 0;
    override async put(key: string, body: ObjectBody, options?: { ifAbsent?: boolean }): Promise<PutOutcome> {
      const outcome = await super.put(key, body, options);
      return ++this.#puts === 20 ? 'created' : outcome;
    }
  }
  t.equal((await probeStore(new Racy(), random)).conditionalPut, 'none');
});

t.test('a store that sends whole objects for ranges is found out', async (t) => {
  class NoRanges extends MemoryStore {
    override get(key: string, options?: GetOptions): Promise<Uint8Array | undefined> {
      return super.get(key, { ...options, range: undefined, sizeMax: undefined });
    }
  }
  t.same(await probeStore(new NoRanges(), random), { ...good, ranges: false });
});

t.test('a list out of order, and one that lags, are found out', async (t) => {
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
  t.same(await probeStore(new Shuffled(), random), { ...good, listOrdered: false });
  t.same(await probeStore(new Lagging(), random), { ...good, listAfterWrite: false });
});

t.test('a store that keeps what it is told to delete is found out', async (t) => {
  class Keeping extends MemoryStore {
    override async delete(): Promise<void> {}
  }
  t.same(await probeStore(new Keeping(), random), { ...good, delete: false });
});

t.test('a store that fails altogether is an error, not a report', async (t) => {
  await t.rejects(probeStore(new FaultyStore(new MemoryStore(), random, { lostRequests: 100 }), random), { code: 'UNAVAILABLE' });
});
