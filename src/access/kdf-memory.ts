/**
 * How much memory a key derivation may take here: what the machine has free, or what the limits of its control groups leave (a container, a service). Taking
 * more would end with the kernel killing a process, and not always this one.
 */
import { dirname, join } from 'node:path';
import type { KdfCost } from '../crypto/argon2.js';
import { readFileSync } from '../disk/files.js';
import { Failure } from '../terminal/exit-code.js';
import { formatBytes } from '../terminal/terminal.js';

/** Left for the process itself and for others. */
const reserveBytes = 32 * 1024 * 1024;

export interface MemorySources {
  /** The text of a file; `undefined` where there is none. */
  readonly read: (path: string) => string | undefined;
  /** What Node.js knows of limits, in bytes; absurdly large where there is none. */
  readonly constrained: () => number;
  readonly resident: () => number;
}

export const systemMemory: MemorySources = {
  read(path) {
    try {
      return readFileSync(path, 'latin1');
    } catch {
      return undefined;
    }
  },
  constrained: () => process.constrainedMemory(),
  resident: () => process.memoryUsage.rss(),
};

/** Bytes that may be taken now without going beyond a limit; `Infinity` where that cannot be known. */
export function availableBytes(sources: MemorySources = systemMemory): number {
  const constrained = sources.constrained();
  const byLimit = constrained > 0 && constrained < 2 ** 50 ? constrained - sources.resident() : Infinity;
  return Math.max(0, Math.min(freeOfMachine(sources), byLimit, ...roomInGroups(sources)));
}

/** What the kernel can free is free, and swap is memory, too. */
function freeOfMachine({ read }: MemorySources): number {
  const text = read('/proc/meminfo') ?? '';
  const kib = (name: string): number | undefined => numberOf(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]);
  const available = kib('MemAvailable');
  return available === undefined ? Infinity : (available + (kib('SwapFree') ?? 0)) * 1024;
}

/** The room in each control group (version 2) from that of this process up: cgroup(7), "memory.max". */
function* roomInGroups({ read }: MemorySources): Generator<number, void> {
  const group = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1];
  if (group === undefined) return;
  for (let at = group; ; at = dirname(at)) {
    const valueOf = (name: string): string => read(join('/sys/fs/cgroup', at, name)) ?? '';
    const max = numberOf(valueOf('memory.max').trim());
    const current = numberOf(valueOf('memory.current').trim());
    if (max !== undefined && current !== undefined) {
      const cached = numberOf(/^inactive_file (\d+)$/m.exec(valueOf('memory.stat'))?.[1]) ?? 0;
      yield max - current + cached;
    }
    if (at === '/') return;
  }
}

const numberOf = (text: string | undefined): number | undefined => (text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined);

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
