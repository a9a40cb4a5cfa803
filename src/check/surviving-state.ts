/**
 * The surviving part of the key space (doc/security.md, "Salvage"): the tree of the newest checkpoint with the later
 * mutations over it. Where a page is lost, its range is read from the checkpoint before, with all mutations since then,
 * and so on down to the first commit: an old page and the commits after it replace a lost one. Which commits count is
 * the standing of the survivors (`surviving-log.ts`).
 */
import type { Mutation } from '../commit/commit.js';
import { PackError } from '../pack/pack-error.js';
import { StoreError } from '../store/object-store.js';
import type { PageSource } from '../tree/tree-reader.js';
import type { Entry } from './state-entries.js';
import { newestMutations, takeBefore } from './state-entries.js';
import type { SurvivingLog, Survivors } from './surviving-log.js';
import type { LostRange } from './tree-walk.js';
import { walkLeaves } from './tree-walk.js';

export class SurvivingState {
  readonly #log: SurvivingLog;
  readonly #survivors: Survivors;
  readonly #source: PageSource;
  readonly #signal: AbortSignal | undefined;
  /** Mutations since the newest checkpoint, which every range needs. */
  #recent: readonly Mutation[] | undefined;
  #lostPages = 0;
  #staleRanges = 0;

  constructor(log: SurvivingLog, survivors: Survivors, source: PageSource, signal: AbortSignal | undefined) {
    this.#log = log;
    this.#survivors = survivors;
    this.#signal = signal;
    this.#source = {
      async readPage(reference) {
        try {
          return await source.readPage(reference);
        } catch (error) {
          if (error instanceof StoreError) throw new PackError('MISSING', error.message, { cause: error });
          throw error;
        }
      },
    };
  }

  /** How many pages could not be read, of all checkpoints that were tried. */
  get lostPages(): number {
    return this.#lostPages;
  }

  /** How many ranges of keys lack a commit since their checkpoint: their entries may be older, or missing. */
  get staleRanges(): number {
    return this.#staleRanges;
  }

  /** Entries with `from <= key < to`, ascending, with borrowed values. */
  async *entries(from: string, to: string): AsyncGenerator<readonly Entry[], void> {
    yield* this.#level(0, from, to);
  }

  async *#level(level: number, from: string, to: string | undefined): AsyncGenerator<readonly Entry[], void> {
    const checkpoint = this.#survivors.checkpoints.at(level);
    const covers = checkpoint?.covers ?? 0;
    const changes = level === 0 ? within(await this.#loadRecent(covers), from, to) : await this.#changesSince(covers, from, to);
    if (this.#survivors.lost.some((sequence) => sequence > covers)) this.#staleRanges++;
    const lost: LostRange[] = [];
    const range = to === undefined ? { from } : { from, to };
    const leaves = walkLeaves({
      source: this.#source,
      root: checkpoint?.root,
      ...range,
      signal: this.#signal,
      onLost: (one) => {
        this.#lostPages++;
        lost.push(one);
      },
    });
    let at = 0;
    for await (const leaf of leaves) {
      // Lost ranges before this leaf come first.
      for (const one of lost.splice(0)) at = yield* this.#fill(level, one, changes, at, from, to);
      const batch: Entry[] = [];
      for (let index = 0; index < leaf.count; index++) {
        const key = leaf.keyAt(index);
        if (key < from || (to !== undefined && key >= to)) continue;
        at = takeBefore(changes, at, key, batch);
        if (changes[at]?.[0] === key) continue;
        batch.push([key, leaf.valueAt(index)]);
      }
      yield batch;
    }
    for (const one of lost) at = yield* this.#fill(level, one, changes, at, from, to);
    const rest: Entry[] = [];
    takeBefore(changes, at, undefined, rest);
    yield rest;
  }

  /**
   * Entries up to the end of a lost range. Returns the index of the changes behind it: those within it are part of the
   * older state.
   */
  async *#fill(
    level: number,
    lost: LostRange,
    changes: readonly Mutation[],
    start: number,
    from: string,
    to: string | undefined,
  ): AsyncGenerator<readonly Entry[], number> {
    const low = lost.from > from ? lost.from : from;
    const high = lost.to === undefined || (to !== undefined && to < lost.to) ? to : lost.to;
    const before: Entry[] = [];
    const at = takeBefore(changes, start, low, before);
    yield before;
    yield* this.#level(level + 1, low, high);
    const behind = high === undefined ? -1 : changes.findIndex(([key], index) => index >= at && key >= high);
    return behind < 0 ? changes.length : behind;
  }

  async #loadRecent(covers: number): Promise<readonly Mutation[]> {
    this.#recent ??= await this.#changesSince(covers, '', undefined);
    return this.#recent;
  }

  async #changesSince(covers: number, from: string, to: string | undefined): Promise<readonly Mutation[]> {
    const { standing, newest: end } = this.#survivors;
    let newest: Mutation[] = [];
    const take = ({ mutations }: { readonly mutations: readonly Mutation[] }): void => {
      if (mutations.length > 0) newest = newestMutations([{ mutations: newest }, { mutations }], from, to);
    };
    // No tree of a device contains unproven commits, however old they are.
    if (standing === 'all') for await (const commit of this.#log.read('unproven', 0, covers)) take(commit);
    for await (const commit of this.#log.read(standing, covers, end)) take(commit);
    return newest;
  }
}

function within(changes: readonly Mutation[], from: string, to: string | undefined): readonly Mutation[] {
  return changes.filter(([key]) => key >= from && (to === undefined || key < to));
}
