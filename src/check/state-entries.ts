/**
 * The volume's key space at one commit, as a stream: the readable leaves of a tree with the mutations of later commits
 * over them (doc/architecture.md, "A volume's state: one key space in layers"). It comes in batches, since a promise
 * for every entry would cost more than the entry.
 */
import type { Mutation } from '../commit/commit.js';
import type { TreePage } from '../tree/tree-page.js';

export type Entry = readonly [key: string, value: Uint8Array];

/** The newest mutation of every key with `from <= key < to`, ascending. */
export function newestMutations(commits: Iterable<{ readonly mutations: readonly Mutation[] }>, from = '', to?: string): Mutation[] {
  const newest = new Map<string, Uint8Array | null>();
  for (const { mutations } of commits) {
    for (const [key, value] of mutations) if (key >= from && (to === undefined || key < to)) newest.set(key, value);
  }
  return [...newest].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** Entries with `from <= key < to`, ascending, with borrowed values. `changes` ascend and lie in the range. */
export async function* mergedEntries(
  leaves: AsyncIterable<TreePage>,
  changes: readonly Mutation[],
  from = '',
  to?: string,
): AsyncGenerator<readonly Entry[], void> {
  let at = 0;
  for await (const leaf of leaves) {
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
  const rest: Entry[] = [];
  takeBefore(changes, at, undefined, rest);
  yield rest;
}

/**
 * Adds the changes from index `from` on whose keys lie before `key` (or all) to `batch`. Returns the index of the
 * others.
 */
export function takeBefore(changes: readonly Mutation[], from: number, key: string | undefined, batch: Entry[]): number {
  for (let at = from; at < changes.length; at++) {
    const [changed, value] = changes[at]!;
    if (key !== undefined && changed >= key) return at;
    if (value !== null) batch.push([changed, value]);
  }
  return changes.length;
}
