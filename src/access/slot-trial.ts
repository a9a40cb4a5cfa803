/**
 * The order in which keyslots are tried, and how many of them. The store can add any number of slots that look like
 * ours and never open, and each trial of a passphrase takes about a second and much memory, so both are bounded
 * (doc/security.md, attack 18).
 */

import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { KdfCost } from '../crypto/argon2.js';
import { defaultKdfCost } from '../crypto/argon2.js';
import type { SlotHeader } from '../crypto/keyslot.js';

/** The work of all trials together, in KiB times passes: about a minute, at a second for each. */
const workMax = 48 * defaultKdfCost.memoryKiB * defaultKdfCost.passes;
/** No trial begins after this time, on slow and busy machines. */
const timeMsMax = 60_000;

const workOf = ({ memoryKiB, passes }: KdfCost): number => memoryKiB * passes;

/** The work that trying keyslots may take. */
export class TrialBudget {
  readonly #nowMs: () => number;
  readonly #startMs: number;
  #work = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  /** Whether one more may be tried; the first one always may. */
  take(cost: KdfCost): boolean {
    const work = workOf(cost);
    if (this.#work > 0 && (this.#work + work > workMax || this.#nowMs() - this.#startMs > timeMsMax)) return false;
    this.#work += work;
    return true;
  }
}

/**
 * The slots that this machine has used come first, the last one before the others: no store knows them better. Slots of
 * our usual cost follow, in an unpredictable order, so that trying again is another chance; then the others, cheap ones
 * first.
 */
export function trialOrder<T extends { readonly header: SlotHeader }>(slots: readonly T[], used: readonly string[], random: Random): T[] {
  const rankOf = ({ header }: T): number => {
    const at = used.indexOf(header.slotId);
    if (at >= 0) return at - used.length;
    const { memoryKiB, passes } = header.cost;
    return memoryKiB === defaultKdfCost.memoryKiB && passes === defaultKdfCost.passes ? 0 : 1 + workOf(header.cost);
  };
  return slots
    .map((slot) => ({ slot, rank: rankOf(slot), lot: toHex(random.bytes(8)) }))
    .toSorted((a, b) => a.rank - b.rank || (a.lot < b.lot ? -1 : 1))
    .map(({ slot }) => slot);
}
