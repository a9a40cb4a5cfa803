/**
 * The interface of an open volume to the filesystem above it (doc/architecture.md, "A volume's state: one key space in
 * layers"). `open-volume.ts` is the only implementation; tests of upper layers may open one on a memory store.
 */
import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { ContentStamp } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { AccessTimeStore } from './access-time-file.js';
import type { FileStatus, Pinned, SubtreeStatus } from './file-status.js';
import type { Past } from './past.js';
import type { PinKeeper } from './pin-keeper.js';
import type { Plan } from './plan.js';
import type { ReadableVolume } from './readable-volume.js';
import type { Snapshots } from './snapshots.js';
import type { ChangeListener } from './volume-change.js';

export interface PendingWork {
  /** Acknowledged operations that the store does not have yet. */
  readonly operations: number;
  /** Files with such operations or with dirty data. */
  readonly files: number;
  /** Plaintext bytes not yet sealed, and sealed bytes not yet in the store. */
  readonly dirtyBytes: number;
  readonly uploadBytes: number;
}

export interface FlushProgress extends PendingWork {
  readonly uploadedBytes: number;
}

export interface Volume extends ReadableVolume {
  /** 32 bytes as hex. */
  readonly id: string;
  readonly readOnly: boolean;
  /** The drive has concluded that the store cannot be reached. */
  readonly isOffline: boolean;

  /** Runs `operation` and journals it; throws what the operation throws, having changed nothing. */
  apply(operation: Operation): MaybePromise<void>;
  /**
   * Like `apply`, for an operation that depends on the state. `plan` is a pure function that reads and returns what to
   * do (or throws); it and the operation run at one instant. Returns the plan's result.
   */
  transact<T>(plan: Plan<T>): MaybePromise<T>;

  /** A number for an inode or a directory entry, never given before. */
  allocateIno(): Ino;
  /** A new stamp for a content change by this device. */
  nextStamp(): ContentStamp;
  now(): Timespec;
  /** The seconds of {@link Volume.now}, up to one off, for less. */
  roughSec(): number;

  /**
   * Sets mtime and ctime (to the later of `time` and its old value) of a file whose newest content is not in the
   * journal yet, and journals both: they survive the daemon without an operation. Returns false if it did nothing. For
   * the last step of a plan. Throws VolumeError.
   */
  noteWriteTime(ino: Ino, time: Timespec): boolean;
  /**
   * Must be called before each `writeContent`: undefined when the upload queue has room; otherwise resolves when it
   * has, or rejects with VolumeError `FULL`.
   */
  writeRoom(): Promise<void> | undefined;
  /**
   * Takes ownership of `data` and keeps it without a copy: the caller must not change it any more. Waits when too much
   * is dirty (back-pressure). Grows the size; sets mtime and ctime to `time` (undefined: the writer sets them itself,
   * as the kernel's writeback cache does).
   */
  writeContent(ino: Ino, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void>;
  /** Makes all dirty data of the file part of the state, so that operations on extents (clone, punch) see it. */
  sealContent(ino: Ino): MaybePromise<void>;
  /** Called when an application closes the file: what was written to it so far survives the death of the daemon. */
  persistContent(ino: Ino): MaybePromise<void>;
  /**
   * Makes everything acknowledged so far survive a power loss: all operations, and data written to `ino` (to every file
   * when not given).
   */
  sync(ino?: Ino): Promise<void>;
  /** Puts everything so far into the store. Reports progress if asked; rejects with VolumeError when it cannot. */
  flush(options?: { readonly onProgress?: (progress: FlushProgress) => void; readonly signal?: AbortSignal }): Promise<void>;

  statistics(): VolumeStatistics;
  pending(): PendingWork;
  /** Keeps access times that are not in the volume beyond this process. */
  readonly accessTimes: AccessTimeStore;
  /** Its earlier states. */
  readonly past: Past;
  readonly snapshots: Snapshots;
  /** Files and folders that stay on this machine. */
  readonly pins: Pick<PinKeeper, 'add' | 'remove' | 'list' | 'completed'>;
  /** The status of one inode; `undefined` when there is no such inode. Rejects with VolumeError. */
  fileStatus(ino: Ino): Promise<Pinned<FileStatus> | undefined>;
  /** Like {@link Volume.fileStatus}, for an inode with everything below it. */
  subtreeStatus(ino: Ino, signal?: AbortSignal): Promise<Pinned<SubtreeStatus> | undefined>;
  /** A path of the inode from the root, with a leading slash; `undefined` when it has none. `hint`: a former name. */
  pathOf(ino: Ino, hint?: { readonly parent: Ino; readonly name: ByteString }): Promise<ByteString | undefined>;
  /** The bytes that can still be written before writers wait; `undefined` while the store answers. */
  offlineRoomBytes(): number | undefined;
  /** A handle for one more front end of this volume. */
  frontEnd(): Volume;
  /**
   * Registers `listener`, at most one per front end, for changes by others: other devices, other front ends, the
   * program.
   */
  onChange(listener: ChangeListener): void;
  /** Inodes without a name that some front end of this device uses. */
  readonly orphans: Set<Ino>;
  /** Whether another front end uses the inode. */
  isUsedElsewhere(ino: Ino): boolean;
}
