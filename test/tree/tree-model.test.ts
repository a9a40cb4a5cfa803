/** Writer and reader against a sorted map, over random batches; the shape of the tree is checked after each. */
import t from 'tap';
import { PageFault, withPages } from '../../src/base/page-fault.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import { splitSize } from '../../src/tree/level-builder.js';
import { diffTrees } from '../../src/tree/tree-diff.js';
import type { TreePage } from '../../src/tree/tree-page.js';
import { checkChild } from '../../src/tree/tree-page.js';
import { TreeReader } from '../../src/tree/tree-reader.js';
import type { TreeChange } from '../../src/tree/tree-writer.js';
import { applyBatch } from '../../src/tree/tree-writer.js';
import { PageStore } from '../suite/page-store.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

interface Shape {
  /** Where the pages are. */
  places: Set<number>;
  pages: number;
  entries: number;
  leafBytes: number;
  depth: number;
}

/** Throws when the tree breaks a rule of its format or its shape. */
async function checkShape(reader: TreeReader, root: PageReference | undefined): Promise<Shape> {
  const shape: Shape = { places: new Set(), pages: 0, entries: 0, leafBytes: 0, depth: 0 };
  const visit = async (page: TreePage, upper: string | undefined, isRoot: boolean): Promise<void> => {
    shape.pages++;
    if (page.bytes.byteLength > splitSize && page.count > 1) throw new Error(`a page of ${page.bytes.byteLength} bytes`);
    if (page.level === 0) {
      shape.entries += page.count;
      shape.leafBytes += page.bytes.byteLength;
      return;
    }
    if (isRoot && page.count < 2) throw new Error('a root with a single child');
    for (let index = 0; index < page.count; index++) {
      const reference = page.referenceAt(index);
      shape.places.add(reference.offset);
      const child = await reader.load(reference);
      const childUpper = index + 1 < page.count ? page.keyAt(index + 1) : upper;
      checkChild(page, index, child, childUpper);
      await visit(child, childUpper, false);
    }
  };
  if (root) {
    shape.places.add(root.offset);
    const page = await reader.load(root);
    shape.depth = page.level + 1;
    await visit(page, undefined, true);
  }
  return shape;
}

interface PastTree {
  readonly root: PageReference | undefined;
  readonly model: ReadonlyMap<string, Uint8Array>;
  readonly places: ReadonlySet<number>;
}

/** What is wrong with the difference that is found between two trees. */
async function wrongDifference(reader: TreeReader, before: PastTree, now: PastTree): Promise<string | undefined> {
  const pages = new Map<number, number>();
  const found: string[] = [];
  const textOf = (value: Uint8Array | undefined): string => (value ? Buffer.from(value).toString('hex') : '-');
  await diffTrees(reader, before.root, now.root, {
    page: ({ offset }, sign) => pages.set(offset, (pages.get(offset) ?? 0) + sign),
    entry: (key, was, is) => found.push(`${key} ${textOf(was)} ${textOf(is)}`),
  });
  const wanted = [...new Set([...before.model.keys(), ...now.model.keys()])]
    .toSorted((a, b) => (a < b ? -1 : 1))
    .map((key) => [key, textOf(before.model.get(key)), textOf(now.model.get(key))] as const)
    .filter(([, was, is]) => was !== is)
    .map((line) => line.join(' '));
  if (found.join('\n') !== wanted.join('\n')) return `${found.length} entries differ instead of ${wanted.length}`;
  for (const place of new Set([...pages.keys(), ...before.places, ...now.places])) {
    const change = Number(now.places.has(place)) - Number(before.places.has(place));
    if ((pages.get(place) ?? 0) !== change) return `the page at ${place} counts ${pages.get(place) ?? 0} instead of ${change}`;
  }
  return undefined;
}

const value = (random: SeededRandom): Uint8Array => random.bytes(random.below(20) === 0 ? random.below(3000) : random.below(120));

interface Scenario {
  readonly name: string;
  readonly batches: number;
  /** Entries so large that pages are badly filled. */
  readonly isCoarse?: boolean;
  /** The changes of batch `number`; may repeat keys (the last counts). */
  batch(random: SeededRandom, number: number, model: Map<string, Uint8Array>): Iterable<TreeChange>;
}

const randomKey = (random: SeededRandom, space: number): string => {
  const number = random.below(space);
  return `${'DEIX'[number % 4]}${String.fromCharCode(0, 0, 0, (number >>> 16) & 255, (number >>> 8) & 255, number & 255)}${'n'.repeat(number % 30)}`;
};

const scenarios: Scenario[] = [
  {
    name: 'random puts and deletions, growing and shrinking',
    batches: 60,
    *batch(random, number) {
      const deletions = number % 20 > 12 ? 85 : 25;
      for (let count = random.below(3400); count >= 0; count--) {
        const key = randomKey(random, 40_000);
        yield [key, random.below(100) < deletions ? undefined : value(random)];
      }
    },
  },
  {
    name: 'ranges filled and emptied',
    batches: 60,
    *batch(random) {
      const start = random.below(30_000);
      const remove = random.below(2) === 0;
      for (let number = start; number < start + random.below(9000); number++) {
        yield [`I${String.fromCharCode(number >>> 8, number & 255)}`, remove ? undefined : value(random)];
      }
    },
  },
  {
    name: 'entries larger than a page between small ones',
    batches: 40,
    isCoarse: true,
    *batch(random) {
      for (let count = 0; count < 40; count++) {
        const key = `X${String.fromCharCode(random.below(256), random.below(4))}`;
        const size = random.below(6) === 0 ? 60_000 + random.below(80_000) : random.below(4000);
        yield [key, random.below(3) === 0 ? undefined : Buffer.alloc(size, random.below(256))];
      }
    },
  },
  {
    name: 'appends at the end, removals at the start',
    batches: 50,
    *batch(random, number) {
      for (let index = 0; index < 1500; index++) yield [`E${String(number * 1500 + index).padStart(9, '0')}`, value(random)];
      for (let index = 0; index < 1400; index++) yield [`E${String((number - 6) * 1500 + index).padStart(9, '0')}`, undefined];
    },
  },
  {
    // Keys so long that a branch has few children: five levels, which otherwise take millions of entries.
    name: 'a deep tree, changed in a few places at a time',
    batches: 60,
    isCoarse: true,
    *batch(random, number) {
      const remove = number % 12 > 8;
      for (let places = 1 + random.below(3); places > 0; places--) {
        const start = random.below(900);
        for (let index = start; index < start + (number < 3 ? 300 : 1 + random.below(40)); index++) {
          yield [`D${String.fromCharCode(index >>> 8, index & 255)}${'n'.repeat(9000)}`, remove ? undefined : value(random)];
        }
      }
    },
  },
];

for (const { name, batches, isCoarse = false, batch } of scenarios) {
  void t.test(`a tree equals a sorted map: ${name}`, async (t): Promise<unknown> => {
    const seed = testSeed();
    const random = new SeededRandom(seed);
    const store = new PageStore();
    const model = new Map<string, Uint8Array>();
    // Small enough that pages are evicted.
    const reader = new TreeReader(store, { cacheMax: 400_000 });
    let root: PageReference | undefined;
    let operations = 0;
    const past: PastTree[] = [{ root, model: new Map(), places: new Set() }];
    for (let number = 0; number < batches; number++) {
      const merged = new Map(batch(random, number, model));
      const sorted = [...merged].toSorted(([a], [b]) => (a < b ? -1 : 1));
      operations += sorted.length;
      const old = root;
      root = await applyBatch(reader, old, sorted, store);
      for (const [key, bytes] of sorted) {
        if (bytes) model.set(key, bytes as Uint8Array);
        else model.delete(key);
      }
      const where = `seed ${seed}, batch ${number}`;
      const shape = await checkShape(new TreeReader(store), root);
      if (shape.entries !== model.size) return t.fail(`${shape.entries} entries instead of ${model.size} (${where})`);
      if (shape.pages > 20 && !isCoarse && shape.leafBytes / shape.pages < 24 * 1024) {
        return t.fail(`pages hold ${Math.floor(shape.leafBytes / shape.pages)} bytes on average (${where})`);
      }
      past.push({ root, model: new Map(model), places: shape.places });
      for (const before of [past.at(-2), ...(number % 8 === 0 ? [past[random.below(past.length)]] : [])]) {
        const wrong = await wrongDifference(reader, before!, past.at(-1)!);
        if (wrong !== undefined) return t.fail(`${wrong} (${where})`);
      }
      const keys = [...model.keys()].toSorted((a, b) => (a < b ? -1 : 1));
      for (let probe = 0; probe < 60; probe++) {
        const key = random.below(2) === 0 && keys.length > 0 ? keys[random.below(keys.length)]! : randomKey(random, 40_000);
        const found = await withPages(() => reader.get(root, key));
        if (Buffer.compare(found ?? Buffer.from('none'), model.get(key) ?? Buffer.from('none')) !== 0) return t.fail(`wrong value (${where})`);
        const floor = await withPages(() => reader.floor(root, 'A', key));
        const wanted = keys.findLast((candidate) => candidate >= 'A' && candidate <= key);
        if (floor?.[0] !== wanted) return t.fail(`wrong floor (${where})`);
      }
      for (let probe = 0; probe < 4; probe++) {
        const [from, to] = [randomKey(random, 40_000), probe === 0 ? 'Z' : randomKey(random, 40_000)];
        const found = await withPages(() => [...reader.scan(root, from, to)]);
        const wanted = keys.filter((key) => key >= from && key < to);
        if (
          found.length !== wanted.length ||
          found.some(([key, bytes], index) => key !== wanted[index] || Buffer.compare(bytes, model.get(key) as Uint8Array) !== 0)
        ) {
          return t.fail(`wrong scan (${where})`);
        }
      }
    }
    const all = [...model.keys()].toSorted((a, b) => (a < b ? -1 : 1)).map((key): TreeChange => [key, undefined]);
    t.equal(await applyBatch(reader, root, all, store), undefined, `nothing is left when all is deleted (seed ${seed})`);
    return t.pass(`${operations} operations`);
  });
}

void t.test('a batch writes only the paths that it touches', async (t) => {
  const store = new PageStore();
  const reader = new TreeReader(store);
  const key = (number: number): string => `I${String(number).padStart(8, '0')}`;
  const entries = Array.from({ length: 100_000 }, (_, number): TreeChange => [key(number), Buffer.alloc(100, number)]);
  const root = await applyBatch(reader, undefined, entries, store);
  const average = store.writtenBytes / store.writes;
  t.ok(average > 40 * 1024, `a tree built in order has full pages: ${Math.floor(average)} bytes`);
  store.writes = 0;
  const changed = await applyBatch(reader, root, [[key(50_000), Buffer.from('new')]], store);
  const { level } = await reader.load(root as PageReference);
  t.equal(store.writes, level + 1, 'one page a level');
  store.reads = 0;
  const entriesFound: string[] = [];
  await diffTrees(new TreeReader(store), root, changed, { page: () => {}, entry: (found) => entriesFound.push(found) });
  t.same(entriesFound, [key(50_000)]);
  t.ok(store.reads <= 2 * (level + 1), `the difference is found without what both have: ${store.reads} pages read`);
  store.writes = 0;
  t.equal(
    await applyBatch(
      reader,
      changed,
      [
        [`${key(7)}x`, undefined],
        [key(50_000), Buffer.from('new')],
      ],
      store,
    ),
    changed,
    'what changes nothing makes no new root',
  );
  t.equal(store.writes, 0);
});

void t.test('a read that needs more pages than the cache holds still completes', async (t) => {
  const store = new PageStore();
  const entries = Array.from({ length: 50_000 }, (_, number): TreeChange => [`I${String(number).padStart(8, '0')}`, Buffer.alloc(100, number)]);
  const root = await applyBatch(new TreeReader(store), undefined, entries, store);
  const reader = new TreeReader(store, { cacheMax: 1 });
  let runs = 0;
  const found = await withPages(() => {
    runs++;
    return [...reader.scan(root, '', '\u00ff')].length;
  });
  t.equal(found, 50_000);
  t.ok(runs < 6 * store.pages.size, `${runs} runs for ${store.pages.size} pages`);
});

void t.test('a page fault during a scan also loads the next pages', async (t) => {
  const store = new PageStore();
  const entries = Array.from({ length: 50_000 }, (_, number): TreeChange => [`I${String(number).padStart(8, '0')}`, Buffer.alloc(100, number)]);
  const root = await applyBatch(new TreeReader(store), undefined, entries, store);
  const reader = new TreeReader(store);
  const scan = reader.scan(root, '', '\u00ff');
  let faults = 0;
  let count = 0;
  for (;;) {
    try {
      if (scan.next().done) break;
      count++;
    } catch (fault) {
      if (!(fault instanceof PageFault)) throw fault;
      faults++;
      await fault.load();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  t.equal(count, 50_000);
  t.equal(store.reads, store.pages.size, 'each page is read once');
  t.ok(faults < store.pages.size / 4, `${faults} faults for ${store.pages.size} pages`);
});

void t.test('a failing sink fails the batch, and the old tree stays readable', async (t) => {
  const store = new PageStore();
  const reader = new TreeReader(store);
  const root = await applyBatch(reader, undefined, [['Ia', Buffer.from('1')]], store);
  store.failure = new Error('full');
  const entries = Array.from({ length: 50_000 }, (_, number): TreeChange => [`J${String(number).padStart(8, '0')}`, Buffer.alloc(100)]);
  await t.rejects(applyBatch(reader, root, entries, store), { message: 'full' });
  t.same(Buffer.from(await withPages(() => reader.get(root, 'Ia') as Uint8Array)).toString(), '1');
});

void t.test('changes may come asynchronously', async (t) => {
  const store = new PageStore();
  const reader = new TreeReader(store);
  async function* changes(): AsyncGenerator<TreeChange> {
    for (let number = 0; number < 5000; number++) {
      yield [`I${String(number).padStart(8, '0')}`, Buffer.alloc(50, number)];
      if (number % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const root = await applyBatch(reader, undefined, changes(), store);
  t.equal((await withPages(() => [...reader.scan(root, '', '\u00ff')])).length, 5000);
  t.equal(reader.get(root, 'I00000001')?.[0], 1, 'what was just written is in memory');
});
