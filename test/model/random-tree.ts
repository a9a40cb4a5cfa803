/**
 * Random operations on the names and contents of a directory, against a tree kept as plain data (tree-model.ts). The
 * acknowledged state can be saved, so that a crash loop can verify it after a remount: every acknowledged operation
 * must be there; the one in flight may have happened, not at all, or (its content only) partly. Fine-grained I/O on one
 * file is tested by random-io.ts.
 *
 * node dist/test/model/random-tree.js DIRECTORY [--ops N] [--seed N] [--seconds N] [--save FILE] [--without
 * OPERATION,...] node dist/test/model/random-tree.js DIRECTORY --verify FILE
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { unreachable } from '../../src/base/assert.js';
import { Probe, ProbeCallError, type ProbeStat, RawName, statOf, unescapeName } from '../mount/posix-probe.js';
import { SeededRandom, testSeed } from './seeded-random.js';
import { contentOf, type ModelNode, TreeModel, type TreeOperation, touchedBy } from './tree-model.js';

const weights = {
  create: 24,
  append: 12,
  overwrite: 10,
  truncate: 5,
  mkdir: 8,
  rmdir: 4,
  unlink: 12,
  rename: 14,
  exchange: 4,
  link: 6,
  symlink: 5,
  chmod: 5,
  utimens: 5,
  setxattr: 5,
  removexattr: 2,
} as const;

export interface RandomTreeOptions {
  /** An empty directory, or the one that the model was saved for. */
  readonly directory: string;
  readonly seed: number;
  readonly model?: TreeModel;
  /** Upper bound of one file's content in bytes. */
  readonly sizeMax?: number;
  readonly nodeMax?: number;
  /** The directory keeps inode numbers over a remount (default true). */
  readonly stableInodes?: boolean;
  readonly without?: readonly TreeOperation['kind'][];
}

export class RandomTreeError extends Error {
  override readonly name = 'RandomTreeError';
}

export class RandomTree {
  readonly #directory: string;
  readonly #random: SeededRandom;
  readonly #weights: Record<string, number>;
  readonly #sizeMax: number;
  readonly #nodeMax: number;
  readonly #stableInodes: boolean;
  readonly #history: string[] = [];
  #probe: Probe | undefined;
  #model: TreeModel;
  #pending: TreeOperation | undefined;
  #count = 0;

  constructor(options: RandomTreeOptions) {
    this.#directory = options.directory;
    this.#random = new SeededRandom(options.seed);
    this.#sizeMax = options.sizeMax ?? 300_000;
    this.#nodeMax = options.nodeMax ?? 300;
    this.#stableInodes = options.stableInodes ?? true;
    this.#model = options.model ?? new TreeModel();
    this.#weights = { ...weights };
    for (const kind of options.without ?? []) delete this.#weights[kind];
  }

  /** Acknowledged operations so far. */
  get count(): number {
    return this.#count;
  }

  /** The operation that was in flight when a call last failed. */
  get pending(): TreeOperation | undefined {
    return this.#pending;
  }

  /** The last operations, oldest first, for the report of a difference. */
  get history(): readonly string[] {
    return this.#history.slice(-15);
  }

  async #open(): Promise<Probe> {
    this.#probe ??= await Probe.start();
    return this.#probe;
  }

  /** Ends the child process, so that the directory can be unmounted. The object can be used on. */
  async close(): Promise<void> {
    await this.#probe?.close();
    this.#probe = undefined;
  }

  #path(path: string): RawName {
    return new RawName(Buffer.concat([Buffer.from(`${this.#directory}/`), Buffer.from(path, 'latin1')]));
  }

  /**
   * Performs one operation. When this rejects, the operation stays {@link pending}; call {@link settle} once the
   * directory answers again.
   */
  async step(): Promise<void> {
    const operation = this.#choose();
    if (operation === undefined) return;
    await this.#do(operation);
  }

  /** Runs until the count, the time or the signal ends it, or an operation fails. */
  async run(options: { readonly ops?: number; readonly durationMs?: number; readonly signal?: AbortSignal }): Promise<void> {
    const { ops = Number.POSITIVE_INFINITY, durationMs = Number.POSITIVE_INFINITY, signal } = options;
    const began = performance.now();
    const isOver = (): boolean => performance.now() - began >= durationMs || signal?.aborted === true;
    for (let i = 0; i < ops && !isOver(); i++) await this.step();
  }

  async #do(operation: TreeOperation): Promise<void> {
    this.#pending = operation;
    this.#history.push(JSON.stringify(operation));
    if (this.#history.length > 100) this.#history.splice(0, 50);
    await this.#perform(operation);
    this.#model.apply(operation);
    this.#count++;
    this.#pending = undefined;
    const probe = await this.#open();
    const seen = [...new Set(touchedBy(operation))].filter((path) => this.#model.find(path) !== undefined);
    const stats = await Promise.all(seen.map((path) => probe.stat('lstat', this.#path(path))));
    for (const [i, path] of seen.entries()) {
      const [node, stat] = [this.#model.find(path), stats[i]];
      if (node === undefined || stat === undefined) continue;
      node.ino ??= stat.ino;
      // The other names of a hard link see the same change.
      if (operation.kind !== 'utimens') node.mtime = String(stat.mtime);
    }
  }

  async #write(path: string, flags: string, mode: number, bytes: Buffer, offset: number | undefined, sync: boolean): Promise<void> {
    const probe = await this.#open();
    const fd = await probe.ok('open', this.#path(path), flags, mode);
    try {
      for (let at = 0; at < bytes.length; at += 65536) {
        const piece = bytes.subarray(at, at + 65536);
        const put = offset === undefined ? await probe.ok('write', fd, piece) : await probe.ok('write', fd, piece, offset + at);
        if (put !== piece.length) throw new RandomTreeError(`wrote ${put} bytes of ${piece.length}`);
      }
      if (sync) await probe.ok('fsync', fd);
    } catch (cause) {
      await probe.call('close', fd);
      throw cause;
    }
    await probe.ok('close', fd);
  }

  async #perform(operation: TreeOperation): Promise<void> {
    const probe = await this.#open();
    switch (operation.kind) {
      case 'create':
        return this.#write(operation.path, 'O_WRONLY|O_CREAT|O_TRUNC', operation.mode, contentOf(operation), undefined, operation.sync);
      case 'append':
        return this.#write(operation.path, 'O_WRONLY|O_APPEND', 0, contentOf(operation), undefined, operation.sync);
      case 'overwrite':
        return this.#write(operation.path, 'O_WRONLY', 0, contentOf(operation), operation.offset, operation.sync);
      case 'truncate':
        await probe.ok('truncate', this.#path(operation.path), operation.size);
        return;
      case 'mkdir':
      case 'chmod':
        await probe.ok(operation.kind, this.#path(operation.path), operation.mode);
        return;
      case 'rmdir':
      case 'unlink':
        await probe.ok(operation.kind, this.#path(operation.path));
        return;
      case 'rename':
      case 'exchange':
        await probe.ok('rename', this.#path(operation.from), this.#path(operation.to), operation.kind === 'exchange' ? 'RENAME_EXCHANGE' : 0);
        return;
      case 'link':
        await probe.ok('link', this.#path(operation.from), this.#path(operation.to));
        return;
      case 'symlink':
        await probe.ok('symlink', new RawName(Buffer.from(operation.target, 'latin1')), this.#path(operation.path));
        return;
      case 'utimens':
        await probe.ok('utimens', this.#path(operation.path), 'omit', operation.mtime, 'nofollow');
        return;
      case 'setxattr':
        await probe.ok('setxattr', this.#path(operation.path), operation.name, contentOf(operation));
        return;
      case 'removexattr':
        await probe.ok('removexattr', this.#path(operation.path), operation.name);
        return;
    }
  }

  #newName(directory: string): string {
    const random = this.#random;
    const length = random.chance(0.05) ? 255 : 1 + random.below(12);
    let name: string;
    if (random.chance(0.8)) name = `n${random.below(1e9).toString(36)}`;
    else {
      name = '';
      while (name.length < length) {
        const byte = String.fromCharCode(1 + random.below(255));
        if (byte !== '/') name += byte;
      }
    }
    if (name === '.' || name === '..') name = 'dots';
    return directory === '' ? name : `${directory}/${name}`;
  }

  #choose(): TreeOperation | undefined {
    const random = this.#random;
    const all = [...this.#model.paths()];
    const directories = ['', ...all.filter(([path, node]) => node.kind === 'dir' && path.split('/').length < 6).map(([path]) => path)];
    const files = all.filter(([, node]) => node.kind === 'file');
    const kinds = { ...this.#weights };
    // A tree that is full shrinks.
    if (all.length > this.#nodeMax) for (const kind of ['create', 'mkdir', 'link', 'symlink']) delete kinds[kind];
    if (all.length > this.#nodeMax) kinds['unlink'] = 200;
    const kind = random.weighted(kinds) as TreeOperation['kind'];
    const seed = random.below(2 ** 31);
    const sync = random.chance(0.15);
    const fresh = (): string => {
      for (;;) {
        const path = this.#newName(random.pick(directories));
        if (this.#model.find(path) === undefined) return path;
      }
    };
    const any = (list: readonly [string, ModelNode][]): [string, ModelNode] | undefined => (list.length === 0 ? undefined : random.pick(list));
    const within = (path: string, ancestor: string): boolean => path === ancestor || path.startsWith(`${ancestor}/`);
    switch (kind) {
      case 'create': {
        const old = random.chance(0.2) ? any(files) : undefined;
        return {
          kind,
          path: old?.[0] ?? fresh(),
          size: random.skewed(this.#sizeMax),
          seed,
          mode: random.pick([0o644, 0o600, 0o755, 0o444, 0o640]),
          sync,
        };
      }
      case 'append': {
        const file = any(files);
        return file && { kind, path: file[0], size: 1 + random.skewed(this.#sizeMax / 4), seed, sync };
      }
      case 'overwrite': {
        const file = any(files);
        return (
          file && { kind, path: file[0], offset: random.below(file[1].content.length + 5000), size: 1 + random.skewed(this.#sizeMax / 8), seed, sync }
        );
      }
      case 'truncate': {
        const file = any(files);
        return file && { kind, path: file[0], size: random.chance(0.3) ? 0 : random.below(file[1].content.length * 2 + 1000) };
      }
      case 'mkdir':
        return { kind, path: fresh(), mode: random.pick([0o755, 0o700, 0o711, 0o750]) };
      case 'rmdir': {
        const empty = any(all.filter(([, node]) => node.kind === 'dir' && node.children.size === 0));
        return empty && { kind, path: empty[0] };
      }
      case 'unlink': {
        const leaf = any(all.filter(([, node]) => node.kind !== 'dir'));
        return leaf && { kind, path: leaf[0] };
      }
      case 'rename': {
        const from = any(all);
        if (from === undefined) return undefined;
        const isDirectory = from[1].kind === 'dir';
        const replaceable = all.filter(([, node]) => (isDirectory ? node.kind === 'dir' && node.children.size === 0 : node.kind !== 'dir'));
        const to = random.chance(0.4) ? any(replaceable)?.[0] : fresh();
        if (to === undefined || within(to, from[0]) || within(from[0], to) || to.split('/').length > 12) return undefined;
        return { kind, from: from[0], to };
      }
      case 'exchange': {
        const [a, b] = [any(all), any(all)];
        if (a === undefined || b === undefined || within(a[0], b[0]) || within(b[0], a[0])) return undefined;
        return { kind, from: a[0], to: b[0] };
      }
      case 'link': {
        const leaf = any(all.filter(([, node]) => node.kind !== 'dir'));
        return leaf && { kind, from: leaf[0], to: fresh() };
      }
      case 'symlink':
        return { kind, path: fresh(), target: random.chance(0.5) ? (any(all)?.[0] ?? 'nowhere') : `../t${seed}${'/x'.repeat(random.below(200))}` };
      case 'chmod': {
        const node = any(all.filter(([, { kind: own }]) => own !== 'link'));
        return (
          node && {
            kind,
            path: node[0],
            mode: node[1].kind === 'dir' ? random.pick([0o755, 0o700, 0o777]) : random.pick([0o600, 0o644, 0o400, 0o755]),
          }
        );
      }
      case 'utimens': {
        const node = any(all);
        return node && { kind, path: node[0], mtime: String(1_000_000_000_000_000_000n + BigInt(seed) * 987_654_321n) };
      }
      case 'setxattr': {
        const node = any(all.filter(([, { kind: own }]) => own !== 'link'));
        return node && { kind, path: node[0], name: `user.${random.pick(['a', 'b', 'long-name'])}`, size: random.skewed(1000), seed };
      }
      case 'removexattr': {
        const node = any(all.filter(([, { xattrs }]) => xattrs.size > 0));
        return node && { kind, path: node[0], name: random.pick([...node[1].xattrs.keys()]) };
      }
      default:
        return unreachable(kind);
    }
  }

  /** Differences between the directory and the model, described; none when they agree. */
  async verify(): Promise<string[]> {
    return this.#differences(this.#model, undefined);
  }

  /** `lenient` is the id of a file of which only presence is compared, under each of its names. */
  async #differences(model: TreeModel, lenient: number | undefined): Promise<string[]> {
    const probe = await this.#open();
    const found: string[] = [];
    const inos = new Map<string, number>();
    const say = (path: string, what: string): void => {
      if (found.length < 20) found.push(`${JSON.stringify(path === '' ? '/' : path)}: ${what}`);
    };
    const visit = async (path: string, node: ModelNode): Promise<void> => {
      const answer = await probe.call('describe', this.#path(path === '' ? '.' : path));
      if (answer.error !== undefined) return say(path, `${answer.error} where a ${node.kind} is expected`);
      const stat: ProbeStat = statOf(answer);
      const kind = { 0o100000: 'file', 0o040000: 'dir', 0o120000: 'link' }[stat.mode & 0o170000] ?? 'other';
      if (kind !== node.kind) return say(path, `is a ${kind}, expected a ${node.kind}`);
      if (path !== '') {
        if ((stat.mode & 0o7777) !== node.mode) say(path, `mode ${(stat.mode & 0o7777).toString(8)}, expected ${node.mode.toString(8)}`);
        if (this.#stableInodes && node.ino !== undefined && node.ino !== stat.ino) say(path, `inode ${stat.ino}, was ${node.ino}`);
        const owner = inos.get(stat.ino);
        if (owner !== undefined && owner !== node.id) say(path, 'shares the inode number of another file');
        inos.set(stat.ino, node.id);
      }
      if (node.id !== lenient && node.mtime !== undefined && String(stat.mtime) !== node.mtime)
        say(path, `mtime ${stat.mtime}, expected ${node.mtime}`);
      const links = model.linksOf(node);
      if (stat.nlink !== links) say(path, `${stat.nlink} links, expected ${links}`);
      const xattrs = Object.entries(answer.xattrs ?? {}).filter(([name]) => name.startsWith('user.'));
      if (xattrs.length !== node.xattrs.size || xattrs.some(([name, value]) => node.xattrs.get(name) !== value)) {
        const expected = [...node.xattrs.keys()].join(' ');
        say(path, `xattrs ${xattrs.map(([name]) => name).join(' ')}, expected ${expected} (or values differ)`);
      }
      if (node.kind === 'link' && Buffer.from(answer.target ?? '', 'hex').toString('latin1') !== node.target) say(path, 'another link target');
      if (node.kind === 'file' && node.id !== lenient) await compareContent(path, node, stat);
      if (node.kind === 'dir') await compareNames(path, node);
    };
    const compareContent = async (path: string, node: ModelNode, stat: ProbeStat): Promise<void> => {
      if (stat.size !== node.content.length) say(path, `${stat.size} bytes, expected ${node.content.length}`);
      const content = await probe.readFile(this.#path(path));
      if (content.equals(node.content)) return;
      let first = 0;
      while (first < content.length && content[first] === node.content[first]) first++;
      say(path, `content differs from byte ${first} of ${node.content.length}`);
    };
    const compareNames = async (path: string, node: ModelNode): Promise<void> => {
      const handle = await probe.ok('opendir', this.#path(path === '' ? '.' : path));
      const { entries = [] } = await probe.need('readdir', handle);
      await probe.ok('closedir', handle);
      const names = entries.map((entry) => Buffer.from(unescapeName(entry.name)).toString('latin1')).filter((name) => name !== '.' && name !== '..');
      if (new Set(names).size !== names.length) say(path, 'a name is listed twice');
      for (const name of names) if (!node.children.has(name)) say(path, `has ${JSON.stringify(name)}, which is not expected`);
      for (const [name, id] of node.children) {
        if (!names.includes(name)) say(path, `does not list ${JSON.stringify(name)}`);
        const child = model.nodes.get(id);
        if (child !== undefined) await visit(path === '' ? name : `${path}/${name}`, child);
      }
    };
    const root = model.find('');
    if (root !== undefined) await visit('', root);
    return found;
  }

  /**
   * After a crash: decides whether the operation in flight took place, and verifies everything else. The tree that is
   * found becomes the model. Differences mean that something acknowledged is missing, or that the operation in flight
   * did something else.
   */
  async settle(): Promise<string[]> {
    const operation = this.#pending;
    if (operation === undefined) return this.verify();
    const before = this.#model.clone();
    before.forgetTimes(operation);
    const after = this.#model.clone();
    after.apply(operation);
    const done = await this.#differences(after, undefined);
    if (done.length === 0) return this.#adopt(after);
    const undone = await this.#differences(before, undefined);
    if (undone.length === 0) return this.#adopt(before);
    if (operation.kind === 'create' || operation.kind === 'append' || operation.kind === 'overwrite' || operation.kind === 'truncate') {
      const { path } = operation;
      const [old, wanted] = [before.find(path)?.content ?? Buffer.alloc(0), after.find(path)?.content ?? Buffer.alloc(0)];
      // The file itself may be half written, and nothing else.
      const others = await this.#differences(after, after.find(path)?.id);
      if (others.length === 0) {
        const probe = await this.#open();
        const found = await probe.readFile(this.#path(path));
        const alien = found.findIndex((byte, i) => byte !== old[i] && byte !== wanted[i] && byte !== 0);
        if (alien < 0 && found.length <= Math.max(old.length, wanted.length)) {
          const node = after.find(path);
          if (node !== undefined) node.content = found;
          return this.#adopt(after);
        }
        return [`${JSON.stringify(path)}: byte ${alien} is neither the old nor the new one, or the size ${found.length} is too large`];
      }
    }
    const closer = done.length <= undone.length ? done : undone;
    return [`in flight: ${JSON.stringify(operation)}`, ...closer];
  }

  async #adopt(model: TreeModel): Promise<string[]> {
    this.#model = model;
    this.#pending = undefined;
    const probe = await this.#open();
    for (const [path, node] of model.paths()) {
      if (node.mtime !== undefined && node.ino !== undefined) continue;
      const stat = await probe.stat('lstat', this.#path(path));
      node.mtime ??= String(stat.mtime);
      node.ino ??= stat.ino;
    }
    return [];
  }

  /** The acknowledged state and the operation in flight, as JSON text for {@link restore}. */
  save(): string {
    return JSON.stringify({ pending: this.#pending, model: this.#model.save() });
  }

  restore(text: string): void {
    const saved = JSON.parse(text) as { pending?: TreeOperation; model: string };
    this.#model = TreeModel.restore(saved.model);
    this.#pending = saved.pending;
  }
}

/** Whether an operation failed because the filesystem under it went away. */
export function isGone(error: unknown): boolean {
  return error instanceof ProbeCallError && ['ENOTCONN', 'ECONNABORTED', 'ESHUTDOWN', 'EIO', 'ENODEV', 'EINTR'].includes(error.code);
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ops: { type: 'string' },
      seed: { type: 'string', default: String(testSeed()) },
      seconds: { type: 'string' },
      save: { type: 'string' },
      verify: { type: 'string' },
      without: { type: 'string', default: '' },
      'verify-every': { type: 'string', default: '2000' },
    },
  });
  const [directory] = positionals;
  if (directory === undefined) throw new Error('usage: random-tree.js DIRECTORY [--ops N] [--seed N] [--seconds N] [--save FILE] | --verify FILE');
  const seed = Number(values.seed);
  const tree = new RandomTree({ directory, seed, without: values.without.split(',') as TreeOperation['kind'][] });
  const judge = (differences: readonly string[]): void => {
    if (differences.length === 0) return;
    process.stdout.write(
      `random-tree: seed ${seed}, after ${tree.count} operations:\n${differences.join('\n')}\nthe last operations:\n${tree.history.join('\n')}\n`,
    );
    process.exitCode = 1;
  };
  try {
    if (values.verify !== undefined) {
      tree.restore(await readFile(values.verify, 'utf8'));
      judge(await tree.settle());
    } else {
      await mkdir(directory, { recursive: true });
      const durationMs = values.seconds === undefined ? Number.POSITIVE_INFINITY : Number(values.seconds) * 1000;
      const ops = values.ops === undefined ? (values.seconds === undefined ? 5000 : Number.POSITIVE_INFINITY) : Number(values.ops);
      const began = performance.now();
      while (process.exitCode === undefined && tree.count < ops && performance.now() - began < durationMs) {
        await tree.run({ ops: Math.min(Number(values['verify-every']), ops - tree.count), durationMs: durationMs - (performance.now() - began) });
        judge(await tree.verify());
      }
      if (values.save !== undefined) await writeFile(values.save, tree.save());
    }
    if (process.exitCode === undefined) process.stdout.write(`random-tree: ${tree.count} operations agree with the model (seed ${seed})\n`);
  } catch (error) {
    judge([error instanceof Error ? error.message : String(error)]);
    if (values.save !== undefined) await writeFile(values.save, tree.save());
  } finally {
    await tree.close();
  }
}
