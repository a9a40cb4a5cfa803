import t from 'tap';
import { InodeReferences } from '../../src/daemon/inode-references.js';
import type { NodeId } from '../../src/fuse/operations.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const node = (value: number): NodeId => value as NodeId;

t.test('an inode is released when as many references are forgotten as were given', async (t) => {
  const references = new InodeReferences();
  references.refer(node(5));
  references.refer(node(5));
  t.equal(references.forget(node(5), 1), false, 'a late FORGET leaves the newer reference');
  t.equal(references.has(node(5)), true);
  t.equal(references.forget(node(5), 1), true);
  t.equal(references.has(node(5)), false);
  t.equal(references.forget(node(5), 1), true, 'of what is not known nothing is left');
});

t.test('counts agree with a plain map after any sequence of references', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const references = new InodeReferences();
  const model = new Map<NodeId, number>();
  const nodeIds: NodeId[] = [];
  // Inode numbers as devices allocate them: runs, each high in its own range, sometimes few and sometimes many.
  const newId = (): NodeId => node(random.below(5) * 2 ** 40 + random.below(20_000) + 2);
  for (let step = 0; step < 200_000; step++) {
    const grows = Math.floor(step / 50_000) % 2 === 0;
    if (random.below(10) < (grows ? 7 : 3)) {
      const id = newId();
      if (!model.has(id)) nodeIds.push(id);
      model.set(id, (model.get(id) ?? 0) + 1);
      references.refer(id);
    } else if (nodeIds.length > 0) {
      const index = random.below(nodeIds.length);
      const id = nodeIds[index];
      const held = model.get(id!) ?? 0;
      const count = 1 + random.below(held);
      if (references.forget(id!, count) !== (count === held)) t.fail(`forget answers wrongly, seed ${seed}`);
      if (count < held) model.set(id!, held - count);
      else {
        model.delete(id!);
        nodeIds[index] = nodeIds.at(-1)!;
        nodeIds.pop();
      }
    }
  }
  t.equal(references.size, model.size, `seed ${seed}`);
  for (const id of model.keys()) if (!references.has(id)) t.fail(`lost one, seed ${seed}`);
  for (let tries = 0; tries < 10_000; tries++) {
    const id = newId();
    if (references.has(id) !== model.has(id)) t.fail(`found one that is not there, seed ${seed}`);
  }
});

t.test('nothing is known any more at the end of a connection', async (t) => {
  const references = new InodeReferences();
  for (let ino = 2; ino < 10_000; ino++) references.refer(node(ino));
  references.clear();
  t.equal(references.size, 0);
  t.equal(references.has(node(2)), false);
});
