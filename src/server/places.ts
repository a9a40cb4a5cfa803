/** A bounded number of places, in all and for each party: a request beyond the bound is refused, never queued. */
import { Refusal } from './refusal.js';

export class Places {
  readonly #max: number;
  readonly #eachMax: number;
  readonly #taken = new Map<string, number>();
  #count = 0;

  constructor(max: number, eachMax: number) {
    this.#max = max;
    this.#eachMax = eachMax;
  }

  get count(): number {
    return this.#count;
  }

  /** After `taken`, {@link give} the amount back. `all-full`, `own-full`: too little is left in all, or for `name`. */
  take(name: string, amount = 1): 'taken' | 'all-full' | 'own-full' {
    if (this.#count + amount > this.#max) return 'all-full';
    const own = this.#taken.get(name) ?? 0;
    if (own + amount > this.#eachMax) return 'own-full';
    this.#taken.set(name, own + amount);
    this.#count += amount;
    return 'taken';
  }

  give(name: string, amount = 1): void {
    const own = (this.#taken.get(name) ?? 0) - amount;
    if (own <= 0) this.#taken.delete(name);
    else this.#taken.set(name, own);
    this.#count -= amount;
  }
}

/** Takes from `places`. Throws {@link Refusal} when too little is left. */
export function takePlace(places: Places, name: string, amount = 1): void {
  const outcome = places.take(name, amount);
  if (outcome === 'own-full') throw new Refusal('TOKEN_BUSY', 'too many requests of one token', { retryAfterSec: 1 });
  if (outcome === 'all-full') throw new Refusal('BUSY', 'too many requests', { retryAfterSec: 1 });
}
