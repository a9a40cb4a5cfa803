/** The inode numbers of what a mount shows of snapshots (doc/format.md, "Inode numbers"). */
import t from 'tap';
import { makeIno, rootIno } from '../../src/meta/key.js';
import { isSnapshotNumber, type SnapshotNode, SnapshotNumbers } from '../../src/vfs/snapshot-numbers.js';

const snapshot = { name: '2026-08-22T10.00.00Z', sequence: 7 };
const inos = [rootIno, makeIno(0, 16), makeIno(1, 5), makeIno(3, 2 ** 30), makeIno(8191, 2 ** 35 - 1)];

t.test('every node has a number of its own, which leads back to it', async (t) => {
  const numbers = new SnapshotNumbers();
  const nodes: SnapshotNode[] = inos.flatMap((ino) => [
    { snapshot: undefined, folder: ino, ino },
    { snapshot, folder: rootIno, ino },
    { snapshot, folder: inos[2]!, ino },
    { snapshot: { ...snapshot, sequence: 8 }, folder: rootIno, ino },
  ]);
  const given = nodes.map((node) => numbers.numberOf(node));
  t.equal(new Set(given).size, nodes.length);
  for (const [index, node] of nodes.entries()) {
    t.ok(isSnapshotNumber(given[index]!), 'no inode of a volume has it');
    t.strictSame(numbers.nodeOf(given[index]!), { ...node, ...(node.snapshot ? { snapshot: node.snapshot } : {}) });
    t.equal(numbers.numberOf(node), given[index], 'it stays');
  }
});

t.test('what was not used for long is forgotten, and gets another number', async (t) => {
  const numbers = new SnapshotNumbers({ rememberedMax: 3 });
  const nodeIn = (folder: number): SnapshotNode => ({ snapshot, folder: makeIno(0, 16 + folder), ino: rootIno });
  const first = numbers.numberOf(nodeIn(0));
  for (let folder = 1; folder < 3; folder++) numbers.numberOf(nodeIn(folder));
  t.strictSame(numbers.nodeOf(first), nodeIn(0), 'used');
  numbers.numberOf(nodeIn(3));
  t.strictSame(numbers.nodeOf(first), nodeIn(0), 'the second was forgotten');
  for (let folder = 4; folder < 8; folder++) numbers.numberOf(nodeIn(folder));
  t.equal(numbers.nodeOf(first), undefined);
  t.not(numbers.numberOf(nodeIn(0)), first);
});

t.test('a renewed node has another number, and the old one remains good', async (t) => {
  const numbers = new SnapshotNumbers();
  const node = { snapshot, folder: rootIno, ino: makeIno(0, 20) };
  const before = numbers.numberOf(node);
  numbers.renew(before);
  const after = numbers.numberOf(node);
  t.not(after, before);
  t.strictSame(numbers.nodeOf(before), node);
  t.strictSame(new Set(numbers.numbersOf(node)), new Set([before, after]));
});
