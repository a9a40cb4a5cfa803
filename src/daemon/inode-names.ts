/**
 * The names under which the kernel knows regular files, for kernels before FUSE 7.45, which drop an inode only by its
 * names. (Under the writeback cache the kernel takes a changed size only with a new inode, so a file that was changed
 * elsewhere has to be dropped.)
 *
 * When more than `limit` files are known, the kernel is asked to drop those that it has known longest. References are
 * counted in `inode-references.ts`.
 */
import type { ByteString } from '../base/brand.js';
import type { NodeId } from '../fuse/operations.js';

interface Name {
  parent: NodeId;
  name: ByteString;
}

interface Names extends Name {
  /** Further names (hard links) that were looked up. */
  others: Name[] | undefined;
}

export const namedInodesMax = 200_000;

export class InodeNames {
  readonly #inodes = new Map<NodeId, Names>();
  readonly #limit: number;
  /** Called for a name that the kernel should drop. */
  readonly #drop: (parent: NodeId, name: ByteString) => void;
  /** The next candidate. An iterator of a Map continues past deleted entries. */
  #oldest: IterableIterator<NodeId> | undefined;

  constructor(drop: (parent: NodeId, name: ByteString) => void, limit = namedInodesMax) {
    this.#drop = drop;
    this.#limit = limit;
  }

  /** The kernel looked the file up by this name. Not for directories: others may be mounted on them. */
  add(nodeId: NodeId, parent: NodeId, name: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known !== undefined) return this.#addName(known, parent, name);
    this.#inodes.set(nodeId, { parent, name, others: undefined });
    if (this.#inodes.size > this.#limit) this.#dropOldest();
    return undefined;
  }

  /** The kernel has let go of the inode. */
  forget(nodeId: NodeId): void {
    this.#inodes.delete(nodeId);
  }

  renamed(nodeId: NodeId, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known === undefined) return;
    const moved = [known, ...(known.others ?? [])].find((at) => at.parent === parent && at.name === name);
    if (moved === undefined) return this.#addName(known, newParent, newName);
    moved.parent = newParent;
    moved.name = newName;
  }

  removed(nodeId: NodeId, parent: NodeId, name: ByteString): void {
    const known = this.#inodes.get(nodeId);
    if (known !== undefined) this.#removeName(known, parent, name);
  }

  /** Asks the kernel to drop the inode, by all names that it knows. */
  drop(nodeId: NodeId): void {
    const known = this.#inodes.get(nodeId);
    if (known === undefined) return;
    this.#drop(known.parent, known.name);
    if (known.others !== undefined) for (const { parent, name } of known.others) this.#drop(parent, name);
  }

  clear(): void {
    this.#inodes.clear();
    this.#oldest = undefined;
  }

  #addName(known: Names, parent: NodeId, name: ByteString): void {
    if (known.parent === parent && known.name === name) return;
    if (known.others?.some((other) => other.parent === parent && other.name === name) === true) return;
    (known.others ??= []).push({ parent, name });
  }

  #removeName(known: Names, parent: NodeId, name: ByteString): void {
    if (known.parent === parent && known.name === name) {
      const next = known.others?.pop();
      // If no name is left it stays: dropping a name that is gone does no harm.
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
    this.#oldest ??= this.#inodes.keys();
    const next = this.#oldest.next();
    // A file that stays open is passed over until the next round.
    if (next.done === true) this.#oldest = undefined;
    else this.drop(next.value);
  }
}
