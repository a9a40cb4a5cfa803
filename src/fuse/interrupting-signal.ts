/**
 * Whether the caller of a request that the kernel calls interrupted means to give up. The kernel tells of every signal, also of those that programs
 * get all the time and handle (timers, children, the scheduler of Go): a stat(2) on a local disk never ends with EINTR for such a one, so neither must
 * ours. Linux only: it reads proc_pid_status(5).
 */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

const { SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM } = constants.signals;
/** What people and service managers end a program with. Any other signal that is fatal becomes SIGKILL. */
const ending = [SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM].reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);

/** `threadId` as in a request's header: 0 where it is not known here (another PID namespace), which counts as giving up. */
export function givesUp(threadId: number): boolean {
  if (threadId === 0) return true;
  let status: string;
  try {
    status = readFileSync(`/proc/${threadId}/status`, 'latin1');
  } catch {
    // Gone, or not for our eyes.
    return true;
  }
  const maskOf = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? 'ffffffff'}`);
  return ((maskOf('SigPnd') | maskOf('ShdPnd')) & ~maskOf('SigBlk') & ending) !== 0n;
}
