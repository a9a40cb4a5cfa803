/** A check finds nothing in a sound volume, however it came about. */
import t from 'tap';
import { codesOf, content, DamagedVolume } from './damaged-volume.js';

t.test('a volume with checkpoints, large files and links is clean', async (t) => {
  const damaged = await DamagedVolume.make(t);
  const { report } = await damaged.check();
  t.strictSame(codesOf(report), []);
  t.equal(report.examined.keyslots, 1);
  t.equal(report.examined.files, 400 + 110 + 7);
  t.ok(report.examined.pages > 2, 'the tree has a branch');
  t.equal(report.examined.sequence, damaged.newest);
  t.equal(report.examined.contentBytes, 3 * 1024 * 1024 + 150_000);
  t.equal(report.worst, 'note', 'old checkpoints have left packs');
});

t.test('check finds nothing wrong with removed, open and shared files, a second device or commits meanwhile', async (t) => {
  const damaged = await DamagedVolume.make(t, { files: 20 });
  const device = await damaged.device();
  await device.unlink('deep/small-3');
  await device.truncate('deep/large', 1_000_001);
  await device.write('deep/large', content(9, 5000), 700_000);
  await device.rename('deep/deeper', 'many/moved');
  const kept = await device.ino('deep/small-5');
  await device.filesystem.unlink(await device.ino('deep'), 'small-5');
  await device.volume.flush();
  const whileOpen = await damaged.check();
  t.strictSame(codesOf(whileOpen.report), []);
  device.filesystem.forget(kept);
  await device.volume.flush();
  await device.close();
  t.strictSame(codesOf((await damaged.check()).report), []);
});
