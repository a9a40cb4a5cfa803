/**
 * Identifies a process beyond its number: numbers are reused after a process has ended, and mean other processes in
 * another container and after a restart (proc(5), pid_namespaces(7)). It does not find out what the process does.
 */
import { readFileSync, readlinkSync } from '../disk/files.js';

/** Fields are empty where the system does not provide them. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it was started, in clock ticks since the system started: field 22 of /proc/PID/stat. */
  readonly startTicks: string;
  /** As the link /proc/self/ns/pid spells it. */
  readonly pidNamespace: string;
  /** The identifier of this run of the system. */
  readonly bootId: string;
}

/**
 * - `gone`: it has ended
 * - `elsewhere`: it belongs to another container or machine, or to a time before a restart, and cannot be seen from
 *   here
 * - `stopped`: by a signal
 * - `waiting`: uninterruptibly, for a disk or a network file system
 * - `running`: anything else
 */
export type ProcessState = 'running' | 'stopped' | 'waiting' | 'gone' | 'elsewhere';

function textOrNothing(read: () => string): string {
  try {
    return read().trim();
  } catch {
    return '';
  }
}

/**
 * The fields of /proc/PID/stat after the name of the program, which may contain anything; empty when there is no such
 * process.
 */
function statFields(pid: number): readonly string[] {
  const text = textOrNothing(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  return text === '' ? [] : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

const stateField = 0;
const startField = 19;

const bootId = (): string => textOrNothing(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'));
const pidNamespace = (): string => textOrNothing(() => readlinkSync('/proc/self/ns/pid'));

/** The identity of this process. */
export function identifyThisProcess(): ProcessIdentity {
  return { pid: process.pid, startTicks: statFields(process.pid)[startField] ?? '', pidNamespace: pidNamespace(), bootId: bootId() };
}

/** Whether it runs on this machine, since its last start; containers of one machine share that. */
export const isOfThisBoot = (identity: ProcessIdentity): boolean => identity.bootId === bootId();

export function stateOfProcess(identity: ProcessIdentity): ProcessState {
  if (!isOfThisBoot(identity) || identity.pidNamespace !== pidNamespace()) return 'elsewhere';
  const fields = statFields(identity.pid);
  const letter = fields[stateField] ?? '';
  if (letter === '' || letter === 'Z' || letter === 'X' || fields[startField] !== identity.startTicks) return 'gone';
  if (letter === 'T' || letter === 't') return 'stopped';
  return letter === 'D' ? 'waiting' : 'running';
}
