/**
 * The cipher of one journal segment: many short records under one fresh key, which is cheaper than a seal for each
 * (doc/format.md, "Journal segment"). Nonces are numbers that the caller never uses twice; a segment is written by one
 * process once.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import type { Random } from '../base/random.js';
import { decrypt, encryptInto } from './node-aead.js';
import { commitmentLength, keyLength, saltLength, tagLength } from './seal-format.js';
import type { SealKey } from './seal-key.js';
import { equalSecrets } from './sodium.js';

/** What a record's encryption adds, in bytes. */
export const recordOverhead = tagLength;
/** Salt and commitment, which stand in the segment's header. */
export const recordCipherHeaderLength = saltLength + commitmentLength;
/** The most records that one key may encrypt. */
const numberMax = 2 ** 32 - 1;

export class RecordCipher {
  readonly #key: Uint8Array;
  readonly #nonce = Buffer.alloc(12);
  #numberNext = 0;

  private constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** With the key in `okm`, which is wiped. */
  static #of(okm: Uint8Array): RecordCipher {
    const key = new Uint8Array(okm.subarray(0, keyLength));
    okm.fill(0);
    return new RecordCipher(key);
  }

  /** A new cipher for the segment at `place`, and the header that {@link RecordCipher.open} needs. */
  static create(sealKey: SealKey, place: Uint8Array, random: Random): { cipher: RecordCipher; header: Uint8Array } {
    const salt = random.bytes(saltLength);
    const okm = sealKey.derive(place, salt, 1);
    const header = Buffer.concat([salt, okm.subarray(keyLength)]);
    return { cipher: RecordCipher.#of(okm), header };
  }

  /** The cipher of an existing segment, for reading; `undefined` when its header is not for this key and place. */
  static open(sealKey: SealKey, place: Uint8Array, header: Uint8Array): RecordCipher | undefined {
    assert(header.byteLength === recordCipherHeaderLength, 'a cipher header is a salt and a commitment');
    const okm = sealKey.derive(place, header.subarray(0, saltLength), 1);
    const isRight = equalSecrets(okm.subarray(keyLength), header.subarray(saltLength));
    const cipher = RecordCipher.#of(okm);
    if (isRight) return cipher;
    cipher.wipe();
    return undefined;
  }

  #nonceOf(number: number): Uint8Array {
    this.#nonce.writeUInt32LE(number, 0);
    return this.#nonce;
  }

  /**
   * Encrypts `parts` as the one payload of record `number` into `target` at `at`, tag behind it; returns the end.
   * Numbers only rise.
   */
  encrypt(number: number, aad: Uint8Array, parts: readonly Uint8Array[], target: Uint8Array, at: number): number {
    assert(number >= this.#numberNext && number <= numberMax, 'a record number is never used twice');
    this.#numberNext = number + 1;
    return encryptInto(1, this.#key, this.#nonceOf(number), aad, parts, target, at);
  }

  /** The payload of record `number`, or `undefined` when it is not authentic. */
  decrypt(number: number, aad: Uint8Array, sealed: Uint8Array): Plaintext | undefined {
    return decrypt(1, this.#key, this.#nonceOf(number), aad, sealed);
  }

  wipe(): void {
    this.#key.fill(0);
  }
}
