/** Every row of the tables in doc/semantics.md names a test that exists. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkPromises } from '../suite/promise-table.js';
import { sourcePath } from './posix-probe.js';

t.test('every promise names a test that exists', async (t) => {
  checkPromises(t, readFileSync(sourcePath('doc', 'semantics.md'), 'utf8'), 40);
});
