/**
 * The key space as far as it survives: the newest checkpoint's tree with the later mutations over it, and where a page of it is lost, the same
 * range from the checkpoint before, with all mutations since then; down to the first commit. So an old page and the commits after it stand in
 * for a lost one. Which commits count is the standing of the survivors (`surviving-log.ts`).
 */
import type { Mutation } from '../commit/commit.js';
import { PackError } from '../pack/pack-error.js';
import { StoreError } from '../store/object-store.js';
import type { PageSource } from '../tree/tree-reader.js';
import type { Entry } from './state-entries.js';
import { newestMutations } from './state-entries.js';
import type { SurvivingLog, Survivors } from './surviving-log.js';
import type { LostRange } from './tree-walk.js';
import { walkLeaves } from './tree-walk.js';

export class SurvivingState {
  readonly #log: SurvivingLog;
  readonly #survivors: Survivors;
  readonly #source: PageSource;
  readonly #signal: AbortSignal | undefined;
  /** Mutations since the newest checkpoint: every range asks for them. */
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

  /** Pages that could not be read, of any checkpoint that was tried. */
  get lostPages(): number {
    return this.#lostPages;
  }

  /** Ranges of keys for which no checkpoint and not every commit is left: what they hold may be older, or gone. */
  get staleRanges(): number {
    return this.#staleRanges;
  }

  /** Entries with `from <= key < to`, ascending; values borrowed. */
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
      // What was lost before this leaf comes first.
      for (const one of lost.splice(0)) at = yield* this.#fill(level, one, changes, at, from, to);
      const batch: Entry[] = [];
      for (let index = 0; index < leaf.count; index++) {
        const key = leaf.keyAt(index);
        if (key < from || (to !== undefined && key >= to)) continue;
        for (; at < changes.length && changes[at][0] < key; at++) push(batch, changes[at]);
        if (at < changes.length && changes[at][0] === key) continue;
        batch.push([key, leaf.valueAt(index)]);
      }
      yield batch;
    }
    for (const one of lost) at = yield* this.#fill(level, one, changes, at, from, to);
    const rest: Entry[] = [];
    for (; at < changes.length; at++) push(rest, changes[at]);
    yield rest;
  }

  /** Answers where the changes behind the range begin: those within it are part of what the older checkpoint gives. */
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
    let at = start;
    const before: Entry[] = [];
    for (; at < changes.length && changes[at][0] < low; at++) push(before, changes[at]);
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
    // The tree of a device does not hold what is not proven, however old it is.
    if (standing === 'all') for await (const commit of this.#log.read('unproven', 0, covers)) take(commit);
    for await (const commit of this.#log.read(standing, covers, end)) take(commit);
    return newest;
  }
}

function push(batch: Entry[], [key, value]: Mutation): void {
  if (value !== null) batch.push([key, value]);
}

function within(changes: readonly Mutation[], from: string, to: string | undefined): readonly Mutation[] {
  return changes.filter(([key]) => key >= from && (to === undefined || key < to));
}
