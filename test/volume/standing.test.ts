/**
 * What an open volume does when this device may not write, or not any more (doc/format.md, "Records"): it reads, keeps
 * what was accepted, and reports nothing as stored that the other devices would skip.
 */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { createLogger, silentLogger } from '../../src/base/logger.js';
import { openBareVolume } from '../../src/check/bare-volume.js';
import { Findings } from '../../src/check/finding.js';
import type { LogState } from '../../src/commit/log-state.js';
import { commitAsOwner } from '../../src/commit/owner-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import type { TestVolume } from '../suite/test-device.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';

async function asOwner({ store, rootSecret, ownerSeed, volumeId }: TestVolume, recordsFor: (log: LogState) => readonly LogRecord[]): Promise<void> {
  const bare = await openBareVolume({ store, rootSecret, volumeId, random: systemRandom, findings: new Findings(1) });
  if (!bare) throw new Error('the volume opens');
  const parts = { program: testProgram, clock: systemClock, logger: silentLogger, trusted: undefined };
  await commitAsOwner({ store, ...bare, ownerSeed, ...parts }, recordsFor);
}

t.test('a device that is removed while it is mounted stops writing, and keeps what it accepted', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const stateDirectory = await scratchDirectory(t);
  const open = (): Promise<TestDevice> => TestDevice.open(volume, { disk: systemDisk, stateDirectory });
  const device = await open();
  await device.write('before', 'text');
  await device.volume.flush();
  const other = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), deviceName: 'other' });
  await asOwner(volume, () => [{ type: 'removal', deviceIndex: 1 }]);
  await device.write('after', 'text');
  await t.rejects(device.volume.flush(), { code: 'FENCED', message: /this device was removed from the volume/ });
  t.ok(device.volume.pending().operations > 0, 'it is not reported as stored');
  t.equal(device.volume.details()['commit']?.['stopped'], true);
  await t.rejects(device.write('more', 'text'), { code: 'FENCED' });
  t.equal(await device.text('before'), 'text', 'it still reads');
  await device.close();
  await other.volume.refresh();
  t.strictSame(await other.list(), ['before']);
  t.equal(other.volume.details()['device']?.['devices'], 1, 'the others count it no more');
  t.match(JSON.stringify(other.volume.details()['devices']), /admitted by the owner, removed"/);
  await other.write('of the other', 'text');
  await other.volume.flush();
  await other.close();
  const again = await open();
  t.equal(again.volume.readOnly, true, 'the next mount is for reading');
  t.ok(again.volume.pending().operations > 0, 'and has what was accepted');
  await t.rejects(again.write('more', 'text'), { code: 'READ_ONLY' });
  await again.close();
});

t.test('a volume with a feature that this program lacks for writing is opened for reading, and the log says which', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const first = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
  await first.write('before', 'text');
  await first.volume.flush();
  await first.close();
  await asOwner(volume, ({ features }) => [{ type: 'features', features: { ...features, toWrite: ['depth'] } }]);
  const lines: string[] = [];
  const device = await TestDevice.open(volume, {
    disk: systemDisk,
    stateDirectory: await scratchDirectory(t),
    logger: createLogger((line) => lines.push(line), 'warn'),
  });
  t.equal(device.volume.readOnly, true);
  t.match(lines.join(), /the feature depth, which this version of Sealdrive lacks/);
  t.equal(await device.text('before'), 'text');
  await t.rejects(device.write('after', 'text'), { code: 'READ_ONLY' });
  await device.close();
});
