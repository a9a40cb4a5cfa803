/**
 * A filesystem in memory, for testing drivers only: files, directories, symbolic links, hard links, extended
 * attributes. It is not a model of the real one. It answers synchronously, without handles, except where a test asks it
 * to wait.
 */
import type { ByteString } from '../../src/base/brand.js';
import { systemClock, type Timespec } from '../../src/base/clock.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import type {
  AttributeReply,
  Attributes,
  ConnectionInfo,
  DirentSink,
  Entry,
  ErrnoOf,
  FilesystemStatistics,
  FuseOperations,
  NodeId,
  OpenReply,
  RequestContext,
  SetAttributes,
} from '../../src/fuse/operations.js';
import { rootNodeId } from '../../src/fuse/operations.js';

const errnos = {
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EROFS: 30,
  ENOTEMPTY: 39,
  ENODATA: 61,
  EOPNOTSUPP: 95,
};
type ErrnoName = keyof typeof errnos;

export class MemoryFilesystemError extends Error {
  readonly errno: number;

  constructor(name: ErrnoName) {
    super(name);
    this.errno = errnos[name];
  }
}

export const memoryErrnoOf: ErrnoOf = (error) => (error instanceof MemoryFilesystemError ? error.errno : errnos.EIO);

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const validMs = 60_000;

interface Node {
  readonly ino: NodeId;
  mode: number;
  uid: number;
  gid: number;
  rdev: number;
  nlink: number;
  lookups: number;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  btime: Timespec;
  /** The content of a file, of which `size` bytes are valid. */
  content: Buffer;
  size: number;
  target: ByteString;
  readonly children: Map<ByteString, NodeId>;
  readonly xattrs: Map<ByteString, Uint8Array>;
  parent: NodeId;
}

export interface MemoryFilesystemOptions {
  /** Awaited before every read, with the caller's signal. */
  readonly beforeRead?: (context: RequestContext) => Promise<void>;
  /** True answers each OPEN; by default there are no handles and no CREATE. */
  readonly withOpen?: boolean;
}

export class MemoryFilesystem implements FuseOperations {
  readonly #nodes = new Map<NodeId, Node>();
  readonly #options: MemoryFilesystemOptions;
  #nextIno = 2;
  connection: ConnectionInfo | undefined;
  destroyed = false;
  /** Every call by name, for tests of the kernel's requests. */
  readonly calls = new Map<string, number>();

  constructor(options: MemoryFilesystemOptions = {}) {
    this.#options = options;
    this.#nodes.set(rootNodeId, this.#blank(rootNodeId, S_IFDIR | 0o755, process.getuid?.() ?? 0, process.getgid?.() ?? 0));
    this.#node(rootNodeId).nlink = 2;
  }

  /** Inodes that exist, reachable or held by the kernel. */
  get nodeCount(): number {
    return this.#nodes.size;
  }

  #count(name: string): void {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
  }

  #blank(ino: NodeId, mode: number, uid: number, gid: number): Node {
    const now = systemClock.now();
    return {
      ino,
      mode,
      uid,
      gid,
      rdev: 0,
      nlink: 1,
      lookups: 0,
      atime: now,
      mtime: now,
      ctime: now,
      btime: now,
      content: Buffer.alloc(0),
      size: 0,
      target: '',
      children: new Map(),
      xattrs: new Map(),
      parent: rootNodeId,
    };
  }

  #node(ino: NodeId): Node {
    const node = this.#nodes.get(ino);
    if (node === undefined) throw new MemoryFilesystemError('ENOENT');
    return node;
  }

  #directory(ino: NodeId): Node {
    const node = this.#node(ino);
    if ((node.mode & S_IFMT) !== S_IFDIR) throw new MemoryFilesystemError('ENOTDIR');
    return node;
  }

  #child(parent: NodeId, name: ByteString): Node {
    const ino = this.#directory(parent).children.get(name);
    if (ino === undefined) throw new MemoryFilesystemError('ENOENT');
    return this.#node(ino);
  }

  #attributes(node: Node): Attributes {
    const size = node.target !== '' ? node.target.length : node.size;
    const { ino, atime, mtime, ctime, btime, mode, nlink, uid, gid, rdev } = node;
    return { ino, size, blocks: Math.ceil(size / 512), atime, mtime, ctime, btime, mode, nlink, uid, gid, rdev, blksize: 4096 };
  }

  #entry(node: Node): Entry {
    node.lookups++;
    return { nodeId: node.ino, generation: 0, entryValidMs: validMs, attrValidMs: validMs, attributes: this.#attributes(node) };
  }

  #touch(node: Node): void {
    node.mtime = node.ctime = systemClock.now();
  }

  #add(context: RequestContext, parent: NodeId, name: ByteString, mode: number): Node {
    const directory = this.#directory(parent);
    if (directory.children.has(name)) throw new MemoryFilesystemError('EEXIST');
    const node = this.#blank(this.#nextIno++ as NodeId, mode, context.uid, context.gid);
    node.parent = parent;
    this.#nodes.set(node.ino, node);
    directory.children.set(name, node.ino);
    if ((mode & S_IFMT) === S_IFDIR) {
      node.nlink = 2;
      directory.nlink++;
    }
    this.#touch(directory);
    return node;
  }

  #dropLink(node: Node): void {
    node.nlink -= (node.mode & S_IFMT) === S_IFDIR ? 2 : 1;
    node.ctime = systemClock.now();
    this.#reap(node);
  }

  #reap(node: Node): void {
    if (node.nlink <= 0 && node.lookups <= 0) this.#nodes.delete(node.ino);
  }

  #resize(node: Node, size: number): void {
    if (size > node.content.length) {
      const grown = Buffer.alloc(Math.max(size, node.content.length * 2));
      node.content.copy(grown, 0, 0, node.size);
      node.content = grown;
    } else if (size < node.size) {
      node.content.fill(0, size, node.size);
    }
    node.size = size;
  }

  /** Makes a change behind the kernel's back. */
  changeBehind(ino: NodeId, content: Uint8Array): void {
    const node = this.#node(ino);
    this.#resize(node, 0);
    this.#resize(node, content.byteLength);
    node.content.set(content);
    this.#touch(node);
  }

  inoOf(name: ByteString): NodeId {
    return this.#child(rootNodeId, name).ino;
  }

  init(connection: ConnectionInfo): void {
    this.connection = connection;
  }

  destroy(): void {
    this.destroyed = true;
  }

  lookup(_context: RequestContext, parent: NodeId, name: ByteString): Entry {
    this.#count('lookup');
    const directory = this.#directory(parent);
    // EXPORT_SUPPORT: the kernel may ask for these two.
    if (name === '.') return this.#entry(directory);
    if (name === '..') return this.#entry(this.#node(directory.parent));
    const ino = directory.children.get(name);
    // A negative entry, which is not cached for the sake of the tests.
    if (ino === undefined) return { nodeId: 0, generation: 0, entryValidMs: 0, attrValidMs: 0, attributes: undefined };
    return this.#entry(this.#node(ino));
  }

  forget(nodeId: NodeId, nlookup: number): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    node.lookups -= nlookup;
    this.#reap(node);
  }

  getattr(_context: RequestContext, nodeId: NodeId): AttributeReply {
    this.#count('getattr');
    return { attrValidMs: validMs, attributes: this.#attributes(this.#node(nodeId)) };
  }

  setattr(_context: RequestContext, nodeId: NodeId, change: SetAttributes): AttributeReply {
    const node = this.#node(nodeId);
    const now = systemClock.now();
    if (change.mode !== undefined) node.mode = (node.mode & S_IFMT) | (change.mode & 0o7777);
    if (change.uid !== undefined) node.uid = change.uid;
    if (change.gid !== undefined) node.gid = change.gid;
    if (change.size !== undefined) {
      this.#resize(node, change.size);
      node.mtime = now;
    }
    if (change.atime !== undefined) node.atime = change.atime === 'now' ? now : change.atime;
    if (change.mtime !== undefined) node.mtime = change.mtime === 'now' ? now : change.mtime;
    node.ctime = now;
    if (change.killSuidgid) node.mode &= ~0o6000;
    return { attrValidMs: validMs, attributes: this.#attributes(node) };
  }

  readlink(_context: RequestContext, nodeId: NodeId): ByteString {
    return this.#node(nodeId).target;
  }

  symlink(context: RequestContext, parent: NodeId, name: ByteString, target: ByteString): Entry {
    const node = this.#add(context, parent, name, S_IFLNK | 0o777);
    node.target = target;
    return this.#entry(node);
  }

  mknod(context: RequestContext, parent: NodeId, name: ByteString, mode: number, rdev: number): Entry {
    this.#count('mknod');
    const node = this.#add(context, parent, name, mode & ~context.umask);
    node.rdev = rdev;
    return this.#entry(node);
  }

  mkdir(context: RequestContext, parent: NodeId, name: ByteString, mode: number): Entry {
    return this.#entry(this.#add(context, parent, name, S_IFDIR | (mode & 0o7777 & ~context.umask)));
  }

  unlink(_context: RequestContext, parent: NodeId, name: ByteString): void {
    const node = this.#child(parent, name);
    if ((node.mode & S_IFMT) === S_IFDIR) throw new MemoryFilesystemError('EISDIR');
    const directory = this.#directory(parent);
    directory.children.delete(name);
    this.#touch(directory);
    this.#dropLink(node);
  }

  rmdir(_context: RequestContext, parent: NodeId, name: ByteString): void {
    const node = this.#child(parent, name);
    if ((node.mode & S_IFMT) !== S_IFDIR) throw new MemoryFilesystemError('ENOTDIR');
    if (node.children.size > 0) throw new MemoryFilesystemError('ENOTEMPTY');
    const directory = this.#directory(parent);
    directory.children.delete(name);
    directory.nlink--;
    this.#touch(directory);
    this.#dropLink(node);
  }

  rename(context: RequestContext, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): void {
    if (flags & ~1) throw new MemoryFilesystemError('EINVAL');
    const node = this.#child(parent, name);
    const target = this.#directory(newParent);
    const existing = target.children.get(newName);
    if (existing === node.ino) return;
    if (existing !== undefined) {
      if (flags & 1) throw new MemoryFilesystemError('EEXIST');
      if ((this.#node(existing).mode & S_IFMT) === S_IFDIR) this.rmdir(context, newParent, newName);
      else this.unlink(context, newParent, newName);
    }
    const source = this.#directory(parent);
    source.children.delete(name);
    target.children.set(newName, node.ino);
    if ((node.mode & S_IFMT) === S_IFDIR) {
      source.nlink--;
      target.nlink++;
      node.parent = newParent;
    }
    this.#touch(source);
    this.#touch(target);
    node.ctime = systemClock.now();
  }

  link(_context: RequestContext, nodeId: NodeId, newParent: NodeId, newName: ByteString): Entry {
    const directory = this.#directory(newParent);
    if (directory.children.has(newName)) throw new MemoryFilesystemError('EEXIST');
    const node = this.#node(nodeId);
    directory.children.set(newName, nodeId);
    node.nlink++;
    this.#touch(directory);
    return this.#entry(node);
  }

  open(_context: RequestContext, nodeId: NodeId): OpenReply | undefined {
    this.#count('open');
    return this.#options.withOpen ? { handle: nodeId, keepCache: true } : undefined;
  }

  create(context: RequestContext, parent: NodeId, name: ByteString, mode: number): { entry: Entry; open: OpenReply } | undefined {
    this.#count('create');
    if (!this.#options.withOpen) return undefined;
    const node = this.#add(context, parent, name, mode & ~context.umask);
    return { entry: this.#entry(node), open: { handle: node.ino, keepCache: true } };
  }

  tmpfile(): never {
    throw new MemoryFilesystemError('EOPNOTSUPP');
  }

  read(context: RequestContext, nodeId: NodeId, offset: number, size: number): MaybePromise<Uint8Array> {
    this.#count('read');
    const node = this.#node(nodeId);
    const slice = (): Uint8Array => node.content.subarray(Math.min(offset, node.size), Math.min(offset + size, node.size));
    const { beforeRead } = this.#options;
    return beforeRead === undefined ? slice() : beforeRead(context).then(slice);
  }

  write(_context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): void {
    this.#count('write');
    const node = this.#node(nodeId);
    if (offset + data.byteLength > node.size) this.#resize(node, offset + data.byteLength);
    node.content.set(data, offset);
    if (killSuidgid) node.mode &= ~0o6000;
    this.#touch(node);
  }

  flush(): void {
    this.#count('flush');
  }

  fsync(): void {
    this.#count('fsync');
  }

  release(): void {
    this.#count('release');
  }

  opendir(_context: RequestContext, nodeId: NodeId): OpenReply {
    return { handle: this.#directory(nodeId).ino };
  }

  readdir(_context: RequestContext, nodeId: NodeId, _handle: number, cookie: number, sink: DirentSink, plus: boolean): void {
    this.#count(plus ? 'readdirplus' : 'readdir');
    const directory = this.#directory(nodeId);
    // Cookies are positions, which suffice for a directory that does not change while it is listed.
    if (cookie < 1 && !sink.add('.', nodeId, S_IFDIR, 1)) return;
    if (cookie < 2 && !sink.add('..', directory.parent, S_IFDIR, 2)) return;
    let position = 2;
    for (const [name, ino] of directory.children) {
      position++;
      if (position <= cookie) continue;
      const node = this.#node(ino);
      const entry = plus ? this.#entry(node) : undefined;
      if (sink.add(name, ino, node.mode, position, entry)) continue;
      if (plus) node.lookups--;
      return;
    }
  }

  releasedir(): void {}

  fsyncdir(): void {}

  statfs(): FilesystemStatistics {
    return { blocks: 1_000_000, bfree: 600_000, bavail: 500_000, files: 10_000, ffree: 9000, bsize: 4096, frsize: 4096, namelen: 255 };
  }

  getxattr(_context: RequestContext, nodeId: NodeId, name: ByteString): Uint8Array {
    const value = this.#node(nodeId).xattrs.get(name);
    if (value === undefined) throw new MemoryFilesystemError('ENODATA');
    return value;
  }

  setxattr(_context: RequestContext, nodeId: NodeId, name: ByteString, value: Uint8Array, flags: number): void {
    const { xattrs } = this.#node(nodeId);
    if (flags & 1 && xattrs.has(name)) throw new MemoryFilesystemError('EEXIST');
    if (flags & 2 && !xattrs.has(name)) throw new MemoryFilesystemError('ENODATA');
    xattrs.set(name, Uint8Array.from(value));
  }

  listxattr(_context: RequestContext, nodeId: NodeId): readonly ByteString[] {
    return [...this.#node(nodeId).xattrs.keys()];
  }

  removexattr(_context: RequestContext, nodeId: NodeId, name: ByteString): void {
    if (!this.#node(nodeId).xattrs.delete(name)) throw new MemoryFilesystemError('ENODATA');
  }

  fallocate(_context: RequestContext, nodeId: NodeId, offset: number, length: number, mode: number): void {
    if (mode !== 0) throw new MemoryFilesystemError('EOPNOTSUPP');
    const node = this.#node(nodeId);
    if (offset + length > node.size) this.#resize(node, offset + length);
  }

  lseek(_context: RequestContext, nodeId: NodeId, offset: number, whence: number): number {
    const { size } = this.#node(nodeId);
    if (offset >= size) throw new MemoryFilesystemError('ENOENT');
    return whence === 4 ? size : offset;
  }

  copyFileRange(context: RequestContext, nodeId: NodeId, offset: number, toNodeId: NodeId, toOffset: number, length: number): number {
    const { content, size } = this.#node(nodeId);
    const data = Buffer.from(content.subarray(Math.min(offset, size), Math.min(offset + length, size)));
    this.write(context, toNodeId, toOffset, data, false);
    return data.length;
  }

  syncfs(): void {
    this.#count('syncfs');
  }
}
