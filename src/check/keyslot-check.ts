/**
 * Checks the keyslots as far as that is possible without their secrets (doc/format.md, "Keyslot"): whether they can be
 * read, whether they belong to this volume, whether its owner has signed them, and whether the log lists the same ones.
 */
import { equalBytes } from '../base/bytes.js';
import type { KeyslotEntry } from '../commit/log-state.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import { isSlotSigned, readSlotHeader, type SlotHeader, slotLengthMax } from '../crypto/keyslot.js';
import { type ObjectStore, StoreError } from '../store/object-store.js';
import type { Findings } from './finding.js';

const prefix = 'keys/';
const keyPattern = /^keys\/([0-9a-f]{16})$/;

/**
 * Returns the slots that are right. `owner`: the public key of the volume's owner; `undefined` when there is no genesis
 * to say it. Throws StoreError.
 */
export async function checkKeyslots(
  store: ObjectStore,
  volumeId: Uint8Array,
  owner: Uint8Array | undefined,
  findings: Findings,
): Promise<readonly SlotHeader[]> {
  const right: SlotHeader[] = [];
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
      else if (isSlotSigned(slot)) right.push(header);
      else throw new CryptoError('NOT_AUTHENTIC', 'its owner has not signed it as it is');
    } catch (error) {
      const isDamage = error instanceof CryptoError || (error instanceof StoreError && error.code === 'PROTOCOL');
      if (!isDamage) throw error;
      findings.add('KEYSLOT_DAMAGED', `a keyslot cannot be read: ${error.message}`, { object: key });
    }
  }
  if (right.length === 0) findings.add('KEYSLOT_MISSING', 'no keyslot of this volume can be read: no further device can open it');
  return right;
}

/**
 * Compares the slots of the store with those that the log lists, which the owner has signed and which get a new root
 * secret. Each difference is looked at once more, since keys may be added and removed meanwhile. Throws StoreError.
 */
export async function checkKeyslotList(
  store: ObjectStore,
  slots: readonly SlotHeader[],
  listed: readonly KeyslotEntry[],
  findings: Findings,
): Promise<void> {
  const isThere = async (slotId: string): Promise<boolean> => (await store.head(prefix + slotId)) !== undefined;
  const inLog = new Map(listed.map((entry) => [entry.slotId, entry]));
  for (const { slotId, slotKey } of slots) {
    const entry = inLog.get(slotId);
    if ((entry && equalBytes(entry.keyHash, hashBytes(slotKey))) || !(await isThere(slotId))) continue;
    const what = entry ? 'the log lists another one under its id' : 'the log does not list it';
    const why = 'it was removed, and the store has brought it back, or adding it was broken off; "sealdrive key remove" takes it away';
    findings.add('KEYSLOT_UNLISTED', `keyslot ${slotId} opens the volume, and ${what}: ${why}`, { object: prefix + slotId });
  }
  const found = new Set(slots.map(({ slotId }) => slotId));
  for (const { slotId } of listed) {
    if (found.has(slotId) || (await isThere(slotId))) continue;
    const why = 'adding or removing it was broken off, or the store has lost it';
    const remedy = 'put it back from a copy of the store, or take it off the list with "sealdrive key remove"';
    findings.add('KEYSLOT_ABSENT', `the log lists keyslot ${slotId}, and the store lacks it: ${why}; ${remedy}`, { object: prefix + slotId });
  }
}
