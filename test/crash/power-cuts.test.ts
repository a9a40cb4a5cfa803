/** A few power cuts on the file systems that this machine's kernel has; power-cuts.ts does many. */
import t from 'tap';
import { testSeed } from '../suite/seeded-random.js';
import { cutPower, whyNoCuts } from './power-cuts.js';

const seed = testSeed();
t.setTimeout(900_000);

for (const name of ['ext4', 'vfat', 'exfat']) {
  t.test(`${name}: all acknowledged work survives a power cut (TEST_SEED=${seed})`, { skip: whyNoCuts(name) }, async (t) => {
    const { losses, acknowledged } = await cutPower(name, 12, seed);
    t.same(losses, []);
    t.ok(acknowledged > 0);
  });
}
