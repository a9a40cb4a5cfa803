/** A bound on concurrency: at most `max` tasks run at once, and the others wait in order. */
import { assert } from './assert.js';

export class Limiter {
  readonly #max: number;
  #active = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    assert(max >= 1, 'a limiter lets at least one task run');
    this.#max = max;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    // A slot is handed to the next waiter without being freed, so no newcomer can take it.
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
