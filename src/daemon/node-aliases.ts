/**
 * Which inode a node id of the kernel stands for, where that is not the inode of the same number (doc/decision/0010). After a conflict copy, the
 * kernel's inode, which applications have open and whose pages are theirs, goes on as the copy; the file gets a new node id, under which the kernel
 * meets it again by its name. Empty but for files that had a conflict and are still known to the kernel.
 */
import { makeIno } from '../meta/key.js';
import type { Ino } from '../meta/key.js';
import type { NodeId } from '../fuse/operations.js';

/** Node ids that are no inode's number: device 0 makes the root directory and nothing else. */
const firstAlias = 2 ** 32;

export class NodeAliases {
  readonly #inos = new Map<NodeId, Ino>();
  readonly #nodeIds = new Map<Ino, NodeId>();
  #made = 0;

  /** Pairs that are not of the same number. */
  get size(): number {
    return this.#inos.size;
  }

  inoOf(nodeId: NodeId): Ino {
    return (this.#inos.size === 0 ? undefined : this.#inos.get(nodeId)) ?? (nodeId as number as Ino);
  }

  nodeIdOf(ino: Ino): NodeId {
    return (this.#inos.size === 0 ? undefined : this.#nodeIds.get(ino)) ?? (ino as number as NodeId);
  }

  /** What the kernel knows as `ino` is `copy` from now on, and `ino` gets another node id. `copy` is new: the kernel does not know it. */
  follow(ino: Ino, copy: Ino): void {
    const nodeId = this.nodeIdOf(ino);
    const alias = makeIno(0, firstAlias + this.#made++) as number as NodeId;
    this.#pair(nodeId, copy);
    this.#pair(alias, ino);
  }

  /** The kernel does not refer to `nodeId` any more. `isReferenced` tells it of others. */
  forget(nodeId: NodeId, isReferenced: (nodeId: NodeId) => boolean): void {
    if (this.#inos.size === 0) return;
    // While the kernel takes the inode's own number for another inode, it cannot have it back.
    const ino = this.#inos.get(nodeId);
    if (ino !== undefined && !isReferenced(ino as number as NodeId)) this.#unpair(nodeId);
    // This number may be what an inode waits for whose alias was let go before.
    const waiting = this.#nodeIds.get(nodeId as number as Ino);
    if (waiting !== undefined && !isReferenced(waiting)) this.#unpair(waiting);
  }

  clear(): void {
    this.#inos.clear();
    this.#nodeIds.clear();
  }

  #pair(nodeId: NodeId, ino: Ino): void {
    this.#inos.set(nodeId, ino);
    this.#nodeIds.set(ino, nodeId);
  }

  #unpair(nodeId: NodeId): void {
    const ino = this.#inos.get(nodeId);
    if (ino === undefined) return;
    this.#inos.delete(nodeId);
    this.#nodeIds.delete(ino);
  }
}
