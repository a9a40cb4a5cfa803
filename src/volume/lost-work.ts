/**
 * What commits did that the log has lost, as operations that are pending again (doc/concurrency.md, "Lost
 * commits"). It decides which operations those are and on which state they ran; `arrival.ts` and the opening run them.
 */

import { withPages } from '../base/page-fault.js';
import type { CommitPack } from '../commit/commit.js';
import type { LostWork } from '../commit/lost-work.js';
import { executeRebased, type RebaseContext } from '../operation/rebase-rules.js';
import type { ReadView } from '../operation/view.js';
import type { TreeReader } from '../tree/tree-reader.js';
import type { PendingOperation } from './pending-layers.js';
import { replayOperations } from './replay.js';
import { type Counters, VolumeState } from './volume-state.js';
import { decodeWork } from './work-codec.js';

const nameOf = ({ serial, carried }: PendingOperation): string => `${carried?.deviceId ?? ''} ${serial}`;

/**
 * The operations of lost commits and those that are pending already, in the order in which they ran. What is both is
 * taken as it is pending.
 */
export function workAgain({ lost, hasLanded }: LostWork, pending: readonly PendingOperation[]): PendingOperation[] {
  const known = new Map<string, PendingOperation[]>();
  for (const one of pending) {
    const same = known.get(nameOf(one));
    if (same) same.push(one);
    else known.set(nameOf(one), [one]);
  }
  const again: PendingOperation[] = [];
  for (const one of lost.flatMap(({ work }) => work).flatMap(decodeWork)) {
    again.push(...(known.get(nameOf(one)) ?? [one]));
    // What a rebase has made of it is several operations, here or there.
    if (known.has(nameOf(one))) known.set(nameOf(one), []);
  }
  return [...again, ...[...known.values()].flat()].filter(({ serial, carried }) => !hasLanded(serial, carried));
}

/** Whether commits of others are given up: a person has decided so (`rejoin.ts`). */
export const givesUp = ({ lost }: LostWork): boolean =>
  lost.some(({ isOwn, work, commit }) => !isOwn && work.length === 0 && commit.mutations.length > 0);

/** The packs that only the lost commits named, as far as somebody does their work again. */
export const packsAgain = ({ lost }: LostWork): CommitPack[] =>
  lost.flatMap(({ isOwn, work, commit }) => (isOwn || work.length > 0 ? commit.packs : []));

/**
 * Runs operations again on `state`, the one before the first lost commit, when commits of others that they followed are
 * given up: by the rules of a rebase, whose old view is what this device knew, with `pending` on top. Returns how many.
 */
export async function runWithoutOthers(
  { state, tree, counters }: { state: VolumeState; tree: TreeReader; counters: Counters },
  lostWork: LostWork,
  pending: readonly PendingOperation[],
  context: (oldView: ReadView) => RebaseContext,
): Promise<number> {
  const known = stateBefore(tree, lostWork);
  // The pages of a checkpoint that is given up may be gone.
  known.advance(lostWork.lost.map(({ commit }) => ({ ...commit, checkpoint: undefined })));
  const newest = Math.max(0, ...lostWork.lost.filter(({ isOwn }) => isOwn).map(({ commit }) => commit.operationSerial));
  await replayOperations(
    known,
    pending.filter(({ serial }) => serial > newest),
    counters,
  );
  const rebase = context(known.view);
  const operations = workAgain(lostWork, pending);
  for (const { serial, operation } of operations) {
    await withPages(() => {
      const transaction = state.transaction();
      const { effective, delta } = executeRebased(transaction, operation, rebase);
      if (transaction.changes.count === 0) return;
      state.applyAll(
        effective.map((one) => ({ serial, operation: one })),
        transaction.changes,
        delta,
      );
    });
  }
  return operations.length;
}

/** The state before the first lost commit, without anything pending. */
export function stateBefore(tree: TreeReader, { checkpoint: commit, commits }: LostWork): VolumeState {
  const { root, covers = 0, files = 0, bytes = 0 } = commit?.checkpoint ?? {};
  const state = new VolumeState(tree, { root, covers: covers as VolumeState['covers'], totals: { files, bytes } });
  state.advance(commits);
  return state;
}
