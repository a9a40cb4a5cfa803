/**
 * Shows what happens when somebody with write access to the store manipulates a volume: thirteen manipulations, tried
 * on real directories through the released programs, for Sealdrive and for gocryptfs where it is installed. Prints a
 * table and the number of undetected manipulations: reads that succeeded with something other than what was last
 * written. Exits with 1 if that number is not 0 for Sealdrive.
 *
 *   node dist/test/evil/table.js [--json]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { programPath } from '../cli/command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'sealdrive-table-'));
const passphrase = 'a passphrase of the test';

/** One way to keep files encrypted in a directory. */
interface Drive {
  readonly name: string;
  /** Makes a volume in `store`. */
  init(store: string, state: string): void;
  /** Mounts for reading and writing. Returns false when the mount was refused. */
  mount(store: string, state: string, directory: string): boolean;
  unmount(directory: string, state: string): void;
  /** The user data in the store, to be attacked, without files that describe the layout of the store. */
  isObject(path: string): boolean;
}

const quiet = { stdio: ['pipe', 'ignore', 'ignore'] as 'ignore'[] };

const environment = (state: string): NodeJS.ProcessEnv => {
  const { NODE_OPTIONS: _, ...rest } = process.env;
  return { ...rest, XDG_STATE_HOME: state, HOME: folder };
};
const keyFile = join(folder, 'key');
const sealdrive = (state: string, ...words: string[]): number | null =>
  spawnSync(process.execPath, [programPath, ...words], { ...quiet, env: environment(state), timeout: 60_000 }).status;

const drives: readonly Drive[] = [
  {
    name: 'Sealdrive',
    init(store, state) {
      if (sealdrive(state, 'init', store, '--key-file', keyFile, '--no-recovery') !== 0) throw new Error('init failed');
    },
    mount: (store, state, directory) => sealdrive(state, 'mount', store, directory, '--key-file', keyFile) === 0,
    unmount(directory, state) {
      if (sealdrive(state, 'unmount', directory) !== 0) sealdrive(state, 'unmount', directory, '--force', '--timeout', '0s');
    },
    isObject: (path) => !path.startsWith('probe'),
  },
  {
    name: 'gocryptfs',
    init(store) {
      mkdirSync(store, { recursive: true });
      execFileSync('gocryptfs', ['-init', '-q', '-scryptn', '10', store], {
        input: `${passphrase}\n${passphrase}\n`,
        stdio: ['pipe', 'ignore', 'ignore'],
      });
    },
    mount: (store, _state, directory) => spawnSync('gocryptfs', ['-q', store, directory], { input: `${passphrase}\n`, ...quiet }).status === 0,
    unmount: (directory) => void spawnSync('fusermount3', ['-u', directory], quiet),
    isObject: (path) => !path.endsWith('gocryptfs.conf'),
  },
];

const isInstalled = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`], quiet).status === 0;

/** Everything below a folder: path to content, or to the error code of reading it. */
type Tree = Map<string, Buffer | { readonly failed: string }>;

function readTree(directory: string): Tree {
  const tree: Tree = new Map();
  const failed = (error: unknown): { failed: string } => ({ failed: (error as NodeJS.ErrnoException).code ?? 'error' });
  const visit = (path: string): void => {
    let names: string[];
    try {
      names = readdirSync(path);
    } catch (error) {
      tree.set(relative(directory, path), failed(error));
      return;
    }
    for (const name of names) {
      const child = join(path, name);
      try {
        if (statSync(child).isDirectory()) visit(child);
        else tree.set(relative(directory, child), readFileSync(child));
      } catch (error) {
        tree.set(relative(directory, child), failed(error));
      }
    }
  };
  visit(directory);
  return tree;
}

type Result = 'refused' | 'detected' | 'harmless' | 'UNDETECTED';

/**
 * A manipulation is undetected when a read or a list succeeded with something other than what was written last, or when
 * something was absent without an error. An ENOENT for an existing name is such an absence; any other error is a
 * detection.
 */
function compare(found: Tree, wanted: Tree): Result {
  let errors = 0;
  for (const [path, content] of found) {
    if (!Buffer.isBuffer(content)) {
      if (content.failed === 'ENOENT') return 'UNDETECTED';
      errors++;
      continue;
    }
    const right = wanted.get(path);
    if (!(right instanceof Buffer) || !right.equals(content)) return 'UNDETECTED';
  }
  for (const path of wanted.keys()) {
    // Nothing is expected below a folder that could not be listed.
    const isExcused = [...found].some(([failed, content]) => !Buffer.isBuffer(content) && (failed === '' || path.startsWith(`${failed}/`)));
    if (!found.has(path) && !isExcused) return 'UNDETECTED';
  }
  return errors > 0 ? 'detected' : 'harmless';
}

interface Scene {
  readonly store: string;
  /** Files of the store, largest first. */
  readonly objects: readonly string[];
  /** Two files of the store of the same kind. */
  readonly old: string;
  readonly foreign: string;
}

/** Files that exist in both stores and differ, else those that only `from` has. */
function changed(scene: Scene, from: string): string[] {
  const both = scene.objects.filter((path) => existsSync(join(from, path)));
  return both.filter((path) => !readFileSync(join(from, path)).equals(readFileSync(join(scene.store, path))));
}

const flip = (path: string): void => {
  const bytes = readFileSync(path);
  bytes[Math.floor(bytes.byteLength / 2)]! ^= 1;
  writeFileSync(path, bytes);
};

/** Each is tried on `count` objects of the store, one at a time; undefined when there is no suitable object. */
const manipulations: readonly (readonly [name: string, apply: (scene: Scene, index: number) => boolean])[] = [
  ['one bit of an object is flipped', (scene, index) => (flip(join(scene.store, scene.objects[index]!)), true)],
  ['an object loses its second half', ({ store, objects }, index) => (halve(join(store, objects[index]!)), true)],
  ['an object is emptied', ({ store, objects }, index) => (truncateSync(join(store, objects[index]!), 0), true)],
  [
    'bytes are appended to an object',
    ({ store, objects }, index) => (writeFileSync(join(store, objects[index]!), Buffer.alloc(4096 + 32, 7), { flag: 'a' }), true),
  ],
  [
    'a whole block inside an object is zeroed',
    ({ store, objects }, index) => {
      const bytes = readFileSync(join(store, objects[index]!));
      if (bytes.byteLength < 3 * 4128) return false;
      bytes.fill(0, 18 + 4128, 18 + 2 * 4128);
      writeFileSync(join(store, objects[index]!), bytes);
      return true;
    },
  ],
  [
    'two objects change places',
    ({ store, objects }, index) => {
      const other = siblingOf(objects, index);
      if (other === undefined) return false;
      const [a, b] = [join(store, objects[index]!), join(store, other)];
      renameSync(a, `${a}.tmp`);
      renameSync(b, a);
      renameSync(`${a}.tmp`, b);
      return true;
    },
  ],
  [
    'an object is put in the place of another',
    ({ store, objects }, index) => {
      const other = siblingOf(objects, index);
      if (other === undefined) return false;
      cpSync(join(store, objects[index]!), join(store, other));
      return true;
    },
  ],
  [
    'an object is duplicated under a new name',
    ({ store, objects }, index) => {
      const { path, name } = split(objects[index]!);
      cpSync(join(store, objects[index]!), join(store, path, newName(name)));
      return true;
    },
  ],
  [
    'an object is moved to another folder or name',
    ({ store, objects }, index) => {
      const { path, name } = split(objects[index]!);
      const elsewhere = objects.map((one) => split(one).path).find((one) => one !== path) ?? path;
      const target = elsewhere === path ? newName(name) : name;
      renameSync(join(store, objects[index]!), join(store, elsewhere, target));
      return true;
    },
  ],
  ['an object is deleted', ({ store, objects }, index) => (rmSync(join(store, objects[index]!)), true)],
  [
    'an object is replaced by an older version of it, or made absent as it was',
    (scene, index) => {
      const paths = changed(scene, scene.old);
      const since = scene.objects.filter((path) => !existsSync(join(scene.old, path)));
      const path = paths[index];
      if (path !== undefined) cpSync(join(scene.old, path), join(scene.store, path));
      else if (since[index - paths.length] !== undefined) rmSync(join(scene.store, since[index - paths.length]!));
      else return false;
      return true;
    },
  ],
  [
    'the whole store goes back to an older state',
    (scene, index) => {
      if (index > 0) return false;
      rmSync(scene.store, { recursive: true });
      cpSync(scene.old, scene.store, { recursive: true });
      return true;
    },
  ],
  [
    'an object of another volume with the same secret takes the place of one',
    ({ store, objects, foreign }, index) => {
      const all = filesOf(foreign);
      const like = all.find((path) => split(path).path.split('/')[0] === split(objects[index]!).path.split('/')[0]) ?? all[index];
      if (like === undefined) return false;
      cpSync(join(foreign, like), join(store, objects[index]!));
      return true;
    },
  ],
];

function halve(path: string): void {
  truncateSync(path, Math.floor(statSync(path).size / 2));
}

const split = (path: string): { path: string; name: string } => ({ path: dirname(path), name: path.slice(path.lastIndexOf('/') + 1) });

/** An unused name of the same form. */
const newName = (name: string): string => name.replace(/[0-9a-zA-Z](?=[^0-9a-zA-Z]*$)/, (last) => (last === '0' ? '1' : '0'));

const siblingOf = (objects: readonly string[], index: number): string | undefined => {
  const kind = objects[index]!.split('/')[0];
  const likely = objects.filter((path, at) => at !== index && path.split('/')[0] === kind && !path.endsWith('gocryptfs.diriv'));
  return likely[0] ?? objects.find((_, at) => at !== index);
};

function filesOf(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

/** A few files in folders; `version` decides what changes between two versions. */
function fill(directory: string, version: number): void {
  mkdirSync(join(directory, 'letters'), { recursive: true });
  mkdirSync(join(directory, 'accounts'), { recursive: true });
  // Incompressible, so the objects are as large as their content.
  const content = (text: string, length: number): Buffer => {
    const parts = Array.from({ length: Math.ceil(length / 64) }, (_, index) => createHash('sha512').update(`${text} ${version} ${index}`).digest());
    return Buffer.concat(parts).subarray(0, length);
  };
  for (const name of ['one', 'two']) writeFileSync(join(directory, 'letters', name), content(name, 20_000));
  writeFileSync(join(directory, 'accounts', 'balance'), content('balance', 30_000));
  writeFileSync(join(directory, 'accounts', 'fixed'), Buffer.alloc(25_000, 'never changes '));
  writeFileSync(join(directory, 'note'), content('note', 40));
}

interface Row {
  readonly manipulation: string;
  readonly tried: number;
  readonly results: Readonly<Record<Result, number>>;
}

function attackAll(drive: Drive): Row[] {
  const base = join(folder, drive.name);
  mkdirSync(base);
  const at = (...names: string[]): string => join(base, ...names);
  const mountPoint = at('mount');
  mkdirSync(mountPoint);
  const session = (store: string, state: string, work: () => void): boolean => {
    if (!drive.mount(store, state, mountPoint)) return false;
    try {
      work();
    } finally {
      drive.unmount(mountPoint, state);
    }
    return true;
  };
  for (const [store, versions] of [
    ['store', 1],
    ['foreign', 1],
  ] as const) {
    mkdirSync(at(`${store}-state`), { mode: 0o700 });
    drive.init(at(store), at(`${store}-state`));
    if (!session(at(store), at(`${store}-state`), () => fill(mountPoint, versions))) throw new Error(`${drive.name} cannot be mounted`);
  }
  cpSync(at('store'), at('old'), { recursive: true });
  let wanted: Tree = new Map();
  session(at('store'), at('store-state'), () => {
    fill(mountPoint, 2);
    wanted = readTree(mountPoint);
  });
  const rows: Row[] = [];
  for (const [manipulation, apply] of manipulations) {
    const results = { refused: 0, detected: 0, harmless: 0, UNDETECTED: 0 };
    let tried = 0;
    // Largest first, and just enough to cover every kind of object.
    for (let index = 0; index < 6; index++) {
      for (const name of ['try', 'try-state']) rmSync(at(name), { recursive: true, force: true });
      cpSync(at('store'), at('try'), { recursive: true });
      cpSync(at('store-state'), at('try-state'), { recursive: true });
      const objects = filesOf(at('try'))
        .filter((path) => drive.isObject(path))
        .toSorted((a, b) => statSync(at('try', b)).size - statSync(at('try', a)).size || (a < b ? -1 : 1));
      if (index >= objects.length || !apply({ store: at('try'), objects, old: at('old'), foreign: at('foreign') }, index)) continue;
      tried++;
      // The store is at its usual path.
      renameSync(at('store'), at('store-away'));
      renameSync(at('try'), at('store'));
      try {
        let result: Result = 'refused';
        session(at('store'), at('try-state'), () => {
          result = compare(readTree(mountPoint), wanted);
        });
        results[result]++;
      } finally {
        renameSync(at('store'), at('try'));
        renameSync(at('store-away'), at('store'));
      }
    }
    rows.push({ manipulation, tried, results });
  }
  return rows;
}

let failed = false;
try {
  const report: Record<string, Row[]> = {};
  for (const drive of drives) {
    if (drive.name !== 'Sealdrive' && !isInstalled(drive.name)) {
      process.stdout.write(`${drive.name}: not installed\n`);
      continue;
    }
    const rows = attackAll(drive);
    report[drive.name] = rows;
    const undetected = rows.filter(({ results }) => results.UNDETECTED > 0).length;
    if (drive.name === 'Sealdrive' && undetected > 0) failed = true;
    if (process.argv.includes('--json')) continue;
    process.stdout.write(
      `\n${drive.name}: undetected ${undetected} of ${rows.length}\n\n| manipulation | tried on | mount refused | read error | no effect | UNDETECTED |\n| --- | --- | --- | --- | --- | --- |\n`,
    );
    for (const { manipulation, tried, results } of rows)
      process.stdout.write(
        `| ${manipulation} | ${tried} | ${results.refused} | ${results.detected} | ${results.harmless} | ${results.UNDETECTED} |\n`,
      );
  }
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
} finally {
  for (const drive of drives)
    if (existsSync(join(folder, drive.name, 'mount'))) spawnSync('umount', ['-l', join(folder, drive.name, 'mount')], quiet);
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
