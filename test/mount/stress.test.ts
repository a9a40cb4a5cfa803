/**
 * A short version of stress.ts: several processes work at random on one drive, then a new device verifies everything.
 */
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive } from './drive-process.js';
import { stress } from './stress.js';

const skip = whyNoFuse();
const seed = testSeed();

void t.test(`four processes at random leave a sound volume and the same tree for another device (TEST_SEED=${seed})`, { skip }, async (t) => {
  const scratch = await scratchDirectory(t);
  const drive = new Drive({ scratch, withKeyFile: true });
  t.teardown(() => drive.destroy());
  await drive.init();
  const fsstress = process.env['FSSTRESS'];
  const fsx = process.env['FSX'];
  const result = await stress({ drive, durationMs: 12_000, processes: 4, seed, scratch, fsstress, fsx, report: (line) => t.comment(line) });
  t.ok(result.treeOperations > 100, `${result.treeOperations} operations on trees`);
  t.ok(result.fileOperations > 100, `${result.fileOperations} operations within files`);
  t.same(await drive.warnings(), [], 'the daemon logged no warning');
});
