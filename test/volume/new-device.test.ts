/**
 * Tests that mounted devices report devices that join: which, and when (doc/security.md, "Freshness").
 */
import t from 'tap';
import { createLogger } from '../../src/base/logger.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

t.test('other devices log and report a newly enrolled device, also after a restart', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const lines: string[] = [];
  const stateDirectory = await scratchDirectory(t);
  const open = async (): Promise<TestDevice> =>
    TestDevice.open(volume, { disk: systemDisk, stateDirectory, logger: createLogger((line) => lines.push(line), 'info') });
  const first = await open();
  t.equal(first.volume.details()['devices'], undefined, 'alone');
  const second = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), deviceName: 'str\u202eanger\x1b[2J' });
  await first.volume.refresh();
  const said = lines.filter((line) => line.includes('a new device takes part'));
  t.equal(said.length, 1);
  t.match(said[0], /device 2 \(str_anger_\[2J\).*enrolled.*20\d\d-/);
  const told = JSON.stringify(first.volume.details()['devices']);
  t.match(told, /"device 2 \(str_anger_\[2J\)":"enrolled 20\d\d-\d\d-\d\dT\S+, admin, version 0\.1\.2, admitted by the owner"/);
  await first.close();
  const again = await open();
  t.equal(JSON.stringify(again.volume.details()['devices']), told);
  t.equal(lines.filter((line) => line.includes('a new device takes part')).length, 1, 'it is logged once');
  await again.close();
  await second.close();
});
