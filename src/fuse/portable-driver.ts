/**
 * The second driver, over fuse-native (libfuse 2; macFUSE on macOS), for hosts without our addon. It is slower and
 * carries less (portableCapabilities in `driver-capabilities.ts`): it gets paths instead of inodes, no caller, and text
 * for names.
 */
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { ByteString } from '../base/brand.js';
import { textOf } from '../base/bytes.js';
import { systemClock, type Timespec, timespecOfMs } from '../base/clock.js';
import { portableCapabilities } from './driver-capabilities.js';
import { FuseError } from './fuse-error.js';
import type {
  Attributes,
  ConnectionInfo,
  DirentSink,
  Driver,
  ErrnoOf,
  FuseOperations,
  Mounted,
  MountOptions,
  NodeId,
  RequestContext,
  SetAttributes,
} from './operations.js';
import { componentsOf, PathWalker } from './path-walker.js';

const run = promisify(execFile);

const ENOENT = 2;
const EBUSY = 16;
const ENOTCONN = 107;
/** libfuse 2 does not pass the flags of create(2): assume the widest. */
const O_RDWR = 2;
/** libfuse 2 does not notice when somebody else unmounts, so the driver looks this often. */
const watchIntervalMs = 500;

type Done = (result: number, ...values: unknown[]) => void;

interface FuseNative {
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
}

interface FuseNativeClass {
  new (mountPoint: string, handlers: object, options: object): FuseNative;
  unmount(mountPoint: string, done: (error: Error | null) => void): void;
}

function loadFuseNative(): FuseNativeClass {
  let loaded: FuseNativeClass;
  try {
    loaded = createRequire(import.meta.url)('fuse-native') as FuseNativeClass;
  } catch (cause) {
    throw new FuseError('NO_ADDON', 'the optional package fuse-native is not installed or does not load here', { cause });
  }
  // Its own unmount is always lazy and goes through a shell; ours has run by the time it asks.
  loaded.unmount = (_mountPoint, done) => done(null);
  return loaded;
}

/** An answer that is an errno and nothing else. */
class PathError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

const millisecondsOf = (time: Timespec): number => time.sec * 1000 + time.nsec / 1e6;

function statOf(attributes: Attributes): object {
  const { mode, uid, gid, size, nlink, ino, rdev, blksize, blocks, atime, mtime, ctime } = attributes;
  const times = { atime: millisecondsOf(atime), mtime: millisecondsOf(mtime), ctime: millisecondsOf(ctime) };
  return { mode, uid, gid, size, nlink, ino, rdev, blksize, blocks, ...times };
}

/** A listing in memory: libfuse wants a directory at once. */
class Listing implements DirentSink {
  readonly names: string[] = [];
  cookie = 0;
  added = 0;

  add(name: ByteString, _ino: number, _mode: number, cookie: number): boolean {
    this.added++;
    this.cookie = cookie;
    if (name !== '.' && name !== '..') this.names.push(textOf(name));
    return true;
  }
}

/** Offers FuseOperations, which work by node, as fuse-native's handlers, which work by path. */
class PathHandlers {
  readonly #operations: FuseOperations;
  readonly #errnoOf: ErrnoOf;
  readonly #walker: PathWalker;
  readonly #trace: ((line: string) => void) | undefined;
  #closed = false;
  // libfuse 2 knows the caller, but fuse-native does not pass it on: everything is done as the user who mounted.
  readonly #context: RequestContext = {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    pid: process.pid,
    umask: 0,
    signal: new AbortController().signal,
  };

  constructor(operations: FuseOperations, errnoOf: ErrnoOf, walker: PathWalker, trace?: (line: string) => void) {
    this.#operations = operations;
    this.#errnoOf = errnoOf;
    this.#walker = walker;
    this.#trace = trace;
  }

  /** From now on every request fails: the mount is detached, and the volume is being closed. */
  close(): void {
    this.#closed = true;
  }

  /**
   * Runs one handler. The result of `work` becomes the arguments of the callback: first 0, a count or a negative errno.
   */
  #answer(name: string, done: Done, work: () => Promise<readonly unknown[]>): void {
    this.#trace?.(`> ${name}`);
    const reply = async (): Promise<void> => {
      let result: readonly unknown[];
      try {
        result = this.#closed ? [-ENOTCONN] : await work();
      } catch (error) {
        result = [-(error instanceof PathError ? error.errno : this.#errnoOf(error))];
      }
      this.#trace?.(`< ${name} ${typeof result[0] === 'number' && result[0] < 0 ? `errno ${-result[0]}` : 'ok'}`);
      done(...(result as [number, ...unknown[]]));
    };
    void reply();
  }

  async #node(path: string): Promise<NodeId> {
    return this.#find(componentsOf(path));
  }

  async #find(components: readonly ByteString[]): Promise<NodeId> {
    const nodeId = await this.#walker.find(this.#context, components);
    if (nodeId === 0) throw new PathError(ENOENT);
    return nodeId;
  }

  async #place(path: string): Promise<{ components: ByteString[]; folder: ByteString[]; parent: NodeId; name: ByteString }> {
    const components = componentsOf(path);
    const folder = components.slice(0, -1);
    const name = components.at(-1);
    // The kernel changes no name of the root.
    if (name === undefined) throw new PathError(EBUSY);
    return { components, folder, parent: await this.#find(folder), name };
  }

  async #change(path: string, change: SetAttributes): Promise<readonly unknown[]> {
    await this.#operations.setattr(this.#context, await this.#node(path), change);
    return [0];
  }

  async #attributes(path: string): Promise<readonly unknown[]> {
    const { attributes } = await this.#operations.getattr(this.#context, await this.#node(path));
    return [0, statOf(attributes)];
  }

  /** The object for fuse-native. Its keys determine what libfuse believes that we can do. */
  table(): object {
    const operations = this.#operations;
    const context = this.#context;
    const walker = this.#walker;
    const answer = this.#answer.bind(this);
    return {
      getattr: (path: string, done: Done) => answer('getattr', done, () => this.#attributes(path)),
      fgetattr: (path: string, _handle: number, done: Done) => answer('fgetattr', done, () => this.#attributes(path)),
      statfs: (_path: string, done: Done) =>
        answer('statfs', done, async () => {
          const { namelen, ...counts } = await operations.statfs(context, 1 as NodeId);
          return [0, { ...counts, favail: counts.ffree, namemax: namelen }];
        }),
      readlink: (path: string, done: Done) =>
        answer('readlink', done, async () => [0, textOf(await operations.readlink(context, await this.#node(path)))]),
      opendir: (path: string, _flags: number, done: Done) =>
        answer('opendir', done, async () => [0, (await operations.opendir(context, await this.#node(path)))?.handle ?? 0]),
      releasedir: (path: string, handle: number, done: Done) =>
        answer('releasedir', done, async () => {
          await operations.releasedir(context, await this.#node(path), handle);
          return [0];
        }),
      readdir: (path: string, done: Done) =>
        answer('readdir', done, async () => {
          const nodeId = await this.#node(path);
          const listing = new Listing();
          // libfuse's own handle of this directory is not passed to us here.
          const handle = (await operations.opendir(context, nodeId))?.handle ?? 0;
          try {
            do {
              listing.added = 0;
              await operations.readdir(context, nodeId, handle, listing.cookie, listing, false);
            } while (listing.added > 0);
          } finally {
            await operations.releasedir(context, nodeId, handle);
          }
          return [0, listing.names];
        }),
      open: (path: string, flags: number, done: Done) =>
        answer('open', done, async () => [0, (await operations.open(context, await this.#node(path), flags))?.handle ?? 0]),
      create: (path: string, mode: number, done: Done) =>
        answer('create', done, async () => {
          const { folder, parent, name } = await this.#place(path);
          const regular = 0o100000 | (mode & 0o7777);
          const created = await operations.create(context, parent, name, regular, O_RDWR);
          const entry = created?.entry ?? (await operations.mknod(context, parent, name, regular, 0));
          walker.learn(folder, name, entry);
          return [0, created?.open.handle ?? 0];
        }),
      release: (path: string, handle: number, done: Done) =>
        answer('release', done, async () => {
          // Handle 0: the filesystem works without handles.
          if (handle !== 0) await operations.release(context, await this.#node(path), handle);
          return [0];
        }),
      read: (path: string, _handle: number, buffer: Buffer, length: number, offset: number, done: Done) =>
        answer('read', done, async () => {
          const answered = await operations.read(context, await this.#node(path), offset, length, false);
          let at = 0;
          for (const piece of answered instanceof Uint8Array ? [answered] : answered) {
            buffer.set(piece, at);
            at += piece.byteLength;
          }
          return [at, at];
        }),
      write: (path: string, _handle: number, buffer: Buffer, length: number, offset: number, done: Done) =>
        answer('write', done, async () => {
          await operations.write(context, await this.#node(path), offset, buffer.subarray(0, length), false);
          return [length, length];
        }),
      flush: (path: string, _handle: number, done: Done) =>
        answer('flush', done, async () => {
          await operations.flush(context, await this.#node(path));
          return [0];
        }),
      fsync: (path: string, dataOnly: number | boolean, _handle: number, done: Done) =>
        answer('fsync', done, async () => {
          await operations.fsync(context, await this.#node(path), Boolean(dataOnly));
          return [0];
        }),
      fsyncdir: (path: string, dataOnly: number | boolean, _handle: number, done: Done) =>
        answer('fsyncdir', done, async () => {
          await operations.fsyncdir(context, await this.#node(path), Boolean(dataOnly));
          return [0];
        }),
      truncate: (path: string, size: number, done: Done) => answer('truncate', done, () => this.#change(path, { size })),
      ftruncate: (path: string, _handle: number, size: number, done: Done) => answer('ftruncate', done, () => this.#change(path, { size })),
      utimens: (path: string, atimeMs: number, mtimeMs: number, done: Done) =>
        answer('utimens', done, () => this.#change(path, { atime: timespecOfMs(atimeMs), mtime: timespecOfMs(mtimeMs) })),
      // libfuse passes (uid_t)-1 for "leave it".
      chown: (path: string, uid: number, gid: number, done: Done) =>
        answer('chown', done, () =>
          this.#change(path, { ...(uid < 0xffffffff && uid >= 0 && { uid }), ...(gid < 0xffffffff && gid >= 0 && { gid }) }),
        ),
      chmod: (path: string, mode: number, done: Done) => answer('chmod', done, () => this.#change(path, { mode: mode & 0o7777 })),
      mknod: (path: string, mode: number, rdev: number, done: Done) =>
        answer('mknod', done, async () => {
          const { folder, parent, name } = await this.#place(path);
          walker.learn(folder, name, await operations.mknod(context, parent, name, mode, rdev));
          return [0];
        }),
      mkdir: (path: string, mode: number, done: Done) =>
        answer('mkdir', done, async () => {
          const { folder, parent, name } = await this.#place(path);
          walker.learn(folder, name, await operations.mkdir(context, parent, name, mode & 0o7777));
          return [0];
        }),
      symlink: (target: string, path: string, done: Done) =>
        answer('symlink', done, async () => {
          const { folder, parent, name } = await this.#place(path);
          walker.learn(folder, name, await operations.symlink(context, parent, name, Buffer.from(target, 'utf8').toString('latin1')));
          return [0];
        }),
      link: (from: string, path: string, done: Done) =>
        answer('link', done, async () => {
          const { folder, parent, name } = await this.#place(path);
          walker.learn(folder, name, await operations.link(context, await this.#node(from), parent, name));
          return [0];
        }),
      unlink: (path: string, done: Done) =>
        answer('unlink', done, async () => {
          const { components, parent, name } = await this.#place(path);
          await operations.unlink(context, parent, name);
          walker.forget(components);
          return [0];
        }),
      rmdir: (path: string, done: Done) =>
        answer('rmdir', done, async () => {
          const { components, parent, name } = await this.#place(path);
          await operations.rmdir(context, parent, name);
          walker.forget(components);
          return [0];
        }),
      rename: (from: string, to: string, done: Done) =>
        answer('rename', done, async () => {
          const [source, target] = [await this.#place(from), await this.#place(to)];
          await operations.rename(context, source.parent, source.name, target.parent, target.name, 0);
          walker.forget(source.components);
          walker.forget(target.components);
          return [0];
        }),
    };
  }
}

async function detach(mountPoint: string, lazy: boolean): Promise<void> {
  const isDarwin = process.platform === 'darwin';
  const [command, plain, lazily] =
    process.getuid?.() === 0 || isDarwin ? (['umount', [], [isDarwin ? '-f' : '-l']] as const) : (['fusermount', ['-u'], ['-uz']] as const);
  try {
    await run(command, [...(lazy ? lazily : plain), mountPoint], { timeout: 60_000 });
  } catch (cause) {
    const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr) : '';
    if (/busy/i.test(said)) throw new FuseError('BUSY', 'cannot unmount: files are open', { cause });
    throw new FuseError('SYSTEM', `cannot unmount: ${said.trim()}`, { cause });
  }
}

/** Whether something is mounted at the path: its device differs from its parent's. */
async function isMounted(path: string): Promise<boolean> {
  try {
    const [inside, outside] = await Promise.all([stat(path), stat(dirname(path))]);
    return inside.dev !== outside.dev;
  } catch {
    return false;
  }
}

class PortableMount implements Mounted {
  readonly driver = 'fuse-native';
  readonly connection: ConnectionInfo;
  readonly ended: Promise<void>;
  readonly notifier: Mounted['notifier'];
  readonly #fuse: FuseNative;
  readonly #handlers: PathHandlers;
  readonly #operations: FuseOperations;
  readonly #mountPoint: string;
  readonly #watch: NodeJS.Timeout;
  #ending = false;
  #resolveEnded!: () => void;
  #rejectEnded!: (error: unknown) => void;

  constructor(
    fuse: FuseNative,
    handlers: PathHandlers,
    operations: FuseOperations,
    walker: PathWalker,
    mountPoint: string,
    connection: ConnectionInfo,
  ) {
    this.#fuse = fuse;
    this.#handlers = handlers;
    this.#operations = operations;
    this.#mountPoint = mountPoint;
    this.connection = connection;
    this.ended = new Promise((onResolve, onReject) => {
      this.#resolveEnded = onResolve;
      this.#rejectEnded = onReject;
    });
    this.ended.catch(() => {});
    // The kernel cannot be notified; it asks again after a second. Our own entries go at once.
    this.notifier = {
      invalidateInode: () => {},
      invalidateEntry: (parent, name) => walker.forgetEntry(parent, name),
      deleteEntry: (parent, _child, name) => walker.forgetEntry(parent, name),
      expireEntries: () => walker.forgetAll(),
      pruneInodes: () => {},
      storeContent: () => {},
      drained: () => Promise.resolve(),
    };
    this.#watch = setInterval(() => void this.#look(), watchIntervalMs);
  }

  async #look(): Promise<void> {
    if (!(await isMounted(this.#mountPoint))) await this.#end(true);
  }

  async unmount(options: { readonly force?: boolean } = {}): Promise<void> {
    if (this.#ending) return;
    try {
      await detach(this.#mountPoint, false);
    } catch (error) {
      if (await isMounted(this.#mountPoint)) {
        if (!options.force) throw error;
        await detach(this.#mountPoint, true);
        // Its last user cannot be noticed, so it ends for everybody now.
        await this.#end(false);
        return;
      }
    }
    await this.#end(true);
  }

  /**
   * `join`: libfuse's thread has ended, or will end without our help, so waiting for it does not block the event loop
   * for long.
   */
  async #end(join: boolean): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    clearInterval(this.#watch);
    this.#handlers.close();
    try {
      if (join) await new Promise<void>((onResolve) => this.#fuse.unmount(() => onResolve()));
      await this.#operations.destroy();
      this.#resolveEnded();
    } catch (cause) {
      this.#rejectEnded(new FuseError('SYSTEM', 'ending the session failed', { cause }));
    }
  }
}

export const portableDriver: Driver = async (operations: FuseOperations, errnoOf: ErrnoOf, options: MountOptions) => {
  const Fuse = loadFuseNative();
  const mountPoint = resolve(options.mountPoint);
  const place = await stat(mountPoint).catch((cause: unknown) => {
    throw new FuseError('MOUNT_POINT', 'the mount point does not exist', { cause });
  });
  if (!place.isDirectory()) throw new FuseError('MOUNT_POINT', 'the mount point is not a directory');
  if (await isMounted(mountPoint)) throw new FuseError('BUSY', 'a volume is mounted at this mount point already');
  const walker = new PathWalker(operations, systemClock);
  const handlers = new PathHandlers(operations, errnoOf, walker, options.trace);
  // fuse-native has no names for these options, but passes its texts on unquoted, so they travel behind the subtype.
  const linuxOptions = [
    options.suid ? 'suid' : 'nosuid',
    options.dev ? 'dev' : 'nodev',
    'use_ino',
    'big_writes',
    ...(options.readOnly ? ['ro'] : []),
  ];
  const fuse = new Fuse(mountPoint, handlers.table(), {
    // The filesystem has its own deadlines; a reply that comes after this one would be lost.
    timeout: false,
    fsname: options.source.replaceAll(/[,\\]/g, (character) => `\\${character}`),
    subtype: process.platform === 'linux' ? [options.subtype, ...linuxOptions].join(',') : options.subtype,
    allowOther: options.allowOther,
    defaultPermissions: options.defaultPermissions,
  });
  const { payloadMax: maxWrite } = portableCapabilities;
  const connection: ConnectionInfo = { major: 7, minor: 19, maxWrite, writebackCache: false, readdirplus: false, prune: false };
  operations.init(connection);
  await new Promise<void>((onResolve, onReject) => {
    fuse.mount((error) => (error ? onReject(new FuseError('SYSTEM', `cannot mount: ${error.message}`, { cause: error })) : onResolve()));
  });
  return new PortableMount(fuse, handlers, operations, walker, mountPoint, connection);
};
