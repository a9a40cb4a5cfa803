/**
 * The state of an open volume in memory: the layers and what they add up to. Everything here is synchronous; each method is one instant,
 * and the only await-free way from one state to the next. Who calls them when is `committer.ts` (doc/concurrency.md, "Layers").
 *
 * pending over flying over committed over folding over the tree at `root`:
 * - pending: operations that were answered and are in no commit yet, in layers of what a commit can hold
 * - flying: the same, in the commit that is being put
 * - committed: mutations of commits after `covers` (after the fold's commit while one runs)
 * - folding: committed mutations that are being written into a new tree
 */
import { assert } from '../base/assert.js';
import { equalBytes } from '../base/bytes.js';
import type { Commit, Mutation, Sequence } from '../commit/commit.js';
import type { Ino, TreeKey } from '../meta/key.js';
import { type BaseView, LayeredView, TransactionView } from '../operation/layered-view.js';
import { Overlay } from '../operation/overlay.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { addTotals, Layer, PendingLayers, type PendingOperation, type Totals } from './pending-layers.js';

/** Of a key and a value in memory, beside their bytes. */
const mutationOverhead = 96;

interface RecentCommit {
  readonly sequence: Sequence;
  readonly mutations: readonly Mutation[];
  readonly delta: Readonly<Totals>;
}

/** What the commit that is being put must hold. */
export interface Flight {
  readonly mutations: readonly Mutation[];
  readonly delta: Readonly<Totals>;
  /** Of its last operation. */
  readonly serial: number;
}

/** Operations on their way onto newer commits, in their order. Nothing of it is part of the state before `VolumeState.finishRebase`. */
export class RebaseRun {
  readonly commits: readonly Commit[];
  /** What came of operations that fly, and of the others. */
  readonly flying: Layer | undefined;
  readonly pending = new PendingLayers();
  readonly #newer = new Overlay();
  readonly #before: () => readonly Overlay[];
  readonly #below: readonly Overlay[];
  readonly #base: BaseView;

  /** `before`: the layers of the operations that are run again, also of those that come meanwhile; `below`: those under them; newest first. */
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

  /** What came of one operation, that `flies` or does not; those that fly come first. */
  add(flies: boolean, operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): void {
    const layer = flies ? this.flying : this.pending;
    assert(layer && !(flies && this.pending.operationCount > 0), 'what flies comes first');
    layer.add(operations, changes, delta);
  }

  get operations(): readonly PendingOperation[] {
    return [...(this.flying?.operations ?? []), ...this.pending.operations];
  }

  /** The keys whose value is another one than the operations had given them before. What they alone mention is the same where a commit says so. */
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
  /** The oldest of them flies next. */
  #pending = new PendingLayers();
  #view: LayeredView;
  /** Commits that `committed` and `folding` are made of, to take another device's checkpoint over. */
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
    this.#base = this.#baseAt(start.root);
    this.#view = this.#layers();
  }

  /** The newest state. A new object after every change of layers: do not keep it across an await. */
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

  /** Of them, those in the commit that is being put. */
  get flyingOperations(): readonly PendingOperation[] {
    return this.#flying?.operations ?? [];
  }

  /** And those that are in none. */
  get waitingOperations(): readonly PendingOperation[] {
    return this.#pending.operations;
  }

  get operationCount(): number {
    return this.flyingOperations.length + this.#pending.operationCount;
  }

  get pendingCount(): number {
    return this.#pending.operationCount;
  }

  /** Of what does not fly: how many commits it takes. */
  get pendingLayers(): number {
    return this.#pending.layerCount;
  }

  /** Memory of what is in no commit yet. */
  get pendingBytes(): number {
    return this.#pending.bytes + (this.#flying?.bytes ?? 0);
  }

  /** One of {@link operations}: the oldest is 0. */
  operationAt(index: number): PendingOperation | undefined {
    const flying = this.flyingOperations;
    return index < flying.length ? flying[index] : this.#pending.at(index - flying.length);
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

  /** Directories that operations in no commit moved others to, or made them in. */
  get directoryPlaces(): readonly Ino[] {
    return [...(this.#flying?.directoryPlaces ?? []), ...this.#pending.directoryPlaces];
  }

  /** What the log says, without what is in no commit yet. Throws PageFault. */
  committedValue(key: TreeKey): Uint8Array | undefined {
    return new LayeredView(this.#committedOverlays(), this.#base).get(key);
  }

  get committed(): Overlay {
    return this.#committed;
  }

  transaction(): TransactionView {
    return new TransactionView(this.#overlays(), this.#base);
  }

  /** One operation's changes become part of the state. It has some: one that changed nothing here could change something on another base. */
  apply(operation: PendingOperation, changes: Overlay, delta: Totals): void {
    if (this.#pending.add([operation], changes, delta)) this.#view = this.#layers();
  }

  // Commit: freeze, then land or thaw.

  /** What is pending becomes flying, or the oldest layer of it. */
  freeze(): void {
    assert(!this.#flying, 'one commit flies at a time');
    this.#flying = this.#pending.takeOldest();
    this.#view = this.#layers();
  }

  /** What flies, as it is on the commits that were taken in last; `undefined` when a rebase left nothing of it. */
  get flight(): Flight | undefined {
    const serial = this.#flying?.operations.at(-1)?.serial;
    if (!this.#flying || serial === undefined) return undefined;
    return { mutations: [...this.#flying.changes.entries()], delta: { ...this.#flying.totals }, serial };
  }

  /** The flying commit is in the log. */
  land(sequence: Sequence, { mutations, delta }: Flight): void {
    assert(this.#flying, 'a commit flies');
    this.#committed.absorb(this.#flying.changes);
    this.#remember({ sequence, mutations, delta });
    addTotals(this.#totals, delta);
    this.#flying = undefined;
    this.#view = this.#layers();
  }

  /** The commit did not get into the log, or nobody knows: what flew is pending again. */
  thaw(): void {
    if (!this.#flying) return;
    this.#pending.putBack(this.#flying);
    this.#flying = undefined;
    this.#view = this.#layers();
  }

  // Commits of others (and own ones that came back from the log).

  /** Takes commits in below what is in no commit yet, which must not depend on them (`independence.ts`). */
  advance(commits: readonly Commit[]): void {
    for (const commit of commits) this.#take(commit);
    this.#view = this.#layers();
  }

  /** Where the operations are run again on top of commits that are not part of the state yet. */
  rebaseOnto(commits: readonly Commit[]): RebaseRun {
    return new RebaseRun(commits, {
      before: () => this.#ownOverlays(),
      below: this.#committedOverlays(),
      base: this.#base,
      flies: this.#flying !== undefined,
    });
  }

  /** The end of a rebase: its commits are in, and what was in none is what the rebase made of it. */
  finishRebase({ commits, flying, pending }: RebaseRun): void {
    assert((flying !== undefined) === (this.#flying !== undefined), 'what flew still flies');
    for (const commit of commits) this.#take(commit);
    this.#flying = flying;
    this.#pending = pending;
    this.#view = this.#layers();
  }

  #take(commit: Commit): void {
    for (const [key, value] of commit.mutations) this.#committed.set(key as TreeKey, value);
    const delta = { files: commit.filesDelta, bytes: commit.bytesDelta };
    this.#remember({ sequence: commit.sequence, mutations: commit.mutations, delta });
    addTotals(this.#totals, delta);
    const { checkpoint } = commit;
    if (!checkpoint || this.#folding || checkpoint.covers <= this.#covers) return;
    this.#adopt(checkpoint.root, checkpoint.covers);
    // It counts everything; after an opening at an older commit what was counted here may begin in the middle.
    this.#totals = { files: checkpoint.files, bytes: checkpoint.bytes };
    for (const recent of this.#recent) addTotals(this.#totals, recent.delta);
  }

  // Checkpoints.

  #remember(commit: RecentCommit): void {
    this.#recent.push(commit);
    for (const [key, value] of commit.mutations) this.#recentBytes += mutationOverhead + key.length + (value?.byteLength ?? 0);
  }

  /** Approximate memory of the commits that no checkpoint of this state holds: a value that one has put and a later one has replaced counts, too. */
  get recentBytes(): number {
    return this.#recentBytes;
  }

  /** What is committed becomes the fold's input. */
  beginFold(): { readonly changes: Overlay; readonly root: PageReference | undefined; readonly totals: Readonly<Totals> } {
    assert(!this.#folding, 'one fold at a time');
    this.#folding = this.#committed;
    this.#committed = new Overlay();
    this.#foldTotals = { ...this.#totals };
    this.#view = this.#layers();
    return { changes: this.#folding, root: this.#root, totals: { ...this.#foldTotals } };
  }

  /** The new tree is in a checkpoint. */
  endFold(root: PageReference | undefined, covers: Sequence): void {
    assert(this.#folding, 'a fold runs');
    this.#folding = undefined;
    this.#adopt(root, covers);
    this.#view = this.#layers();
  }

  /** The fold failed: its input is committed state as before. */
  abandonFold(): void {
    if (!this.#folding) return;
    this.#folding.absorb(this.#committed);
    this.#committed = this.#folding;
    this.#folding = undefined;
    this.#view = this.#layers();
  }

  #adopt(root: PageReference | undefined, covers: Sequence): void {
    this.#root = root;
    this.#covers = covers;
    this.#base = this.#baseAt(root);
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

  #baseAt(root: PageReference | undefined): BaseView {
    const tree = this.#tree;
    return {
      get: (key) => tree.get(root, key),
      scan: (from, to) => tree.scan(root, from, to) as IterableIterator<readonly [TreeKey, Uint8Array]>,
      floor: (from, to) => tree.floor(root, from, to) as readonly [TreeKey, Uint8Array] | undefined,
    };
  }
}

/** Every key that one of them mentions, once. */
function* keysOf(overlays: readonly Overlay[]): Iterable<TreeKey> {
  for (const [index, overlay] of overlays.entries()) {
    const newer = overlays.slice(0, index);
    for (const [key] of overlay.entries()) if (valueIn(newer, key) === undefined) yield key;
  }
}

/** What the newest of them says; `undefined` when none says anything. */
function valueIn(overlays: readonly Overlay[], key: TreeKey): Uint8Array | null | undefined {
  for (const overlay of overlays) {
    const value = overlay.get(key);
    if (value !== undefined) return value;
  }
  return undefined;
}
