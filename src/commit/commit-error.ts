/** What can go wrong between this device and the log. The store being away is StoreError, the local disk failing its own error. */
import { CodedError } from '../base/errors.js';

/**
 * The history does not fit what this device knows (integrity stop):
 * - `ROLLBACK`: the newest commit that this device has seen is gone; - `OWN_COMMIT_MISSING`: so, and this device wrote it
 * - `FORK`: another commit stands where this device has seen one, or acknowledgements contradict
 *
 * An object of the log is not what a device wrote:
 * - `NOT_AUTHENTIC`: does not open at its place; - `MALFORMED`: opens, but breaks the format or a rule; - `BAD_LINK`: does not follow its
 *   predecessor; - `BAD_SIGNATURE`: not signed by an enrolled device; - `MISSING`: a commit is gone while later ones are there
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
  | 'BAD_STATE';

/** The facts, for people and for the saved evidence. Hashes are of sealed bytes, as hex. */
export interface CommitEvidence {
  readonly sequence?: number;
  readonly expectedHash?: string;
  readonly foundHash?: string;
  readonly deviceId?: string;
}

const fencedCodes: ReadonlySet<CommitErrorCode> = new Set(['ROLLBACK', 'OWN_COMMIT_MISSING', 'FORK']);

export class CommitError extends CodedError<CommitErrorCode> {
  readonly evidence: CommitEvidence;

  constructor(code: CommitErrorCode, message: string, evidence: CommitEvidence = {}, options?: { cause?: unknown }) {
    super(code, message, options);
    this.evidence = evidence;
  }

  /** The whole history is in doubt, not one object. */
  get isFenced(): boolean {
    return fencedCodes.has(this.code);
  }
}
