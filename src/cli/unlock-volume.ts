/** What every command does that needs a volume's keys: find the slots, get the secret, open one. */
import { silentLog } from '../base/log.js';
import { systemRandom } from '../crypto/system-random.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import type { ObjectStore } from '../store/object-store.js';
import { hardenProcess } from './compose.js';
import { Failure } from './exit-code.js';
import { listSlots, unlock } from './keyslots.js';
import type { SlotList, Unlocked } from './keyslots.js';
import { readSecret } from './secret.js';
import type { SecretOptions } from './secret.js';
import { removedSlots } from './store-pin.js';
import { tell } from './terminal.js';

/** People mistype; programs do not. */
const promptAttempts = 3;

/** Opens a slot (of `list`, or of the store) with the secret that is known, or that the options name, or asks for it. Throws Failure `LOCKED` and others. */
export async function unlockVolume(
  store: ObjectStore,
  options: SecretOptions & { readonly store: string },
  known?: SlotSecret,
  list?: SlotList,
): Promise<{ readonly unlocked: Unlocked; readonly slots: SlotList; readonly secret: SlotSecret }> {
  hardenProcess(silentLog);
  const slots = list ?? (await listSlots(store));
  const isAsked = known === undefined && options.passphraseFd === undefined && options.keyFile === undefined && !process.env['CREDENTIALS_DIRECTORY'];
  for (let attempt = 1; ; attempt++) {
    const secret = known ?? (await readSecret(options));
    try {
      return { unlocked: await unlock(slots, secret, systemRandom, removedSlots(options.store)), slots, secret };
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'LOCKED' || !isAsked || attempt >= promptAttempts) throw error;
      tell(`${error.message.split(':')[0]}, try again`);
    }
  }
}
