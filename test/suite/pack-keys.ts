/** Keys for tests of packs: real seals under fixed subkeys. */
import { ChunkKey } from '../../src/crypto/chunk-key.js';
import type { SealKind } from '../../src/crypto/seal-format.js';
import { SealKey } from '../../src/crypto/seal-key.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import type { PackKeys } from '../../src/pack/item.js';

const options = (kind: SealKind) => ({ subkey: Buffer.alloc(32, kind), suite: 1, volumeId: Buffer.alloc(32, 7), epoch: 1 }) as const;
const key = (kind: SealKind): SealKey => new SealKey({ kind, ...options(kind), random: systemRandom });

export const packKeys: PackKeys = {
  epoch: 1,
  chunk: new ChunkKey(options('chunk')),
  page: key('page'),
  packIndex: key('pack-index'),
  packFooter: key('pack-footer'),
};
