/**
 * The committing seal: the one way in which anything is encrypted and authenticated, except journal records, which take
 * their key from here (doc/format.md, "The seal"). Every object gets a fresh key, bound to kind, place, volume and epoch.
 * It knows no format above it: places and payloads are bytes.
 */
import { createCipheriv, createDecipheriv, timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import type { Random } from '../base/random.js';
import { CryptoError } from './crypto-error.js';
import { blake2b } from './sodium.js';

export type SealKind = 'keyslot' | 'genesis' | 'commit' | 'chunk' | 'page' | 'pack-index' | 'pack-footer' | 'trust' | 'device' | 'journal';

const kindNumbers: Readonly<Record<SealKind, number>> = {
  keyslot: 1,
  genesis: 2,
  commit: 3,
  chunk: 4,
  page: 5,
  'pack-index': 6,
  'pack-footer': 7,
  trust: 8,
  device: 9,
  journal: 10,
};
/** Items inside packs: no visible header, so that a pack shows no structure. */
const bareKinds: ReadonlySet<SealKind> = new Set(['chunk', 'page', 'pack-index', 'pack-footer']);

/** 1: AES-256-GCM; 2: ChaCha20-Poly1305, for machines without AES instructions. */
export type Suite = 1 | 2;

export function isSuite(value: number): value is Suite {
  return value === 1 || value === 2;
}

export const keyLength = 32;
export const saltLength = 24;
export const commitmentLength = 32;
export const tagLength = 16;
const headerLength = 8;
/** What sealing adds to a payload, in bytes. */
export const framedOverhead = headerLength + saltLength + commitmentLength + tagLength;
export const bareOverhead = framedOverhead - headerLength;

const version = 1;
const label = Buffer.from('sealdrive v1 seal', 'latin1');
const zeroNonce = Buffer.alloc(12);
/** Every length that a seal or record uses is far below; it keeps sizes within one cipher call. */
const payloadMax = 2 ** 31 - 1;

// `authTagLength` is not optional: without it Node.js accepts tags of 4 bytes when decrypting.
const aeadOptions = { authTagLength: tagLength } as const;

/** AES-256-GCM or ChaCha20-Poly1305 over `parts` as one message, into `target` at `at`, tag behind it. Returns the end. */
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
  cipher.setAAD(aad, { plaintextLength: parts.length === 1 ? parts[0].byteLength : parts.reduce((sum, part) => sum + part.byteLength, 0) });
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

/** The verified plaintext of `sealed` (ciphertext, then tag), or `undefined` when it is not authentic. Nothing leaks out before the tag was checked. */
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
 * Puts the plaintext of `sealed` (ciphertext, then tag; the nonce is zero) at the beginning of `target`, which may be `sealed` itself. False when it is not
 * authentic: then nothing of the plaintext is there.
 */
export type DecryptInto = (suite: Suite, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, target: Uint8Array) => boolean;

export const decryptInto: DecryptInto = (suite, key, aad, sealed, target) => {
  const plain = decrypt(suite, key, zeroNonce, aad, sealed);
  if (plain) target.set(plain);
  else target.fill(0, 0, Math.max(0, sealed.byteLength - tagLength));
  return plain !== undefined;
};

/** One message to encrypt: `parts` side by side, ciphertext and tag to `at` of the batch's target. */
export interface BulkMessage {
  readonly suite: Suite;
  /** 32 bytes; serves this message only, so the nonce is zero. */
  readonly key: Uint8Array;
  readonly aad: Uint8Array;
  readonly parts: readonly Uint8Array[];
  readonly at: number;
}

export interface SealKeyOptions {
  readonly kind: SealKind;
  /** 32 bytes, borrowed for the key's lifetime. */
  readonly subkey: Uint8Array;
  /** What new objects are sealed with; framed objects name theirs, bare ones must have this one. */
  readonly suite: Suite;
  /** 32 bytes; zeros for genesis and keyslots, which come before it. */
  readonly volumeId: Uint8Array;
  /** 0 for the kinds whose key comes from the root secret or a passphrase. */
  readonly epoch: number;
  readonly random: Random;
}

/** Seals and opens the objects of one kind. Not reentrant, and need not be: it never awaits. */
export class SealKey {
  readonly kind: SealKind;
  /** Bytes that sealing adds. */
  readonly overhead: number;
  readonly #subkey: Uint8Array;
  readonly #suite: Suite;
  readonly #random: Random;
  readonly #framed: boolean;
  /** `label | header | len(context) | context | salt`, all but the last two parts filled in once. */
  #message: Buffer;
  readonly #headerAt = label.length;
  readonly #placeAt: number;

  constructor(options: SealKeyOptions) {
    assert(options.subkey.byteLength === keyLength, 'a subkey has 32 bytes');
    assert(options.volumeId.byteLength === 32, 'a volume id has 32 bytes');
    this.kind = options.kind;
    this.#subkey = options.subkey;
    this.#suite = options.suite;
    this.#random = options.random;
    this.#framed = !bareKinds.has(options.kind);
    this.overhead = this.#framed ? framedOverhead : bareOverhead;
    const kind = kindNumbers[options.kind];
    this.#message = Buffer.alloc(256);
    let at = label.copy(this.#message);
    at += this.#message.write('SEAL', at, 'latin1');
    this.#message.set([version, options.suite, kind, 0], at);
    at += 4 + 4;
    this.#message[at++] = kind;
    at = this.#message.writeUInt32LE(options.epoch, at);
    this.#message.set(options.volumeId, at);
    this.#placeAt = at + 32;
  }

  sealedLength(plainLength: number): number {
    return plainLength + this.overhead;
  }

  /** Seals one payload, given whole or in parts, for `place`. Borrows both; the result is the caller's. */
  seal(place: Uint8Array, payload: Plaintext | readonly Plaintext[]): Sealed {
    const parts = payload instanceof Uint8Array ? [payload] : payload;
    const plainLength = parts.reduce((sum, part) => sum + part.byteLength, 0);
    assert(plainLength <= payloadMax, 'a payload fits one cipher call');
    const salt = this.#random.bytes(saltLength);
    const okm = this.derive(place, salt, this.#suite);
    const sealed = Buffer.allocUnsafe(plainLength + this.overhead);
    const start = this.#framed ? headerLength : 0;
    if (this.#framed) this.#message.copy(sealed, 0, this.#headerAt, this.#headerAt + headerLength);
    sealed.set(salt, start);
    sealed.set(okm.subarray(keyLength), start + saltLength);
    const body = start + saltLength + commitmentLength;
    encryptInto(this.#suite, okm.subarray(0, keyLength), zeroNonce, this.#aad(sealed.subarray(start, body)), parts, sealed, body);
    okm.fill(0);
    return sealed as Uint8Array as Sealed;
  }

  /**
   * The first half of sealing into a larger buffer: writes everything but ciphertext and tag to `at` of `target` (bare kinds only), and says what is to be
   * encrypted, for a `BulkCipher`. The parts are borrowed until that is done.
   */
  sealLater(place: Uint8Array, parts: readonly Plaintext[], target: Uint8Array, at: number): BulkMessage {
    assert(!this.#framed, 'only items inside packs are sealed in batches');
    const salt = this.#random.bytes(saltLength);
    const okm = this.derive(place, salt, this.#suite);
    target.set(salt, at);
    target.set(okm.subarray(keyLength), at + saltLength);
    const body = at + saltLength + commitmentLength;
    return { suite: this.#suite, key: okm.subarray(0, keyLength), aad: this.#aad(target.subarray(at, body)), parts, at: body };
  }

  /**
   * The payload that was sealed for `place`, as bytes of the caller's own.
   * Throws {@link CryptoError} `MALFORMED`, `UNSUPPORTED_VERSION` or `NOT_AUTHENTIC`.
   */
  open(place: Uint8Array, sealed: Uint8Array): Plaintext {
    return this.#unlock(place, sealed, (suite, key, aad, encrypted) => decrypt(suite, key, zeroNonce, aad, encrypted));
  }

  /** {@link SealKey.open} by another hand. `inPlace`: the payload takes the place of `sealed`, whose bytes are lost, also when they do not verify. */
  openBy(decryptBy: DecryptInto, place: Uint8Array, sealed: Uint8Array, inPlace: boolean): Plaintext {
    return this.#unlock(place, sealed, (suite, key, aad, encrypted) => {
      const length = encrypted.byteLength - tagLength;
      const target = inPlace ? encrypted : Buffer.allocUnsafeSlow(length);
      return decryptBy(suite, key, aad, encrypted, target) ? (target.subarray(0, length) as Uint8Array as Plaintext) : undefined;
    });
  }

  /** Checks everything but the tag, which is for `open`: it answers `undefined` for what is not authentic. */
  #unlock(
    place: Uint8Array,
    sealed: Uint8Array,
    open: (suite: Suite, key: Uint8Array, aad: Uint8Array, encrypted: Uint8Array) => Plaintext | undefined,
  ): Plaintext {
    if (sealed.byteLength < this.overhead) throw new CryptoError('MALFORMED', `${this.kind}: ${sealed.byteLength} bytes are no sealed object`);
    const suite = this.#framed ? this.#readHeader(sealed) : this.#suite;
    const start = this.#framed ? headerLength : 0;
    const body = start + saltLength + commitmentLength;
    const okm = this.derive(place, sealed.subarray(start, start + saltLength), suite);
    try {
      if (!timingSafeEqual(okm.subarray(keyLength), sealed.subarray(start + saltLength, body))) throw this.#notAuthentic();
      const plain = open(suite, okm.subarray(0, keyLength), this.#aad(sealed.subarray(start, body)), sealed.subarray(body));
      if (!plain) throw this.#notAuthentic();
      return plain;
    } finally {
      okm.fill(0);
    }
  }

  #notAuthentic(): CryptoError {
    return new CryptoError('NOT_AUTHENTIC', `${this.kind}: not sealed with this key for this place, or changed since`);
  }

  #readHeader(sealed: Uint8Array): Suite {
    const expected = this.#message;
    const at = this.#headerAt;
    for (let index = 0; index < 4; index++) {
      if (sealed[index] !== expected[at + index]) throw new CryptoError('MALFORMED', `${this.kind}: no sealed object`);
    }
    const suite = sealed[5];
    if (sealed[4] !== version || !isSuite(suite)) throw new CryptoError('UNSUPPORTED_VERSION', `${this.kind}: version ${sealed[4]}, suite ${suite}`);
    if (sealed[6] !== expected[at + 6] || sealed[7] !== 0) throw new CryptoError('MALFORMED', `${this.kind}: a sealed object of another kind`);
    return suite;
  }

  /** `header | salt | commitment`, the header as {@link SealKey.derive} last left it. */
  #aad(saltAndCommitment: Uint8Array): Uint8Array {
    const aad = Buffer.allocUnsafe(headerLength + saltLength + commitmentLength);
    this.#message.copy(aad, 0, this.#headerAt, this.#headerAt + headerLength);
    aad.set(saltAndCommitment, headerLength);
    return aad;
  }

  /** okm: 32 bytes of key, then 32 bytes of commitment. For the seal and for journal segments; whoever calls it wipes it. */
  derive(place: Uint8Array, salt: Uint8Array, suite: Suite = this.#suite): Uint8Array {
    const placeAt = this.#placeAt;
    const end = placeAt + place.byteLength + saltLength;
    if (end > this.#message.length) this.#message = Buffer.concat([this.#message, Buffer.alloc(end)]);
    const message = this.#message;
    message[this.#headerAt + 5] = suite;
    message.writeUInt32LE(1 + 4 + 32 + place.byteLength, this.#headerAt + headerLength);
    message.set(place, placeAt);
    message.set(salt, placeAt + place.byteLength);
    return blake2b(keyLength + commitmentLength, message.subarray(0, end), this.#subkey);
  }
}
