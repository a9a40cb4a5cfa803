/**
 * The filesystem in FUSE's words: what the kernel asks, answered by vfs, and what the kernel may keep for how long. Node ids are inode
 * numbers, but for what node-aliases.ts knows. There are no file handles: `open` and `create` answer that none are needed, so the kernel opens
 * files by itself, makes them with MKNOD and sends neither OPEN nor RELEASE (so O_TRUNC must come as SETATTR: no FUSE_ATOMIC_O_TRUNC). Only where
 * access times are to be exact the kernel asks at each open whether it may answer reads from its cache.
 *
 * Everything that this machine changes passes the kernel, and what others change is invalidated here: so entries and attributes stay valid
 * for long.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { ByteString } from '../base/brand.js';
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js';
import { O_NOATIME } from '../fuse/abi.js';
import {
  type AttributeReply,
  type Attributes,
  type ConnectionInfo,
  type DirentSink,
  type Entry,
  type FilesystemStatistics,
  type FuseOperations,
  type NodeId,
  type Notifier,
  type OpenReply,
  type RequestContext,
  rootNodeId,
  type SetAttributes,
} from '../fuse/operations.js';
import { S_IFDIR, S_IFMT, S_IFREG } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';
import type { InodeAttributes } from '../vfs/attributes.js';
import { SEEK_DATA } from '../vfs/content.js';
import type { Filesystem } from '../vfs/filesystem.js';
import type { Removed } from '../vfs/naming.js';
import { RENAME_EXCHANGE } from '../vfs/naming.js';
import { VfsError } from '../vfs/vfs-error.js';
import type { RemoteChange, RemoteChangeListener, Volume } from '../volume/volume.js';
import { InodeNames } from './inode-names.js';
import { InodeReferences } from './inode-references.js';
import { NodeAliases } from './node-aliases.js';
import { StaleInodes } from './stale-inodes.js';
import { readStatusAttribute, refuseReserved, statusAttribute } from './status-attribute.js';

export interface CacheValidity {
  /** How long the kernel may keep names (also absent ones) and attributes without asking, in milliseconds. */
  readonly entryMs: number;
  readonly attributesMs: number;
}

/** For a driver that can invalidate. */
export const lastingValidity: CacheValidity = { entryMs: 86_400_000, attributesMs: 86_400_000 };
/** For one that cannot. */
export const briefValidity: CacheValidity = { entryMs: 1000, attributesMs: 1000 };

const blockSize = 4096;
const setIdBits = 0o6000;
/** Never used up: device ranges hold 2^40 inode numbers each. */
const freeFiles = 2 ** 40;
/** Someone may go on writing into the hole that is being looked at; then any answer is as good. */
const lseekRoundsMax = 16;
/** Files in use that are told of at once when another device made them longer. */
const growthsMax = 1000;
const noHandle: OpenReply = { handle: 0, keepCache: true };
// <fcntl.h>
const [O_WRONLY, O_ACCMODE] = [1, 3];

/** Something else may keep the pages locked (a read that waits for the store, a truncation that waits for room): commits must not wait for that. */
const collectTimeoutMs = 10_000;

export class FuseFilesystem implements FuseOperations, RemoteChangeListener {
  readonly #filesystem: Filesystem;
  readonly #validity: CacheValidity;
  readonly #standing: Pick<Volume, 'fileStatus'> | undefined;
  readonly #references = new InodeReferences();
  readonly #aliases = new NodeAliases((nodeId) => this.#references.has(nodeId));
  /** Of the change that is about to become visible: what the kernel has written back, and has not read again since. */
  readonly #collected = new Set<NodeId>();
  readonly #stale = new StaleInodes((nodeIds) => this.#dropInodes(nodeIds));
  /** Where writes wait. */
  #held: { readonly nodeIds: ReadonlySet<NodeId>; readonly ended: Promise<void>; readonly end: () => void } | undefined;
  /** Where inodes cannot be dropped by number. */
  #names: InodeNames | undefined;
  /** Blocks that the kernel counts at files that were written since: it counts none by itself, and asks again only after a close. */
  readonly #blocksKnown = new Map<NodeId, number | undefined>();
  #isWritebackCached = false;
  readonly #absent: Entry;
  #notifier: Notifier | undefined;

  /** `standing`: who tells where files stand; without it there is no attribute that does. */
  constructor(filesystem: Filesystem, validity: CacheValidity = lastingValidity, standing?: Pick<Volume, 'fileStatus'>) {
    this.#filesystem = filesystem;
    this.#standing = standing;
    this.#validity = validity;
    this.#absent = { nodeId: 0, generation: 0, entryValidMs: validity.entryMs, attrValidMs: 0, attributes: undefined };
  }

  /** Once mounted: from here on the kernel is told what others change. */
  attach(notifier: Notifier): void {
    this.#notifier = notifier;
  }

  // What other devices change (doc/concurrency.md, "Kernel caches").

  async collect(change: RemoteChange): Promise<boolean> {
    const notifier = this.#notifier;
    if (notifier === undefined || !this.#isWritebackCached) return true;
    this.#collected.clear();
    for (const ino of change.contents) {
      const nodeId = this.#nodeIdOf(ino);
      if (!this.#isKnown(nodeId)) continue;
      this.#collected.add(nodeId);
      notifier.invalidateInode(nodeId, 0, 0);
    }
    const over = new AbortController();
    const late = wait(collectTimeoutMs, false, { signal: over.signal, ref: false }).catch(() => false);
    const isDone = await Promise.race([notifier.settled().then(() => true), late]);
    over.abort();
    return isDone;
  }

  isCollected(change: RemoteChange): boolean {
    if (this.#notifier === undefined || !this.#isWritebackCached) return true;
    for (const ino of change.contents) {
      const nodeId = this.#nodeIdOf(ino);
      if (this.#isKnown(nodeId) && !this.#collected.has(nodeId)) return false;
    }
    return true;
  }

  hold(change: RemoteChange): void {
    const nodeIds = new Set<NodeId>();
    for (const ino of change.contents) nodeIds.add(this.#nodeIdOf(ino));
    let end!: () => void;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#held = { nodeIds, ended, end };
  }

  goOn(): void {
    this.#held?.end();
    this.#held = undefined;
  }

  changed(change: RemoteChange): void {
    this.#collected.clear();
    const notifier = this.#notifier;
    if (notifier === undefined) return;
    for (const copy of change.copies) this.#follow(notifier, copy);
    for (const { parent, name } of change.entries) this.#invalidateEntry(notifier, parent, name);
    const changed: NodeId[] = [];
    for (const ino of change.inodes) {
      const nodeId = this.#nodeIdOf(ino);
      if (!this.#isKnown(nodeId)) continue;
      if (change.contents.has(ino)) {
        notifier.invalidateInode(nodeId, 0, 0);
        changed.push(nodeId);
      } else {
        notifier.invalidateInode(nodeId, -1, 0);
      }
    }
    if (changed.length === 0) return;
    this.#dropInodes(changed);
    if (!this.#isWritebackCached) return;
    // Its size the kernel takes only with a new inode (writeback cache), so the old one has to go.
    this.#stale.add(changed);
    void this.#tellGrowth(notifier, changed);
  }

  /** Those that nobody uses. */
  #dropInodes(nodeIds: readonly NodeId[]): void {
    if (this.#names === undefined) this.#notifier?.pruneInodes(nodeIds);
    else for (const nodeId of nodeIds) this.#names.drop(nodeId);
  }

  /** Whoever has the file open goes on in the copy; whoever looks its name up from now on meets what the other device wrote. */
  #follow(notifier: Notifier, { ino, copy, parent, name, isLinked }: ConflictCopy): void {
    const nodeId = this.#nodeIdOf(ino);
    if (!this.#isKnown(nodeId)) return;
    this.#aliases.follow(ino, copy);
    if (this.#names !== undefined) this.#names.drop(nodeId);
    else if (isLinked || parent === undefined) notifier.expireEntries();
    else this.#invalidateEntry(notifier, parent, name);
  }

  #invalidateEntry(notifier: Notifier, parent: Ino, name: ByteString): void {
    const nodeId = this.#nodeIdOf(parent);
    if (this.#isKnown(nodeId)) notifier.invalidateEntry(nodeId, name);
  }

  #inoOf(nodeId: NodeId): Ino {
    return this.#aliases.inoOf(nodeId);
  }

  #nodeIdOf(ino: Ino): NodeId {
    return this.#aliases.nodeIdOf(ino);
  }

  /** The kernel is told only about what it knows; the root it knows always. */
  #isKnown(nodeId: NodeId): boolean {
    return nodeId === rootNodeId || this.#references.has(nodeId);
  }

  /**
   * Files that are in use were not dropped, and the kernel still believes in their old sizes. Growth it can be told of, by handing it the last
   * byte. Of a file that became shorter it cannot: its users read zeros there until it is dropped, when nobody has it open (doc/semantics.md, "Other devices").
   */
  async #tellGrowth(notifier: Notifier, changed: readonly NodeId[]): Promise<void> {
    await notifier.settled();
    // What the kernel let go of is said in FORGETs, which are there by now and are read in the next turns.
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    let told = 0;
    for (const nodeId of changed) {
      if (this.#notifier === undefined || told >= growthsMax) return;
      if (!this.#references.has(nodeId)) continue;
      try {
        const { mode, size } = await this.#filesystem.getattr(this.#inoOf(nodeId));
        if ((mode & S_IFMT) !== S_IFREG || size === 0) continue;
        const { signal } = new AbortController();
        const [last] = await this.#filesystem.read({ uid: 0, gid: 0, umask: 0, signal }, this.#inoOf(nodeId), size - 1, 1, true);
        if (last?.byteLength === 1) notifier.storeContent(nodeId, size - 1, last);
        told++;
      } catch {
        // Gone meanwhile, or its content is out of reach: whoever reads the file learns it then, with the errno that says why.
      }
    }
  }

  init(connection: ConnectionInfo): void {
    this.#isWritebackCached = connection.writebackCache;
    if (connection.writebackCache) this.#filesystem.leaveContentTimesToCaller();
    if (!connection.prune) this.#names = new InodeNames((parent, name) => this.#notifier?.invalidateEntry(parent, name));
  }

  async destroy(): Promise<void> {
    this.#notifier = undefined;
    this.#references.clear();
    this.#stale.clear();
    this.#names?.clear();
    this.#aliases.clear();
    this.#blocksKnown.clear();
    this.goOn();
    await this.#filesystem.stop();
  }

  #entry(parent: NodeId, name: ByteString, attributes: InodeAttributes): Entry {
    const nodeId = this.#nodeIdOf(attributes.ino);
    this.#refer(nodeId, attributes.mode, parent, name);
    return { nodeId, generation: attributes.generation, entryValidMs: this.#validity.entryMs, attrValidMs: this.#validity.attributesMs, attributes };
  }

  /** The kernel gets one more reference, by this name (none: ''). */
  #refer(nodeId: NodeId, mode: number, parent: NodeId, name: ByteString): void {
    this.#references.refer(nodeId);
    if (this.#names !== undefined && name !== '' && name !== '.' && name !== '..' && (mode & S_IFMT) !== S_IFDIR)
      this.#names.add(nodeId, parent, name);
  }

  #attributes(attributes: Attributes): AttributeReply {
    return { attrValidMs: this.#validity.attributesMs, attributes };
  }

  lookup(_context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<Entry> {
    return andThen(this.#filesystem.lookup(this.#inoOf(parent), name), (found) =>
      found === undefined ? this.#absent : this.#entry(parent, name, found),
    );
  }

  forget(nodeId: NodeId, nlookup: number): void {
    if (!this.#references.forget(nodeId, nlookup)) return;
    this.#names?.forget(nodeId);
    this.#stale.forget(nodeId);
    this.#blocksKnown.delete(nodeId);
    this.#filesystem.forget(this.#inoOf(nodeId));
    this.#aliases.forget(nodeId);
  }

  getattr(_context: RequestContext, nodeId: NodeId): MaybePromise<AttributeReply> {
    return andThen(this.#filesystem.getattr(this.#inoOf(nodeId)), (attributes) => this.#attributes(attributes));
  }

  setattr(context: RequestContext, nodeId: NodeId, change: SetAttributes): MaybePromise<AttributeReply> {
    return andThen(this.#filesystem.setattr(this.#inoOf(nodeId), change, context), (attributes) => this.#attributes(attributes));
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
    const nodeId = this.#nodeIdOf(ino);
    this.#names?.removed(nodeId, parent, name);
    // No FORGET will come for what the kernel does not know.
    if (orphaned && !this.#references.has(nodeId)) this.#filesystem.forget(ino);
  }

  rename(_context: RequestContext, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): MaybePromise<void> {
    return andThen(this.#filesystem.rename(this.#inoOf(parent), name, this.#inoOf(newParent), newName, flags), ({ ino, other, orphaned }) => {
      if (other !== undefined) {
        if ((flags & RENAME_EXCHANGE) !== 0) this.#names?.renamed(this.#nodeIdOf(other), newParent, newName, parent, name);
        else this.#removed(newParent, newName, { ino: other, orphaned });
      }
      this.#names?.renamed(this.#nodeIdOf(ino), parent, name, newParent, newName);
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
    if (this.#collected.size > 0) this.#collected.delete(nodeId);
    return this.#filesystem.read(context, this.#inoOf(nodeId), offset, size, keepsAccessTime);
  }

  write(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): MaybePromise<void> {
    const turn = this.#held?.nodeIds.has(nodeId) === true ? this.#held.ended : this.#filesystem.writeRoom();
    if (turn !== undefined) {
      // The bytes are the driver's; and which inode this is, is known only afterwards.
      const kept = new Uint8Array(data);
      return turn.then(() => this.write(context, nodeId, offset, kept, killSuidgid));
    }
    const ino = this.#inoOf(nodeId);
    if (!this.#blocksKnown.has(nodeId)) this.#blocksKnown.set(nodeId, this.#attributesAtHand(ino)?.blocks);
    const mayDropBits = killSuidgid && this.#mayHaveSetId(ino);
    const written = this.#filesystem.write(context, ino, offset, data, killSuidgid);
    return mayDropBits ? this.#tellMode(nodeId, written) : written;
  }

  #mayHaveSetId(ino: Ino): boolean {
    const found = this.#attributesAtHand(ino);
    return found === undefined || (found.mode & setIdBits) !== 0;
  }

  /** Where they are in memory. */
  #attributesAtHand(ino: Ino): Attributes | undefined {
    const found = this.#filesystem.getattr(ino);
    if (!isPromise(found)) return found;
    // Whoever asks gets the error of the operation, if there is one.
    found.catch(() => {});
    return undefined;
  }

  /** What is in the store or the journal now has its blocks counted. */
  async #tellBlocks(nodeId: NodeId): Promise<void> {
    if (this.#notifier === undefined || !this.#blocksKnown.has(nodeId)) return;
    const known = this.#blocksKnown.get(nodeId);
    if (known !== undefined && known === this.#attributesAtHand(this.#inoOf(nodeId))?.blocks) return;
    this.#blocksKnown.delete(nodeId);
    this.#notifier.invalidateInode(nodeId, -1, 0);
    await this.#notifier.settled();
  }

  /** A write past the kernel's cache has dropped set-id bits: the kernel does not look at the mode again by itself. */
  async #tellMode(nodeId: NodeId, written: MaybePromise<void>): Promise<void> {
    await written;
    this.#notifier?.invalidateInode(nodeId, -1, 0);
    await this.#notifier?.settled();
  }

  flush(_context: RequestContext, nodeId: NodeId): MaybePromise<void> {
    // After it the kernel asks for the attributes again.
    this.#blocksKnown.delete(nodeId);
    return this.#filesystem.persist(this.#inoOf(nodeId));
  }

  async fsync(_context: RequestContext, nodeId: NodeId, _dataOnly: boolean): Promise<void> {
    await this.#filesystem.sync(this.#inoOf(nodeId));
    await this.#tellBlocks(nodeId);
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
      const entryNodeId = this.#nodeIdOf(ino);
      const { entryMs: entryValidMs, attributesMs: attrValidMs } = this.#validity;
      const entry = { nodeId: entryNodeId, generation: attributes.generation, entryValidMs, attrValidMs, attributes };
      if (!sink.add(name, ino, mode, at, entry)) return false;
      // A lookup counts only if the kernel gets to see it.
      this.#refer(entryNodeId, mode, nodeId, name);
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
   * The kernel asks without having written back what applications wrote, so what looks like a hole here may be data there (and cp would
   * lose it). Wherever the answer rests on a hole, the kernel is first made to write that hole's pages back. Clean pages of a hole
   * are zeros, so little is lost by dropping them; a file without holes costs nothing but its end.
   */
  async lseek(context: RequestContext, nodeId: NodeId, offset: number, whence: number): Promise<number> {
    if (!Number.isSafeInteger(offset)) throw new VfsError('ENXIO', 'outside of every file');
    let found = await this.#find(nodeId, offset, whence);
    for (let round = 0; this.#notifier !== undefined && round < lseekRoundsMax && !context.signal.aborted; round++) {
      // What is believed to be a hole: all until the data that was found, or what follows the hole's beginning that was found.
      const from = whence === SEEK_DATA ? offset : (found ?? offset);
      const to = whence === SEEK_DATA ? found : await this.#find(nodeId, from, SEEK_DATA);
      if (to !== undefined && to <= from) break;
      this.#notifier.invalidateInode(nodeId, from, to === undefined ? 0 : to - from);
      await this.#notifier.settled();
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
    // What was written before is written back first: a flag that forbids writing must not forbid that.
    this.#notifier?.invalidateInode(nodeId, 0, 0);
    await this.#notifier?.settled();
    await this.#filesystem.setflags(this.#inoOf(nodeId), flags);
  }

  syncfs(_context: RequestContext, _nodeId: NodeId): Promise<void> {
    return this.#filesystem.sync();
  }
}
