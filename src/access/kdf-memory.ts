/**
 * Whether this machine has the memory for a key derivation now. That memory is given back before a mount begins, so it
 * is not part of the daemon's budget (doc/security.md, "Keyslots").
 */
import type { KdfCost } from '../crypto/argon2.js';
import { Failure } from '../terminal/exit-code.js';
import { formatBytes } from '../terminal/terminal.js';
import { availableBytes, type MemorySources } from './machine-memory.js';

/** Bytes left for the process itself and for others. */
const reserveBytes = 32 * 1024 * 1024;

export const fitsInMemory = (cost: KdfCost, sources?: MemorySources): boolean => cost.memoryKiB * 1024 + reserveBytes <= availableBytes(sources);

/** Why a keyslot of this cost can be neither made nor opened now, and what to do. */
export function memoryFailure(cost: KdfCost): Failure {
  return new Failure(
    'MACHINE',
    `a keyslot for a passphrase or recovery words takes ${formatBytes(cost.memoryKiB * 1024)} of memory for a moment, and this machine (or its container or service) ` +
      `has ${formatBytes(availableBytes())} left: free some, or allow more; a key file needs none`,
  );
}

/** Throws Failure `MACHINE`. */
export function requireMemory(cost: KdfCost): void {
  if (!fitsInMemory(cost)) throw memoryFailure(cost);
}
