/**
 * The background half of an open volume: puts operations into the commit log and hands the commits of others to
 * `arrival.ts`. One lock guards all of it, so only one commit, rebase or checkpoint runs at a time. It changes the
 * state only through `volume-state.ts` and knows nothing about files (doc/concurrency.md, "Committing").
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { Lock } from '../base/lock.js';
import { type Logger } from '../base/logger.js';
import { withPages } from '../base/page-fault.js';
import type { LogPosition } from '../commit/chain.js';
import type { Commit, CommitDraft, CommitPack, Mutation } from '../commit/commit.js';
import { CommitError } from '../commit/commit-error.js';
import type { CommitLog } from '../commit/commit-log.js';
import type { LostWork } from '../commit/lost-work.js';
import type { LogRecord } from '../commit/record.js';
import type { Journal } from '../journal/journal.js';
import { collectedKey, packEntryKey, type TreeKey } from '../meta/key.js';
import { broughtContent } from '../operation/operation.js';
import type { Overlay } from '../operation/overlay.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackSource } from '../pack/pack-source.js';
import type { ObjectStore } from '../store/object-store.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { applyBatch, rewrite, type TreeChange } from '../tree/tree-writer.js';
import { Arrival, type ArrivalOptions } from './arrival.js';
import { ContentMove } from './content-move.js';
import type { ContentWriter } from './content-writer.js';
import type { FrontEnds } from './front-ends.js';
import { type BaseReset, encodeBaseEntry } from './journal-entry.js';
import { LogWatch, type PollPace } from './log-watch.js';
import type { PendingOperation } from './pending-layers.js';
import { isStoreUnusable } from './remedy.js';
import type { Staging } from './staging.js';
import { VolumeError } from './volume-error.js';
import type { Counters, FoldBounds, VolumeState } from './volume-state.js';
import { encodeWork } from './work-codec.js';

export interface CommitterOptions {
  readonly state: VolumeState;
  readonly log: CommitLog;
  readonly journal: Journal;
  readonly staging: Staging;
  readonly writer: ContentWriter;
  readonly tree: TreeReader;
  readonly packs: Pick<PackSource, 'readRun'>;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly readOnly: boolean;
  /** A commit is made this long after the first change. */
  readonly commitDelayMs: number;
  /** The log is polled at `pace` unless the store can wait for the next commit itself. */
  readonly store: Pick<ObjectStore, 'awaitObject'>;
  readonly pace: PollPace;
  /**
   * A device that has committed nothing for this long puts an empty commit, so that others see it is alive. Infinity:
   * never.
   */
  readonly heartbeatMs: number;
  readonly foldBounds: FoldBounds;
  /** Applications wait while operations of more than this many bytes are not committed. */
  readonly pendingBytesMax: number;
  /** For so long, a next commit that is not whole is one that still comes. */
  readonly graceMs: number;
  /** The drive has concluded that the store cannot be reached; `retrySoon` is called when it answers again. */
  readonly isOffline: () => boolean;
  /** Makes the context of a rebase, whose rules allocate inodes and look at the old state. */
  readonly rebaseContext: ArrivalOptions['rebaseContext'];
  readonly renewed: ArrivalOptions['renewed'];
  readonly frontEnds: FrontEnds;
  /** Called after each round of background work, however it ended. */
  readonly onRound: () => void;
}

/** What a commit that brings no operations changes. */
export interface Decision {
  readonly mutations?: readonly Mutation[];
  readonly records?: readonly LogRecord[];
}

export const foldEntriesMax = 60_000;
const foldCommitsDefault = 500;
const recentBytesFactor = 3;

/** With more pending operations than this, a commit starts without waiting for the delay. */
const pendingOperationsSoon = 20_000;
/** With more pending operations than this, applications wait: the store is slower than they are. */
const pendingOperationsMax = 100_000;
const retryDelayMaxMs = 30_000;
/** The background checks that the store still has what it had at most this often, and at most once in so many polls. */
const checkIntervalMs = 60_000;
const pollsPerCheck = 8;

export class Committer {
  readonly #options: CommitterOptions;
  readonly #lock = new Lock();
  readonly #stop = new AbortController();
  readonly #watch: LogWatch;
  #loop: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  /** Ends the pause before the next retry. */
  #pause = new AbortController();
  #dirtySinceMs: number | undefined;
  #soon = false;
  /** The next commit of another device may be in the store. */
  #hinted = false;
  #polledMs: number;
  #checkedMs: number;
  #beatMs: number;
  /** Since when the next commit is in the store and cannot be read. */
  #incompleteSinceMs: number | undefined;
  #failure: VolumeError | undefined;
  /** The last error of the background loop; cleared when a round succeeds. */
  #lastError: unknown;
  #roomWaiters: (() => void)[] = [];
  #lastCommitMs: number | undefined;
  readonly #arrival: Arrival;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#arrival = new Arrival({
      ...options,
      baseEntry: (committedSerial, reset, position) => this.#baseEntry(committedSerial, reset, position),
    });
    const { store, log, clock, logger, pace } = options;
    this.#polledMs = this.#checkedMs = clock.monotonicMs();
    // After a start the newest commit of this device counts, even if another process made it.
    this.#beatMs = log.signOfLifeMs(log.deviceId) ?? clock.now().sec * 1000;
    this.#watch = new LogWatch({
      store,
      nextKey: () => log.nextKey,
      clock,
      logger,
      pace,
      onHint: (isThere) => {
        this.#hinted ||= isThere;
        this.#wake?.();
      },
    });
  }

  /**
   * `arrived`: commits that the log's head already counts. They are part of the state when this resolves, before
   * anything is put; if that needs a store that does not answer, they are taken in later. Rejects with any other error
   * that prevents it.
   */
  async start(arrived: readonly Commit[]): Promise<void> {
    this.#arrival.add(arrived);
    await this.#lock.run(async () => {
      try {
        // What a copy of this installation has put under the name of a pack that is staged here may be in the state.
        await this.#meet(await this.#stagedOfOthers());
        await this.#takeIn(undefined);
      } catch (error) {
        const judged = this.#judge(error);
        if (!isStoreUnusable(judged)) throw judged;
        this.#options.logger.warn('commits of others wait for the store', { commits: arrived.length, reason: describeError(error) });
      }
    });
    await this.#catchUp();
    this.#watch.start();
    this.#loop = this.#run();
  }

  /** Nothing old is shown when the store shows something newer. */
  async #catchUp(): Promise<void> {
    const { log, isOffline, logger } = this.#options;
    const { sequence: first } = log.head;
    try {
      for (let before: number | undefined; !isOffline() && log.freshness !== 'offline' && before !== log.head.sequence; ) {
        before = log.head.sequence;
        await this.#exclusively(() => this.#poll(this.#stop.signal));
      }
      if (log.head.sequence > first) logger.info('caught up with the log', { from: first, to: log.head.sequence });
    } catch (error) {
      if (!isStoreUnusable(error)) throw error;
      logger.warn('the newest commits wait for the store', { reason: describeError(error) });
    }
  }

  /** After a start: see {@link Arrival.takeUp}. Rejects with disk errors. */
  takeUp(lostWork: LostWork): Promise<void> {
    return this.#arrival.takeUp(lostWork);
  }

  /** Called when the store answers again: ends the pause before the next retry. */
  retrySoon(): void {
    this.#pause.abort();
  }

  /** Called when applications use the volume. */
  used(): void {
    this.#watch.used();
  }

  /** Set after an integrity stop: nothing is written from then on. */
  get failure(): VolumeError | undefined {
    return this.#failure;
  }

  /** The history does not fit: what this device knows may not be all that there is. */
  get hasStopped(): boolean {
    return this.#failure?.cause instanceof CommitError && !refusals.has(this.#failure.cause.code);
  }

  /** Why the last round failed, if it did. */
  get lastError(): unknown {
    return this.#lastError;
  }

  get lastCommitMs(): number | undefined {
    return this.#lastCommitMs;
  }

  /** Called after a change: a commit will follow. */
  changed(): void {
    if (this.#dirtySinceMs !== undefined && this.#options.state.pendingCount < pendingOperationsSoon) return;
    this.#dirtySinceMs ??= this.#options.clock.monotonicMs();
    this.#soon ||= this.#options.state.pendingCount >= pendingOperationsSoon;
    this.#wake?.();
  }

  /** Undefined when there is room for one more operation; otherwise resolves when there may be. */
  room(): Promise<void> | undefined {
    const { state } = this.#options;
    if (state.operationCount < pendingOperationsMax && state.pendingBytes < this.#options.pendingBytesMax) return undefined;
    this.#soon = true;
    this.#wake?.();
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /**
   * Commits until everything that was acknowledged before the call is in the store. Rejects if the store cannot be
   * reached or refuses.
   */
  async flush(signal?: AbortSignal): Promise<void> {
    // The first commit may have begun before the call; a second one then holds the rest.
    const target = this.#options.counters.serial;
    for (;;) {
      signal?.throwIfAborted();
      await this.#exclusively(() => this.#commit(signal));
      const oldest = this.#options.state.operations.find(({ carried }) => !carried);
      if (!oldest || oldest.serial > target) return;
    }
  }

  /**
   * The newest checkpoint, written first if files have changed since the last one, or there are `rewritten` keys
   * (ascending), to which the pages are written again. Rejects as `flush` does.
   */
  async checkpoint(signal?: AbortSignal, rewritten: readonly TreeKey[] = []): Promise<Commit | undefined> {
    const { log, state } = this.#options;
    await this.#exclusively(async () => {
      if (this.#failure) throw this.#failure;
      try {
        await this.#takeIn(signal);
        const isNewest = log.lastCheckpoint?.checkpoint?.covers === state.covers && !hasFileKeys(state.committed);
        if (!isNewest || rewritten.length > 0) await this.#checkpoint(signal, rewritten);
      } catch (error) {
        throw this.#judge(error);
      }
    });
    return log.lastCheckpoint;
  }

  /** Whether files may have changed since that commit. */
  hasChangedSince(sequence: number): boolean {
    const { state, writer } = this.#options;
    return state.covers > sequence || state.operationCount > 0 || writer.bytes > 0 || hasFileKeys(state.committed);
  }

  /** Looks for commits of others now. */
  poll(signal?: AbortSignal): Promise<void> {
    return this.#exclusively(() => this.#poll(signal));
  }

  /**
   * Puts a commit with the changes that `decide` makes of the committed state, as the commit with the number `next`: no
   * other comes in between. Without changes there is none. `decide` may be called again. Rejects as `flush` does, and
   * as `decide` does.
   */
  async change(decide: (next: number) => Promise<Decision>, signal?: AbortSignal): Promise<Commit | undefined> {
    const { state, log, journal, clock } = this.#options;
    let commit: Commit | 'lost' = 'lost';
    await this.#exclusively(async () => {
      try {
        for (;;) {
          await this.#takeIn(signal);
          const { mutations = [], records = [] } = await decide(log.head.sequence + 1);
          if (mutations.length === 0 && records.length === 0) return;
          // What is buried may be pages of older trees: this device never starts from those again.
          await this.#trimJournal(log.own.operationSerial, undefined);
          const draft = { ...this.#emptyDraft(clock.now().sec * 1000), packs: [], checkpoint: undefined, mutations };
          commit = await log.put(draft, signal, [], records);
          if (commit !== 'lost') break;
          await this.#poll(signal);
        }
        state.advance([commit]);
        if (!journal.failure) this.journalBase();
      } catch (error) {
        throw this.#judge(error);
      }
    });
    return commit === 'lost' ? undefined : commit;
  }

  /** Ends the background work. Pending operations stay in the journal. */
  async stop(): Promise<void> {
    this.#stop.abort(new VolumeError('CLOSED', 'the volume is being closed'));
    this.#wake?.();
    await this.#watch.stop();
    await this.#loop;
    await this.#lock.run(() => {});
  }

  /** Runs one section at a time. When the head moves, the watch must wait for the next commit instead. */
  #exclusively(section: () => Promise<void>): Promise<void> {
    return this.#lock.run(async () => {
      const before = this.#options.log.head.sequence;
      try {
        await section();
      } finally {
        if (this.#options.log.head.sequence !== before) this.#watch.moved();
      }
    });
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted && !this.#failure) {
      // After a failure the delay is kept, whatever is requested meanwhile.
      if (failures > 0) {
        this.#pause = new AbortController();
        const pauseMs = Math.min(retryDelayMaxMs, 500 * 2 ** Math.min(failures, 10));
        await clock.sleep(pauseMs, AbortSignal.any([signal, this.#pause.signal])).catch(() => {});
      } else {
        const waitMs = this.#dueInMs();
        if (waitMs > 0) {
          await this.#waitFor(waitMs, signal);
          continue;
        }
      }
      if (signal.aborted) return;
      try {
        await this.#exclusively(() => this.#round(signal));
        if (failures > 0) logger.info('the store answers again');
        failures = 0;
        this.#lastError = undefined;
      } catch (error) {
        if (signal.aborted) return;
        this.#lastError = error;
        if (failures++ === 0) logger.warn('committing failed, will be tried again', { reason: describeError(error) });
      }
      this.#options.onRound();
    }
  }

  /** Milliseconds until the next round; 0 or less means now. */
  #dueInMs(): number {
    if (this.#hinted) return 0;
    return Math.min(this.#commitInMs(), this.#polledMs + this.#watch.pauseMs() - this.#options.clock.monotonicMs());
  }

  #commitInMs(): number {
    if (this.#options.readOnly) return Number.POSITIVE_INFINITY;
    if (this.#soon) return 0;
    return this.#dirtySinceMs === undefined
      ? Number.POSITIVE_INFINITY
      : this.#dirtySinceMs + this.#options.commitDelayMs - this.#options.clock.monotonicMs();
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { clock, readOnly, heartbeatMs } = this.#options;
    this.#hinted = false;
    if (this.#commitInMs() <= 0) await this.#commit(signal);
    else {
      const now = clock.monotonicMs();
      const checks = now - this.#checkedMs >= Math.max(checkIntervalMs, pollsPerCheck * this.#watch.pauseMs(now));
      if (checks) this.#checkedMs = now;
      await this.#poll(signal, { checkStore: checks, checkHole: !this.#watch.isResting(now) });
      // The wall clock may have been set back, hence `abs`.
      const restMs = Math.abs(clock.now().sec * 1000 - this.#beatMs);
      if (!readOnly && restMs >= heartbeatMs && this.#dirtySinceMs === undefined) await this.#beat(signal);
    }
    this.#polledMs = clock.monotonicMs();
  }

  /** Sleeps, but wakes up when there is something to do sooner. */
  async #waitFor(delayMs: number, signal: AbortSignal): Promise<void> {
    const wake = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const nap = new AbortController();
    await Promise.race([wake, this.#options.clock.sleep(delayMs, AbortSignal.any([signal, nap.signal])).catch(() => {})]);
    this.#wake = undefined;
    nap.abort();
  }

  async #poll(signal: AbortSignal | undefined, how?: Parameters<CommitLog['poll']>[1]): Promise<void> {
    try {
      // The log steps back once more only when the state has followed.
      if (this.#options.log.hasLostWork) await this.#takeIn(signal);
      this.#arrival.add(await this.#options.log.poll(signal, how));
      this.#incompleteSinceMs = undefined;
      await this.#takeIn(signal);
      // What lost commits did waits for the next one.
      if (this.#options.state.pendingCount > 0) this.changed();
    } catch (error) {
      throw this.#judge(error);
    }
  }

  /** With a new identity this device enrols first, so that what is pending can have numbers of it. */
  async #takeIn(signal: AbortSignal | undefined): Promise<void> {
    const { log } = this.#options;
    while (log.mustEnrol) {
      const commit = await log.enrol(signal);
      this.#arrival.add(commit === 'lost' ? await log.poll(signal) : [commit]);
    }
    // Two copies of one installation may have filled packs under the same name: ours gets its own before theirs is
    // read.
    await this.#meet(this.#arrival.packs, signal);
    await this.#arrival.takeIn();
  }

  /** Others have named these packs. */
  async #meet(packs: readonly PackId[], signal?: AbortSignal): Promise<void> {
    if (this.#options.readOnly) return;
    await this.#options.staging.meet(packs, signal);
    await this.#leaveTakenPacks();
  }

  /** Staged packs that commits name. */
  async #stagedOfOthers(): Promise<PackId[]> {
    const { staging, state } = this.#options;
    const named: PackId[] = [];
    for (const id of staging.waiting) if (await withPages(() => state.committedValue(packEntryKey(id)))) named.push(id);
    return named;
  }

  /** Moves the content of pending operations out of packs that cannot get into the store. */
  async #leaveTakenPacks(): Promise<void> {
    const { staging, packs, state, logger } = this.#options;
    const { taken } = staging;
    if (taken.size === 0) return;
    const move = new ContentMove(taken, packs, staging);
    // A conflict copy that this makes shares the content where it was.
    do await this.#arrival.replace((operation) => move.moved(operation));
    while ([...packsOf(state.operations)].some((id) => taken.has(id)));
    staging.releaseTaken();
    logger.warn('another installation has put packs under the names of ours; what is in ours goes into new ones', { packs: taken.size });
  }

  /**
   * Nothing new may refer to a pack that is being collected (doc/collecting.md): moves what pending operations have in
   * one into packs of their own.
   */
  async #leaveCollectedPacks(): Promise<void> {
    const { staging, packs, state, logger } = this.#options;
    for (;;) {
      const collected = new Set<PackId>();
      for (const id of packsOf(state.operations)) if (!staging.holds(id) && (await withPages(() => isCollected(state, id)))) collected.add(id);
      if (collected.size === 0) return;
      const move = new ContentMove(collected, packs, staging, (ino, bytes) => {
        logger.error('content that an operation of this device needs was collected, and reads as zeros', { ino, bytes });
      });
      await this.#arrival.replace((operation) => move.moved(operation));
      logger.info('content of pending operations was taken out of packs that are collected', { packs: collected.size });
    }
  }

  async #commit(signal: AbortSignal | undefined): Promise<void> {
    const { state, journal, writer, clock } = this.#options;
    if (this.#failure) throw this.#failure;
    this.#soon = false;
    this.#dirtySinceMs = undefined;
    try {
      if (this.#options.isOffline() && (state.operationCount > 0 || writer.bytes > 0)) await this.#saveLocally();
      for (let left = 0; ; ) {
        // The log's head already counts the arrived commits, so they must be part of the state before anything is put.
        await this.#takeIn(signal);
        // Once everything is sealed, the dirty data that the journal holds before this point is in operations.
        const cut = journal.end;
        await writer.sealAll();
        await this.#leaveCollectedPacks();
        if (state.pendingCount === 0) break;
        // Operations that are added from now on wait for the next commit.
        if (left === 0) left = state.pendingLayers;
        state.freeze();
        try {
          if (await this.#putFlight(cut, signal)) left--;
        } finally {
          // If the outcome is unknown, the flying operations become pending again; the next poll finds out what the log
          // holds.
          state.thaw();
        }
        if (left === 0) break;
        await this.#foldWhenLarge(signal);
      }
      await this.#foldWhenLarge(signal);
      if (state.pendingCount > 0) this.#dirtySinceMs ??= clock.monotonicMs();
    } catch (error) {
      if (state.operationCount > 0 || writer.bytes > 0) this.#dirtySinceMs ??= clock.monotonicMs();
      throw this.#judge(error);
    }
  }

  /**
   * Puts the flying operations into the log. When it loses the race, it rebases them and retries without the operations
   * written meanwhile, which keeps the time between two tries short. Returns false when the rebase left nothing of
   * them. `cut`: the journal's end before everything was sealed.
   */
  async #putFlight(cut: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { state, log, staging, counters, clock } = this.#options;
    // Once the commit is visible, this device must not forget what it holds, or it would give out the same inode
    // numbers again.
    const syncJournal = (): Promise<void> => this.#syncJournal();
    // If one commit cannot hold everything, packs that only later commits need are uploaded with those.
    const isAll = state.pendingCount === 0;
    const upload = (): ReturnType<Staging['upload']> => staging.upload(signal, isAll ? undefined : packsOf(state.flyingOperations));
    let [packs] = await Promise.all([upload(), syncJournal(), log.checkAroundHead(signal)]);
    packs = await this.#uploadAgain(packs, upload);
    for (let { flight } = state; flight; flight = state.flight) {
      const { mutations, delta } = flight;
      const serial = Math.max(flight.serial, log.own.operationSerial);
      const draft: CommitDraft = {
        wallTimeMs: clock.now().sec * 1000,
        nextInoCounter: counters.nextIno,
        operationSerial: serial,
        filesDelta: delta.files,
        bytesDelta: delta.bytes,
        packs,
        checkpoint: undefined,
        mutations,
      };
      const commit = await log.put(draft, signal, encodeWork(state.flyingOperations, counters.deviceIndex));
      if (commit !== 'lost') {
        state.land(commit.sequence, flight, packs);
        staging.committed(packs);
        this.#lastCommitMs = this.#beatMs = draft.wallTimeMs;
        this.#wakeRoomWaiters();
        // The journal before the cut is still needed for operations that did not fly.
        await this.#trimJournal(serial, isAll ? cut : undefined);
        // The journal could not take it.
        if (log.hasLostWork) await log.forgetLostWork();
        await staging.release(packsOf(state.operations));
        return true;
      }
      await this.#poll(signal);
      // A conflict copy holds the newest content of its file, which may be newer than the flying operations.
      if (!staging.areStored(packsOf(state.flyingOperations))) packs = await this.#uploadAgain(await upload(), upload);
      await syncJournal();
    }
    return false;
  }

  /** Until no pack has a name that is taken. */
  async #uploadAgain(packs: CommitPack[], upload: () => Promise<CommitPack[]>): Promise<CommitPack[]> {
    let uploaded = packs;
    while (this.#options.staging.taken.size > 0) {
      await this.#leaveTakenPacks();
      uploaded = await upload();
      await this.#syncJournal();
    }
    return uploaded;
  }

  /** Ignores a failed journal: it never recovers, and what was accepted before goes into the store without it. */
  async #syncJournal(): Promise<void> {
    const { journal } = this.#options;
    try {
      if (!journal.failure) await journal.sync();
    } catch (error) {
      if (!journal.failure) throw error;
    }
  }

  /** Makes pending work survive a power loss while no commit is possible. Always throws VolumeError `UNAVAILABLE`. */
  async #saveLocally(): Promise<never> {
    const { staging, writer } = this.#options;
    await writer.persistAll();
    await staging.sync();
    await this.#syncJournal();
    throw new VolumeError('UNAVAILABLE', 'the store does not answer; it is asked again in the background');
  }

  /** Puts an empty commit as a sign of life (doc/security.md, "Freshness"). */
  async #beat(signal: AbortSignal): Promise<void> {
    const { clock, log, journal, logger } = this.#options;
    if (this.#failure) throw this.#failure;
    try {
      const wallTimeMs = clock.now().sec * 1000;
      await this.#append({ ...this.#emptyDraft(wallTimeMs), packs: [], checkpoint: undefined }, signal);
      this.#beatMs = wallTimeMs;
      if (!journal.failure) journal.append(this.#baseEntry(log.own.operationSerial, 'none'));
      logger.debug('heartbeat', { sequence: log.head.sequence });
      await this.#foldWhenLarge(signal);
    } catch (error) {
      throw this.#judge(error);
    }
  }

  /** Puts a commit whose place in the log does not matter. */
  async #append(draft: CommitDraft, signal: AbortSignal | undefined): Promise<Commit> {
    for (;;) {
      const commit = await this.#options.log.put(draft, signal);
      if (commit !== 'lost') return commit;
      await this.#poll(signal);
      if (draft.checkpoint && !this.#options.state.isFolding) throw new VolumeError('UNAVAILABLE', 'the log has lost what the checkpoint holds');
    }
  }

  #emptyDraft(wallTimeMs: number): Omit<CommitDraft, 'packs' | 'checkpoint'> {
    const { log, counters } = this.#options;
    return { wallTimeMs, nextInoCounter: counters.nextIno, operationSerial: log.own.operationSerial, filesDelta: 0, bytesDelta: 0, mutations: [] };
  }

  async #foldWhenLarge(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, foldBounds } = this.#options;
    const { entries, bytes, commits = foldCommitsDefault } = foldBounds;
    const isLarge = state.committed.count > entries || state.committed.bytes > bytes || log.head.sequence - state.covers > commits;
    // When the same keys change again and again, the overlay stays small but the commits kept for it do not.
    if (isLarge || state.recentBytes > recentBytesFactor * bytes) await this.#checkpoint(signal);
  }

  /** Records in the journal that operations up to `serial` are in the log, and drops its entries for them. */
  async #trimJournal(serial: number, cut: number | undefined): Promise<void> {
    const { journal } = this.#options;
    // A failed journal is read again when the volume is opened, and the log then says what it already holds.
    if (journal.failure) return;
    try {
      journal.append(this.#baseEntry(serial, 'none'));
      await journal.sync();
      if (cut !== undefined) await journal.trim(cut);
    } catch (error) {
      if (!journal.failure) throw error;
    }
  }

  /** Records the state's base in a journal that does not have it yet. */
  journalBase(): void {
    this.#options.journal.append(this.#baseEntry(this.#options.log.own.operationSerial, 'none'));
  }

  #baseEntry(committedSerial: number, reset: BaseReset, { sequence, hash }: LogPosition = this.#options.log.head): Uint8Array {
    const { staging, state, counters, log } = this.#options;
    return encodeBaseEntry({
      sequence,
      hash,
      covers: state.covers,
      root: state.root,
      committedSerial,
      deviceIndex: counters.deviceIndex,
      nextInoCounter: counters.nextIno,
      counter: counters.serial,
      reset,
      packs: staging.namelessPacks,
      landed: log.landedOfOthers,
    });
  }

  #wakeRoomWaiters(): void {
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  /** Writes the committed overlay into a new tree and commits its root. */
  async #checkpoint(signal: AbortSignal | undefined, rewritten: readonly TreeKey[] = []): Promise<void> {
    const { state, log, staging, tree, journal, clock, logger } = this.#options;
    const covers = log.head.sequence;
    const { changes, root, totals } = state.beginFold();
    try {
      const newRoot = await applyBatch(tree, root, withRewritten(changes, rewritten), staging);
      const packs = await staging.upload(signal);
      const checkpoint = { root: newRoot, covers, files: totals.files, bytes: totals.bytes };
      const commit = await this.#append({ ...this.#emptyDraft(clock.now().sec * 1000), packs, checkpoint }, signal);
      staging.committed(packs);
      state.endFold(newRoot, covers);
      state.advance([commit]);
      if (!journal.failure) journal.append(this.#baseEntry(log.own.operationSerial, 'none'));
      await staging.release(packsOf(state.operations));
      await log.removeCopies(covers);
      logger.info('checkpoint', { covers, entries: changes.count });
    } finally {
      state.abandonFold();
    }
  }

  /**
   * Whether only what stands behind the head is damaged or missing, and not for long: a folder may be filled file by
   * file, and a device that has lost a number needs a moment to notice.
   */
  #mayStillCome({ code, evidence: { sequence = 0 } }: CommitError): boolean {
    const { log, clock, graceMs } = this.#options;
    if (!incomplete.has(code) || sequence <= log.head.sequence) return false;
    const now = clock.monotonicMs();
    this.#incompleteSinceMs ??= now;
    return now - this.#incompleteSinceMs < graceMs;
  }

  /** For how many milliseconds the next commit has been in the store without being readable, if it is. */
  get incompleteMs(): number | undefined {
    return this.#incompleteSinceMs === undefined ? undefined : this.#options.clock.monotonicMs() - this.#incompleteSinceMs;
  }

  /** An integrity error stops the volume for good; every other error is retryable. */
  #judge(error: unknown): unknown {
    if (!(error instanceof CommitError)) return error;
    if (error.code === 'UNSETTLED' || this.#mayStillCome(error))
      return new VolumeError('UNAVAILABLE', 'the log in the store is not whole yet', { cause: error });
    const isRefusal = refusals.has(error.code);
    const message = isRefusal ? error.message : 'the store shows a history that does not fit what this device knows';
    this.#failure ??= new VolumeError('FENCED', message, { cause: error });
    this.#wakeRoomWaiters();
    const what = isRefusal ? 'nothing more can be written' : 'integrity stop: the volume is read-only from now on';
    this.#options.logger.error(what, { code: error.code, reason: describeError(error) });
    return this.#failure;
  }
}

/** Why this device may not write, although the history fits. */
const refusals: ReadonlySet<string> = new Set(['NOT_PERMITTED', 'UNSUPPORTED']);
/** What can be wrong with a commit that is on its way. */
const incomplete: ReadonlySet<string> = new Set(['NOT_AUTHENTIC', 'MISSING']);

/** Whether these changes are of more than what the volume notes of packs and snapshots. */
export function hasFileKeys(changes: Overlay): boolean {
  for (const key of changes.keys()) if ('DEINOX'.includes(key[0] ?? '')) return true;
  return false;
}

/** The packs that hold the content of these operations. */
export function packsOf(operations: readonly PendingOperation[]): Set<PackId> {
  const packs = new Set<PackId>();
  for (const { operation } of operations) {
    for (const { extent } of broughtContent(operation)) packs.add(extent.pack);
  }
  return packs;
}

/** Whether the pack is condemned, or buried, as far as commits say. Throws PageFault. */
const isCollected = (state: VolumeState, id: PackId): boolean =>
  state.committedValue(collectedKey(id)) !== undefined || state.committedValue(packEntryKey(id)) === undefined;

/** The changes of the overlay, and the keys whose pages are written again; both ascend. */
function* withRewritten(changes: Overlay, keys: readonly TreeKey[]): Generator<TreeChange, void> {
  let next = 0;
  for (const [key, value] of changes.entries()) {
    for (let at = keys[next]; at !== undefined && at <= key; at = keys[++next]) if (at < key) yield [at, rewrite];
    yield [key, value ?? undefined];
  }
  for (const key of keys.slice(next)) yield [key, rewrite];
}
