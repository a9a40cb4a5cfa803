/**
 * The claims that are put before anything else of a new volume, so that of several `init` on one store one wins
 * (doc/format.md, "Making a volume"). A claim keeps nobody from opening a volume: only `init` reads it.
 *
 * | offset | size | field |
 * | --- | --- | --- |
 * | 0 | 8 | magic `SDCLAIM1` |
 * | 8 | 16 | claim id, random |
 * | 24 | 8 | created, seconds since 1970, u53 |
 */
import { ByteReader, ByteWriter, equalBytes, MalformedBytesError } from '../base/bytes.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';

const prefix = 'volume/';
const keyPattern = /^volume\/([0-9a-f]{4})$/;
const magic = Buffer.from('SDCLAIM1', 'latin1');
export const claimIdLength = 16;
export const claimLength = magic.byteLength + claimIdLength + 8;
export const claimNumberMax = 0xffff;

/** `number`: 1 for the first one, and one more for each that takes over. */
export const claimKey = (number: number): ObjectKey => `${prefix}${number.toString(16).padStart(4, '0')}`;

/** `claimId`: {@link claimIdLength} bytes, borrowed. */
export function encodeClaim(claimId: Uint8Array, createdSec: number): Uint8Array {
  return new ByteWriter(claimLength).bytes(magic).bytes(claimId).u53(createdSec).finish();
}

/** When it was made, in seconds since 1970 by the clock of its maker; `undefined` for what is no claim. */
export function readClaimTime(bytes: Uint8Array): number | undefined {
  try {
    const reader = new ByteReader(bytes);
    if (!equalBytes(reader.bytes(magic.byteLength), magic)) return undefined;
    reader.bytes(claimIdLength);
    const createdSec = reader.u53();
    reader.end();
    return createdSec;
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

/** The numbers of the claims that the store lists, ascending. Throws StoreError. */
export async function listClaims(store: Pick<ObjectStore, 'list'>): Promise<number[]> {
  const numbers: number[] = [];
  for await (const { key } of store.list(prefix)) {
    const digits = keyPattern.exec(key)?.[1];
    if (digits !== undefined) numbers.push(Number.parseInt(digits, 16));
    // There are no more names than this.
    if (numbers.length > claimNumberMax) break;
  }
  return numbers.toSorted((a, b) => a - b);
}
