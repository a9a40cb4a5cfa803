/**
 * Counts the references that the kernel holds to each inode (its nlookup), in a hash table of numbers with 12 bytes for
 * each place, so that a million known inodes take 24 MB. A FORGET can arrive after the kernel has looked the inode up
 * again, so only the count says when a removed file is no longer used. Names are in `inode-names.ts`, for kernels that
 * need them.
 */
import type { NodeId } from '../fuse/operations.js';

const capacityMin = 1024;
/** The table grows when it is 5/8 full and shrinks at 5/64; between the two its size does not change back and forth. */
const [fullNumerator, fullDenominator, sparseDenominator] = [5, 8, 8];

export class InodeReferences {
  /** Linear probing; 0 is an empty place (no inode has this number). */
  #nodeIds = new Float64Array(capacityMin);
  #counts = new Uint32Array(capacityMin);
  #size = 0;

  /** How many inodes the kernel refers to. */
  get size(): number {
    return this.#size;
  }

  has(nodeId: NodeId): boolean {
    return this.#nodeIds[this.#placeOf(nodeId)] === nodeId;
  }

  /** One more reference. */
  refer(nodeId: NodeId): void {
    const place = this.#placeOf(nodeId);
    if (this.#nodeIds[place] === nodeId) {
      this.#counts[place]! += 1;
      return;
    }
    this.#nodeIds[place] = nodeId;
    this.#counts[place] = 1;
    this.#size++;
    if (this.#size * fullDenominator > this.#nodeIds.length * fullNumerator) this.#resize(this.#nodeIds.length * 2);
  }

  /** Takes `count` references away. True when none is left. */
  forget(nodeId: NodeId, count: number): boolean {
    const place = this.#placeOf(nodeId);
    if (this.#nodeIds[place] !== nodeId) return true;
    const held = this.#counts[place]!;
    if (held > count) {
      this.#counts[place] = held - count;
      return false;
    }
    this.#remove(place);
    const { length } = this.#nodeIds;
    if (length > capacityMin && this.#size * fullDenominator * sparseDenominator < length * fullNumerator) this.#resize(length / 2);
    return true;
  }

  clear(): void {
    this.#nodeIds = new Float64Array(capacityMin);
    this.#counts = new Uint32Array(capacityMin);
    this.#size = 0;
  }

  #homeOf(nodeId: number): number {
    // Numbers come in runs, with the device in their upper part. The table uses some of the upper bits, so both halves
    // are mixed into those.
    const mixed = Math.imul(nodeId | 0, 0x9e3779b1) ^ Math.imul((nodeId / 0x100000000) | 0, 0x85ebca6b);
    return mixed >>> (Math.clz32(this.#nodeIds.length) + 1);
  }

  /** The place of the inode, or the empty place where it belongs. */
  #placeOf(nodeId: number): number {
    const nodeIds = this.#nodeIds;
    const mask = nodeIds.length - 1;
    let place = this.#homeOf(nodeId);
    while (nodeIds[place] !== 0 && nodeIds[place] !== nodeId) place = (place + 1) & mask;
    return place;
  }

  /** Closes the gap, so that every inode is still found from its home on. */
  #remove(place: number): void {
    const nodeIds = this.#nodeIds;
    const mask = nodeIds.length - 1;
    let gap = place;
    for (let at = (gap + 1) & mask; nodeIds[at] !== 0; at = (at + 1) & mask) {
      const home = this.#homeOf(nodeIds[at]!);
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      nodeIds[gap] = nodeIds[at]!;
      this.#counts[gap] = this.#counts[at]!;
      gap = at;
    }
    nodeIds[gap] = 0;
    this.#size--;
  }

  #resize(capacity: number): void {
    const [nodeIds, counts] = [this.#nodeIds, this.#counts];
    this.#nodeIds = new Float64Array(capacity);
    this.#counts = new Uint32Array(capacity);
    for (const [from, nodeId] of nodeIds.entries()) {
      if (nodeId === 0) continue;
      const place = this.#placeOf(nodeId);
      this.#nodeIds[place] = nodeId;
      this.#counts[place] = counts[from]!;
    }
  }
}
