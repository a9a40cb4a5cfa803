/**
 * What a filesystem answers, in the kernel's words (linux/fuse.h), without the kernel's bytes. Both drivers (our own
 * over
 *  /dev/fuse, and fuse-native) call this interface; the filesystem behind it knows neither.
 *
 * Every operation may answer at once or with a promise. It fails by throwing (rejecting) anything; the driver asks
 * `errnoOf` what number that is. Names are byte strings (one char a byte). Node ids are numbers below 2^53; the root is
 * 1. Buffers given to an operation are valid only until it returns its value or promise: copy what must outlive that.
 * Buffers that an operation answers with are borrowed by the driver until it has written them, which is at once.
 */
import type { Brand, ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';

/** The kernel's name for an inode. In this project it equals the inode number. */
export type NodeId = Brand<number, 'NodeId'>;
export const rootNodeId = 1 as NodeId;

/** Who asks, and how to know that they no longer want the answer. */
export interface RequestContext {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /**
   * For mknod, mkdir, create and tmpfile: the permission bits that are still to be taken from `mode`, unless the parent
   * has a default ACL (umask(2)). 0 everywhere else, and where the kernel has applied it.
   */
  readonly umask: number;
  /**
   * Whether the caller has CAP_FSETID over everybody's files: it may change what has set-id bits, and they stay. Not
   * there: not known.
   */
  readonly keepsSetId?: boolean;
  /** Whether the caller is in the group, supplementary ones included. Not there: not known. */
  isMemberOf?(gid: number): boolean;
  /**
   * Lazily made; aborts when the kernel interrupts the request. An operation that can wait long should heed it (EINTR).
   */
  readonly signal: AbortSignal;
}

/** `struct fuse_attr` (and what statx adds). `size` in bytes, `blocks` in units of 512 bytes. */
export interface Attributes {
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  readonly btime: Timespec;
  /** Type and permission bits (S_IFMT | 07777). */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
}

/** Answer to lookup and to everything that makes an inode. Validity in milliseconds. */
export interface Entry {
  /** 0 with `attributes` undefined: "there is no such name", cached for `entryValidMs`. */
  readonly nodeId: NodeId | 0;
  readonly generation: number;
  readonly entryValidMs: number;
  readonly attrValidMs: number;
  readonly attributes: Attributes | undefined;
}

export interface AttributeReply {
  readonly attrValidMs: number;
  readonly attributes: Attributes;
}

/** `struct fuse_setattr_in`: only what is to change is present. */
export interface SetAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Timespec | 'now';
  readonly mtime?: Timespec | 'now';
  readonly ctime?: Timespec;
  /** FATTR_KILL_SUIDGID: drop setuid, and setgid where group-executable. */
  readonly killSuidgid?: boolean;
}

/** FOPEN_* bits are the driver's; these are the choices that a filesystem has. */
export interface OpenReply {
  readonly handle: number;
  readonly keepCache?: boolean;
  readonly directIo?: boolean;
  /** Directories: let the kernel cache the listing. */
  readonly cacheDirectory?: boolean;
  /** No FLUSH is wanted when this descriptor is closed. */
  readonly noFlush?: boolean;
}

/** Collects directory entries into the reply. */
export interface DirentSink {
  /**
   * False: the entry did not fit and was not added; stop. `cookie` is where a later readdir goes on after this entry.
   */
  add(name: ByteString, ino: number, mode: number, cookie: number, entry?: Entry): boolean;
}

/** `struct fuse_kstatfs`. Blocks in units of `frsize` bytes. */
export interface FilesystemStatistics {
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly bsize: number;
  readonly frsize: number;
  readonly namelen: number;
}

/** What the connection agreed on. */
export interface ConnectionInfo {
  readonly major: number;
  readonly minor: number;
  /** Largest payload of a WRITE and a READ, in bytes. */
  readonly maxWrite: number;
  readonly writebackCache: boolean;
  readonly readdirplus: boolean;
  /** {@link Notifier.pruneInodes} and {@link Notifier.expireEntries} work. */
  readonly prune: boolean;
}

export interface FuseOperations {
  init(connection: ConnectionInfo): void;
  /** The connection is gone; nothing will be asked any more. */
  destroy(): MaybePromise<void>;
  lookup(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<Entry>;
  /** The kernel dropped its last `nlookup` references to the inode. Has no answer. */
  forget(nodeId: NodeId, nlookup: number): void;
  getattr(context: RequestContext, nodeId: NodeId): MaybePromise<AttributeReply>;
  setattr(context: RequestContext, nodeId: NodeId, change: SetAttributes): MaybePromise<AttributeReply>;
  readlink(context: RequestContext, nodeId: NodeId): MaybePromise<ByteString>;
  symlink(context: RequestContext, parent: NodeId, name: ByteString, target: ByteString): MaybePromise<Entry>;
  /**
   * Regular files too. `mode` is what the caller asked for: apply `context.umask` here and in the other operations that
   * make an inode.
   */
  mknod(context: RequestContext, parent: NodeId, name: ByteString, mode: number, rdev: number): MaybePromise<Entry>;
  mkdir(context: RequestContext, parent: NodeId, name: ByteString, mode: number): MaybePromise<Entry>;
  unlink(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void>;
  rmdir(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void>;
  /** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  rename(context: RequestContext, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): MaybePromise<void>;
  link(context: RequestContext, nodeId: NodeId, newParent: NodeId, newName: ByteString): MaybePromise<Entry>;
  /** Answering `undefined` says: no handles are needed, never ask again (FUSE_NO_OPEN_SUPPORT). */
  open(context: RequestContext, nodeId: NodeId, flags: number): MaybePromise<OpenReply | undefined>;
  /** Creates and opens; `undefined` at the first call: use mknod and open from now on. */
  create(
    context: RequestContext,
    parent: NodeId,
    name: ByteString,
    mode: number,
    flags: number,
  ): MaybePromise<{ entry: Entry; open: OpenReply } | undefined>;
  /** O_TMPFILE: an inode without a name; it lives until closed, or gets a name by link. */
  tmpfile(context: RequestContext, parent: NodeId, mode: number, flags: number): MaybePromise<{ entry: Entry; open: OpenReply }>;
  /** Up to `size` bytes at `offset`; fewer only at the end of the file. Several pieces are written as one. */
  read(
    context: RequestContext,
    nodeId: NodeId,
    offset: number,
    size: number,
    keepsAccessTime: boolean,
  ): MaybePromise<Uint8Array | readonly Uint8Array[]>;
  /** All of `data`, or an error. `killSuidgid`: drop setuid/setgid as SetAttributes says. */
  write(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): MaybePromise<void>;
  /** A descriptor is being closed: what was written survives the daemon from here on. */
  flush(context: RequestContext, nodeId: NodeId): MaybePromise<void>;
  fsync(context: RequestContext, nodeId: NodeId, dataOnly: boolean): MaybePromise<void>;
  /** The last descriptor of a handle is gone. `handle` is what open, create or tmpfile answered. */
  release(context: RequestContext, nodeId: NodeId, handle: number): MaybePromise<void>;
  /**
   * As `open`: `undefined` says that cookies mean the same to every reader, so no handles are needed and the kernel may
   * cache listings.
   */
  opendir(context: RequestContext, nodeId: NodeId): MaybePromise<OpenReply | undefined>;
  /**
   * Entries after `cookie` (0: from the start, with `.` and `..`). `plus`: give each an Entry (a lookup is counted for
   * it, except `.` and `..`).
   */
  readdir(context: RequestContext, nodeId: NodeId, handle: number, cookie: number, sink: DirentSink, plus: boolean): MaybePromise<void>;
  releasedir(context: RequestContext, nodeId: NodeId, handle: number): MaybePromise<void>;
  fsyncdir(context: RequestContext, nodeId: NodeId, dataOnly: boolean): MaybePromise<void>;
  statfs(context: RequestContext, nodeId: NodeId): MaybePromise<FilesystemStatistics>;
  getxattr(context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<Uint8Array>;
  /** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. `killSgid`: FUSE_SETXATTR_ACL_KILL_SGID. */
  setxattr(context: RequestContext, nodeId: NodeId, name: ByteString, value: Uint8Array, flags: number, killSgid: boolean): MaybePromise<void>;
  listxattr(context: RequestContext, nodeId: NodeId): MaybePromise<readonly ByteString[]>;
  removexattr(context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<void>;
  /** `mode`: FALLOC_FL_* bits. */
  fallocate(context: RequestContext, nodeId: NodeId, offset: number, length: number, mode: number): MaybePromise<void>;
  /** `whence`: SEEK_DATA 3 or SEEK_HOLE 4. */
  lseek(context: RequestContext, nodeId: NodeId, offset: number, whence: number): MaybePromise<number>;
  /** Bytes copied. */
  copyFileRange(context: RequestContext, nodeId: NodeId, offset: number, toNodeId: NodeId, toOffset: number, length: number): MaybePromise<number>;
  /** FS_IOC_GETFLAGS and its like: the FS_*_FL bits of chattr(1). Not there: ENOTTY. */
  getflags?(context: RequestContext, nodeId: NodeId): MaybePromise<number>;
  /** All of them at once. The kernel has checked who may. */
  setflags?(context: RequestContext, nodeId: NodeId, flags: number): MaybePromise<void>;
  /** Whole-filesystem sync. */
  syncfs(context: RequestContext, nodeId: NodeId): MaybePromise<void>;
}

/** The positive errno of anything an operation threw. Total: what it does not know is EIO. */
export type ErrnoOf = (error: unknown) => number;

/** What the filesystem may tell the kernel, at any time, without waiting (a native thread writes it). */
export interface Notifier {
  /** Attributes, and cached data from `offset` on (`length` 0: to the end; `offset` -1: attributes only). */
  invalidateInode(nodeId: NodeId, offset: number, length: number): void;
  /** The name in the parent, positive or negative. */
  invalidateEntry(parent: NodeId, name: ByteString): void;
  /** The name is gone, and with it `child`. */
  deleteEntry(parent: NodeId, child: NodeId, name: ByteString): void;
  /** Every name is looked up again before it is used. Only where {@link ConnectionInfo.prune} says so. */
  expireEntries(): void;
  /**
   * Drops the inodes, by whatever names they are known, unless they are in use; the next lookup makes them anew. Only
   * where {@link ConnectionInfo.prune} says so.
   */
  pruneInodes(nodeIds: readonly NodeId[]): void;
  /**
   * Puts `data` (copied) into the cached content. Where it ends past what the kernel takes for the file's end, that end
   * moves there: the only way to tell of growth to those who have the file open under a writeback cache.
   */
  storeContent(nodeId: NodeId, offset: number, data: Uint8Array): void;
  /**
   * Resolves when the kernel has taken every notice given until now, and has written back the data that these made it
   * write back.
   */
  drained(): Promise<void>;
}

export interface MountOptions {
  readonly mountPoint: string;
  /** Shown as the source in /proc/mounts; no secrets. */
  readonly source: string;
  /** The filesystem type is `fuse.<subtype>`. */
  readonly subtype: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  /** Programs get the ids and capabilities that their files are marked with. Root only. Not given: no. */
  readonly suid?: boolean;
  /** Device nodes open devices. Root only. Not given: no. */
  readonly dev?: boolean;
  /** Shown in /proc/mounts, as far as the caller may; what they mean is the filesystem's to do. */
  readonly noatime?: boolean;
  readonly strictatime?: boolean;
  readonly nodiratime?: boolean;
  /** The kernel checks mode bits and ACLs. */
  readonly defaultPermissions: boolean;
  readonly writebackCache: boolean;
  /** Every readlink(2) reaches the filesystem (the kernel keeps no targets of links). Not given: no. */
  readonly seesReadlinks?: boolean;
  /** One line per request and reply to this function (names and content left out). */
  readonly trace?: (line: string) => void;
}

/** A mounted filesystem. */
export interface Mounted {
  readonly driver: 'native' | 'fuse-native';
  readonly connection: ConnectionInfo;
  readonly notifier: Notifier;
  /**
   * Resolves when the kernel has ended the connection (unmounted by anyone), after `destroy`; rejects if the session
   * broke.
   */
  readonly ended: Promise<void>;
  /** Unmounts; `force` detaches lazily when it is busy. Throws FuseError `BUSY` without force. */
  unmount(options?: { readonly force?: boolean }): Promise<void>;
}

/**
 * Mounts and serves `operations` until unmounted. Resolves once the kernel has agreed on the protocol (INIT done).
 * Throws FuseError.
 */
export type Driver = (operations: FuseOperations, errnoOf: ErrnoOf, options: MountOptions) => Promise<Mounted>;
