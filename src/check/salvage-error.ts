/** Why nothing can be copied out of a volume. What is damaged in it is no error, but a finding. */
import { CodedError } from '../base/errors.js';

/** `NOTHING_LEFT`: without a genesis there are no keys, without a commit there is no state. */
export class SalvageError extends CodedError<'NOTHING_LEFT'> {}
