/**
 * Seals and opens chunks, which are opened in part (doc/format.md, "The seal of a chunk"): it derives their keys, and a
 * `BulkCipher` does the rest. Places are bytes, as for seal-key.ts. Salt and hashes are kept by whoever refers to the
 * chunk, so that one range of a pack is all that a reader needs.
 */
import type { Plaintext } from '../base/brand.js';
import { CryptoError } from './crypto-error.js';
import type { StreamOpening, StreamSealing } from './node-stream.js';
import type { SealFormatOptions } from './seal-format.js';
import { keyLength, SealFormat } from './seal-format.js';
import { hashesLength, sealedChunkLength, segmentCount, segmentHashLength } from './stream-format.js';

/** A sealed chunk, as the signed log describes it. */
export interface ChunkContent {
  readonly place: Uint8Array;
  /** 16 bytes. */
  readonly salt: Uint8Array;
  /** 32 bytes of each segment. */
  readonly hashes: Uint8Array;
}

const noBytes = new Uint8Array(0);

/** Not reentrant, and need not be: it never awaits. */
export class ChunkKey {
  readonly #format: SealFormat;
  readonly #suite: SealFormatOptions['suite'];

  constructor(options: Omit<SealFormatOptions, 'kind'>) {
    this.#format = new SealFormat({ ...options, kind: 'chunk' });
    this.#suite = options.suite;
  }

  /**
   * What seals a chunk at `at` of a target. The parts, which are the stored bytes, are borrowed until that is done; the
   * hashes of the segments are then in `content`, whose salt must be new. The caller wipes the key.
   */
  sealing({ place, salt, hashes }: ChunkContent, parts: readonly Plaintext[], at: number): StreamSealing {
    return { suite: this.#suite, key: this.#derive(place, salt), aad: noBytes, at, parts, hashes };
  }

  /**
   * What opens consecutive segments, from number `first` on, into `target`, which has the length of their plaintext.
   * The caller wipes the key. Throws {@link CryptoError} `MALFORMED`.
   */
  opening({ place, salt, hashes }: ChunkContent, segments: Uint8Array, first: number, target: Uint8Array): StreamOpening {
    const from = first * segmentHashLength;
    const wanted = hashes.subarray(from, from + hashesLength(target.byteLength));
    if (segments.byteLength !== sealedChunkLength(target.byteLength) || wanted.byteLength !== segmentCount(target.byteLength) * segmentHashLength) {
      throw new CryptoError('MALFORMED', `chunk: ${segments.byteLength} bytes are no segments of ${target.byteLength}`);
    }
    return { suite: this.#suite, key: this.#derive(place, salt), aad: noBytes, hashes: wanted, segments, first, target };
  }

  #derive(place: Uint8Array, salt: Uint8Array): Uint8Array {
    return this.#format.derive(place, salt).subarray(0, keyLength);
  }

  /** For a chunk whose tags or hashes are wrong. */
  notAuthentic(): CryptoError {
    return this.#format.notAuthentic();
  }
}
