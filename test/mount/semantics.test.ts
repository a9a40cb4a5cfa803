/** doc/semantics.md promises nothing without a test: every row of its tables names one that exists. */
import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { sourcePath } from './posix-probe.js';

interface Row {
  readonly section: string;
  readonly columns: readonly string[];
}

/** The rows of the tables whose last column is headed `test`. */
function promises(text: string): Row[] {
  const rows: Row[] = [];
  let section = '';
  let hasTests = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('## ')) section = line.slice(3);
    if (!line.startsWith('| ')) {
      hasTests = false;
      continue;
    }
    const columns = line
      .split('|')
      .slice(1, -1)
      .map((column) => column.trim());
    if (columns.at(-1) === 'test') hasTests = true;
    else if (hasTests && !columns.every((column) => /^-+$/.test(column))) rows.push({ section, columns });
  }
  return rows;
}

const text = readFileSync(sourcePath('doc', 'semantics.md'), 'utf8');
const rows = promises(text);

t.test('every promise names a test that exists', async (t) => {
  t.ok(rows.length > 40, `${rows.length} promises`);
  for (const { section, columns } of rows) {
    const promise = columns[0];
    const named = columns.at(-1) ?? '';
    const told = `${section}: ${promise}`;
    let source: string | undefined;
    let count = 0;
    for (const [, file, title] of named.matchAll(/`([^`]+)`|"([^"]+)"/g)) {
      if (file !== undefined) {
        const path = sourcePath('test', file);
        source = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
        if (source === undefined) t.fail(`${told}: there is no test/${file}`);
      } else if (title !== undefined) {
        count++;
        if (source !== undefined && !source.includes(`'${title}`) && !source.includes(`\`${title}`))
          t.fail(`${told}: no test begins with "${title}"`);
      }
    }
    if (count === 0) t.fail(`${told}: no test is named`);
  }
});

t.test('sections that the code refers to are there', async (t) => {
  for (const section of ['Attributes', 'Conflicts', 'Errors', 'New files', 'Other devices', 'Removed files']) {
    t.ok(text.includes(`\n## ${section}\n`), section);
  }
});
