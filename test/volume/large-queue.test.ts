/**
 * Tests a device with a large queue after a long time without commits (src/volume/pending-layers.ts;
 * doc/concurrency.md, "Committing" and "Rebase").
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { layerBytesMax } from '../../src/volume/pending-layers.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, type DeviceOptions, TestDevice } from '../suite/test-device.js';

async function begin(t: Parameters<typeof scratchDirectory>[0]) {
  const scratch = await scratchDirectory(t);
  const store = await DirectoryStore.create(join(scratch, 'store'), { disk: systemDisk, random: systemRandom });
  const volume = await createTestVolume(store);
  const open = async (name: string, options: Partial<DeviceOptions> = {}): Promise<TestDevice> => {
    const stateDirectory = join(scratch, name);
    await mkdir(stateDirectory, { recursive: true });
    return TestDevice.open(volume, { disk: systemDisk, stateDirectory, deviceName: name, ...options });
  };
  const commitSizes = async (): Promise<number[]> => {
    const sizes: number[] = [];
    for await (const { key } of store.list('log/')) sizes.push((await store.head(key)) ?? 0);
    return sizes;
  };
  return { open, commitSizes };
}

/** Fills a queue with the fewest operations: `names` attributes, set again and again. */
async function fill(device: TestDevice, path: string, bytes: number, names: number): Promise<void> {
  const ino = await device.ino(path);
  const time = { sec: 1, nsec: 0 };
  for (let index = 0; index * 65536 < bytes; index++) {
    const value = new Uint8Array(65536).fill(index);
    await device.volume.apply({ type: 'setxattr', ino, name: `user.${index % names}`, value, flags: 0, mode: undefined, time });
  }
}

t.test('more operations than one commit can hold are committed in several, in order', async (t) => {
  const { open, commitSizes } = await begin(t);
  const mine = await open('mine');
  await mine.write('file', 'content');
  await mine.volume.flush();
  const theirs = await open('theirs');
  const before = (await commitSizes()).length;
  await fill(mine, 'file', 2.5 * layerBytesMax, 1000);
  await mine.write('last', 'of all');
  await mine.volume.flush();
  t.equal(mine.volume.pending().operations, 0);
  const sizes = (await commitSizes()).slice(before);
  t.ok(sizes.length >= 3);
  t.ok(Math.max(...sizes) < 1.5 * layerBytesMax, 'none is much larger than a layer');
  await theirs.volume.refresh();
  t.strictSame(await theirs.picture(), await mine.picture());
  await Promise.all([mine.close(), theirs.close()]);
});

// A journal record can hold 64 MiB.
t.test("a large queue is rebased onto another device's commit and survives a restart", async (t) => {
  const { open } = await begin(t);
  const mine = await open('mine');
  await mine.write('file', 'content');
  await mine.volume.flush();
  const theirs = await open('theirs');
  await fill(mine, 'file', 66 * 1024 * 1024, 10);
  await mine.write('last', 'of all');
  await mine.volume.sealContent(await mine.ino('last'));
  const before = mine.volume.pending().operations;
  await theirs.write('file', 'other content');
  await theirs.volume.flush();
  await mine.volume.refresh();
  t.equal(mine.volume.pending().operations, before);
  await mine.close();
  const after = await open('mine');
  t.equal(after.volume.pending().operations, before);
  t.equal(await after.text('file'), 'other content');
  t.equal(await after.text('last'), 'of all');
  await after.volume.flush();
  await theirs.volume.refresh();
  t.strictSame(await theirs.picture(), await after.picture());
  await Promise.all([theirs.close(), after.close()]);
});

t.test('keys that change again and again are folded before their commits fill the memory', async (t) => {
  const { open } = await begin(t);
  let folds = 0;
  const log = { ...silentLogger, info: (message: string): void => void (folds += message === 'checkpoint' ? 1 : 0) };
  const bytes = 400_000;
  const device = await open('mine', { logger: log, foldBounds: { entries: 1e6, bytes } });
  await device.write('file', 'content');
  for (let count = 0; count < 30; count++) {
    await fill(device, 'file', 100_000, 2);
    await device.volume.flush();
  }
  t.ok(folds >= 2 && folds < 6, `${folds} folds`);
  await device.close();
});
