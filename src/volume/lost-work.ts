/**
 * What own commits did that the log has lost, as operations that are pending again (doc/concurrency.md, "Lost
 * commits"). It decides which operations those are and on which state they ran; `arrival.ts` and the opening run them.
 */
import type { LostWork } from '../commit/commit-log.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { decodeWork } from './journal-entry.js';
import type { PendingOperation } from './pending-layers.js';
import { VolumeState } from './volume-state.js';

/** The operations of lost commits and those that are pending already, in the order in which they ran. */
export function workAgain({ lost, operationSerial }: LostWork, pending: readonly PendingOperation[]): PendingOperation[] {
  const known = new Set(pending.map(({ serial }) => serial));
  const again = lost.flatMap(({ work }) => decodeWork(work)).filter(({ serial }) => !known.has(serial));
  return [...again, ...pending].filter(({ serial }) => serial > operationSerial).toSorted((a, b) => a.serial - b.serial);
}

/** The state before the first lost commit, without anything pending. */
export function stateBefore(tree: TreeReader, { checkpoint: commit, commits }: LostWork): VolumeState {
  const { root, covers = 0, files = 0, bytes = 0 } = commit?.checkpoint ?? {};
  const state = new VolumeState(tree, { root, covers: covers as VolumeState['covers'], totals: { files, bytes } });
  state.advance(commits);
  return state;
}
