/**
 * The seal of a chunk as bytes: where its segments lie, and their nonces (doc/format.md, "The seal of a chunk"). As
 * seal-format.ts, it calls no cipher and nothing of Node.js. The native addon has the same figures.
 */
import { tagLength } from './seal-format.js';

/** Plain bytes of a segment; the last one of a chunk may have fewer. */
export const segmentLength: number = 8 * 1024;
export const sealedSegmentLength: number = segmentLength + tagLength;
export const segmentHashLength = 32;
export const chunkSaltLength = 16;

export const segmentCount = (storedLength: number): number => Math.ceil(storedLength / segmentLength);

/** The length of the hashes of all segments, side by side. */
export const hashesLength = (storedLength: number): number => segmentCount(storedLength) * segmentHashLength;

/** The length of a chunk with so many stored bytes, sealed. */
export const sealedChunkLength = (storedLength: number): number => storedLength + segmentCount(storedLength) * tagLength;

/** The segments that hold some stored bytes. */
export interface SegmentSpan {
  readonly first: number;
  /** Where they lie in the sealed chunk. */
  readonly start: number;
  readonly end: number;
  /** How many stored bytes they hold. */
  readonly length: number;
}

/** The segments that hold the stored bytes `from` to `to`. */
export function segmentsOf(storedLength: number, from: number, to: number): SegmentSpan {
  const first = Math.floor(from / segmentLength);
  const storedEnd = Math.min(storedLength, Math.ceil(to / segmentLength) * segmentLength);
  return { first, start: first * sealedSegmentLength, end: sealedChunkLength(storedEnd), length: storedEnd - first * segmentLength };
}

/** The nonce of segment `number`. */
export function segmentNonce(number: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(0, number, true);
  return nonce;
}
