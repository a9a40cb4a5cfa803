/**
 * Commits that the log does not hold any more, and what this device did in them, from the files in which both are kept
 * (doc/concurrency.md, "Lost commits"). What the work means is up to the volume.
 */
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ChainState, CheckpointLink, Extension, LogPosition } from './chain.js';
import type { Commit } from './commit.js';
import { CommitError } from './commit-error.js';
import type { Device } from './device.js';
import type { KnownCommits } from './known-commits.js';
import type { LogFiles } from './log-files.js';
import { memberOf, newestOfAuthors } from './log-state.js';
import { openCommit } from './open-commit.js';
import type { Sequence } from './sequence.js';
import type { LostCommits } from './trust-state.js';

export interface LostWork {
  /** The commits up to here are in the log. */
  readonly before: LogPosition;
  /** The newest checkpoint up to there. */
  readonly checkpoint: Commit | undefined;
  /** The commits that `checkpoint` does not cover, up to `before`. */
  readonly commits: readonly Commit[];
  /** The serial of this device's newest operation up to `before`. */
  readonly operationSerial: number;
  /** After a person has rejoined (`rejoin.ts`) those of others, too, which are given up; they have no work. */
  readonly lost: readonly { readonly commit: Commit; readonly isOwn: boolean; readonly work: Uint8Array }[];
}

/** The place of an own commit's work: no other commit's can stand in for it. */
const workPlace = (hash: Uint8Array): Uint8Array => Buffer.concat([Buffer.from('work', 'latin1'), hash]);

/** Seals what the commit with this hash does. `key` is of kind device. */
export const sealWork = (key: SealKey, hash: Uint8Array, work: Uint8Array): Sealed => key.seal(workPlace(hash), work as Plaintext);

/**
 * Puts the copies of the own commits behind `before`, up to `newest`, aside: their numbers will belong to others.
 * Returns their links, ascending. Throws CommitError, disk errors.
 */
export async function setAside(
  { copies, lost }: LogFiles,
  before: ChainState,
  newest: Sequence,
  extend: (state: ChainState, sealed: Uint8Array) => Extension,
): Promise<CheckpointLink[]> {
  const links: CheckpointLink[] = [];
  for (let state = before; state.head.sequence < newest; ) {
    const sequence = (state.head.sequence + 1) as Sequence;
    const sealed = (await copies.read(sequence)) as Sealed | undefined;
    assert(sealed, 'the copies of the tail are here');
    const after = extend(state, sealed);
    if (after.commit) {
      const link = { ...after.state.head, previousHash: state.head.hash };
      await lost.keep(link, { sealed, work: (await copies.readWork(sequence)) as Sealed | undefined });
      links.push(link);
    }
    state = after.state;
  }
  return links;
}

/** Throws CommitError (`BAD_STATE` when something is not kept any more), StoreError, disk errors. */
export async function loadLostWork(
  { before, commits: links }: LostCommits,
  { known, files, keys, device }: { readonly known: KnownCommits; readonly files: LogFiles; readonly keys: VolumeKeys; readonly device: Device },
): Promise<LostWork> {
  const checkpoint = before.checkpoint && (await known.read(before.checkpoint));
  const commits: Commit[] = [];
  const covers = checkpoint?.checkpoint?.covers ?? 0;
  for await (const commit of known.readUpTo(before.head, covers, newestOfAuthors(before.log))) commits.push(commit);
  const former = before.log.members[device.formerIndex - 1]?.enrolment.deviceId;
  const lost: { commit: Commit; isOwn: boolean; work: Uint8Array }[] = [];
  for (const link of links) {
    const copy = await files.lost.read(link);
    const commit = copy && openCommit(keys, copy.sealed, link.sequence, link.previousHash).decoded;
    if (!copy || !commit) throw new CommitError('BAD_STATE', 'a lost commit is not kept any more', { sequence: link.sequence });
    const work = copy.work ? keys.device.open(workPlace(link.hash), copy.work) : new Uint8Array(0);
    // Of a former identity, too; but not what another installation wrote under that.
    const isOwn = commit.author === device.id || (commit.author === former && copy.work !== undefined);
    lost.push({ commit: { ...commit, hash: link.hash }, isOwn, work });
  }
  const { operationSerial = 0 } = memberOf(before.log, device.id) ?? {};
  return { before: before.head, checkpoint, commits, operationSerial: Math.max(operationSerial, device.landedSerial), lost };
}
