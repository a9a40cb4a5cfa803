/**
 * Takes commits that the log has verified into the state: at once, or by running the pending operations again on top of
 * them (doc/concurrency.md, "Kernel caches" and "Committing"). The rules of a rebase are in `rebase-rules.ts`. `takeIn`
 * must not run twice at a time: the commit lock ensures that.
 */
import { assert } from '../base/assert.js';
import { toHex } from '../base/bytes.js';
import type { Logger } from '../base/logger.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { withPages } from '../base/page-fault.js';
import type { LogPosition } from '../commit/chain.js';
import type { Commit } from '../commit/commit.js';
import type { CommitLog } from '../commit/commit-log.js';
import type { LostWork } from '../commit/lost-work.js';
import type { Journal } from '../journal/journal.js';
import type { Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import { contextOf, executeRebased, type RebaseContext } from '../operation/rebase-rules.js';
import type { Renumbering } from '../operation/renumbering.js';
import type { ReadView } from '../operation/view.js';
import type { PackId } from '../pack/pack-id.js';
import type { TreeReader } from '../tree/tree-reader.js';
import type { ContentWriter } from './content-writer.js';
import { collectRoundsMax, type FrontEnds } from './front-ends.js';
import { areIndependent } from './independence.js';
import { type BaseReset, encodeDirtyEntry, encodeMovedEntry } from './journal-entry.js';
import { packsAgain, stateBefore, workAgain } from './lost-work.js';
import type { PendingOperation } from './pending-layers.js';
import { Renewal } from './renewal.js';
import { runAgain } from './replay.js';
import type { Staging } from './staging.js';
import type { VolumeChange } from './volume-change.js';
import { type Changes, changesOf } from './volume-change.js';
import type { Counters, RebaseRun, VolumeState } from './volume-state.js';

export interface ArrivalOptions {
  readonly state: VolumeState;
  readonly log: CommitLog;
  readonly journal: Journal;
  readonly writer: ContentWriter;
  /** See `committer.ts`. */
  readonly counters: Counters;
  readonly staging: Pick<Staging, 'nameAgain' | 'committed'>;
  readonly tree: TreeReader;
  readonly logger: Logger;
  readonly readOnly: boolean;
  /**
   * Makes the context of a rebase, whose rules give out numbers of `deviceIndex` and look at the state before it.
   */
  readonly rebaseContext: (deviceIndex: number, oldView: () => ReadView) => RebaseContext;
  /** From this instant on, what was pending has the numbers of a new identity. */
  readonly renewed: (numbers: Renumbering) => void;
  readonly frontEnds: FrontEnds;
  /** Makes the base entry that describes the present state, which is that at `position`, for the journal. */
  readonly baseEntry: (committedSerial: number, reset: BaseReset, position?: LogPosition) => Uint8Array;
}

type Replacement = (operation: Operation) => Promise<Operation>;

/**
 * From this round of a rebase on, writers to files that the commits changed wait: one that never paused would keep the
 * rebase from ending.
 */
const holdRound = 2;
/** A journal record is bounded, and so is the memory needed to make it. */
const recordBytes = 4 * 1024 * 1024;
/** At most this much dirty data is written into the journal once more, in one record. */
const repeatedMax = 16 * 1024 * 1024;
/** The length of a slice of synchronous work between two turns of the event loop. */
const sliceMs = 3;

/** To be asked between two steps of long synchronous work: a turn of the event loop, when one is due. */
function turns(): () => Promise<void> | undefined {
  let sliceStart = performance.now();
  return () => {
    if (performance.now() - sliceStart <= sliceMs) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        sliceStart = performance.now();
        resolve();
      });
    });
  };
}

export class Arrival {
  readonly #options: ArrivalOptions;
  /** Commits that the state does not hold yet. */
  readonly #commits: Commit[] = [];
  /** The state has what lost commits did as pending operations, and the journal could not say so. */
  #hasStepped = false;

  constructor(options: ArrivalOptions) {
    this.#options = options;
  }

  /** Adds commits that follow those added before and that the log's head counts. */
  add(commits: readonly Commit[]): void {
    this.#commits.push(...commits);
  }

  /**
   * Makes what lost commits did pending again, and all added commits part of the state. If this fails, the rest stay
   * for the next call. They wait while this device must enrol, since what is pending then needs new numbers first.
   */
  async takeIn(): Promise<void> {
    if (this.#options.log.hasLostWork && !this.#hasStepped) await this.#stepBack();
    if (this.#options.log.mustEnrol) return;
    if (this.#commits.length > 0 || this.#isRenewed) await this.#advance([...this.#commits]);
  }

  /** Runs what is pending again, with other operations in place of these that have the same effect. */
  async replace(replace: Replacement): Promise<void> {
    await this.#advance([...this.#commits], replace);
  }

  /** The packs that the added commits name. */
  get packs(): readonly PackId[] {
    return this.#commits.flatMap(({ packs }) => packs.map(({ id }) => id));
  }

  /** The index that what is pending should have. One that only reads has the next one, which it tells nobody. */
  get #deviceIndex(): number {
    const { log, counters } = this.#options;
    if (log.deviceIndex > 0 || counters.deviceIndex < 0) return log.deviceIndex;
    return log.members.length + 1;
  }

  /** Whether this installation has a new identity since what is pending was numbered. */
  get #isRenewed(): boolean {
    return this.#options.counters.deviceIndex !== this.#deviceIndex;
  }

  /** Runs again what lost commits did, on the state before them. What applications see stays the same. */
  async #stepBack(): Promise<void> {
    const { state, tree, log, counters, logger } = this.#options;
    const lostWork = await log.lostWork();
    assert(lostWork, 'work was lost');
    const earlier = stateBefore(tree, lostWork);
    const operations = workAgain(lostWork, state.operations);
    const pause = turns();
    for (let [done, seen] = [0, state.operationCount]; done < operations.length; done++) {
      await runAgain(earlier, operations[done]!, counters.deviceIndex);
      await pause();
      // Operations that arrive meanwhile run on the old state, are acknowledged, and are then handled here.
      for (; seen < state.operationCount; seen++) operations.push(state.operationAt(seen)!);
    }
    // No await from the last operation to here.
    state.stepBackTo(earlier);
    logger.info('the work of lost commits is pending again', { commits: lostWork.lost.length, operations: operations.length });
    await this.takeUp(lostWork);
  }

  /** Makes it durable that what lost commits did is pending, as it is in the state already. */
  async takeUp(lostWork: LostWork): Promise<void> {
    const { state, journal, staging, log, readOnly, baseEntry } = this.#options;
    const { before, lost, ownSerial } = lostWork;
    staging.nameAgain(packsAgain(lostWork));
    const hashes = new Set(lost.map(({ commit }) => toHex(commit.hash)));
    this.#commits.splice(0, Infinity, ...this.#commits.filter(({ hash }) => !hashes.has(toHex(hash))));
    this.#hasStepped = true;
    if (journal.failure || readOnly) return;
    this.#journal(state.operations, [baseEntry(ownSerial, 'rebase', before)]);
    await journal.sync();
    await log.forgetLostWork();
    this.#hasStepped = false;
  }

  /** Takes verified commits in: at once if no pending operation depends on them, otherwise by a rebase. */
  async #advance(commits: readonly Commit[], replace?: Replacement): Promise<void> {
    const { log, counters, staging } = this.#options;
    for (const own of commits.filter((commit) => commit.author === log.deviceId)) {
      // A crash may have lost the last values.
      counters.nextIno = Math.max(counters.nextIno, own.nextInoCounter);
      counters.serial = Math.max(counters.serial, own.operationSerial);
    }
    // Others may have named packs that lost commits named.
    staging.committed(commits.flatMap(({ packs }) => packs));
    const foreign = commits.filter((commit) => commit.author !== log.deviceId);
    const change = changesOf(foreign);
    try {
      await this.#advanceWith(commits, foreign, change, replace);
    } finally {
      this.#options.frontEnds.done(change);
    }
  }

  async #advanceWith(commits: readonly Commit[], foreign: readonly Commit[], change: Changes, replace: Replacement | undefined): Promise<void> {
    const { state, journal, writer, log, counters, frontEnds, baseEntry, readOnly } = this.#options;
    for (let round = 1; ; round++) {
      await this.#collect(change);
      // A commit of this device that came back from the log contains some of the pending operations, and one that
      // carries work may.
      const isDone = foreign.length < commits.length || state.operations.some((one) => log.isSettled(one));
      const stays = !replace && !this.#isRenewed && (state.operationCount === 0 || (!isDone && areIndependent(state, foreign, change)));
      if (!stays || touchesDirty(writer, change)) return this.#rebase(commits, change, replace);
      if (!this.#isCollected(change) && round < collectRoundsMax) continue;
      // No await from the check to here: dirty data in the kernel would be written on the new base, over the changes of
      // others.
      state.advance(commits);
      this.#commits.splice(0, commits.length);
      if (!readOnly && !journal.failure) journal.append(baseEntry(state.operationCount > 0 ? log.own.operationSerial : counters.serial, 'none'));
      frontEnds.changed(change);
      return undefined;
    }
  }

  /**
   * Collects what applications wrote to these files and the kernel still holds, while it is still based on what they
   * saw.
   */
  async #collect(change: VolumeChange): Promise<void> {
    if (change.contents.size > 0 && !this.#options.readOnly) await this.#options.frontEnds.collect(change);
  }

  #isCollected(change: VolumeChange): boolean {
    return this.#options.readOnly || this.#options.frontEnds.isCollected(change);
  }

  /**
   * Runs the pending operations again on top of `commits` (the log has decided the order), in slices, while
   * applications continue.
   */
  async #rebase(commits: readonly Commit[], change: Changes, replace: Replacement | undefined): Promise<void> {
    const { state, journal, writer, log, counters, frontEnds, logger, readOnly, baseEntry } = this.#options;
    for (let round = 1; ; round++) {
      if (round > 1 && round <= holdRound) await this.#collect(change);
      if (round === holdRound) frontEnds.hold(change);
      // Content based on what the others changed becomes operations, so that the rules see it.
      await writer.sealAll();
      const renewal = this.#isRenewed ? await this.#renew(commits) : undefined;
      const run = state.rebaseOnto(commits);
      const context = this.#options.rebaseContext(renewal?.deviceIndex ?? counters.deviceIndex, () => renewal?.oldView ?? state.view);
      const flyingCount = state.flyingOperations.length;
      let done = 0;
      const pause = turns();
      // Operations that arrive meanwhile run on the old state, are acknowledged, and are then handled here.
      for (; done < state.operationCount; done++) {
        const one = state.operationAt(done);
        const operation = renewal ? await renewal.operationAt(done) : one?.operation;
        if (one && operation && !log.isSettled(one))
          await this.#rebaseOne(run, done < flyingCount, { ...one, operation: replace ? await replace(operation) : operation }, context);
        await pause();
      }
      // No await from here to the end: the check, the journal and the state belong together.
      if (done < state.operationCount || touchesDirty(writer, change, renewal?.numbers.inodes)) continue;
      if (renewal && writer.journalledBytes > repeatedMax) continue;
      if (!this.#isCollected(change) && round < holdRound) continue;
      // Unchanged keys must not be reported: the kernel would take a directory away from processes whose cwd it is.
      for (const key of run.changed()) change.add(key);
      for (const { copy } of context.conflicts) if (copy) change.copies.push(copy);
      if (renewal) this.#finishRenewal(renewal, change);
      // Under a new identity, dirty data may have other numbers, too: what the journal holds of it is repeated.
      const dirty = renewal ? writer.journalled().map(encodeDirtyEntry) : [];
      if (!readOnly && !journal.failure)
        this.#journal(run.operations, [baseEntry(log.own.operationSerial, renewal ? 'renewal' : 'rebase'), ...dirty]);
      state.finishRebase(run);
      this.#commits.splice(0, commits.length);
      frontEnds.changed(change);
      for (const { code, ino } of context.conflicts) logger.warn('another device changed the same thing; nothing was overwritten', { code, ino });
      return;
    }
  }

  /** Gives what is pending the numbers of the new identity, in the result. */
  async #renew(commits: readonly Commit[]): Promise<Renewal> {
    const { state, counters, log } = this.#options;
    const [from, to] = [counters.deviceIndex, this.#deviceIndex];
    const renewal = new Renewal({ state, commits, from, to, landedSerial: log.landedSerial, pause: turns() });
    await renewal.catchUp();
    return renewal;
  }

  // No await in it: it belongs to the instant in which the state changes.
  #finishRenewal(renewal: Renewal, change: Changes): void {
    const { counters, writer, renewed, logger } = this.#options;
    counters.deviceIndex = renewal.deviceIndex;
    counters.nextIno += renewal.shift;
    counters.serial += renewal.shift;
    writer.renumber(renewal.numbers);
    renewed(renewal.numbers);
    change.copies.push(...renewal.copies);
    logger.info('what was pending has numbers of the new identity', { inodes: renewal.numbers.inodes.size });
  }

  /** Journals the results of the operations. They count as soon as the base entry is there, which comes last. */
  #journal(operations: readonly PendingOperation[], end: readonly (Uint8Array | readonly Uint8Array[])[]): void {
    const { journal } = this.#options;
    let [entries, bytes, isFirst]: [Uint8Array[], number, boolean] = [[], 0, true];
    for (const one of operations) {
      const entry = encodeMovedEntry(one, isFirst);
      isFirst = false;
      entries.push(entry);
      bytes += entry.byteLength;
      if (bytes < recordBytes) continue;
      journal.appendBatch(entries);
      [entries, bytes] = [[], 0];
    }
    journal.appendBatch([...entries, ...end]);
  }

  #rebaseOne(run: RebaseRun, flies: boolean, pending: PendingOperation, context: RebaseContext): MaybePromise<void> {
    const { carried } = pending;
    const author = carried && this.#options.log.members[carried.deviceIndex - 1]?.enrolment;
    const ofAuthor = author ? contextOf(context, author.deviceIndex, author.name) : context;
    return withPages(() => {
      const transaction = run.transaction();
      const { effective, delta } = executeRebased(transaction, pending.operation, ofAuthor);
      if (transaction.changes.count === 0) return;
      // It keeps its name, whatever becomes of it.
      const operations = effective.map((operation) => ({ ...pending, operation }));
      run.add(flies, operations, transaction.changes, delta);
    });
  }
}

/** Whether a file with dirty data here was changed there; those that get another number are other files. */
function touchesDirty(writer: ContentWriter, change: VolumeChange, renumbered?: ReadonlySet<Ino>): boolean {
  const dirty = writer.inos();
  for (const ino of dirty) if (change.inodes.has(ino) && !renumbered?.has(ino)) return true;
  return false;
}
