/** Ed25519 by libsodium alone: node:crypto accepts small-order public keys, under which anyone can sign. */
import { assert } from '../base/assert.js';
import { ed25519KeyPair, ed25519Sign, ed25519Verify } from './sodium.js';

export const publicKeyLength = 32;
export const signatureLength = 64;
export const seedLength = 32;

/** Signs as one device. */
export class Signer {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #privateKey: Uint8Array;

  /** `seed` (32 bytes) is read, not kept. */
  constructor(seed: Uint8Array) {
    assert(seed.byteLength === seedLength, 'a seed has 32 bytes');
    const pair = ed25519KeyPair(seed);
    this.publicKey = pair.publicKey;
    this.#privateKey = pair.privateKey;
  }

  /** 64 bytes. */
  sign(message: Uint8Array): Uint8Array {
    return ed25519Sign(message, this.#privateKey);
  }

  wipe(): void {
    this.#privateKey.fill(0);
  }
}

/** Whether `publicKey` signed `message`. Never throws: keys and signatures of a wrong size or shape did not. */
export function isSignedBy(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.byteLength !== publicKeyLength || signature.byteLength !== signatureLength) return false;
  return ed25519Verify(signature, message, publicKey);
}
