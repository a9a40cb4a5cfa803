/**
 * Runs queries and operations of an open volume: each runs synchronously over the layers, at one instant, and runs
 * again from its start if it met a page that is not in memory or had to wait its turn (doc/concurrency.md, "One
 * instant"). It commits nothing: `committer.ts` does.
 */
import { assert } from '../base/assert.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { type PageFault, withPages } from '../base/page-fault.js';
import type { Journal } from '../journal/journal.js';
import { type ContentStamp, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type Ino, makeIno } from '../meta/key.js';
import { type Operation, OperationError } from '../operation/operation.js';
import { execute, recordBase } from '../operation/operation-execute.js';
import { hasOtherNumbers, type Renumbering } from '../operation/renumbering.js';
import type { ReadView } from '../operation/view.js';
import type { Committer } from './committer.js';
import type { ContentWriter } from './content-writer.js';
import type { Announcement, FrontEnd, FrontEnds } from './front-ends.js';
import { encodeOperationEntry } from './journal-entry.js';
import type { Patience } from './patience.js';
import type { Plan } from './plan.js';
import { Turn } from './turn.js';
import type { UploadQueue } from './upload-queue.js';
import { changesBy, rewrittenBy } from './volume-change.js';
import { VolumeError } from './volume-error.js';
import type { Counters, VolumeState } from './volume-state.js';

export interface TransactionsOptions {
  readonly state: VolumeState;
  readonly journal: Journal;
  readonly counters: Counters;
  readonly writer: ContentWriter;
  readonly committer: Committer;
  readonly queue: UploadQueue;
  readonly patience: Patience;
  readonly frontEnds: FrontEnds;
  readonly readOnly: boolean;
}

export class Transactions {
  readonly #options: TransactionsOptions;
  #isClosed = false;
  /** The newest one. */
  #renumbering: Renumbering | undefined;

  constructor(options: TransactionsOptions) {
    this.#options = options;
  }

  /** Like {@link Volume.read}, with errors of the layers below. */
  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    const { committer, state } = this.#options;
    committer.used();
    return withPages(() => query(state.view), this.#load);
  }

  /** Like {@link Volume.transact}, through the front end `by`, with errors of the layers below. */
  transact<T>(plan: Plan<T>, by: FrontEnd): MaybePromise<T> {
    const announcement = this.#options.frontEnds.announce(by);
    const { deviceIndex } = this.#options.counters;
    const outcome = withPages(() => this.#attempt(plan, false, announcement, deviceIndex), this.#load);
    // Nothing was collected if it completed at once.
    return announcement && outcome instanceof Promise ? outcome.finally(() => announcement.done()) : outcome;
  }

  apply(operation: Operation, by: FrontEnd): MaybePromise<void> {
    return this.transact(() => ({ operation, result: undefined }), by);
  }

  /** Applies an operation that holds sealed content. It must not wait for itself, and changes nothing visible. */
  applySealed(operation: Operation): MaybePromise<void> {
    const { deviceIndex } = this.#options.counters;
    return withPages(() => this.#attempt(() => ({ operation, result: undefined }), true, undefined, deviceIndex), this.#load);
  }

  allocateIno(): Ino {
    const { counters } = this.#options;
    return makeIno(counters.deviceIndex, counters.nextIno++);
  }

  get nextIno(): Ino | undefined {
    const { deviceIndex, nextIno } = this.#options.counters;
    return deviceIndex < 0 ? undefined : makeIno(deviceIndex, nextIno);
  }

  nextStamp(): ContentStamp {
    const { counters } = this.#options;
    return { deviceIndex: counters.deviceIndex, counter: ++counters.serial };
  }

  /** Throws VolumeError `READ_ONLY`, `FENCED` or `CLOSED` when nothing may be changed. */
  requireWritable(): void {
    this.#requireWritable(false);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Refuses changes from now on. */
  close(): void {
    this.#isClosed = true;
  }

  /** What was pending has the numbers of a new identity from now on. */
  renewed(numbers: Renumbering): void {
    this.#renumbering = numbers;
  }

  // No await within: what the plan saw is what the operation changes.
  #attempt<T>(plan: Plan<T>, sealing: boolean, announcement: Announcement | undefined, begunAs: number): T {
    const { state, journal, counters, writer, committer } = this.#options;
    const { deviceIndex } = counters;
    const { operation: planned, result } = plan(state.view);
    if (!planned) return result;
    const operation = begunAs === deviceIndex ? planned : this.#renumbered(planned, sealing);
    this.#requireWritable(sealing);
    if (!sealing) this.#awaitTurn(operation);
    announcement?.awaitCollected(rewrittenBy(operation));
    const recorded = recordBase(state.view, operation);
    const transaction = state.transaction();
    const delta = execute(transaction, recorded, deviceIndex);
    if (transaction.changes.count === 0) return result;
    const serial = counters.serial + 1;
    // Even with a failed journal, content accepted earlier can still be sealed and put into the store.
    if (!sealing || !journal.failure) journal.append(encodeOperationEntry(serial, recorded));
    counters.serial = serial;
    state.apply({ serial, operation: recorded }, transaction.changes, delta);
    writer.applied(recorded);
    announcement?.changed(changesBy(recorded, transaction.changes.keys()));
    committer.changed();
    return result;
  }

  /**
   * An operation that had to wait while this installation got a new identity. Throws ESTALE when the caller knows a
   * number that has changed: the kernel then looks the names up again.
   */
  #renumbered(planned: Operation, sealing: boolean): Operation {
    assert(this.#renumbering, 'the index changes with the numbers');
    const operation = this.#renumbering.renumber(planned);
    if (!sealing && hasOtherNumbers(planned, operation)) throw new OperationError('ESTALE', 'the inode has another number now');
    return operation;
  }

  /** Throws a PageFault whose load is the wait that the operation needs. */
  #awaitTurn(operation: Operation): void {
    const { committer, queue, writer } = this.#options;
    // An operation that frees space must never wait for space.
    const room = operation.type === 'reclaim' ? undefined : committer.room();
    // The kernel accepts writes that we would have to refuse later, when no application would notice. The operations
    // that precede them are refused instead.
    const isBeginning =
      (operation.type === 'create' && (operation.mode & S_IFMT) === S_IFREG) || (operation.type === 'setattr' && operation.size !== undefined);
    if (isBeginning && queue.isHopeless) throw new VolumeError('FULL', 'too much waits for the store, and it takes nothing');
    if (room) throw new Turn(() => queue.patiently(room));
    switch (operation.type) {
      case 'setattr': {
        const busy = operation.size === undefined ? undefined : writer.sealing(operation.ino);
        if (busy) throw new Turn(() => busy);
        break;
      }
      case 'fallocate':
        this.#awaitSealed(operation.ino);
        break;
      case 'clone':
        this.#awaitSealed(operation.from);
        this.#awaitSealed(operation.to);
        break;
      default:
    }
  }

  #awaitSealed(ino: Ino): void {
    const { writer } = this.#options;
    if (writer.get(ino)) throw new Turn(() => writer.seal(ino));
  }

  readonly #load = (fault: PageFault): Promise<unknown> => (fault instanceof Turn ? fault.load() : this.#options.patience.wait(fault.load()));

  #requireWritable(sealing: boolean): void {
    const { readOnly, committer, journal } = this.#options;
    if (readOnly) throw new VolumeError('READ_ONLY', 'the volume is mounted read-only');
    if (committer.failure) throw committer.failure;
    const cause = journal.failure;
    if (cause && !sealing) throw new VolumeError('READ_ONLY', 'the local disk failed: the volume is read-only until it is opened again', { cause });
    if (this.#isClosed) throw new VolumeError('CLOSED', 'the volume is being unmounted');
  }
}
