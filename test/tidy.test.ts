/** The rules of doc/architecture.md that a program can check: layers, names, comments, and which layer may use what. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize, resolve } from 'node:path';
import t from 'tap';

const root = resolve(import.meta.dirname, '..', '..');

/** Bottom up; each layer and what it may import (types count). The same table as in doc/architecture.md. */
const layers: Readonly<Record<string, readonly string[]>> = {
  base: [],
  disk: ['base'],
  crypto: ['base'],
  store: ['base', 'disk'],
  cache: ['base', 'disk'],
  fuse: ['base'],
  pack: ['base', 'disk', 'crypto', 'store', 'cache'],
  tree: ['base', 'pack'],
  meta: ['base', 'crypto', 'pack'],
  commit: ['base', 'disk', 'crypto', 'store', 'pack'],
  journal: ['base', 'disk', 'crypto'],
  operation: ['base', 'meta', 'commit'],
  collect: ['base', 'disk', 'crypto', 'pack', 'tree', 'meta'],
  volume: ['base', 'disk', 'crypto', 'store', 'cache', 'pack', 'tree', 'meta', 'commit', 'journal', 'operation', 'collect'],
  vfs: ['base', 'meta', 'operation', 'volume'],
  check: ['base', 'disk', 'crypto', 'store', 'pack', 'tree', 'meta', 'commit', 'operation'],
  server: ['base', 'disk', 'store'],
  daemon: ['base', 'disk', 'fuse', 'meta', 'operation', 'volume', 'vfs'],
  terminal: ['base', 'disk', 'crypto'],
  access: ['base', 'disk', 'crypto', 'store', 'fuse', 'vfs', 'terminal'],
  program: [
    'base',
    'disk',
    'crypto',
    'store',
    'fuse',
    'pack',
    'tree',
    'commit',
    'journal',
    'volume',
    'vfs',
    'check',
    'server',
    'daemon',
    'terminal',
    'access',
  ],
  cli: ['base', 'disk', 'crypto', 'store', 'fuse', 'commit', 'volume', 'check', 'server', 'daemon', 'terminal', 'access', 'program'],
};

/** Modules that only one layer may import; the other layers ask that one. */
const onlyImporter: Readonly<Record<string, string>> = {
  'libsodium-wrappers-sumo': 'crypto',
  '@noble/hashes': 'crypto',
  '@noble/post-quantum': 'crypto',
  '@scure/bip39': 'crypto',
  'node:crypto': 'crypto',
  crypto: 'crypto',
  undici: 'store',
  sax: 'store',
  '@aws-sdk/credential-provider-node': 'store',
  ssh2: 'store',
  'lru-cache': 'cache',
  '@mongodb-js/zstd': 'pack',
  'fuse-native': 'fuse',
  yargs: 'cli',
  'cli-progress': 'cli',
  picocolors: 'terminal',
};

/** Hashes for transport protocols are no concern of the layer of keys and seals. */
const exceptions: readonly string[] = ['store/request-digest.ts imports node:crypto'];

/** Names that say nothing: as a word of a name, and as a whole name. */
const forbiddenWords = ['util', 'utils', 'helper', 'helpers', 'common', 'misc', 'manager'];
const forbiddenNames = ['types', 'constants', 'index'];

/** The first folder of a path: the layer, for one below `src`. */
const folderOf = (path: string): string => path.split('/')[0] ?? '';

interface SourceFile {
  /** Relative to `src`, with `/`. */
  readonly path: string;
  readonly layer: string;
  readonly text: string;
  readonly imports: readonly string[];
}

/** The module after `from`, alone after `import`, or in a dynamic import. Comments hold no such lines. */
const importPattern = /(?:^|\n)\s*(?:import|export)\s[^'";]*?from\s*'([^']+)'|(?:^|\n)\s*import\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/g;

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith('.ts') || path.endsWith('.js') || path.endsWith('.mjs'))
    .toSorted();
}

const sources: SourceFile[] = filesBelow('src').map((path) => {
  const text = readFileSync(join(root, 'src', path), 'utf8');
  const imports = [...text.matchAll(importPattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
  return { path, layer: folderOf(path), text, imports };
});

/** The path below `src` that a relative import names. */
const targetOf = (file: SourceFile, specifier: string): string => normalize(join(dirname(file.path), specifier)).replace(/\.js$/, '.ts');

/** `@scope/name/file` and `name/file` as the package that they are in; `node:` modules as they are. */
const packageOf = (specifier: string): string => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

const list = (violations: readonly string[]): string => violations.join('\n');

t.test('the sources are found', async (t) => {
  t.ok(sources.length > 20);
  t.ok(sources.some((file) => file.imports.length > 0));
});

t.test('every file lies in a layer without subfolders, and none at the root', async (t) => {
  const violations = sources.filter((file) => file.path.split('/').length !== 2 || !Object.hasOwn(layers, file.layer)).map((file) => file.path);
  t.equal(list(violations), '');
});

t.test('a layer imports exactly what the table allows', async (t) => {
  const used: Record<string, string[]> = {};
  for (const layer of Object.keys(layers)) {
    const files = sources.filter((file) => file.layer === layer);
    const targets = files.flatMap((file) => file.imports.filter((name) => name.startsWith('.')).map((name) => folderOf(targetOf(file, name))));
    used[layer] = [...new Set(targets)].filter((target) => target !== layer).toSorted();
  }
  for (const [layer, allowed] of Object.entries(layers)) t.strictSame(used[layer], allowed.toSorted(), layer);
});

t.test('the table lists the layers from the bottom up, and no layer imports one above it', async (t) => {
  const order = Object.keys(layers);
  const violations = Object.entries(layers).flatMap(([layer, allowed]) =>
    allowed.filter((below) => order.indexOf(below) >= order.indexOf(layer)).map((below) => `${layer}: ${below}`),
  );
  t.equal(list(violations), '');
});

t.test('doc/architecture.md has the same table', async (t) => {
  const text = readFileSync(join(root, 'doc', 'architecture.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)` \|[^|]*\| ([^|]*) \|$/gm)].map(
    ([, layer = '', allowed = '']) => [layer, allowed.match(/\w+/g) ?? []] as const,
  );
  t.strictSame(
    rows.map(([layer]) => layer),
    Object.keys(layers),
  );
  for (const [layer, words] of rows) {
    const allowed = words[0] === 'all' ? Object.keys(layers).slice(0, -1) : words;
    t.strictSame([...allowed].toSorted(), [...(layers[layer] ?? [])].toSorted(), layer);
  }
});

t.test('every relative import ends in .js and names a file', async (t) => {
  const paths = new Set(sources.map((file) => file.path));
  const violations: string[] = [];
  for (const file of sources) {
    for (const specifier of file.imports.filter((name) => name.startsWith('.'))) {
      if (!specifier.endsWith('.js') || !paths.has(targetOf(file, specifier))) violations.push(`${file.path} imports ${specifier}`);
    }
  }
  t.equal(list(violations), '');
});

t.test('imports form no cycles', async (t) => {
  const byPath = new Map(sources.map((file) => [file.path, file]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: SourceFile, trail: readonly string[]): void => {
    const at = trail.indexOf(file.path);
    if (at >= 0) {
      circles.push([...trail.slice(at), file.path].join(' -> '));
      return;
    }
    if (done.has(file.path)) return;
    for (const specifier of file.imports.filter((name) => name.startsWith('.'))) {
      const target = byPath.get(targetOf(file, specifier));
      if (target) visit(target, [...trail, file.path]);
    }
    done.add(file.path);
  };
  for (const file of sources) visit(file, []);
  t.equal(list(circles), '');
});

t.test('file names are kebab-case nouns that say what is inside', async (t) => {
  const violations = sources
    .map((file) => file.path)
    .filter((path) => {
      const name = basename(path, '.ts');
      return !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) || forbiddenNames.includes(name) || name.split('-').some((word) => forbiddenWords.includes(word));
    });
  t.equal(list(violations), '');
});

t.test('no file re-exports what another one exports', async (t) => {
  const violations = sources.filter((file) => /^export\s+(\*|(type\s+)?\{[^}]*\})\s*from/m.test(file.text)).map((file) => file.path);
  t.equal(list(violations), '');
});

t.test('every file begins with a comment that says what it is', async (t) => {
  // A short file may have its comment on its one idea, after the imports.
  const opens = (file: SourceFile): boolean => file.text.startsWith('/**') || /^(import[^;]*;\s*)+\/\*\*/.test(file.text);
  t.equal(list(sources.filter((file) => !opens(file)).map((file) => file.path)), '');
});

t.test('a module that one layer owns is not imported by others', async (t) => {
  const violations: string[] = [];
  for (const file of sources) {
    for (const specifier of file.imports.filter((name) => !name.startsWith('.'))) {
      const name = packageOf(specifier);
      const owner = Object.hasOwn(onlyImporter, name) ? onlyImporter[name] : undefined;
      if (exceptions.includes(`${file.path} imports ${specifier}`)) continue;
      if (owner !== undefined && owner !== file.layer) violations.push(`${file.path} imports ${specifier}, which is for ${owner}`);
    }
  }
  t.equal(list(violations), '');
});

/** Of the layer `crypto`: these use Node.js's ciphers, hashes and randomness, and run on a thread of their own. */
const nodeCrypto: Readonly<Record<string, readonly string[]>> = {
  'crypto/node-aead.ts': ['node:crypto'],
  'crypto/system-random.ts': ['node:crypto'],
  'crypto/hash.ts': ['node:crypto'],
  'crypto/argon2.ts': ['node:worker_threads'],
  'crypto/argon2-worker.ts': ['node:worker_threads'],
};
/** What they consist of, and what they import, runs in a browser as it does here. */
const portableCrypto = ['seal-format', 'stream-format', 'subkey', 'sodium', 'signature', 'x-wing', 'padme', 'recovery-words'].map(
  (name) => `crypto/${name}.ts`,
);

t.test('the formats of the crypto layer do not depend on Node.js modules', async (t) => {
  const byPath = new Map(sources.map((file) => [file.path, file]));
  const violations: string[] = [];
  for (const { path, imports } of sources.filter((file) => file.layer === 'crypto')) {
    const own = imports.filter((name) => name.startsWith('node:') && nodeCrypto[path]?.includes(name) !== true);
    violations.push(...own.map((name) => `${path} imports ${name}`));
  }
  const reached = new Set<string>();
  const visit = (path: string): void => {
    const file = byPath.get(path);
    if (!file || reached.has(path)) return;
    reached.add(path);
    for (const name of file.imports) {
      if (name.startsWith('.')) visit(targetOf(file, name));
      else if (name.startsWith('node:')) violations.push(`${path} imports ${name} and is used by ${portableCrypto.join(', ')}`);
    }
  };
  for (const path of portableCrypto) visit(path);
  for (const path of [...portableCrypto, ...Object.keys(nodeCrypto)]) t.ok(byPath.has(path), path);
  t.equal(list(violations), '');
});

t.test('imported packages are declared dependencies', async (t) => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly dependencies: Readonly<Record<string, string>>;
    readonly peerDependencies: Readonly<Record<string, string>>;
  };
  const known = { ...manifest.dependencies, ...manifest.peerDependencies };
  const violations: string[] = [];
  for (const file of sources) {
    for (const specifier of file.imports) {
      if (specifier.startsWith('.') || specifier.startsWith('node:')) continue;
      if (!Object.hasOwn(known, packageOf(specifier))) violations.push(`${file.path} imports ${specifier}`);
    }
  }
  t.equal(list(violations), '');
});

t.test('only the layers of commands choose implementations', async (t) => {
  const chosen = /\/(system-disk|system-random|native-driver|portable-driver|volume-opening)\.js$/;
  const violations: string[] = [];
  for (const file of sources) {
    if (['access', 'program', 'cli'].includes(file.layer)) continue;
    const folder = file.layer;
    for (const specifier of file.imports) {
      if (chosen.test(specifier) && folderOf(targetOf(file, specifier)) !== folder) violations.push(`${file.path} imports ${specifier}`);
    }
  }
  t.equal(list(violations), '');
});

t.test('files are accessed only through disk/files.ts and disk/file-promises.ts, which take paths of any bytes', async (t) => {
  // Descriptors have no names. The layer `fuse` may not import `disk`, and converts what it is given; the others read
  // files of their own.
  const free = /^(disk\/|fuse\/|program\/version\.ts$|terminal\/terminal\.ts$)/;
  const ofDescriptors = /^(constants|close|closeSync|fdatasync|fstat|fstatSync|fsync|fsyncSync|ftruncate|read|readSync|write|writeSync)$/;
  const violations: string[] = [];
  for (const { path, text } of sources.filter((file) => !free.test(file.path))) {
    for (const [, names = ''] of text.matchAll(/import \{([^}]*)\} from 'node:fs(?:\/promises)?'/g)) {
      const others = names.split(',').filter((name) => name.trim() !== '' && !ofDescriptors.test(name.trim()));
      if (others.length > 0) violations.push(`${path}: ${others.join(',')}`);
    }
  }
  t.equal(list(violations), '');
});

t.test('nothing below the command line writes to the terminal', async (t) => {
  const violations = sources
    .filter((file) => file.layer !== 'terminal' && file.layer !== 'cli')
    .filter((file) => /\bconsole\.|process\.(stdout|stderr)\b/.test(file.text))
    .map((file) => file.path);
  t.equal(list(violations), '');
});

t.test('types are never bypassed: no any, no suppressed type errors, no non-erasable syntax', async (t) => {
  const violations: string[] = [];
  for (const file of sources) {
    const lines = file.text.split('\n');
    for (const [index, line] of lines.entries()) {
      const code = line.replace(/\/\/.*$/, '').replace(/^\s*\/?\*.*$/, '');
      if (/(:|<|\bas|\|)\s*any\b/.test(code) || /@ts-(ignore|nocheck|expect-error)/.test(line)) violations.push(`${file.path}:${index + 1}`);
      if (/^\s*(export\s+)?(const\s+)?enum\s|^\s*(export\s+)?namespace\s/.test(code)) violations.push(`${file.path}:${index + 1}`);
    }
  }
  t.equal(list(violations), '');
});

t.test('tests lie in a folder named after their layer', async (t) => {
  const places = [...Object.keys(layers), 'suite', 'support', 'model', 'crash', 'evil', 'fuzz', 'damage', 'golden', 'mount', 'kernel', 'simulation'];
  const violations = filesBelow('test').filter((path) => path.includes('/') && !places.includes(folderOf(path)));
  t.equal(list(violations), '');
});
