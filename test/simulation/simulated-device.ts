/** What the scenario asks of a device, whichever policy it follows, and what each of them is given. */
import type { OperationId, SimulatedCommit } from './simulated-commit.js';
import type { Folder } from './synced-folders.js';
import type { Tally } from './tally.js';

/** Where a device dies during a step: before it puts the commit that it has made, or right after that. */
export type CrashPoint = 'before-put' | 'after-put';

export interface SimulatedDevice {
  readonly index: number;
  /** Its newest commit; `undefined`: the genesis. */
  readonly head: SimulatedCommit | undefined;
  /** The commits up to its head that count, ascending. */
  readonly history: readonly SimulatedCommit[];
  /** The commits of others and its own that it has accepted at some time, and that may count. */
  readonly known: Iterable<SimulatedCommit>;
  /** Operations, or records, of its own that are not in its history. */
  readonly hasPending: boolean;
  /** It has found a history that it will not follow unless a person says so. */
  readonly isStopped: boolean;
  /** It was removed from the volume and knows. */
  readonly isRemoved: boolean;
  /** Acknowledges an operation of its own. */
  append(operation: OperationId): void;
  /** Looks at the folder, follows, and puts a commit when there is something to put and it may. */
  step(now: number, mayCommit: boolean, crash?: CrashPoint): void;
  /** Starts again with what is on its disk. */
  restart(): void;
  /** A person answers the stop: the history of the folder is taken. */
  rejoin(now: number): void;
  /** A person removes another device here. */
  remove(device: number): void;
}

export interface DeviceParts {
  readonly index: number;
  readonly folder: Folder;
  /** The devices of the volume from its beginning; others admit themselves. */
  readonly founders: readonly number[];
  readonly newId: () => number;
  readonly tally: Tally;
}

/** One commit takes at most so many operations. */
export const operationsPerCommitMax = 8;
/** How long a device waits before it mends what another one should mend. */
export const graceTicks = 20;

/** Counts how often operations were put, beyond the first time. */
export class PutCounter {
  readonly #counts = new Map<OperationId, number>();
  readonly #tally: Tally;

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  put(operations: readonly OperationId[]): void {
    for (const operation of operations) {
      const again = this.#counts.get(operation) ?? 0;
      this.#counts.set(operation, again + 1);
      if (again === 0) continue;
      this.#tally.add('operations put again');
      this.#tally.maxima.set('times one operation was put again', Math.max(this.#tally.max('times one operation was put again'), again));
    }
  }
}
