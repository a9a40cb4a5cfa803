/** Sealed objects whose bytes must never change (doc/format.md, "The seal"), for every implementation of the seal. */
import type { Plaintext } from '../../src/base/brand.js';
import type { Random } from '../../src/base/random.js';
import type { SealFormatOptions, SealKind } from '../../src/crypto/seal-format.js';

export const sealKinds: readonly SealKind[] = [
  'keyslot',
  'genesis',
  'commit',
  'chunk',
  'page',
  'pack-index',
  'pack-footer',
  'trust',
  'device',
  'journal',
  'wrapped-root',
];
export const asPlaintext = (text: string): Plaintext => Buffer.from(text, 'utf8') as Uint8Array as Plaintext;
export const goldenPlace = asPlaintext('place');
export const goldenPayload = asPlaintext('some content');
/** Gives all salts. */
export const goldenRandom: Random = { bytes: (count) => Buffer.alloc(count, 9) };
export const goldenBase: SealFormatOptions = {
  kind: 'commit',
  subkey: Buffer.alloc(32, 1),
  suite: 1,
  volumeId: Buffer.alloc(32, 2),
  epoch: 1,
};

/** The sealed payload for the place, with these options in place of those of the base. */
export const goldenSeals: readonly (readonly [more: Partial<SealFormatOptions>, hex: string])[] = [
  [
    {},
    '5345414c01010300090909090909090909090909090909090909090909090909986799af4ac83e100c1edccf3a5461511a1403982d3bba3bb0388438730290e4cde6c92421ac41fe0d1f7c220c491b6ade8a9d3d3e53e29d68ea0a6c',
  ],
  [
    { suite: 2 },
    '5345414c01020300090909090909090909090909090909090909090909090909c4babe82f46d7ede46f100fa523ea30c1170371ae4c7ac00ea644bcd86c448640514edc0cf20b282bf1108b256c85f8d3ef1def87a972366f98a4d34',
  ],
  [
    { kind: 'chunk' },
    '090909090909090909090909090909090909090909090909b8e1e087d39534eae832e355441de98773d52543bdf5aa862722640be7eb7b9817fcdb6f1c8799393b8f601e427d0d3c0026cfe86bfe487808830dab',
  ],
  [
    { kind: 'page', suite: 2, epoch: 7 },
    '090909090909090909090909090909090909090909090909087b2c7fead31df12fe6652fcf8df53a28701ea932083531f6e0c99b3090c37272f5c541f2201e1f63ea0f237b5519a5b6695ef8221c10c5e179bfc9',
  ],
];
