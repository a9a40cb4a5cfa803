/**
 * The committing seal as bytes: kinds, header, key derivation, commitment and associated data (doc/format.md, "The
 * seal"). It calls no cipher and nothing of Node.js, so that the same source serves drivers that encrypt synchronously
 * (seal-key.ts), on a thread pool (bulk-cipher.ts), or asynchronously, as WebCrypto does. It knows no format above it:
 * places and payloads are bytes.
 */
import { assert } from '../base/assert.js';
import { CryptoError } from './crypto-error.js';
import { blake2b, equalSecrets } from './sodium.js';

export type SealKind =
  | 'keyslot'
  | 'genesis'
  | 'commit'
  | 'chunk'
  | 'page'
  | 'pack-index'
  | 'pack-footer'
  | 'trust'
  | 'device'
  | 'journal'
  | 'wrapped-root';

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
  'wrapped-root': 11,
};
/** Items inside packs: no visible header, so that a pack shows no structure. */
const bareKinds: ReadonlySet<SealKind> = new Set(['chunk', 'page', 'pack-index', 'pack-footer']);

/** 1: AES-256-GCM; 2: ChaCha20-Poly1305, for machines without AES instructions. */
export type Suite = 1 | 2;

export function isSuite(value: number | undefined): value is Suite {
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
/** Each key serves one message. */
export const sealNonce: Uint8Array = new Uint8Array(12);

const version = 1;
const label = new TextEncoder().encode('sealdrive v1 seal');
const magic = new TextEncoder().encode('SEAL');

/** What a cipher needs for one message under {@link sealNonce}. */
export interface SealCall {
  readonly suite: Suite;
  /** 32 bytes; the receiver wipes it. */
  readonly key: Uint8Array;
  readonly aad: Uint8Array;
}

/** A message to encrypt: ciphertext and tag go to `at` of the target. */
export interface Sealing extends SealCall {
  readonly at: number;
}

/** A message to decrypt: ciphertext, then tag, borrowed from the sealed object. */
export interface Opening extends SealCall {
  readonly encrypted: Uint8Array;
}

export interface SealFormatOptions {
  readonly kind: SealKind;
  /** 32 bytes, borrowed for the format's lifetime. */
  readonly subkey: Uint8Array;
  /** What new objects are sealed with; framed objects name theirs, bare ones must have this one. */
  readonly suite: Suite;
  /** 32 bytes; zeros for genesis, keyslot and wrapped root, whose keys are of one volume. */
  readonly volumeId: Uint8Array;
  /** 0 for the kinds whose key does not come from an epoch key. */
  readonly epoch: number;
}

/** Everything about the objects of one kind but the cipher. Not reentrant, and need not be: it never awaits. */
export class SealFormat {
  readonly kind: SealKind;
  /** Bytes that sealing adds. */
  readonly overhead: number;
  readonly isFramed: boolean;
  readonly #subkey: Uint8Array;
  readonly #suite: Suite;
  /** `label | header | len(context) | context | salt`, all but the last two parts filled in once. */
  #message = new Uint8Array(256);
  readonly #headerAt = label.length;
  readonly #placeAt: number;

  constructor({ kind, subkey, suite, volumeId, epoch }: SealFormatOptions) {
    assert(subkey.byteLength === keyLength, 'a subkey has 32 bytes');
    assert(volumeId.byteLength === 32, 'a volume id has 32 bytes');
    this.kind = kind;
    this.#subkey = subkey;
    this.#suite = suite;
    this.isFramed = !bareKinds.has(kind);
    this.overhead = this.isFramed ? framedOverhead : bareOverhead;
    this.#message.set(label);
    this.#message.set(magic, this.#headerAt);
    this.#message.set([version, suite, kindNumbers[kind], 0], this.#headerAt + magic.length);
    const contextAt = this.#headerAt + headerLength + 4;
    this.#message[contextAt] = kindNumbers[kind];
    writeU32(this.#message, contextAt + 1, epoch);
    this.#message.set(volumeId, contextAt + 1 + 4);
    this.#placeAt = contextAt + 1 + 4 + 32;
  }

  /** Writes everything but ciphertext and tag to `at` of `target`; `salt` is new. */
  seal(place: Uint8Array, salt: Uint8Array, target: Uint8Array, at: number): Sealing {
    const okm = this.derive(place, salt);
    const start = this.isFramed ? at + headerLength : at;
    if (this.isFramed) target.set(this.#header, at);
    target.set(salt, start);
    target.set(okm.subarray(keyLength), start + saltLength);
    const body = start + saltLength + commitmentLength;
    return { suite: this.#suite, key: okm.subarray(0, keyLength), aad: this.#aad(target, start), at: body };
  }

  /**
   * Checks everything about an object that was sealed for `place` but the tag. Throws {@link CryptoError} `MALFORMED`,
   * `UNSUPPORTED_VERSION` or `NOT_AUTHENTIC`.
   */
  open(place: Uint8Array, sealed: Uint8Array): Opening {
    if (sealed.byteLength < this.overhead) throw new CryptoError('MALFORMED', `${this.kind}: ${sealed.byteLength} bytes are no sealed object`);
    const suite = this.isFramed ? this.#readHeader(sealed) : this.#suite;
    const start = this.isFramed ? headerLength : 0;
    const body = start + saltLength + commitmentLength;
    const okm = this.derive(place, sealed.subarray(start, start + saltLength), suite);
    if (!equalSecrets(okm.subarray(keyLength), sealed.subarray(start + saltLength, body))) {
      okm.fill(0);
      throw this.notAuthentic();
    }
    return { suite, key: okm.subarray(0, keyLength), aad: this.#aad(sealed, start), encrypted: sealed.subarray(body) };
  }

  /** For an object whose tag is wrong. */
  notAuthentic(): CryptoError {
    return new CryptoError('NOT_AUTHENTIC', `${this.kind}: not sealed with this key for this place, or changed since`);
  }

  get #header(): Uint8Array {
    return this.#message.subarray(this.#headerAt, this.#headerAt + headerLength);
  }

  #readHeader(sealed: Uint8Array): Suite {
    for (let index = 0; index < magic.length; index++) {
      if (sealed[index] !== magic[index]) throw new CryptoError('MALFORMED', `${this.kind}: no sealed object`);
    }
    const suite = sealed[5];
    if (sealed[4] !== version || !isSuite(suite)) throw new CryptoError('UNSUPPORTED_VERSION', `${this.kind}: version ${sealed[4]}, suite ${suite}`);
    if (sealed[6] !== kindNumbers[this.kind] || sealed[7] !== 0) throw new CryptoError('MALFORMED', `${this.kind}: a sealed object of another kind`);
    return suite;
  }

  /**
   * `header | salt | commitment`: the header as {@link SealFormat.derive} last left it, the rest from `start` of a
   * sealed object.
   */
  #aad(sealed: Uint8Array, start: number): Uint8Array {
    const length = saltLength + commitmentLength;
    // A framed object begins with them.
    if (this.isFramed) return sealed.subarray(start - headerLength, start + length);
    const aad = new Uint8Array(headerLength + length);
    aad.set(this.#header);
    aad.set(sealed.subarray(start, start + length), headerLength);
    return aad;
  }

  /**
   * okm: 32 bytes of key, then 32 bytes of commitment. For the seal, for chunks and for journal segments, whose salts
   * have other lengths; whoever calls it wipes it.
   */
  derive(place: Uint8Array, salt: Uint8Array, suite: Suite = this.#suite): Uint8Array {
    const end = this.#placeAt + place.byteLength + salt.byteLength;
    if (end > this.#message.length) {
      const longer = new Uint8Array(2 * end);
      longer.set(this.#message);
      this.#message = longer;
    }
    this.#message[this.#headerAt + 5] = suite;
    writeU32(this.#message, this.#headerAt + headerLength, 1 + 4 + 32 + place.byteLength);
    this.#message.set(place, this.#placeAt);
    this.#message.set(salt, this.#placeAt + place.byteLength);
    return blake2b(keyLength + commitmentLength, this.#message.subarray(0, end), this.#subkey);
  }
}

/** Little-endian. */
function writeU32(target: Uint8Array, at: number, value: number): void {
  target[at] = value;
  target[at + 1] = value >>> 8;
  target[at + 2] = value >>> 16;
  target[at + 3] = value >>> 24;
}
