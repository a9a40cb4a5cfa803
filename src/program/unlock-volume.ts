/**
 * Opens a keyslot for every command that needs a volume's keys: finds the slots, gets the secret, opens one, and checks
 * that it belongs to the volume that is known to be there.
 */

import type { SlotList, Unlocked } from '../access/keyslots.js';
import { unlock } from '../access/keyslots.js';
import { listKnownSlots } from '../access/known-volume.js';
import { noteUsedSlot, removedSlots, usedSlots } from '../access/slot-memory.js';
import { pinnedVolume, requirePinned } from '../access/store-pin.js';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { silentLogger } from '../base/logger.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { systemRandom } from '../crypto/system-random.js';
import type { ObjectStore } from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import { parseBytes } from '../terminal/option-kind.js';
import type { SecretOptions } from '../terminal/secret.js';
import { readSecret } from '../terminal/secret.js';
import { tell } from '../terminal/terminal.js';
import { hardenProcess } from './compose.js';

/** People mistype; programs do not. */
const promptAttempts = 3;

/**
 * Opens a slot (of `list`, or of the store) with the secret that is known, or that the options name, or asks for it.
 * Throws Failure `LOCKED`, `INTEGRITY` when another volume was there, and others.
 */
export async function unlockVolume(
  store: ObjectStore,
  options: SecretOptions & { readonly store: string },
  known?: SlotSecret,
  list?: SlotList,
): Promise<{ readonly unlocked: Unlocked; readonly slots: SlotList; readonly secret: SlotSecret }> {
  hardenProcess(silentLogger);
  const memoryKiBMax = memoryOf(options.keyslotMemory);
  const slots = list ?? (await listKnownSlots(store, options.store));
  const ours = ofKnownVolume(slots, await pinnedVolume(options.store));
  const volumeIds = [...new Set(ours.slots.map(({ header }) => toHex(header.volumeId)))];
  const trial = {
    random: systemRandom,
    removed: new Set((await Promise.all(volumeIds.map(removedSlots))).flat()),
    used: (await Promise.all(volumeIds.map(usedSlots))).flat(),
    chosen: options.keyslot,
    memoryKiBMax,
  };
  const isAsked = known === undefined && options.passphraseFd === undefined && options.keyFile === undefined && !process.env['CREDENTIALS_DIRECTORY'];
  for (let attempt = 1; ; attempt++) {
    const secret = known ?? (await readSecret(options));
    try {
      const unlocked = await unlock(ours, secret, trial);
      await requirePinned(options.store, toHex(unlocked.volumeId));
      await rememberUse(unlocked);
      return { unlocked, slots, secret };
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'LOCKED' || !isAsked || attempt >= promptAttempts) throw error;
      tell(`${error.message.split(':')[0]}, try again`);
    }
  }
}

/** Slots of another volume are not tried if it is known which volume is there. */
function ofKnownVolume(list: SlotList, known: string | undefined): SlotList {
  return known === undefined ? list : { ...list, slots: list.slots.filter(({ header }) => toHex(header.volumeId) === known) };
}

/** This is only a convenience: a disk that takes no writes must not lock anybody out. */
async function rememberUse({ volumeId, slotId }: Unlocked): Promise<void> {
  try {
    await noteUsedSlot(toHex(volumeId), slotId);
  } catch (error) {
    tell(`warning: which keyslot opened the volume is not remembered: ${describeError(error)}`);
  }
}

function memoryOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes === 0) throw new Failure('USAGE', '--keyslot-memory takes a size, for instance 1G');
  return Math.floor(bytes / 1024);
}
