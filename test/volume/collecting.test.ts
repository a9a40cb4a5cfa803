/** Tests that space comes back, and that nothing retained goes away (doc/collecting.md). */
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { dayMs } from '../../src/collect/observations.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { CollectReport } from '../../src/volume/collector.js';
import { HeldClock } from '../suite/held-clock.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

t.setTimeout(600_000);
const random = new SeededRandom(testSeed());

interface Scene {
  readonly store: MemoryStore;
  readonly volume: TestVolume;
  readonly clock: HeldClock;
  open(name: string, options?: Partial<DeviceOptions>): Promise<TestDevice>;
  /** Bytes of packs in the store. */
  stored(): Promise<number>;
}

async function begin(): Promise<Scene> {
  const disk = new SimulatedDisk({ seed: 1 });
  const store = new MemoryStore({ disk });
  const clock = new HeldClock();
  const volume = await createTestVolume(store, { clock });
  return {
    store,
    volume,
    clock,
    open: async (deviceName, options = {}) => {
      const stateDirectory = `/${deviceName}`;
      await disk.makeDirectory(stateDirectory).catch(() => {});
      return TestDevice.open(volume, { disk, stateDirectory, deviceName, clock, heartbeatMs: 0, ...options });
    },
    stored: async () => {
      let bytes = 0;
      for await (const { key, size } of store.list('packs/')) if (key !== '') bytes += size ?? 0;
      return bytes;
    },
  };
}

const collect = (device: TestDevice, windowMs = 0, lapseMs?: number): Promise<CollectReport> =>
  device.volume.collect({ windowMs, dryRun: false, lapseMs });

async function fill(device: TestDevice, folder: string, count: number, size = 60_000): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  await device.mkdir(folder);
  for (let index = 0; index < count; index++) {
    const bytes = random.bytes(size);
    await device.write(`${folder}/${index}`, bytes);
    files.set(`${folder}/${index}`, bytes);
  }
  await device.volume.flush();
  return files;
}

void t.test('what a device that is alone removes is freed at once when nothing else is kept', async (t) => {
  const { open, stored } = await begin();
  const device = await open('one');
  await fill(device, 'old', 40);
  const kept = await fill(device, 'new', 4);
  const before = await stored();
  for (let index = 0; index < 40; index++) await device.unlink(`old/${index}`);
  const report = await collect(device);
  t.ok(report.freed.bytes > 40 * 60_000, `${report.freed.bytes} bytes are freed`);
  t.ok((await stored()) < before - 40 * 60_000);
  t.same(await device.volume.recount(), []);
  const again = await collect(device);
  t.same([again.garbage < 60_000, again.freed.bytes < 60_000], [true, true], 'what is gone is not freed twice');
  for (const [path, bytes] of kept) t.ok((await device.read(path)).equals(Buffer.from(bytes)), `${path} is as it was`);
  const fresh = await open('two');
  for (const [path, bytes] of kept) t.ok((await fresh.read(path)).equals(Buffer.from(bytes)), `${path} is there for a new device`);
  await fresh.close();
  await device.close();
});

void t.test('the window keeps what it covers, by the clock of who collects', async (t) => {
  const { open, stored, clock } = await begin();
  const device = await open('one');
  await fill(device, 'old', 20);
  await collect(device, 7 * dayMs);
  for (let index = 0; index < 20; index++) await device.unlink(`old/${index}`);
  const full = await stored();
  for (let day = 0; day < 7; day++) {
    const { freed } = await collect(device, 7 * dayMs);
    t.equal(freed.packs, 0, `nothing is freed on day ${day}`);
    clock.advance(dayMs);
  }
  t.ok((await stored()) >= full);
  clock.advance(dayMs);
  const { freed } = await collect(device, 7 * dayMs);
  const now = await stored();
  t.ok(freed.bytes > 20 * 60_000 && now < full - 20 * 60_000, `${now} of ${full} bytes are left`);
  await device.close();
});

void t.test('a device that has not been heard of since holds burying up, and is named', async (t) => {
  const { open } = await begin();
  const [one, two] = [await open('one'), await open('two')];
  await fill(one, 'old', 20);
  for (let index = 0; index < 20; index++) await one.unlink(`old/${index}`);
  const first = await collect(one);
  t.equal(first.freed.packs, 0);
  t.ok(first.condemned.packs > 0);
  t.match(first.waitingFor, [/two/]);
  await two.volume.refresh();
  await two.write('sign', 'of life');
  await two.volume.flush();
  const second = await collect(one);
  t.ok(second.freed.bytes > 20 * 60_000, `${second.freed.bytes} bytes are freed`);
  t.same(second.waitingFor.length === 0 || second.waiting.packs > 0, true);
  t.same(await one.volume.recount(), []);
  await one.close();
  await two.close();
});

void t.test('a device that has not heard that content has moved looks at the log before it gives up', async (t) => {
  const { open } = await begin();
  const one = await open('one');
  const files = await fill(one, 'files', 40);
  const reader = await open('reader', { readOnly: true });
  await reader.exists('files/0');
  for (const path of [...files.keys()].slice(0, 35)) {
    await one.unlink(path);
    files.delete(path);
  }
  const { freed } = await collect(one);
  t.ok(freed.packs > 0);
  for (const [path, bytes] of files) t.ok((await reader.read(path)).equals(bytes), `${path} is as it was`);
  await one.close();
  await reader.close();
});

void t.test('a device that was away for months is not waited for, and brings its work when it comes back', async (t) => {
  const { open, clock } = await begin();
  const [one, first] = [await open('one'), await open('two')];
  await fill(one, 'old', 20);
  const shared = random.bytes(60_000);
  await one.write('shared', shared);
  await one.volume.flush();
  // So that its state stands on a tree of its own time.
  await collect(one);
  await first.volume.refresh();
  // Work that waits, of its own and with content of the other device.
  const own = random.bytes(80_000);
  await first.write('own', own);
  await first.clone('shared', 'copy');
  await first.mkdir('old/folder');
  await first.close();
  await collect(one);
  for (let month = 0; month < 4; month++) {
    for (let index = month * 5; index < month * 5 + 5; index++) await one.unlink(`old/${index}`);
    if (month === 1) await one.write('shared', random.bytes(60_000));
    await one.volume.flush();
    for (let day = 0; day < 30; day += 3) {
      clock.advance(3 * dayMs);
      await collect(one, 0, 30 * dayMs);
    }
  }
  const { lapsed, freed, waitingFor } = await collect(one, 0, 30 * dayMs);
  t.same([lapsed, waitingFor], [[], []], 'it is not waited for any more');
  t.ok(freed.packs >= 0);
  const said: string[] = [];
  const two = await open('two', { logger: { ...silentLogger, error: (message) => said.push(message) } });
  await two.volume.flush();
  t.ok((await two.read('own')).equals(own), 'its own file');
  // The content was the other device's, and nobody has it any more: that is said.
  t.ok((await two.read('copy')).equals(Buffer.alloc(60_000)), 'a copy of what is gone is there, and empty');
  t.match(said, [/was collected, and reads as zeros/]);
  t.ok(await two.exists('old/folder'));
  await one.volume.refresh();
  t.ok((await one.read('own')).equals(own), 'the other device has it, too');
  t.same(await one.volume.recount(), []);
  await one.close();
  await two.close();
});
