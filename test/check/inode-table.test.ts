/** The table keeps every column of every inode while it grows, whatever the numbers are. */
import t from 'tap';
import { InodeTable } from '../../src/check/inode-table.js';
import { makeIno } from '../../src/meta/key.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

t.test('exactly the written inodes are found after the table has grown', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const table = new InodeTable(16);
  const model = new Map<number, { names: number; parent: number }>();
  for (let round = 0; round < 20_000; round++) {
    const ino = makeIno(2 + random.below(5) * 1600, 1 + random.below(8000));
    const slot = table.slotOf(ino);
    table.names.add(slot, 1);
    table.parent.set(slot, round);
    model.set(ino, { names: (model.get(ino)?.names ?? 0) + 1, parent: round });
  }
  t.equal(table.count, model.size);
  const wrong = [...model].filter(([ino, { names, parent }]) => {
    const slot = table.find(ino);
    return slot < 0 || table.inoAt(slot) !== ino || table.names.at(slot) !== names || table.parent.at(slot) !== parent;
  });
  t.strictSame(wrong, [], `TEST_SEED=${seed}`);
  t.equal(table.find(makeIno(1, 1)), -1);
  const inos = [...table.slots()].map((slot) => table.inoAt(slot));
  t.strictSame(
    inos,
    [...model.keys()].toSorted((a, b) => a - b),
  );
});
