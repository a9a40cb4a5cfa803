/** Every row of the table of faults in doc/stores.md names a test that exists. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { sourcePath } from '../mount/posix-probe.js';
import { checkPromises } from '../suite/promise-table.js';

t.test('every kind of fault has a test', async (t) => {
  checkPromises(t, readFileSync(sourcePath('doc', 'stores.md'), 'utf8'), 18);
});
