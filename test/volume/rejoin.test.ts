/**
 * Tests the way back from an integrity stop: a device takes the history that the store shows now, and does its own work
 * again on top of it (doc/concurrency.md, "Rejoining").
 */
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { readGenesis } from '../../src/commit/genesis.js';
import { planRejoin, type RejoinPlan } from '../../src/commit/rejoin.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { EvilStore } from '../evil/evil-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';

t.setTimeout(600_000);

async function planOf(volume: TestVolume, stateDirectory: string): Promise<RejoinPlan | undefined> {
  const { store, volumeId } = volume;
  const root = new RootKeys(new Uint8Array(volume.rootSecret), systemRandom);
  const genesis = await readGenesis({ store, disk: systemDisk, stateDirectory, root, volumeId });
  const keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random: systemRandom });
  return planRejoin({ store, keys, genesis, disk: systemDisk, stateDirectory, logger: silentLogger });
}

const open = (volume: TestVolume, stateDirectory: string, deviceName: string, entries = 1e6): Promise<TestDevice> =>
  TestDevice.open(volume, { disk: systemDisk, stateDirectory, deviceName, foldBounds: { entries, bytes: 1e9 } });

async function save(device: TestDevice, path: string, content: string): Promise<void> {
  await device.write(path, content);
  await device.volume.flush();
}

async function settle(...devices: TestDevice[]): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const device of devices) {
      await device.volume.refresh();
      await device.volume.flush();
    }
  }
}

for (const entries of [1e6, 3]) {
  void t.test(`after the store went back, each device brings its own work again (folds at ${entries})`, async (t) => {
    const store = new EvilStore(systemDisk);
    const volume = await createTestVolume(store);
    const [stateA, stateB] = [await scratchDirectory(t), await scratchDirectory(t)];
    let [a, b] = [await open(volume, stateA, 'a', entries), await open(volume, stateB, 'b', entries)];
    await save(a, 'old', 'old');
    await settle(a, b);
    const old = new Map(store.objects);
    await a.mkdir('of a');
    await save(a, 'of a/one', '1'.repeat(100_000));
    await settle(a, b);
    await save(b, 'of a/two', '2'.repeat(100_000));
    await save(b, 'old', 'changed by b');
    await settle(b, a);
    await save(a, 'of a/two', 'a wrote last');
    await settle(a, b);
    await a.write('waits', 'was never in the store');
    for (const device of [a, b]) await device.close();
    // Somebody restores the store from a copy; the packs of later are still there.
    for (const key of store.objects.keys()) if (key.startsWith('log/') && !old.has(key)) store.plant(key, undefined);
    const c = await open(volume, await scratchDirectory(t), 'c');
    await save(c, 'of c', '3');
    await save(c, 'old', 'changed by c');
    await t.rejects(open(volume, stateA, 'a'), { code: /ROLLBACK|FORK|MISSING|OWN_COMMIT_MISSING/ });

    const plan = await planOf(volume, stateA);
    t.match(plan, { again: 2, forgotten: 0 });
    t.ok([...plan!.givenUp.values()].every((count) => count > 0) && plan!.givenUp.size === 1, 'commits of b are given up');
    await t.rejects(open(volume, stateA, 'a'), 'planning changes nothing');
    await plan!.apply();
    a = await open(volume, stateA, 'a', entries);
    await settle(a, c);
    const half = await c.picture();
    t.match(half, {
      old: 'changed by c',
      'of c': '3',
      'of a': 'dir',
      'of a/one': '1'.repeat(100_000),
      'of a/two': 'a wrote last',
      waits: 'was never in the store',
    });
    t.same(await a.picture(), half);

    t.equal(await planOf(volume, stateA), undefined, 'there is nothing more to rejoin');
    await (await planOf(volume, stateB))!.apply();
    b = await open(volume, stateB, 'b', entries);
    await settle(b, a, c);
    const whole = await c.picture();
    t.ok(Object.values(whole).includes('2'.repeat(100_000)), 'what b acknowledged is there');
    t.ok(Object.values(whole).includes('changed by b'), 'beside what c wrote');
    for (const [path, content] of Object.entries(half)) t.equal(whole[path], content, path);
    for (const device of [a, b]) t.same(await device.picture(), whole);
    for (const device of [a, b, c]) await device.close();
    const fresh = await open(volume, await scratchDirectory(t), 'd');
    t.same(await fresh.picture(), whole);
    await fresh.close();
  });
}

void t.test('a store that shows all that the device knows leaves nothing to rejoin', async (t) => {
  const volume = await createTestVolume(new EvilStore(systemDisk));
  const stateDirectory = await scratchDirectory(t);
  const a = await open(volume, stateDirectory, 'a');
  await save(a, 'file', 'x');
  await a.close();
  t.equal(await planOf(volume, stateDirectory), undefined);
  await t.rejects(planOf(volume, await scratchDirectory(t)), { code: 'BAD_STATE' }, 'a machine without a history has none to leave');
});
