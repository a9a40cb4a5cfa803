/**
 * What an open volume offers to the filesystem above it (doc/architecture.md, "A volume's state: one key space in layers"). The implementation is `open-volume.ts`; tests of
 * upper layers may open one on a memory store, there is no second implementation.
 */
import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { ContentStamp, Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { ReadView } from '../operation/view.js';
import type { AccessTimeStore } from './access-time-file.js';
import type { FileStatus, Pinned, SubtreeStatus } from './file-status.js';
import type { PinKeeper } from './pin-keeper.js';

/** What changed in the volume, for those who keep copies of it. */
export interface VolumeChange {
  readonly inodes: ReadonlySet<Ino>;
  /** Inodes whose content or size changed, a subset of `inodes`. */
  readonly contents: ReadonlySet<Ino>;
  readonly entries: readonly { readonly parent: Ino; readonly name: string }[];
  /** Files whose content of this device became conflict copies. */
  readonly copies: readonly ConflictCopy[];
}

/**
 * A front end that keeps copies of what the volume holds, such as the kernel's caches. It hears of every change that is not made
 * through itself. The calls for one change come in this order, with the same object; several changes can be under way at a time.
 */
export interface ChangeListener {
  /**
   * Before the change: has everything that applications wrote to these files, and that was held back so far, written to the volume.
   * Does not reject; false when it took too long and was given up.
   */
  collect(change: VolumeChange): Promise<boolean>;
  /** Whether nothing that is based on the old content can be held back again. Asked right before the change becomes visible. */
  isCollected(change: VolumeChange): boolean;
  /**
   * Writes to these files wait from here on until `done`: somebody writes without a pause, and the change would never become
   * visible. There is no `collect` afterwards. Only for changes of other devices.
   */
  hold(change: VolumeChange): void;
  /** The change is visible to `read` from here on. */
  changed(change: VolumeChange): void;
  /** The change is visible, or was given up. Comes in any case if `collect` or `hold` did. */
  done(change: VolumeChange): void;
  /** Whether this front end uses the inode: it is not freed then, although it has no name any more. */
  isUsed(ino: Ino): boolean;
}

export interface PendingWork {
  /** Operations that applications were answered and the store does not have yet. */
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

/** Reads, and says what to do; a pure function. */
export type Plan<T> = (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T };

export interface Volume {
  /** 32 bytes as hex. */
  readonly id: string;
  readonly readOnly: boolean;
  /** The store is known not to answer. */
  readonly isOffline: boolean;

  /** Runs `query` over the newest state (pending operations included), again after every page fault. It must be a pure function. */
  read<T>(query: (view: ReadView) => T): MaybePromise<T>;
  /** Runs `operation` and journals it; throws what the operation throws, having changed nothing. */
  apply(operation: Operation): MaybePromise<void>;
  /**
   * Like `apply`, for an operation that depends on the state: `plan` is a pure function that reads and says what to do (or throws); it and
   * the operation run at one instant. Answers what `plan` made of it.
   */
  transact<T>(plan: Plan<T>): MaybePromise<T>;

  /** The inode as applications must see it: its size and mtime include dirty data that is not sealed yet. */
  inode(view: ReadView, ino: Ino): Inode | undefined;

  allocateIno(): Ino;
  /** A new stamp for a content change by this device. */
  nextStamp(): ContentStamp;
  now(): Timespec;

  /** Up to `size` bytes at `offset`, short only at the end of the file. The pieces are borrowed: use them at once, do not change them. */
  readContent(ino: Ino, offset: number, size: number, signal?: AbortSignal): MaybePromise<readonly Uint8Array[]>;
  /**
   * Sets mtime and ctime (the later of it and what it was) of a file whose newest content is not in the journal yet, and brings both there: survives the
   * daemon, without an operation. False: nothing was done. For the last step of a plan. Throws VolumeError.
   */
  noteWriteTime(ino: Ino, time: Timespec): boolean;
  /** To be asked before each `writeContent`: undefined when the upload queue has room; else resolves when it has, or rejects with VolumeError `FULL`. */
  writeRoom(): Promise<void> | undefined;
  /**
   * Owns `data` from the call on, and keeps it without a copy: the caller must not change it any more. Waits when too much is dirty (back-pressure). Grows
   * the size; sets mtime and ctime to `time` (undefined: the writer sets them itself, as the kernel's writeback cache does).
   */
  writeContent(ino: Ino, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void>;
  /** Where data (or a hole) begins at or after `offset`; undefined past the end of the file (ENXIO). The end of the file counts as a hole. */
  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined>;
  /** Makes all dirty data of the file part of the journalled state, so that operations on extents (clone, punch) see it. */
  sealContent(ino: Ino): MaybePromise<void>;
  /** An application closes the file: what was written to it until now survives the death of the daemon. */
  persistContent(ino: Ino): MaybePromise<void>;
  /** Everything acknowledged until now survives power loss: all operations, and what was written to `ino` (to every file when not given). */
  sync(ino?: Ino): Promise<void>;
  /** Everything until now is in the store. Reports progress if asked; rejects with VolumeError when it cannot be. */
  flush(options?: { readonly onProgress?: (progress: FlushProgress) => void; readonly signal?: AbortSignal }): Promise<void>;

  statistics(): VolumeStatistics;
  pending(): PendingWork;
  /** Where access times that are no part of the volume outlive this process. */
  readonly accessTimes: AccessTimeStore;
  /** What stays on this machine. */
  readonly pins: Pick<PinKeeper, 'add' | 'remove' | 'list' | 'settled'>;
  /** Where one inode stands; `undefined` when there is no such inode. Rejects with VolumeError. */
  fileStatus(ino: Ino): Promise<Pinned<FileStatus> | undefined>;
  /** As {@link Volume.fileStatus}, for an inode with all that lies below it. */
  subtreeStatus(ino: Ino, signal?: AbortSignal): Promise<Pinned<SubtreeStatus> | undefined>;
  /** A path of the inode from the root, with a leading slash; `undefined` when it has none. `hint`: a name that it had. */
  pathOf(ino: Ino, hint?: { readonly parent: Ino; readonly name: ByteString }): Promise<ByteString | undefined>;
  /** What can still be written before writers wait, in bytes; `undefined` while the store answers. */
  offlineRoomBytes(): number | undefined;
  /** A handle for one more front end of this volume. */
  frontEnd(): Volume;
  /** Tells `listener`, of which a front end has at most one, what others change: other devices, other front ends, the program. */
  onChange(listener: ChangeListener): void;
  /** Inodes without a name that some front end of this device uses. */
  readonly orphans: Set<Ino>;
  /** Whether another front end uses the inode. */
  isUsedElsewhere(ino: Ino): boolean;
}
