import t from 'tap';
import { MemoryStore } from '../../src/store/memory-store.js';
import { objectStoreSuite } from '../suite/object-store-suite.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';

objectStoreSuite(t, 'memory', async () => {
  const disk = new SimulatedDisk();
  let count = 0;
  return { store: new MemoryStore({ disk }), writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes) };
});
