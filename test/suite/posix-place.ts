/**
 * The environment of the POSIX suite (posix-suite.ts): the capabilities of a directory, a folder and a process for each
 * test, and the users that tests act as. It holds no tests.
 */
import type { Test } from 'tap';
import { Probe, type ProbeArgument, type ProbeEntry, type ProbeStat, RawName, unescapeName } from '../mount/posix-probe.js';

/** The capabilities of the directory. Those not declared missing are required. */
export interface PosixCapabilities {
  /** The tests run as root and the directory admits other users. */
  readonly otherUsers: boolean;
  readonly deviceNodes: boolean;
  readonly userXattrs: boolean;
  readonly trustedXattrs: boolean;
  /** Largest xattr value in bytes that must be stored. */
  readonly xattrSizeMax: number;
  readonly acls: boolean;
  readonly birthTime: boolean;
  /** SEEK_HOLE finds holes, and st_blocks does not count them. */
  readonly holes: boolean;
  /**
   * The size limit is enforced by write(2). Where the kernel caches writes of a filesystem that cannot tell it the
   * limit, only fsync enforces it.
   */
  readonly sizeLimitOnWrite: boolean;
  readonly punchHole: boolean;
  readonly zeroRange: boolean;
  readonly preallocate: boolean;
  readonly tmpfile: boolean;
  readonly exchange: boolean;
  readonly sharedMmap: boolean;
  readonly lockDeadlock: boolean;
  /** A directory's link count is two more than its subdirectories. */
  readonly directoryLinks: boolean;
}

/** The default: the capabilities of this machine's own filesystems. */
export const everything: PosixCapabilities = {
  otherUsers: true,
  deviceNodes: true,
  userXattrs: true,
  trustedXattrs: true,
  xattrSizeMax: 65536,
  acls: true,
  birthTime: true,
  holes: true,
  sizeLimitOnWrite: true,
  punchHole: true,
  zeroRange: true,
  preallocate: true,
  tmpfile: true,
  exchange: true,
  sharedMmap: true,
  lockDeadlock: true,
  directoryLinks: true,
};

/** Two unprivileged users, and groups; none needs to exist in /etc/passwd. */
export const alice = 41001;
export const bob = 41002;
export const staff = 42001;
export const guests = 42002;

export const kib = 1024;
export const mib = 1024 * kib;
export const second = 1_000_000_000n;

/** One test's own folder, which is also the probe's working directory: names in tests are relative to it. */
export class Place {
  readonly path: string;
  readonly capabilities: PosixCapabilities;
  readonly probe: Probe;
  readonly #t: Test;
  readonly #others: Probe[] = [];

  constructor(t: Test, probe: Probe, path: string, capabilities: PosixCapabilities) {
    this.#t = t;
    this.probe = probe;
    this.path = path;
    this.capabilities = capabilities;
  }

  ok(call: string, ...argument: readonly ProbeArgument[]): Promise<number> {
    return this.probe.ok(call, ...argument);
  }

  async fails(errno: string | readonly string[], call: string, ...argument: readonly ProbeArgument[]): Promise<void> {
    const found = await this.probe.errno(call, ...argument);
    const allowed = typeof errno === 'string' ? [errno] : errno;
    if (!allowed.includes(found)) this.#t.equal(found, allowed.join(' or '), `${call} ${argument.map(show).join(' ')}`);
  }

  stat(path: ProbeArgument): Promise<ProbeStat> {
    return this.probe.stat('stat', path);
  }

  lstat(path: ProbeArgument): Promise<ProbeStat> {
    return this.probe.stat('lstat', path);
  }

  fstat(fd: number): Promise<ProbeStat> {
    return this.probe.stat('fstat', fd);
  }

  /** The twelve permission bits. */
  async mode(path: ProbeArgument): Promise<number> {
    return (await this.lstat(path)).mode & 0o7777;
  }

  async nlink(path: ProbeArgument): Promise<number> {
    return (await this.lstat(path)).nlink;
  }

  file(path: ProbeArgument, content: string | Uint8Array = '', mode = 0o644): Promise<void> {
    return this.probe.writeFile(path, content, mode);
  }

  async text(path: ProbeArgument): Promise<string> {
    return (await this.probe.readFile(path)).toString('latin1');
  }

  open(path: ProbeArgument, flags: string, mode = 0o644): Promise<number> {
    return this.ok('open', path, flags, mode);
  }

  async exists(path: ProbeArgument): Promise<boolean> {
    return (await this.probe.errno('lstat', path)) === 'OK';
  }

  async entries(path = '.'): Promise<readonly ProbeEntry[]> {
    const handle = await this.ok('opendir', path);
    const { entries = [] } = await this.probe.need('readdir', handle);
    await this.ok('closedir', handle);
    return entries;
  }

  /** The names in a directory, sorted, as latin1 text, without . and .. */
  async names(path = '.'): Promise<string[]> {
    const names = (await this.entries(path)).map((entry) => Buffer.from(unescapeName(entry.name)).toString('latin1'));
    return names.filter((name) => name !== '.' && name !== '..').toSorted();
  }

  as(uid: number, gid: number, ...groups: number[]): Promise<number> {
    return this.ok('as', uid, gid, ...groups);
  }

  asRoot(): Promise<number> {
    return this.ok('as', 'root');
  }

  /** Another process in the same folder. */
  async other(): Promise<Probe> {
    const probe = await Probe.start();
    this.#others.push(probe);
    await probe.ok('chdir', this.path);
    return probe;
  }

  /** Returns once the filesystem's clock has passed the change time of this path by more than a tick. */
  async later(...paths: readonly ProbeArgument[]): Promise<void> {
    let newest = 0n;
    for (const path of paths) {
      const { ctime, mtime } = await this.lstat(path);
      if (ctime > newest) newest = ctime;
      if (mtime > newest && mtime < ctime + second) newest = mtime;
    }
    const clock = `${this.path}.clock`;
    await this.file(clock);
    do await this.ok('chmod', clock, 0o600);
    while ((await this.stat(clock)).ctime < newest + 12_000_000n);
  }

  async end(): Promise<void> {
    for (const other of this.#others) await other.close();
    await this.probe.ok('as', 'root');
    await this.probe.ok('umask', 0o022);
    await this.probe.ok('chdir', '/');
  }
}

/** Makes this many empty files, and returns their names in order. */
export async function makeFiles(p: Place, directory: string, count: number): Promise<string[]> {
  await p.ok('mkdir', directory);
  const names = Array.from({ length: count }, (_, i) => `entry-${i.toString(36)}-${'x'.repeat(i % 40)}`);
  await Promise.all(names.map((name) => p.ok('mknod', `${directory}/${name}`, 'S_IFREG|0644', 0, 0)));
  return names.toSorted();
}

function show(argument: ProbeArgument): string {
  if (argument instanceof RawName) return JSON.stringify(Buffer.from(argument.bytes).toString('latin1')).slice(0, 80);
  return argument instanceof Uint8Array ? `<${argument.length} bytes>` : String(argument).slice(0, 80);
}

export type Body = (t: Test, p: Place) => Promise<void>;
export type Need = Exclude<keyof PosixCapabilities, 'xattrSizeMax'>;
/** Adds a test that is skipped when the directory lacks one of `needs`. */
export type It = (name: string, ...rest: readonly [...needs: Need[], body: Body]) => void;
