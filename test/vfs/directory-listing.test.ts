/**
 * Tests listings of directories (src/vfs/directory-listing.ts) over a key space in memory that real operations change:
 * what they promise to readers with small buffers, and a model of what a local disk does.
 */
import t from 'tap';
import { assert } from '../../src/base/assert.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import { withPages } from '../../src/base/page-fault.js';
import { S_IFDIR, S_IFREG } from '../../src/meta/inode.js';
import { firstCounter, type Ino, makeIno } from '../../src/meta/key.js';
import { lookup } from '../../src/operation/inode-view.js';
import type { Operation } from '../../src/operation/operation.js';
import { execute } from '../../src/operation/operation-execute.js';
import { RENAME_EXCHANGE } from '../../src/operation/operation-namespace.js';
import type { ReadView } from '../../src/operation/view.js';
import { DirectoryListings, type DirectorySource, dotDotCookie } from '../../src/vfs/directory-listing.js';
import { emptyVolume, treeProblems } from '../suite/memory-view.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const ownDevice = 1;
/** Their numbers lie before and after those of the own device. */
const otherDevices = [0, 3, 40];
const time = { sec: 1, nsec: 0 };
const directory = makeIno(ownDevice, firstCounter);
const elsewhere = makeIno(ownDevice, firstCounter + 1);

/** Two directories, which operations of several devices change. */
class Directories implements DirectorySource {
  readonly view = emptyVolume();
  readonly #counters = new Map<number, number>();
  faultCount = 0;

  constructor() {
    for (const [name, ino] of Object.entries({ directory, elsewhere })) {
      assert(this.#number(ownDevice) === ino, 'the first numbers');
      this.#run(this.#create(1 as Ino, name, ino, S_IFDIR | 0o755));
    }
  }

  get nextIno(): Ino {
    return makeIno(ownDevice, this.#counters.get(ownDevice) ?? firstCounter);
  }

  #number(device: number): Ino {
    const counter = this.#counters.get(device) ?? firstCounter;
    this.#counters.set(device, counter + 1);
    return makeIno(device, counter);
  }

  #create(parent: Ino, name: string, ino: Ino, mode: number): Operation {
    return { type: 'create', parent, name, ino, mode, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time };
  }

  #run(operation: Operation): void {
    this.#withoutFaults(() => execute(this.view, operation, ownDevice));
  }

  #withoutFaults<T>(run: () => T): T {
    const { faults } = this.view;
    this.view.faults = () => false;
    const result = run();
    this.view.faults = faults;
    return result;
  }

  #find(parent: Ino, name: string): Ino | undefined {
    return this.#withoutFaults(() => lookup(this.view, parent, name)?.ino);
  }

  inoOf(parent: Ino, name: string): Ino {
    const found = this.#find(parent, name);
    assert(found !== undefined, 'the name is there');
    return found;
  }

  add(name: string, parent = directory, device = ownDevice): void {
    this.#run(this.#create(parent, name, this.#number(device), S_IFREG | 0o644));
  }

  link(from: string, parent: Ino, name: string, newParent: Ino, device = ownDevice): void {
    this.#run({ type: 'link', ino: this.inoOf(parent, from), parent: newParent, name, number: this.#number(device), time });
  }

  remove(name: string, parent = directory): void {
    this.#run({ type: 'unlink', parent, name, ino: this.inoOf(parent, name), time });
  }

  rename(name: string, newName: string, { parent = directory, newParent = directory, flags = 0 } = {}): void {
    const replacedIno = this.#find(newParent, newName);
    const places = { parent, name, newParent, newName };
    this.#run({ type: 'rename', ...places, flags, ino: this.inoOf(parent, name), replacedIno, whiteoutIno: undefined, time });
  }

  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    return withPages(
      () => query(this.view),
      (fault) => {
        this.faultCount++;
        return fault.load();
      },
    );
  }

  inode(): undefined {
    return undefined;
  }

  /** The first of every `every` reads of one key waits for a page. */
  makeFaulty(every: number): void {
    let reads = 0;
    this.view.faults = () => reads++ % every === 0;
  }
}

interface Told {
  readonly name: string;
  readonly cookie: number;
}

/** One readdir request whose buffer takes `room` entries. */
async function readdir(listings: DirectoryListings, cookie: number, room: number, of = directory): Promise<Told[]> {
  const told: Told[] = [];
  await listings.list(of, cookie, false, ({ dirent: { name, number } }) => {
    if (told.length === room) return false;
    told.push({ name, cookie: number });
    return true;
  });
  return told;
}

async function readAll(listings: DirectoryListings, room: number, from = 0): Promise<Told[]> {
  const all: Told[] = [];
  for (let cookie = from; ; ) {
    const told = await readdir(listings, cookie, room);
    if (told.length === 0) return all;
    all.push(...told);
    cookie = told[told.length - 1]!.cookie;
  }
}

const nameOf = (index: number): string => `file-${index}`;
const namesOf = (told: readonly Told[]): string[] => told.map(({ name }) => name);
const namesFrom = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, index) => nameOf(from + index));

function filled(count: number): Directories {
  const source = new Directories();
  for (let index = 0; index < count; index++) source.add(nameOf(index));
  return source;
}

t.test('every entry is listed once, in the order in which they were made, with ascending cookies after `..`', async (t) => {
  for (const count of [0, 1, 15, 16, 17, 100, 1000]) {
    const source = filled(count);
    for (const room of [1, 7, 24, 100, 5000]) {
      const told = await readAll(new DirectoryListings(source), room);
      t.strictSame(namesOf(told), namesFrom(0, count));
      t.ok(told.every(({ cookie }, index) => cookie > (told[index - 1]?.cookie ?? dotDotCookie)));
    }
  }
});

t.test('a listing continues at any cookie, whatever was deleted, also in another process', async (t) => {
  const source = filled(2000);
  const all = await readAll(new DirectoryListings(source), 300);
  for (const { name } of all.slice(0, 1500)) source.remove(name);
  for (const listings of [new DirectoryListings(source), new DirectoryListings(source, { beginningsMax: 1 })]) {
    for (const at of [0, 17, 299, 1000, 1498]) t.equal((await readdir(listings, all[at]!.cookie, 1))[0]?.name, nameOf(1500), `${at}`);
    t.equal((await readdir(listings, all[1700]!.cookie, 1))[0]?.name, nameOf(1701));
    t.strictSame(await readdir(listings, all[1999]!.cookie, 1), []);
    for (const wild of [2 ** 31, 2 ** 32, 2 ** 49, 2 ** 53, 2 ** 63]) t.strictSame(await readdir(listings, wild, 1), [], `${wild}`);
  }
});

t.test('deleting every listed entry while reading misses nothing', async (t) => {
  const source = filled(3000);
  const listings = new DirectoryListings(source);
  const seen: string[] = [];
  for (let cookie = 0; ; ) {
    // The kernel uses only part of each reply, and asks again after that part.
    const told = await readdir(listings, cookie, 90);
    if (told.length === 0) break;
    for (const entry of told.slice(0, 37)) {
      seen.push(entry.name);
      source.remove(entry.name);
      cookie = entry.cookie;
    }
  }
  t.strictSame(seen, namesFrom(0, 3000));
});

t.test('a file that is replaced while a listing is under way is listed once', async (t) => {
  const source = filled(100);
  const listings = new DirectoryListings(source);
  const first = await readdir(listings, 0, 50);
  for (const index of [10, 70]) {
    source.add('draft');
    source.rename('draft', nameOf(index));
  }
  source.rename(nameOf(20), nameOf(80), { flags: RENAME_EXCHANGE });
  t.strictSame(namesOf([...first, ...(await readAll(listings, 7, first.at(-1)!.cookie))]), namesFrom(0, 100));
  t.strictSame(treeProblems(source.view), []);
});

t.test('an entry keeps its cookie when it is renamed and moved, and a link has one of its own', async (t) => {
  const source = filled(3);
  const listings = new DirectoryListings(source);
  const [first] = await readdir(listings, 0, 1);
  source.link(nameOf(0), directory, 'linked', directory);
  source.rename(nameOf(0), 'renamed');
  source.rename('renamed', 'away', { newParent: elsewhere });
  t.strictSame(await readdir(listings, 0, 1, elsewhere), [{ name: 'away', cookie: first?.cookie }]);
  source.rename('away', 'back', { parent: elsewhere });
  t.strictSame(namesOf(await readAll(listings, 1)), ['back', nameOf(1), nameOf(2), 'linked']);
  t.equal((await readAll(listings, 1))[0]?.cookie, first?.cookie);
  t.strictSame(treeProblems(source.view), []);
});

t.test('a reader who makes entries while it lists comes to an end, and the next listing has them', async (t) => {
  const source = filled(300);
  const listings = new DirectoryListings(source);
  const seen: string[] = [];
  for (let cookie = 0; ; ) {
    const told = await readdir(listings, cookie, 20);
    if (told.length === 0 || seen.length > 1000) break;
    for (const { name } of told) {
      seen.push(name);
      source.add(`${name}.bak`);
      source.link(name, directory, `${name}.link`, directory);
    }
    cookie = told.at(-1)!.cookie;
  }
  t.strictSame(seen, namesFrom(0, 300));
  t.equal((await readAll(listings, 100)).length, 900, 'one that begins afterwards');
  t.equal((await readAll(new DirectoryListings(source), 100)).length, 900, 'and one in another process');
});

t.test('entries of other devices appear in a listing that is under way, before and after those of this one', async (t) => {
  const source = filled(10);
  const listings = new DirectoryListings(source);
  const first = await readdir(listings, 0, 5);
  for (const device of [ownDevice, ...otherDevices]) source.add(`of ${device}`, directory, device);
  t.strictSame(namesOf(await readAll(listings, 2, first.at(-1)!.cookie)), [...namesFrom(5, 10), 'of 3', 'of 40']);
  t.strictSame(namesOf(await readAll(listings, 2)), ['of 0', ...namesFrom(0, 10), `of ${ownDevice}`, 'of 3', 'of 40']);
});

t.test('the beginnings of listings that were forgotten only make listings longer', async (t) => {
  const source = filled(10);
  const listings = new DirectoryListings(source, { beginningsMax: 1 });
  const [first] = await readdir(listings, 0, 1);
  source.add('new');
  t.strictSame(namesOf(await readAll(listings, 3, first!.cookie)), namesFrom(1, 10));
  await readdir(listings, 0, 1, elsewhere);
  t.strictSame(namesOf(await readAll(listings, 3, first!.cookie)), [...namesFrom(1, 10), 'new']);
});

t.test('page faults neither repeat nor lose an entry', async (t) => {
  for (const room of [3, 50, 1000]) {
    const source = filled(500);
    source.makeFaulty(2);
    t.strictSame(namesOf(await readAll(new DirectoryListings(source), room)), namesFrom(0, 500));
    t.ok(source.faultCount > 0);
  }
});

t.test('a request returns the entries that it has when the next page is missing', async (t) => {
  const source = filled(500);
  const listings = new DirectoryListings(source);
  const { view } = source;
  let count = 0;
  // A query looks at few entries at first; the second one meets the fault.
  view.faults = () => count++ === 1;
  const told: string[] = [];
  const answer = listings.list(directory, dotDotCookie, false, ({ dirent }) => told.push(dirent.name) > 0);
  t.equal(answer, undefined, 'at once');
  t.ok(told.length > 0 && told.length < 500);
});

t.test('an entry without an inode is still listed', async (t) => {
  const source = filled(1);
  const inodes: unknown[] = [];
  await new DirectoryListings(source).list(directory, 0, true, ({ inode, dirent }) => inodes.push(inode, dirent.name) > 0);
  t.strictSame(inodes, [undefined, nameOf(0)]);
});

/** One time that a name is there, from its making to its removal. */
interface Life {
  readonly name: string;
}

/** A listing that is under way, and what a local disk promises of it. */
class OpenListing {
  readonly directory: Ino;
  /** What has been there since it began. */
  readonly staying: Set<Life>;
  seen: { readonly life: Life; readonly cookie: number }[] = [];
  cookie = 0;

  constructor(of: Ino, staying: Iterable<Life>) {
    this.directory = of;
    this.staying = new Set(staying);
  }
}

t.test('listings agree with a local disk while entries are made, linked, renamed, moved, exchanged and removed', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)]!;
  for (let round = 0; round < 60; round++) {
    const source = new Directories();
    const listings = new DirectoryListings(source, { beginningsMax: 1 + random.below(3) });
    const disk = new Map<Ino, Map<string, Life>>([
      [directory, new Map()],
      [elsewhere, new Map()],
    ]);
    const open: OpenListing[] = [];
    const add = (of: Ino, name: string): void => void disk.get(of)!.set(name, { name });
    const drop = (of: Ino, name: string): void => {
      const life = disk.get(of)!.get(name)!;
      disk.get(of)!.delete(name);
      for (const one of open) if (one.directory === of) one.staying.delete(life);
    };
    const change = (): void => {
      const [of, to] = [pick([directory, elsewhere]), pick([directory, elsewhere])];
      const names = [...disk.get(of)!.keys()];
      const [name, newName] = [names.length === 0 ? undefined : pick(names), `n${random.below(60)}`];
      const [isThere, device] = [disk.get(to)!.has(newName), pick([ownDevice, ownDevice, ownDevice, ...otherDevices])];
      const kind = random.below(10);
      if (kind < 4 || name === undefined) {
        if (isThere) return;
        if (kind === 0 && name !== undefined) source.link(name, of, newName, to, device);
        else source.add(newName, to, device);
        add(to, newName);
      } else if (kind < 6) {
        source.remove(name, of);
        drop(of, name);
      } else {
        // Two names of one file: nothing happens.
        if (isThere && source.inoOf(of, name) === source.inoOf(to, newName)) return;
        const exchange = isThere && kind === 9;
        source.rename(name, newName, { parent: of, newParent: to, flags: exchange ? RENAME_EXCHANGE : 0 });
        // Names that are there before and after stay.
        if (!exchange) drop(of, name);
        if (!isThere) add(to, newName);
      }
    };
    const listOn = async (one: OpenListing): Promise<boolean> => {
      if (one.seen.length > 0 && random.below(6) === 0) {
        // Back to any place, as seekdir goes, or a part of the last reply was not used.
        one.seen = one.seen.slice(0, 1 + random.below(one.seen.length));
        one.cookie = one.seen.at(-1)!.cookie;
      }
      const told = await readdir(listings, one.cookie, 1 + random.below(9), one.directory);
      for (const { name, cookie } of told) {
        const life = disk.get(one.directory)!.get(name);
        if (!life) t.fail(`a name that is not there: ${name}, TEST_SEED=${seed}`);
        else one.seen.push({ life, cookie });
        one.cookie = cookie;
      }
      return told.length > 0;
    };
    if (round % 2 === 0) source.makeFaulty(3);
    for (let step = 0; step < 400; step++) {
      const kind = random.below(10);
      const one = open.length === 0 ? undefined : pick(open);
      if (kind < 5 || (one === undefined && kind < 8)) change();
      else if (kind === 9 && open.length < 5) {
        const of = pick([directory, elsewhere]);
        const begun = new OpenListing(of, disk.get(of)!.values());
        open.push(begun);
        await listOn(begun);
      } else if (one && !(await listOn(one))) {
        const lives = one.seen.map(({ life }) => life);
        if (new Set(lives).size !== lives.length) t.fail(`an entry was listed twice, TEST_SEED=${seed}`);
        for (const life of one.staying) if (!lives.includes(life)) t.fail(`${life.name} stayed and was not listed, TEST_SEED=${seed}`);
        open.splice(open.indexOf(one), 1);
      }
    }
    source.view.faults = () => false;
    t.strictSame(treeProblems(source.view), [], `TEST_SEED=${seed}`);
  }
});
