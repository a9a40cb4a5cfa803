/**
 * libsodium, ready to use, with only the functions that this layer calls; it runs in a browser as well. Only this file
 * loads it. Everything but Argon2id takes microseconds.
 */
import sodium, { ready } from 'libsodium-wrappers-sumo';

await ready;

/** Keyed or plain BLAKE2b of `length` bytes. */
export function blake2b(length: number, message: Uint8Array, key?: Uint8Array): Uint8Array {
  return sodium.crypto_generichash(length, message, key ?? null);
}

/** Whether two byte strings of one length are equal, in a time that does not depend on where they differ. */
export function equalSecrets(a: Uint8Array, b: Uint8Array): boolean {
  return sodium.memcmp(a, b);
}

/** Argon2id, one lane. Blocks for as long as it takes: call it on a thread of its own. */
export function argon2id(length: number, password: Uint8Array, salt: Uint8Array, passes: number, memoryKiB: number): Uint8Array {
  return sodium.crypto_pwhash(length, password, salt, passes, memoryKiB * 1024, sodium.crypto_pwhash_ALG_ARGON2ID13);
}

export function ed25519KeyPair(seed: Uint8Array): { publicKey: Uint8Array; privateKey: Uint8Array } {
  return sodium.crypto_sign_seed_keypair(seed);
}

export function ed25519Sign(message: Uint8Array, privateKey: Uint8Array): Uint8Array {
  return sodium.crypto_sign_detached(message, privateKey);
}

/** False also for small-order and non-canonical keys, which other libraries accept. */
export function ed25519Verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  return sodium.crypto_sign_verify_detached(signature, message, publicKey);
}

export function x25519PublicKey(privateKey: Uint8Array): Uint8Array {
  return sodium.crypto_scalarmult_base(privateKey);
}

/** The shared secret of two X25519 keys. Throws when it is zero, as for public keys of small order. */
export function x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  return sodium.crypto_scalarmult(privateKey, publicKey);
}
