/**
 * In which commits the authors of operations have put them, and which operations are *stranded*: some branch that was
 * given up has them, and the chosen one does not. What a device needs to know to carry operations of others.
 */
import type { TreeNode } from './commit-tree.js';
import type { OperationId, SimulatedCommit } from './simulated-commit.js';

export class OperationSources {
  readonly #sources = new Map<OperationId, SimulatedCommit[]>();
  /** Since when. */
  readonly #stranded = new Map<OperationId, number>();
  readonly #isCounted: (commit: SimulatedCommit) => boolean;
  #noted = 0;

  constructor(isCounted: (commit: SimulatedCommit) => boolean) {
    this.#isCounted = isCounted;
  }

  /** A commit that counts, wherever it stands, in which the author has put the operation. */
  of(operation: OperationId): SimulatedCommit | undefined {
    return this.#sources.get(operation)?.find(this.#isCounted);
  }

  /** The operations that have been stranded for at least so long. */
  strandedFor(ticks: number, now: number): OperationId[] {
    return [...this.#stranded].filter(([, since]) => now - since >= ticks).map(([operation]) => operation);
  }

  /** `nodes`: all commits that were received, in this order. `isSettled`: what needs no second look. */
  update(nodes: readonly TreeNode[], isSettled: (operation: OperationId) => boolean, now: number): void {
    for (const { commit } of nodes.slice(this.#noted)) if (commit) this.#note(commit);
    this.#noted = nodes.length;
    for (const operation of this.#sources.keys()) {
      if (isSettled(operation) || !this.of(operation)) this.#stranded.delete(operation);
      else if (!this.#stranded.has(operation)) this.#stranded.set(operation, now);
    }
  }

  #note(commit: SimulatedCommit): void {
    for (const operation of commit.operations) {
      const source = commit.carries.get(operation) ?? commit;
      const sources = this.#sources.get(operation) ?? [];
      this.#sources.set(operation, sources);
      if (!sources.includes(source)) sources.push(source);
    }
  }
}
