/**
 * What can be wrong with the commit log or this device's trust in it (doc/security.md, "Promises and their tests"). An
 * unavailable store is a StoreError, and a failing local disk throws its own error.
 */
import { CodedError } from '../base/errors.js';

/**
 * The history does not fit what this device knows (integrity stop):
 * - `ROLLBACK`: the newest commit that this device has seen is gone
 * - `OWN_COMMIT_MISSING`: the same, and this device wrote it
 * - `FORK`: the store shows another commit than this device has seen, or another volume
 *
 * An object of the log is not what a device wrote:
 * - `NOT_AUTHENTIC`: it does not open at its place
 * - `MALFORMED`: it opens, but breaks the format
 * - `BAD_LINK`: it does not follow its predecessor
 * - `BAD_SIGNATURE`: it is a genesis that its owner has not signed
 * - `MISSING`: a commit is gone although later ones are there
 *
 * `UNSETTLED`: the store is being filled or changed, and shows something that may not last: ask again later.
 *
 * This device may not do what it was asked to:
 * - `NOT_ADMITTED`: nobody with the rights of the owner has unlocked the volume here yet
 * - `NO_ROOM`: the volume has given out all numbers of devices
 * - `NOT_PERMITTED`: a commit of it would be void
 * - `UNSUPPORTED`: the volume uses a feature that this program lacks
 *
 * `BAD_STATE`: the state directory is damaged.
 */
export type CommitErrorCode =
  | 'ROLLBACK'
  | 'OWN_COMMIT_MISSING'
  | 'FORK'
  | 'NOT_AUTHENTIC'
  | 'MALFORMED'
  | 'BAD_LINK'
  | 'BAD_SIGNATURE'
  | 'MISSING'
  | 'UNSETTLED'
  | 'NOT_ADMITTED'
  | 'NO_ROOM'
  | 'NOT_PERMITTED'
  | 'UNSUPPORTED'
  | 'BAD_STATE';

/** The facts, for people and for the saved evidence. Hashes are of sealed bytes, as hex. */
interface CommitEvidence {
  readonly sequence?: number;
  readonly expectedHash?: string;
  readonly foundHash?: string;
  readonly deviceId?: string;
}

export class CommitError extends CodedError<CommitErrorCode> {
  readonly evidence: CommitEvidence;

  constructor(code: CommitErrorCode, message: string, evidence: CommitEvidence = {}, options?: { cause?: unknown }) {
    super(code, message, options);
    this.evidence = evidence;
  }
}

/**
 * A hole: `newest` is the commit whose presence shows that `sequence` existed; the same number when only a list shows
 * it.
 */
export function missingCommit(sequence: number, newest: number): CommitError {
  const what = sequence === 0 ? 'the genesis of the volume' : `commit ${sequence}`;
  const proof = newest > sequence ? `commit ${newest} comes after it` : 'the store lists it';
  return new CommitError('MISSING', `${what} is missing from the store, although ${proof}`, { sequence });
}
