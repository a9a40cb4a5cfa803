/**
 * Whether the caller of a request that the kernel calls interrupted means to give up. The kernel tells of every signal, also of those that programs
 * get all the time and handle (timers, children, the scheduler of Go): a stat(2) on a local disk never ends with EINTR for such a one, so neither must
 * ours. Linux only: it reads proc_pid_status(5).
 */
import { constants } from 'node:os';
import { bitsOf, readProcessStatus } from './process-status.js';

const { SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM } = constants.signals;
/** What people and service managers end a program with. Any other signal that is fatal becomes SIGKILL. */
const ending = [SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM].reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);

/** `threadId` as in a request's header: 0 where it is not known here (another PID namespace), which counts as giving up. */
export function givesUp(threadId: number): boolean {
  const status = readProcessStatus(threadId);
  if (status === undefined) return true;
  const maskOf = (name: string): bigint => bitsOf(status, name) ?? 0xffffffffn;
  return ((maskOf('SigPnd') | maskOf('ShdPnd')) & ~maskOf('SigBlk') & ending) !== 0n;
}
