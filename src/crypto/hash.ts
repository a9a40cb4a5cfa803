/** SHA-256, which binds bytes: the volume id, the chain of commits, pages, content (doc/format.md, "Hashes"). */
import { hash } from 'node:crypto';

export const hashLength = 32;

/** SHA-256 of `bytes`: 32 bytes of the caller's own. */
export function hashBytes(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer');
}
