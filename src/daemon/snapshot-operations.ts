/**
 * The mount with a folder of snapshots in every folder (doc/past.md, "The folder of snapshots"): requests for what lies
 * in it are answered from `vfs/snapshot-tree.ts`, all others go on to the filesystem below. The folder is found by its
 * name, is not listed, and gives way to a real entry of that name.
 */
import type { ByteString } from '../base/brand.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { O_ACCMODE } from '../fuse/abi.js';
import type {
  AttributeReply,
  ConnectionInfo,
  DirentSink,
  Entry,
  FilesystemStatistics,
  FuseOperations,
  NodeId,
  Notifier,
  OpenReply,
  RequestContext,
  SetAttributes,
} from '../fuse/operations.js';
import { rootNodeId } from '../fuse/operations.js';
import type { Ino } from '../meta/key.js';
import type { InodeAttributes } from '../vfs/attributes.js';
import { isSnapshotNumber } from '../vfs/snapshot-numbers.js';
import type { SnapshotTree } from '../vfs/snapshot-tree.js';
import { VfsError } from '../vfs/vfs-error.js';
import type { CacheValidity } from './kernel-cache.js';
import { statusAttribute } from './status-attribute.js';

/** What stands below, and which inode a node id stands for there. */
export interface SnapshotMount {
  readonly below: FuseOperations;
  readonly inoOf: (nodeId: NodeId) => Ino;
  readonly nodeIdOf: (ino: Ino) => NodeId;
  readonly tree: SnapshotTree;
  /** The name of the folder. */
  readonly name: ByteString;
  /** For what lies in a snapshot, which never changes. */
  readonly validity: CacheValidity;
}

const brief: CacheValidity = { entryMs: 0, attributesMs: 0 };
const absentNow: Entry = { nodeId: 0, generation: 0, entryValidMs: 0, attrValidMs: 0, attributes: undefined };
const noHandle: OpenReply = { handle: 0, keepCache: true, cacheDirectory: true };

const readOnly = (): VfsError => new VfsError('EROFS', 'a snapshot does not change');

export class SnapshotOperations implements FuseOperations {
  readonly #mount: SnapshotMount;
  readonly #below: FuseOperations;
  readonly #tree: SnapshotTree;
  #notifier: Notifier | undefined;

  constructor(mount: SnapshotMount) {
    this.#mount = mount;
    this.#below = mount.below;
    this.#tree = mount.tree;
  }

  attach(notifier: Notifier): void {
    this.#notifier = notifier;
  }

  init(connection: ConnectionInfo): void {
    this.#below.init(connection);
  }

  destroy(): MaybePromise<void> {
    this.#notifier = undefined;
    return this.#below.destroy();
  }

  // Names and attributes.

  lookup(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<Entry> {
    if (isSnapshotNumber(parent)) return this.#lookup(context, parent, name);
    const found = this.#below.lookup(context, parent, name);
    if (name !== this.#mount.name) return found;
    return andThen(found, (entry) => {
      if (entry.nodeId !== 0) return entry;
      return andThen(this.#tree.listIn(this.#mount.inoOf(parent)), (list) => (list ? this.#entry(list, brief) : entry));
    });
  }

  #lookup(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<Entry> {
    return andThen(this.#tree.lookup(parent, name), (found) => {
      if (typeof found === 'number') return this.#below.lookup(context, this.#mount.nodeIdOf(found), '.');
      const { entryMs } = this.#mount.validity;
      if (found) return this.#entry(found, this.#tree.isList(found.ino) ? brief : this.#mount.validity);
      return this.#tree.isList(parent) ? absentNow : { ...absentNow, entryValidMs: entryMs };
    });
  }

  #entry(attributes: InodeAttributes, { entryMs, attributesMs }: CacheValidity): Entry {
    return {
      nodeId: attributes.ino as number as NodeId,
      generation: attributes.generation,
      entryValidMs: entryMs,
      attrValidMs: attributesMs,
      attributes,
    };
  }

  forget(nodeId: NodeId, nlookup: number): void {
    if (!isSnapshotNumber(nodeId)) this.#below.forget(nodeId, nlookup);
  }

  getattr(context: RequestContext, nodeId: NodeId): MaybePromise<AttributeReply> {
    if (!isSnapshotNumber(nodeId)) return this.#below.getattr(context, nodeId);
    const attrValidMs = this.#tree.isList(nodeId) ? 0 : this.#mount.validity.attributesMs;
    return andThen(this.#tree.getattr(nodeId), (attributes) => ({ attrValidMs, attributes }));
  }

  setattr(context: RequestContext, nodeId: NodeId, change: SetAttributes): MaybePromise<AttributeReply> {
    this.#refuse(nodeId);
    return this.#below.setattr(context, nodeId, change);
  }

  readlink(context: RequestContext, nodeId: NodeId): MaybePromise<ByteString> {
    return isSnapshotNumber(nodeId) ? this.#tree.readlink(nodeId) : this.#below.readlink(context, nodeId);
  }

  symlink(context: RequestContext, parent: NodeId, name: ByteString, target: ByteString): MaybePromise<Entry> {
    this.#refuse(parent);
    return this.#below.symlink(context, parent, name, target);
  }

  mknod(context: RequestContext, parent: NodeId, name: ByteString, mode: number, rdev: number): MaybePromise<Entry> {
    this.#refuse(parent);
    return this.#below.mknod(context, parent, name, mode, rdev);
  }

  mkdir(context: RequestContext, parent: NodeId, name: ByteString, mode: number): MaybePromise<Entry> {
    this.#refuse(parent);
    return this.#below.mkdir(context, parent, name, mode);
  }

  unlink(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void> {
    this.#refuse(parent);
    return this.#below.unlink(context, parent, name);
  }

  rmdir(context: RequestContext, parent: NodeId, name: ByteString): MaybePromise<void> {
    this.#refuse(parent);
    return this.#below.rmdir(context, parent, name);
  }

  rename(context: RequestContext, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): MaybePromise<void> {
    this.#refuse(parent);
    this.#refuse(newParent);
    return this.#below.rename(context, parent, name, newParent, newName, flags);
  }

  link(context: RequestContext, nodeId: NodeId, newParent: NodeId, newName: ByteString): MaybePromise<Entry> {
    this.#refuse(newParent);
    // The snapshot and the present are two filesystems that share a device number.
    if (isSnapshotNumber(nodeId)) throw new VfsError('EXDEV', 'a link cannot lead into a snapshot');
    return this.#below.link(context, nodeId, newParent, newName);
  }

  // Content.

  open(context: RequestContext, nodeId: NodeId, flags: number): MaybePromise<OpenReply | undefined> {
    if (!isSnapshotNumber(nodeId)) return this.#below.open(context, nodeId, flags);
    if ((flags & O_ACCMODE) !== 0) throw readOnly();
    // Only the answer for a file of the present may say that none is needed.
    return noHandle;
  }

  create(context: RequestContext, parent: NodeId, name: ByteString, mode: number, flags: number): ReturnType<FuseOperations['create']> {
    this.#refuse(parent);
    return this.#below.create(context, parent, name, mode, flags);
  }

  tmpfile(context: RequestContext, parent: NodeId, mode: number, flags: number): ReturnType<FuseOperations['tmpfile']> {
    this.#refuse(parent);
    return this.#below.tmpfile(context, parent, mode, flags);
  }

  read(context: RequestContext, nodeId: NodeId, offset: number, size: number, keepsAccessTime: boolean): ReturnType<FuseOperations['read']> {
    if (isSnapshotNumber(nodeId)) return this.#tree.read(context, nodeId, offset, size);
    return this.#below.read(context, nodeId, offset, size, keepsAccessTime);
  }

  /**
   * The kernel opens files by itself, and takes what is written into its cache, so that the application hears of the
   * refusal when it closes the file.
   */
  write(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): MaybePromise<void> {
    if (!isSnapshotNumber(nodeId)) return this.#below.write(context, nodeId, offset, data, killSuidgid);
    return this.#forgetContent(nodeId).then(() => {
      throw readOnly();
    });
  }

  /** The kernel drops what was written to the file, and finds it anew under another number. */
  async #forgetContent(nodeId: NodeId): Promise<void> {
    for (const { parent, name } of await this.#tree.renew(nodeId)) this.#notifier?.invalidateEntry(parent as number as NodeId, name);
    this.#notifier?.invalidateInode(nodeId, 0, 0);
  }

  flush(context: RequestContext, nodeId: NodeId): MaybePromise<void> {
    return isSnapshotNumber(nodeId) ? undefined : this.#below.flush(context, nodeId);
  }

  fsync(context: RequestContext, nodeId: NodeId, dataOnly: boolean): MaybePromise<void> {
    return isSnapshotNumber(nodeId) ? undefined : this.#below.fsync(context, nodeId, dataOnly);
  }

  release(context: RequestContext, nodeId: NodeId, handle: number): MaybePromise<void> {
    return isSnapshotNumber(nodeId) ? undefined : this.#below.release(context, nodeId, handle);
  }

  fallocate(context: RequestContext, nodeId: NodeId, offset: number, length: number, mode: number): MaybePromise<void> {
    this.#refuse(nodeId);
    return this.#below.fallocate(context, nodeId, offset, length, mode);
  }

  lseek(context: RequestContext, nodeId: NodeId, offset: number, whence: number): MaybePromise<number> {
    if (!isSnapshotNumber(nodeId)) return this.#below.lseek(context, nodeId, offset, whence);
    if (!Number.isSafeInteger(offset)) throw new VfsError('ENXIO', 'outside of every file');
    return this.#tree.seek(nodeId, offset, whence);
  }

  copyFileRange(context: RequestContext, nodeId: NodeId, offset: number, toNodeId: NodeId, toOffset: number, length: number): MaybePromise<number> {
    this.#refuse(toNodeId);
    // The caller then copies byte for byte.
    if (isSnapshotNumber(nodeId)) throw new VfsError('EXDEV', 'chunks of a snapshot are shared by "sealdrive restore"');
    return this.#below.copyFileRange(context, nodeId, offset, toNodeId, toOffset, length);
  }

  // Folders.

  opendir(context: RequestContext, nodeId: NodeId): MaybePromise<OpenReply | undefined> {
    return isSnapshotNumber(nodeId) ? noHandle : this.#below.opendir(context, nodeId);
  }

  readdir(context: RequestContext, nodeId: NodeId, handle: number, cookie: number, sink: DirentSink, plus: boolean): MaybePromise<void> {
    if (!isSnapshotNumber(nodeId)) return this.#below.readdir(context, nodeId, handle, cookie, sink, plus);
    return this.#tree.readdir(nodeId, cookie, plus, ({ name, ino, mode, cookie: at, attributes }) =>
      sink.add(name, ino, mode, at, attributes && this.#entry(attributes, this.#mount.validity)),
    );
  }

  releasedir(context: RequestContext, nodeId: NodeId, handle: number): MaybePromise<void> {
    return isSnapshotNumber(nodeId) ? undefined : this.#below.releasedir(context, nodeId, handle);
  }

  fsyncdir(context: RequestContext, nodeId: NodeId, dataOnly: boolean): MaybePromise<void> {
    return isSnapshotNumber(nodeId) ? undefined : this.#below.fsyncdir(context, nodeId, dataOnly);
  }

  statfs(context: RequestContext, nodeId: NodeId): MaybePromise<FilesystemStatistics> {
    return this.#below.statfs(context, isSnapshotNumber(nodeId) ? rootNodeId : nodeId);
  }

  syncfs(context: RequestContext, nodeId: NodeId): MaybePromise<void> {
    return this.#below.syncfs(context, isSnapshotNumber(nodeId) ? rootNodeId : nodeId);
  }

  // Extended attributes and flags.

  getxattr(context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<Uint8Array> {
    if (!isSnapshotNumber(nodeId)) return this.#below.getxattr(context, nodeId, name);
    if (name === statusAttribute) throw new VfsError('ENODATA', 'what is in a snapshot has no status');
    return this.#tree.getxattr(nodeId, name);
  }

  setxattr(context: RequestContext, nodeId: NodeId, name: ByteString, value: Uint8Array, flags: number, killSgid: boolean): MaybePromise<void> {
    this.#refuse(nodeId);
    return this.#below.setxattr(context, nodeId, name, value, flags, killSgid);
  }

  listxattr(context: RequestContext, nodeId: NodeId): MaybePromise<readonly ByteString[]> {
    return isSnapshotNumber(nodeId) ? this.#tree.listxattr(context, nodeId) : this.#below.listxattr(context, nodeId);
  }

  removexattr(context: RequestContext, nodeId: NodeId, name: ByteString): MaybePromise<void> {
    this.#refuse(nodeId);
    return this.#below.removexattr(context, nodeId, name);
  }

  getflags(context: RequestContext, nodeId: NodeId): MaybePromise<number> {
    if (isSnapshotNumber(nodeId)) return this.#tree.getflags(nodeId);
    return this.#below.getflags?.(context, nodeId) ?? 0;
  }

  setflags(context: RequestContext, nodeId: NodeId, flags: number): MaybePromise<void> {
    this.#refuse(nodeId);
    return this.#below.setflags?.(context, nodeId, flags);
  }

  #refuse(nodeId: NodeId): void {
    if (isSnapshotNumber(nodeId)) throw readOnly();
  }
}
