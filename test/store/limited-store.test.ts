import t from 'tap';
import { LimitedStore } from '../../src/store/limited-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ObjectBody, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { CountingStore } from '../suite/counting-store.js';
import { objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';

objectStoreSuite(t, 'limited and counted', async () => {
  const disk = new SimulatedDisk();
  let count = 0;
  return {
    store: new LimitedStore(new CountingStore(new MemoryStore({ disk })), { readsMax: 2, writesMax: 2 }),
    writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes),
  };
});

/** Holds each request until it is released. */
class HeldStore extends MemoryStore {
  readonly waiting: (() => void)[] = [];

  #hold(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  override async get(key: string, options?: GetOptions): Promise<Uint8Array | undefined> {
    await this.#hold();
    return super.get(key, options);
  }

  override async put(key: string, body: ObjectBody): Promise<PutOutcome> {
    await this.#hold();
    return super.put(key, body);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('no more requests run than allowed, and writes do not hold up reads', async (t) => {
  const held = new HeldStore();
  const store = new LimitedStore(held, { readsMax: 3, writesMax: 2 });
  const puts = Array.from({ length: 5 }, (_, index) => store.put(`a/${index}`, sealedText('x')));
  await turn();
  t.equal(held.waiting.length, 2);
  const gets = Array.from({ length: 5 }, (_, index) => store.get(`a/${index}`));
  await turn();
  t.equal(held.waiting.length, 5);
  const controller = new AbortController();
  const given = t.rejects(store.get('a/0', { signal: controller.signal }), { message: 'enough' });
  controller.abort(new Error('enough'));
  while (held.waiting.length > 0) {
    held.waiting.shift()?.();
    await turn();
    t.ok(held.waiting.length <= 5);
  }
  await Promise.all([...puts, ...gets]);
  await given;
});

t.test('the bytes that pass are counted', async (t) => {
  const store = new CountingStore(new MemoryStore());
  await store.put('a', sealedText('12345'));
  await store.get('a');
  await store.get('b');
  await store.head('a');
  await t.rejects(store.get('a', { sizeMax: 1 }), StoreError);
  await store.delete(['a']);
  t.same(store.counts, { gets: 3, puts: 1, lists: 0, deletes: 1, heads: 1, failures: 1, bytesGot: 5, bytesPut: 5 });
});
