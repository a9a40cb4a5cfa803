/** A pack's random name: 16 bytes as 32 lower-case hex digits; `packs/<first two>/<all>` in the store. */
import type { Brand } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { ObjectKey } from '../store/object-store.js';

export type PackId = Brand<string, 'PackId'>;

export function newPackId(random: Random): PackId {
  return toHex(random.bytes(16)) as PackId;
}

export function packKey(id: PackId): ObjectKey {
  return `packs/${id.slice(0, 2)}/${id}`;
}
