/**
 * Checks the keyslots as far as that is possible without their secrets (doc/format.md, "Keyslot"): whether they can be
 * read, and whether they belong to this volume.
 */
import { equalBytes } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { readSlotHeader, slotLengthMax } from '../crypto/keyslot.js';
import { type ObjectStore, StoreError } from '../store/object-store.js';
import type { Findings } from './finding.js';

const prefix = 'keys/';
const keyPattern = /^keys\/([0-9a-f]{16})$/;

/** Returns how many slots are right. Throws StoreError. */
export async function checkKeyslots(store: ObjectStore, volumeId: Uint8Array, findings: Findings): Promise<number> {
  let count = 0;
  for await (const { key } of store.list(prefix)) {
    const slotId = keyPattern.exec(key)?.[1];
    if (slotId === undefined) {
      findings.add('OBJECT_FOREIGN', 'an object among the keyslots that is not a keyslot', { object: key });
      continue;
    }
    try {
      const slot = await store.get(key, { sizeMax: slotLengthMax });
      if (!slot) continue;
      const header = readSlotHeader(slot);
      if (header.slotId !== slotId) throw new CryptoError('MALFORMED', 'it has the name of another keyslot');
      if (equalBytes(header.volumeId, volumeId)) count++;
      else findings.add('KEYSLOT_FOREIGN', 'a keyslot of another volume', { object: key });
    } catch (error) {
      const isDamage = error instanceof CryptoError || (error instanceof StoreError && error.code === 'PROTOCOL');
      if (!isDamage) throw error;
      findings.add('KEYSLOT_DAMAGED', `a keyslot cannot be read: ${error.message}`, { object: key });
    }
  }
  if (count === 0) findings.add('KEYSLOT_MISSING', 'no keyslot of this volume can be read: no further device can open it');
  return count;
}
