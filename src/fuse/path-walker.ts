/**
 * Finds the node of a path, for drivers that work with paths: walks it by lookups and keeps what it found, with the
 * lookup counts that it owes the filesystem. It is a cache: any of it can be dropped at any time.
 */

import type { ByteString } from '../base/brand.js';
import { byteStringOf } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import type { Entry, FuseOperations, NodeId, RequestContext } from './operations.js';
import { rootNodeId } from './operations.js';

/** A name that was looked up. */
interface Dentry {
  readonly nodeId: NodeId;
  /** Lookups that the filesystem counted for this name. */
  lookups: number;
  expiresMs: number;
  readonly children: Map<ByteString, Dentry>;
}

/** When there are more names than this, everything is forgotten: simple, and rare. */
const dentriesMax = 200_000;

/** `/a/b` as byte strings; paths are absolute and without dots, as libfuse gives them. */
export function componentsOf(path: string): ByteString[] {
  return path
    .split('/')
    .filter((part) => part !== '')
    .map(byteStringOf);
}

export class PathWalker {
  readonly #operations: FuseOperations;
  readonly #clock: Clock;
  #root: Dentry = { nodeId: rootNodeId, lookups: 0, expiresMs: Number.POSITIVE_INFINITY, children: new Map() };
  #count = 0;

  constructor(operations: FuseOperations, clock: Clock) {
    this.#operations = operations;
    this.#clock = clock;
  }

  /** The number of names that are kept. */
  get size(): number {
    return this.#count;
  }

  /** The node, or 0 when a component is missing. */
  find(context: RequestContext, components: readonly ByteString[]): MaybePromise<NodeId | 0> {
    return andThen(this.#walk(context, this.#root, components, 0), (dentry) => dentry?.nodeId ?? 0);
  }

  #walk(context: RequestContext, from: Dentry, components: readonly ByteString[], index: number): MaybePromise<Dentry | undefined> {
    const name = components[index];
    if (name === undefined) return from;
    const known = from.children.get(name);
    if (known !== undefined && known.expiresMs > this.#clock.monotonicMs()) return this.#walk(context, known, components, index + 1);
    return andThen(this.#operations.lookup(context, from.nodeId, name), (entry) => {
      const dentry = this.#keep(from, name, entry);
      return dentry === undefined ? undefined : this.#walk(context, dentry, components, index + 1);
    });
  }

  /** The filesystem answered with an entry for this path, counting a lookup. */
  learn(parent: readonly ByteString[], name: ByteString, entry: Entry): void {
    const folder = this.#cached(parent);
    if (folder !== undefined) this.#keep(folder, name, entry);
    else if (entry.nodeId !== 0) this.#operations.forget(entry.nodeId, 1);
  }

  #keep(folder: Dentry, name: ByteString, entry: Entry): Dentry | undefined {
    const known = folder.children.get(name);
    if (entry.nodeId === 0) {
      if (known !== undefined) this.#drop(folder, name, known);
      return undefined;
    }
    const expiresMs = this.#clock.monotonicMs() + entry.entryValidMs;
    if (known?.nodeId === entry.nodeId) {
      known.lookups++;
      known.expiresMs = expiresMs;
      return known;
    }
    if (known !== undefined) this.#drop(folder, name, known);
    if (this.#count >= dentriesMax) this.forgetAll();
    const dentry: Dentry = { nodeId: entry.nodeId, lookups: 1, expiresMs, children: new Map() };
    folder.children.set(name, dentry);
    this.#count++;
    return dentry;
  }

  #cached(components: readonly ByteString[]): Dentry | undefined {
    let at: Dentry | undefined = this.#root;
    for (const name of components) at = at?.children.get(name);
    return at;
  }

  /** The name is gone or means something else now. Everything below it is forgotten too. */
  forget(components: readonly ByteString[]): void {
    const folder = this.#cached(components.slice(0, -1));
    const name = components.at(-1);
    if (folder === undefined || name === undefined) return;
    const dentry = folder.children.get(name);
    if (dentry !== undefined) this.#drop(folder, name, dentry);
  }

  /** Forgets the name in this folder, wherever it is kept. */
  forgetEntry(parent: NodeId, name: ByteString): void {
    const visit = (dentry: Dentry): void => {
      const child = dentry.nodeId === parent ? dentry.children.get(name) : undefined;
      if (child !== undefined) this.#drop(dentry, name, child);
      for (const below of dentry.children.values()) visit(below);
    };
    visit(this.#root);
  }

  forgetAll(): void {
    for (const [name, dentry] of this.#root.children) this.#drop(this.#root, name, dentry);
  }

  #drop(folder: Dentry, name: ByteString, dentry: Dentry): void {
    folder.children.delete(name);
    for (const [childName, child] of dentry.children) this.#drop(dentry, childName, child);
    this.#count--;
    this.#operations.forget(dentry.nodeId, dentry.lookups);
  }
}
