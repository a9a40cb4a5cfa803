/** MALFORMED: a page that authenticates but is against the format (doc/format.md, "Tree page"), or does not fit where it hangs. */
import { CodedError } from '../base/errors.js';

export class TreeError extends CodedError<'MALFORMED'> {}
