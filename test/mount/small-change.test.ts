/** A small change of a large file is a small upload. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Drive } from './drive-process.js';
import { measureSmallChange } from './small-change.js';

t.test('an overwrite of 4 KiB in a large file adds less than 64 KiB to the store', async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'small-change-'));
  const drive = new Drive({ scratch });
  t.teardown(async () => {
    await drive.destroy();
    await rm(scratch, { recursive: true, force: true });
  });
  await drive.init();
  await drive.mount();
  const { added } = await measureSmallChange(drive, 64);
  for (const bytes of added) t.ok(bytes > 0 && bytes < 64 * 1024, `${bytes} bytes were added`);
});
