/**
 * Where a device without history begins to read the log: at the newest checkpoint that the store shows
 * (doc/security.md, "Freshness"). What it finds is a hint until the log has been followed from there to its end.
 */
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ChainState } from './chain.js';
import { chainBeforeCheckpoint } from './chain.js';
import type { DecodedCommit } from './commit-codec.js';
import { CommitError, missingCommit } from './commit-error.js';
import { openCommit } from './open-commit.js';
import type { StoredLog } from './stored-log.js';

/** How many numbers are asked for at once. */
const probesAtOnce = 12;

/**
 * The newest number that the store shows; 0 for an empty log. Doubles, then divides, several numbers at a time, since
 * requests side by side cost one round trip together; listing a long log would take minutes. Throws CommitError,
 * StoreError.
 */
export async function findNewest(stored: StoredLog): Promise<number> {
  /** The last of these ascending numbers before the first absent one, and that absent one. */
  const divide = async (sequences: readonly number[]): Promise<{ present: number | undefined; absent: number | undefined }> => {
    const found = await Promise.all(sequences.map((sequence) => stored.has(sequence, undefined)));
    const count = found.includes(false) ? found.indexOf(false) : found.length;
    return { present: sequences[count - 1], absent: sequences[count] };
  };
  let low = 0;
  let high: number | undefined;
  for (let first = 1; high === undefined; first *= 2 ** probesAtOnce) {
    if (first > 2 ** 40) throw new CommitError('MALFORMED', 'the store claims to have a log without end');
    const { present, absent } = await divide(Array.from({ length: probesAtOnce }, (_, index) => first * 2 ** index));
    low = present ?? low;
    high = absent;
  }
  while (high - low > 1) {
    const step = Math.ceil((high - low) / (probesAtOnce + 1));
    const points: number[] = [];
    for (let at = low + step; at < high; at += step) points.push(at);
    const { present, absent } = await divide(points);
    low = present ?? low;
    high = absent ?? high;
  }
  return low;
}

/**
 * The state before the checkpoint that commit `newest` is or names; `undefined` when there is no checkpoint yet.
 * Throws CommitError, StoreError.
 */
export async function stateBeforeNewestCheckpoint(stored: StoredLog, keys: VolumeKeys, newest: number): Promise<ChainState | undefined> {
  let { commit } = await openUnlinked(stored, keys, newest, newest);
  if (!commit.checkpoint) {
    if (commit.lastCheckpoint === 0) return undefined;
    ({ commit } = await openUnlinked(stored, keys, commit.lastCheckpoint, newest));
  }
  if (!commit.checkpoint) throw new CommitError('MALFORMED', `commit ${commit.sequence} is no checkpoint`, { sequence: commit.sequence });
  return chainBeforeCheckpoint(commit);
}

/** Commit `sequence` on top of whatever the store shows before it. */
async function openUnlinked(stored: StoredLog, keys: VolumeKeys, sequence: number, newest: number): Promise<DecodedCommit> {
  const [before, sealed] = await Promise.all([stored.fetch(sequence - 1), stored.fetch(sequence)]);
  if (!before || !sealed) throw missingCommit(before ? sequence : sequence - 1, newest);
  return openCommit(keys, sealed, sequence, hashBytes(before));
}
