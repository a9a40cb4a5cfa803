/** Random lives of devices that collect (doc/collecting.md). TEST_ROUNDS multiplies them. */
import t from 'tap';
import { testSeed } from '../suite/seeded-random.js';
import { collectingLife, type LifeEvent } from './collecting-life.js';

t.setTimeout(0);
const seed = testSeed();
const lives = 12 * Number(process.env['TEST_ROUNDS'] ?? 1);

void t.test(`nothing that is retained is lost, and space comes back (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const events = new Map<LifeEvent, number>();
  for (let life = 0; life < lives; life++) {
    const result = await collectingLife(seed + life);
    for (const [event, count] of result.events) events.set(event, (events.get(event) ?? 0) + count);
    if (result.findings.length > 0) t.fail(`seed ${seed + life}: ${result.findings.slice(0, 3).join('; ')}`);
  }
  t.ok((events.get('packs freed') ?? 0) > 0, [...events].map(([event, count]) => `${event}: ${count}`).join(', '));
});
