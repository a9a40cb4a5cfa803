/**
 * Two installations with one identity: a state directory that was copied, or an older one that was restored. Whatever
 * either of them has acknowledged is there in the end, on both, under its name or a conflict name (doc/concurrency.md,
 * "One identity, two installations").
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { Sealed } from '../../src/base/brand.js';
import { createLogger } from '../../src/base/logger.js';
import { checkVolume } from '../../src/check/check-volume.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { readBody } from '../../src/store/file-body.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume, type TreePicture } from '../suite/test-device.js';

t.setTimeout(1_200_000);

const newVolume = (): Promise<TestVolume> => createTestVolume(new MemoryStore({ disk: systemDisk }));

const open = (volume: TestVolume, stateDirectory: string, options: Partial<DeviceOptions> = {}): Promise<TestDevice> =>
  TestDevice.open(volume, { disk: systemDisk, stateDirectory, ...options });

/** Also of a running device: the copy is what its death would leave. */
async function copyOf(state: string): Promise<string> {
  const copy = await scratchDirectory(t);
  cpSync(state, copy, { recursive: true });
  return copy;
}

/** Each takes in what the others have committed, until nothing new comes. */
async function settle(...devices: readonly TestDevice[]): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const device of devices) {
      await device.volume.flush();
      await device.volume.refresh();
    }
  }
}

async function checkClean(test: Pick<typeof t, 'same'>, volume: TestVolume): Promise<void> {
  const { report } = await checkVolume({ ...volume, random: systemRandom, data: true, names: true });
  // These volumes have no keyslots, and what both had packed may be in the store twice.
  test.same(
    report.findings.filter(({ code }) => code !== 'KEYSLOT_MISSING' && code !== 'PACK_UNUSED'),
    [],
  );
}

const isConflict = (path: string): boolean => path.includes(' (conflict ');
const conflictsIn = (picture: TreePicture): string[] => Object.keys(picture).filter(isConflict);

/** Events, by a part of the line of the log that says so. */
const signs = {
  'a new identity': 'another installation has the identity of this one',
  'an enrolment': 'takes part as a device of its own',
  'new numbers': 'what was pending has numbers of the new identity',
  'a taken pack': 'another installation has put packs under the names of ours',
};

t.test('two installations that write at once both keep everything', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('common', 'common');
  await a.volume.flush();
  await a.volume.sync();
  const b = await open(volume, await copyOf(state));
  for (const [device, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    await device.mkdir(name);
    await device.write(`${name}/file`, `of ${name}`);
    await device.write(`${name}/large`, Buffer.alloc(300_000, name));
    await device.write('same', `the same name, by ${name}`);
    await device.write('common', `changed by ${name}`);
  }
  await settle(a, b);
  const picture = await a.picture();
  t.same(await b.picture(), picture);
  t.same(
    Object.values(picture)
      .filter((content) => content.length < 100)
      .toSorted(),
    ['changed by a', 'changed by b', 'dir', 'dir', 'of a', 'of b', 'the same name, by a', 'the same name, by b'].toSorted(),
  );
  t.equal(picture['a/file'], 'of a');
  t.equal(picture['b/file'], 'of b');
  t.equal(picture['a/large'], 'a'.repeat(300_000));
  t.equal(picture['b/large'], 'b'.repeat(300_000));
  t.equal(conflictsIn(picture).length, 2, 'only where both changed the same thing');
  await a.close();
  await b.close();
  await checkClean(t, volume);
});

t.test('work that waits in a copied state directory is there once, and what follows it is kept', async (t) => {
  for (const way of ['nothing', 'sealed', 'dirty', 'synced']) {
    const volume = await newVolume();
    const state = await scratchDirectory(t);
    const a = await open(volume, state);
    await a.write('common', 'common');
    await a.volume.flush();
    await a.mkdir('folder');
    await a.write('folder/waiting', 'this waits');
    await a.write('folder/large', Buffer.alloc(200_000, 'l'));
    await a.write('common', 'changed');
    if (way === 'sealed') for (const path of ['folder/waiting', 'folder/large', 'common']) await a.volume.sealContent(await a.ino(path));
    if (way !== 'nothing') await a.volume.sync();
    const copy = await copyOf(state);
    await a.volume.flush();
    await a.write('folder/after', 'by a');
    await a.volume.flush();
    const b = await open(volume, copy);
    await b.write('folder/more', 'by b');
    await settle(a, b);
    const picture = await b.picture();
    t.same(await a.picture(), picture, way);
    t.same(conflictsIn(picture), [], way);
    t.same(Object.keys(picture).toSorted(), ['common', 'folder', 'folder/after', 'folder/large', 'folder/more', 'folder/waiting'], way);
    t.equal(picture['common'], 'changed');
    t.equal(picture['folder/waiting'], 'this waits');
    await a.close();
    await b.close();
    await checkClean(t, volume);
  }
});

t.test('a copy of a running installation, in the middle of a pack, takes nothing from it, whoever is first', async (t) => {
  for (const first of ['copy', 'original']) {
    const volume = await newVolume();
    const state = await scratchDirectory(t);
    const lines: string[] = [];
    const logger = createLogger((line) => lines.push(line));
    const a = await open(volume, state, { logger });
    await a.write('early', Buffer.alloc(100_000, 'e'));
    await a.volume.sealContent(await a.ino('early'));
    const b = await open(volume, await copyOf(state), { logger });
    // The pack that holds the early file goes on to be filled here.
    await a.write('late', Buffer.alloc(100_000, 'a'));
    await a.volume.sealContent(await a.ino('late'));
    await b.write('late', Buffer.alloc(100_000, 'b'));
    await b.volume.sealContent(await b.ino('late'));
    await settle(...(first === 'copy' ? [b, a] : [a, b]));
    const picture = await a.picture();
    t.same(await b.picture(), picture, first);
    t.same(Object.keys(picture).length, 3, first);
    t.equal(picture['early'], 'e'.repeat(100_000), first);
    t.equal(
      lines.some((line) => line.includes(signs['a taken pack'])),
      first === 'copy',
      'the copy has a part of what the original puts, and the original more than the copy',
    );
    t.same(new Set(Object.values(picture)), new Set(['e', 'a', 'b'].map((letter) => letter.repeat(100_000))), first);
    await a.close();
    await b.close();
    await checkClean(t, volume);
  }
});

t.test('what is written while the numbers change is kept, also if the process is killed right after', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.volume.flush();
  const copy = await copyOf(state);
  const b = await open(volume, copy);
  // The numbers of all files of the copy are numbers of the original's.
  const counts = { a: 4000, b: 2500 };
  for (let index = 0; index < counts.a; index++) await a.write(`a ${index}`, `a ${index}`);
  await a.volume.flush();
  for (let index = 0; index < counts.b; index++) await b.write(`b ${index}`, `b ${index}`);
  const refresh = { isOver: false };
  const refreshed = b.volume.refresh().finally(() => {
    refresh.isOver = true;
  });
  const during: string[] = [];
  const large: string[] = [];
  while (!refresh.isOver) {
    const name = `during ${during.length}`;
    await b.write(name, name);
    // Dirty again, in a file that existed before.
    if (during.length < counts.b) await b.write(`b ${during.length}`, 'B', 0);
    during.push(name);
    // Sealed in the background, which takes a while.
    if (during.length % 20 === 0 && large.length < 12) {
      large.push(`large ${large.length}`);
      await b.write(large.at(-1)!, Buffer.alloc(4_500_000, large.length));
    }
    await new Promise(setImmediate);
  }
  await refreshed;
  t.ok(during.length > 20, `${during.length} files were written meanwhile`);
  const killed = await copyOf(copy);
  for (const device of [b, await open(volume, killed)]) {
    const picture = await device.picture();
    const wrong: string[] = [];
    const expect = (name: string, text: string): void => {
      if (picture[name] !== text) wrong.push(`${name}: ${picture[name]}`);
    };
    for (let index = 0; index < counts.a; index++) expect(`a ${index}`, `a ${index}`);
    for (let index = 0; index < counts.b; index++) expect(`b ${index}`, index < during.length ? `B ${index}` : `b ${index}`);
    for (const name of during) expect(name, name);
    for (const [index, name] of large.entries())
      if (picture[name] !== Buffer.alloc(4_500_000, index + 1).toString('latin1')) wrong.push(`${name}: ${picture[name]?.length}`);
    t.same(wrong.slice(0, 5), [], device === b ? 'at once' : 'after the kill');
    t.equal(Object.keys(picture).length, counts.a + counts.b + during.length + large.length);
    await device.close();
  }
  await a.close();
});

t.test('a copy that only reads shows both, and keeps its work for the time when it may write', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('common', 'common');
  await a.volume.flush();
  const copy = await copyOf(state);
  const b = await open(volume, copy);
  await b.write('of b', 'b');
  await b.write('common', 'changed by b');
  // Who only reads seals nothing.
  for (const path of ['of b', 'common']) await b.volume.sealContent(await b.ino(path));
  await b.volume.sync();
  await b.close();
  await a.write('of a', 'a');
  await a.write('common', 'changed by a');
  await a.volume.flush();
  for (const readOnly of [true, true, false]) {
    const again = await open(volume, copy, { readOnly });
    const picture = await again.picture();
    t.equal(picture['of a'], 'a');
    t.equal(picture['of b'], 'b');
    t.equal(picture['common'], 'changed by a');
    t.same(
      conflictsIn(picture).map((name) => picture[name]),
      ['changed by b'],
    );
    if (!readOnly) await settle(again, a);
    await again.close();
  }
  t.equal(await a.text('of b'), 'b');
  await a.close();
  await checkClean(t, volume);
});

t.test('an older state directory is restored: what it still holds is done, and it goes on', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('first', 'first');
  await a.volume.flush();
  await a.write('second', 'second');
  await a.write('first', 'first, changed');
  const backup = await copyOf(state);
  await a.volume.flush();
  await a.write('third', 'third');
  await a.write('second', 'second, changed later');
  await a.unlink('first');
  await a.volume.flush();
  await a.close();
  const b = await open(volume, backup);
  await b.write('fourth', 'fourth');
  await settle(b);
  t.same(await b.picture(), { second: 'second, changed later', third: 'third', fourth: 'fourth' }, 'what was done later holds');
  await b.close();
  const again = await open(volume, backup);
  t.equal(await again.text('fourth'), 'fourth');
  t.equal(again.volume.details()['device']?.['index'], 2);
  t.equal(again.volume.details()['device']?.['formerIndex'], 1);
  await again.close();
  await checkClean(t, volume);
});

t.test('only the trust file is older: nothing is enrolled anew, and nothing is lost', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('one', 'one');
  await a.volume.flush();
  const trust = readFileSync(`${state}/trust`);
  await a.write('two', 'two');
  await a.volume.flush();
  await a.write('three', 'three');
  await a.close();
  writeFileSync(`${state}/trust`, trust);
  const b = await open(volume, state);
  await settle(b);
  t.same(await b.picture(), { one: 'one', two: 'two', three: 'three' });
  t.equal(b.volume.details()['device']?.['index'], 1);
  await b.close();
});

t.test('a head code does not make a copied state directory forget its work', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('common', 'common');
  await a.volume.flush();
  // Both work on without a commit, from the same numbers on.
  const copy = await copyOf(state);
  const b = await open(volume, copy);
  await b.write('of b', 'b');
  await b.volume.sync();
  await b.close();
  await a.write('of a', 'a');
  await a.volume.flush();
  const { sequence, headCode } = a.volume.details()['commit'] ?? {};
  const again = await open(volume, copy, { headCode: { sequence: Number(sequence), hashStart: String(headCode).split('-')[1] ?? '' } });
  t.same(await again.picture(), { common: 'common', 'of a': 'a', 'of b': 'b' });
  await settle(again, a);
  t.same(await a.picture(), { common: 'common', 'of a': 'a', 'of b': 'b' });
  await a.close();
  await again.close();
  await checkClean(t, volume);
});

/** An installation in a random life: what it wrote, and what of that is in the store. */
class Installation {
  readonly label: string;
  readonly state: string;
  device: TestDevice;
  /** Contents that only its state directory has. */
  waiting: string[] = [];

  constructor(label: string, state: string, device: TestDevice) {
    this.label = label;
    this.state = state;
    this.device = device;
  }
}

t.test('whatever copies of one installation acknowledge in random lives is there in the end, on all of them', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const rounds = Number(process.env['TEST_ROUNDS'] ?? 12);
  const events = new Map<string, number>();
  const count = (event: string): void => void events.set(event, (events.get(event) ?? 0) + 1);
  const logger = createLogger((line) => {
    for (const [event, sign] of Object.entries(signs)) if (line.includes(sign)) count(event);
  }, 'info');
  for (let round = 0; round < rounds; round++) {
    const say = (what: string): string => `seed ${seed}, round ${round}: ${what}`;
    const volume = await newVolume();
    const foldBounds = random.below(3) === 0 ? { entries: 10, bytes: 1e6 } : { entries: 1e6, bytes: 1e9 };
    const openHere = (state: string): Promise<TestDevice> => open(volume, state, { logger, foldBounds });
    const written = new Set<string>();
    const superseded = new Set<string>();
    let [labels, contents] = [0, 0];
    const installations: Installation[] = [];
    const state = await scratchDirectory(t);
    installations.push(new Installation(`i${labels++}`, state, await openHere(state)));
    const textAt = async ({ device }: Installation, path: string): Promise<string | undefined> =>
      (await device.exists(path)) ? device.text(path) : undefined;
    const write = async (by: Installation, path: string): Promise<void> => {
      const before = await textAt(by, path);
      if (before !== undefined) superseded.add(before);
      const text = `content ${contents++} `.padEnd([20, 3000, 90_000][random.below(3)]!, 'x');
      await by.device.truncate(path, 0).catch(() => {});
      await by.device.write(path, text);
      written.add(text);
      by.waiting.push(text);
    };
    const ownFiles = async ({ device, label }: Installation): Promise<string[]> =>
      (await device.list()).filter((name) => name.startsWith(`${label}-`));
    const actions: Record<string, (by: Installation) => Promise<void>> = {
      'write an own file': (by) => write(by, `${by.label}-${random.below(5)}`),
      'write a shared file': (by) => write(by, `shared-${random.below(3)}`),
      'make a folder': async (by) => {
        if (!(await by.device.exists('folder'))) await by.device.mkdir('folder');
        await write(by, `folder/${by.label}`);
      },
      rename: async (by) => {
        const [from] = await ownFiles(by);
        if (from === undefined) return;
        const to = `${by.label}-${5 + random.below(3)}`;
        const before = await textAt(by, to);
        if (before !== undefined && from !== to) superseded.add(before);
        await by.device.rename(from, to);
      },
      remove: async (by) => {
        const [name] = await ownFiles(by);
        if (name === undefined) return;
        superseded.add(await by.device.text(name));
        await by.device.unlink(name);
      },
      sync: ({ device }) => device.volume.sync(),
      seal: async ({ device }) => {
        for (const name of await device.list()) if (name !== 'folder') await device.volume.sealContent(await device.ino(name));
      },
      flush: async (by) => {
        await by.device.volume.flush();
        by.waiting = [];
      },
      refresh: ({ device }) => device.volume.refresh(),
      kill: async (by) => {
        const [index, left] = [installations.indexOf(by), await copyOf(by.state)];
        await by.device.close();
        const again = new Installation(by.label, left, await openHere(left));
        again.waiting = by.waiting;
        installations[index] = again;
      },
      reopen: async (by) => {
        await by.device.close();
        by.device = await openHere(by.state);
      },
      copy: async (by) => {
        if (installations.length >= 4) return;
        const copy = await copyOf(by.state);
        installations.push(new Installation(`i${labels++}`, copy, await openHere(copy)));
      },
      restore: async (by) => {
        const backup = await copyOf(by.state);
        const waiting = [...by.waiting];
        for (let step = random.below(6); step >= 0; step--) await actions[names[random.below(7)]!]!(by);
        await by.device.volume.flush();
        await by.device.close();
        installations[installations.indexOf(by)] = Object.assign(new Installation(`i${labels++}`, backup, await openHere(backup)), { waiting });
      },
    };
    const names = Object.keys(actions);
    for (let step = 0; step < 30; step++) {
      const name = names[random.below(names.length)]!;
      count(name);
      await actions[name]!(installations[random.below(installations.length)]!);
    }
    const devices = installations.map(({ device }) => device);
    await settle(...devices);
    const [first] = devices;
    const picture = await first!.picture();
    const found = new Set(Object.values(picture));
    const gone = [...written].filter((text) => !superseded.has(text) && !found.has(text)).map((text) => text.slice(0, 12));
    t.same(gone, [], say('acknowledged contents that are nowhere'));
    for (const device of devices) t.same(Object.keys(await device.picture()), Object.keys(picture), say('all show the same'));
    for (const device of devices) await device.close();
    await checkClean(t, volume);
  }
  // Packs with one name are filled on both sides in some of a hundred lives.
  const sure = Object.keys(signs).filter((event) => rounds >= 100 || event !== 'a taken pack');
  for (const event of sure) t.ok(events.get(event), `${event}: it happens (seed ${seed})`);
  t.comment(`seed ${seed}: ${[...events].map(([event, times]) => `${event} ${times}`).join(', ')}`);
});

/** A store that several simulated machines share: bodies are read from the machine that puts them. */
class SharedStore implements ObjectStore {
  readonly description = 'shared';
  readonly local = false;
  readonly #shared: MemoryStore;
  readonly #disk: SimulatedDisk;
  isAway = false;

  constructor(shared: MemoryStore, disk: SimulatedDisk) {
    this.#shared = shared;
    this.#disk = disk;
  }

  #reached(): MemoryStore {
    if (this.isAway) throw new StoreError('UNAVAILABLE', 'no answer');
    return this.#shared;
  }

  async get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#reached().get(key, options);
  }
  async put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    const bytes = body instanceof Uint8Array ? body : ((await readBody(this.#disk, body)) as Sealed);
    return this.#reached().put(key, bytes, options);
  }
  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    return this.#reached().list(prefix, options);
  }
  async delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#reached().delete(keys);
  }
  async head(key: ObjectKey): Promise<number | undefined> {
    return this.#reached().head(key);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

t.test('a copy that crashes at any point while it takes a new identity loses nothing', async (t) => {
  const stateDirectory = '/state';
  const prepare = async (): Promise<{ volume: TestVolume; shared: MemoryStore; disk: SimulatedDisk }> => {
    const shared = new MemoryStore({});
    const original = new SimulatedDisk();
    await original.makeDirectory(stateDirectory);
    await original.syncDirectory('/');
    const volume = await createTestVolume(new SharedStore(shared, original));
    const openOn = (disk: SimulatedDisk): Promise<TestDevice> =>
      TestDevice.open({ ...volume, store: new SharedStore(shared, disk) }, { disk, stateDirectory });
    const a = await openOn(original);
    await a.write('common', 'common');
    await a.volume.flush();
    await a.mkdir('folder');
    await a.write('folder/waiting', 'waits');
    await a.write('large', Buffer.alloc(100_000, 'l'));
    await a.volume.sealContent(await a.ino('large'));
    await a.volume.sync();
    const disk = original.clone(5);
    // The same numbers, for other files.
    await a.write('of a', 'a');
    await a.volume.flush();
    await a.close();
    return { volume, shared, disk };
  };
  /** Work of the copy, whose own files have the numbers of the original's. It notes what it was told is done. */
  const live = async (volume: TestVolume, disk: SimulatedDisk, shared: MemoryStore, done: { kept: string[]; stored: string[] }): Promise<void> => {
    const store = new SharedStore(shared, disk);
    store.isAway = true;
    const b = await TestDevice.open({ ...volume, store }, { disk, stateDirectory });
    await b.write('of b', 'b');
    done.kept.push('of b');
    await b.volume.sync();
    store.isAway = false;
    await b.write('folder/of b', 'b');
    done.kept.push('folder/of b');
    await b.volume.flush();
    done.stored.push(...done.kept);
    await b.write('folder/more', 'b');
    done.kept.push('folder/more');
    await b.volume.flush();
    done.stored.push(...done.kept);
    await b.close();
  };
  const measured = await prepare();
  const before = measured.disk.changeCount;
  await live(measured.volume, measured.disk, measured.shared, { kept: [], stored: [] });
  const points = measured.disk.changeCount - before;
  const step = Math.max(1, Math.floor(points / Number(process.env['TEST_ROUNDS'] ?? 40)));
  for (let at = before + 1; at < before + points; at += step) {
    const kind = (['process', 'power'] as const)[Math.floor((at - before) / step) % 2]!;
    const { volume, shared, disk } = await prepare();
    disk.crashAt(at);
    const done = { kept: [] as string[], stored: [] as string[] };
    // The number of operations varies a little: the last points may come too late.
    await live(volume, disk, shared, done).catch(() => {});
    const left = disk.crash(kind);
    const again = await TestDevice.open({ ...volume, store: new SharedStore(shared, left) }, { disk: left, stateDirectory });
    await settle(again);
    const picture = await again.picture();
    const wanted = new Set(['common', 'folder', 'folder/waiting', 'large', 'of a', ...(kind === 'process' ? done.kept : done.stored)]);
    t.same(
      [...wanted].filter((path) => picture[path] === undefined),
      [],
      `${kind} at ${at - before} of ${points}: what is missing`,
    );
    t.same(conflictsIn(picture), [], `${kind} at ${at - before} of ${points}`);
    t.equal(picture['large'], 'l'.repeat(100_000));
    t.equal(picture['of a'], 'a');
    await again.close();
    await checkClean(t, { ...volume, store: new SharedStore(shared, left) });
  }
});
