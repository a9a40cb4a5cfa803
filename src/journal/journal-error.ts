/** The operating errors of the journal. */
import { CodedError } from '../base/errors.js';

/**
 * - `FULL`: there is no space for the record, which was not written; later ones may fit
 * - `IO`: the disk failed; only records that were synced before can be relied on
 * - `CORRUPT`: records that were on stable storage are missing, which is damage and not the work of a crash
 * - `CLOSED`: the journal is closed
 */
export type JournalErrorCode = 'FULL' | 'IO' | 'CORRUPT' | 'CLOSED';
export class JournalError extends CodedError<JournalErrorCode> {}
