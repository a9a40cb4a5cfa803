/**
 * The ways in which a command ends, each with a number and a word that are stable across versions; the only table of
 * them (doc/cli.md, "Exit codes"). Scripts may rely on the numbers; `--json` shows the words.
 */
import { CodedError } from '../base/errors.js';

export const exitCodes = {
  /** A defect of Sealdrive. */
  UNEXPECTED: 1,
  /** The command line makes no sense. */
  USAGE: 2,
  /** No keyslot opens with what was given. */
  LOCKED: 3,
  /** There is no volume where the store should be, or there is something else. */
  NOT_A_VOLUME: 4,
  /** The store cannot be reached, or refuses; nothing is wrong with the volume as far as one can tell. */
  STORE: 5,
  /** The mount point is missing, busy, not empty, or not ours. */
  MOUNT_POINT: 6,
  /** Another process has this volume mounted with the same state, or the mount point already. */
  IN_USE: 7,
  /** A check failed: what the store gave is not what was written. */
  INTEGRITY: 8,
  /** Work could not be brought to the store in time. It is safe in the journal of this machine. */
  PENDING: 9,
  /** This machine lacks something; `sealdrive doctor` says what. */
  MACHINE: 10,
  /** The volume was written by a newer Sealdrive. */
  NEWER_FORMAT: 11,
  /** A local disk is full, or the state directory cannot be written. */
  LOCAL_DISK: 12,
  /** `check` found flaws that lose nothing and that `repair` mends. */
  FLAWED: 13,
  /** `check` found that the volume cannot be mounted as it is. */
  UNREADABLE: 14,
  /**
   * `status` of a drive that was mounted with `--max-staleness`: the store may be withholding what other devices wrote.
   */
  STALE: 15,
  /**
   * A drive is mounted, and the process that serves it does not answer, or has died: what is not in the store is not
   * known.
   */
  NO_ANSWER: 16,
  /** Stopped by the user. */
  INTERRUPTED: 130,
} as const;

export type FailureCode = keyof typeof exitCodes;

/** What a command fails with: a message of one line that says what is wrong and what to do. */
export class Failure extends CodedError<FailureCode> {}

export const exitCodeHelp = [
  'Exit codes: 0 done, 1 unexpected, 2 usage, 3 wrong passphrase or key, 4 not a volume,',
  '5 store unavailable or not writable, 6 mount point, 7 already in use, 8 integrity check failed,',
  '9 work is still pending, 10 this machine lacks something, 11 newer format, 12 local disk,',
  '13 flaws that repair mends, 14 volume cannot be mounted, 15 stale, 16 a mounted drive does not answer,',
  '130 interrupted.',
].join('\n');
