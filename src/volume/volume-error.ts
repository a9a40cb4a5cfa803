/**
 * The errors of a volume. Their messages are for the logger; users see messages made in the layers above
 * (doc/semantics.md, "Errors").
 */
import { CodedError } from '../base/errors.js';

/**
 * Named after the remedy:
 * - UNAVAILABLE: no answer from the store; try later
 * - REFUSED: the store answers but does not deliver; somebody must check credentials, an archive, a key
 * - FENCED: the history does not fit; integrity stop
 * - CORRUPT: a check failed
 * - FULL: local disk or quota
 * - DISK: the local disk fails; repair it, then open again
 * - READ_ONLY
 * - CLOSED: unmounting
 * - INTERRUPTED: the caller gave up
 * - NO_DESCRIPTORS, NO_MEMORY: this process may not have more of them; raise the limit, or wait
 */
export type VolumeErrorCode =
  | 'UNAVAILABLE'
  | 'REFUSED'
  | 'FENCED'
  | 'CORRUPT'
  | 'FULL'
  | 'DISK'
  | 'READ_ONLY'
  | 'CLOSED'
  | 'INTERRUPTED'
  | 'NO_DESCRIPTORS'
  | 'NO_MEMORY';
export class VolumeError extends CodedError<VolumeErrorCode> {}
