/**
 * Inodes that the kernel could not drop when their files were changed elsewhere, because somebody was using them. Under
 * the writeback cache the kernel believes in their old sizes for as long as it has them, so it is asked again, at
 * growing intervals, until it drops them.
 */
import type { NodeId } from '../fuse/operations.js';

const firstDelayMs = 20;
const delayMaxMs = 5000;

export class StaleInodes {
  readonly #nodeIds = new Set<NodeId>();
  readonly #drop: (nodeIds: readonly NodeId[]) => void;
  #timer: NodeJS.Timeout | undefined;
  #rounds = 0;

  /** `drop` asks the kernel to drop those that nobody uses. */
  constructor(drop: (nodeIds: readonly NodeId[]) => void) {
    this.#drop = drop;
  }

  /** The kernel knows these, and was asked to drop them. */
  add(nodeIds: readonly NodeId[]): void {
    for (const nodeId of nodeIds) this.#nodeIds.add(nodeId);
    this.#rounds = 0;
    this.#schedule();
  }

  /** The kernel dropped it; under the same number it gets a new inode. */
  forget(nodeId: NodeId): void {
    if (this.#nodeIds.size > 0) this.#nodeIds.delete(nodeId);
  }

  clear(): void {
    this.#nodeIds.clear();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#again(), Math.min(delayMaxMs, firstDelayMs * 2 ** this.#rounds)).unref();
  }

  #again(): void {
    if (this.#nodeIds.size === 0) return;
    this.#rounds++;
    this.#drop([...this.#nodeIds]);
    this.#schedule();
  }
}
