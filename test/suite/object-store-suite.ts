/** The contract of src/store/object-store.ts as tests, for every object store and every decorator of one. */
import type { Test } from 'tap';
import type { Sealed } from '../../src/base/brand.js';
import { equalBytes } from '../../src/base/bytes.js';
import type { ListedObject, ObjectStore } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { SeededRandom, testSeed } from './seeded-random.js';

export interface StoreUnderTest {
  readonly store: ObjectStore;
  /** Makes a finished local file of these bytes that the store can read; returns its path. */
  readonly writeFile?: (bytes: Uint8Array) => Promise<string>;
  /** Puts an object under a name that Sealdrive would never use, where the store allows that. */
  readonly plantForeign?: (name: string) => Promise<void>;
  /** Called after the store is closed. */
  readonly remove?: () => Promise<void>;
}

/** Plain test bytes stand in for sealed ones. */
export const asSealed = (bytes: Uint8Array): Sealed => bytes as Sealed;
export const sealedText = (text: string): Sealed => asSealed(Buffer.from(text));

export async function collect(list: AsyncIterable<ListedObject>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of list) keys.push(key);
  return keys;
}

/** Runs the contract against a fresh store per test. */
export function objectStoreSuite(t: Test, name: string, make: () => Promise<StoreUnderTest>): void {
  const check = (what: string, body: (t: Test, under: StoreUnderTest, random: SeededRandom) => Promise<void>): void => {
    void t.test(`${name}: ${what}`, async (t) => {
      const seed = testSeed();
      t.comment(`TEST_SEED=${seed}`);
      const under = await make();
      try {
        await body(t, under, new SeededRandom(seed));
      } finally {
        await under.store.close();
        await under.remove?.();
      }
    });
  };

  check('what was put is got, by a caller who owns it', async (t, { store }, random) => {
    const bytes = random.bytes(100_000);
    t.equal(await store.put('packs/ab/one', asSealed(bytes)), 'created');
    const got = await store.get('packs/ab/one');
    t.ok(got && equalBytes(got, bytes));
    got?.fill(0);
    const again = await store.get('packs/ab/one');
    t.ok(again && equalBytes(again, bytes));
  });

  check('an empty object is not an absent one', async (t, { store }) => {
    t.equal(await store.put('keys/empty', asSealed(new Uint8Array(0))), 'created');
    t.equal((await store.get('keys/empty'))?.byteLength, 0);
    t.equal(await store.head('keys/empty'), 0);
    t.equal(await store.get('keys/absent'), undefined);
    t.equal(await store.get('nowhere/at/all'), undefined);
    t.equal(await store.head('keys/absent'), undefined);
    t.equal(await store.get('keys/absent', { range: { offset: 0, length: 4 } }), undefined);
  });

  check('a range gives the part of it that exists', async (t, { store }) => {
    await store.put('packs/ab/range', sealedText('0123456789'));
    const range = async (offset: number, length: number): Promise<string> =>
      Buffer.from((await store.get('packs/ab/range', { range: { offset, length } })) ?? []).toString();
    t.equal(await range(0, 4), '0123');
    t.equal(await range(3, 4), '3456');
    t.equal(await range(8, 100), '89');
    t.equal(await range(9, 1), '9');
    t.equal(await range(10, 5), '');
    t.equal(await range(1000, 5), '');
    if (!store.readInto) return;
    const target = Buffer.alloc(4, 'x');
    t.equal(await store.readInto('packs/ab/range', target, 3), 4);
    t.equal(target.toString(), '3456');
    t.equal(await store.readInto('packs/ab/range', target, 8), 2);
    t.equal(target.subarray(0, 2).toString(), '89');
    t.equal(await store.readInto('packs/ab/range', target, 10), 0);
    t.equal(await store.readInto('packs/ab/none', target, 0), undefined);
  });

  check('of 16 concurrent conditional puts exactly one creates, and its bytes stay', async (t, { store }, random) => {
    for (let round = 0; round < 4; round++) {
      const bodies = Array.from({ length: 16 }, () => random.bytes(300));
      const outcomes = await Promise.all(bodies.map((body) => store.put(`log/race-${round}`, asSealed(body), { ifAbsent: true })));
      t.equal(outcomes.filter((outcome) => outcome === 'created').length, 1);
      const stored = await store.get(`log/race-${round}`);
      t.ok(stored && equalBytes(stored, bodies[outcomes.indexOf('created')]!));
      t.equal(await store.put(`log/race-${round}`, asSealed(random.bytes(300)), { ifAbsent: true }), 'exists');
      const after = await store.get(`log/race-${round}`);
      t.ok(after && stored && equalBytes(after, stored));
    }
  });

  check('a list is in order, within its prefix, after the given key', async (t, { store }) => {
    const keys = ['a', 'a-b', 'a0', 'b/1', 'b/2', 'b/2-x', 'b/a/1', 'b-a/1', 'c/0/0', 'c/0/1', 'c/1/0'];
    for (const key of keys.toReversed()) await store.put(key, sealedText(key));
    const sorted = keys.toSorted();
    t.same(await collect(store.list('')), sorted);
    t.same(
      await collect(store.list('b/')),
      sorted.filter((key) => key.startsWith('b/')),
    );
    t.same(await collect(store.list('nothing/')), []);
    for (const after of [...keys, '0', 'b/', 'b/a', 'c/0', 'c/0/00', 'zzz']) {
      t.same(
        await collect(store.list('', { after })),
        sorted.filter((key) => key > after),
        `after ${after}`,
      );
    }
    t.same(
      await collect(store.list('b/', { after: 'b/2' })),
      sorted.filter((key) => key.startsWith('b/') && key > 'b/2'),
    );
    for await (const { key, size } of store.list('')) if (size !== undefined) t.equal(size, key.length);
  });

  check('a list of many objects is complete, and can be left in its middle', async (t, { store }) => {
    const keys = Array.from({ length: 300 }, (_, index) => `packs/${(index % 7).toString(16)}f/${index.toString(16).padStart(8, '0')}`);
    await Promise.all(keys.map((key) => store.put(key, sealedText(key))));
    t.same(await collect(store.list('packs/')), keys.toSorted());
    for await (const { key } of store.list('packs/')) {
      t.equal(key, keys.toSorted()[0]);
      break;
    }
  });

  check('deleting twice is deleting', async (t, { store }) => {
    await store.put('packs/aa/x', sealedText('x'));
    await store.put('packs/aa/y', sealedText('y'));
    await store.put('packs/aa/z', sealedText('z'));
    await store.get('packs/aa/x');
    await store.delete(['packs/aa/x', 'packs/aa/y']);
    await store.delete(['packs/aa/x', 'packs/bb/never', 'never']);
    await store.delete([]);
    t.equal(await store.get('packs/aa/x'), undefined);
    t.same(await collect(store.list('packs/')), ['packs/aa/z']);
    t.equal(await store.put('packs/aa/x', sealedText('new'), { ifAbsent: true }), 'created');
    t.equal(Buffer.from((await store.get('packs/aa/x')) ?? []).toString(), 'new');
  });

  check('an object larger than expected is refused', async (t, { store }) => {
    await store.put('packs/aa/large', asSealed(new Uint8Array(5000)));
    await t.rejects(store.get('packs/aa/large', { sizeMax: 4999 }), { code: 'PROTOCOL' });
    t.equal((await store.get('packs/aa/large', { sizeMax: 5000 }))?.byteLength, 5000);
    t.equal((await store.get('packs/aa/large', { sizeMax: 100, range: { offset: 10, length: 100 } }))?.byteLength, 100);
  });

  check('an aborted call is rejected', async (t, { store }) => {
    const signal = AbortSignal.abort(new Error('enough'));
    await t.rejects(store.get('keys/x', { signal }));
    await t.rejects(store.put('keys/x', sealedText('x'), { signal }));
    await t.rejects(collect(store.list('', { signal })).then((keys) => (keys.length === 0 ? Promise.reject(new Error('empty')) : keys)));
  });

  check('a large file is put from disk', async (t, { store, writeFile }, random) => {
    if (!writeFile) return;
    const bytes = Buffer.alloc(9 * 1024 * 1024 + 17);
    for (let at = 0; at < bytes.length; at += 4096) bytes.set(random.bytes(16).subarray(0, bytes.length - at), at);
    const path = await writeFile(bytes);
    t.equal(await store.put('packs/cc/file', { path, size: bytes.length }, { ifAbsent: true }), 'created');
    const other = await writeFile(random.bytes(1000));
    t.equal(await store.put('packs/cc/file', { path: other, size: 1000 }, { ifAbsent: true }), 'exists');
    const got = await store.get('packs/cc/file');
    t.ok(got && equalBytes(got, bytes));
    t.equal(await store.head('packs/cc/file'), bytes.length);
    const empty = await writeFile(new Uint8Array(0));
    t.equal(await store.put('packs/cc/empty', { path: empty, size: 0 }), 'created');
    t.equal((await store.get('packs/cc/empty'))?.byteLength, 0);
    await t.rejects(store.put('packs/cc/gone', { path: `${path}-gone`, size: 3 }), StoreError);
  });

  check('foreign names in the store do not get in the way', async (t, { store, plantForeign }) => {
    if (!plantForeign) return;
    await store.put('keys/mine', sealedText('mine'));
    for (const name of ['keys/UPPER', 'keys/with space', '.DS_Store', 'keys/.hidden', 'README.md', 'lost+found/x']) await plantForeign(name);
    // A store may omit foreign names, but must list all those that are keys.
    t.ok((await collect(store.list(''))).includes('keys/mine'));
    t.ok((await collect(store.list('keys/'))).includes('keys/mine'));
  });
}
