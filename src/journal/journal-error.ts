/** What can go wrong in the journal. */
import { CodedError } from '../base/errors.js';

/**
 * - `FULL`: no space for the record, which was not written; later ones may fit
 * - `IO`: the disk failed; nothing that was not synced before can be relied on
 * - `CORRUPT`: records are missing that were on stable storage: this is damage, not a crash; - `CLOSED`: closed already
 */
export type JournalErrorCode = 'FULL' | 'IO' | 'CORRUPT' | 'CLOSED';
export class JournalError extends CodedError<JournalErrorCode> {}
