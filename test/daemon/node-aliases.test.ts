/** The mapping from node ids to inodes, through conflicts and forgets, against a model of the kernel's knowledge. */
import t from 'tap';
import { NodeAliases } from '../../src/daemon/node-aliases.js';
import type { NodeId } from '../../src/fuse/operations.js';
import { type Ino, isIno, makeIno } from '../../src/meta/key.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const node = (number: number): NodeId => number as NodeId;

t.test('the inode of the kernel becomes the copy, and the file gets a node id that is no inode number', (t) => {
  const aliases = new NodeAliases(() => true);
  const [file, copy] = [makeIno(2, 7), makeIno(2, 8)];
  t.equal(aliases.nodeIdOf(file), file, 'the same number as long as nothing happened');
  aliases.follow(file, copy);
  t.equal(aliases.inoOf(node(file)), copy);
  t.equal(aliases.nodeIdOf(copy), file);
  const alias = aliases.nodeIdOf(file);
  t.equal(aliases.inoOf(alias), file);
  t.not(alias, file);
  t.notOk(isIno(alias), 'no device gives it');
  t.end();
});

t.test('numbers are given back when the kernel has forgotten both, in whatever order', (t) => {
  for (const order of ['file first', 'alias first']) {
    const [file, copy] = [makeIno(2, 7), makeIno(2, 8)];
    const known = new Set<NodeId>([node(file)]);
    const aliases = new NodeAliases((nodeId) => known.has(nodeId));
    aliases.follow(file, copy);
    const alias = aliases.nodeIdOf(file);
    known.add(alias);
    const forget = (nodeId: NodeId): void => {
      known.delete(nodeId);
      aliases.forget(nodeId);
    };
    forget(order === 'file first' ? node(file) : alias);
    if (order === 'alias first') t.equal(aliases.nodeIdOf(file), alias, 'its own number still stands for the copy');
    else t.equal(aliases.nodeIdOf(copy), copy, 'the copy has its own number');
    forget(order === 'file first' ? alias : node(file));
    t.equal(aliases.size, 0, order);
  }
  t.end();
});

t.test('a node id that the kernel holds changes its inode only in a conflict', (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  /** The node ids that the kernel holds, and the inodes that it takes them for. */
  const kernel = new Map<NodeId, Ino>();
  const aliases = new NodeAliases((nodeId) => kernel.has(nodeId));
  const inos = Array.from({ length: 6 }, (_, index) => makeIno(3, index + 1));
  for (let step = 0; step < 20_000; step++) {
    const ino = inos[random.below(inos.length)];
    const nodeId = aliases.nodeIdOf(ino!);
    switch (random.below(5)) {
      case 0:
      case 1: {
        const held = kernel.get(nodeId);
        if (held !== undefined && held !== ino) t.fail(`node ${nodeId} was given to two inodes (TEST_SEED=${seed})`);
        kernel.set(nodeId, ino!);
        break;
      }
      case 2: {
        if (!kernel.has(nodeId)) break;
        const copy = makeIno(3, 100 + step);
        aliases.follow(ino!, copy);
        kernel.set(nodeId, copy);
        inos[random.below(inos.length)] = copy;
        break;
      }
      default: {
        const known = [...kernel.keys()];
        if (known.length === 0) break;
        const forgotten = known[random.below(known.length)];
        kernel.delete(forgotten!);
        aliases.forget(forgotten!);
      }
    }
    for (const [held, wanted] of kernel) {
      if (aliases.inoOf(held) !== wanted) t.fail(`node ${held} is another inode after step ${step} (TEST_SEED=${seed})`);
      if (aliases.nodeIdOf(wanted) !== held) t.fail(`inode ${wanted} has another node after step ${step} (TEST_SEED=${seed})`);
    }
  }
  for (const held of kernel.keys()) {
    kernel.delete(held);
    aliases.forget(held);
  }
  t.equal(aliases.size, 0, 'nothing is left when the kernel knows nothing');
  t.end();
});
