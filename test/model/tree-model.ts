/**
 * A filesystem tree as plain data: what a directory must hold after a list of operations. It performs nothing
 * (random-tree.ts does) and knows only what applications can see: names, kinds, content, modes, links, xattrs, and
 * times that were set. Names are latin1 byte strings, so they can hold any bytes but slash and NUL.
 */
import { SeededRandom } from './seeded-random.js';

export type TreeOperation =
  | { readonly kind: 'create'; readonly path: string; readonly size: number; readonly seed: number; readonly mode: number; readonly sync: boolean }
  | { readonly kind: 'append'; readonly path: string; readonly size: number; readonly seed: number; readonly sync: boolean }
  | {
      readonly kind: 'overwrite';
      readonly path: string;
      readonly offset: number;
      readonly size: number;
      readonly seed: number;
      readonly sync: boolean;
    }
  | { readonly kind: 'truncate'; readonly path: string; readonly size: number }
  | { readonly kind: 'mkdir'; readonly path: string; readonly mode: number }
  | { readonly kind: 'rmdir'; readonly path: string }
  | { readonly kind: 'unlink'; readonly path: string }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'exchange'; readonly from: string; readonly to: string }
  | { readonly kind: 'link'; readonly from: string; readonly to: string }
  | { readonly kind: 'symlink'; readonly target: string; readonly path: string }
  | { readonly kind: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly kind: 'utimens'; readonly path: string; readonly mtime: string }
  | { readonly kind: 'setxattr'; readonly path: string; readonly name: string; readonly size: number; readonly seed: number }
  | { readonly kind: 'removexattr'; readonly path: string; readonly name: string };

export interface ModelNode {
  readonly id: number;
  readonly kind: 'file' | 'dir' | 'link';
  mode: number;
  content: Buffer;
  readonly target: string;
  /** Name to value in hex. */
  readonly xattrs: Map<string, string>;
  readonly children: Map<string, number>;
  /** Nanoseconds as decimal text; undefined where it is not known. */
  mtime: string | undefined;
  /** The value from the filesystem; undefined until it was seen. */
  ino: string | undefined;
}

export const rootId = 0;

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function contentOf(operation: { readonly seed: number; readonly size: number }): Buffer {
  return new SeededRandom(operation.seed).bytes(operation.size);
}

/** The paths whose attributes an operation may change, as named after it. */
export function touchedBy(operation: TreeOperation): string[] {
  switch (operation.kind) {
    case 'rename':
    case 'exchange':
      return [parentOf(operation.from), parentOf(operation.to), operation.from, operation.to];
    case 'link':
      return [parentOf(operation.to), operation.to];
    case 'create':
    case 'mkdir':
    case 'rmdir':
    case 'unlink':
    case 'symlink':
      return [parentOf(operation.path), operation.path];
    default:
      return [operation.path];
  }
}

interface SavedNode {
  readonly id: number;
  readonly kind: ModelNode['kind'];
  readonly mode: number;
  readonly content: string;
  readonly target: string;
  readonly xattrs: [string, string][];
  readonly children: [string, number][];
  readonly mtime?: string;
  readonly ino?: string;
}

export class TreeModel {
  readonly nodes = new Map<number, ModelNode>();
  #nextId = 1;

  constructor() {
    this.#add(rootId, 'dir', 0o755);
  }

  #add(id: number, kind: ModelNode['kind'], mode: number, target = ''): ModelNode {
    const node: ModelNode = {
      id,
      kind,
      mode,
      target,
      content: Buffer.alloc(0),
      xattrs: new Map(),
      children: new Map(),
      mtime: undefined,
      ino: undefined,
    };
    this.nodes.set(id, node);
    return node;
  }

  /** The node of a path; '' is the root. */
  find(path: string): ModelNode | undefined {
    let node = this.nodes.get(rootId);
    for (const name of path === '' ? [] : path.split('/')) {
      const id = node?.children.get(name);
      node = id === undefined ? undefined : this.nodes.get(id);
    }
    return node;
  }

  #need(path: string): ModelNode {
    const node = this.find(path);
    if (node === undefined) throw new Error(`the model has no ${JSON.stringify(path)}`);
    return node;
  }

  /** Every path with its node, parents first; not the root. */
  *paths(at = '', node = this.#need('')): Generator<[string, ModelNode]> {
    for (const [name, id] of node.children) {
      const child = this.nodes.get(id);
      if (child === undefined) throw new Error(`the model lost node ${id}`);
      const path = at === '' ? name : `${at}/${name}`;
      yield [path, child];
      if (child.kind === 'dir') yield* this.paths(path, child);
    }
  }

  linksOf(node: ModelNode): number {
    if (node.kind === 'dir') return 2 + [...node.children.values()].filter((id) => this.nodes.get(id)?.kind === 'dir').length;
    let count = 0;
    for (const directory of this.nodes.values()) for (const id of directory.children.values()) if (id === node.id) count++;
    return count;
  }

  #put(path: string, id: number): void {
    this.#need(parentOf(path)).children.set(nameOf(path), id);
  }

  #remove(path: string): void {
    const node = this.#need(path);
    this.#need(parentOf(path)).children.delete(nameOf(path));
    if (node.kind === 'dir' || this.linksOf(node) === 0) this.nodes.delete(node.id);
  }

  /** Applies the operation, which must be possible. Times that it updates become unknown. */
  apply(operation: TreeOperation): void {
    switch (operation.kind) {
      case 'create': {
        const node = this.find(operation.path) ?? this.#add(this.#nextId++, 'file', operation.mode);
        if (this.find(operation.path) === undefined) this.#put(operation.path, node.id);
        node.content = contentOf(operation);
        break;
      }
      case 'append': {
        const node = this.#need(operation.path);
        node.content = Buffer.concat([node.content, contentOf(operation)]);
        break;
      }
      case 'overwrite': {
        const node = this.#need(operation.path);
        const bytes = contentOf(operation);
        const grown = Buffer.alloc(Math.max(node.content.length, operation.offset + bytes.length));
        node.content.copy(grown);
        bytes.copy(grown, operation.offset);
        node.content = grown;
        break;
      }
      case 'truncate': {
        const node = this.#need(operation.path);
        const cut = Buffer.alloc(operation.size);
        node.content.copy(cut);
        node.content = cut;
        break;
      }
      case 'mkdir':
        this.#put(operation.path, this.#add(this.#nextId++, 'dir', operation.mode).id);
        break;
      case 'symlink':
        this.#put(operation.path, this.#add(this.#nextId++, 'link', 0o777, operation.target).id);
        break;
      case 'rmdir':
      case 'unlink':
        this.#remove(operation.path);
        break;
      case 'rename': {
        const node = this.#need(operation.from);
        const replaced = this.find(operation.to);
        if (replaced?.id === node.id) break;
        if (replaced !== undefined) this.#remove(operation.to);
        this.#need(parentOf(operation.from)).children.delete(nameOf(operation.from));
        this.#put(operation.to, node.id);
        break;
      }
      case 'exchange': {
        const [a, b] = [this.#need(operation.from), this.#need(operation.to)];
        this.#put(operation.from, b.id);
        // The parent may have moved with the first half only if one path were above the other, which is not allowed.
        this.#put(operation.to, a.id);
        break;
      }
      case 'link':
        this.#put(operation.to, this.#need(operation.from).id);
        break;
      case 'chmod':
        this.#need(operation.path).mode = operation.mode;
        break;
      case 'utimens':
        break;
      case 'setxattr':
        this.#need(operation.path).xattrs.set(operation.name, contentOf(operation).toString('hex'));
        break;
      case 'removexattr':
        this.#need(operation.path).xattrs.delete(operation.name);
        break;
    }
    this.forgetTimes(operation);
    if (operation.kind === 'utimens') this.#need(operation.path).mtime = operation.mtime;
  }

  forgetTimes(operation: TreeOperation): void {
    for (const path of touchedBy(operation)) {
      const node = this.find(path);
      if (node !== undefined) node.mtime = undefined;
    }
  }

  clone(): TreeModel {
    return TreeModel.restore(this.save());
  }

  /** As JSON text. */
  save(): string {
    const nodes: SavedNode[] = [...this.nodes.values()].map(({ content, xattrs, children, mtime, ino, ...rest }) => ({
      ...rest,
      content: content.toString('base64'),
      xattrs: [...xattrs],
      children: [...children],
      ...(mtime === undefined ? {} : { mtime }),
      ...(ino === undefined ? {} : { ino }),
    }));
    return JSON.stringify({ nextId: this.#nextId, nodes });
  }

  static restore(text: string): TreeModel {
    const model = new TreeModel();
    const saved = JSON.parse(text) as { nextId: number; nodes: SavedNode[] };
    model.#nextId = saved.nextId;
    model.nodes.clear();
    for (const { content, xattrs, children, mtime, ino, ...rest } of saved.nodes) {
      const node = { ...rest, content: Buffer.from(content, 'base64'), xattrs: new Map(xattrs), children: new Map(children), mtime, ino };
      model.nodes.set(node.id, node);
    }
    return model;
  }
}
