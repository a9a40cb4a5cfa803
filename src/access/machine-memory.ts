/**
 * How much memory there is: the machine's, what is free of it, and what the control groups of a container or service
 * leave. If more were taken, the kernel would kill a process, and not always this one. What a key derivation takes is
 * in kdf-memory.ts, and how a mount shares out its memory in base/memory-budget.ts (doc/architecture.md, "Memory").
 */
import { dirname, join } from 'node:path';
import { memoryMin, memoryUsualMax } from '../base/memory-budget.js';
import { readFileSync } from '../disk/files.js';

export interface MemorySources {
  /** The text of a file; `undefined` where there is none. */
  readonly read: (path: string) => string | undefined;
  /** The limit that Node.js knows, in bytes; absurdly large where there is none. */
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

/** Bytes that can be taken now without exceeding a limit; `Infinity` where that cannot be known. */
export function availableBytes(sources: MemorySources = systemMemory): number {
  return Math.max(0, Math.min(freeOfMachine(sources), limitOf(sources) - sources.resident(), ...[...memoryGroups(sources)].map(({ room }) => room)));
}

/** The share of the machine's memory that a mount takes by default. */
const usualShare = 1 / 4;

/**
 * The memory that a mount takes without `--memory`, in bytes: a share of the machine's, or of what its control groups
 * allow.
 */
export function usualMemory(sources: MemorySources = systemMemory): number {
  const machine = Math.min(meminfo(sources, 'MemTotal') ?? Infinity, limitOf(sources), ...[...memoryGroups(sources)].map(({ max }) => max));
  return Math.max(memoryMin, Math.floor(Math.min(memoryUsualMax, machine * usualShare)));
}

/** The limit that Node.js knows of, in bytes. */
function limitOf({ constrained }: MemorySources): number {
  const limit = constrained();
  return limit > 0 && limit < 2 ** 50 ? limit : Infinity;
}

/** Memory that the kernel can reclaim counts as free, and swap counts as memory. */
function freeOfMachine(sources: MemorySources): number {
  const available = meminfo(sources, 'MemAvailable');
  return available === undefined ? Infinity : available + (meminfo(sources, 'SwapFree') ?? 0);
}

/** A line of /proc/meminfo (proc_meminfo(5)), in bytes. */
function meminfo({ read }: MemorySources, name: string): number | undefined {
  const kib = numberOf(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(read('/proc/meminfo') ?? '')?.[1]);
  return kib === undefined ? undefined : kib * 1024;
}

interface MemoryGroup {
  readonly max: number;
  /** Bytes that may still be taken. */
  readonly room: number;
}

/** The control groups (version 2) with a limit, from that of this process up: cgroup(7), "memory.max". */
function* memoryGroups({ read }: MemorySources): Generator<MemoryGroup, void> {
  const group = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1];
  if (group === undefined) return;
  for (let at = group; ; at = dirname(at)) {
    const valueOf = (name: string): string => read(join('/sys/fs/cgroup', at, name)) ?? '';
    const max = numberOf(valueOf('memory.max').trim());
    const current = numberOf(valueOf('memory.current').trim());
    if (max !== undefined && current !== undefined) {
      const cached = numberOf(/^inactive_file (\d+)$/m.exec(valueOf('memory.stat'))?.[1]) ?? 0;
      yield { max, room: max - current + cached };
    }
    if (at === '/') return;
  }
}

const numberOf = (text: string | undefined): number | undefined => (text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined);
