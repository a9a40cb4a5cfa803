/**
 * Repair restores a damaged log from the copies of a device, whose hashes prove them, and leaves everything else alone.
 */
import { cpSync } from 'node:fs';
import type { Test } from 'tap';
import t from 'tap';
import type { Sealed } from '../../src/base/brand.js';
import { toHex } from '../../src/base/bytes.js';
import type { LogRestoration } from '../../src/check/log-restoration.js';
import { planLogRestoration, restoreLog } from '../../src/check/log-restoration.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { codesOf, content, DamagedVolume } from './damaged-volume.js';

t.setTimeout(900_000);

type Teardown = Parameters<typeof scratchDirectory>[0];

/** A volume, and the state directory of a device that has seen everything in it. */
class KnownVolume {
  readonly volume: DamagedVolume;
  readonly stateDirectory: string;
  readonly before: ReadonlyMap<string, Uint8Array>;

  private constructor(volume: DamagedVolume, stateDirectory: string, before: ReadonlyMap<string, Uint8Array>) {
    this.volume = volume;
    this.stateDirectory = stateDirectory;
    this.before = before;
  }

  static async make(t: Teardown): Promise<KnownVolume> {
    const volume = await DamagedVolume.make(t, { files: 12 });
    const stateDirectory = await scratchDirectory(t);
    const device = await volume.device({ stateDirectory });
    for (const name of ['one', 'two', 'three']) {
      await device.write(name, content(7, 20_000));
      await device.volume.flush();
    }
    await device.close();
    volume.newest = await volume.newestSequence();
    return new KnownVolume(volume, stateDirectory, await objectsOf(volume.store));
  }

  get options() {
    const { volume, stateDirectory } = this;
    return { ...volume.volume, random: systemRandom, disk: systemDisk, stateDirectory };
  }

  plan(): Promise<LogRestoration> {
    return planLogRestoration(this.options);
  }

  /** The store is as it was at the start. */
  async reset(): Promise<KnownVolume> {
    const { store } = this.volume;
    await store.delete([...(await objectsOf(store)).keys()]);
    for (const [key, bytes] of this.before) await store.put(key, bytes as Sealed);
    return this;
  }

  async remove(...sequences: number[]): Promise<void> {
    for (const sequence of sequences) await this.volume.remove(this.volume.commitKey(sequence));
  }

  /** The store is restored byte for byte, the device mounts, and a check finds nothing. */
  async expectWhole(t: Test): Promise<void> {
    t.strictSame(pictureOf(await objectsOf(this.volume.store)), pictureOf(this.before));
    t.strictSame(codesOf((await this.volume.check({ data: false })).report), []);
    const stateDirectory = await scratchDirectory(t);
    cpSync(this.stateDirectory, stateDirectory, { recursive: true });
    const device = await this.volume.device({ stateDirectory, readOnly: true });
    t.ok(await device.exists('three'));
    await device.close();
  }
}

async function objectsOf(store: MemoryStore): Promise<Map<string, Uint8Array>> {
  const objects = new Map<string, Uint8Array>();
  for await (const { key } of store.list('')) objects.set(key, (await store.get(key)) ?? new Uint8Array(0));
  return objects;
}

const shared = await KnownVolume.make(t);

/** Names and hashes of all objects, since comparing the bytes takes minutes. */
function pictureOf(objects: ReadonlyMap<string, Uint8Array>): string[] {
  return [...objects].map(([key, bytes]) => `${key} ${toHex(hashBytes(bytes))}`);
}

const numbersOf = (objects: readonly { readonly sequence: number }[]): number[] => objects.map(({ sequence }) => sequence);
const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index);

/** The first commit of which the device has a copy. */
async function oldestCopy({ stateDirectory }: KnownVolume): Promise<number> {
  const names = (await systemDisk.readDirectory(`${stateDirectory}/log`)).map(({ name }) => Number.parseInt(name, 16));
  return Math.min(...names.filter((number) => number > 0));
}

t.test('everything that the device has seen is restored to a rolled-back store', async (t) => {
  for (const back of [1, 2, 3]) {
    const known = await shared.reset();
    const { newest } = known.volume;
    const gone = range(newest - back + 1, newest);
    await known.remove(...gone);
    const plan = await known.plan();
    t.strictSame([plan.seen, plan.newest], [newest, newest - back]);
    t.strictSame([numbersOf(plan.restorable), plan.lost, plan.damaged], [gone, [], []]);
    t.equal(await known.volume.newestSequence(), newest - back, 'a plan changes nothing');
    t.equal(await restoreLog(known.options, plan), back);
    await known.expectWhole(t);
    t.strictSame((await known.plan()).restorable, [], 'a second time there is nothing to do');
  }
});

t.test('each commit with a local copy is restored, and the others are reported', async (t) => {
  const known = await shared.reset();
  const oldest = await oldestCopy(known);
  t.ok(oldest < known.volume.newest - 2);
  for (const missing of range(0, known.volume.newest)) {
    const bytes = known.before.get(known.volume.commitKey(missing));
    await known.remove(missing);
    const plan = await known.plan();
    if (missing === 0 || missing >= oldest) {
      t.strictSame([numbersOf(plan.restorable), plan.lost, plan.damaged], [[missing], [], []], `without ${missing}`);
      t.equal(await restoreLog(known.options, plan), 1);
    } else {
      t.strictSame([plan.restorable, numbersOf(plan.lost), plan.damaged], [[], [missing], []], `without ${missing}`);
      await known.volume.store.put(known.volume.commitKey(missing), bytes as Sealed);
    }
  }
  await known.expectWhole(t);
});

t.test('the log is restored with its genesis, except for older commits', async (t) => {
  const known = await shared.reset();
  const gone = [0, ...range(await oldestCopy(known), known.volume.newest)];
  await known.remove(...gone);
  const plan = await known.plan();
  t.strictSame(numbersOf(plan.restorable), gone);
  await restoreLog(known.options, plan);
  await known.expectWhole(t);
});

t.test('a damaged commit is never overwritten, and is restored once it is removed', async (t) => {
  const known = await shared.reset();
  const { volume } = known;
  for (const damaged of [0, volume.newest - 1, volume.newest]) {
    const key = volume.commitKey(damaged);
    await volume.flip(key, 100);
    const before = await objectsOf(volume.store);
    const plan = await known.plan();
    t.strictSame([plan.restorable, plan.lost, plan.damaged], [[], [], [{ sequence: damaged, object: key, hasCopy: true }]]);
    t.equal(await restoreLog(known.options, plan), 0);
    t.strictSame(pictureOf(await objectsOf(volume.store)), pictureOf(before));
    await volume.remove(key);
    t.equal(await restoreLog(known.options, await known.plan()), 1);
  }
  await known.expectWhole(t);
});

t.test('nothing is restored where another device continued from the old state', async (t) => {
  const known = await shared.reset();
  const { volume } = known;
  await known.remove(...range(volume.newest - 2, volume.newest));
  const plan = await known.plan();
  const other = await volume.device();
  await other.write('of another', 'x');
  await other.volume.flush();
  await other.close();
  const before = await objectsOf(volume.store);
  await t.rejects(known.plan(), { code: 'FORKED', message: /another device has put a commit \d+ of its own/ });
  await t.rejects(restoreLog(known.options, plan), { code: 'FORKED' }, 'nor when it came after the plan');
  t.strictSame(pictureOf(await objectsOf(volume.store)), pictureOf(before));
});

t.test('gaps in a newer store are filled with the commits that this device knows', async (t) => {
  const known = await shared.reset();
  const { volume } = known;
  const other = await volume.device();
  await other.write('later still', 'x');
  await other.volume.flush();
  await other.close();
  const end = await volume.newestSequence();
  await known.remove(volume.newest - 1, end - 1);
  const plan = await known.plan();
  t.strictSame([numbersOf(plan.restorable), numbersOf(plan.lost)], [[volume.newest - 1], [end - 1]], 'but not behind what it has seen');
});

t.test('damaged copies and those of another volume are not restored', async (t) => {
  const known = await shared.reset();
  const stranger = await KnownVolume.make(t);
  const { newest } = known.volume;
  const name = (sequence: number): string => sequence.toString(16).padStart(16, '0');
  const stateDirectory = await scratchDirectory(t);
  cpSync(known.stateDirectory, stateDirectory, { recursive: true });
  cpSync(`${stranger.stateDirectory}/log/${name(newest)}`, `${stateDirectory}/log/${name(newest)}`);
  await known.remove(newest);
  const plan = await planLogRestoration({ ...known.options, stateDirectory });
  t.strictSame([plan.restorable, numbersOf(plan.lost)], [[], [newest]]);
});

t.test('a device without a history has nothing to restore', async (t) => {
  const known = await shared.reset();
  await known.remove(known.volume.newest - 1);
  const plan = await planLogRestoration({ ...known.options, stateDirectory: await scratchDirectory(t) });
  t.strictSame([plan.seen, plan.restorable, numbersOf(plan.lost)], [0, [], [known.volume.newest - 1]]);
  await known.remove(0);
  await t.rejects(planLogRestoration({ ...known.options, stateDirectory: await scratchDirectory(t) }), { code: 'BEYOND_REPAIR' });
});
