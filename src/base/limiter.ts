import { assert } from './assert.js';

/** At most `max` tasks under way at once; the others wait in order. */
export class Limiter {
  readonly #max: number;
  #active = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    assert(max >= 1, 'a limiter lets at least one task run');
    this.#max = max;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    // A slot is handed over to the next waiter, never freed in between: nobody can slip in.
    if (this.#active >= this.#max) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#active++;
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#active--;
    }
  }
}
