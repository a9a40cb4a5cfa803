/**
 * Operations of others that a device has shown to its applications and does not show now, because its history changed.
 */
import { authorOfOperation, isForged, type OperationId } from './simulated-commit.js';
import type { Tally } from './tally.js';

export class WithdrawnOperations {
  readonly #device: number;
  readonly #tally: Tally;
  /** Since when. */
  readonly #withdrawn = new Map<OperationId, number>();

  constructor(device: number, tally: Tally) {
    this.#device = device;
    this.#tally = tally;
  }

  /** `isRemoved`: what this device wrote is withdrawn on purpose. */
  update(before: ReadonlySet<OperationId>, shown: ReadonlySet<OperationId>, isRemoved: (device: number) => boolean, now: number): void {
    for (const operation of before) {
      const author = authorOfOperation(operation);
      if (shown.has(operation) || author === this.#device) continue;
      if (isForged(operation) || isRemoved(author)) {
        this.#tally.add('operations of removed devices withdrawn');
        continue;
      }
      this.#tally.add('operations of others withdrawn');
      this.#withdrawn.set(operation, now);
    }
    for (const [operation, since] of this.#withdrawn) {
      if (!shown.has(operation)) continue;
      this.#tally.note('ticks until what was withdrawn is back', now - since);
      this.#withdrawn.delete(operation);
    }
  }
}
