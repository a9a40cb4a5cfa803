/**
 * Why nothing can be copied out of a volume (doc/cli.md, "check, repair, salvage"). Damage in it is no error, but a
 * part of the report.
 */
import { CodedError } from '../base/errors.js';

/** `NOTHING_LEFT`: there is no genesis, and so no keys, or no commit, and so no state. */
export class SalvageError extends CodedError<'NOTHING_LEFT'> {}
