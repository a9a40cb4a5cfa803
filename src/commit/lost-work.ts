/**
 * Commits that the log does not hold any more, and what this device did in them, from the files in which both are kept
 * (doc/concurrency.md, "Lost commits"). What the work means is up to the volume.
 */
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ChainState, CheckpointLink, Extension, LogPosition } from './chain.js';
import type { Commit } from './commit.js';
import { CommitError } from './commit-error.js';
import type { Device } from './device.js';
import type { DeviceId } from './enrolment.js';
import type { KnownCommits } from './known-commits.js';
import type { LogFiles } from './log-files.js';
import { memberOf, newestOfAuthors } from './log-state.js';
import { openCommit } from './open-commit.js';
import type { Sequence } from './sequence.js';
import type { LostCommits } from './trust-state.js';
import { readWork, type WorkGroup, type WorkSource, writeWork } from './work.js';

/** Whose operations somebody else does again, and from where. */
export interface Carried {
  readonly deviceId: DeviceId;
  readonly deviceIndex: number;
  readonly source: WorkSource;
  /** The author of the lost commit that had them, on whose word it is. */
  readonly by: DeviceId;
}

/** Operations of one device, in their order. */
export interface LostGroup {
  /** Whose they are up to this serial; those above are this device's own. */
  readonly carriedUpTo: number;
  readonly carried: Carried | undefined;
  readonly bytes: Uint8Array;
}

export interface LostWork {
  /** The commits up to here are in the log. */
  readonly before: LogPosition;
  /** The newest checkpoint up to there. */
  readonly checkpoint: Commit | undefined;
  /** The commits that `checkpoint` does not cover, up to `before`. */
  readonly commits: readonly Commit[];
  /** The serial of this device's newest operation up to `before`. */
  readonly ownSerial: number;
  /** Whether an operation with this serial is in the log up to `before`. */
  readonly hasLanded: (serial: number, carried: Carried | undefined) => boolean;
  /** Those of others have no work where commits do not hold it; a person has then given them up (`rejoin.ts`). */
  readonly lost: readonly LostCommit[];
}

export interface LostCommit {
  readonly commit: Commit;
  readonly isOwn: boolean;
  readonly work: readonly LostGroup[];
}

/** The place of an own commit's work: no other commit's can stand in for it. */
const workPlace = (hash: Uint8Array): Uint8Array => Buffer.concat([Buffer.from('work', 'latin1'), hash]);

/** Seals what the commit with this hash does. `key` is of kind device. */
export function sealWork(key: SealKey, hash: Uint8Array, groups: readonly WorkGroup[]): Sealed {
  const writer = new ByteWriter(4096);
  writeWork(writer, groups);
  return key.seal(workPlace(hash), writer.finish() as Plaintext);
}

/** `undefined` when it is not of the commit with this hash: its number may have been that of another one before. */
function openWork(key: SealKey, hash: Uint8Array, sealed: Uint8Array): WorkGroup[] | undefined {
  try {
    const reader = new ByteReader(key.open(workPlace(hash), sealed));
    const groups = readWork(reader);
    reader.end();
    return groups;
  } catch (error) {
    if (error instanceof CryptoError) return undefined;
    throw error;
  }
}

/** The work that the commit holds; `undefined` when it holds none. */
export const workIn = ({ records }: Pick<Commit, 'records'>): readonly WorkGroup[] | undefined =>
  records.find((record) => record.type === 'work')?.groups;

/**
 * Puts the copies of the commits behind `before`, up to `newest`, aside: their numbers will belong to others.
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
  const roster = before.log.members.map(({ enrolment }) => enrolment.deviceId);
  const lost: LostCommit[] = [];
  for (const link of links) {
    const copy = await files.lost.read(link);
    const commit = copy && openCommit(keys, copy.sealed, link.sequence, link.previousHash).decoded;
    if (!copy || !commit) throw new CommitError('BAD_STATE', 'a lost commit is not kept any more', { sequence: link.sequence });
    for (const record of commit.records) if (record.type === 'admission') roster[record.enrolment.deviceIndex - 1] = record.enrolment.deviceId;
    const written = copy.work && openWork(keys.device, link.hash, copy.work);
    const groups = workIn(commit) ?? written ?? [];
    // Of a former identity, too; but not what another installation wrote under that.
    const isOwn = commit.author === device.id || written !== undefined;
    const work = groups.map(({ deviceIndex, source, bytes }): LostGroup => {
      const deviceId = roster[deviceIndex - 1];
      if (deviceId === undefined || deviceId === device.id) return { carriedUpTo: 0, carried: undefined, bytes };
      const carried = { deviceId, deviceIndex, source: source ?? { sequence: link.sequence, hash: link.hash }, by: commit.author };
      // What the former identity had put before the other installation did belongs to both.
      const isFormer = isOwn && !source;
      return { carriedUpTo: isFormer ? device.landedSerial : Number.POSITIVE_INFINITY, carried, bytes };
    });
    lost.push({ commit: { ...commit, hash: link.hash }, isOwn, work });
  }
  const { operationSerial = 0 } = memberOf(before.log, device.id) ?? {};
  const ownSerial = Math.max(operationSerial, device.landedSerial);
  const hasLanded: LostWork['hasLanded'] = (serial, carried) =>
    serial <= (carried ? (memberOf(before.log, carried.deviceId)?.operationSerial ?? 0) : ownSerial);
  return { before: before.head, checkpoint, commits, ownSerial, hasLanded, lost };
}
