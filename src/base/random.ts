/** Randomness is injected: production gives the crypto layer's system source, tests give a seeded one. */
export interface Random {
  /** `count` fresh bytes, owned by the caller. */
  bytes(count: number): Uint8Array;
}
