/**
 * Checks the keyslots as far as that is possible without their secrets (doc/format.md, "Keyslot"): whether they can be
 * read, whether they belong to this volume, and whether its owner has signed them.
 */
import { equalBytes } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { isSlotSigned, readSlotHeader, slotLengthMax } from '../crypto/keyslot.js';
import { type ObjectStore, StoreError } from '../store/object-store.js';
import type { Findings } from './finding.js';

const prefix = 'keys/';
const keyPattern = /^keys\/([0-9a-f]{16})$/;

/**
 * Returns how many slots are right. `owner`: the public key of the volume's owner; `undefined` when there is no genesis
 * to say it. Throws StoreError.
 */
export async function checkKeyslots(store: ObjectStore, volumeId: Uint8Array, owner: Uint8Array | undefined, findings: Findings): Promise<number> {
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
      if (!equalBytes(header.volumeId, volumeId)) findings.add('KEYSLOT_FOREIGN', 'a keyslot of another volume', { object: key });
      else if (owner && !equalBytes(header.owner, owner)) findings.add('KEYSLOT_FOREIGN', 'a keyslot of another owner', { object: key });
      else if (isSlotSigned(slot)) count++;
      else throw new CryptoError('NOT_AUTHENTIC', 'its owner has not signed it as it is');
    } catch (error) {
      const isDamage = error instanceof CryptoError || (error instanceof StoreError && error.code === 'PROTOCOL');
      if (!isDamage) throw error;
      findings.add('KEYSLOT_DAMAGED', `a keyslot cannot be read: ${error.message}`, { object: key });
    }
  }
  if (count === 0) findings.add('KEYSLOT_MISSING', 'no keyslot of this volume can be read: no further device can open it');
  return count;
}
