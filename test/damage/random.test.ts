/** Two devices change the same tree at random, conflicts included; a check of the result finds nothing. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { checkVolume } from '../../src/check/check-volume.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';
import { codesOf } from './damaged-volume.js';

const rounds = 30;
const operationsPerRound = 12;

t.test('a volume is sound after any mixture of changes by two devices', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const store = new MemoryStore({ disk: systemDisk });
  const volume = await createTestVolume(store);
  const scratch = await scratchDirectory(t);
  const foldBounds = { entries: 60, bytes: 1 << 30 };
  const devices: TestDevice[] = [];
  for (const deviceName of ['a', 'b']) {
    const stateDirectory = join(scratch, deviceName);
    await mkdir(stateDirectory);
    devices.push(await TestDevice.open(volume, { disk: systemDisk, stateDirectory, deviceName, foldBounds }));
  }
  for (let round = 0; round < rounds; round++) {
    const device = devices[random.below(2)]!;
    for (let count = random.below(operationsPerRound); count >= 0; count--) await change(device, random);
    await device.volume.flush();
    const { report } = await checkVolume({ ...volume, random: systemRandom, data: round % 10 === 9, names: false });
    // The volume of this test was made without keyslots.
    const found = codesOf(report).filter((code) => code !== 'KEYSLOT_MISSING');
    if (found.length > 0) {
      t.fail(`round ${round}, TEST_SEED=${seed}: ${JSON.stringify(report.findings)}`);
      break;
    }
  }
  for (const device of devices) await device.close();
  t.pass(`TEST_SEED=${seed}`);
});

/** One change. Changes that the tree does not allow are expected to fail. */
async function change(device: TestDevice, random: SeededRandom): Promise<void> {
  const directory = (): string => ['', 'd0/', 'd1/', 'd0/d2/', 'd1/d3/'][random.below(5)]!;
  const path = (): string => `${directory()}${['d0', 'd1', 'd2', 'd3', 'f0', 'f1', 'f2', 'f3'][random.below(8)]}`;
  const bytes = (): Uint8Array => random.bytes([10, 3000, 40_000][random.below(3)]!);
  const one = path();
  const work = [
    () => device.mkdir(one),
    () => device.write(one, bytes(), random.below(3) * 5000),
    () => device.write(one, bytes()),
    () => device.truncate(one, random.below(60_000)),
    () => device.unlink(one),
    () => device.rename(one, path()),
    () => device.rename(one, path()),
    async () => void (await device.filesystem.link(await device.ino(one), await device.ino(directory().replace(/\/$/, '')), `f${random.below(4)}`)),
    async () => {
      const { ino } = await device.filesystem.rmdir(await device.ino(directory().replace(/\/$/, '')), `d${random.below(4)}`);
      device.filesystem.forget(ino);
    },
  ][random.below(9)]!;
  await work().catch((error: unknown) => {
    const isExpected = error instanceof Error && (/no such path/.test(error.message) || 'code' in error);
    if (!isExpected) throw error;
  });
}
