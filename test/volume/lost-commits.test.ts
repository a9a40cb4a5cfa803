/**
 * Tests own commits that the store loses after it has taken them: nobody has built on them, so the device puts them
 * again, or loses the race for their numbers afterwards (doc/concurrency.md, "Lost commits"). What it has acknowledged
 * stays, and no device stops.
 */
import { cpSync } from 'node:fs';
import t from 'tap';
import { sequenceOfKey } from '../../src/commit/log-name.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { rootIno } from '../../src/meta/key.js';
import type { ObjectKey } from '../../src/store/object-store.js';
import { VolumeError } from '../../src/volume/volume-error.js';
import { EvilStore } from '../evil/evil-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom } from '../suite/seeded-random.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

t.setTimeout(600_000);

interface Scene {
  readonly store: EvilStore;
  readonly volume: TestVolume;
  open(name: string, state?: string, options?: Partial<DeviceOptions>): Promise<TestDevice>;
  readonly newest: () => number;
  readonly keyOf: (sequence: number) => ObjectKey;
  /** Removes the commits from `from` on, as a store does that forgets them. Returns them. */
  readonly lose: (from: number, to?: number) => Map<ObjectKey, Uint8Array>;
}

async function begin(): Promise<Scene> {
  const store = new EvilStore(systemDisk);
  const volume = await createTestVolume(store);
  const root = new RootKeys(new Uint8Array(volume.rootSecret), systemRandom);
  const numbers = (): [number, ObjectKey][] =>
    [...store.objects.keys()].flatMap((key) => {
      const sequence = sequenceOfKey(root, key);
      return sequence === undefined ? [] : [[sequence, key] as [number, ObjectKey]];
    });
  return {
    store,
    volume,
    open: async (deviceName, state, options = {}) =>
      TestDevice.open(volume, { disk: systemDisk, stateDirectory: state ?? (await scratchDirectory(t)), deviceName, graceMs: 3_600_000, ...options }),
    newest: () => Math.max(...numbers().map(([sequence]) => sequence)),
    keyOf: (sequence) => numbers().find(([number]) => number === sequence)![1],
    lose: (from, to = Infinity) => {
      const lost = new Map<ObjectKey, Uint8Array>();
      for (const [sequence, key] of numbers()) {
        if (sequence < from || sequence > to) continue;
        lost.set(key, store.objects.get(key)!);
        store.plant(key, undefined);
      }
      return lost;
    },
  };
}

async function save(device: TestDevice, path: string, content: string): Promise<void> {
  await device.write(path, content);
  await device.volume.flush();
}

/** Looks for commits until the store has been checked as well; the next one may be incomplete meanwhile. */
async function look(device: TestDevice): Promise<void> {
  await device.volume.refresh().catch((error: unknown) => {
    if (!(error instanceof VolumeError) || error.code !== 'UNAVAILABLE') throw error;
  });
}

/** Both devices take in all that there is. */
async function meet(...devices: TestDevice[]): Promise<void> {
  for (let round = 0; round < 20; round++) for (const device of devices) await look(device);
  for (const device of devices) await device.volume.flush();
  for (const device of devices) await device.volume.refresh();
}

void t.test('commits that a store has lost are put again by the device that wrote them', async (t) => {
  const { open, newest, lose } = await begin();
  const a = await open('a');
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  await save(a, 'one', '1');
  await save(a, 'two', '2');
  const lost = lose(before + 1, before + 1);
  t.equal(lost.size, 1);
  await meet(a, b);
  t.equal(newest(), before + 2);
  t.same(await b.picture(), { one: '1', two: '2' });
  lose(before + 1);
  await save(a, 'three', '3');
  await meet(a, b);
  t.same(await b.picture(), { one: '1', two: '2', three: '3' }, 'all of them, and none has another number');
  for (const device of [a, b]) await device.close();
});

void t.test('a device loses the race for a number afterwards: what it did comes behind the others', async (t) => {
  const { open, newest, lose, store } = await begin();
  const stateA = await scratchDirectory(t);
  let a = await open('a', stateA);
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  await a.mkdir('folder');
  await save(a, 'folder/mine', 'of a');
  await save(a, 'same', 'of a');
  lose(before + 1);
  await save(b, 'theirs', 'of b');
  await save(b, 'same', 'of b');
  await meet(a, b);
  const expected = { folder: 'dir', 'folder/mine': 'of a', theirs: 'of b', same: 'of b' };
  const picture = await b.picture();
  const copies = Object.keys(picture).filter((path) => path.startsWith('same (conflict a '));
  t.equal(copies.length, 1);
  t.match(picture, { ...expected, [copies[0]!]: 'of a' });
  t.same(await a.picture(), picture);
  await a.close();
  a = await open('a', stateA);
  t.same(await a.picture(), picture, 'the same after a start');
  t.same(await (await open('c')).picture(), picture, 'and on a new device');
  t.ok(store.objects.size > 0);
  for (const device of [a, b]) await device.close();
});

void t.test('an own commit behind a lost number is removed, and does not block the log', async (t) => {
  const { open, newest, lose, store } = await begin();
  const a = await open('a');
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  await save(a, 'one', '1');
  await save(a, 'two', '2');
  const lost = lose(before + 1);
  await save(b, 'theirs', 'of b');
  // The folder is merged: the second commit of a comes back, the first one's number belongs to b.
  const [, second] = [...lost];
  store.plant(...second!);
  for (let round = 0; round < 10; round++) await look(a);
  await meet(a, b);
  t.same(await a.picture(), { one: '1', two: '2', theirs: 'of b' });
  t.same(await b.picture(), await a.picture());
  for (const device of [a, b]) await device.close();
});

void t.test('what lost commits did goes into the store again without anybody asking for it', async (t) => {
  const { open, newest, lose } = await begin();
  const a = await open('a', undefined, { commitDelayMs: 10 });
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  await save(a, 'one', '1');
  lose(before + 1);
  await save(b, 'theirs', 'of b');
  for (let round = 0; round < 10; round++) await look(a);
  for (let round = 0; round < 1000 && a.volume.pending().operations > 0; round++) await new Promise((resolve) => setTimeout(resolve, 10));
  t.equal(a.volume.pending().operations, 0);
  await look(b);
  t.same(await b.picture(), { one: '1', theirs: 'of b' });
  for (const device of [a, b]) await device.close();
});

void t.test('what a device did in lost commits is done again after a kill at any point', async (t) => {
  const { open, newest, lose, store, volume } = await begin();
  const stateA = await scratchDirectory(t);
  const a = await open('a', stateA, { foldBounds: { entries: 3, bytes: 1e9 } });
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  for (const name of ['one', 'two', 'three', 'four', 'five']) await save(a, name, name.repeat(100_000));
  lose(before + 1);
  await save(b, 'theirs', 'of b');
  await save(b, 'one', 'of b');
  // Copies of the state directory at every step of what follows are what a killed daemon leaves behind.
  const copies: string[] = [];
  const copy = async (): Promise<void> => {
    const path = await scratchDirectory(t);
    cpSync(stateA, path, { recursive: true });
    copies.push(path);
  };
  await copy();
  const objects = new Map(store.objects);
  const working = { done: false };
  const watch = (async () => {
    while (!working.done) {
      await copy().catch(() => copies.pop());
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
  })();
  await a.write('late', 'late');
  for (let round = 0; round < 9; round++) await a.volume.refresh();
  working.done = true;
  await watch;
  await a.close();
  await b.close();
  for (const stateDirectory of copies.slice(0, 25)) {
    const again = new EvilStore(systemDisk, objects);
    const device = await TestDevice.open({ ...volume, store: again }, { disk: systemDisk, stateDirectory, deviceName: 'a' });
    await device.volume.flush();
    const picture = await device.picture();
    for (const name of ['two', 'three', 'four', 'five']) t.equal(picture[name], name.repeat(100_000));
    t.equal(picture['theirs'], 'of b');
    t.equal(picture['one'], 'of b');
    t.equal(Object.values(picture).filter((content) => content === 'one'.repeat(100_000)).length, 1, 'a conflict copy');
    await device.close();
    const other = await TestDevice.open({ ...volume, store: again }, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
    t.same(await other.picture(), picture);
    await other.close();
  }
  t.ok(copies.length > 5, `${copies.length} states`);
});

void t.test('history that another device has seen does not go back: the device stops', async (t) => {
  const { open, newest, lose } = await begin();
  const a = await open('a');
  const b = await open('b');
  await meet(a, b);
  const before = newest();
  await save(a, 'one', '1');
  await b.volume.refresh();
  await save(b, 'two', '2');
  await a.volume.refresh();
  lose(before + 1);
  const c = await open('c');
  await save(c, 'three', '3');
  await t.rejects(meet(a), { code: 'FENCED' });
  await t.rejects(meet(b), { code: 'FENCED' });
  t.equal(await a.text('one'), '1', 'what it knows it still reads');
  t.ok(a.volume.hasStopped);
  await t.rejects(async () => a.filesystem.lookup(rootIno, 'three'), { code: 'CORRUPT' }, 'what it does not know may be there');
  t.notOk(c.volume.hasStopped);
  t.equal(await c.filesystem.lookup(rootIno, 'one'), undefined);
  for (const device of [a, b, c]) await device.close();
});

const seeds = Number(process.env['TEST_ROUNDS'] ?? 15);
const first = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9));
for (let seed = first; seed < first + seeds; seed++) {
  void t.test(`a store loses unseen commits at random, and nothing acknowledged is lost (TEST_SEED=${seed})`, async (t) => {
    const random = new SeededRandom(seed);
    const { open, newest, lose } = await begin();
    const states = [await scratchDirectory(t), await scratchDirectory(t)];
    const bounds = { foldBounds: { entries: 1 + random.below(20), bytes: 1e9 } };
    const devices = [await open('a', states[0], bounds), await open('b', states[1], bounds)];
    const acknowledged = new Set<string>();
    for (let step = 0; step < 40; step++) {
      const index = random.below(2);
      const device = devices[index]!;
      switch (random.below(6)) {
        case 0:
        case 1:
          await save(device, `${index}-${step}`, `${index}-${step}`);
          acknowledged.add(`${index}-${step}`);
          break;
        case 2:
          await device.write(`shared-${random.below(3)}`, `shared ${index} ${step}`);
          acknowledged.add(`shared ${index} ${step}`);
          break;
        case 3:
          for (let round = random.below(12); round >= 0; round--) await look(device);
          break;
        case 4: {
          // Only one device has seen these: its own.
          const seen = Number(devices[1 - index]!.volume.details().commit?.['sequence']);
          const from = seen + 1 + random.below(Math.max(1, newest() - seen));
          if (from <= newest()) lose(from);
          break;
        }
        default:
          await device.close();
          devices[index] = await open(index === 0 ? 'a' : 'b', states[index], bounds);
      }
    }
    await meet(...(devices as [TestDevice, TestDevice]));
    const [ours, theirs] = [await devices[0]!.picture(), await devices[1]!.picture()];
    t.same(ours, theirs);
    const contents = new Set(Object.values(ours));
    for (const content of acknowledged) if (!content.startsWith('shared')) t.ok(contents.has(content), content);
    for (const device of devices) await device.close();
  });
}
