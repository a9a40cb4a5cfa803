/**
 * Comments and documents end at 120 columns, so that they can be read beside something else. Code has the formatter's
 * width.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { sourceComments } from './suite/source-comment.js';

const root = resolve(import.meta.dirname, '..', '..');
const widthMax = 120;

const read = (path: string): string => readFileSync(join(root, path), 'utf8');

const filesBelow = (folder: string, ending: RegExp): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => ending.test(path))
    .map((path) => join(folder, path));

/** The numbers of the lines that hold a part of a comment beyond the width. */
function wideComments(path: string, text: string): number[] {
  const wide = new Set<number>();
  for (const { start, end } of sourceComments(path, text)) {
    const first = text.slice(0, start).split('\n');
    const indent = first.at(-1)?.length ?? 0;
    for (const [index, line] of text.slice(start, end).split('\n').entries()) {
      if ((index === 0 ? indent : 0) + line.length > widthMax) wide.add(first.length + index);
    }
  }
  return [...wide];
}

/** Prose only: no tables, no code, and no line that is one word and its mark. */
function wideProse(text: string): number[] {
  const wide: number[] = [];
  let isCode = false;
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim().startsWith('```')) isCode = !isCode;
    const isExempt = isCode || line.trim().startsWith('|') || !/^\s*(?:[-*] |\d+\. )?\S+\s+\S/.test(line);
    if (!isExempt && Array.from(line).length > widthMax) wide.push(index + 1);
  }
  return wide;
}

const list = (path: string, lines: readonly number[]): string[] => lines.map((line) => `${path}:${line}`);

t.test('what is too wide is found, and code and tables are left alone', async (t) => {
  const word = 'x'.repeat(60);
  const wide = `${word} ${word} x`;
  t.strictSame(wideComments('x.ts', `// ${wide}\nconst a = '// ${wide}';\n/**\n * ${word}\n * ${wide}\n */\nconst b = 1; // ${wide}\n`), [1, 5, 7]);
  t.strictSame(wideProse(`${wide}\n\n| ${wide} |\n\n- ${wide}\n\n\`\`\`sh\n${wide}\n\`\`\`\n${word}${word}x\n`), [1, 5]);
});

t.test('no comment goes beyond 120 columns', async (t) => {
  const scripts = ['src', 'test', 'bench'].flatMap((folder) => filesBelow(folder, /\.ts$/));
  const violations = scripts.flatMap((path) => list(path, wideComments(path, read(path))));
  for (const path of [...filesBelow('native/src', /\.(?:cc|h)$/), ...filesBelow('.ci', /./), 'bin/sealdrive']) {
    for (const [index, line] of read(path).split('\n').entries()) {
      if (line.length > widthMax && /^\s*(?:\/\/|#)|[;{}] *\/\/ /.test(line)) violations.push(`${path}:${index + 1}`);
    }
  }
  t.equal(violations.join('\n'), '');
});

t.test('no sentence of a document goes beyond 120 columns', async (t) => {
  const documents = [...readdirSync(root).filter((name) => name.endsWith('.md')), ...filesBelow('doc', /\.md$/), 'native/README.md'];
  t.equal(documents.flatMap((path) => list(path, wideProse(read(path)))).join('\n'), '');
});
