/**
 * The mounted drive on every kind of store, on real servers, in parallel, since the tests mostly wait for commits and
 * polls. TEST_STORES (`s3,sftp`) chooses kinds; TEST_ROUNDS adds crashes.
 */
import { join } from 'node:path';
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { mountSuite } from '../suite/mount-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { startStoreServer, storeKindsOf, whyNoStore } from '../support/store-server.js';

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const seed = testSeed();
  const crashes = Number(process.env['TEST_ROUNDS'] ?? 1);
  const kinds = storeKindsOf(process.env['TEST_STORES']);
  t.setTimeout(0);
  t.jobs = kinds.length;
  for (const kind of kinds) {
    const skip = whyNoStore(kind);
    void t.test(kind, skip === undefined ? { buffered: true } : { skip }, async (t) => {
      t.setTimeout(0);
      const scratch = await scratchDirectory(t);
      const server = await startStoreServer(kind, join(scratch, 'server'));
      t.teardown(() => server.stop());
      mountSuite(t, { server, scratch, seed, crashes });
    });
  }
}
