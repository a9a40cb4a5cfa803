/**
 * A short version of the soak (`npm run soak`), through the kernel: a few rounds of work, kill -9 and mount.
 * TEST_ROUNDS makes it longer.
 */
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { Drive } from '../mount/drive-process.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { soak } from './soak.js';

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const seed = testSeed();
  const rounds = Number(process.env['TEST_ROUNDS'] ?? 1);
  t.setTimeout(0);
  t.test(`all acknowledged work is there after kill -9 and a mount (TEST_SEED=${seed})`, async (t) => {
    t.setTimeout(0);
    const scratch = await scratchDirectory(t);
    const drive = new Drive({ scratch });
    t.teardown(() => drive.destroy());
    await drive.init();
    const done = await soak({ drive, scratch, durationMs: 60_000 * rounds, roundMs: 6000, seed, writers: 2, report: (line) => t.comment(line) });
    t.ok(done.operations > 0, `${done.operations} operations in ${done.rounds} rounds`);
  });
}
