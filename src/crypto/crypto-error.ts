/** What can go wrong in the crypto layer. */
import { CodedError } from '../base/errors.js';

/**
 * - `NOT_AUTHENTIC`: not sealed under this key, kind, place, volume and epoch, or changed since
 * - `MALFORMED`: not the shape of a sealed object
 * - `UNSUPPORTED_VERSION`: a version, suite or kind that this program does not know
 * - `KDF_OUT_OF_BOUNDS`: a keyslot asks for less work than is safe or more than is sane
 * - `KDF_FAILED`: not enough memory for that work
 * - `WRONG_SECRET`: the passphrase, words or key file do not open the slot
 * - `WEAK_SECRET`: refused when making a slot
 */
export type CryptoErrorCode =
  | 'NOT_AUTHENTIC'
  | 'MALFORMED'
  | 'UNSUPPORTED_VERSION'
  | 'KDF_OUT_OF_BOUNDS'
  | 'KDF_FAILED'
  | 'WRONG_SECRET'
  | 'WEAK_SECRET';
export class CryptoError extends CodedError<CryptoErrorCode> {}
