/**
 * Everything that the serving process needs from the command that mounts. It crosses a pipe between the two and is
 * never on a disk.
 */

import type { MountOptions } from '../access/mount-options.js';

export interface MountRequest {
  /** As given on the command line; relative paths are made absolute. */
  readonly store: string;
  /** Absolute, without symbolic links. */
  readonly mountPoint: string;
  /** The volume's own; it exists. */
  readonly stateDirectory: string;
  readonly registryFolder: string;
  readonly volumeId: Uint8Array;
  readonly rootSecret: Uint8Array;
  /** Admits this machine if nobody has done so before; `undefined` from a keyslot without the rights of the owner. */
  readonly ownerSeed: Uint8Array | undefined;
  /** The store did not answer when the mount was prepared, so nobody waits for it again. */
  readonly isOffline: boolean;
  /**
   * The store cannot keep two devices apart; `undefined` if this machine does not know yet, and the mount must find
   * out.
   */
  readonly isSingleWriter: boolean | undefined;
  readonly options: MountOptions;
}

/** What the serving process reports to the one that started it. */
export type MountReport =
  | { readonly type: 'listening' }
  | { readonly type: 'ready'; readonly isSingleWriter: boolean }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };
