/**
 * Brings operations into the log and commits of others into the state: the background half of an open volume. One lock guards it
 * all, so there is one commit, rebase or checkpoint at a time (doc/concurrency.md, "Committing").
 * It changes the state only through `volume-state.ts`, and knows nothing of files.
 */
import type { Clock } from '../base/clock.js';
import { Lock } from '../base/lock.js';
import { type Log, describeError } from '../base/log.js';
import { PageFault } from '../base/page-fault.js';
import { CommitError } from '../commit/commit-error.js';
import type { CommitLog } from '../commit/commit-log.js';
import type { Commit, CommitDraft } from '../commit/commit.js';
import type { Journal } from '../journal/journal.js';
import type { PackId } from '../pack/pack-id.js';
import type { ObjectStore } from '../store/object-store.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { applyBatch } from '../tree/tree-writer.js';
import type { ContentWriter } from './content-writer.js';
import { encodeBaseEntry, encodeOperationEntry } from './journal-entry.js';
import type { Operation } from './operation.js';
import { type RebaseContext, executeRebased } from './rebase-rules.js';
import { LogWatch, type PollPace } from './log-watch.js';
import { changesOf } from './remote-change.js';
import type { Staging } from './staging.js';
import type { PendingOperation, Totals, VolumeState } from './volume-state.js';
import { type RemoteChange, type RemoteChangeListener, VolumeError } from './volume.js';

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
  readonly logger: Log;
  readonly readOnly: boolean;
  /** A commit is made this long after the first change. */
  readonly commitDelayMs: number;
  /** Asked to wait for commits of others, if it can; else the log is polled at this pace. */
  readonly store: Pick<ObjectStore, 'awaitObject'>;
  readonly pace: PollPace;
  /** A device that had nothing to commit for this long commits nothing, so that others see that it lives. Infinity: never. */
  readonly heartbeatMs: number;
  readonly foldBounds: FoldBounds;
  /** Nobody needs to try: the store does not answer, and it will be told when it does. */
  readonly isAway: () => boolean;
  /** Makes the context of a rebase: its rules need to allocate inodes and to look at the old state. */
  readonly rebaseContext: () => RebaseContext;
  readonly listener: () => RemoteChangeListener | undefined;
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

export const defaultFoldBounds: FoldBounds = { entries: 60_000, bytes: 16 * 1024 * 1024 };
const foldCommitsDefault = 500;

/** More pending than this is committed at once, without waiting for the delay. */
const pendingOperationsSoon = 20_000;
/** Applications wait when more than this is pending: the store is slower than they are. */
const pendingOperationsMax = 100_000;
const pendingBytesMax = 128 * 1024 * 1024;
const retryDelayMaxMs = 30_000;
/** The background asks no more often than this, and no more often than every so many polls, whether the store still has what it had. */
const checkIntervalMs = 60_000;
const pollsPerCheck = 8;
/** Reads of a file that others changed may bring old pages back into the kernel while its turn comes: so often is collected anew. */
const collectRoundsMax = 4;
/** Who writes into such a file without a pause has to wait from this round of a rebase on. */
const holdRound = 2;
/** A slice of synchronous work between two turns of the event loop. */
const sliceMs = 3;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Committer {
  readonly #o: CommitterOptions;
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
  #trouble: unknown;
  #roomWaiters: (() => void)[] = [];
  #lastCommitMs: number | undefined;
  /** Commits that the log has verified and the state does not hold yet. */
  readonly #arrived: Commit[] = [];

  constructor(options: CommitterOptions) {
    this.#o = options;
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

  /** `arrived`: commits that the log already counts in its head, to be taken in before anything else. */
  start(arrived: readonly Commit[]): void {
    this.#arrived.push(...arrived);
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
  get trouble(): unknown {
    return this.#trouble;
  }

  get lastCommitMs(): number | undefined {
    return this.#lastCommitMs;
  }

  /** Something was changed: a commit will follow. */
  changed(): void {
    if (this.#dirtySinceMs !== undefined && this.#o.state.pendingCount < pendingOperationsSoon) return;
    this.#dirtySinceMs ??= this.#o.clock.monotonicMs();
    this.#soon ||= this.#o.state.pendingCount >= pendingOperationsSoon;
    this.#wake?.();
  }

  /** Undefined when there is room for one more operation; else resolves when there may be (rejects with FULL or UNAVAILABLE is the caller's matter). */
  room(): Promise<void> | undefined {
    const { state } = this.#o;
    if (state.operationCount < pendingOperationsMax && state.pendingBytes < pendingBytesMax) return undefined;
    this.#soon = true;
    this.#wake?.();
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /** Commits until everything that was acknowledged before the call is in the store. Rejects when it cannot be reached or refuses. */
  async flush(signal?: AbortSignal): Promise<void> {
    // The first round may be one that began before the call; a second one then holds what came meanwhile.
    const target = this.#o.counters.serial;
    for (;;) {
      signal?.throwIfAborted();
      await this.#alone(() => this.#commit(signal));
      const oldest = this.#o.state.operations[0];
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
      const before = this.#o.log.head.sequence;
      try {
        await section();
      } finally {
        if (this.#o.log.head.sequence !== before) this.#watch.moved();
      }
    });
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#o;
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted && !this.#failure) {
      // While the store is away the delay is kept to, however much is asked meanwhile.
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
        this.#trouble = undefined;
      } catch (error) {
        if (signal.aborted) return;
        this.#trouble = error;
        if (failures++ === 0) logger.warn('committing failed, will be tried again', { reason: describeError(error) });
      }
      this.#o.onRound();
    }
  }

  /** Until the next round, in milliseconds; 0 or less: now. */
  #dueInMs(): number {
    if (this.#hinted) return 0;
    return Math.min(this.#commitInMs(), this.#polledMs + this.#watch.pauseMs() - this.#o.clock.monotonicMs());
  }

  #commitInMs(): number {
    if (this.#o.readOnly) return Number.POSITIVE_INFINITY;
    if (this.#soon) return 0;
    return this.#dirtySinceMs === undefined ? Number.POSITIVE_INFINITY : this.#dirtySinceMs + this.#o.commitDelayMs - this.#o.clock.monotonicMs();
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { clock, readOnly, heartbeatMs } = this.#o;
    this.#hinted = false;
    if (this.#commitInMs() <= 0) await this.#commit(signal);
    else {
      const now = clock.monotonicMs();
      const checks = now - this.#checkedMs >= Math.max(checkIntervalMs, pollsPerCheck * this.#watch.pauseMs(now));
      if (checks) this.#checkedMs = now;
      await this.#poll(signal, checks);
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
    await Promise.race([wake, this.#o.clock.sleep(delayMs, AbortSignal.any([signal, nap.signal])).catch(() => {})]);
    this.#wake = undefined;
    nap.abort();
  }

  async #poll(signal: AbortSignal | undefined, checks?: boolean): Promise<void> {
    try {
      this.#arrived.push(...(await this.#o.log.poll(signal, checks)));
      await this.#absorbArrived();
    } catch (error) {
      throw this.#judge(error);
    }
  }

  /** The log's head is already past what arrived: nothing may be put before it is part of the state. */
  async #absorbArrived(): Promise<void> {
    if (this.#arrived.length === 0) return;
    await this.#advance([...this.#arrived]);
  }

  async #commit(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, journal, staging, writer, counters, clock } = this.#o;
    if (this.#failure) throw this.#failure;
    this.#soon = false;
    this.#dirtySinceMs = undefined;
    try {
      if (this.#o.isAway() && (state.operationCount > 0 || writer.bytes > 0)) await this.#saveHere();
      for (;;) {
        await this.#absorbArrived();
        // What the journal holds of dirty data before this point is in operations once everything was sealed.
        const cut = journal.end;
        await writer.sealAll();
        if (state.pendingCount === 0) break;
        const { mutations, delta, serial } = state.freeze();
        try {
          // Before the commit can be seen, this device must not be able to forget what it holds: it would give out its inode numbers again.
          const [packs] = await Promise.all([staging.upload(signal), journal.failure ? undefined : journal.sync()]);
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
            state.land(commit.sequence, mutations);
            staging.committed(packs);
            this.#lastCommitMs = this.#beatMs = draft.wallTimeMs;
            this.#makeRoom();
            await this.#settleJournal(serial, cut);
            await staging.release(packsOf(state.operations));
            break;
          }
        } finally {
          // Lost, or failed with an unknown outcome: what flew is pending again, and the log tells at the next poll what is true.
          state.thaw();
        }
        await this.#poll(signal);
      }
      await this.#foldWhenLarge(signal);
    } catch (error) {
      if (state.operationCount > 0 || writer.bytes > 0) this.#dirtySinceMs ??= clock.monotonicMs();
      throw this.#judge(error);
    }
  }

  /** No commit is possible: what waits for one survives a loss of power meanwhile. Throws VolumeError `UNAVAILABLE` in the end. */
  async #saveHere(): Promise<never> {
    const { journal, staging, writer } = this.#o;
    await writer.persistAll();
    await staging.sync();
    if (!journal.failure) await journal.sync();
    throw new VolumeError('UNAVAILABLE', 'the store does not answer; it is asked again in the background');
  }

  /** A commit that changes nothing: a sign of life (doc/security.md, "Freshness"). */
  async #beat(signal: AbortSignal): Promise<void> {
    const { clock, log, journal, logger } = this.#o;
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
    while ((await this.#o.log.put(draft, signal)) === 'lost') await this.#poll(signal);
  }

  #emptyDraft(wallTimeMs: number): Omit<CommitDraft, 'packs' | 'checkpoint'> {
    const { log, counters } = this.#o;
    return { wallTimeMs, nextInoCounter: counters.nextIno, operationSerial: log.own.operationSerial, filesDelta: 0, bytesDelta: 0, mutations: [] };
  }

  async #foldWhenLarge(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, foldBounds } = this.#o;
    const { entries, bytes, commits = foldCommitsDefault } = foldBounds;
    const isLarge = state.committed.count > entries || state.committed.bytes > bytes || log.head.sequence - state.covers > commits;
    if (isLarge) await this.#checkpoint(signal);
  }

  /** The journal learns that operations up to `serial` are in the log, and drops what it held for them. */
  async #settleJournal(serial: number, cut: number): Promise<void> {
    const { journal } = this.#o;
    // A journal that failed is read again when the volume is opened, and the log then says what is in it already.
    if (journal.failure) return;
    journal.append(this.#baseEntry(serial, false));
    await journal.sync();
    await journal.trim(cut);
  }

  /** Writes down what the state stands on, for a journal that does not say so yet. */
  journalBase(): void {
    this.#o.journal.append(this.#baseEntry(this.#o.log.own.operationSerial, false));
  }

  #baseEntry(committedSerial: number, reset: boolean): Uint8Array {
    const { log, state, counters } = this.#o;
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

  /** Takes verified commits in: at once when nothing is pending, else by running what is pending again on top of them. */
  async #advance(commits: readonly Commit[]): Promise<void> {
    const { state, journal, writer, log, counters } = this.#o;
    for (const own of commits.filter((commit) => commit.deviceId === log.deviceId)) {
      // A crash may have lost what was counted last.
      counters.nextIno = Math.max(counters.nextIno, own.nextInoCounter);
      counters.serial = Math.max(counters.serial, own.operationSerial);
    }
    const foreign = commits.filter((commit) => commit.deviceId !== log.deviceId);
    const change = changesOf(foreign);
    for (let round = 1; ; round++) {
      await this.#collect(change);
      if (state.operationCount > 0 || touchesDirty(writer, change)) return this.#rebase(commits, change);
      if (!this.#isCollected(change) && round < collectRoundsMax) continue;
      // No await from the check to here: what is dirty in the kernel would be written on the new base, over what the others wrote.
      state.advance(commits);
      this.#arrived.splice(0, commits.length);
      if (!journal.failure) journal.append(this.#baseEntry(counters.serial, false));
      this.#tell(change);
      return undefined;
    }
  }

  /** What applications wrote and the kernel still holds of these files comes in now, while it is still based on what they saw. */
  async #collect(change: RemoteChange): Promise<void> {
    if (change.contents.size === 0 || this.#o.readOnly) return;
    const isDone = (await this.#o.listener()?.collect(change)) ?? true;
    if (!isDone) this.#o.logger.warn('the kernel did not write back in time what another device changed too', { files: change.contents.size });
  }

  #isCollected(change: RemoteChange): boolean {
    return this.#o.readOnly || (this.#o.listener()?.isCollected(change) ?? true);
  }

  #tell(change: RemoteChange): void {
    if (change.inodes.size > 0 || change.entries.length > 0) this.#o.listener()?.changed(change);
  }

  /** Runs what is pending again on top of `commits` (the log's verdict on the order), in slices, while applications go on. */
  async #rebase(commits: readonly Commit[], change: RemoteChange & Changing): Promise<void> {
    try {
      await this.#rebaseUntilDone(commits, change);
    } finally {
      this.#o.listener()?.goOn();
    }
  }

  async #rebaseUntilDone(commits: readonly Commit[], change: RemoteChange & Changing): Promise<void> {
    const { state, journal, writer, log, counters, logger } = this.#o;
    const ownSerial = Math.max(0, ...commits.filter((commit) => commit.deviceId === log.deviceId).map((commit) => commit.operationSerial));
    for (let round = 1; ; round++) {
      if (round > 1 && round <= holdRound) await this.#collect(change);
      if (round === holdRound) this.#o.listener()?.hold(change);
      // Content that was based on what the others changed becomes operations, so that the rules see it.
      await writer.sealAll();
      const run = state.rebaseOnto(commits);
      const context = this.#o.rebaseContext();
      const result: PendingOperation[] = [];
      const totals: Totals = { files: 0, bytes: 0 };
      let done = 0;
      let sliceStart = performance.now();
      // Operations that arrive meanwhile are run on the old state, answered, and then met here.
      for (; done < state.operationCount; done++) {
        const { operation, serial } = state.operations[done];
        if (serial <= ownSerial) continue;
        for (const effective of await this.#rebaseOne(run, operation, context, totals))
          result.push({ serial: ++counters.serial, operation: effective });
        if (performance.now() - sliceStart > sliceMs) {
          await nextTurn();
          sliceStart = performance.now();
        }
      }
      // No await from here to the end: the check, the journal and the state belong together.
      if (done < state.operationCount || touchesDirty(writer, change)) continue;
      if (!this.#isCollected(change) && round < holdRound) continue;
      for (const [key] of run.pending.entries()) change.add(key);
      for (const { copy } of context.conflicts) if (copy) change.copies.push(copy);
      if (!journal.failure) {
        journal.appendBatch([this.#baseEntry(ownSerial, true), ...result.map((one) => encodeOperationEntry(one.serial, one.operation))]);
      }
      state.finishRebase(commits, run.pending, result, totals);
      this.#arrived.splice(0, commits.length);
      this.#tell(change);
      for (const { code, ino } of context.conflicts) logger.warn('another device changed the same thing; nothing was overwritten', { code, ino });
      return;
    }
  }

  async #rebaseOne(
    run: ReturnType<VolumeState['rebaseOnto']>,
    operation: Operation,
    context: RebaseContext,
    totals: Totals,
  ): Promise<readonly Operation[]> {
    for (;;) {
      const transaction = run.transaction();
      try {
        const { effective, delta } = executeRebased(transaction, operation, context);
        run.pending.absorb(transaction.changes);
        totals.files += delta.files;
        totals.bytes += delta.bytes;
        return effective;
      } catch (error) {
        if (!(error instanceof PageFault)) throw error;
        await error.load();
      }
    }
  }

  /** Writes the committed overlay into a new tree and commits its root. */
  async #checkpoint(signal: AbortSignal | undefined): Promise<void> {
    const { state, log, staging, tree, journal, clock, logger } = this.#o;
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
      await log.forget(covers);
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
    this.#o.logger.error('integrity stop: the volume is read-only from now on', { code: error.code, reason: describeError(error) });
    return this.#failure;
  }
}

type Changing = ReturnType<typeof changesOf>;

/** The packs that operations put content into. */
function packsOf(operations: readonly PendingOperation[]): Set<PackId> {
  const packs = new Set<PackId>();
  for (const { operation } of operations) {
    if (operation.type !== 'write') continue;
    for (const { extent } of operation.pieces) if (extent.kind === 'data') packs.add(extent.pack);
  }
  return packs;
}

/** Whether content that is dirty here was changed there. */
function touchesDirty(writer: ContentWriter, change: RemoteChange): boolean {
  const dirty = writer.inos();
  for (const ino of dirty) if (change.inodes.has(ino)) return true;
  return false;
}
