/** Damaged trees and trees built by a hostile device give errors, never wrong data or an endless read. */
import t from 'tap';
import { ByteWriter } from '../../src/base/bytes.js';
import { PageFault } from '../../src/base/page-fault.js';
import { PackError } from '../../src/pack/pack-error.js';
import { newPackId } from '../../src/pack/pack-id.js';
import { PackSource } from '../../src/pack/pack-source.js';
import { PackWriter } from '../../src/pack/pack-writer.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import { encodePageReference } from '../../src/pack/page-reference.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { TreeError } from '../../src/tree/tree-error.js';
import { TreePage } from '../../src/tree/tree-page.js';
import { TreeReader } from '../../src/tree/tree-reader.js';
import type { TreeChange } from '../../src/tree/tree-writer.js';
import { applyBatch } from '../../src/tree/tree-writer.js';
import { packKeys } from '../suite/pack-keys.js';
import { PageStore } from '../suite/page-store.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

async function settle<T>(read: () => T): Promise<T> {
  const held: unknown[] = [];
  for (let faults = 0; ; faults++) {
    try {
      return read();
    } catch (fault) {
      if (!(fault instanceof PageFault)) throw fault;
      if (faults > 10_000) throw new Error('a read does not end', { cause: fault });
      held.push(await fault.load());
    }
  }
}

type Entry = readonly [key: string, value: Uint8Array | PageReference];

function encodePage(level: number, entries: readonly Entry[]): Uint8Array {
  const writer = new ByteWriter().u8(level).zeros(3).u32(entries.length);
  let at = 8 + 4 * entries.length;
  const values = entries.map(([, value]) => (value instanceof Uint8Array ? value : encodePageReference(value)));
  entries.forEach(([key], index) => {
    writer.u32(at);
    at += 6 + key.length + values[index]!.byteLength;
  });
  entries.forEach(([key], index) => writer.u16(key.length).u32(values[index]!.byteLength).byteString(key).bytes(values[index]!));
  return writer.copy();
}

const one = Buffer.from('1');

void t.test('a flipped bit anywhere in a stored tree is an error or has no effect, but never gives wrong data', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const disk = new SimulatedDisk();
  const id = newPackId(random);
  const writer = await PackWriter.create({ disk, id, path: `/${id}`, keys: packKeys, random });
  const staging = new Map([[id, writer]]);
  const build = new TreeReader(new PackSource({ store: new MemoryStore(), keys: packKeys, staging }));
  const key = (number: number): string => `I${String(number).padStart(6, '0')}`;
  const entries = Array.from({ length: 6000 }, (_, number): TreeChange => [key(number), random.bytes(60)]);
  const root = (await applyBatch(build, undefined, entries, writer)) as PageReference;
  await writer.close();
  const file = await disk.open(`/${id}`, 'write');
  const bytes = Buffer.alloc(writer.size);
  await file.read(bytes, 0);
  let refused = 0;
  for (let round = 0; round < 60; round++) {
    const damaged = Buffer.from(bytes);
    damaged[random.below(damaged.length)]! ^= 1 << random.below(8);
    const read = async (offset: number, length: number): Promise<never> =>
      Buffer.from(damaged.subarray(offset, offset + length)) as Uint8Array as never;
    const reader = new TreeReader(new PackSource({ store: new MemoryStore(), keys: packKeys, staging: new Map([[id, { read }]]) }));
    for (let number = 0; number < 6000; number += 150) {
      try {
        const found = await settle(() => reader.get(root, key(number)));
        if (!found || Buffer.compare(found, entries[number]![1] as Uint8Array) !== 0) return t.fail(`wrong data (seed ${seed}, round ${round})`);
      } catch (error) {
        if (!(error instanceof PackError) || error.code !== 'NOT_AUTHENTIC') throw error;
        refused++;
      }
    }
  }
  return t.ok(refused > 0, `${refused} reads refused (seed ${seed})`);
});

void t.test('a page whose bytes changed is refused or is a well-formed page', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const page = encodePage(
    0,
    Array.from({ length: 50 }, (_, number): Entry => [`I${String(number).padStart(3, '0')}`, Buffer.alloc(number)]),
  );
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const damaged = Buffer.from(page.subarray(0, random.below(10) === 0 ? random.below(page.length) : page.length));
    if (damaged.length > 0) damaged[random.below(damaged.length)]! ^= 1 << random.below(8);
    try {
      const decoded = new TreePage(damaged);
      let last: string | undefined;
      for (let index = 0; index < decoded.count; index++) {
        const key = decoded.keyAt(index);
        if (last !== undefined && key <= last) return t.fail(`keys do not ascend (seed ${seed}, round ${round})`);
        if (decoded.find(key) !== index) return t.fail(`a key is not found (seed ${seed}, round ${round})`);
        decoded.valueAt(index);
        last = key;
      }
    } catch (error) {
      if (!(error instanceof TreeError)) throw error;
      refused++;
    }
  }
  return t.ok(refused > 100, `${refused} refused`);
});

void t.test('a page is checked strictly', async (t) => {
  const refused = (bytes: Uint8Array, name: string): void => {
    t.throws(() => new TreePage(bytes), { code: 'MALFORMED' }, name);
  };
  const good = encodePage(0, [
    ['a', one],
    ['b', one],
  ]);
  t.equal(new TreePage(good).count, 2);
  refused(new Uint8Array(0), 'nothing');
  refused(encodePage(0, []), 'no entries');
  refused(encodePage(12, [['a', Buffer.alloc(56)]]), 'too high');
  refused(encodePage(1, [['a', Buffer.alloc(55)]]), 'a branch with another value');
  refused(
    encodePage(0, [
      ['b', one],
      ['a', one],
    ]),
    'keys out of order',
  );
  refused(
    encodePage(0, [
      ['a', one],
      ['a', one],
    ]),
    'a key twice',
  );
  refused(Buffer.concat([good, one]), 'a trailing byte');
  refused(good.subarray(0, good.length - 1), 'cut off');
  refused(Buffer.alloc(2 * 1024 * 1024 + 1), 'too large');
  const many = Buffer.from(good);
  many.writeUInt32LE(0xffffffff, 4);
  refused(many, 'an impossible count');
});

void t.test('a page in the wrong place of the tree is refused by every kind of read', async (t) => {
  const store = new PageStore();
  const leaf = (...keys: string[]): PageReference =>
    store.add(
      encodePage(
        0,
        keys.map((key): Entry => [key, one]),
      ),
    );
  const branch = (level: number, ...entries: Entry[]): PageReference => store.add(encodePage(level, entries));
  const hostile: Record<string, PageReference> = {
    'a leaf with keys below its range': branch(1, ['', leaf('a')], ['m', leaf('l', 'n')]),
    'a leaf with keys above its range': branch(1, ['', leaf('a', 'n')], ['m', leaf('o')]),
    'a leaf with keys above its grandparent’s range': branch(
      2,
      ['', branch(1, ['', leaf('a')], ['c', leaf('d', 'z')])],
      ['m', branch(1, ['m', leaf('n')])],
    ),
    'a level that is skipped': branch(2, ['', leaf('a', 'n')]),
    'a branch at the level of its parent': branch(1, ['', branch(1, ['', leaf('a')])]),
    'a branch below its leaf’s level': branch(1, ['', branch(3, ['', leaf('a')])]),
    'a branch whose children begin below it': branch(2, ['', branch(1, ['', leaf('a')])], ['m', branch(1, ['b', leaf('n')])]),
  };
  for (const [name, root] of Object.entries(hostile)) {
    const reader = new TreeReader(store);
    await t.rejects(
      settle(() => [...reader.scan(root, '', '\u00ff')]),
      { code: 'MALFORMED' },
      `${name}: scan`,
    );
    await t.rejects(
      (async () => {
        for (const key of ['a', 'd', 'n', 'z']) {
          await settle(() => reader.get(root, key));
          await settle(() => reader.floor(root, '', key));
        }
      })(),
      { code: 'MALFORMED' },
      `${name}: get`,
    );
    const deletions = ['a', 'd', 'n', 'z'].map((key): TreeChange => [key, undefined]);
    await t.rejects(applyBatch(new TreeReader(store), root, deletions, store), { code: 'MALFORMED' }, `${name}: batch`);
  }
});

void t.test('a scan never goes back, even when two parents share a subtree and give it different ranges', async (t) => {
  const store = new PageStore();
  const leaf = (...keys: string[]): PageReference =>
    store.add(
      encodePage(
        0,
        keys.map((key): Entry => [key, one]),
      ),
    );
  const branch = (level: number, ...entries: Entry[]): PageReference => store.add(encodePage(level, entries));
  const shared = branch(1, ['', leaf('a')], ['c', leaf('d', 'z')]);
  const wide = branch(2, ['', shared]);
  const narrow = branch(2, ['', shared], ['m', branch(1, ['m', leaf('n')])]);
  const reader = new TreeReader(store);
  t.equal((await settle(() => [...reader.scan(wide, '', '\u00ff')])).length, 3);
  await t.rejects(
    settle(() => [...reader.scan(narrow, '', '\u00ff')]),
    { code: 'MALFORMED' },
  );
});

void t.test('a branch cannot contain itself, and one whose children are all the same page is refused', async (t) => {
  const store = new PageStore();
  const leaf = store.add(encodePage(0, [['m', one]]));
  const children = Array.from({ length: 1000 }, (_, number): Entry => [number === 0 ? '' : `x${String(number).padStart(4, '0')}`, leaf]);
  const root = store.add(encodePage(1, children));
  const reader = new TreeReader(store);
  await t.rejects(
    settle(() => [...reader.scan(root, '', '\u00ff')]),
    { code: 'MALFORMED' },
  );
});

void t.test('a page that fails to load fails only the read that needs it', async (t) => {
  const store = new PageStore();
  const entries = Array.from({ length: 5000 }, (_, number): TreeChange => [`I${String(number).padStart(6, '0')}`, Buffer.alloc(60)]);
  const root = (await applyBatch(new TreeReader(store), undefined, entries, store)) as PageReference;
  const reader = new TreeReader(store);
  const page = await reader.load(root);
  store.pages.delete(Buffer.from(page.referenceAt(1).hash).toString('hex'));
  await t.rejects(
    settle(() => reader.get(root, page.keyAt(1))),
    { code: 'MISSING' },
  );
  t.ok(await settle(() => reader.get(root, 'I000000')));
  t.equal((await settle(() => [...reader.scan(root, '', page.keyAt(1))])).length > 0, true, 'read-ahead errors are left for later');
  await t.rejects(
    settle(() => [...reader.scan(root, '', '\u00ff')]),
    { code: 'MISSING' },
  );
});

void t.test('an entry that fits no page is a programmer error', async (t) => {
  const store = new PageStore();
  await t.rejects(applyBatch(new TreeReader(store), undefined, [['a', new Uint8Array(2 * 1024 * 1024)]], store), { name: 'AssertionError' });
});
