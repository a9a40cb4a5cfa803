/**
 * The state of an open volume in memory: the layers and what they add up to. Everything here is synchronous; each method is one instant,
 * and the only await-free way from one state to the next. Who calls them when is `committer.ts` (doc/concurrency.md, "Layers").
 *
 * pending over flying over committed over folding over the tree at `root`:
 * - pending: operations that were answered and are in no commit yet
 * - flying: the same, in the commit that is being put
 * - committed: mutations of commits after `covers` (after the fold's commit while one runs)
 * - folding: committed mutations that are being written into a new tree
 */
import { assert } from '../base/assert.js';
import { equalBytes } from '../base/bytes.js';
import type { Commit, Mutation, Sequence } from '../commit/commit.js';
import type { TreeKey } from '../meta/key.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { type BaseView, LayeredView, TransactionView } from './layered-view.js';
import type { Operation } from './operation.js';
import { Overlay } from './overlay.js';
import type { VolumeStatistics } from './statistics.js';

export interface PendingOperation {
  /** This device's count of operations. */
  readonly serial: number;
  readonly operation: Operation;
}

export interface Totals {
  files: number;
  bytes: number;
}

export class VolumeState {
  readonly #tree: TreeReader;
  #root: PageReference | undefined;
  #covers: Sequence;
  #base: BaseView;
  #folding: Overlay | undefined;
  #committed = new Overlay();
  #flying: Overlay | undefined;
  #pending = new Overlay();
  #view: LayeredView;
  /** Commits that `committed` and `folding` are made of, to take another device's checkpoint over. */
  #recent: { readonly sequence: Sequence; readonly mutations: readonly Mutation[]; readonly delta: Readonly<Totals> }[] = [];
  #flyingOperations: PendingOperation[] = [];
  #pendingOperations: PendingOperation[] = [];
  #totals: Totals;
  #pendingTotals: Totals = { files: 0, bytes: 0 };
  #flyingTotals: Totals = { files: 0, bytes: 0 };
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
    return {
      files: this.#totals.files + this.#flyingTotals.files + this.#pendingTotals.files,
      bytes: this.#totals.bytes + this.#flyingTotals.bytes + this.#pendingTotals.bytes,
    };
  }

  /** Operations that are in no commit yet, oldest first. */
  get operations(): readonly PendingOperation[] {
    return this.#flyingOperations.length === 0 ? this.#pendingOperations : [...this.#flyingOperations, ...this.#pendingOperations];
  }

  /** Of them, those in the commit that is being put. */
  get flyingOperations(): readonly PendingOperation[] {
    return this.#flyingOperations;
  }

  /** And those that are in none. */
  get waitingOperations(): readonly PendingOperation[] {
    return this.#pendingOperations;
  }

  get operationCount(): number {
    return this.#flyingOperations.length + this.#pendingOperations.length;
  }

  get pendingCount(): number {
    return this.#pendingOperations.length;
  }

  /** Memory of what is in no commit yet. */
  get pendingBytes(): number {
    return this.#pending.bytes + (this.#flying?.bytes ?? 0);
  }

  get committed(): Overlay {
    return this.#committed;
  }

  transaction(): TransactionView {
    return new TransactionView(this.#overlays(), this.#base);
  }

  /** One operation's changes become part of the state. */
  apply(operation: PendingOperation, changes: Overlay, delta: Totals): void {
    this.#pending.absorb(changes);
    this.#pendingOperations.push(operation);
    add(this.#pendingTotals, delta);
  }

  // Commit: freeze, then land or thaw.

  /** What is pending becomes flying. Answers what the commit must hold. */
  freeze(): { readonly mutations: readonly Mutation[]; readonly delta: Readonly<Totals>; readonly serial: number } {
    assert(!this.#flying, 'one commit flies at a time');
    this.#flying = this.#pending;
    this.#flyingOperations = this.#pendingOperations;
    this.#flyingTotals = this.#pendingTotals;
    this.#pending = new Overlay();
    this.#pendingOperations = [];
    this.#pendingTotals = { files: 0, bytes: 0 };
    this.#view = this.#layers();
    return { mutations: [...this.#flying.entries()], delta: { ...this.#flyingTotals }, serial: this.#flyingOperations.at(-1)?.serial ?? 0 };
  }

  /** The flying commit is in the log. */
  land(sequence: Sequence, mutations: readonly Mutation[]): void {
    assert(this.#flying, 'a commit flies');
    this.#committed.absorb(this.#flying);
    this.#recent.push({ sequence, mutations, delta: { ...this.#flyingTotals } });
    add(this.#totals, this.#flyingTotals);
    this.#flying = undefined;
    this.#flyingOperations = [];
    this.#flyingTotals = { files: 0, bytes: 0 };
    this.#view = this.#layers();
  }

  /** The commit did not get into the log, or nobody knows: what flew is pending again. */
  thaw(): void {
    if (!this.#flying) return;
    this.#flying.absorb(this.#pending);
    this.#pending = this.#flying;
    this.#pendingOperations = [...this.#flyingOperations, ...this.#pendingOperations];
    add(this.#pendingTotals, this.#flyingTotals);
    this.#flying = undefined;
    this.#flyingOperations = [];
    this.#flyingTotals = { files: 0, bytes: 0 };
    this.#view = this.#layers();
  }

  // Commits of others (and own ones that came back from the log).

  /** Takes commits in when nothing is pending. */
  advance(commits: readonly Commit[]): void {
    assert(this.operationCount === 0, 'pending operations must be rebased');
    for (const commit of commits) this.#take(commit);
    this.#view = this.#layers();
  }

  /**
   * Overlay of commits that are not part of the state yet, and a transaction factory over them: where a rebase runs. `changed`, at its end: the keys whose
   * value is another one than this device's operations had given them before.
   */
  rebaseOnto(commits: readonly Commit[]): { readonly pending: Overlay; transaction(): TransactionView; changed(): Iterable<TreeKey> } {
    const newer = new Overlay();
    for (const commit of commits) for (const [key, value] of commit.mutations) newer.set(key as TreeKey, value);
    const pending = new Overlay();
    const below = this.#folding ? [this.#committed, this.#folding] : [this.#committed];
    const overlays = [pending, newer, ...below];
    const base = this.#base;
    return { pending, transaction: () => new TransactionView(overlays, base), changed: () => changedKeys(this.#pending, pending, newer) };
  }

  /** The end of a rebase: the commits are in, and what was pending is what the rebase made of it. */
  finishRebase(commits: readonly Commit[], pending: Overlay, operations: PendingOperation[], delta: Totals): void {
    assert(!this.#flying, 'nothing flies during a rebase');
    for (const commit of commits) this.#take(commit);
    this.#pending = pending;
    this.#pendingOperations = operations;
    this.#pendingTotals = { ...delta };
    this.#view = this.#layers();
  }

  #take(commit: Commit): void {
    for (const [key, value] of commit.mutations) this.#committed.set(key as TreeKey, value);
    const delta = { files: commit.filesDelta, bytes: commit.bytesDelta };
    this.#recent.push({ sequence: commit.sequence, mutations: commit.mutations, delta });
    add(this.#totals, delta);
    const { checkpoint } = commit;
    if (!checkpoint || this.#folding || checkpoint.covers <= this.#covers) return;
    this.#adopt(checkpoint.root, checkpoint.covers);
    // It counts everything; after an opening at an older commit what was counted here may begin in the middle.
    this.#totals = { files: checkpoint.files, bytes: checkpoint.bytes };
    for (const recent of this.#recent) add(this.#totals, recent.delta);
  }

  // Checkpoints.

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
    this.#recent = this.#recent.filter((commit) => commit.sequence > covers);
    this.#committed = new Overlay();
    for (const commit of this.#recent) for (const [key, value] of commit.mutations) this.#committed.set(key as TreeKey, value);
  }

  #overlays(): Overlay[] {
    const overlays = [this.#pending];
    if (this.#flying) overlays.push(this.#flying);
    overlays.push(this.#committed);
    if (this.#folding) overlays.push(this.#folding);
    return overlays;
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

function add(totals: Totals, delta: Readonly<Totals>): void {
  totals.files += delta.files;
  totals.bytes += delta.bytes;
}

/** Keys that `before` and `after` mention differently; what `before` alone mentions is the same where a commit says so. */
function* changedKeys(before: Overlay, after: Overlay, commits: Overlay): Iterable<TreeKey> {
  for (const [key, value] of before.entries()) {
    const own = after.get(key);
    const now = own === undefined ? commits.get(key) : own;
    const isSame = now === value || (now && value && equalBytes(now, value));
    if (!isSame) yield key;
  }
  for (const [key] of after.entries()) if (before.get(key) === undefined) yield key;
}
