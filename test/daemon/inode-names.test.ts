import t from 'tap';
import { InodeNames } from '../../src/daemon/inode-names.js';
import type { NodeId } from '../../src/fuse/operations.js';

const node = (value: number): NodeId => value as NodeId;
const root = node(1);

function recording(limit?: number): { readonly known: InodeNames; readonly dropped: string[] } {
  const dropped: string[] = [];
  return { known: new InodeNames((parent, name) => dropped.push(`${parent}/${name}`), limit), dropped };
}

t.test('an inode is let go when as many references are forgotten as were given', async (t) => {
  const { known } = recording();
  known.add(node(5), root, 'a');
  known.add(node(5), root, 'a');
  t.equal(known.forget(node(5), 1), false, 'a late FORGET leaves the newer reference');
  t.equal(known.forget(node(5), 1), true);
  t.equal(known.has(node(5)), false);
});

t.test('all names of a file that the kernel knows are dropped', async (t) => {
  const { known, dropped } = recording();
  known.add(node(5), root, 'a');
  known.add(node(5), node(2), 'b');
  known.drop(node(5));
  t.same(dropped, ['1/a', '2/b']);
});

t.test('names follow renames and removals', async (t) => {
  const { known, dropped } = recording();
  known.add(node(5), root, 'a');
  known.add(node(5), root, 'b');
  known.renamed(node(5), root, 'a', node(2), 'c');
  known.removed(node(5), root, 'b');
  known.drop(node(5));
  t.same(dropped, ['2/c']);
});

t.test('directories are counted and never dropped', async (t) => {
  const { known, dropped } = recording();
  known.add(node(5), root, '');
  known.drop(node(5));
  t.same(dropped, []);
});

t.test('beyond the limit the kernel is asked to drop the files that it has known longest', async (t) => {
  const { known, dropped } = recording(3);
  known.add(node(10), root, '');
  for (let ino = 11; ino < 16; ino++) known.add(node(ino), root, `file-${ino}`);
  t.same(dropped, ['1/file-11', '1/file-12', '1/file-13']);
});
