/**
 * The stream of segments by Node.js, at once and on this thread, for machines without the native addon
 * (doc/format.md, "The seal of a chunk").
 */
import { equalBytes } from '../base/bytes.js';
import { hashBytes } from './hash.js';
import { decrypt, encryptInto } from './node-aead.js';
import type { SealCall } from './seal-format.js';
import { sealedSegmentLength, segmentHashLength, segmentLength, segmentNonce } from './stream-format.js';

/** A chunk to seal: its segments go to `at` of the target, and their hashes to `hashes`. */
export interface StreamSealing extends SealCall {
  readonly at: number;
  /** The stored bytes, side by side. At least one. */
  readonly parts: readonly Uint8Array[];
  /** 32 bytes for each segment. */
  readonly hashes: Uint8Array;
}

/** Consecutive segments to open. */
export interface StreamOpening extends SealCall {
  /** Of these segments, which the caller has from the signed log. */
  readonly hashes: Uint8Array;
  /** As they are sealed. */
  readonly segments: Uint8Array;
  /** The number of the first one. */
  readonly first: number;
  /** As long as their plain bytes. */
  readonly target: Uint8Array;
}

/** Returns the end. */
export function sealStream({ suite, key, aad, at, parts, hashes }: StreamSealing, target: Uint8Array): number {
  const stored = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  let end = at;
  for (let number = 0; number * segmentLength < stored.byteLength; number++) {
    const segment = stored.subarray(number * segmentLength, (number + 1) * segmentLength);
    end = encryptInto(suite, key, segmentNonce(number), aad, [segment], target, end);
    hashes.set(hashBytes(segment), number * segmentHashLength);
  }
  return end;
}

/** Whether all of it is authentic, by its tags and by its hashes. If not, the target is wiped. */
export function openStream(opening: StreamOpening): boolean {
  const isOpen = equalBytes(unsealStream(opening) ?? noBytes, opening.hashes);
  if (!isOpen) opening.target.fill(0);
  return isOpen;
}

const noBytes = new Uint8Array(0);

/**
 * Opens segments by their tags alone and returns the hashes that they have, for whoever compares them otherwise;
 * `undefined` when a tag is wrong.
 */
export function unsealStream({ suite, key, aad, segments, first, target }: Omit<StreamOpening, 'hashes'>): Uint8Array | undefined {
  const hashes: Uint8Array[] = [];
  for (let from = 0; from < segments.byteLength; from += sealedSegmentLength) {
    const sealed = segments.subarray(from, from + sealedSegmentLength);
    const plain = decrypt(suite, key, segmentNonce(first + hashes.length), aad, sealed);
    if (!plain) return undefined;
    target.set(plain, hashes.length * segmentLength);
    hashes.push(hashBytes(plain));
  }
  return Buffer.concat(hashes);
}
