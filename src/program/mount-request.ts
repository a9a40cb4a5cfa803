/** What a mount needs to know, from the command that asks to the process that serves. It crosses a pipe between the two, never a disk. */

import type { StoreTuning } from '../access/volume-store.js';
import type { AccessTimePolicy } from '../vfs/access-time-policy.js';

export interface MountRequest {
  /** As given on the command line; relative paths are made absolute. */
  readonly store: string;
  /** Absolute, without symbolic links. */
  readonly mountPoint: string;
  /** Of the volume, made already. */
  readonly stateDirectory: string;
  readonly registryFolder: string;
  readonly volumeId: Uint8Array;
  readonly rootSecret: Uint8Array;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly atime: AccessTimePolicy;
  readonly nodiratime: boolean;
  /** How long anything may wait for the store before it is told that there is no answer. */
  readonly timeoutMs: number;
  /** The store did not answer when the mount was prepared: nobody waits for it again. */
  readonly isOffline: boolean;
  /** Bytes of ciphertext kept on the local disk; `undefined`: chosen by the size of the disk. */
  readonly cacheSize: number | undefined;
  /** The cache leaves this much free on its disk, in bytes; `undefined`: the usual share. */
  readonly cacheFreeMin: number | undefined;
  /** Bytes on the local disk that may wait for the store; `undefined`: chosen by the size of the disk. */
  readonly queueSize: number | undefined;
  /** Keeps the machine from shutting down or sleeping while something is being uploaded, where the system has a way. */
  readonly inhibitsShutdown: boolean;
  readonly tuning: StoreTuning;
  /** An idle device shows this often that it lives; 0: never; `undefined`: as usual. */
  readonly heartbeatMs: number | undefined;
  /** `undefined`: nothing is called stale. */
  readonly maxStalenessMs: number | undefined;
  /** The store cannot keep two devices apart; `undefined`: this machine has not found out yet, and whoever mounts does. */
  readonly isSingleWriter: boolean | undefined;
  /** A second device may enrol all the same. */
  readonly singleWriterAnyway: boolean;
  readonly driver: 'native' | 'fuse-native';
  readonly deviceName: string;
  /** What another device shows: the log must contain it. */
  readonly headCode: { readonly sequence: number; readonly hashStart: string } | undefined;
  /** Absolute; `undefined`: `daemon.log` in the state directory. */
  readonly logFile: string | undefined;
  readonly debug: boolean;
  /** One log line a FUSE request. */
  readonly trace: boolean;
  readonly stopFlushTimeoutMs: number;
}

/** What the serving process tells the one that started it. */
export type MountReport =
  | { readonly type: 'listening' }
  | { readonly type: 'ready'; readonly isSingleWriter: boolean }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };
