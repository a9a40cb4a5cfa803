/**
 * Sealing and opening at once: the one way in which anything is encrypted and authenticated, except journal records,
 * which take their key from here (doc/format.md, "The seal"). Every object gets a fresh key, bound to kind, place,
 * volume and epoch. The bytes are those of seal-format.ts, the ciphers those of Node.js or of a `BulkCipher`.
 */
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import { totalLength } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { BulkMessage } from './bulk-cipher.js';
import { type DecryptInto, decrypt, encryptInto } from './node-aead.js';
import type { Opening, SealFormatOptions, SealKind, Suite } from './seal-format.js';
import { SealFormat, saltLength, sealNonce, tagLength } from './seal-format.js';

/** Every length that a seal or record uses is far below; it keeps sizes within one cipher call. */
const payloadMax = 2 ** 31 - 1;

export interface SealKeyOptions extends SealFormatOptions {
  readonly random: Random;
}

/** Seals and opens the objects of one kind. Not reentrant, and need not be: it never awaits. */
export class SealKey {
  readonly kind: SealKind;
  /** Bytes that sealing adds. */
  readonly overhead: number;
  readonly #format: SealFormat;
  readonly #random: Random;

  constructor(options: SealKeyOptions) {
    this.#format = new SealFormat(options);
    this.#random = options.random;
    this.kind = options.kind;
    this.overhead = this.#format.overhead;
  }

  sealedLength(plainLength: number): number {
    return plainLength + this.overhead;
  }

  /** Seals one payload, given whole or in parts, for `place`. Borrows both; the result is the caller's. */
  seal(place: Uint8Array, payload: Plaintext | readonly Plaintext[]): Sealed {
    const parts = payload instanceof Uint8Array ? [payload] : payload;
    const plainLength = totalLength(parts);
    assert(plainLength <= payloadMax, 'a payload fits one cipher call');
    const sealed = Buffer.allocUnsafe(plainLength + this.overhead);
    const { suite, key, aad, at } = this.#format.seal(place, this.#random.bytes(saltLength), sealed, 0);
    encryptInto(suite, key, sealNonce, aad, parts, sealed, at);
    key.fill(0);
    return sealed as Uint8Array as Sealed;
  }

  /**
   * The first half of sealing into a larger buffer: writes everything but ciphertext and tag to `at` of `target` (bare
   * kinds only), and answers what is to be encrypted, for a `BulkCipher`. The parts are borrowed until that is done.
   */
  sealLater(place: Uint8Array, parts: readonly Plaintext[], target: Uint8Array, at: number): BulkMessage {
    assert(!this.#format.isFramed, 'only items inside packs are sealed in batches');
    return { ...this.#format.seal(place, this.#random.bytes(saltLength), target, at), parts };
  }

  /**
   * The payload that was sealed for `place`, as bytes of the caller's own.
   * Throws {@link CryptoError} `MALFORMED`, `UNSUPPORTED_VERSION` or `NOT_AUTHENTIC`.
   */
  open(place: Uint8Array, sealed: Uint8Array): Plaintext {
    return this.#open(place, sealed, ({ suite, key, aad, encrypted }) => decrypt(suite, key, sealNonce, aad, encrypted));
  }

  /**
   * {@link SealKey.open} with another cipher. `inPlace`: the payload takes the place of `sealed`, whose bytes are lost,
   * also when they do not verify.
   */
  openBy(decryptBy: DecryptInto, place: Uint8Array, sealed: Uint8Array, inPlace: boolean): Plaintext {
    return this.#open(place, sealed, ({ suite, key, aad, encrypted }) => {
      const length = encrypted.byteLength - tagLength;
      const target = inPlace ? encrypted : Buffer.allocUnsafeSlow(length);
      return decryptBy(suite, key, aad, encrypted, target) ? (target.subarray(0, length) as Uint8Array as Plaintext) : undefined;
    });
  }

  #open(place: Uint8Array, sealed: Uint8Array, decryptIt: (opening: Opening) => Plaintext | undefined): Plaintext {
    const opening = this.#format.open(place, sealed);
    try {
      const plain = decryptIt(opening);
      if (!plain) throw this.#format.notAuthentic();
      return plain;
    } finally {
      opening.key.fill(0);
    }
  }

  /** {@link SealFormat.derive}. */
  derive(place: Uint8Array, salt: Uint8Array, suite?: Suite): Uint8Array {
    return this.#format.derive(place, salt, suite);
  }
}
