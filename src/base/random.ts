/**
 * Randomness, as an injected dependency: the system's source is in `crypto/system-random.ts`, and tests use a seeded
 * one.
 */
export interface Random {
  /** `count` fresh bytes, owned by the caller. */
  bytes(count: number): Uint8Array;
}
