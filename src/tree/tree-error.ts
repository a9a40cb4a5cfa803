/**
 * `MALFORMED`: an authentic page breaks the format (doc/format.md, "Tree page"), or does not fit its place in the tree.
 */
import { CodedError } from '../base/errors.js';

export class TreeError extends CodedError<'MALFORMED'> {}
