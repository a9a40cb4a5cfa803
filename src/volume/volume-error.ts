/** What goes wrong in a volume. The messages are for the log; what people read is made above. */
import { CodedError } from '../base/errors.js';

/**
 * Named for the remedy: UNAVAILABLE (no answer from the store: try later), REFUSED (the store
 * answers and does not give it: somebody has to see to credentials, an archive, a key), FENCED (history does not fit: integrity stop), CORRUPT (a check failed),
 * FULL (local disk or quota), DISK (the local disk fails: look after it, then open again), READ_ONLY, CLOSED (unmounting), INTERRUPTED (the asker gave up),
 * NO_DESCRIPTORS and NO_MEMORY (this process may not have more of them: raise the limit, or wait).
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
