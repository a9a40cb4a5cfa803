/** Reads proc_pid_status(5) of the thread that made a request. Linux only. */
import { readFileSync } from 'node:fs';

/**
 * The whole text. `threadId` is that of the request's header: 0 where it is not known here (another PID namespace).
 * Undefined if there is no such thread any more, or we may not see it.
 */
export function readProcessStatus(threadId: number): string | undefined {
  if (threadId === 0) return undefined;
  try {
    return readFileSync(`/proc/${threadId}/status`, 'latin1');
  } catch {
    return undefined;
  }
}

/** A field of hexadecimal digits, such as `SigBlk` or `CapEff`; undefined where there is none. */
export function bitsOf(status: string, field: string): bigint | undefined {
  const digits = new RegExp(`^${field}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
  return digits === undefined ? undefined : BigInt(`0x${digits}`);
}
