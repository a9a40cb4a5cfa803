/**
 * What can go wrong with packs.
 * - `FULL`: no space on the local disk; - `IO`: the local disk failed otherwise
 * - `MISSING`: the object, or the part of it, is not there; - `NOT_AUTHENTIC`: the bytes are not what was written (seal or hash)
 * - `MALFORMED`: the seal is right but what it holds is against the format, or compression could not be undone
 */
import { CodedError } from '../base/errors.js';

export type PackErrorCode = 'FULL' | 'IO' | 'MISSING' | 'NOT_AUTHENTIC' | 'MALFORMED';
export class PackError extends CodedError<PackErrorCode> {}
