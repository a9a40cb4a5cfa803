/**
 * A disk that is full, fails or refuses writes, at every stage of a change: the error names the problem, the service
 * continues once it has passed, and nothing that was promised is lost (doc/semantics.md, "Errors").
 */
import t from 'tap';
import { systemRandom } from '../../src/crypto/system-random.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { VolumeError, type VolumeErrorCode } from '../../src/volume/volume-error.js';
import { patternOf } from '../suite/crash-workload.js';
import { type DiskOperation, SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';

t.setTimeout(0);

interface Stage {
  readonly name: string;
  readonly hits: (operation: DiskOperation) => boolean;
  readonly store?: 'directory';
  /** Nothing is staged when the fault begins. */
  readonly flushed?: boolean;
  /** The error codes that may occur, by step; none where nothing may fail. */
  readonly codes: Readonly<Partial<Record<string, readonly VolumeErrorCode[]>>>;
}

const changing = (operation: DiskOperation): boolean => !['read', 'stat', 'readdir', 'open'].includes(operation.kind);
const under =
  (path: string, ...kinds: DiskOperation['kind'][]) =>
  (operation: DiskOperation): boolean =>
    operation.path.startsWith(path) && (kinds.length === 0 ? changing(operation) : kinds.includes(operation.kind));

const local = { ENOSPC: ['FULL'], EIO: ['DISK'], EROFS: ['DISK'] } as const;
const stages: readonly Stage[] = [
  { name: 'appending to the journal', hits: under('/state/journal', 'write', 'truncate'), codes: local },
  { name: 'beginning a staging pack', hits: under('/state/staging', 'create'), flushed: true, codes: local },
  { name: 'writing a staging pack', hits: under('/state/staging', 'write'), codes: local },
  { name: 'syncing a staging pack', hits: under('/state/staging', 'datasync', 'sync-directory'), codes: local },
  { name: 'removing a staging pack', hits: under('/state/staging', 'unlink'), store: 'directory', codes: local },
  { name: 'the trust state', hits: under('/state/trust'), codes: local },
  { name: 'copies of commits', hits: under('/state/log'), codes: local },
  { name: 'the disk cache', hits: under('/state/cache'), codes: { ENOSPC: [], EIO: [], EROFS: [] } },
  {
    name: 'the state directory except the sync of the journal',
    codes: local,
    hits: (operation) => under('/state')(operation) && !(operation.kind === 'datasync' && operation.path.includes('/journal/')),
  },
  {
    name: 'the store',
    hits: under('/store'),
    store: 'directory',
    codes: { ENOSPC: ['FULL'], EIO: ['UNAVAILABLE'], EROFS: ['UNAVAILABLE', 'READ_ONLY'] },
  },
  {
    name: 'opening files',
    hits: ({ kind, path }) => path.startsWith('/state') && (kind === 'open' || kind === 'create'),
    codes: { EIO: ['DISK', 'UNAVAILABLE'], EMFILE: ['NO_DESCRIPTORS'] },
  },
];

interface Bench {
  readonly disk: SimulatedDisk;
  readonly volume: TestVolume;
  readonly device: TestDevice;
}

async function prepared(kind: Stage['store']): Promise<Bench> {
  const disk = new SimulatedDisk({ seed: 3 });
  for (const path of ['/state', '/fresh']) await disk.makeDirectory(path);
  await disk.syncDirectory('/');
  const store: ObjectStore = kind === 'directory' ? await DirectoryStore.create('/store', { disk, random: systemRandom }) : new MemoryStore({ disk });
  const volume = await createTestVolume(store);
  const device = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
  await device.write('first', patternOf('first', 300_000));
  await device.volume.flush();
  await device.write('second', patternOf('second', 300_000));
  await device.write('third', 'short');
  await device.volume.sync();
  return { disk, volume, device };
}

/** The steps that work under a fault, and the error codes of those that do not. */
async function work(device: TestDevice, label: string): Promise<{ readonly done: string[]; readonly failures: unknown[] }> {
  const done: string[] = [];
  const failures: unknown[] = [];
  const steps: readonly (readonly [string, () => Promise<unknown>])[] = [
    [`${label}-directory`, () => device.mkdir(`${label}-directory`)],
    [`${label}-small`, () => device.write(`${label}-small`, `small ${label}`)],
    [`${label}-large`, () => device.write(`${label}-large`, patternOf(label, 300_000))],
    ['sync', () => device.volume.sync()],
    ['flush', () => device.volume.flush()],
    ['flush', () => device.volume.flush()],
  ];
  for (const [name, step] of steps) {
    try {
      await step();
      done.push(name);
    } catch (error) {
      failures.push(error);
    }
  }
  return { done, failures };
}

for (const stage of stages) {
  for (const code of ['ENOSPC', 'EIO', 'EROFS', 'EMFILE']) {
    const expected = stage.codes[code];
    if (!expected) continue;
    t.test(`${code} in ${stage.name}`, async (t) => {
      const { disk, volume, device } = await prepared(stage.store);
      if (stage.flushed) await device.volume.flush();
      let hits = 0;
      disk.fault = (operation) => (stage.hits(operation) && hits++ >= 0 ? code : undefined);
      const { done, failures } = await work(device, 'during');
      t.ok(hits > 0, 'the fault was met');
      for (const failure of failures) {
        if (!(failure instanceof VolumeError) || !expected.includes(failure.code))
          t.equal(failure, undefined, 'an error that tells what is the matter');
      }
      t.equal((await device.read('second')).equals(patternOf('second', 300_000)), true, 'reading goes on');
      disk.fault = undefined;
      // Data that could not be made durable counts as unsafe until it is in the store.
      await device.volume.flush();
      const after = await work(device, 'after');
      t.strictSame(after.failures, [], 'all works again');
      const picture = await device.picture();
      for (const name of [...done, ...after.done]) if (name !== 'sync' && name !== 'flush') t.ok(name in picture, `${name} is there`);
      if (done.includes('during-large')) t.equal(picture['during-large'], Buffer.from(patternOf('during', 300_000)).toString('latin1'));
      t.equal(picture['second'], Buffer.from(patternOf('second', 300_000)).toString('latin1'));
      t.equal(picture['third'], 'short');
      const fresh = await TestDevice.open(volume, { disk, stateDirectory: '/fresh' });
      t.strictSame(await fresh.picture(), picture, 'a fresh device sees the same');
      await fresh.close();
      await device.close();
      const again = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
      t.strictSame(await again.picture(), picture, 'and so does this one, opened again');
      await again.close();
    });
  }
}

t.test('a journal that cannot be made durable refuses records until the volume is opened again', async (t) => {
  for (const code of ['EIO', 'ENOSPC']) {
    const { disk, volume, device } = await prepared(undefined);
    await device.write('accepted', 'not durable yet');
    await device.write('bulk', patternOf('bulk', 300_000));
    let armed = true;
    disk.fault = ({ kind, path }) => (armed && kind === 'datasync' && path.includes('/journal/') ? code : undefined);
    await t.rejects(device.volume.sync(), { code: 'DISK' }, 'fsync tells');
    // The disk reports no more errors, as disks do; lost data stays lost.
    armed = false;
    await t.rejects(device.volume.sync(), { code: 'DISK' }, 'and does not forget');
    await t.rejects(device.mkdir('refused'), { code: 'READ_ONLY' });
    await t.rejects(device.write('accepted', 'more'), { code: 'READ_ONLY' });
    t.equal(await device.text('accepted'), 'not durable yet', 'reading goes on');
    const picture = await device.picture();
    await device.volume.flush();
    t.equal(device.volume.pending().operations, 0, 'what was accepted can still be brought into the store');
    const fresh = await TestDevice.open(volume, { disk, stateDirectory: '/fresh' });
    t.strictSame(await fresh.picture(), picture);
    await fresh.close();
    await device.close();
    const again = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
    t.strictSame(await again.picture(), picture, 'opened again');
    await again.mkdir('works');
    await again.volume.sync();
    await again.volume.flush();
    t.ok(await again.exists('works'));
    await again.close();
  }
});

t.test('a failed journal loses nothing that was synced before, even without a flush', async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const { disk, volume, device } = await prepared(undefined);
    await device.write('later', 'never synced');
    disk.fault = ({ kind, path }) => (kind === 'datasync' && path.includes('/journal/') ? 'EIO' : undefined);
    await t.rejects(device.volume.sync(), { code: 'DISK' });
    await device.close();
    const next = disk.clone(seed).crash('power');
    const objects = new MemoryStore({ disk: next });
    for await (const { key } of volume.store.list('')) await objects.put(key, (await volume.store.get(key)) as never);
    const again = await TestDevice.open({ ...volume, store: objects }, { disk: next, stateDirectory: '/state' });
    t.equal((await again.read('second')).equals(patternOf('second', 300_000)), true);
    t.equal(await again.text('third'), 'short');
    await again.volume.flush();
    await again.close();
  }
});

t.test('a disk failure while the volume is opened is reported, and the volume opens once it has passed', async (t) => {
  for (const code of ['ENOSPC', 'EIO', 'EROFS', 'EMFILE']) {
    const { disk, volume, device } = await prepared(undefined);
    const picture = await device.picture();
    await device.close();
    for (let skip = 0, opens = false; !opens; skip++) {
      let left = skip;
      disk.fault = (operation) =>
        (changing(operation) || operation.kind === 'open') && operation.path.startsWith('/state') && left-- <= 0 ? code : undefined;
      try {
        const opened = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
        opens = left > 0;
        await opened.close();
      } catch (error) {
        t.match(error instanceof Error ? `${error.message} ${String(error.cause)}` : error, code, `operation ${skip}: the error names the cause`);
      }
      if (skip > 100) opens = true;
    }
    disk.fault = undefined;
    const again = await TestDevice.open(volume, { disk, stateDirectory: '/state' });
    t.strictSame(await again.picture(), picture);
    await again.volume.flush();
    await again.close();
  }
});
