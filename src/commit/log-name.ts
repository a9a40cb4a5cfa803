/**
 * The names of commits in the store, and the places that their seals are bound to (doc/format.md, "Keys";
 * doc/format.md, "The seal").
 */
import { ByteWriter } from '../base/bytes.js';
import type { RootKeys } from '../crypto/volume-keys.js';
import type { ObjectKey } from '../store/object-store.js';
import type { Sequence } from './sequence.js';

export const logPrefix = 'log/';

export function sequenceName(sequence: number): string {
  return sequence.toString(16).padStart(16, '0');
}

export function logKey(root: RootKeys, sequence: number): ObjectKey {
  return `${logPrefix}${sequenceName(sequence)}-${root.logName(sequence)}`;
}

const keyPattern = /^log\/([0-9a-f]{16})-[0-9a-f]{12}$/;

/** The sequence that a listed name stands for; `undefined` for a name that no holder of the keys has given. */
export function sequenceOfKey(root: RootKeys, key: ObjectKey): Sequence | undefined {
  const hex = keyPattern.exec(key)?.[1];
  const sequence = hex === undefined ? Number.NaN : Number.parseInt(hex, 16);
  if (!Number.isSafeInteger(sequence) || logKey(root, sequence) !== key) return undefined;
  return sequence as Sequence;
}

export function commitPlace(sequence: number, previousHash: Uint8Array): Uint8Array {
  return new ByteWriter(40).u53(sequence).bytes(previousHash).finish();
}
