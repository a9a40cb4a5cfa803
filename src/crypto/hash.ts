/** BLAKE2b-256: names for bytes (volume id, previous hash, page references) and the derivation of subkeys. */
import { blake2b } from './sodium.js';

export const hashLength = 32;

/** BLAKE2b-256 of `bytes`: 32 bytes of the caller's own. */
export function hashBytes(bytes: Uint8Array): Uint8Array {
  return blake2b(hashLength, bytes);
}

/** Keyed BLAKE2b-256: a pseudorandom function of `message` under a key of 16 to 64 bytes. */
export function keyedHash(key: Uint8Array, message: Uint8Array): Uint8Array {
  return blake2b(hashLength, message, key);
}

/** doc/format.md, "Key hierarchy". `purpose` is ASCII. */
export function subkey(secret: Uint8Array, purpose: string): Uint8Array {
  return keyedHash(secret, new TextEncoder().encode(`sealdrive v1 subkey ${purpose}`));
}
