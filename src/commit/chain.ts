/**
 * The verified state of the commit log after some commit, and the rules by which the next commit may follow
 * (doc/format.md, "Commit"). No I/O: fetching and persisting are in `commit-log.ts`.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import { isSignedBy } from '../crypto/signature.js';
import type { Acknowledgement, Commit, CommitDraft, DeviceId, Enrolment, Sequence } from './commit.js';
import type { CommitFields, DecodedCommit } from './commit-codec.js';
import type { CommitErrorCode } from './commit-error.js';
import { CommitError } from './commit-error.js';

export interface LogPosition {
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
}

/** An enrolled device, as far as the log shows. */
export interface Member {
  readonly enrolment: Enrolment;
  /** The device counter of its newest commit; 0 without any. */
  readonly counter: number;
  /**
   * When it enrolled, by its own clock, in ms since 1970; `undefined` when that lies before the checkpoint where
   * reading began.
   */
  readonly enrolledMs?: number | undefined;
  /** What its newest commit says; `undefined` when that lies before the checkpoint where reading began. */
  readonly newest: { readonly sequence: Sequence; readonly nextInoCounter: number; readonly operationSerial: number } | undefined;
}

/** The commit with the newest checkpoint, and the hash that is needed to open it. */
export interface CheckpointLink extends LogPosition {
  readonly previousHash: Uint8Array;
}

export interface ChainState {
  readonly head: LogPosition;
  readonly checkpoint: CheckpointLink | undefined;
  /** By device index. */
  readonly members: readonly Member[];
}

const nothingYet = { sequence: 0 as Sequence, nextInoCounter: 0, operationSerial: 0 };

/** The state after the genesis. */
export function chainFromGenesis(volumeId: Uint8Array, creator: Enrolment): ChainState {
  return {
    head: { sequence: 0 as Sequence, hash: volumeId },
    checkpoint: undefined,
    members: [{ enrolment: creator, counter: 0, newest: nothingYet }],
  };
}

function sameEnrolment(a: Enrolment, b: Enrolment | undefined): boolean {
  return b !== undefined && a.deviceId === b.deviceId && a.deviceIndex === b.deviceIndex && a.name === b.name && equalBytes(a.publicKey, b.publicKey);
}

/**
 * The state before a checkpoint, as the checkpoint itself records it: a device that begins there trusts its writer,
 * which holds the epoch key as every device does. Throws CommitError `MALFORMED`.
 */
export function chainBeforeCheckpoint(commit: CommitFields): ChainState {
  const { enrolments, acknowledgements } = commit;
  const counters = new Map(acknowledgements.map(({ deviceId, deviceCounter }) => [deviceId, deviceCounter]));
  const members = enrolments.map((enrolment, index): Member => {
    const counter = counters.get(enrolment.deviceId);
    if (counter === undefined || enrolment.deviceIndex !== index) throw refused('MALFORMED', 'a checkpoint without the whole roster', commit);
    return { enrolment, counter, newest: counter === 0 ? nothingYet : undefined };
  });
  const previous = (commit.sequence - 1) as Sequence;
  // The earlier checkpoint is known by its number only. It will not be opened, so its hashes are never used.
  const checkpoint =
    commit.lastCheckpoint === 0 ? undefined : { sequence: commit.lastCheckpoint, hash: new Uint8Array(32), previousHash: new Uint8Array(32) };
  return { head: { sequence: previous, hash: commit.previousHash }, checkpoint, members };
}

function refused(code: CommitErrorCode, message: string, commit: CommitFields): CommitError {
  return new CommitError(code, `commit ${commit.sequence}: ${message}`, { sequence: commit.sequence, deviceId: commit.deviceId });
}

/**
 * The state after `decoded`, whose sealed bytes hash to `hash`. Throws CommitError when a rule is broken. A commit that
 * is accepted proves by its acknowledgements that its writer had verified the whole log before it.
 */
export function extendChain(state: ChainState, decoded: DecodedCommit, hash: Uint8Array): { state: ChainState; commit: Commit } {
  const { commit } = decoded;
  const { head } = state;
  if (commit.sequence !== head.sequence + 1 || !equalBytes(commit.previousHash, head.hash)) {
    const evidence = { sequence: commit.sequence, expectedHash: toHex(head.hash), foundHash: toHex(commit.previousHash) };
    throw new CommitError('BAD_LINK', `commit ${commit.sequence} does not follow commit ${head.sequence}`, evidence);
  }
  if (commit.lastCheckpoint !== (state.checkpoint?.sequence ?? 0)) throw refused('MALFORMED', 'names another checkpoint', commit);
  const members = enrolled(state.members, commit);
  const index = members.findIndex(({ enrolment }) => enrolment.deviceId === commit.deviceId);
  const author = members[index];
  if (!author) throw refused('BAD_SIGNATURE', 'its device is not enrolled', commit);
  if (!isSignedBy(author.enrolment.publicKey, decoded.signedMessage, decoded.signature))
    throw refused('BAD_SIGNATURE', 'not signed by its device', commit);
  if (commit.deviceCounter !== author.counter + 1) throw refused('FORK', 'its device has written other commits', commit);
  if (author.newest) {
    if (commit.previousOwn !== author.newest.sequence) throw refused('FORK', 'its device has written other commits', commit);
    if (commit.nextInoCounter < author.newest.nextInoCounter || commit.operationSerial < author.newest.operationSerial)
      throw refused('MALFORMED', 'its counters go back', commit);
  } else if (commit.previousOwn === 0 || commit.previousOwn >= commit.sequence) throw refused('MALFORMED', 'names an impossible predecessor', commit);
  for (const { deviceId, deviceCounter } of commit.acknowledgements) {
    const member = members.find(({ enrolment }) => enrolment.deviceId === deviceId);
    if (member?.counter !== deviceCounter) throw refused('FORK', 'acknowledges another history', commit);
  }
  if (commit.checkpoint) {
    if (commit.acknowledgements.length !== members.length) throw refused('MALFORMED', 'a checkpoint without the whole roster', commit);
    if (commit.checkpoint.covers >= commit.sequence) throw refused('MALFORMED', 'a checkpoint that covers later commits', commit);
  }
  const { sequence, nextInoCounter, operationSerial } = commit;
  const updated: Member = { ...author, counter: commit.deviceCounter, newest: { sequence, nextInoCounter, operationSerial } };
  return {
    state: {
      head: { sequence, hash },
      checkpoint: commit.checkpoint ? { sequence, hash, previousHash: commit.previousHash } : state.checkpoint,
      members: members.with(index, updated),
    },
    commit: { ...commit, hash },
  };
}

/** The roster after `commit`: a checkpoint repeats it, and any other commit may enrol the device that wrote it. */
function enrolled(members: readonly Member[], commit: CommitFields): readonly Member[] {
  const { enrolments } = commit;
  if (commit.checkpoint) {
    const isSame = enrolments.length === members.length && members.every(({ enrolment }, index) => sameEnrolment(enrolment, enrolments[index]));
    if (!isSame) throw refused('MALFORMED', 'a checkpoint with another roster', commit);
    return members;
  }
  const [enrolment, ...more] = enrolments;
  if (!enrolment) return members;
  const isNew = members.every((member) => member.enrolment.deviceId !== enrolment.deviceId);
  if (more.length > 0 || enrolment.deviceId !== commit.deviceId || enrolment.deviceIndex !== members.length || !isNew)
    throw refused('MALFORMED', 'enrols a device that it may not enrol', commit);
  return [...members, { enrolment, counter: 0, enrolledMs: commit.wallTimeMs, newest: nothingYet }];
}

const acknowledge = ({ enrolment, counter }: Member): Acknowledgement => ({ deviceId: enrolment.deviceId, deviceCounter: counter });

/** The commit that `author` may write next, with `enrolment` while it is not in the roster. */
export function nextCommit(state: ChainState, author: DeviceId, enrolment: Enrolment | undefined, draft: CommitDraft): CommitFields {
  const member = state.members.find((one) => one.enrolment.deviceId === author);
  const members = enrolment ? [...state.members, { enrolment, counter: 0, newest: nothingYet }] : state.members;
  const since = member?.newest?.sequence ?? 0;
  // The changes since this device last acknowledged; a checkpoint acknowledges all, for devices that begin to read
  // there.
  const news = draft.checkpoint ? members : members.filter((one) => one.counter > 0 && (one.newest?.sequence ?? 0) > since);
  return {
    ...draft,
    sequence: (state.head.sequence + 1) as Sequence,
    previousHash: state.head.hash,
    deviceId: author,
    deviceCounter: (member?.counter ?? 0) + 1,
    previousOwn: member?.newest?.sequence ?? (0 as Sequence),
    lastCheckpoint: state.checkpoint?.sequence ?? (0 as Sequence),
    acknowledgements: news.map(acknowledge).toSorted((a, b) => (a.deviceId < b.deviceId ? -1 : 1)),
    enrolments: draft.checkpoint ? members.map((one) => one.enrolment) : enrolment ? [enrolment] : [],
  };
}
