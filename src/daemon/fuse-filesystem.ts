/**
 * The adapter between FUSE and the filesystem: each request of the kernel becomes a call of `vfs`, with inode numbers
 * in place of node ids. What the kernel may keep, and what it is told, is in `kernel-cache.ts`; which errno an error
 * becomes, in `errno.ts` (doc/architecture.md, "A read" and "A write").
 *
 * There are no file handles: `open` and `create` answer that none are needed, so the kernel opens files by itself,
 * makes them with MKNOD and sends neither OPEN nor RELEASE. O_TRUNC must therefore come as SETATTR (no
 * FUSE_ATOMIC_O_TRUNC). Only where access times are to be exact does the kernel ask at each open whether it may answer
 * reads from its cache.
 */
import type { ByteString } from '../base/brand.js';
import { copyOfBytes } from '../base/bytes.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { O_ACCMODE, O_NOATIME, O_WRONLY } from '../fuse/abi.js';
import type {
  AttributeReply,
  ConnectionInfo,
  DirentSink,
  Entry,
  FilesystemStatistics,
  FuseOperations,
  NodeId,
  OpenReply,
  RequestContext,
  SetAttributes,
} from '../fuse/operations.js';
import type { Ino } from '../meta/key.js';
import type { InodeAttributes } from '../vfs/attributes.js';
import { SEEK_DATA } from '../vfs/content.js';
import type { Filesystem } from '../vfs/filesystem.js';
import type { Removed } from '../vfs/naming.js';
import { RENAME_EXCHANGE } from '../vfs/naming.js';
import { VfsError } from '../vfs/vfs-error.js';
import type { Volume } from '../volume/volume.js';
import type { KernelCache } from './kernel-cache.js';
import { readStatusAttribute, refuseReserved, statusAttribute } from './status-attribute.js';

const blockSize = 4096;
const setIdBits = 0o6000;
/** Never used up. Files and free files together fit into the 32 bits of old programs. */
const freeFiles = 2 ** 31;
/** Somebody may keep writing into the hole that is being looked at; after this many rounds any answer is as good. */
const lseekRoundsMax = 16;
const noHandle: OpenReply = { handle: 0, keepCache: true };

export class FuseFilesystem implements FuseOperations {
  readonly #filesystem: Filesystem;
  readonly #cache: KernelCache;
  readonly #standing: Pick<Volume, 'fileStatus'> | undefined;

  /** `standing` answers where files stand; without it there is no status attribute. */
  constructor(filesystem: Filesystem, cache: KernelCache, standing?: Pick<Volume, 'fileStatus'>) {
    this.#filesystem = filesystem;
    this.#cache = cache;
    this.#standing = standing;
  }

  init(connection: ConnectionInfo): void {
    this.#cache.init(connection);
    if (connection.writebackCache) this.#filesystem.leaveContentTimesToCaller();
  }

  async destroy(): Promise<void> {
    this.#cache.clear();
    await this.#filesystem.stop();
  }

  #inoOf(nodeId: NodeId): Ino {
    return this.#cache.inoOf(nodeId);
  }

  #entry(parent: NodeId, name: ByteString, attributes: InodeAttributes): Entry {
    const entry = this.#cache.entry(attributes);
    this.#cache.refer(entry.nodeId, attributes.mode, parent, name);
    return entry;
  }

  lookup(_context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<Entry> {
    return andThen(this.#filesystem.lookup(this.#inoOf(parent), name), (found) =>
      found === undefined ? this.#cache.absent : this.#entry(parent, name, found),
    );
  }

  forget(nodeId: NodeId, nlookup: number): void {
    const ino = this.#cache.forget(nodeId, nlookup);
    if (ino !== undefined) this.#filesystem.forget(ino);
  }

  getattr(_context: RequestContext, nodeId: NodeId): MaybePromise<AttributeReply> {
    return andThen(this.#filesystem.getattr(this.#inoOf(nodeId)), (attributes) => this.#cache.attributes(attributes));
  }

  setattr(context: RequestContext, nodeId: NodeId, change: SetAttributes): MaybePromise<AttributeReply> {
    return andThen(this.#filesystem.setattr(this.#inoOf(nodeId), change, context), (attributes) => this.#cache.attributes(attributes));
  }

  readlink(_context: RequestContext, nodeId: NodeId): MaybePromise<ByteString> {
    return this.#filesystem.readlink(this.#inoOf(nodeId));
  }

  symlink(context: RequestContext, parent: NodeId, name: ByteString, target: ByteString): MaybePromise<Entry> {
    return andThen(this.#filesystem.symlink(context, this.#inoOf(parent), name, target), (made) => this.#entry(parent, name, made));
  }

  mknod(context: RequestContext, parent: NodeId, name: ByteString, mode: number, rdev: number): MaybePromise<Entry> {
    return andThen(this.#filesystem.mknod(context, this.#inoOf(parent), name, mode, rdev), (made) => this.#entry(parent, name, made));
  }

  mkdir(context: RequestContext, parent: NodeId, name: ByteString, mode: number): MaybePromise<Entry> {
    return andThen(this.#filesystem.mkdir(context, this.#inoOf(parent), name, mode), (made) => this.#entry(parent, name, made));
  }

  unlink(_context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void> {
    return andThen(this.#filesystem.unlink(this.#inoOf(parent), name), (removed) => this.#removed(parent, name, removed));
  }

  rmdir(_context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void> {
    return andThen(this.#filesystem.rmdir(this.#inoOf(parent), name), (removed) => this.#removed(parent, name, removed));
  }

  #removed(parent: NodeId, name: ByteString, { ino, orphaned }: Removed): void {
    this.#cache.removed(ino, parent, name);
    // No FORGET will come for an inode that the kernel does not know.
    if (orphaned && !this.#cache.isKnown(this.#cache.nodeIdOf(ino))) this.#filesystem.forget(ino);
  }

  rename(_context: RequestContext, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): MaybePromise<void> {
    return andThen(this.#filesystem.rename(this.#inoOf(parent), name, this.#inoOf(newParent), newName, flags), ({ ino, other, orphaned }) => {
      if (other !== undefined) {
        if ((flags & RENAME_EXCHANGE) !== 0) this.#cache.renamed(other, newParent, newName, parent, name);
        else this.#removed(newParent, newName, { ino: other, orphaned });
      }
      this.#cache.renamed(ino, parent, name, newParent, newName);
    });
  }

  link(_context: RequestContext, nodeId: NodeId, newParent: NodeId, newName: ByteString): MaybePromise<Entry> {
    return andThen(this.#filesystem.link(this.#inoOf(nodeId), this.#inoOf(newParent), newName), (linked) => this.#entry(newParent, newName, linked));
  }

  open(_context: RequestContext, nodeId: NodeId, flags: number): MaybePromise<OpenReply | undefined> {
    if (!this.#filesystem.hasExactAccessTimes) return undefined;
    if ((flags & O_ACCMODE) === O_WRONLY || (flags & O_NOATIME) !== 0) return noHandle;
    return andThen(this.#filesystem.readMovesTime(this.#inoOf(nodeId)), (moves) => ({ handle: 0, keepCache: !moves }));
  }

  create(_context: RequestContext, _parent: NodeId, _name: ByteString, _mode: number, _flags: number): undefined {
    return undefined;
  }

  tmpfile(context: RequestContext, parent: NodeId, mode: number, _flags: number): MaybePromise<{ entry: Entry; open: OpenReply }> {
    return andThen(this.#filesystem.tmpfile(context, this.#inoOf(parent), mode), (made) => ({
      entry: this.#entry(parent, '', made),
      open: noHandle,
    }));
  }

  read(context: RequestContext, nodeId: NodeId, offset: number, size: number, keepsAccessTime: boolean): MaybePromise<readonly Uint8Array[]> {
    this.#cache.reading(nodeId);
    return this.#filesystem.read(context, this.#inoOf(nodeId), offset, size, keepsAccessTime);
  }

  /** `data` is the driver's buffer: it is copied here, once, and everything below owns the copy. */
  write(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): MaybePromise<void> {
    return this.#writeOwned(context, nodeId, offset, copyOfBytes(data), killSuidgid);
  }

  #writeOwned(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): MaybePromise<void> {
    const turn = this.#cache.heldUntil(nodeId) ?? this.#filesystem.writeRoom();
    // Which inode the node id stands for is known only after the wait.
    if (turn !== undefined) return turn.then(() => this.#writeOwned(context, nodeId, offset, data, killSuidgid));
    this.#cache.writing(nodeId);
    const mayDropBits = killSuidgid && this.#mayHaveSetId(nodeId);
    const written = this.#filesystem.write(context, this.#inoOf(nodeId), offset, data, killSuidgid);
    // A write past the kernel's cache drops set-id bits, and the kernel does not look at the mode again by itself.
    return mayDropBits ? Promise.resolve(written).then(() => this.#cache.expireAttributes(nodeId)) : written;
  }

  #mayHaveSetId(nodeId: NodeId): boolean {
    const found = this.#cache.attributesAtHand(nodeId);
    return found === undefined || (found.mode & setIdBits) !== 0;
  }

  flush(_context: RequestContext, nodeId: NodeId): MaybePromise<void> {
    this.#cache.closing(nodeId);
    return this.#filesystem.persist(this.#inoOf(nodeId));
  }

  async fsync(_context: RequestContext, nodeId: NodeId, _dataOnly: boolean): Promise<void> {
    await this.#filesystem.sync(this.#inoOf(nodeId));
    await this.#cache.synced(nodeId);
  }

  release(_context: RequestContext, _nodeId: NodeId, _handle: number): void {}

  /** No handles: cookies are good for every reader, so the kernel may keep listings. */
  opendir(_context: RequestContext, nodeId: NodeId): MaybePromise<OpenReply | undefined> {
    if (!this.#filesystem.hasExactAccessTimes) return undefined;
    return andThen(this.#filesystem.readMovesTime(this.#inoOf(nodeId)), (moves) => ({ handle: 0, keepCache: !moves, cacheDirectory: !moves }));
  }

  readdir(_context: RequestContext, nodeId: NodeId, _handle: number, cookie: number, sink: DirentSink, plus: boolean): MaybePromise<void> {
    if (!plus)
      return this.#filesystem.readdir(this.#inoOf(nodeId), cookie, false, (entry) => sink.add(entry.name, entry.ino, entry.mode, entry.cookie));
    return this.#filesystem.readdir(this.#inoOf(nodeId), cookie, true, ({ name, ino, mode, cookie: at, attributes }) => {
      if (attributes === undefined) return sink.add(name, ino, mode, at);
      const entry = this.#cache.entry(attributes);
      if (!sink.add(name, ino, mode, at, entry)) return false;
      // A lookup counts only if the kernel gets to see it.
      this.#cache.refer(entry.nodeId, mode, nodeId, name);
      return true;
    });
  }

  releasedir(): void {}

  fsyncdir(_context: RequestContext, _nodeId: NodeId, _dataOnly: boolean): Promise<void> {
    return this.#filesystem.sync();
  }

  async statfs(_context: RequestContext, _nodeId: NodeId): Promise<FilesystemStatistics> {
    const { totalBytes, freeBytes, files } = await this.#filesystem.statfs();
    const bfree = Math.floor(freeBytes / blockSize);
    return {
      blocks: Math.ceil(totalBytes / blockSize),
      bfree,
      bavail: bfree,
      files: files + freeFiles,
      ffree: freeFiles,
      bsize: blockSize,
      frsize: blockSize,
      namelen: 255,
    };
  }

  getxattr(_context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<Uint8Array> {
    if (name === statusAttribute && this.#standing) return readStatusAttribute(this.#standing, this.#inoOf(nodeId));
    return this.#filesystem.getxattr(this.#inoOf(nodeId), name);
  }

  setxattr(_context: RequestContext, nodeId: NodeId, name: ByteString, value: Uint8Array, flags: number, killSgid: boolean): MaybePromise<void> {
    refuseReserved(name);
    return this.#filesystem.setxattr(this.#inoOf(nodeId), name, value, flags, killSgid);
  }

  listxattr(context: RequestContext, nodeId: NodeId): MaybePromise<readonly ByteString[]> {
    return this.#filesystem.listxattr(context, this.#inoOf(nodeId));
  }

  removexattr(_context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<void> {
    refuseReserved(name);
    return this.#filesystem.removexattr(this.#inoOf(nodeId), name);
  }

  fallocate(_context: RequestContext, nodeId: NodeId, offset: number, length: number, mode: number): MaybePromise<void> {
    return this.#filesystem.allocate(this.#inoOf(nodeId), offset, length, mode);
  }

  /**
   * The kernel asks without having written back what applications wrote, so what looks like a hole here may be data
   * there (and cp would lose it). Wherever the answer rests on a hole, the kernel is first made to write that hole's
   * pages back. Clean pages of a hole are zeros, so little is lost by dropping them; a file without holes costs nothing
   * but its end.
   */
  async lseek(context: RequestContext, nodeId: NodeId, offset: number, whence: number): Promise<number> {
    if (!Number.isSafeInteger(offset)) throw new VfsError('ENXIO', 'outside of every file');
    let found = await this.#find(nodeId, offset, whence);
    for (let round = 0; round < lseekRoundsMax && !context.signal.aborted; round++) {
      // The supposed hole: everything before the data that was found, or what follows the beginning of a hole that was
      // found.
      const from = whence === SEEK_DATA ? offset : (found ?? offset);
      const to = whence === SEEK_DATA ? found : await this.#find(nodeId, from, SEEK_DATA);
      if (to !== undefined && to <= from) break;
      if (!(await this.#cache.writeBack(nodeId, from, to === undefined ? 0 : to - from))) break;
      const again = await this.#find(nodeId, offset, whence);
      if (again === found) break;
      found = again;
    }
    if (found === undefined) throw new VfsError('ENXIO', 'past the end of the file');
    return found;
  }

  async #find(nodeId: NodeId, offset: number, whence: number): Promise<number | undefined> {
    try {
      return await this.#filesystem.seek(this.#inoOf(nodeId), offset, whence);
    } catch (error) {
      if (error instanceof VfsError && error.code === 'ENXIO') return undefined;
      throw error;
    }
  }

  copyFileRange(context: RequestContext, nodeId: NodeId, offset: number, toNodeId: NodeId, toOffset: number, length: number): Promise<number> {
    return this.#filesystem.copyRange(context, this.#inoOf(nodeId), offset, this.#inoOf(toNodeId), toOffset, length);
  }

  getflags(_context: RequestContext, nodeId: NodeId): MaybePromise<number> {
    return this.#filesystem.getflags(this.#inoOf(nodeId));
  }

  async setflags(_context: RequestContext, nodeId: NodeId, flags: number): Promise<void> {
    // Earlier writes are written back first, since the flag may forbid writing.
    await this.#cache.writeBack(nodeId, 0, 0);
    await this.#filesystem.setflags(this.#inoOf(nodeId), flags);
  }

  syncfs(_context: RequestContext, _nodeId: NodeId): Promise<void> {
    return this.#filesystem.sync();
  }
}
