/** What a mount needs to know, from the command that asks to the process that serves. It crosses a pipe between the two, never a disk. */

import type { MountOptions } from '../access/mount-options.js';

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
  /** The store did not answer when the mount was prepared: nobody waits for it again. */
  readonly isOffline: boolean;
  /** The store cannot keep two devices apart; `undefined`: this machine has not found out yet, and whoever mounts does. */
  readonly isSingleWriter: boolean | undefined;
  readonly options: MountOptions;
}

/** What the serving process tells the one that started it. */
export type MountReport =
  | { readonly type: 'listening' }
  | { readonly type: 'ready'; readonly isSingleWriter: boolean }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };
