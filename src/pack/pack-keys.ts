/**
 * The keys that a volume's packs are sealed with (doc/format.md, "The seal"): one per kind of thing in a pack.
 * The crypto layer's `SealKey` is what production gives for each.
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import type { SealKey } from '../crypto/seal.js';

export interface PackKeys {
  readonly chunk: Pick<SealKey, 'seal' | 'open'>;
  readonly page: Pick<SealKey, 'seal' | 'open'>;
  /** Kind pack index, and kind pack footer: both under the epoch's `pack-index` subkey. */
  readonly index: Pick<SealKey, 'seal' | 'open'>;
  readonly footer: Pick<SealKey, 'seal' | 'open'>;
  /** BLAKE2b-256. */
  hash(bytes: Sealed): Uint8Array;
}
