/** The log as one device reads and extends it: skeleton, the signatures only. */
import type { Clock } from '../base/clock.js';
import type { Log } from '../base/log.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectStore } from '../store/object-store.js';
import type { Commit, CommitDraft, DeviceId, Enrolment, Sequence } from './commit.js';

export interface CommitLogOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly disk: Disk;
  /** The state directory: `device`, `trust` and `log/` are in it. */
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  /** What this device calls itself, if it must enrol. */
  readonly deviceName: string;
  readonly readOnly: boolean;
}

export interface LogPosition {
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
}

export declare class CommitLog {
  /**
   * Opens the log in this device's trust: verifies what it knows against the store (offline: against its own copies), enrols the device if it is new
   * (not when read-only). `head` is then the newest commit whose trust was persisted. Throws CommitError, StoreError.
   */
  static open(options: CommitLogOptions): Promise<CommitLog>;

  readonly deviceId: DeviceId;
  readonly deviceIndex: number;
  /** Everybody enrolled, by index. */
  readonly roster: readonly Enrolment[];
  /** The newest commit that was verified and persisted in the trust state. */
  readonly head: LogPosition;
  /** The newest commit with a checkpoint up to `head`, if any. */
  readonly lastCheckpoint: Commit | undefined;
  /** This device's own newest commit up to `head`, as far as its inode counter and operation serial go. */
  readonly own: { readonly nextInoCounter: number; readonly operationSerial: number };

  /** Verified commits with `after < sequence <= head`, ascending, from the local copies or the store. */
  commitsUpToHead(after: Sequence): AsyncIterable<Commit>;

  /**
   * Looks for commits after `head`: verifies them, persists the trust, moves `head`, answers them ascending (empty: nothing new).
   * Throws CommitError (integrity), StoreError.
   */
  poll(signal?: AbortSignal): Promise<readonly Commit[]>;

  /**
   * Appends a commit at head + 1. The commit itself when it is in the log (trust persisted, head moved); `lost` when another commit has
   * that number: poll, rebase, try again. After a StoreError the outcome is unknown: the next poll tells (the own commit then comes back from it).
   */
  put(draft: CommitDraft, signal?: AbortSignal): Promise<Commit | 'lost'>;

  /** Removes local copies of commits that no start needs any more: those up to `covers`. */
  forget(covers: Sequence): Promise<void>;

  close(): Promise<void>;
}
