/**
 * Past states of the volume: each is the state after one commit, found by walking the log backwards (doc/past.md, "How
 * a past state is found"). A few are kept open; one that nobody uses is dropped, and is found again when needed. It
 * knows no files: `past-volume.ts` shows them.
 */
import type { Clock } from '../base/clock.js';
import type { LogPosition } from '../commit/chain.js';
import type { Checkpoint, Commit } from '../commit/commit.js';
import type { PastLog, PastStart } from '../commit/past-log.js';
import type { Sequence } from '../commit/sequence.js';
import type { TreeKey } from '../meta/key.js';
import { impliedEntries } from '../meta/pack-entry.js';
import { LayeredView } from '../operation/layered-view.js';
import { Overlay } from '../operation/overlay.js';
import type { ReadView } from '../operation/view.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { treeBase } from './tree-base.js';

/** The state after one commit. It never changes. */
export interface PastState {
  readonly sequence: Sequence;
  readonly view: ReadView;
  /** Memory of what lies over its tree. */
  readonly bytes: number;
}

export interface PastStatesOptions {
  readonly log: { readonly past: Pick<PastLog, 'back'>; readonly pastStart: PastStart };
  readonly tree: TreeReader;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}

const openMax = 16;
const openBytesMax = 16 * 1024 * 1024;
const idleMs = 300_000;
const knownMax = 1024;

export class PastStates {
  readonly #options: PastStatesOptions;
  /** The least recently used first. */
  readonly #open = new Map<number, { readonly state: Promise<PastState>; bytes: number; usedMs: number }>();
  /** Checkpoints that a walk came by, or that a snapshot names, by number: later walks can start there. */
  readonly #known = new Map<number, PastStart>();

  constructor(options: PastStatesOptions) {
    this.#options = options;
  }

  /** How many are open. */
  get count(): number {
    return this.#open.size;
  }

  /**
   * The state after commit `sequence`, which is that after the newest commit that counts up to there. Throws
   * CommitError, StoreError, disk errors.
   */
  at(sequence: number): Promise<PastState> {
    this.dropIdle();
    const usedMs = this.#options.clock.monotonicMs();
    const found = this.#open.get(sequence);
    this.#open.delete(sequence);
    const opened = found ?? { state: this.#find(sequence), bytes: 0, usedMs };
    opened.usedMs = usedMs;
    this.#open.set(sequence, opened);
    opened.state.then(
      ({ bytes }) => {
        opened.bytes = bytes;
        this.#makeRoom();
      },
      () => this.#open.delete(sequence),
    );
    return opened.state;
  }

  /** The commits that count up to `sequence`, the newest first. Throws as {@link PastStates.at} does. */
  async *commitsBack(sequence: number, signal?: AbortSignal): AsyncGenerator<Commit, void> {
    for await (const commit of this.#options.log.past.back(this.#startFor(sequence), signal)) {
      this.#remember(commit);
      if (commit.sequence <= sequence) yield commit;
    }
  }

  /** The state whose tree has this root. Nothing is kept of it here. */
  ofTree(sequence: number, root: PageReference | undefined): PastState {
    return { sequence: sequence as Sequence, view: new LayeredView([], treeBase(this.#options.tree, root)), bytes: 0 };
  }

  /** Lets go of what nobody has used for a while. */
  dropIdle(): void {
    const sinceMs = this.#options.clock.monotonicMs() - idleMs;
    for (const [sequence, { usedMs }] of this.#open) if (usedMs < sinceMs) this.#open.delete(sequence);
  }

  #makeRoom(): void {
    let bytes = 0;
    for (const opened of this.#open.values()) bytes += opened.bytes;
    for (const [sequence, opened] of this.#open) {
      if (this.#open.size <= openMax && (bytes <= openBytesMax || this.#open.size === 1)) return;
      this.#open.delete(sequence);
      bytes -= opened.bytes;
    }
  }

  /** The nearest known commit from `sequence` on. */
  #startFor(sequence: number): PastStart {
    let nearest = this.#options.log.pastStart;
    for (const known of this.#known.values()) if (known.sequence >= sequence && known.sequence < nearest.sequence) nearest = known;
    return nearest;
  }

  #remember({ sequence, hash, checkpoint }: Commit): void {
    if (checkpoint) this.know({ sequence, hash });
  }

  /** A commit with a checkpoint, which counts: its record has the newest commits of all others. */
  know({ sequence, hash }: LogPosition): void {
    if (this.#known.has(sequence)) return;
    this.#known.set(sequence, { sequence, hash, newest: [sequence] });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= knownMax) return;
      this.#known.delete(oldest);
    }
  }

  async #find(sequence: number): Promise<PastState> {
    const { log, tree } = this.#options;
    const overlay = new Overlay();
    let base: Checkpoint | undefined;
    for await (const commit of log.past.back(this.#startFor(sequence))) {
      this.#remember(commit);
      if (!base && commit.checkpoint && commit.checkpoint.covers <= sequence) base = commit.checkpoint;
      if (base && commit.sequence <= base.covers) break;
      if (commit.sequence <= sequence) addBelow(overlay, commit);
      if (base && base.covers >= sequence) break;
    }
    const view = new LayeredView([overlay], treeBase(tree, base?.root));
    return { sequence: sequence as Sequence, view, bytes: overlay.bytes };
  }
}

/** Adds what an older commit has changed: what the overlay mentions already is newer. */
function addBelow(overlay: Overlay, { sequence, packs, mutations }: Commit): void {
  for (const [key, value] of [...impliedEntries(sequence, packs), ...mutations])
    if (overlay.get(key as TreeKey) === undefined) overlay.set(key as TreeKey, value);
}
