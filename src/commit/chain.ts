/**
 * The verified state of the commit log after some commit, and the rules by which the next commit may follow
 * (doc/format.md, "The chain"). A commit that breaks one is void: everybody skips it, decided by the log before it
 * alone. No I/O: fetching and persisting are in `commit-log.ts`.
 */
import { ByteReader, equalBytes, toHex, unlessMalformed } from '../base/bytes.js';
import type { Commit, CommitDraft } from './commit.js';
import type { CommitFields, CommitOrigin } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { type DeviceId, deviceIndexMax, type Enrolment, isAdmittedBy, ownerId, type Role } from './enrolment.js';
import { type Features, keepsWork } from './features.js';
import {
  ableAdmitterKey,
  admitterKey,
  encodeLogState,
  type LogState,
  type Member,
  memberOf,
  readLogState,
  stateAfterGenesis,
  type VolumeConstants,
} from './log-state.js';
import type { OpenedCommit } from './open-commit.js';
import type { ProgramVersion } from './program-version.js';
import type { LogRecord } from './record.js';
import type { Sequence } from './sequence.js';
import type { WorkGroup } from './work.js';

export interface LogPosition {
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
}

/** The commit with the newest checkpoint, and the hash that is needed to open it. */
export interface CheckpointLink extends LogPosition {
  readonly previousHash: Uint8Array;
}

export interface ChainState {
  readonly head: LogPosition;
  readonly checkpoint: CheckpointLink | undefined;
  readonly log: LogState;
}

/** A commit that everybody skips, and the rule that it breaks. */
export interface VoidCommit {
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
  readonly reason: string;
}

/** `commit` counts, or else `void`; `state` is the state after it. */
export type Extension =
  | { readonly state: ChainState; readonly commit: Commit; readonly void?: undefined }
  | { readonly state: ChainState; readonly commit?: undefined; readonly void: VoidCommit };

/** The state after the genesis. */
export function chainFromGenesis(volumeId: Uint8Array, genesis: VolumeConstants & { readonly features: Features }): ChainState {
  return { head: { sequence: 0 as Sequence, hash: volumeId }, checkpoint: undefined, log: stateAfterGenesis(genesis, genesis.features) };
}

/**
 * The state before a checkpoint, as the checkpoint itself records it, on the word of its author, whom the owner has
 * admitted; `undefined` for anything else. Every device in it has a certificate that leads to `ownerKey`.
 */
export function chainBeforeCheckpoint(opened: OpenedCommit, ownerKey: Uint8Array): ChainState | undefined {
  const { origin } = opened;
  const log = origin?.isCheckpoint ? stateIn(origin) : undefined;
  if (!origin || !log || !equalBytes(log.ownerKey, ownerKey)) return undefined;
  const isCertified = log.members.every(({ enrolment }) => {
    const key = enrolment.admittedBy < enrolment.deviceIndex ? admitterKey(log, enrolment.admittedBy) : undefined;
    return key !== undefined && isAdmittedBy(key, opened.volumeId, enrolment);
  });
  if (!isCertified) return undefined;
  const noHash = new Uint8Array(32);
  const state: ChainState = {
    head: { sequence: (opened.sequence - 1) as Sequence, hash: opened.previousHash },
    // The earlier checkpoint is known by its number only. It will not be opened, so its hashes are never used.
    checkpoint: origin.lastCheckpoint === 0 ? undefined : { sequence: origin.lastCheckpoint, hash: noHash, previousHash: noHash },
    log,
  };
  return extendChain(state, opened).commit ? state : undefined;
}

function stateIn({ state }: CommitOrigin): LogState | undefined {
  return state && unlessMalformed(() => readLogState(new ByteReader(state)));
}

/**
 * The state after the commit that opens at the next number, and the commit if it counts. Throws CommitError `BAD_LINK`
 * when it was sealed for another place.
 */
export function extendChain(state: ChainState, opened: OpenedCommit): Extension {
  const { head } = state;
  const { sequence, hash, previousHash } = opened;
  if (sequence !== head.sequence + 1 || !equalBytes(previousHash, head.hash)) {
    const evidence = { sequence, expectedHash: toHex(head.hash), foundHash: toHex(previousHash) };
    throw new CommitError('BAD_LINK', `commit ${sequence} does not follow commit ${head.sequence}`, evidence);
  }
  const judged = judge(state, opened);
  if (typeof judged === 'string') return { state: { ...state, head: { sequence, hash } }, void: { sequence, hash, reason: judged } };
  const { commit, log } = judged;
  const checkpoint = commit.checkpoint ? { sequence, hash, previousHash } : state.checkpoint;
  return { state: { head: { sequence, hash }, checkpoint, log }, commit: { ...commit, hash } };
}

/** An author and what its next commit must continue. */
interface Author {
  /** 0: the owner. */
  readonly deviceIndex: number;
  readonly role: Role | 'owner';
  readonly key: Uint8Array;
  readonly counter: number;
  readonly newest: Sequence;
  readonly nextInoCounter: number;
  readonly operationSerial: number;
}

/** The commit and the state of the log after it, or the rule that it breaks. */
function judge(state: ChainState, opened: OpenedCommit): { readonly commit: CommitFields; readonly log: LogState } | string {
  const { origin, volumeId } = opened;
  if (!origin) return 'it does not decode';
  const isAdmittedHere = origin.admission !== undefined && !memberOf(state.log, origin.author);
  const admitted = isAdmittedHere ? applyAdmission(state.log, origin.admission, volumeId, origin.wallTimeMs) : state.log;
  if (typeof admitted === 'string') return admitted;
  const author = authorOf(admitted, origin.author);
  if (!author) return 'its author is no device of the volume, or was removed';
  if (!opened.isSignedBy(author.key)) return 'its author has not signed it';
  // Not before: it may be large, and whoever has the keys could write it.
  const commit = opened.decoded;
  if (!commit) return 'it does not decode';
  const flaw = flawOfLinks(state, commit, author) ?? flawOfContent(state, commit, author);
  if (flaw !== undefined) return flaw;
  let log = withNewest(admitted, commit);
  for (const record of commit.records.slice(isAdmittedHere ? 1 : 0)) {
    const after = applyRecord(log, record, author, opened, commit.wallTimeMs);
    if (typeof after === 'string') return after;
    log = after;
  }
  return { commit, log };
}

function authorOf(log: LogState, author: DeviceId): Author | undefined {
  if (author === ownerId) return { deviceIndex: 0, role: 'owner', key: log.ownerKey, ...log.owner, nextInoCounter: 0, operationSerial: 0 };
  const member = memberOf(log, author);
  if (!member || member.status === 'removed') return undefined;
  const { deviceIndex, role, signingKey: key } = member.enrolment;
  return { ...member, deviceIndex, role, key };
}

function flawOfLinks(state: ChainState, commit: CommitFields, author: Author): string | undefined {
  if (commit.counter !== author.counter + 1 || commit.previousOwn !== author.newest) return 'it does not continue what its author wrote before';
  if (commit.nextInoCounter < author.nextInoCounter || commit.operationSerial < author.operationSerial) return 'its counters go back';
  if (author.role === 'owner' && (commit.nextInoCounter > 0 || commit.operationSerial > 0)) return 'the owner has no inode numbers and no journal';
  if (commit.lastCheckpoint !== (state.checkpoint?.sequence ?? 0)) return 'it names another checkpoint than the newest before it';
  return undefined;
}

function flawOfContent(state: ChainState, { checkpoint, mutations, packs, records, sequence }: CommitFields, author: Author): string | undefined {
  if (author.role === 'reader' && (checkpoint || mutations.length > 0 || packs.length > 0)) return 'its author may only read';
  const states = records.filter((record) => record.type === 'state');
  if (states.length !== (checkpoint ? 1 : 0)) return 'a checkpoint has one record of the state, and nothing else has any';
  if (!checkpoint) return undefined;
  if (checkpoint.covers >= sequence) return 'it covers later commits';
  const [recorded] = states;
  const isSame = recorded?.type === 'state' && equalBytes(encodeLogState(recorded.state), encodeLogState(state.log));
  return isSame ? undefined : 'it records another state than that before it';
}

/** The log after the author's commit, before its records. A device that lapsed is back. */
function withNewest(log: LogState, { author, counter, sequence, nextInoCounter, operationSerial }: CommitFields): LogState {
  if (author === ownerId) return { ...log, owner: { counter, newest: sequence } };
  const members = log.members.map((member): Member => {
    if (member.enrolment.deviceId !== author) return member;
    return { ...member, status: 'active', counter, newest: sequence, nextInoCounter, operationSerial };
  });
  return { ...log, members };
}

/** What devices may write that govern nothing. */
const recordsOfWriters: ReadonlySet<LogRecord['type']> = new Set(['lapse', 'work']);

/** The log after one record, or the rule that it breaks. */
function applyRecord(log: LogState, record: LogRecord, author: Author, { volumeId }: OpenedCommit, wallTimeMs: number): LogState | string {
  const { role } = author;
  const governs = role === 'owner' || role === 'admin';
  if (!governs && record.type !== 'state' && !(recordsOfWriters.has(record.type) && role === 'writer'))
    return `its author may not write a record of type ${record.type}`;
  switch (record.type) {
    case 'admission':
      return applyAdmission(log, record.enrolment, volumeId, wallTimeMs);
    case 'removal':
      return withStatus(log, record.deviceIndex, 'removed');
    case 'lapse':
      return withStatus(log, record.deviceIndex, 'lapsed');
    case 'keyring':
      return record.keyring.generation === log.keyring.generation + 1 ? { ...log, keyring: record.keyring } : 'it skips a generation';
    case 'keyslots':
      return { ...log, keyslots: record.keyslots };
    case 'features':
      return { ...log, features: record.features };
    case 'work':
      return withWork(log, record.groups, author);
    default:
      // The state was compared before.
      return log;
  }
}

/** The log after work was done: that of other devices is in it from now on, and must follow what was. */
function withWork(log: LogState, groups: readonly WorkGroup[], author: Author): LogState | string {
  if (!keepsWork(log.features)) return 'it holds work, which commits of this volume do not';
  let { members } = log;
  let ownSerial = author.operationSerial;
  for (const { deviceIndex, source, first, last } of groups) {
    const isOwn = deviceIndex === author.deviceIndex;
    const member = members[deviceIndex - 1];
    if (author.deviceIndex === 0 || !member || member.status === 'removed' || isOwn !== (source === undefined))
      return 'it holds work of somebody who has none';
    if (first <= (isOwn ? ownSerial : member.operationSerial)) return 'it repeats work';
    if (isOwn) ownSerial = last;
    else members = members.with(deviceIndex - 1, { ...member, operationSerial: last });
  }
  return { ...log, members };
}

function applyAdmission(log: LogState, enrolment: Enrolment, volumeId: Uint8Array, enrolledMs: number): LogState | string {
  if (enrolment.deviceId === ownerId || memberOf(log, enrolment.deviceId)) return 'it admits a device that is known';
  if (enrolment.deviceIndex !== log.members.length + 1 || enrolment.deviceIndex > deviceIndexMax)
    return 'it admits a device under another index than the next';
  const key = ableAdmitterKey(log, enrolment.admittedBy);
  if (!key || !isAdmittedBy(key, volumeId, enrolment)) return 'nobody who may has admitted the device';
  const none = { counter: 0, newest: 0 as Sequence, nextInoCounter: 0, operationSerial: 0 };
  return { ...log, members: [...log.members, { enrolment, enrolledMs, status: 'active', ...none }] };
}

/** A device that was removed stays so. */
function withStatus(log: LogState, deviceIndex: number, status: 'removed' | 'lapsed'): LogState | string {
  const member = log.members[deviceIndex - 1];
  if (!member) return 'it names a device that there is not';
  return member.status === 'removed' ? log : { ...log, members: log.members.with(deviceIndex - 1, { ...member, status }) };
}

/** The commit that `author` may write next, with `records` beside the one that a checkpoint needs. */
export function nextCommit(
  state: ChainState,
  author: DeviceId,
  program: ProgramVersion,
  draft: CommitDraft,
  records: readonly LogRecord[],
): CommitFields {
  const { counter, newest } = (author === ownerId ? state.log.owner : memberOf(state.log, author)) ?? { counter: 0, newest: 0 as Sequence };
  return {
    ...draft,
    sequence: (state.head.sequence + 1) as Sequence,
    previousHash: state.head.hash,
    author,
    counter: counter + 1,
    previousOwn: newest,
    program,
    lastCheckpoint: state.checkpoint?.sequence ?? (0 as Sequence),
    records: draft.checkpoint ? [...records, { type: 'state', state: state.log }] : records,
  };
}
