/**
 * The ciphers of the seal by Node.js, at once and on this thread. Only this file and system-random.ts use
 * `node:crypto`; what the bytes mean is in seal-format.ts.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { Plaintext } from '../base/brand.js';
import { totalLength } from '../base/bytes.js';
import type { Suite } from './seal-format.js';
import { sealNonce, tagLength } from './seal-format.js';

// `authTagLength` is given: without it Node.js accepts tags of 4 bytes when decrypting.
const aeadOptions = { authTagLength: tagLength } as const;

/**
 * AES-256-GCM or ChaCha20-Poly1305 over `parts` as one message, into `target` at `at`, tag behind it. Returns the end.
 */
export function encryptInto(
  suite: Suite,
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  parts: readonly Uint8Array[],
  target: Uint8Array,
  at: number,
): number {
  const cipher = suite === 1 ? createCipheriv('aes-256-gcm', key, nonce, aeadOptions) : createCipheriv('chacha20-poly1305', key, nonce, aeadOptions);
  cipher.setAAD(aad, { plaintextLength: totalLength(parts) });
  let end = at;
  for (const part of parts) {
    const piece = cipher.update(part);
    target.set(piece, end);
    end += piece.byteLength;
  }
  cipher.final();
  target.set(cipher.getAuthTag(), end);
  return end + tagLength;
}

/**
 * The verified plaintext of `sealed` (ciphertext, then tag), or `undefined` when it is not authentic. Nothing is given
 * out before the tag was checked.
 */
export function decrypt(suite: Suite, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Plaintext | undefined {
  const plainLength = sealed.byteLength - tagLength;
  if (plainLength < 0) return undefined;
  const decipher =
    suite === 1 ? createDecipheriv('aes-256-gcm', key, nonce, aeadOptions) : createDecipheriv('chacha20-poly1305', key, nonce, aeadOptions);
  decipher.setAAD(aad, { plaintextLength: plainLength });
  decipher.setAuthTag(sealed.subarray(plainLength));
  const plain = decipher.update(sealed.subarray(0, plainLength));
  try {
    decipher.final();
  } catch {
    plain.fill(0);
    return undefined;
  }
  return plain as Uint8Array as Plaintext;
}

/**
 * Puts the plaintext of `sealed` (ciphertext, then tag; the nonce is zero) at the beginning of `target`, which may be
 * `sealed` itself. False when it is not authentic: then nothing of the plaintext is there.
 */
export type DecryptInto = (suite: Suite, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, target: Uint8Array) => boolean;

export const decryptInto: DecryptInto = (suite, key, aad, sealed, target) => {
  const plain = decrypt(suite, key, sealNonce, aad, sealed);
  if (plain) target.set(plain);
  else target.fill(0, 0, Math.max(0, sealed.byteLength - tagLength));
  return plain !== undefined;
};
