import t from 'tap';
import { InodeNames } from '../../src/daemon/inode-names.js';
import type { NodeId } from '../../src/fuse/operations.js';

const node = (value: number): NodeId => value as NodeId;
const root = node(1);

function recording(limit?: number): { readonly names: InodeNames; readonly dropped: string[] } {
  const dropped: string[] = [];
  return { names: new InodeNames((parent, name) => dropped.push(`${parent}/${name}`), limit), dropped };
}

t.test('all names of a file that the kernel knows are dropped', async (t) => {
  const { names, dropped } = recording();
  names.add(node(5), root, 'a');
  names.add(node(5), node(2), 'b');
  names.add(node(5), node(2), 'b');
  names.drop(node(5));
  t.same(dropped, ['1/a', '2/b']);
});

t.test('names follow renames and removals', async (t) => {
  const { names, dropped } = recording();
  names.add(node(5), root, 'a');
  names.add(node(5), root, 'b');
  names.renamed(node(5), root, 'a', node(2), 'c');
  names.removed(node(5), root, 'b');
  names.drop(node(5));
  t.same(dropped, ['2/c']);
});

t.test('a name that the kernel has forgotten is not dropped', async (t) => {
  const { names, dropped } = recording();
  names.add(node(5), root, 'a');
  names.forget(node(5));
  names.drop(node(5));
  t.same(dropped, []);
});

t.test('beyond the limit the kernel is asked to drop the files that it has known longest', async (t) => {
  const { names, dropped } = recording(3);
  for (let ino = 11; ino < 17; ino++) names.add(node(ino), root, `file-${ino}`);
  t.same(dropped, ['1/file-11', '1/file-12', '1/file-13']);
});
