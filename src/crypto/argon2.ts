/**
 * Argon2id on a thread of its own: it takes about a second and must not hold up the event loop. Bounds are checked
 * before any work.
 */
import { Worker } from 'node:worker_threads';
import { CryptoError } from './crypto-error.js';

export interface KdfCost {
  readonly memoryKiB: number;
  readonly passes: number;
  /** Always 1: libsodium has no more. */
  readonly lanes: number;
}

export const defaultKdfCost: KdfCost = { memoryKiB: 256 * 1024, passes: 3, lanes: 1 };
export const kdfFloor: KdfCost = { memoryKiB: 64 * 1024, passes: 2, lanes: 1 };
/**
 * What the format allows. Whoever serves the slot names the cost, before anything of it is authenticated: what one may
 * take on this machine is decided by who opens it, and is less (`src/access/keyslots.ts`).
 */
const kdfCeiling: KdfCost = { memoryKiB: 1024 * 1024, passes: 16, lanes: 1 };

/**
 * Throws {@link CryptoError} `KDF_OUT_OF_BOUNDS` for a cost that is unsafe or absurd: whoever serves a keyslot is not
 * trusted.
 */
export function checkKdfCost(cost: KdfCost): void {
  const within = (name: keyof KdfCost): boolean => cost[name] >= kdfFloor[name] && cost[name] <= kdfCeiling[name];
  if (!within('memoryKiB') || !within('passes') || !within('lanes')) {
    throw new CryptoError('KDF_OUT_OF_BOUNDS', `Argon2id with ${cost.memoryKiB} KiB, ${cost.passes} passes, ${cost.lanes} lanes is refused`);
  }
}

/** What the worker is given; it answers with 32 bytes. */
export interface Argon2Task {
  readonly password: Uint8Array;
  readonly salt: Uint8Array;
  readonly cost: KdfCost;
}

/**
 * 32 bytes of key. Its memory is free again when this resolves: the thread has ended by then, so that two derivations
 * after each other never take twice as much. Borrows `password`. Throws {@link CryptoError} `KDF_OUT_OF_BOUNDS` or
 * `KDF_FAILED`.
 */
export function deriveWithArgon2(password: Uint8Array, salt: Uint8Array, cost: KdfCost): Promise<Uint8Array> {
  checkKdfCost(cost);
  return new Promise((resolve, reject) => {
    const task: Argon2Task = { password, salt, cost };
    const worker = new Worker(new URL('./argon2-worker.js', import.meta.url), { workerData: task });
    let key: unknown;
    let cause: unknown;
    worker.once('message', (message: unknown) => {
      key = message;
    });
    worker.once('error', (error) => {
      cause = error;
    });
    worker.once('exit', (code) => {
      if (key instanceof Uint8Array) return resolve(key);
      cause ??= new Error(`the key derivation thread ended with ${code}`);
      return reject(new CryptoError('KDF_FAILED', `Argon2id with ${cost.memoryKiB} KiB failed; is there enough memory?`, { cause }));
    });
  });
}
