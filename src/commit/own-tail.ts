/**
 * This device's *own tail*: its commits behind the newest one of anybody else (doc/concurrency.md, "Lost commits").
 * Nobody has built on them, so a store that lost one of them takes nothing back that another device relies on.
 */
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { ChainState } from './chain.js';
import type { LocalLog } from './local-log.js';
import type { StoredLog } from './stored-log.js';

/** What the store makes of the tail. */
export interface TailFinding {
  /** How many commits were missing and are in the store again. */
  readonly putAgain: number;
  /** The state before the first number that holds something else; `undefined` when there is none. */
  readonly beforeLost: ChainState | undefined;
}

/**
 * Compares the store's objects with the copies of the tail, from `start` to `newest`, and puts missing ones again,
 * byte for byte. `extend` is the chain's step over a copy. `undefined` when a copy is not here, or the store does not
 * keep what it says it has. Throws CommitError, StoreError, disk errors.
 */
export async function examineTail(
  { stored, copies }: { readonly stored: StoredLog; readonly copies: LocalLog },
  start: ChainState,
  newest: number,
  extend: (state: ChainState, sealed: Uint8Array) => ChainState,
  signal: AbortSignal | undefined,
): Promise<TailFinding | undefined> {
  let [state, putAgain] = [start, 0];
  while (state.head.sequence < newest) {
    const sequence = state.head.sequence + 1;
    const copy = await copies.read(sequence);
    if (!copy) return undefined;
    let found = await stored.fetch(sequence, signal);
    if (!found) {
      if (await stored.put(sequence, copy as Sealed, signal)) putAgain++;
      found = await stored.fetch(sequence, signal);
      // It would lose the next one in the same way, for ever.
      if (!found) return undefined;
    }
    if (!equalBytes(found, copy)) return { putAgain, beforeLost: state };
    state = extend(state, copy);
  }
  return { putAgain, beforeLost: undefined };
}
