/** Repeatable choices from a printed seed, for the random tests. Not for anything secret. */

export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 uniform bits. */
  #next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** A whole number from 0 up to and not including `end`. */
  below(end: number): number {
    return Math.floor((this.#next() / 2 ** 32) * end);
  }

  chance(probability: number): boolean {
    return this.#next() / 2 ** 32 < probability;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)];
    if (choice === undefined) throw new RangeError('nothing to pick from');
    return choice;
  }

  /** Picks a key with a probability in proportion to its weight. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let at = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [key, weight] of entries) {
      if (at < weight) return key;
      at -= weight;
    }
    throw new RangeError('no weights');
  }

  /** A size like those of files: mostly small, sometimes up to `end`. */
  skewed(end: number): number {
    return this.below(Math.max(1, Math.floor(end / 4 ** this.below(6))));
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    let i = 0;
    for (; i + 4 <= count; i += 4) bytes.writeUInt32LE(this.#next(), i);
    for (; i < count; i++) bytes[i] = this.#next() & 255;
    return bytes;
  }
}

/** The seed of a test run: TEST_SEED when given, else a new one. */
export function testSeed(): number {
  const given = process.env['TEST_SEED'];
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}
