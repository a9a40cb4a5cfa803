/** A bounded number of places, in all and for each of those who share them: what is beyond is refused, never queued. */
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

  /** `taken`: {@link give} it back. `all-full`, `own-full`: there is none in all, or none for `name`. */
  take(name: string): 'taken' | 'all-full' | 'own-full' {
    if (this.#count >= this.#max) return 'all-full';
    const own = this.#taken.get(name) ?? 0;
    if (own >= this.#eachMax) return 'own-full';
    this.#taken.set(name, own + 1);
    this.#count++;
    return 'taken';
  }

  give(name: string): void {
    const own = this.#taken.get(name) ?? 0;
    if (own <= 1) this.#taken.delete(name);
    else this.#taken.set(name, own - 1);
    this.#count--;
  }
}
