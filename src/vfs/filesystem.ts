/**
 * The filesystem as POSIX has it, over one front end's handle of a volume. It knows inode numbers and names as bytes,
 * but neither FUSE nor the tree. Each family of calls has its file. There is no table of inodes or open files: the
 * volume answers from its tree (doc/semantics.md).
 *
 * Fails with VfsError, OperationError or VolumeError. What is in memory is answered synchronously.
 */

import type { ByteString } from '../base/brand.js';
import { latin1Slice } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { type Logger, silentLogger } from '../base/logger.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { type Inode, S_IFDIR, S_IFLNK, S_IFMT } from '../meta/inode.js';
import { type Ino, rootIno } from '../meta/key.js';
import { fileSizeMax } from '../operation/operation.js';
import type { ReadView } from '../operation/view.js';
import type { Volume } from '../volume/volume.js';
import { VolumeError } from '../volume/volume-error.js';
import { type AccessTimeOptions, AccessTimes } from './access-time.js';
import { attributesOf, type InodeAttributes } from './attributes.js';
import type { Caller } from './caller.js';
import { allocate, copyRange, FALLOC_FL_KEEP_SIZE, readFile, seekContent, writeFile } from './content.js';
import { makeInode } from './creation.js';
import { DirectoryListings, dotCookie, dotDotCookie, type ListedEntry } from './directory-listing.js';
import { getXattr, listXattrs, removeXattr, setXattr } from './extended-attribute.js';
import { getInodeFlags, setInodeFlags } from './inode-flags.js';
import { link, type Removed, type Renamed, rename, rmdir, unlink } from './naming.js';
import { Orphans } from './orphans.js';
import { heldDirectory, heldInode, inoNamed } from './protection.js';
import { type AttributeChange, setAttributes } from './setattr.js';
import { VfsError } from './vfs-error.js';

/** The room where the volume's data goes, in bytes; `undefined` where that is not known. */
export type SpaceProbe = () => Promise<{ readonly free: number; readonly total: number } | undefined>;

export interface FilesystemOptions {
  readonly accessTimes?: AccessTimeOptions;
  readonly space?: SpaceProbe;
  readonly logger?: Logger;
}

/** `statvfs`, in bytes. */
export interface SpaceStatistics {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly files: number;
}

/** An entry of a directory as readdir tells it. `attributes` if they were asked for; never for `.` and `..`. */
export interface DirectoryEntry {
  readonly name: ByteString;
  readonly ino: Ino;
  readonly mode: number;
  /** Where a later readdir goes on after this entry. */
  readonly cookie: number;
  readonly attributes: InodeAttributes | undefined;
}

/** df shows this much as free where the room is not known: 1 PiB, as other drives without a quota do. */
const unknownFreeBytes = 2 ** 50;

export class Filesystem {
  readonly #volume: Volume;
  readonly #accessTimes: AccessTimes;
  readonly #space: SpaceProbe | undefined;
  readonly #orphans: Orphans;
  readonly #listings: DirectoryListings;
  #callerSetsTimes = false;

  constructor(volume: Volume, options: FilesystemOptions = {}) {
    this.#volume = volume;
    this.#listings = new DirectoryListings(volume);
    this.#accessTimes = new AccessTimes(volume, options.accessTimes);
    this.#space = options.space;
    this.#orphans = new Orphans(volume, options.logger ?? silentLogger);
  }

  /**
   * From now on callers set mtime and ctime of their writes themselves, as the kernel's writeback cache does: times of
   * our own would contradict those that it has shown to applications already.
   */
  leaveContentTimesToCaller(): void {
    this.#callerSetsTimes = true;
  }

  #contentTime(): Timespec | undefined {
    return this.#callerSetsTimes ? undefined : this.#volume.now();
  }

  /**
   * Frees what a crash left without a name, unless the volume is read-only. To be called once, before anything else.
   * Answers how many.
   */
  async start(): Promise<number> {
    await this.#accessTimes.load();
    return this.#volume.readOnly ? 0 : this.#orphans.reclaimLeftovers();
  }

  /**
   * This front end uses nothing any more: frees removed files and keeps noted access times. The volume is flushed
   * afterwards.
   */
  async stop(): Promise<void> {
    this.#orphans.releaseAll();
    await this.#orphans.freed();
    await this.#accessTimes.keep();
  }

  /**
   * Undefined if there is no such name. `.` asks whether the inode itself exists, `..` for its directory; the kernel
   * resolves file handles that way.
   */
  lookup(parent: Ino, name: ByteString): MaybePromise<InodeAttributes | undefined> {
    return this.#volume.read((view) => {
      if (name === '.' || name === '..') return this.#related(view, parent, name);
      const ino = inoNamed(view, parent, name);
      if (ino === undefined) {
        // A name is absent only where the directory is there.
        heldDirectory(this.#volume, view, parent);
        if (this.#volume.hasStopped) throw new VolumeError('CORRUPT', 'the history does not fit, so the name may exist all the same');
        return undefined;
      }
      return this.#attributes(ino, heldInode(this.#volume, view, ino));
    });
  }

  #related(view: ReadView, ino: Ino, name: '.' | '..'): InodeAttributes | undefined {
    const own = this.#volume.inode(view, ino);
    // An inode without a name is not found again, though somebody may still have it open.
    if (own === undefined || own.nlink === 0) return undefined;
    if (name === '.') return this.#attributes(ino, own);
    const parent = ino === rootIno ? ino : own.parent;
    return parent === 0 ? undefined : this.#attributes(parent, heldDirectory(this.#volume, view, parent));
  }

  #attributes(ino: Ino, inode: Inode): InodeAttributes {
    return attributesOf(ino, inode, this.#accessTimes.shown(ino, inode));
  }

  getattr(ino: Ino): MaybePromise<InodeAttributes> {
    return this.#volume.read((view) => this.#attributes(ino, heldInode(this.#volume, view, ino)));
  }

  /** Without `caller`, the drive itself makes the change. */
  setattr(ino: Ino, change: AttributeChange, caller?: Caller): MaybePromise<InodeAttributes> {
    return andThen(setAttributes(this.#volume, this.#accessTimes, caller, ino, change, this.#callerSetsTimes), () => this.getattr(ino));
  }

  readlink(ino: Ino): MaybePromise<ByteString> {
    const found = this.#volume.read((view) => {
      const inode = heldInode(this.#volume, view, ino);
      if ((inode.mode & S_IFMT) !== S_IFLNK) throw new VfsError('EINVAL', 'not a link');
      return inode;
    });
    return andThen(found, (inode) => {
      this.#accessTimes.note(ino, inode);
      return latin1Slice(inode.inline, 0, inode.inline.byteLength);
    });
  }

  mknod(caller: Caller, parent: Ino, name: ByteString, mode: number, rdev: number): MaybePromise<InodeAttributes> {
    return this.#made(makeInode(this.#volume, caller, parent, name, mode, rdev, undefined));
  }

  mkdir(caller: Caller, parent: Ino, name: ByteString, mode: number): MaybePromise<InodeAttributes> {
    return this.#made(makeInode(this.#volume, caller, parent, name, S_IFDIR | (mode & ~S_IFMT), 0, undefined));
  }

  symlink(caller: Caller, parent: Ino, name: ByteString, target: ByteString): MaybePromise<InodeAttributes> {
    return this.#made(makeInode(this.#volume, caller, parent, name, S_IFLNK | 0o777, 0, target));
  }

  /** An inode without a name; it is freed by {@link forget} unless it was linked before. */
  tmpfile(caller: Caller, parent: Ino, mode: number): MaybePromise<InodeAttributes> {
    return andThen(makeInode(this.#volume, caller, parent, undefined, mode, 0, undefined), (ino) => {
      this.#orphans.add(ino);
      return this.getattr(ino);
    });
  }

  #made(ino: MaybePromise<Ino>): MaybePromise<InodeAttributes> {
    return andThen(ino, (made) => this.getattr(made));
  }

  link(ino: Ino, newParent: Ino, newName: ByteString): MaybePromise<InodeAttributes> {
    return andThen(link(this.#volume, ino, newParent, newName), () => {
      this.#orphans.remove(ino);
      return this.getattr(ino);
    });
  }

  unlink(parent: Ino, name: ByteString): MaybePromise<Removed> {
    return andThen(unlink(this.#volume, parent, name), (removed) => this.#noteRemoved(removed));
  }

  rmdir(parent: Ino, name: ByteString): MaybePromise<Removed> {
    return andThen(rmdir(this.#volume, parent, name), (removed) => this.#noteRemoved(removed));
  }

  #noteRemoved(removed: Removed): Removed {
    if (removed.orphaned) this.#orphans.add(removed.ino);
    return removed;
  }

  rename(parent: Ino, name: ByteString, newParent: Ino, newName: ByteString, flags: number): MaybePromise<Renamed> {
    return andThen(rename(this.#volume, parent, name, newParent, newName, flags), (renamed) => {
      if (renamed.orphaned && renamed.other !== undefined) this.#orphans.add(renamed.other);
      return renamed;
    });
  }

  /** This front end no longer refers to the inode, which is freed if it has no name. */
  forget(ino: Ino): void {
    this.#orphans.release(ino);
  }

  /** Up to `size` bytes, short only at the end of the file. The pieces are borrowed: use them at once. */
  read(caller: Caller, ino: Ino, offset: number, size: number, keepsAccessTime = false): MaybePromise<readonly Uint8Array[]> {
    return readFile(this.#volume, keepsAccessTime ? undefined : this.#accessTimes, ino, offset, size, caller.signal);
  }

  /** A front end that keeps content in a cache of its own must ask {@link readMovesTime} before it hands any out. */
  get hasExactAccessTimes(): boolean {
    return this.#accessTimes.isExact;
  }

  /** Whether reading a file or listing a folder now would move its access time on. */
  readMovesTime(ino: Ino): MaybePromise<boolean> {
    return this.#volume.read((view) => this.#accessTimes.wouldMove(ino, heldInode(this.#volume, view, ino)));
  }

  /**
   * Undefined when a write need not wait. To be asked before each {@link write}; while the write waits, the kernel's
   * node can come to stand for another inode.
   */
  writeRoom(): Promise<void> | undefined {
    return this.#volume.writeRoom();
  }

  /** Writes all of `data`, which it owns from here on. The caller has waited for {@link writeRoom}. */
  write(caller: Caller, ino: Ino, offset: number, data: Uint8Array, dropsSetId: boolean): MaybePromise<void> {
    return writeFile(this.#volume, caller, ino, offset, data, this.#contentTime(), dropsSetId);
  }

  /** What was written survives the death of this process from here on. */
  persist(ino: Ino): MaybePromise<void> {
    return this.#volume.persistContent(ino);
  }

  /**
   * From here on, every operation that was answered survives power loss, and so does what was written to `ino` (by
   * default: to any file).
   */
  sync(ino?: Ino): Promise<void> {
    return this.#volume.sync(ino);
  }

  /** Reserves nothing, but fails with ENOSPC when there is no such room. */
  async allocate(ino: Ino, offset: number, length: number, mode: number): Promise<void> {
    if ((mode & ~FALLOC_FL_KEEP_SIZE) === 0 && offset + length <= fileSizeMax) {
      // What the file has already needs no room.
      const [free, { blocks }] = await Promise.all([this.#freeBytes(), this.getattr(ino)]);
      if (length > free + blocks * 512) throw new VfsError('ENOSPC', 'there is no such room');
    }
    await allocate(this.#volume, ino, offset, length, mode, this.#contentTime());
  }

  seek(ino: Ino, offset: number, whence: number): MaybePromise<number> {
    return seekContent(this.#volume, ino, offset, whence);
  }

  copyRange(caller: Caller, from: Ino, fromOffset: number, to: Ino, toOffset: number, length: number): Promise<number> {
    return copyRange(this.#volume, { from, fromOffset, to, toOffset, length, time: this.#contentTime() }, caller.signal);
  }

  /**
   * Gives the entries after `cookie` (0: from the start, with `.` and `..`) to `take` until it answers false because an
   * entry did not fit. `.` and `..` come without attributes.
   */
  readdir(ino: Ino, cookie: number, withAttributes: boolean, take: (entry: DirectoryEntry) => boolean): MaybePromise<void> {
    const takeListed = ({ dirent: { name, ino: child, type, number }, inode }: ListedEntry): boolean =>
      take({ name, ino: child, mode: type, cookie: number, attributes: inode && this.#attributes(child, inode) });
    if (cookie >= dotDotCookie) return this.#listings.list(ino, cookie, withAttributes, takeListed);
    const inode = this.#volume.read((view) => heldDirectory(this.#volume, view, ino));
    return andThen(inode, (own) => {
      if (cookie < dotCookie) this.#accessTimes.note(ino, own);
      if (cookie < dotCookie && !take({ name: '.', ino, mode: S_IFDIR, cookie: dotCookie, attributes: undefined })) return undefined;
      const parent = own.parent === 0 ? ino : own.parent;
      if (!take({ name: '..', ino: parent, mode: S_IFDIR, cookie: dotDotCookie, attributes: undefined })) return undefined;
      return this.#listings.list(ino, dotDotCookie, withAttributes, takeListed);
    });
  }

  getxattr(ino: Ino, name: ByteString): MaybePromise<Uint8Array> {
    return getXattr(this.#volume, ino, name);
  }

  /** `value` is copied. */
  setxattr(ino: Ino, name: ByteString, value: Uint8Array, flags: number, dropsSetgid: boolean): MaybePromise<void> {
    return setXattr(this.#volume, ino, name, value, flags, dropsSetgid);
  }

  listxattr(caller: Caller, ino: Ino): MaybePromise<readonly ByteString[]> {
    return listXattrs(this.#volume, caller, ino);
  }

  removexattr(ino: Ino, name: ByteString): MaybePromise<void> {
    return removeXattr(this.#volume, ino, name);
  }

  getflags(ino: Ino): MaybePromise<number> {
    return getInodeFlags(this.#volume, ino);
  }

  setflags(ino: Ino, flags: number): MaybePromise<void> {
    return setInodeFlags(this.#volume, ino, flags);
  }

  async #freeBytes(): Promise<number> {
    const space = await this.#space?.();
    return space?.free ?? unknownFreeBytes;
  }

  async statfs(): Promise<SpaceStatistics> {
    const { files, bytes } = this.#volume.statistics();
    const freeBytes = await this.#freeBytes();
    // What others keep in the same place is neither ours nor free. The total is what this volume could grow to.
    return { totalBytes: Math.max(0, bytes) + freeBytes, freeBytes, files };
  }
}
