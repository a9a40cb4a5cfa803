import t from 'tap';
import { MemoryStore } from '../../src/store/memory-store.js';
import { PrefixedStore } from '../../src/store/prefixed-store.js';
import { collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';

objectStoreSuite(t, 'prefixed', async () => {
  const disk = new SimulatedDisk();
  const inner = new MemoryStore({ disk });
  await inner.put('a/other', sealedText('outside'));
  await inner.put('z', sealedText('outside'));
  let count = 0;
  return { store: new PrefixedStore(inner, 'home/volume/'), writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes) };
});

t.test('what lies outside the prefix is neither seen nor touched', async (t) => {
  const inner = new MemoryStore();
  await inner.put('b/x', sealedText('outside'));
  await inner.put('a/x', sealedText('inside'));
  const store = new PrefixedStore(inner, 'a/');
  t.same(await collect(store.list('')), ['x']);
  await store.delete(['x']);
  t.same(await collect(inner.list('')), ['b/x']);
  t.throws(() => new PrefixedStore(inner, 'a'));
  t.throws(() => new PrefixedStore(inner, '../'));
});
