/**
 * Gives the space of packs back that nothing retained needs (doc/collecting.md): one pass at a time, each of whose
 * steps can be repeated. When anything cannot be read, the pass ends and nothing is deleted. How counts come about
 * is in `src/collect/`; this decides with them, and writes what others must know into the log.
 */

import { assert } from '../base/assert.js';
import { describeError } from '../base/errors.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { withPages } from '../base/page-fault.js';
import { AccountFiles, partCount, treeIdOf } from '../collect/account-files.js';
import { type AccountedTree, accountUpTo, type HeadOf } from '../collect/accounting.js';
import { atLeast, dayMs } from '../collect/observations.js';
import { type PackShares, type Retention, sharesOf } from '../collect/pack-account.js';
import { wrongAccounts } from '../collect/recount.js';
import { headAfter, type Moment, retentionOf } from '../collect/retention.js';
import type { Mutation } from '../commit/commit.js';
import { deviceLabel } from '../commit/device-label.js';
import type { Member } from '../commit/log-state.js';
import { type CollectedPack, decodeCollectedPack, encodeCollectedPack } from '../meta/collected-pack.js';
import { decodeExtent } from '../meta/extent.js';
import { collectedEnd, collectedKey, collectedStart, decodeKey, packEntryKey, type TreeKey } from '../meta/key.js';
import { decodePackEntry } from '../meta/pack-entry.js';
import type { Operation } from '../operation/operation.js';
import { type PackId, packKey } from '../pack/pack-id.js';
import { StoreError } from '../store/object-store.js';
import { type Committer, packsOf } from './committer.js';
import { Repacker, type SparsePack } from './repacker.js';
import { scanSnapshots } from './snapshots.js';
import { VolumeError } from './volume-error.js';
import type { VolumeParts } from './volume-parts.js';

export interface CollectOptions {
  /** For how long every state of the volume is kept. 0: only the newest is. */
  readonly windowMs: number;
  /** Writes nothing: says what a pass would find. */
  readonly dryRun: boolean;
  /**
   * Whoever has committed nothing for so long, by this collector's clock, is not waited for any more. Default: all are
   * waited for.
   */
  readonly lapseMs?: number | undefined;
  /** Bytes that a pass may give another place. Default: no limit. */
  readonly moveBytesMax?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CollectProgress) => void) | undefined;
}

export interface CollectProgress {
  /** Counted are the parts of a plan, moved bytes, deleted packs. */
  readonly phase: 'counting' | 'planning' | 'moving' | 'deleting';
  readonly done: number;
  readonly total: number | undefined;
}

interface PackSum {
  readonly packs: number;
  readonly bytes: number;
}

export interface CollectReport {
  /** All packs that the volume names, in bytes. */
  readonly stored: PackSum;
  readonly live: number;
  readonly kept: number;
  readonly garbage: number;
  /** What this pass has condemned and buried, and what it has deleted. */
  readonly condemned: PackSum;
  readonly buried: PackSum;
  readonly freed: PackSum;
  /** Bytes of content that were given another place. */
  readonly movedBytes: number;
  /** Packs that could go, but that these devices may still need: they have not been heard of since. */
  readonly waiting: PackSum;
  readonly waitingFor: readonly string[];
  /** Devices that are not waited for any more. */
  readonly lapsed: readonly string[];
  /** The store did not let us delete: somebody with the right to must. */
  readonly mayNotDelete: boolean;
  /** The accounts were made anew. */
  readonly isRecount: boolean;
  readonly pagesRead: number;
}

/** A pass of the background keeps every state of the last week. */
const windowByItself = 7 * dayMs;
/** At most so many packs are changed by one commit, and deleted by one request. */
const packsPerCommit = 4096;
const packsPerRequest = 500;
/** Another device may fold while the counts are made. */
const attemptsMax = 4;
/** A pack with more garbage than this may be emptied. */
const sparseShare = 0.25;
/** So much garbage stays in packs that are in use: of what is live, and in bytes. */
const garbageShare = 0.05;
const garbageFree = 1024 * 1024;
/** A pass of the background moves at most so many bytes. */
const movedByItself = 1024 * 1024 * 1024;

type EmptyPack = Pick<SparsePack, 'id' | 'size'>;

interface Plan {
  readonly tree: AccountedTree;
  /** The ids of the trees of all snapshots. */
  readonly snapshots: ReadonlySet<string>;
  readonly retention: Retention;
  readonly totals: PackShares & { readonly packs: number };
  /** Packs that are needed, although no commit names them any more. */
  readonly wanted: ReadonlySet<PackId>;
  /** Packs with nothing live and nothing kept. */
  readonly empty: readonly EmptyPack[];
  /** Packs of which some is live and nothing kept, the emptiest first. */
  readonly sparse: readonly SparsePack[];
}

export class Collector {
  readonly #parts: VolumeParts;
  readonly #committer: Committer;
  readonly #apply: (operation: Operation) => Promise<void>;
  #files: AccountFiles | undefined;
  /** By the clock that does not jump. */
  #lastPassMs: number | undefined;
  #running = false;
  #last: { readonly report: CollectReport; readonly atMs: number } | undefined;

  /** `apply`: runs an operation that brings sealed content and changes nothing that applications see. */
  constructor(parts: VolumeParts, committer: Committer, apply: (operation: Operation) => MaybePromise<void>) {
    this.#parts = parts;
    this.#committer = committer;
    this.#apply = async (operation) => apply(operation);
  }

  /** One pass. Rejects with VolumeError, StoreError, PackError, TreeError and disk errors: then it has not ended. */
  async run(options: CollectOptions): Promise<CollectReport> {
    if (this.#running) throw new VolumeError('UNAVAILABLE', 'a collection is running already');
    this.#running = true;
    try {
      const report = await this.#pass(options);
      this.#last = { report, atMs: this.#parts.options.clock.now().sec * 1000 };
      return report;
    } finally {
      this.#running = false;
    }
  }

  /**
   * One pass of the background, which moves only so much. When this device may not delete, what is buried waits for one
   * that may. Does not reject.
   */
  async runByItself(signal: AbortSignal): Promise<void> {
    const { logger } = this.#parts.options;
    if (this.#running) return;
    try {
      const { freed, live, kept, garbage } = await this.run({ windowMs: windowByItself, dryRun: false, moveBytesMax: movedByItself, signal });
      logger.info('collected', { freedPacks: freed.packs, freedBytes: freed.bytes, live, kept, garbage });
    } catch (error) {
      if (!signal.aborted) logger.info('nothing was collected', { reason: describeError(error) });
    }
  }

  /** What the last pass found, for `status`. */
  get lastReport(): { readonly report: CollectReport; readonly atMs: number } | undefined {
    return this.#last;
  }

  async #pass(options: CollectOptions): Promise<CollectReport> {
    const { signal, dryRun } = options;
    const tally = new Tally();
    if (dryRun) return tally.report(await this.#plan(options, tally));
    await this.#settle(signal);
    let plan = await this.#plan(options, tally);
    if (await this.#repack(plan, options, tally)) plan = await this.#plan(options, tally);
    if (options.lapseMs !== undefined) await this.#lapseSilent(options.lapseMs, tally, signal);
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      if (await this.#carryOut(plan, tally, signal)) {
        await this.#deleteBuried(plan, options, tally);
        return tally.report(plan);
      }
      await this.#settle(signal);
      plan = await this.#plan(options, tally);
    }
    throw new VolumeError('UNAVAILABLE', 'other devices write too much at the moment to see what is not needed any more');
  }

  /** Everything that was acknowledged is in the tree of a checkpoint. */
  async #settle(signal: AbortSignal | undefined): Promise<void> {
    await this.#committer.poll(signal);
    await this.#committer.flush(signal);
    await this.#committer.checkpoint(signal);
  }

  /** Counts everything anew, and compares: the packs that differ, in words. Changes nothing. */
  async recount(signal?: AbortSignal): Promise<readonly string[]> {
    const files = await this.#accounts();
    const { head } = files;
    return head ? wrongAccounts(files, head, this.#parts.tree, signal) : [];
  }

  async #accounts(): Promise<AccountFiles> {
    const { options, keys } = this.#parts;
    this.#files ??= await AccountFiles.open({ disk: options.disk, stateDirectory: options.stateDirectory, key: keys.device });
    return this.#files;
  }

  // --- Counting

  async #plan({ windowMs, signal, onProgress }: CollectOptions, tally: Tally): Promise<Plan> {
    const { state, tree, log, options } = this.#parts;
    const files = await this.#accounts();
    onProgress?.({ phase: 'counting', done: 0, total: undefined });
    const at: AccountedTree = { covers: state.covers, root: state.root };
    const moment = this.#moment();
    const old = files.head;
    const snapshots = await this.#snapshots();
    const present = new Set(snapshots.map(({ root }) => treeIdOf(root)));
    const headOf: HeadOf = (tree, step, steps) => headAfter(old, moment, { newest: log.head.sequence, tree, step, snapshots: present, steps });
    const oldSteps = new Map(old?.snapshots.map(({ tree, step }) => [tree, step]));
    // Nothing is forgotten that the state before still kept.
    const before = retentionOf(headOf(at, old?.step ?? 0, oldSteps), windowMs);
    const accounting = { files, tree, logger: options.logger, retention: before, snapshots, signal };
    const counted = await accountUpTo(accounting, at, headOf);
    this.#lastPassMs = options.clock.monotonicMs();
    tally.counted(counted);
    assert(files.head, 'there are accounts now');
    return { ...(await this.#survey(files, at, retentionOf(files.head, windowMs), onProgress)), snapshots: present };
  }

  /** The trees of the snapshots that there are, ascending, each once. */
  async #snapshots(): Promise<readonly AccountedTree[]> {
    const { state } = this.#parts;
    const trees = await withPages(() => [...scanSnapshots(state.view)].map(({ sequence: covers, root }): AccountedTree => ({ covers, root })));
    const different = new Map(trees.flatMap((tree) => (tree.root ? [[treeIdOf(tree.root), tree]] : [])));
    return [...different.values()].toSorted((a, b) => a.covers - b.covers);
  }

  #moment(): Moment {
    const { clock } = this.#parts.options;
    const now = clock.monotonicMs();
    return { wallMs: clock.now().sec * 1000, passedMs: this.#lastPassMs === undefined ? undefined : now - this.#lastPassMs };
  }

  async #survey(
    files: AccountFiles,
    tree: AccountedTree,
    retention: Retention,
    onProgress: CollectOptions['onProgress'],
  ): Promise<Omit<Plan, 'snapshots'>> {
    const totals = { packs: 0, live: 0, kept: 0, garbage: 0 };
    const newlyNamed = new Map<PackId, number>();
    const buried = new Set<PackId>();
    for (const [key, value] of this.#parts.state.committed.entries()) {
      const decoded = key.startsWith('P') ? decodeKey(key) : undefined;
      if (decoded?.type !== 'pack') continue;
      if (value) newlyNamed.set(decoded.id, decodePackEntry(value).size);
      else buried.add(decoded.id);
    }
    const empty: EmptyPack[] = [];
    const sparse: SparsePack[] = [];
    const wanted = new Set<PackId>();
    for (let part = 0; part < partCount; part++) {
      onProgress?.({ phase: 'planning', done: part, total: partCount });
      const accounts = await files.read(part);
      if (!accounts) throw new VolumeError('UNAVAILABLE', 'the accounts of packs are damaged; the next pass makes them anew');
      for (const [id, { size: accounted, account }] of accounts) {
        // The packs of the newest tree are named behind it. If nothing names a pack, `check` tells.
        const size = buried.has(id) ? undefined : (accounted ?? newlyNamed.get(id));
        if (size === undefined) {
          const { live, kept } = sharesOf(account, 0, retention);
          if (live + kept > 0) wanted.add(id);
          continue;
        }
        const shares = sharesOf(account, size, retention);
        totals.packs++;
        totals.live += shares.live;
        totals.kept += shares.kept;
        totals.garbage += shares.garbage;
        if (accounted === undefined || shares.kept > 0) continue;
        if (shares.live === 0) empty.push({ id, size });
        else if (shares.garbage > size * sparseShare) sparse.push({ id, size, account, live: shares.live });
      }
    }
    sparse.sort((a, b) => a.live / a.size - b.live / b.size);
    return { tree, retention, totals, empty, sparse, wanted };
  }

  // --- Repacking

  /** Empties sparse packs until little is garbage in packs that are in use. False: there is nothing to do. */
  async #repack({ sparse, totals }: Plan, { signal, onProgress, moveBytesMax = Infinity }: CollectOptions, tally: Tally): Promise<boolean> {
    const { logger } = this.#parts.options;
    const chosen: SparsePack[] = [];
    let moved = 0;
    let left = sparse.reduce((sum, { size, live }) => sum + size - live, 0);
    for (const pack of sparse) {
      if (left <= Math.max(garbageFree, totals.live * garbageShare) || moved + pack.live > moveBytesMax) break;
      moved += pack.live;
      left -= pack.size - pack.live;
      chosen.push(pack);
    }
    if (chosen.length === 0) return false;
    const total = chosen.reduce((sum, { live }) => sum + live, 0);
    const committer = this.#committer;
    const flush = (stop: AbortSignal | undefined): Promise<void> => committer.flush(stop);
    const repacker = new Repacker({ parts: this.#parts, apply: this.#apply, flush, logger });
    const { movedBytes, pages } = await repacker.empty(chosen, (done) => onProgress?.({ phase: 'moving', done, total }), signal);
    tally.moved(movedBytes);
    logger.info('what was left in sparse packs is in new ones', { packs: chosen.length, bytes: movedBytes, pages: pages.length });
    await committer.flush(signal);
    await committer.checkpoint(signal, pages);
    return true;
  }

  // --- Devices that do not come back

  /** A device that has committed nothing for long is not waited for any more, until it commits again. */
  async #lapseSilent(lapseMs: number, tally: Tally, signal: AbortSignal | undefined): Promise<void> {
    const { logger } = this.#parts.options;
    const known = atLeast((await this.#accounts()).head?.observations ?? [], lapseMs);
    await this.#committer.change(() => {
      const silent = this.#notHeardSince(known?.head ?? 0);
      for (const { enrolment } of silent) {
        tally.lapsed.push(deviceLabel(enrolment.deviceIndex, enrolment.name));
        logger.info('a device has not been heard of for long, and is not waited for', { index: enrolment.deviceIndex });
      }
      return Promise.resolve({ records: silent.map(({ enrolment: { deviceIndex } }) => ({ type: 'lapse' as const, deviceIndex })) });
    }, signal);
  }

  // --- Condemning and burying

  /** False when another device has folded meanwhile: what was counted is not the newest any more. */
  async #carryOut(plan: Plan, tally: Tally, signal: AbortSignal | undefined): Promise<boolean> {
    // Once more after a condemnation, since a device that is alone need not wait for anybody.
    for (let round = 0; round < 2; round++) {
      for (let start = 0; start < plan.empty.length || start === 0; start += packsPerCommit) {
        const some = plan.empty.slice(start, start + packsPerCommit);
        let steps: Step[] = [];
        let isCurrent = true;
        await this.#committer.change(async (next) => {
          isCurrent = await this.#isCurrent(plan);
          steps = isCurrent ? await this.#steps(plan, some, next, start === 0) : [];
          return { mutations: mutationsOf(steps) };
        }, signal);
        if (!isCurrent) return false;
        tally.add(steps);
      }
    }
    return true;
  }

  /** Whether the counts, and the overlay above the tree, are all that there is, and no snapshot needs more. */
  async #isCurrent({ tree, snapshots }: Plan): Promise<boolean> {
    const { state } = this.#parts;
    const isKnown = (await this.#snapshots()).every(({ root }) => snapshots.has(treeIdOf(root)));
    return isKnown && state.covers === tree.covers && !state.isFolding;
  }

  /** What the next commit does with these packs; with `cancels`, also with those that are referred to again. */
  async #steps({ empty, tree }: Plan, some: readonly EmptyPack[], next: number, cancels: boolean): Promise<Step[]> {
    const { state, staging } = this.#parts;
    const used = packsOf(state.operations);
    for (const [key, value] of state.committed.entries()) {
      const extent = key.startsWith('E') && value ? decodeExtent(value) : undefined;
      if (extent?.kind === 'data') used.add(extent.pack);
    }
    const collected = await this.#collected();
    const steps: Step[] = [];
    for (const { id, size } of some) {
      const before = collected.get(id);
      if (used.has(id) || staging.holds(id) || before?.state === 'buried') continue;
      if (!before) steps.push({ id, size, kind: 'condemn', value: { state: 'condemned', since: next, size } });
      else {
        const missing = this.#notHeardSince(before.since);
        if (missing.length === 0) steps.push({ id, size, kind: 'bury', value: { state: 'buried', since: next, size } });
        else steps.push({ id, size, kind: 'wait', value: undefined, devices: missing });
      }
    }
    if (!cancels) return steps;
    const isEmpty = new Set(empty.map(({ id }) => id));
    for (const [id, { state: standing, size, since }] of collected) {
      // What was condemned behind the counted tree is not in it as empty.
      if (standing === 'condemned' && (used.has(id) || (!isEmpty.has(id) && since <= tree.covers)))
        steps.push({ id, size, kind: 'cancel', value: undefined });
    }
    return steps;
  }

  async #collected(): Promise<Map<PackId, CollectedPack>> {
    const { state } = this.#parts;
    return withPages(() => {
      const found = new Map<PackId, CollectedPack>();
      for (const [key, value] of state.view.scan(collectedStart, collectedEnd)) {
        const decoded = decodeKey(key);
        if (decoded.type === 'collected') found.set(decoded.id, decodeCollectedPack(value));
      }
      return found;
    });
  }

  /** The devices that may write and have committed nothing behind this commit. */
  #notHeardSince(sequence: number): readonly Member[] {
    const { log } = this.#parts;
    return log.members.filter(
      ({ status, newest, enrolment }) =>
        status === 'active' && enrolment.role !== 'reader' && enrolment.deviceIndex !== log.deviceIndex && newest <= sequence,
    );
  }

  // --- Deleting

  /** Deletes what is buried, and takes it off the list. */
  async #deleteBuried({ wanted }: Plan, { signal, onProgress, windowMs }: CollectOptions, tally: Tally): Promise<void> {
    const { store, logger } = this.#parts.options;
    const observed = atLeast((await this.#accounts()).head?.observations ?? [], windowMs);
    const buried = [...(await this.#collected())].filter(([id, { state, since }]) => {
      // Others may bury what they like: their word counts when there was time to notice, and the counts agree.
      const isDue = tally.hasBuried(id) || (since <= (observed?.head ?? 0) && !wanted.has(id));
      return state === 'buried' && isDue;
    });
    // Named again since: somebody has brought it back.
    const { state } = this.#parts;
    const gone: PackId[] = [];
    const doomed: [PackId, CollectedPack][] = [];
    for (const [id, pack] of buried) {
      if (await withPages(() => state.committedValue(packEntryKey(id)))) gone.push(id);
      else doomed.push([id, pack]);
    }
    try {
      for (let start = 0; start < doomed.length; start += packsPerRequest) {
        signal?.throwIfAborted();
        const some = doomed.slice(start, start + packsPerRequest);
        await store.delete(some.map(([id]) => packKey(id)));
        for (const [id, { size }] of some) {
          gone.push(id);
          tally.freed(size);
        }
        onProgress?.({ phase: 'deleting', done: start + some.length, total: doomed.length });
      }
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'DENIED') throw error;
      tally.mayNotDelete = true;
      logger.warn('this device may not delete from the store: buried packs stay until a machine that may collects', { reason: describeError(error) });
    } finally {
      if (gone.length > 0)
        await this.#committer.change(() => Promise.resolve({ mutations: gone.toSorted().map((id): Mutation => [collectedKey(id), null]) }), signal);
    }
  }
}

/** What a commit says of one pack. */
interface Step {
  readonly id: PackId;
  readonly size: number;
  readonly kind: 'condemn' | 'bury' | 'cancel' | 'wait';
  readonly value: CollectedPack | undefined;
  readonly devices?: readonly Member[];
}

function mutationsOf(steps: readonly Step[]): Mutation[] {
  const mutations: [TreeKey, Uint8Array | null][] = [];
  for (const { id, kind, value } of steps) {
    if (kind === 'wait') continue;
    mutations.push([collectedKey(id), value ? encodeCollectedPack(value) : null]);
    if (kind === 'bury') mutations.push([packEntryKey(id), null]);
  }
  return mutations.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

class Tally {
  #condemned = { packs: 0, bytes: 0 };
  #buried = { packs: 0, bytes: 0 };
  #freed = { packs: 0, bytes: 0 };
  readonly #waiting = new Map<PackId, number>();
  readonly #waitingFor = new Set<string>();
  readonly #ownBurials = new Set<PackId>();
  #isRecount = false;
  #pagesRead = 0;
  #movedBytes = 0;
  mayNotDelete = false;
  readonly lapsed: string[] = [];

  counted({ isRecount, pages }: { readonly isRecount: boolean; readonly pages: number }): void {
    this.#isRecount ||= isRecount;
    this.#pagesRead += pages;
  }

  add(steps: readonly Step[]): void {
    for (const { id, size, kind, devices = [] } of steps) {
      if (kind === 'condemn') this.#condemned = plus(this.#condemned, size);
      if (kind === 'bury') {
        this.#buried = plus(this.#buried, size);
        this.#ownBurials.add(id);
        this.#waiting.delete(id);
      }
      if (kind === 'wait') this.#waiting.set(id, size);
      for (const { enrolment } of devices) this.#waitingFor.add(deviceLabel(enrolment.deviceIndex, enrolment.name));
    }
  }

  hasBuried(id: PackId): boolean {
    return this.#ownBurials.has(id);
  }

  moved(bytes: number): void {
    this.#movedBytes += bytes;
  }

  freed(size: number): void {
    this.#freed = plus(this.#freed, size);
  }

  report({ totals: { packs, live, kept, garbage } }: Plan): CollectReport {
    return {
      stored: { packs, bytes: live + kept + garbage },
      live,
      kept,
      garbage,
      condemned: this.#condemned,
      buried: this.#buried,
      freed: this.#freed,
      movedBytes: this.#movedBytes,
      waiting: { packs: this.#waiting.size, bytes: [...this.#waiting.values()].reduce((sum, size) => sum + size, 0) },
      waitingFor: [...this.#waitingFor].toSorted(),
      lapsed: this.lapsed,
      mayNotDelete: this.mayNotDelete,
      isRecount: this.#isRecount,
      pagesRead: this.#pagesRead,
    };
  }
}

const plus = ({ packs, bytes }: PackSum, size: number): PackSum => ({ packs: packs + 1, bytes: bytes + size });
