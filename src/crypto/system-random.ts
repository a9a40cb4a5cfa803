/**
 * The operating system's randomness, drawn in larger pieces: a call for every salt would cost more than sealing a small
 * object.
 */
import { randomFillSync } from 'node:crypto';
import type { Random } from '../base/random.js';

const poolLength = 8192;
const pool = Buffer.alloc(poolLength);
let used = poolLength;

export const systemRandom: Random = {
  bytes(count) {
    if (count > poolLength / 8) return randomFillSync(new Uint8Array(count));
    if (used + count > poolLength) {
      randomFillSync(pool);
      used = 0;
    }
    const taken = new Uint8Array(pool.subarray(used, used + count));
    // What was handed out may be a key: it does not stay behind.
    pool.fill(0, used, used + count);
    used += count;
    return taken;
  },
};
