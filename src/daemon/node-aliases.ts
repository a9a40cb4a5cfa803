/**
 * The node ids of the kernel that do not stand for the inode of the same number (doc/decision/0011). After a conflict,
 * the kernel's inode, which applications have open and whose pages are theirs, stands for the copy from then on; the
 * file gets a new node id, under which the kernel finds it again by its name. Empty except for files that had a
 * conflict and are still known to the kernel.
 */

import type { NodeId } from '../fuse/operations.js';
import type { Ino } from '../meta/key.js';

/** Node ids from here on are no inode's number (doc/format.md, "Inode numbers"). */
const firstAlias = 2 ** 52;

export class NodeAliases {
  readonly #inos = new Map<NodeId, Ino>();
  readonly #nodeIds = new Map<Ino, NodeId>();
  readonly #isReferenced: (nodeId: NodeId) => boolean;
  #made = 0;

  /** `isReferenced`: whether the kernel holds a reference to the node id. */
  constructor(isReferenced: (nodeId: NodeId) => boolean) {
    this.#isReferenced = isReferenced;
  }

  /** The number of pairs whose two numbers differ. */
  get size(): number {
    return this.#inos.size;
  }

  inoOf(nodeId: NodeId): Ino {
    return (this.#inos.size === 0 ? undefined : this.#inos.get(nodeId)) ?? (nodeId as number as Ino);
  }

  nodeIdOf(ino: Ino): NodeId {
    return (this.#inos.size === 0 ? undefined : this.#nodeIds.get(ino)) ?? (ino as number as NodeId);
  }

  /**
   * The kernel's inode for `ino` stands for `copy` from now on, and `ino` gets another node id. `copy` is new to the
   * kernel.
   */
  follow(ino: Ino, copy: Ino): void {
    const nodeId = this.nodeIdOf(ino);
    this.#unpair(nodeId);
    this.#pair(nodeId, copy);
    if (!this.#isFree(ino as number as NodeId)) this.#pair((firstAlias + this.#made++) as NodeId, ino);
  }

  /** The kernel does not refer to `nodeId` any more. */
  forget(nodeId: NodeId): void {
    if (this.#inos.size === 0) return;
    // An inode gets its own number back when that number no longer stands for another one.
    const ino = this.#inos.get(nodeId);
    if (ino !== undefined && this.#isFree(ino as number as NodeId)) this.#unpair(nodeId);
    // Then another inode may get back the number that became free, and so on.
    for (let free = nodeId; this.#isFree(free); ) {
      const waiting = this.#nodeIds.get(free as number as Ino);
      if (waiting === undefined || this.#isReferenced(waiting)) return;
      this.#unpair(waiting);
      free = waiting;
    }
  }

  #isFree(nodeId: NodeId): boolean {
    return !this.#inos.has(nodeId) && !this.#isReferenced(nodeId);
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
