/**
 * Brings operations into the log, and has commits of others taken into the state (`arrival.ts`): the background half of an open volume. One lock guards it
 * all, so there is one commit, rebase or checkpoint at a time (doc/concurrency.md, "Committing").
 * It changes the state only through `volume-state.ts`, and knows nothing of files.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { Lock } from '../base/lock.js';
import { type Logger } from '../base/logger.js';
import type { Commit, CommitDraft } from '../commit/commit.js';
import { CommitError } from '../commit/commit-error.js';
import type { CommitLog } from '../commit/commit-log.js';
import type { Journal } from '../journal/journal.js';
import type { RebaseContext } from '../operation/rebase-rules.js';
import type { PackId } from '../pack/pack-id.js';
import type { ObjectStore } from '../store/object-store.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { applyBatch } from '../tree/tree-writer.js';
import { Arrival } from './arrival.js';
import type { ContentWriter } from './content-writer.js';
import type { FrontEnds } from './front-ends.js';
import { encodeBaseEntry } from './journal-entry.js';
import { LogWatch, type PollPace } from './log-watch.js';
import type { PendingOperation } from './pending-layers.js';
import { isStoreUnusable } from './remedy.js';
import type { Staging } from './staging.js';
import { VolumeError } from './volume-error.js';
import type { VolumeState } from './volume-state.js';

/** The counters that must never go back, kept by the volume. */
export interface Counters {
  /** The next inode counter of this device. */
  nextIno: number;
  /** Operations and content stamps share one count. */
  serial: number;
}

export interface CommitterOptions {
  readonly state: VolumeState;
  readonly log: CommitLog;
  readonly journal: Journal;
  readonly staging: Staging;
  readonly writer: ContentWriter;
  readonly tree: TreeReader;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly readOnly: boolean;
  /** A commit is made this long after the first change. */
  readonly commitDelayMs: number;
  /** Asked to wait for commits of others, if it can; else the log is polled at this pace. */
  readonly store: Pick<ObjectStore, 'awaitObject'>;
  readonly pace: PollPace;
  /** A device that had nothing to commit for this long commits nothing, so that others see that it lives. Infinity: never. */
  readonly heartbeatMs: number;
  readonly foldBounds: FoldBounds;
  /** Applications wait while operations of more than this many bytes are in no commit. */
  readonly pendingBytesMax: number;
  /** Nobody needs to try: the store does not answer, and it will be told when it does. */
  readonly isOffline: () => boolean;
  /** Makes the context of a rebase: its rules need to allocate inodes and to look at the old state. */
  readonly rebaseContext: () => RebaseContext;
  readonly frontEnds: FrontEnds;
  /** After each round of background work, however it ended. */
  readonly onRound: () => void;
}

/** The committed overlay is folded into the tree when it passes one of these. */
export interface FoldBounds {
  readonly entries: number;
  readonly bytes: number;
  /** What a device that mounts for the first time reads at most. Default: 500. */
  readonly commits?: number;
}

export const foldEntriesMax = 60_000;
const foldCommitsDefault = 500;
const recentBytesFactor = 3;

/** More pending than this is committed at once, without waiting for the delay. */
const pendingOperationsSoon = 20_000;
/** Applications wait when more than this is pending: the store is slower than they are. */
const pendingOperationsMax = 100_000;
const retryDelayMaxMs = 30_000;
/** The background asks no more often than this, and no more often than every so many polls, whether the store still has what it had. */
const checkIntervalMs = 60_000;
const pollsPerCheck = 8;
export class Committer {
  readonly #options: CommitterOptions;
  readonly #lock = new Lock();
  readonly #stop = new AbortController();
  readonly #watch: LogWatch;
  #loop: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  /** Of the pause between two tries. */
  #pause = new AbortController();
  #dirtySinceMs: number | undefined;
  #soon = false;
  /** The next commit of somebody else may be there. */
  #hinted = false;
  #polledMs: number;
  #checkedMs: number;
  #beatMs: number;
  #failure: VolumeError | undefined;
  /** The last error of the background loop, until one round succeeds. */
  #lastError: unknown;
  #roomWaiters: (() => void)[] = [];
  #lastCommitMs: number | undefined;
  readonly #arrival: Arrival;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#arrival = new Arrival({
      ...options,
      baseEntry: (committedSerial, reset) => this.#baseEntry(committedSerial, reset),
    });
    const { store, log, clock, logger, pace } = options;
    this.#polledMs = this.#checkedMs = clock.monotonicMs();
    // After a start the newest own commit counts, whoever was alive then.
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
   * `arrived`: commits that the log already counts in its head. They are part of the state when it resolves, before anything is put, unless that needs a store
   * that does not answer: then they are taken in later. Rejects with what else keeps them from it.
   */
  async start(arrived: readonly Commit[]): Promise<void> {
    this.#arrival.add(arrived);
    await this.#lock.run(async () => {
      try {
        await this.#arrival.takeIn();
      } catch (error) {
        const judged = this.#judge(error);
        if (!isStoreUnusable(judged)) throw judged;
        this.#options.logger.warn('commits of others wait for the store', { commits: arrived.length, reason: describeError(error) });
      }
    });
    this.#watch.start();
    this.#loop = this.#run();
  }

  /** The store answers again: a pause between two tries ends. */
  retrySoon(): void {
    this.#pause.abort();
  }

  /** Applications use the volume. */
  used(): void {
    this.#watch.used();
  }

  /** Set after an integrity stop: nothing is written any more. */
  get failure(): VolumeError | undefined {
    return this.#failure;
  }

  /** Why the store could not be reached at the last try, if so. */
  get lastError(): unknown {
    return this.#lastError;
  }

  get lastCommitMs(): number | undefined {
    return this.#lastCommitMs;
  }

  /** Something was changed: a commit will follow. */
  changed(): void {
    if (this.#dirtySinceMs !== undefined && this.#options.state.pendingCount < pendingOperationsSoon) return;
    this.#dirtySinceMs ??= this.#options.clock.monotonicMs();
    this.#soon ||= this.#options.state.pendingCount >= pendingOperationsSoon;
    this.#wake?.();
  }

  /** Undefined when there is room for one more operation; else resolves when there may be. */
  room(): Promise<void> | undefined {
    const { state } = this.#options;
    if (state.operationCount < pendingOperationsMax && state.pendingBytes < this.#options.pendingBytesMax) return undefined;
    this.#soon = true;
    this.#wake?.();
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /** Commits until everything that was acknowledged before the call is in the store. Rejects when it cannot be reached or refuses. */
  async flush(signal?: AbortSignal): Promise<void> {
    // The first round may be one that began before the call; a second one then holds what came meanwhile.
    const target = this.#options.counters.serial;
    for (;;) {
      signal?.throwIfAborted();
      await this.#alone(() => this.#commit(signal));
      const oldest = this.#options.state.operationAt(0);
      if (!oldest || oldest.serial > target) return;
    }
  }

  /** Looks for commits of others now. */
  poll(signal?: AbortSignal): Promise<void> {
    return this.#alone(() => this.#poll(signal));
  }

  /** Ends the background work; what is pending stays in the journal. */
  async stop(): Promise<void> {
    this.#stop.abort(new VolumeError('CLOSED', 'the volume is being closed'));
    this.#wake?.();
    await this.#watch.stop();
    await this.#loop;
    await this.#lock.run(() => {});
  }

  /** One at a time. What others wait for is another commit when the head has moved. */
  #alone(section: () => Promise<void>): Promise<void> {
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
      // While the store is unavailable the delay is kept to, however much is asked meanwhile.
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
        await this.#alone(() => this.#round(signal));
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

  /** Until the next round, in milliseconds; 0 or less: now. */
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
      // The wall clock may have been set back.
      const restMs = Math.abs(clock.now().sec * 1000 - this.#beatMs);
      if (!readOnly && restMs >= heartbeatMs && this.#dirtySinceMs === undefined) await this.#beat(signal);
    }
    this.#polledMs = clock.monotonicMs();
  }

  /** Sleeps, but wakes up when something is to be done sooner. */
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
      this.#arrival.add(await this.#options.log.poll(signal, how));
      await this.#arrival.takeIn();
    } catch (error) {
      throw this.#judge(error);
    }
  }

  async #commit(signal: AbortSignal | undefined): Promise<void> {
    const { state, journal, writer, clock } = this.#options;
    if (this.#failure) throw this.#failure;
    this.#soon = false;
    this.#dirtySinceMs = undefined;
    try {
      if (this.#options.isOffline() && (state.operationCount > 0 || writer.bytes > 0)) await this.#saveHere();
      for (let left = 0; ; ) {
        // The log's head is past what arrived already: nothing may be put before it is part of the state.
        await this.#arrival.takeIn();
        // What the journal holds of dirty data before this point is in operations once everything was sealed.
        const cut = journal.end;
        await writer.sealAll();
        if (state.pendingCount === 0) break;
        // What comes from now on waits for the next time.
        if (left === 0) left = state.pendingLayers;
        state.freeze();
        try {
          if (await this.#putFlight(cut, signal)) left--;
        } finally {
          // Failed with an unknown outcome: what flew is pending again, and the log tells at the next poll what is true.
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
   * Puts what flies into the log, however often others are faster: it goes on flying on top of theirs, without what was written meanwhile, so that little time lies
   * between two tries. Answers false when nothing of it is left. `cut`: the journal's end before it was sealed.
   */
  async #putFlight(cut: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { state, log, staging, counters, clock } = this.#options;
    // Before the commit can be seen, this device must not be able to forget what it holds: it would give out its inode numbers again.
    const syncJournal = (): Promise<void> => this.#syncJournal();
    // More waits than one commit can hold: what only later ones need goes up with those.
    const isAll = state.pendingCount === 0;
    const upload = (): ReturnType<Staging['upload']> => staging.upload(signal, isAll ? undefined : packsOf(state.flyingOperations));
    let [packs] = await Promise.all([upload(), syncJournal(), log.checkAroundHead(signal)]);
    for (let { flight } = state; flight; flight = state.flight) {
      const { mutations, delta, serial } = flight;
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
      const commit = await log.put(draft, signal);
      if (commit !== 'lost') {
        state.land(commit.sequence, flight);
        staging.committed(packs);
        this.#lastCommitMs = this.#beatMs = draft.wallTimeMs;
        this.#makeRoom();
        // The journal is needed before the cut for operations that did not fly.
        await this.#trimJournal(serial, isAll ? cut : undefined);
        await staging.release(packsOf(state.operations));
        return true;
      }
      await this.#poll(signal);
      // A conflict copy holds what its file has now, and that may be newer than the flight.
      if (!staging.areStored(packsOf(state.flyingOperations))) packs = await upload();
      await syncJournal();
    }
    return false;
  }

  /** One that fails does so for good, and what was accepted before it goes into the store without it. */
  async #syncJournal(): Promise<void> {
    const { journal } = this.#options;
    try {
      if (!journal.failure) await journal.sync();
    } catch (error) {
      if (!journal.failure) throw error;
    }
  }

  /** No commit is possible: what waits for one survives a loss of power meanwhile. Throws VolumeError `UNAVAILABLE` in the end. */
  async #saveHere(): Promise<never> {
    const { staging, writer } = this.#options;
    await writer.persistAll();
    await staging.sync();
    await this.#syncJournal();
    throw new VolumeError('UNAVAILABLE', 'the store does not answer; it is asked again in the background');
  }

  /** A commit that changes nothing: a sign of life (doc/security.md, "Freshness"). */
  async #beat(signal: AbortSignal): Promise<void> {
    const { clock, log, journal, logger } = this.#options;
    if (this.#failure) throw this.#failure;
    try {
      const wallTimeMs = clock.now().sec * 1000;
      await this.#append({ ...this.#emptyDraft(wallTimeMs), packs: [], checkpoint: undefined }, signal);
      this.#beatMs = wallTimeMs;
      if (!journal.failure) journal.append(this.#baseEntry(log.own.operationSerial, false));
      logger.debug('heartbeat', { sequence: log.head.sequence });
      await this.#foldWhenLarge(signal);
    } catch (error) {
      throw this.#judge(error);
    }
  }

  /** A commit whose order in the log does not matter. */
  async #append(draft: CommitDraft, signal: AbortSignal | undefined): Promise<void> {
    while ((await this.#options.log.put(draft, signal)) === 'lost') await this.#poll(signal);
  }

  #emptyDraft(wallTimeMs: number): Omit<CommitDraft, 'packs' | 'checkpoint'> {
    const { log, counters } = this.#options;
    return { wallTimeMs, nextInoCounter: counters.nextIno, operationSerial: log.own.operationSerial, filesDelta: 0, bytesDelta: 0, mutations: [] };
  }

  async #foldWhenLarge(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, foldBounds } = this.#options;
    const { entries, bytes, commits = foldCommitsDefault } = foldBounds;
    const isLarge = state.committed.count > entries || state.committed.bytes > bytes || log.head.sequence - state.covers > commits;
    // Where the same is changed again and again, what is committed stays small and what is kept of its commits does not.
    if (isLarge || state.recentBytes > recentBytesFactor * bytes) await this.#checkpoint(signal);
  }

  /** The journal learns that operations up to `serial` are in the log, and drops what it held for them. */
  async #trimJournal(serial: number, cut: number | undefined): Promise<void> {
    const { journal } = this.#options;
    // A journal that failed is read again when the volume is opened, and the log then says what is in it already.
    if (journal.failure) return;
    try {
      journal.append(this.#baseEntry(serial, false));
      await journal.sync();
      if (cut !== undefined) await journal.trim(cut);
    } catch (error) {
      if (!journal.failure) throw error;
    }
  }

  /** Writes down what the state stands on, for a journal that does not say so yet. */
  journalBase(): void {
    this.#options.journal.append(this.#baseEntry(this.#options.log.own.operationSerial, false));
  }

  #baseEntry(committedSerial: number, reset: boolean): Uint8Array {
    const { log, state, counters } = this.#options;
    return encodeBaseEntry({
      sequence: log.head.sequence,
      hash: log.head.hash,
      covers: state.covers,
      root: state.root,
      committedSerial,
      nextInoCounter: counters.nextIno,
      counter: counters.serial,
      reset,
    });
  }

  #makeRoom(): void {
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  /** Writes the committed overlay into a new tree and commits its root. */
  async #checkpoint(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, staging, tree, journal, clock, logger } = this.#options;
    const covers = log.head.sequence;
    const { changes, root, totals } = state.beginFold();
    try {
      const newRoot = await applyBatch(
        tree,
        root,
        (function* () {
          for (const [key, value] of changes.entries()) yield [key, value ?? undefined] as const;
        })(),
        staging,
      );
      const packs = await staging.upload(signal);
      const checkpoint = { root: newRoot, covers, files: totals.files, bytes: totals.bytes };
      await this.#append({ ...this.#emptyDraft(clock.now().sec * 1000), packs, checkpoint }, signal);
      staging.committed(packs);
      state.endFold(newRoot, covers);
      if (!journal.failure) journal.append(this.#baseEntry(log.own.operationSerial, false));
      await staging.release(packsOf(state.operations));
      await log.removeCopies(covers);
      logger.info('checkpoint', { covers, entries: changes.count });
    } finally {
      state.abandonFold();
    }
  }

  /** Integrity errors stop the volume for good; everything else may pass. */
  #judge(error: unknown): unknown {
    if (!(error instanceof CommitError)) return error;
    this.#failure ??= new VolumeError('FENCED', 'the store shows a history that does not fit what this device knows', { cause: error });
    this.#makeRoom();
    this.#options.logger.error('integrity stop: the volume is read-only from now on', { code: error.code, reason: describeError(error) });
    return this.#failure;
  }
}

/** The packs that operations put content into. */
function packsOf(operations: readonly PendingOperation[]): Set<PackId> {
  const packs = new Set<PackId>();
  for (const { operation } of operations) {
    if (operation.type !== 'write') continue;
    for (const { extent } of operation.pieces) if (extent.kind === 'data') packs.add(extent.pack);
  }
  return packs;
}
