/**
 * Where a device without history begins to read the log: at the newest checkpoint that the store shows
 * (doc/security.md, "Freshness"). What it finds is a hint until the log has been followed from there to its end.
 */
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ChainState } from './chain.js';
import { chainBeforeCheckpoint } from './chain.js';
import { CommitError, missingCommit } from './commit-error.js';
import { type DeviceId, type Enrolment, isAdmittedBy, ownerId } from './enrolment.js';
import { ableAdmitterKey, type LogState, memberOf } from './log-state.js';
import { type OpenedCommit, openCommit } from './open-commit.js';
import type { StoredLog } from './stored-log.js';

/** How many numbers are asked for at once. */
const probesAtOnce = 12;
/** How many of the newest commits are asked for their checkpoint when the very newest cannot be believed. */
const claimsMax = 32;

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
 * The state before the newest checkpoint; `undefined` when there is none, so that reading begins at the genesis.
 * `newest` is the newest number, at least 1. Throws CommitError, StoreError.
 *
 * Any commit may lie about the newest checkpoint, since nothing is known yet by which it could be judged. The newest
 * commit is believed that was signed by the owner, or by a writer whom its checkpoint knows. When none of the newest
 * few is, their claims are tried, the greatest number first. Whatever is chosen was signed by somebody whom the owner
 * has admitted, and reading from there leads to the same state; a claim that is too old only costs time.
 */
export async function stateBeforeNewestCheckpoint(
  stored: StoredLog,
  keys: VolumeKeys,
  ownerKey: Uint8Array,
  newest: number,
): Promise<ChainState | undefined> {
  const stateAt = async (sequence: number): Promise<ChainState | undefined> => {
    const [opened] = sequence > 0 && sequence <= newest ? await openNewest(stored, keys, sequence, 1) : [];
    return opened && chainBeforeCheckpoint(opened, ownerKey);
  };
  const [head] = await openNewest(stored, keys, newest, 1);
  const claim = head ? claimOf(head) : 0;
  // A short log is read from its beginning as fast.
  if (claim === 0 && newest <= claimsMax) return undefined;
  const claimed = await stateAt(claim);
  if (claimed && head && isSignedByWriter(claimed, head, [head])) return claimed;
  const recent = await openNewest(stored, keys, newest, claimsMax);
  const states = new Map<number, ChainState | undefined>([[claim, claimed]]);
  for (const opened of recent) {
    const sequence = claimOf(opened);
    const state = states.has(sequence) ? states.get(sequence) : await stateAt(sequence);
    states.set(sequence, state);
    if (state && isSignedByWriter(state, opened, recent)) return state;
  }
  const [, greatest] = [...states].filter(([, state]) => state).toSorted(([a], [b]) => b - a)[0] ?? [];
  return greatest;
}

/** The checkpoint that a commit is, or names as the newest before it; 0: none. */
const claimOf = ({ origin, sequence }: OpenedCommit): number => (origin?.isCheckpoint ? sequence : (origin?.lastCheckpoint ?? 0));

/**
 * Whether the owner has signed the commit, or a device that may write as far as `state` knows, or that was admitted
 * since, as one of `recent` shows.
 */
function isSignedByWriter({ log }: ChainState, opened: OpenedCommit, recent: readonly OpenedCommit[]): boolean {
  if (!opened.origin) return false;
  const { author } = opened.origin;
  if (author === ownerId) return opened.isSignedBy(log.ownerKey);
  const member = memberOf(log, author);
  if (member?.status === 'removed') return false;
  const enrolment = member?.enrolment ?? admissionOf(log, author, recent);
  return enrolment !== undefined && enrolment.role !== 'reader' && opened.isSignedBy(enrolment.signingKey);
}

function admissionOf(log: LogState, author: DeviceId, recent: readonly OpenedCommit[]): Enrolment | undefined {
  for (const { origin, volumeId } of recent) {
    const admission = origin?.author === author ? origin.admission : undefined;
    const key = admission && ableAdmitterKey(log, admission.admittedBy);
    if (key && isAdmittedBy(key, volumeId, admission)) return admission;
  }
  return undefined;
}

/**
 * The commits from `newest` back, each on top of what the store shows before it; of several, those that are small.
 * Throws CommitError, StoreError.
 */
async function openNewest(stored: StoredLog, keys: VolumeKeys, newest: number, count: number): Promise<OpenedCommit[]> {
  const first = Math.max(1, newest - count + 1);
  const fetch = async (sequence: number): Promise<Uint8Array | undefined> => {
    const sealed = count === 1 ? await stored.fetch(sequence) : await stored.fetchSmall(sequence);
    if (sealed === undefined) throw missingCommit(sequence, newest);
    return sealed === 'large' ? undefined : sealed;
  };
  const sealed = await Promise.all(Array.from({ length: newest - first + 2 }, (_, index) => fetch(first - 1 + index)));
  const opened: OpenedCommit[] = [];
  for (let at = newest; at >= first; at--) {
    const [before, bytes] = [sealed[at - first], sealed[at - first + 1]];
    if (before && bytes) opened.push(openCommit(keys, bytes, at, hashBytes(before)));
  }
  return opened;
}
