/** Keys from keys, by keyed BLAKE2b-256 (doc/format.md, "Key hierarchy"). */
import { blake2b } from './sodium.js';

const keyLength = 32;

/** A pseudorandom function of `message` under a key of 16 to 64 bytes: 32 bytes of the caller's own. */
export function keyedHash(key: Uint8Array, message: Uint8Array): Uint8Array {
  return blake2b(keyLength, message, key);
}

/** `purpose` is ASCII. */
export function subkey(secret: Uint8Array, purpose: string): Uint8Array {
  return keyedHash(secret, new TextEncoder().encode(`sealdrive v1 subkey ${purpose}`));
}
