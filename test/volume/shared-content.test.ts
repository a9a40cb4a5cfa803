/**
 * Pending operations that share content of packs which this machine never had (src/volume/replay.ts): after the death
 * of the process they are not taken for operations whose content a power failure took.
 */
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';

const open = (volume: TestVolume, deviceName: string, stateDirectory: string): Promise<TestDevice> =>
  TestDevice.open(volume, { disk: systemDisk, deviceName, stateDirectory });

t.test('a conflict copy of a file that another device made is there after a crash', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const [here, there] = [await scratchDirectory(t), await scratchDirectory(t)];
  const [one, two] = [await open(volume, 'one', here), await open(volume, 'two', there)];
  await two.write('large', Buffer.alloc(600_000, 'a'));
  await two.volume.flush();
  await one.volume.refresh();
  // Most of the file stays in the pack of the other device.
  await one.write('large', 'mine', 500_000);
  await one.mkdir('made after it');
  await two.write('large', 'theirs', 0);
  await two.volume.flush();
  await one.volume.refresh();
  const before = await one.picture();
  t.equal(Object.keys(before).length, 3, 'both versions, and the folder');
  await one.close();
  const again = await open(volume, 'one', here);
  t.strictSame(await again.picture(), before);
  await again.volume.flush();
  await two.volume.refresh();
  t.strictSame(await two.picture(), before);
  for (const device of [again, two]) await device.close();
});
