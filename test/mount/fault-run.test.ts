/**
 * A short version of the fault runs (`npm run faults`), on each kind of store in TEST_STORES in turn, by default on
 * `sealdrive serve`.
 */
import { join } from 'node:path';
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { startStoreServer, storeKindsOf, whyNoStore } from '../support/store-server.js';
import { faultRun } from './fault-run.js';

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const seed = testSeed();
  t.setTimeout(0);
  for (const kind of storeKindsOf(process.env['TEST_STORES'] ?? 'http')) {
    const skip = kind === 'directory' ? 'nothing is between a directory and the drive' : whyNoStore(kind);
    void t.test(`${kind}: the tree equals the model after faults (TEST_SEED=${seed})`, skip === undefined ? {} : { skip }, async (t) => {
      t.setTimeout(0);
      const scratch = await scratchDirectory(t);
      const server = await startStoreServer(kind, join(scratch, 'server'));
      t.teardown(() => server.stop());
      const report = (line: string): void => t.comment(line);
      const result = await faultRun({ server, scratch, durationMs: 14_000, roundMs: 7000, lastsMsMax: 1500, timeoutMs: 10_000, seed, report });
      t.ok(result.operations > 0, JSON.stringify(result));
    });
  }
}
