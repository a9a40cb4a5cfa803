/**
 * What is pending, under the new identity of this installation, for the rebase that takes in what another installation
 * wrote under the former one (doc/concurrency.md, "One identity, two installations"). It changes no state: `arrival.ts`
 * does, at the end of that rebase.
 */
import { withPages } from '../base/page-fault.js';
import type { Commit } from '../commit/commit.js';
import { counterOf, type Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import { execute } from '../operation/operation-execute.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';
import { Renumbering } from '../operation/renumbering.js';
import type { ReadView } from '../operation/view.js';
import { DoneInodes } from './done-inodes.js';
import type { PendingOperation } from './pending-layers.js';
import { numbersIn, stampOf } from './replay.js';
import type { RebaseRun, VolumeState } from './volume-state.js';

export interface RenewalOptions {
  readonly state: VolumeState;
  /** What is taken in. */
  readonly commits: readonly Commit[];
  /** The index of the former identity, and that of the new one. */
  readonly from: number;
  readonly to: number;
  /** Operations up to this serial are in the log, with their own numbers. */
  readonly landedSerial: number;
  /** Called between two operations: long work gets a turn of the event loop there. */
  readonly pause: () => Promise<void> | undefined;
}

/** Counters grow by multiples of this: there is room below for what is given out meanwhile. */
const shiftUnit = 2 ** 20;

/**
 * What must be added to counters, if another device had the index in a history that was left: what it brought in there
 * may be carried, and has numbers of that index.
 */
function shiftOver(operations: readonly PendingOperation[], index: number): number {
  let end = 0;
  for (const { operation, carried } of operations) {
    if (carried?.deviceIndex !== index) continue;
    end = Math.max(end, stampOf(operation) + 1, ...numbersIn(operation).map((number) => counterOf(number) + 1));
  }
  return Math.ceil(end / shiftUnit) * shiftUnit;
}

export class Renewal {
  readonly numbers: Renumbering;
  readonly deviceIndex: number;
  /** What is added to the counters. */
  readonly shift: number;
  readonly #options: RenewalOptions;
  readonly #done: DoneInodes;
  /** Operations that were pending when `#done` was decided. */
  readonly #knownCount: number;
  /** The present state with the new numbers. */
  readonly #run: RebaseRun;
  /** By their place among the pending ones; `undefined`: it is in the log. */
  readonly #operations: (Operation | undefined)[] = [];

  constructor(options: RenewalOptions) {
    const { state, commits, from, to, landedSerial } = options;
    this.#options = options;
    this.shift = shiftOver(state.operations, to);
    this.numbers = new Renumbering(from, to, this.shift);
    this.deviceIndex = to;
    this.#run = state.rebaseOnto([]);
    this.#knownCount = state.operationCount;
    this.#done = new DoneInodes(state, commits, landedSerial);
  }

  /** What applications see, with the new numbers. */
  get oldView(): ReadView {
    return this.#run.transaction();
  }

  /** Renumbers all that is pending now. */
  async catchUp(): Promise<void> {
    const { state } = this.#options;
    while (this.#operations.length < state.operationCount) {
      await this.#add(this.#operations.length);
      await this.#options.pause();
    }
  }

  /** `undefined`: it is in the log. */
  async operationAt(index: number): Promise<Operation | undefined> {
    // The rules look at the state after all operations.
    if (index >= this.#operations.length) await this.catchUp();
    return this.#operations[index];
  }

  async #add(index: number): Promise<void> {
    const { state, landedSerial, to } = this.#options;
    const one = state.operationAt(index);
    if (!one) return;
    const isDone = one.serial <= landedSerial || (index < this.#knownCount && this.#done.contain(one.operation));
    const hasLanded = !one.carried && isDone;
    const operation = hasLanded ? one.operation : this.#renumbered(one);
    await withPages(() => {
      const transaction = this.#run.transaction();
      const delta = execute(transaction, operation, one.carried?.deviceIndex ?? to);
      this.#run.add(false, [], transaction.changes, delta);
    });
    this.#operations.push(hasLanded ? undefined : operation);
  }

  #renumbered({ operation, carried }: PendingOperation): Operation {
    return carried ? this.numbers.follow(operation) : this.numbers.renumber(operation);
  }

  /** For front ends: who uses an inode by its former number keeps using it. */
  get copies(): ConflictCopy[] {
    const unknown = { parent: undefined, name: '', isLinked: true };
    return Array.from(this.numbers.inodes, (ino: Ino) => ({ ino, copy: this.numbers.ino(ino), ...unknown }));
  }
}
