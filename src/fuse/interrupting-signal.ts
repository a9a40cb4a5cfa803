/**
 * Decides whether the caller of an interrupted request wants to give up. The kernel reports every signal, also those
 * that programs get and handle all the time (timers, children, the scheduler of Go). A stat(2) on a local disk never
 * ends with EINTR because of such a signal, so ours must not either. Linux only: it reads proc_pid_status(5).
 */
import { constants } from 'node:os';
import { bitsOf, readProcessStatus } from './process-status.js';

const { SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM } = constants.signals;
/** The signals by which people and service managers end a program. Any other fatal signal becomes SIGKILL. */
const ending = [SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM].reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);

/**
 * `threadId` is that of the request's header: 0 where it is not known here (another PID namespace), which counts as
 * giving up.
 */
export function givesUp(threadId: number): boolean {
  const status = readProcessStatus(threadId);
  if (status === undefined) return true;
  const maskOf = (name: string): bigint => bitsOf(status, name) ?? 0xffffffffn;
  return ((maskOf('SigPnd') | maskOf('ShdPnd')) & ~maskOf('SigBlk') & ending) !== 0n;
}
