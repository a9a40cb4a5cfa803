/**
 * Reads pages of `doc/` whose tables end in a column `test`: each row makes a promise and names the tests that verify
 * it.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Test } from 'tap';
import { sourcePath } from '../mount/posix-probe.js';

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

/** Fails for every row of `text` that names no test or a missing one. There are at least `rowsMin` rows. */
export function checkPromises(t: Pick<Test, 'ok' | 'fail'>, text: string, rowsMin: number): void {
  const rows = promises(text);
  t.ok(rows.length >= rowsMin, `${rows.length} promises`);
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
}
