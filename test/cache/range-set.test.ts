import t from 'tap';
import { RangeSet } from '../../src/cache/range-set.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

t.test('a range set agrees with a plain array of bytes', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  for (let round = 0; round < 200; round++) {
    const set = new RangeSet();
    const model = Array.from({ length: 100 }, () => false);
    for (let step = 0; step < 20; step++) {
      const start = random.below(100);
      const end = start + random.below(Math.min(20, 101 - start));
      set.add(start, end);
      model.fill(true, start, end);
      for (let probe = 0; probe < 10; probe++) {
        const from = random.below(100);
        const to = from + random.below(101 - from);
        if (set.covers(from, to) !== model.slice(from, to).every(Boolean)) t.fail(`${from}..${to} is wrong (TEST_SEED=${seed})`);
      }
      let last = -1;
      let total = 0;
      for (const [first, after] of set) {
        if (first <= last || after <= first) t.fail(`ranges are not disjoint and apart (TEST_SEED=${seed})`);
        last = after;
        total += after - first;
      }
      if (total !== model.filter(Boolean).length) t.fail(`the ranges hold other bytes (TEST_SEED=${seed})`);
    }
  }
  t.pass('200 rounds agree');
});

t.test('space on disk counts each block once', async (t) => {
  const set = new RangeSet();
  set.add(0, 1);
  set.add(100, 200);
  t.equal(set.diskBytes(), 4096);
  set.add(4095, 4097);
  t.equal(set.diskBytes(), 8192);
  set.add(100_000, 100_001);
  t.equal(set.diskBytes(), 12288);
});
