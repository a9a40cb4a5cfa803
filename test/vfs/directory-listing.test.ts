import t from 'tap';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import { PageFault, withPages } from '../../src/base/page-fault.js';
import { encodeDirent } from '../../src/meta/dirent.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { direntKey, makeIno } from '../../src/meta/key.js';
import { type BaseView, emptyBase, LayeredView } from '../../src/operation/layered-view.js';
import { Overlay } from '../../src/operation/overlay.js';
import type { ReadView } from '../../src/operation/view.js';
import { DirectoryListings, type DirectorySource, dotDotCookie, type TakeEntry } from '../../src/vfs/directory-listing.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const directory = makeIno(1, 1);

/** Real layered views over an overlay; `faults` makes each new key throw a page fault once, as a tree does. */
class Listing implements DirectorySource {
  readonly overlay = new Overlay();
  readonly #view: ReadView;
  #next = 2;
  faultCount = 0;

  constructor(faultEvery = 0) {
    const loaded = new Set<string>();
    const { overlay } = this;
    const faulty: BaseView = {
      ...emptyBase,
      *scan(from, to) {
        let index = 0;
        for (const entry of new LayeredView([overlay], emptyBase).scan(from, to)) {
          if (faultEvery > 0 && index++ % faultEvery === 0 && !loaded.has(entry[0])) throw new PageFault(async () => loaded.add(entry[0]));
          yield entry;
        }
      },
    };
    this.#view = faultEvery > 0 ? new LayeredView([], faulty) : new LayeredView([overlay], emptyBase);
  }

  add(name: string): void {
    this.overlay.set(direntKey(directory, name), encodeDirent({ ino: makeIno(1, this.#next++), type: S_IFREG }));
  }

  remove(name: string): void {
    this.overlay.set(direntKey(directory, name), null);
  }

  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    return withPages(
      () => query(this.#view),
      (fault) => {
        this.faultCount++;
        return fault.load();
      },
    );
  }

  inode(): undefined {
    return undefined;
  }
}

/** One directory of a filesystem's listings. */
class Reader {
  readonly #listings: DirectoryListings;

  constructor(source: DirectorySource, bounds?: ConstructorParameters<typeof DirectoryListings>[1]) {
    this.#listings = new DirectoryListings(source, bounds);
  }

  list(cookie: number, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    return this.#listings.list(directory, cookie, withInodes, take);
  }
}

interface Told {
  readonly name: string;
  readonly cookie: number;
}

/** One readdir request whose buffer takes `room` entries. */
async function readdir(handle: Reader, cookie: number, room: number): Promise<Told[]> {
  const told: Told[] = [];
  await handle.list(cookie, false, ({ dirent }, at) => {
    if (told.length === room) return false;
    told.push({ name: dirent.name, cookie: at });
    return true;
  });
  return told;
}

async function readAll(handle: Reader, room: number, from = 0): Promise<Told[]> {
  const all: Told[] = [];
  for (let cookie = from; ; ) {
    const told = await readdir(handle, cookie, room);
    if (told.length === 0) return all;
    all.push(...told);
    cookie = told[told.length - 1]!.cookie;
  }
}

const nameOf = (index: number): string => `file-${String(index).padStart(6, '0')}`;

function listing(count: number, faultEvery = 0): Listing {
  const result = new Listing(faultEvery);
  for (let index = 0; index < count; index++) result.add(nameOf(index));
  return result;
}

t.test('every entry is listed once, in name order, with ascending cookies after `..`', async (t) => {
  for (const count of [0, 1, 15, 16, 17, 100, 1000]) {
    for (const room of [1, 7, 24, 100, 5000]) {
      const told = await readAll(new Reader(listing(count)), room);
      t.same(
        told.map(({ name }) => name),
        Array.from({ length: count }, (_, index) => nameOf(index)),
      );
      t.ok(told.every(({ cookie }, index) => cookie === dotDotCookie + 1 + index));
    }
  }
});

t.test('a listing continues at any cookie of the last two requests, whatever was deleted before it', async (t) => {
  const source = listing(2000);
  const handle = new Reader(source);
  const first = await readdir(handle, 0, 300);
  const second = await readdir(handle, first[299]!.cookie, 300);
  for (const { name } of first) source.remove(name);
  for (const { name } of second.slice(0, 100)) source.remove(name);
  t.equal((await readdir(handle, second[99]!.cookie, 1))[0]!.name, nameOf(400));
  t.equal((await readdir(new Reader(source), 0, 1))[0]!.name, nameOf(400));
});

t.test('deleting every listed entry while reading misses nothing', async (t) => {
  const source = listing(3000);
  const handle = new Reader(source);
  const seen = new Set<string>();
  let cookie = 0;
  for (;;) {
    // The kernel uses only part of each reply, and asks again after that part.
    const told = await readdir(handle, cookie, 90);
    if (told.length === 0) break;
    for (const entry of told.slice(0, 37)) {
      seen.add(entry.name);
      source.remove(entry.name);
      cookie = entry.cookie;
    }
  }
  t.equal(seen.size, 3000);
});

t.test('an old cookie leads back to its place in an unchanged directory', async (t) => {
  const source = listing(20_000);
  const handle = new Reader(source);
  const all = await readAll(handle, 100);
  const seed = testSeed();
  const random = new SeededRandom(seed);
  for (let round = 0; round < 50; round++) {
    const index = random.below(all.length - 1);
    const [next] = await readdir(handle, all[index]!.cookie, 1);
    t.equal(next!.name, all[index + 1]!.name, `TEST_SEED=${seed}`);
  }
});

t.test('a position is found again from the starts of old batches, and refused when none are kept', async (t) => {
  const source = listing(3000);
  const reader = new Reader(source, { namesMax: 500, batchesMax: 20 });
  const all = await readAll(reader, 100);
  t.equal((await readdir(reader, all[2000]!.cookie, 1))[0]!.name, all[2001]!.name, 'counted from the beginning of its batch');
  await t.rejects(async () => readdir(reader, all[50]!.cookie, 1), { code: 'ESTALE' });
  await t.rejects(async () => readdir(reader, all[2999]!.cookie + 1000, 1), { code: 'ESTALE' });
});

t.test('readers share cookies without disturbing each other', async (t) => {
  const source = listing(600);
  const reader = new Reader(source);
  const first = await readdir(reader, 0, 100);
  const second = await readdir(reader, 0, 50);
  for (const { name } of second) source.remove(name);
  t.equal((await readdir(reader, first[99]!.cookie, 1))[0]!.name, nameOf(100));
  t.equal((await readdir(reader, second[9]!.cookie, 1))[0]!.name, nameOf(50));
});

t.test('rewinding shows new entries', async (t) => {
  const source = listing(10);
  const handle = new Reader(source);
  await readAll(handle, 100);
  source.add('a new one');
  t.same(
    (await readAll(handle, 100)).map(({ name }) => name),
    ['a new one', ...Array.from({ length: 10 }, (_, index) => nameOf(index))],
  );
});

t.test('page faults neither repeat nor lose an entry', async (t) => {
  for (const room of [3, 50, 1000]) {
    const source = listing(500, 7);
    const told = await readAll(new Reader(source), room);
    t.equal(new Set(told.map(({ name }) => name)).size, 500);
    t.equal(told.length, 500);
    t.ok(source.faultCount > 10);
  }
});

t.test('a request returns the entries that it has when the next page is missing', async (t) => {
  const handle = new Reader(listing(500, 100));
  await readdir(handle, 0, 1);
  const told: string[] = [];
  const answer = handle.list(dotDotCookie, false, ({ dirent }) => told.push(dirent.name) > 0);
  t.equal(answer, undefined, 'at once');
  t.ok(told.length > 0 && told.length < 500);
});

t.test('an entry without an inode is still listed', async (t) => {
  const source = listing(1);
  const handle = new Reader(source);
  const inodes: unknown[] = [];
  await handle.list(0, true, ({ inode, dirent }) => inodes.push(inode, dirent.ino) > 0);
  t.same(inodes, [undefined, makeIno(1, 2)]);
});
