/**
 * In which order keyslots are tried, and how many: the store shows them, and can add any number that look like ours and open with nothing. Each trial of a
 * passphrase takes about a second and much memory, so that both are bounded (doc/security.md, attack 18).
 */

import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { KdfCost } from '../crypto/argon2.js';
import { defaultKdfCost } from '../crypto/argon2.js';
import type { SlotHeader } from '../crypto/keyslot.js';

/** Together, in KiB times passes. About a minute at a second each. */
const workMax = 48 * defaultKdfCost.memoryKiB * defaultKdfCost.passes;
/** After this no other trial begins: slow machines, and busy ones. */
const timeMsMax = 60_000;

const workOf = ({ memoryKiB, passes }: KdfCost): number => memoryKiB * passes;

/** What trying keyslots may take. */
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
 * Those that this machine has used come first, the last one before the others: no store can know them better. Then those that cost what ours cost, in an order
 * that nobody can foresee, so that trying again is another chance; then the others, the cheap ones first.
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
