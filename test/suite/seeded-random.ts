/** Randomness that a test can repeat: xorshift over a seed. Not for keys. */
import type { Random } from '../../src/base/random.js';

export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = 0x9e3779b9 | 0;
    this.#c = 0x243f6a88 | 0;
    this.#d = ~seed | 1;
    for (let round = 0; round < 16; round++) this.u32();
  }

  /** 0 .. 2^32 - 1 (Marsaglia's xorshift, period 2^128 - 1). */
  u32(): number {
    const t = this.#a ^ (this.#a << 11);
    this.#a = this.#b;
    this.#b = this.#c;
    this.#c = this.#d;
    this.#d = this.#d ^ (this.#d >>> 19) ^ t ^ (t >>> 8);
    return this.#d >>> 0;
  }

  /** 0 .. bound - 1. */
  below(bound: number): number {
    return Math.floor((this.u32() / 0x100000000) * bound);
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let index = 0; index < count; index++) bytes[index] = this.u32() & 0xff;
    return bytes;
  }
}

/** The seed of this run: TEST_SEED, or else a new one. Tests include it in the message of every failure. */
export function testSeed(): number {
  const given = process.env['TEST_SEED'];
  return given === undefined ? Math.floor(Math.random() * 0x7fffffff) : Number(given);
}
