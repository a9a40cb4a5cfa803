/**
 * What the kernel holds of ours: how many references to each inode, and under which names it knows regular files. Two things need it. A
 * FORGET can arrive after the kernel has looked the inode up anew, so only the count tells when a removed file is really let go. And under
 * the writeback cache the kernel takes a changed size only for an inode that it has dropped, which only an invalidated name brings about.
 *
 * Bounded: when the kernel knows more than `limit` inodes, it is asked to drop the files that it has known longest.
 */
import type { ByteString } from '../base/brand.js';
import type { NodeId } from '../fuse/operations.js';

interface KnownName {
  parent: NodeId;
  name: ByteString;
}

interface KnownInode extends KnownName {
  references: number;
  /** Further names (hard links) that were looked up. */
  others: KnownName[] | undefined;
}

export const knownInodesMax = 200_000;

export class KnownInodes {
  readonly #inodes = new Map<NodeId, KnownInode>();
  readonly #limit: number;
  /** Called for a name that the kernel should drop. */
  readonly #drop: (parent: NodeId, name: ByteString) => void;
  /** Where to look for the next one to drop; an iterator of a Map goes on past what was deleted. */
  #oldest: IterableIterator<[NodeId, KnownInode]> | undefined;

  constructor(drop: (parent: NodeId, name: ByteString) => void, limit = knownInodesMax) {
    this.#drop = drop;
    this.#limit = limit;
  }

  get count(): number {
    return this.#inodes.size;
  }

  has(nodeId: NodeId): boolean {
    return this.#inodes.has(nodeId);
  }

  /** One more reference, by this name. An empty name: only counted (directories: on them others may be mounted, so they are never dropped). */
  refer(nodeId: NodeId, parent: NodeId, name: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known === undefined) {
      this.#inodes.set(nodeId, { references: 1, parent, name, others: undefined });
      if (this.#inodes.size > this.#limit) this.#dropOldest();
      return;
    }
    known.references++;
    if (name !== '') this.#addName(known, parent, name);
  }

  /** True: the kernel has let go of the inode. */
  forget(nodeId: NodeId, count: number): boolean {
    const known = this.#inodes.get(nodeId);
    if (known === undefined) return true;
    known.references -= count;
    if (known.references > 0) return false;
    this.#inodes.delete(nodeId);
    return true;
  }

  renamed(nodeId: NodeId, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known === undefined || known.name === '') return;
    const moved = [known, ...(known.others ?? [])].find((at) => at.parent === parent && at.name === name);
    if (moved === undefined) return this.#addName(known, newParent, newName);
    moved.parent = newParent;
    moved.name = newName;
  }

  removed(nodeId: NodeId, parent: NodeId, name: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known !== undefined) this.#removeName(known, parent, name);
  }

  /** Asks the kernel to drop the inode: all names of it that it knows. */
  drop(nodeId: NodeId): void {
    const known = this.#inodes.get(nodeId);
    if (known === undefined || known.name === '') return;
    this.#drop(known.parent, known.name);
    if (known.others !== undefined) for (const { parent, name } of known.others) this.#drop(parent, name);
  }

  /** The inodes that the kernel still refers to, when it says no more FORGET: at the end of the connection. */
  clear(): void {
    this.#inodes.clear();
    this.#oldest = undefined;
  }

  #addName(known: KnownInode, parent: NodeId, name: ByteString): void {
    if (known.parent === parent && known.name === name) return;
    if (known.name === '') {
      known.parent = parent;
      known.name = name;
      return;
    }
    if (known.others?.some((other) => other.parent === parent && other.name === name) === true) return;
    (known.others ??= []).push({ parent, name });
  }

  #removeName(known: KnownInode, parent: NodeId, name: ByteString): void {
    if (known.parent === parent && known.name === name) {
      const next = known.others?.pop();
      // Without a name left it stays as it is: dropping a name that is gone does no harm.
      if (next !== undefined) {
        known.parent = next.parent;
        known.name = next.name;
      }
      return;
    }
    const at = known.others?.findIndex((other) => other.parent === parent && other.name === name) ?? -1;
    if (at >= 0) known.others?.splice(at, 1);
  }

  #dropOldest(): void {
    // Each step looks at a few: directories and files that stay open are passed over until the next round.
    for (let step = 0; step < 4; step++) {
      this.#oldest ??= this.#inodes.entries();
      const next = this.#oldest.next();
      if (next.done === true) {
        this.#oldest = undefined;
        return;
      }
      const [nodeId, known] = next.value;
      if (known.name === '') continue;
      this.drop(nodeId);
      return;
    }
  }
}
