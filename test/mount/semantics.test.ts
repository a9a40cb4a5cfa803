/** doc/semantics.md promises nothing without a test: every row of its tables names one that exists. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkPromises } from '../suite/promise-table.js';
import { sourcePath } from './posix-probe.js';

const text = readFileSync(sourcePath('doc', 'semantics.md'), 'utf8');

t.test('every promise names a test that exists', async (t) => {
  checkPromises(t, text, 40);
});

t.test('sections that the code refers to are there', async (t) => {
  for (const section of ['Attributes', 'Conflicts', 'Errors', 'New files', 'Other devices', 'Removed files']) {
    t.ok(text.includes(`\n## ${section}\n`), section);
  }
});
