/**
 * The state of an open volume in memory: the layers, and their sum. Every method is synchronous, one instant, and the
 * state changes in no other way. It does not decide when: `committer.ts` does (doc/concurrency.md, "Layers").
 *
 * From the newest layer to the oldest:
 * - pending: acknowledged operations that are in no commit yet, divided into layers that each fit into one commit
 * - flying: the operations in the commit that is being put
 * - committed: mutations of the commits after `covers` (while a fold runs, after the fold's commit), and the entries
 *   that they imply for their packs
 * - folding: committed mutations that are being written into a new tree
 * - the tree at `root`
 */
import { assert } from '../base/assert.js';
import { equalBytes } from '../base/bytes.js';
import type { Commit, CommitPack, Mutation } from '../commit/commit.js';
import type { Sequence } from '../commit/sequence.js';
import type { Ino, TreeKey } from '../meta/key.js';
import { impliedEntries } from '../meta/pack-entry.js';
import { type BaseView, LayeredView, TransactionView } from '../operation/layered-view.js';
import { Overlay } from '../operation/overlay.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { addTotals, Layer, PendingLayers, type PendingOperation, type Totals } from './pending-layers.js';
import { treeBase } from './tree-base.js';

/** Memory that a key and a value take in addition to their bytes. */
const mutationOverhead = 96;

/** Counters that must never go back, and whose they are. The volume keeps them. */
export interface Counters {
  /**
   * The index under which numbers and stamps are given out, -1 for none. When this installation has a new identity, it
   * remains that of the former one until what is pending was renumbered (`arrival.ts`).
   */
  deviceIndex: number;
  /** The next inode counter of this device. */
  nextIno: number;
  /** Shared by operations and content stamps. */
  serial: number;
}

/** The committed overlay is folded into the tree when it exceeds one of these. */
export interface FoldBounds {
  readonly entries: number;
  readonly bytes: number;
  /** Bounds how many commits a device reads when it mounts for the first time. Default: 500. */
  readonly commits?: number;
}

interface RecentCommit {
  readonly sequence: Sequence;
  readonly mutations: readonly Mutation[];
  readonly delta: Readonly<Totals>;
}

/** The content of the commit that is being put. */
export interface Flight {
  readonly mutations: readonly Mutation[];
  readonly delta: Readonly<Totals>;
  /** The serial of its last operation. */
  readonly serial: number;
}

/**
 * A rebase in progress: operations that are run again on newer commits, in order. None of it is part of the state
 * before `VolumeState.finishRebase`.
 */
export class RebaseRun {
  readonly commits: readonly Commit[];
  /** The results of the flying operations; `pending` has the results of the others. */
  readonly flying: Layer | undefined;
  readonly pending = new PendingLayers();
  readonly #newer = new Overlay();
  readonly #before: () => readonly Overlay[];
  readonly #below: readonly Overlay[];
  readonly #base: BaseView;

  /**
   * `before`: the layers of the operations that are run again, including those added meanwhile. `below`: the layers
   * under them. Both newest first.
   */
  constructor(
    commits: readonly Commit[],
    layers: { readonly before: () => readonly Overlay[]; readonly below: readonly Overlay[]; readonly base: BaseView; readonly flies: boolean },
  ) {
    this.commits = commits;
    for (const { mutations } of commits) for (const [key, value] of mutations) this.#newer.set(key as TreeKey, value);
    this.#before = layers.before;
    this.#below = layers.below;
    this.#base = layers.base;
    if (layers.flies) this.flying = new Layer();
  }

  transaction(): TransactionView {
    return new TransactionView([...this.#after(), this.#newer, ...this.#below], this.#base);
  }

  /** Adds the result of one operation. Flying operations come first. */
  add(flies: boolean, operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): void {
    const layer = flies ? this.flying : this.pending;
    assert(layer && !(flies && this.pending.operationCount > 0), 'what flies comes first');
    layer.add(operations, changes, delta);
  }

  get operations(): readonly PendingOperation[] {
    return [...(this.flying?.operations ?? []), ...this.pending.operations];
  }

  /**
   * The keys whose value differs from the one that the operations had given them; a key to which a commit gives the
   * same value is unchanged. Keys that only commits mention are not included.
   */
  *changed(): Iterable<TreeKey> {
    const [after, layersBefore] = [this.#after(), this.#before()];
    for (const key of keysOf(layersBefore)) {
      const before = valueIn(layersBefore, key);
      const now = valueIn([...after, this.#newer], key);
      const isSame = now === before || (now && before && equalBytes(now, before));
      if (!isSame) yield key;
    }
    for (const key of keysOf(after)) if (valueIn(layersBefore, key) === undefined) yield key;
  }

  #after(): Overlay[] {
    return this.flying ? [...this.pending.overlays, this.flying.changes] : this.pending.overlays;
  }
}

export class VolumeState {
  readonly #tree: TreeReader;
  #root: PageReference | undefined;
  #covers: Sequence;
  #base: BaseView;
  #folding: Overlay | undefined;
  #committed = new Overlay();
  #flying: Layer | undefined;
  /** The oldest layer flies next. */
  #pending = new PendingLayers();
  #view: LayeredView;
  /** The commits that `committed` and `folding` consist of, needed to adopt another device's checkpoint. */
  #recent: RecentCommit[] = [];
  #recentBytes = 0;
  #totals: Totals;
  /** Totals at the newest commit of `folding`. */
  #foldTotals: Totals = { files: 0, bytes: 0 };

  constructor(tree: TreeReader, start: { readonly root: PageReference | undefined; readonly covers: Sequence; readonly totals: Totals }) {
    this.#tree = tree;
    this.#root = start.root;
    this.#covers = start.covers;
    this.#totals = { ...start.totals };
    this.#base = treeBase(tree, start.root);
    this.#view = this.#layers();
  }

  /** The newest state. Every change of layers makes a new object, so do not keep it across an await. */
  get view(): LayeredView {
    return this.#view;
  }

  get root(): PageReference | undefined {
    return this.#root;
  }

  get covers(): Sequence {
    return this.#covers;
  }

  get statistics(): VolumeStatistics {
    const totals = { ...this.#totals };
    if (this.#flying) addTotals(totals, this.#flying.totals);
    addTotals(totals, this.#pending.totals);
    return totals;
  }

  /** Operations that are in no commit yet, oldest first. */
  get operations(): readonly PendingOperation[] {
    return this.#flying ? [...this.#flying.operations, ...this.#pending.operations] : this.#pending.operations;
  }

  /** The operations in the commit that is being put. */
  get flyingOperations(): readonly PendingOperation[] {
    return this.#flying?.operations ?? [];
  }

  /** The operations that are not in that commit. */
  get waitingOperations(): readonly PendingOperation[] {
    return this.#pending.operations;
  }

  get operationCount(): number {
    return this.flyingOperations.length + this.#pending.operationCount;
  }

  get pendingCount(): number {
    return this.#pending.operationCount;
  }

  /** How many commits the pending operations take. */
  get pendingLayers(): number {
    return this.#pending.layerCount;
  }

  /** Memory of the operations that are in no commit yet. */
  get pendingBytes(): number {
    return this.#pending.bytes + (this.#flying?.bytes ?? 0);
  }

  /** One of {@link operations}: the oldest is 0. */
  operationAt(index: number): PendingOperation | undefined {
    const flying = this.flyingOperations;
    return index < flying.length ? flying[index] : this.#pending.at(index - flying.length);
  }

  /** What the operations that are in no commit yet have set, or deleted (`null`); each key once. */
  *uncommitted(): Iterable<readonly [TreeKey, Uint8Array | null]> {
    const overlays = this.#ownOverlays();
    for (const key of keysOf(overlays)) yield [key, valueIn(overlays, key) ?? null];
  }

  /** Whether an operation that is in no commit yet has set or deleted this key. */
  mentions(key: TreeKey): boolean {
    return valueIn(this.#ownOverlays(), key) !== undefined;
  }

  /** Whether an operation that is in no commit yet depends on this inode without changing it. */
  readsOnly(ino: Ino): boolean {
    return this.#flying?.onlyRead.has(ino) === true || this.#pending.readsOnly(ino);
  }

  /** Whether an operation that is in no commit yet may have moved a directory into another one. */
  get movesDirectories(): boolean {
    return this.#flying?.movesDirectories === true || this.#pending.movesDirectories;
  }

  /** Directories that uncommitted operations moved other directories to, or created directories in. */
  get directoryPlaces(): readonly Ino[] {
    return [...(this.#flying?.directoryPlaces ?? []), ...this.#pending.directoryPlaces];
  }

  /** The committed value, without operations that are in no commit yet. Throws PageFault. */
  committedValue(key: TreeKey): Uint8Array | undefined {
    return new LayeredView(this.#committedOverlays(), this.#base).get(key);
  }

  get committed(): Overlay {
    return this.#committed;
  }

  transaction(): TransactionView {
    return new TransactionView(this.#overlays(), this.#base);
  }

  /**
   * Adds the changes of one operation. Every operation is added if it changes anything here: on another base it could
   * change something else.
   */
  apply(operation: PendingOperation, changes: Overlay, delta: Totals): void {
    this.applyAll([operation], changes, delta);
  }

  /** As `apply`, for the operations that took the place of one. */
  applyAll(operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): void {
    if (this.#pending.add(operations, changes, delta)) this.#view = this.#layers();
  }

  // Commit: freeze, then land or thaw.

  /** Makes the oldest layer of the pending operations fly. */
  freeze(): void {
    assert(!this.#flying, 'one commit flies at a time');
    this.#flying = this.#pending.takeOldest();
    this.#view = this.#layers();
  }

  /** The flying operations on the newest commits taken in; `undefined` when a rebase left nothing of them. */
  get flight(): Flight | undefined {
    if (!this.#flying || this.#flying.operations.length === 0) return undefined;
    const serial = this.#flying.operations.findLast(({ carried }) => !carried)?.serial ?? 0;
    return { mutations: [...this.#flying.changes.entries()], delta: { ...this.#flying.totals }, serial };
  }

  /** The flying commit is in the log, and names `packs`. */
  land(sequence: Sequence, { mutations, delta }: Flight, packs: readonly CommitPack[]): void {
    assert(this.#flying, 'a commit flies');
    this.#committed.absorb(this.#flying.changes);
    const implied = impliedEntries(sequence, packs);
    for (const [key, value] of implied) this.#committed.set(key, value);
    this.#remember({ sequence, mutations: [...mutations, ...implied], delta });
    addTotals(this.#totals, delta);
    this.#flying = undefined;
    this.#view = this.#layers();
  }

  /** The commit did not get into the log, or its outcome is unknown: its operations become pending again. */
  thaw(): void {
    if (!this.#flying) return;
    this.#pending.putBack(this.#flying);
    this.#flying = undefined;
    this.#view = this.#layers();
  }

  // Commits of others (and this device's own, if they came back from the log).

  /**
   * Takes commits in below the operations that are in no commit yet, which must not depend on them (`independence.ts`).
   */
  advance(commits: readonly Commit[]): void {
    for (const commit of commits) this.#take(commit);
    this.#view = this.#layers();
  }

  /** Starts running the operations again on commits that are not part of the state yet. */
  rebaseOnto(commits: readonly Commit[]): RebaseRun {
    return new RebaseRun(commits, {
      before: () => this.#ownOverlays(),
      below: this.#committedOverlays(),
      base: this.#base,
      flies: this.#flying !== undefined,
    });
  }

  /** Ends a rebase: takes its commits in and replaces the uncommitted operations with its results. */
  finishRebase({ commits, flying, pending }: RebaseRun): void {
    assert((flying !== undefined) === (this.#flying !== undefined), 'what flew still flies');
    for (const commit of commits) this.#take(commit);
    this.#flying = flying;
    this.#pending = pending;
    this.#view = this.#layers();
  }

  #take(commit: Commit): void {
    const mutations = [...commit.mutations, ...impliedEntries(commit.sequence, commit.packs)];
    for (const [key, value] of mutations) this.#committed.set(key as TreeKey, value);
    const delta = { files: commit.filesDelta, bytes: commit.bytesDelta };
    this.#remember({ sequence: commit.sequence, mutations, delta });
    addTotals(this.#totals, delta);
    const { checkpoint } = commit;
    if (!checkpoint || this.#folding || checkpoint.covers <= this.#covers) return;
    this.#adopt(checkpoint.root, checkpoint.covers);
    // A checkpoint counts everything; after an open at an older commit the own count may have begun in the middle.
    this.#totals = { files: checkpoint.files, bytes: checkpoint.bytes };
    for (const recent of this.#recent) addTotals(this.#totals, recent.delta);
  }

  // Checkpoints.

  #remember(commit: RecentCommit): void {
    this.#recent.push(commit);
    for (const [key, value] of commit.mutations) this.#recentBytes += mutationOverhead + key.length + (value?.byteLength ?? 0);
  }

  /**
   * Approximate memory of the commits that no checkpoint of this state covers. Values that later commits replaced count
   * too.
   */
  get recentBytes(): number {
    return this.#recentBytes;
  }

  /** Turns the committed overlay into the fold's input. */
  beginFold(): { readonly changes: Overlay; readonly root: PageReference | undefined; readonly totals: Readonly<Totals> } {
    assert(!this.#folding, 'one fold at a time');
    this.#folding = this.#committed;
    this.#committed = new Overlay();
    this.#foldTotals = { ...this.#totals };
    this.#view = this.#layers();
    return { changes: this.#folding, root: this.#root, totals: { ...this.#foldTotals } };
  }

  /** The new tree is in a checkpoint: the fold's input is dropped. */
  endFold(root: PageReference | undefined, covers: Sequence): void {
    assert(this.#folding, 'a fold runs');
    this.#folding = undefined;
    this.#adopt(root, covers);
    this.#view = this.#layers();
  }

  /** The fold failed: its input is part of the committed overlay again. */
  abandonFold(): void {
    if (!this.#folding) return;
    this.#folding.absorb(this.#committed);
    this.#committed = this.#folding;
    this.#folding = undefined;
    this.#view = this.#layers();
  }

  /** Whether the committed overlay of some time ago is being written into a tree. */
  get isFolding(): boolean {
    return this.#folding !== undefined;
  }

  // Lost commits.

  /**
   * Becomes `earlier`, in which operations are pending again that are committed here: the sum is the same. A fold that
   * runs is void.
   */
  stepBackTo(earlier: VolumeState): void {
    this.#root = earlier.#root;
    this.#covers = earlier.#covers;
    this.#base = earlier.#base;
    this.#folding = undefined;
    this.#committed = earlier.#committed;
    this.#flying = undefined;
    this.#pending = earlier.#pending;
    [this.#recent, this.#recentBytes] = [earlier.#recent, earlier.#recentBytes];
    this.#totals = earlier.#totals;
    this.#view = this.#layers();
  }

  #adopt(root: PageReference | undefined, covers: Sequence): void {
    this.#root = root;
    this.#covers = covers;
    this.#base = treeBase(this.#tree, root);
    const recent = this.#recent.filter((commit) => commit.sequence > covers);
    [this.#recent, this.#recentBytes] = [[], 0];
    for (const commit of recent) this.#remember(commit);
    this.#committed = new Overlay();
    for (const commit of this.#recent) for (const [key, value] of commit.mutations) this.#committed.set(key as TreeKey, value);
  }

  #overlays(): Overlay[] {
    return [...this.#ownOverlays(), ...this.#committedOverlays()];
  }

  #ownOverlays(): Overlay[] {
    return this.#flying ? [...this.#pending.overlays, this.#flying.changes] : this.#pending.overlays;
  }

  #committedOverlays(): Overlay[] {
    return this.#folding ? [this.#committed, this.#folding] : [this.#committed];
  }

  #layers(): LayeredView {
    return new LayeredView(this.#overlays(), this.#base);
  }
}

/** Every key that one of the overlays mentions, once. */
function* keysOf(overlays: readonly Overlay[]): Iterable<TreeKey> {
  for (const [index, overlay] of overlays.entries()) {
    const newer = overlays.slice(0, index);
    for (const [key] of overlay.entries()) if (valueIn(newer, key) === undefined) yield key;
  }
}

/** The value in the newest overlay that mentions the key; `undefined` when none does. */
function valueIn(overlays: readonly Overlay[], key: TreeKey): Uint8Array | null | undefined {
  for (const overlay of overlays) {
    const value = overlay.get(key);
    if (value !== undefined) return value;
  }
  return undefined;
}
