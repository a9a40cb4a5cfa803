/**
 * Comments and documents name sections, files, decisions and commands; this test looks up every one of them. It does
 * not judge what they say.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import t from 'tap';
import { sourceComments } from './suite/source-comment.js';

const root = resolve(import.meta.dirname, '..', '..');

const filesBelow = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.startsWith('build/') && !path.startsWith('golden/volumes/') && statSync(join(root, folder, path)).isFile())
    .map((path) => join(folder, path));

const sourceFolders = ['src', 'test', 'bench', 'native', 'bin', '.ci'];
const documents = [...readdirSync(root).filter((name) => name.endsWith('.md')), ...filesBelow('doc'), 'native/README.md'];
const sourceFiles = sourceFolders.flatMap(filesBelow).filter((path) => !path.endsWith('.md'));
const allFiles = [...new Set([...sourceFiles, ...documents])];
const decisions = new Set(filesBelow('doc/decision').map((path) => basename(path).slice(0, 4)));
const scripts = Object.keys((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly scripts: Record<string, string> }).scripts);

/** Its table of attacks is numbered. */
const security = readFileSync(join(root, 'doc/security.md'), 'utf8');

const withoutCode = (markdown: string): string => markdown.replaceAll(/^( *)```[^]*?^\1```$/gm, '');

const headings = new Map<string, readonly string[]>();
for (const path of documents) {
  const found = [...withoutCode(readFileSync(join(root, path), 'utf8')).matchAll(/^#+ (.*)$/gm)];
  headings.set(
    path,
    found.map(([, heading = '']) => heading.replaceAll('`', '')),
  );
}

/** The anchor that a Markdown heading gets on the usual forges. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

/** The comments of a TypeScript file, each as one line of text. Consecutive `//` lines are one comment. */
function commentsOf(path: string, text: string): string[] {
  const joined: string[] = [];
  let lastEnd = -1;
  for (const { start, end } of sourceComments(path, text)) {
    const comment = text.slice(start, end);
    if (comment.startsWith('//') && lastEnd >= 0 && /^\n\s*$/.test(text.slice(lastEnd, start))) joined.push(`${joined.pop()}\n${comment}`);
    else joined.push(comment);
    lastEnd = end;
  }
  return joined.map(flatten);
}

/** Text whose sentences run on over the lines of a comment or paragraph, as one line. */
const flatten = (text: string): string => text.replaceAll(/\s*\n[ \t]*(\*(?!\/)|\/\/|#(?=[ \n]))?[ \t]*/g, ' ');

/**
 * What `text`, which stands in the file `from`, names and is not there. `isComment`: source names in it are meant for
 * files of ours.
 */
function missing(from: string, text: string, isComment: boolean): string[] {
  const violations: string[] = [];
  const document = (name: string): string | undefined => {
    const candidates = [name, join('doc', name), join(dirname(from), name)];
    return candidates.find((candidate) => documents.includes(candidate));
  };

  // doc/x.md, "A" and "B"; also [x.md](x.md), "A". A section in quotes is a heading of that document, to the letter.
  for (const match of text.matchAll(/\b([\w./-]+\.md)`?(?:\]\([^)]*\))?((?:(?:,? and|,? or|,)? "[^"]+")*)/g)) {
    const [, name = '', sections = ''] = match;
    const path = document(name);
    if (path === undefined) {
      violations.push(name);
      continue;
    }
    for (const [, section = ''] of sections.matchAll(/"([^"]+)"/g)) {
      if (!headings.get(path)?.includes(section)) violations.push(`${path}, "${section}"`);
    }
  }
  for (const [, number = ''] of text.matchAll(/\battacks? (\d+)\b/g)) {
    if (!security.includes(`\n| ${number} |`)) violations.push(`attack ${number}`);
  }
  for (const [, numbers = ''] of text.matchAll(/\bdecisions?[ /](\d+(?:(?:, | and |, and )\d{4})*)/gi)) {
    for (const number of numbers.match(/\d+/g) ?? []) if (!decisions.has(number)) violations.push(`decision ${number}`);
  }
  for (const [, script = ''] of text.matchAll(/\bnpm run (?:-s )?([a-z][\w:-]*\w)/g)) {
    if (!scripts.includes(script)) violations.push(`npm run ${script}`);
  }
  if (!isComment) return violations;

  // `x.test.ts` "what it says", and more titles of the same file after it: a title may be cut short at its end.
  for (const [, path = '', titles = ''] of text.matchAll(/`([\w/.-]+\.ts)`((?:(?:,| and|, and)? "[^"]+")+)/g)) {
    const file = allFiles.find((candidate) => candidate.endsWith(`/${path}`) || candidate === path);
    const source = file === undefined ? '' : readFileSync(join(root, file), 'utf8');
    for (const [, title = ''] of titles.matchAll(/"([^"]+)"/g)) {
      if (!["'", '"', '`'].some((quote) => source.includes(quote + title))) violations.push(`${path} "${title}"`);
    }
  }

  // A path from the root, to a file or a folder. What is compiled lies in `dist` with the name of its source.
  for (const [path] of text.matchAll(/(?<![\w./$@:-])(?:dist\/)?(?:src|test|bench|native|bin|doc|\.ci)\/[\w./-]*[\w/](?!-?\*|\w)/g)) {
    const source = path.replace(/^dist\/(?!command\b)/, '').replace(/(?<=^(?:test|bench|src)\/.*)\.js$/, '.ts');
    // NAME stands for a name that a reader chooses.
    if (path.includes('NAME')) continue;
    if (/^native\/(build|prebuilds)\b/.test(path) || source.startsWith('dist/')) continue;
    const known =
      existsSync(join(root, source)) || existsSync(join(root, dirname(from), source)) || decisions.has(source.replace(/^doc\/decision\//, ''));
    if (!known) violations.push(path);
  }
  // The name of a source file, alone or with folders before it.
  for (const [path] of text.matchAll(/(?<![\w./$@*<-])(?:[\w-]+\/)*[\w-]+(?:\.test)?\.(?:ts|cc)\b(?!\/)/g)) {
    if (!path.includes('NAME') && !allFiles.some((file) => file === path || file.endsWith(`/${path}`))) violations.push(path);
  }
  return violations;
}

const list = (violations: readonly string[]): string => [...new Set(violations)].join('\n');

t.test('missing names are found, and ordinary prose is left alone', async (t) => {
  const found = (text: string): string[] => missing('src/vfs/x.ts', text, true);
  t.strictSame(found('see doc/cli.md, "Exit codes", and doc/cli.md, "Exit codse"'), ['doc/cli.md, "Exit codse"']);
  t.strictSame(found('(doc/format.md, "Commit", "Pak" and "Pack")'), ['doc/format.md, "Pak"']);
  t.strictSame(found('doc/nothing.md says'), ['doc/nothing.md', 'doc/nothing.md']);
  t.strictSame(found('`src/volume/nothing.ts` and src/volume/committer.ts, test/volume, src/nowhere/'), [
    'src/volume/nothing.ts',
    'src/nowhere/',
    'src/volume/nothing.ts',
  ]);
  t.strictSame(found('committing is `committer.ts`, `volume/committer.ts` or store/committer.ts'), ['store/committer.ts']);
  t.strictSame(found('node dist/bench/drive.js, dist/test/nothing.js'), ['dist/test/nothing.js']);
  t.strictSame(found('decision 0001, decisions 0002 and 9999'), ['decision 9999']);
  t.strictSame(found('doc/decision/0022, doc/decision/9999'), ['decision 9999', 'doc/decision/9999']);
  t.strictSame(found('doc/security.md, attack 7, attack 700'), ['attack 700']);
  t.strictSame(found('`tidy.test.ts` "imports form no cycles", "imports make circles"'), ['tidy.test.ts "imports make circles"']);
  t.strictSame(found('npm run build, npm run biuld'), ['npm run biuld']);
  t.strictSame(found('read/write, and/or, either.or, https://host/src/a.ts, linux/fuse.h, native/build/Release'), []);
  t.strictSame(
    commentsOf('x.ts', 'const a = \'// no\';\n/** doc/cli.md,\n * "Exit\n * codes" */\nconst b = `/* no */ ${/* yes */ a}`; // one\n// two\n'),
    ['/** doc/cli.md, "Exit codes" */', '/* yes */', '// one // two'.replace(' //', '')],
  );
});

t.test('a comment names only existing sections, files and decisions', async (t) => {
  const violations: string[] = [];
  for (const path of sourceFiles) {
    // What this test itself looks for in vain is above.
    if (path === 'test/references.test.ts') continue;
    const text = readFileSync(join(root, path), 'utf8');
    const script = path.endsWith('.ts');
    for (const comment of script ? commentsOf(path, text) : [flatten(text)]) {
      violations.push(...missing(path, comment, true).map((name) => `${path}: ${name}`));
    }
    // Messages and names of tests refer to documents, too.
    if (script) violations.push(...missing(path, flatten(text), false).map((name) => `${path}: ${name}`));
  }
  t.equal(list(violations), '');
});

t.test('a document names only existing sections, files, decisions and commands', async (t) => {
  const violations: string[] = [];
  for (const path of documents) {
    const text = readFileSync(join(root, path), 'utf8');
    violations.push(...missing(path, flatten(text), path !== 'CHANGELOG.md').map((name) => `${path}: ${name}`));
  }
  t.equal(list(violations), '');
});

t.test('every link in a document has an existing target', async (t) => {
  const violations: string[] = [];
  for (const path of documents) {
    for (const [, target = ''] of withoutCode(readFileSync(join(root, path), 'utf8')).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file = '', anchor] = target.split('#');
      const place = file === '' ? path : relative(root, resolve(root, dirname(path), file));
      const anchors = headings.get(place)?.map(anchorOf);
      const found = existsSync(join(root, place)) && (anchor === undefined || anchors?.includes(anchor));
      if (!found) violations.push(`${path}: ${target}`);
    }
  }
  t.equal(list(violations), '');
});
