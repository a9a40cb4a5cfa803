/**
 * The operating errors of the pack layer (doc/format.md, "Pack").
 * - `FULL`: no space on the local disk
 * - `IO`: the local disk failed otherwise
 * - `MISSING`: the object or the wanted part of it does not exist
 * - `NOT_AUTHENTIC`: the bytes are not the ones that were written (seal or hash)
 * - `MALFORMED`: the seal is right, but the content breaks the format or does not decompress
 */
import { CodedError } from '../base/errors.js';
import { isDiskFull } from '../disk/whole-file.js';
import type { PackId } from './pack-id.js';

export type PackErrorCode = 'FULL' | 'IO' | 'MISSING' | 'NOT_AUTHENTIC' | 'MALFORMED';
export class PackError extends CodedError<PackErrorCode> {}

/** What the local disk threw while it was used for a staging pack. */
export function diskError(id: PackId, cause: unknown): PackError {
  const isFull = isDiskFull(cause);
  return new PackError(isFull ? 'FULL' : 'IO', `staging pack ${id}: the local disk ${isFull ? 'is full' : 'failed'}`, { cause });
}
