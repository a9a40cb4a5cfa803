/**
 * X-Wing, the key encapsulation by which a secret is sent to the holder of a key: X25519 and ML-KEM-768 together, so
 * that it holds as long as one of them does (draft-connolly-cfrg-xwing-kem; doc/format.md, "Keyslot"). It runs in a
 * browser as well. A key pair is its seed of 32 bytes.
 *
 * | what | bytes |
 * | --- | --- |
 * | public key | ML-KEM-768 encapsulation key 1,184, X25519 public key 32 |
 * | encapsulation | ML-KEM-768 ciphertext 1,088, ephemeral X25519 public key 32 |
 *
 * The shared secret is SHA3-256(ML-KEM's secret 32 | X25519's secret 32 | ephemeral key 32 | X25519 public key 32 |
 * `5c 2e 2f 2f 5e 5c`).
 */
import { sha3_256, shake256 } from '@noble/hashes/sha3.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { assert } from '../base/assert.js';
import type { Random } from '../base/random.js';
import { CryptoError } from './crypto-error.js';
import { kemSeedLength } from './kem-key.js';
import { x25519, x25519PublicKey } from './sodium.js';

const x25519Length = 32;
const mlKemSeedLength = 64;
const label = new TextEncoder().encode('\\.//^\\');

interface PrivateKeys {
  readonly mlKem: ReturnType<typeof ml_kem768.keygen>;
  readonly x25519: Uint8Array;
}

/** Calls `use` with the private keys of a seed, and wipes them. */
function withPrivateKeys<T>(seed: Uint8Array, use: (keys: PrivateKeys) => T): T {
  assert(seed.byteLength === kemSeedLength, 'a seed has 32 bytes');
  const expanded = shake256(seed, { dkLen: mlKemSeedLength + x25519Length });
  const mlKem = ml_kem768.keygen(expanded.subarray(0, mlKemSeedLength));
  try {
    return use({ mlKem, x25519: expanded.subarray(mlKemSeedLength) });
  } finally {
    expanded.fill(0);
    mlKem.secretKey.fill(0);
  }
}

function combine(mlKemSecret: Uint8Array, x25519Secret: Uint8Array, ephemeralKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const hash = sha3_256.create();
  for (const part of [mlKemSecret, x25519Secret, ephemeralKey, publicKey, label]) hash.update(part);
  mlKemSecret.fill(0);
  x25519Secret.fill(0);
  return hash.digest();
}

/** The public key of a seed (32 bytes, read, not kept). */
export function kemPublicKey(seed: Uint8Array): Uint8Array {
  return withPrivateKeys(seed, (keys) => Buffer.concat([keys.mlKem.publicKey, x25519PublicKey(keys.x25519)]));
}

/**
 * A new secret for the holder of a public key: 32 bytes, which the caller wipes, and the encapsulation that is sent.
 * Throws {@link CryptoError} `MALFORMED` for what is no public key.
 */
export function encapsulate(publicKey: Uint8Array, random: Random): { readonly sharedSecret: Uint8Array; readonly encapsulation: Uint8Array } {
  const mlKemKey = publicKey.subarray(0, -x25519Length);
  const x25519Key = publicKey.subarray(-x25519Length);
  const coins = random.bytes(2 * x25519Length);
  const ephemeral = coins.subarray(x25519Length);
  try {
    const ephemeralKey = x25519PublicKey(ephemeral);
    const mlKem = ml_kem768.encapsulate(mlKemKey, coins.subarray(0, x25519Length));
    const sharedSecret = combine(mlKem.sharedSecret, x25519(ephemeral, x25519Key), ephemeralKey, x25519Key);
    return { sharedSecret, encapsulation: Buffer.concat([mlKem.cipherText, ephemeralKey]) };
  } catch (error) {
    throw new CryptoError('MALFORMED', 'not a public key of X-Wing', { cause: error });
  } finally {
    coins.fill(0);
  }
}

/**
 * The secret that was sent to the holder of `seed` (read, not kept): 32 bytes, which the caller wipes. An encapsulation
 * that was made for another key gives another secret. Throws {@link CryptoError} `MALFORMED` for what nobody makes.
 */
export function decapsulate(seed: Uint8Array, encapsulation: Uint8Array): Uint8Array {
  const ephemeralKey = encapsulation.subarray(-x25519Length);
  return withPrivateKeys(seed, (keys) => {
    try {
      const mlKemSecret = ml_kem768.decapsulate(encapsulation.subarray(0, -x25519Length), keys.mlKem.secretKey);
      return combine(mlKemSecret, x25519(keys.x25519, ephemeralKey), ephemeralKey, x25519PublicKey(keys.x25519));
    } catch (error) {
      throw new CryptoError('MALFORMED', 'not an encapsulation of X-Wing', { cause: error });
    }
  });
}
