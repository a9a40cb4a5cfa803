/**
 * What applications expect of a local directory, one behaviour a test, asked through real system calls of other processes. It runs
 * on any directory: a plain one keeps the suite honest, the mounted one is what it is for (doc/semantics.md). It is not a stress
 * test (test/model) and asks nothing about crashes.
 */
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { Probe, type ProbeArgument, type ProbeEntry, type ProbeStat, RawName, unescapeName } from '../mount/posix-probe.js';

const run = promisify(execFile);

/** What the directory is able to do. Whatever is not said to be missing is demanded. */
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
  /** The limit is met by write itself. Where the kernel caches writes of a filesystem that cannot tell it the limit, only fsync meets it. */
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

const everything: PosixCapabilities = {
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

/** An unprivileged user, another one, and groups; none needs to exist in /etc/passwd. */
const alice = 41001;
const bob = 41002;
const staff = 42001;
const guests = 42002;

const kib = 1024;
const mib = 1024 * kib;
const second = 1_000_000_000n;

/** One test's own folder, which is also the probe's working directory: names in tests are relative to it. */
class Place {
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
    return names.filter((name) => name !== '.' && name !== '..').sort();
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

function show(argument: ProbeArgument): string {
  if (argument instanceof RawName) return JSON.stringify(Buffer.from(argument.bytes).toString('latin1')).slice(0, 80);
  return argument instanceof Uint8Array ? `<${argument.length} bytes>` : String(argument).slice(0, 80);
}

type Body = (t: Test, p: Place) => Promise<void>;
type Need = Exclude<keyof PosixCapabilities, 'xattrSizeMax'>;
type It = (name: string, ...rest: readonly [...needs: Need[], body: Body]) => void;

/** Adds the tests to `t`. `directory` is emptied of what they made; capabilities that are not given are demanded. */
export function posixSuite(t: Test, options: { readonly directory: string; readonly capabilities?: Partial<PosixCapabilities> }): void {
  const capabilities = { ...everything, ...options.capabilities };
  let probe: Probe | undefined;
  let count = 0;
  const it: It = (name, ...rest) => {
    const needs = rest.slice(0, -1) as Need[];
    const body = rest.at(-1) as Body;
    const missing = needs.filter((need) => !capabilities[need]);
    void t.test(name, missing.length > 0 ? { skip: `the directory lacks ${missing.join(', ')}` } : {}, async (t) => {
      probe ??= await Probe.start();
      const path = join(options.directory, `posix-${(count++).toString().padStart(3, '0')}`);
      await mkdir(path);
      await chmod(path, 0o777);
      await probe.ok('chdir', path);
      const place = new Place(t, probe, path, capabilities);
      try {
        await body(t, place);
      } finally {
        await place.end();
      }
    });
  };
  t.teardown(async () => {
    await probe?.close();
    await run('sh', ['-c', 'rm -rf -- "$0"/posix-*', options.directory]);
  });
  openTests(it);
  errorTests(it);
  directoryTests(it);
  listingTests(it);
  renameTests(it);
  linkTests(it);
  nodeTests(it);
  attributeTests(it);
  timeTests(it);
  permissionTests(it);
  privilegeBitTests(it);
  contentTests(it);
  spaceTests(it);
  mappingTests(it);
  orphanTests(it);
  lockTests(it);
  xattrTests(it);
  aclTests(it);
  nameTests(it);
  filesystemTests(it);
}

function openTests(it: It): void {
  it('O_CREAT makes an empty file', async (t, p) => {
    await p.ok('close', await p.open('f', 'O_CREAT|O_WRONLY'));
    const { size, nlink, mode } = await p.stat('f');
    t.same([size, nlink, mode], [0, 1, 0o100644]);
  });
  it('O_CREAT leaves an existing file as it is', async (t, p) => {
    await p.file('f', 'old', 0o600);
    await p.ok('close', await p.open('f', 'O_CREAT|O_WRONLY', 0o777));
    t.equal(await p.text('f'), 'old');
    t.equal(await p.mode('f'), 0o600);
  });
  it('O_EXCL refuses a file, a directory and a dangling link', async (_, p) => {
    await p.file('f');
    await p.ok('mkdir', 'd');
    await p.ok('symlink', 'nowhere', 'l');
    for (const name of ['f', 'd', 'l']) await p.fails('EEXIST', 'open', name, 'O_CREAT|O_EXCL|O_WRONLY');
  });
  it('O_EXCL has exactly one winner among two processes', async (t, p) => {
    const other = await p.other();
    for (let i = 0; i < 50; i++) {
      const found = await Promise.all([p.probe, other].map((probe) => probe.errno('open', `f${i}`, 'O_CREAT|O_EXCL|O_WRONLY')));
      t.same(found.sort(), ['EEXIST', 'OK']);
    }
  });
  it('O_CREAT through a dangling link makes its target', async (t, p) => {
    await p.ok('symlink', 'target', 'l');
    await p.file('l', 'x');
    t.equal(await p.text('target'), 'x');
  });
  it('O_TRUNC empties', async (t, p) => {
    await p.file('f', 'something');
    await p.ok('close', await p.open('f', 'O_WRONLY|O_TRUNC'));
    t.equal((await p.stat('f')).size, 0);
  });
  it('O_APPEND writes at the end wherever the position is', async (t, p) => {
    await p.file('f', 'one');
    const fd = await p.open('f', 'O_RDWR|O_APPEND');
    await p.ok('lseek', fd, 0, 'SEEK_SET');
    await p.ok('write', fd, Buffer.from('two'));
    await p.ok('close', fd);
    t.equal(await p.text('f'), 'onetwo');
  });
  it('two descriptors that append never overwrite each other', async (t, p) => {
    const a = await p.open('f', 'O_CREAT|O_WRONLY|O_APPEND');
    const b = await p.open('f', 'O_WRONLY|O_APPEND');
    for (let i = 0; i < 10; i++) {
      await p.ok('write', a, Buffer.from('a'));
      await p.ok('write', b, Buffer.from('b'));
    }
    t.equal(await p.text('f'), 'ab'.repeat(10));
  });
  it('two processes that append keep every line whole and in order', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const writers = [p.probe, other];
    await Promise.all(
      writers.map(async (probe, i) => {
        const fd = await probe.ok('open', 'f', 'O_WRONLY|O_APPEND');
        await probe.ok('stamp', fd, 3000, i === 0 ? 'a' : 'b');
        await probe.ok('close', fd);
      }),
    );
    const lines = (await p.text('f')).split('\n').slice(0, -1);
    t.equal(lines.length, 6000);
    for (const letter of ['a', 'b']) {
      const own = lines.filter((line) => line.startsWith(letter)).map((line) => Number(line.slice(1)));
      t.ok(own.length === 3000 && own.every((value, i) => value === i));
    }
  });
  it('O_DIRECTORY opens directories only', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.file('f');
    await p.ok('close', await p.open('d', 'O_RDONLY|O_DIRECTORY'));
    await p.fails('ENOTDIR', 'open', 'f', 'O_RDONLY|O_DIRECTORY');
  });
  it('a directory cannot be opened for writing or created as a file', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.fails('EISDIR', 'open', 'd', 'O_WRONLY');
    await p.fails('EISDIR', 'open', 'd', 'O_RDWR');
    await p.fails('EISDIR', 'open', 'd', 'O_CREAT|O_RDONLY');
    await p.fails('EISDIR', 'read', await p.open('d', 'O_RDONLY'), 10);
  });
  it('O_NOFOLLOW refuses a link and opens a file', async (_, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.fails('ELOOP', 'open', 'l', 'O_RDONLY|O_NOFOLLOW');
    await p.ok('close', await p.open('f', 'O_RDONLY|O_NOFOLLOW'));
  });
  it('a descriptor allows only what it was opened for', async (_, p) => {
    await p.file('f', 'x');
    await p.fails('EBADF', 'write', await p.open('f', 'O_RDONLY'), Buffer.from('y'));
    await p.fails('EBADF', 'read', await p.open('f', 'O_WRONLY'), 1);
    await p.fails(['EINVAL', 'EBADF'], 'ftruncate', await p.open('f', 'O_RDONLY'), 0);
  });
  it('a file created without write permission can be written through the descriptor that made it', async (t, p) => {
    if (p.capabilities.otherUsers) await p.as(alice, staff);
    const fd = await p.open('f', 'O_CREAT|O_EXCL|O_RDWR', 0o444);
    await p.ok('write', fd, Buffer.from('x'));
    await p.ok('close', fd);
    t.equal(await p.text('f'), 'x');
    t.equal(await p.mode('f'), 0o444);
  });
  it('O_PATH gives a descriptor that can be looked at but not read', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_PATH');
    t.equal((await p.fstat(fd)).size, 3);
    await p.fails('EBADF', 'read', fd, 1);
  });
  it('openat works from a directory that was renamed since', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f', 'here');
    const dir = await p.open('d', 'O_RDONLY|O_DIRECTORY');
    await p.ok('rename', 'd', 'e');
    const fd = await p.ok('openat', dir, 'f', 'O_RDONLY');
    t.equal((await p.probe.readAt(fd, 10, 0)).toString(), 'here');
    await p.fails('ENOENT', 'openat', dir, 'g', 'O_RDONLY');
  });
  it('O_TMPFILE makes a file without a name that can be given one', 'tmpfile', async (t, p) => {
    const fd = await p.open('.', 'O_TMPFILE|O_RDWR', 0o600);
    await p.ok('write', fd, Buffer.from('secret'));
    t.same(await p.names(), []);
    t.equal((await p.fstat(fd)).nlink, 0);
    await p.ok('link', `/proc/self/fd/${fd}`, 'named', 'AT_SYMLINK_FOLLOW');
    t.equal(await p.text('named'), 'secret');
    t.equal((await p.fstat(fd)).nlink, 1);
    t.equal((await p.stat('named')).ino, (await p.fstat(fd)).ino);
  });
  it('O_TMPFILE with O_EXCL can never be given a name', 'tmpfile', async (_, p) => {
    const fd = await p.open('.', 'O_TMPFILE|O_RDWR|O_EXCL', 0o600);
    await p.fails('ENOENT', 'link', `/proc/self/fd/${fd}`, 'named', 'AT_SYMLINK_FOLLOW');
  });
}

/** Every call that takes a path: where the path goes in, with whatever else the call needs. */
const pathCalls: readonly (readonly [string, (path: ProbeArgument) => readonly ProbeArgument[]])[] = [
  ['open', (path) => [path, 'O_RDONLY']],
  ['open', (path) => [path, 'O_CREAT|O_WRONLY']],
  ['mkdir', (path) => [path]],
  ['rmdir', (path) => [path]],
  ['unlink', (path) => [path]],
  ['rename', (path) => [path, 'other']],
  ['rename', (path) => ['source', path]],
  ['link', (path) => [path, 'other']],
  ['link', (path) => ['source', path]],
  ['symlink', (path) => ['x', path]],
  ['readlink', (path) => [path]],
  ['mkfifo', (path) => [path]],
  ['chmod', (path) => [path, 0o600]],
  ['chown', (path) => [path, -1, -1]],
  ['utimens', (path) => [path, 'now', 'now']],
  ['truncate', (path) => [path, 0]],
  ['stat', (path) => [path]],
  ['lstat', (path) => [path]],
  ['access', (path) => [path, 'F_OK']],
  ['opendir', (path) => [path]],
  ['getxattr', (path) => [path, 'user.x']],
  ['setxattr', (path) => [path, 'user.x', Buffer.from('1')]],
  ['statvfs', (path) => [path]],
];

/** Calls that make the last name, so its absence is no error. */
function makes(call: string, argument: readonly ProbeArgument[]): boolean {
  return ['mkdir', 'symlink', 'mkfifo'].includes(call) || argument[0] === 'source' || (call === 'open' && argument[1] !== 'O_RDONLY');
}

function errorTests(it: It): void {
  const withSource = async (p: Place): Promise<void> => p.file('source');
  it('a missing last name is ENOENT for every call that does not make it', async (_, p) => {
    for (const [call, place] of pathCalls) {
      const argument = place('missing');
      if (!makes(call, argument)) await p.fails('ENOENT', call, ...argument);
    }
  });
  it('a missing folder on the way is ENOENT for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENOENT', call, ...place('missing/name'));
  });
  it('a file on the way is ENOTDIR for every call', async (_, p) => {
    await withSource(p);
    await p.file('file');
    for (const [call, place] of pathCalls) await p.fails('ENOTDIR', call, ...place('file/name'));
  });
  it('a name of 256 bytes is ENAMETOOLONG for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENAMETOOLONG', call, ...place('n'.repeat(256)));
  });
  it('a path of 4096 bytes is ENAMETOOLONG for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENAMETOOLONG', call, ...place('./'.repeat(2048)));
  });
  it('a circle of links on the way is ELOOP for every call', async (_, p) => {
    await withSource(p);
    await p.ok('symlink', 'b', 'a');
    await p.ok('symlink', 'a', 'b');
    for (const [call, place] of pathCalls) await p.fails('ELOOP', call, ...place('a/name'));
  });
  it('an empty path is ENOENT for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENOENT', call, ...place(''));
  });
  it('a folder that may not be searched is EACCES for every call', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'locked');
    await p.file('locked/name');
    await p.ok('chmod', 'locked', 0o600);
    await p.as(alice, staff);
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('EACCES', call, ...place('locked/name'));
  });
  it('a folder that may not be written is EACCES for every call that changes it', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'shut');
    await p.file('shut/name');
    await p.ok('mkdir', 'shut/dir');
    await p.ok('chmod', 'shut', 0o755);
    await p.as(alice, staff);
    await withSource(p);
    await p.fails('EACCES', 'open', 'shut/new', 'O_CREAT|O_WRONLY');
    await p.fails('EACCES', 'mkdir', 'shut/new');
    await p.fails('EACCES', 'mkfifo', 'shut/new');
    await p.fails('EACCES', 'symlink', 'x', 'shut/new');
    await p.fails('EACCES', 'unlink', 'shut/name');
    await p.fails('EACCES', 'rmdir', 'shut/dir');
    await p.fails('EACCES', 'rename', 'shut/name', 'mine');
    await p.fails('EACCES', 'rename', 'source', 'shut/new');
    await p.fails(['EACCES', 'EPERM'], 'link', 'source', 'shut/new');
  });
  it('an existing name is EEXIST for every call that makes one, of whatever kind it is', async (_, p) => {
    await withSource(p);
    await p.file('file');
    await p.ok('mkdir', 'dir');
    await p.ok('symlink', 'nowhere', 'dangling');
    await p.ok('mkfifo', 'fifo');
    for (const name of ['file', 'dir', 'dangling', 'fifo']) {
      await p.fails('EEXIST', 'mkdir', name);
      await p.fails('EEXIST', 'mkfifo', name);
      await p.fails('EEXIST', 'symlink', 'x', name);
      await p.fails('EEXIST', 'link', 'source', name);
    }
  });
  it('a slash after a file is ENOTDIR', async (_, p) => {
    await p.file('f');
    await p.fails('ENOTDIR', 'stat', 'f/');
    await p.fails('ENOTDIR', 'open', 'f/', 'O_RDONLY');
    await p.fails('ENOTDIR', 'unlink', 'f/');
  });
  it('a name on another filesystem is EXDEV for rename and link', async (t, p) => {
    await p.file('f');
    const here = (await p.stat('.')).dev;
    for (const elsewhere of ['/dev/shm', '/tmp', '/run']) {
      if ((await p.stat(elsewhere)).dev === here) continue;
      await p.fails('EXDEV', 'rename', 'f', `${elsewhere}/never-made`);
      await p.fails('EXDEV', 'link', 'f', `${elsewhere}/never-made`);
      return;
    }
    t.fail('no second filesystem was found');
  });
  it('an executable that is open for writing is ETXTBSY', async (t, p) => {
    await copyFile('/bin/true', join(p.path, 'program'));
    await p.ok('chmod', 'program', 0o755);
    const fd = await p.open('program', 'O_WRONLY');
    await p.fails('ETXTBSY', 'exec', 'program');
    await p.ok('close', fd);
    t.equal(await p.ok('exec', './program'), 0);
  });
  it('a file without any execute bit is EACCES to run, even for root', async (_, p) => {
    await copyFile('/bin/true', join(p.path, 'program'));
    await p.ok('chmod', 'program', 0o644);
    await p.fails('EACCES', 'exec', './program');
  });
  it('a write past the file size limit of the process is EFBIG', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('limit', 1000);
    t.equal(await p.ok('write', fd, Buffer.alloc(600), 700), 300, 'the part that fits is written');
    await p.fails('EFBIG', 'write', fd, Buffer.alloc(10), 1000);
    await p.fails('EFBIG', 'ftruncate', fd, 2000);
    await p.ok('limit', -1);
    await p.ok('ftruncate', fd, 2000);
  });
  it('a size beyond what any file may have is EFBIG', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.fails('EFBIG', 'ftruncate', fd, '0x7ffffffffffff000');
    await p.fails('EFBIG', 'truncate', 'f', '0x7ffffffffffff000');
    await p.fails('EFBIG', 'fallocate', fd, 0, '0x7ffffffffffff000', 4096);
  });
  it('a write beyond what any file may have is EFBIG', 'sizeLimitOnWrite', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.fails('EFBIG', 'write', fd, Buffer.from('x'), '0x7fffffffffffff00');
  });
  it('negative sizes and offsets are EINVAL', async (_, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.fails('EINVAL', 'ftruncate', fd, -1);
    await p.fails('EINVAL', 'truncate', 'f', -1);
    await p.fails('EINVAL', 'lseek', fd, -1, 'SEEK_SET');
    await p.fails('EINVAL', 'read', fd, 1, -1);
    await p.fails('EINVAL', 'fallocate', fd, 0, 0, 0);
  });
  it('truncating a directory is EISDIR, a fifo EINVAL', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('mkfifo', 'p');
    await p.fails('EISDIR', 'truncate', 'd', 0);
    await p.fails('EINVAL', 'truncate', 'p', 0);
  });
}

function directoryTests(it: It): void {
  it('mkdir makes an empty directory with two links', async (t, p) => {
    await p.ok('mkdir', 'd', 0o750);
    t.equal((await p.stat('d')).mode, 0o040750);
    t.equal(await p.nlink('d'), 2);
    t.same((await p.entries('d')).map((entry) => entry.name).sort(), ['.', '..']);
  });
  it('each subdirectory adds a link to its parent, and nothing else does', 'directoryLinks', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('mkdir', 'd/a');
    await p.ok('mkdir', 'd/b');
    await p.file('d/f');
    await p.ok('symlink', 'a', 'd/l');
    t.equal(await p.nlink('d'), 4);
    await p.ok('rmdir', 'd/a');
    t.equal(await p.nlink('d'), 3);
  });
  it('rmdir removes empty directories only', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f');
    await p.fails(['ENOTEMPTY', 'EEXIST'], 'rmdir', 'd');
    await p.ok('unlink', 'd/f');
    await p.ok('rmdir', 'd');
    t.notOk(await p.exists('d'));
  });
  it('rmdir of something else is ENOTDIR', async (_, p) => {
    await p.file('f');
    await p.ok('mkdir', 'd');
    await p.ok('symlink', 'd', 'l');
    await p.ok('mkfifo', 'p');
    for (const name of ['f', 'l', 'p']) await p.fails('ENOTDIR', 'rmdir', name);
  });
  it('rmdir refuses . and ..', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('mkdir', 'd/e');
    await p.fails('EINVAL', 'rmdir', 'd/.');
    await p.fails(['ENOTEMPTY', 'EEXIST'], 'rmdir', 'd/e/..');
  });
  it('unlink of a directory is EISDIR', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.fails(['EISDIR', 'EPERM'], 'unlink', 'd');
    t.ok(await p.exists('d'));
  });
  it('.. of a directory is its parent, also after it moved', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'b');
    await p.ok('mkdir', 'a/d');
    t.equal((await p.stat('a/d/..')).ino, (await p.stat('a')).ino);
    await p.ok('rename', 'a/d', 'b/d');
    t.equal((await p.stat('b/d/..')).ino, (await p.stat('b')).ino);
  });
  it('a directory that is removed while open accepts no new names', 'directoryLinks', async (t, p) => {
    await p.ok('mkdir', 'd');
    const dir = await p.open('d', 'O_RDONLY|O_DIRECTORY');
    await p.ok('rmdir', 'd');
    t.equal((await p.fstat(dir)).nlink, 0);
    await p.fails('ENOENT', 'openat', dir, 'f', 'O_CREAT|O_WRONLY');
    await p.fails('ENOENT', 'openat', dir, 'f', 'O_RDONLY');
  });
  it('a tree deeper than the longest path can be walked step by step', async (t, p) => {
    const name = 'a-directory-name-of-32-bytes----';
    for (let depth = 0; depth < 200; depth++) {
      await p.ok('mkdir', name);
      await p.ok('chdir', name);
    }
    await p.file('bottom', 'deep');
    t.equal(await p.text('bottom'), 'deep');
    for (let depth = 0; depth < 200; depth++) await p.ok('chdir', '..');
    t.equal((await p.stat('.')).ino, (await p.stat(p.path)).ino);
  });
}

async function makeFiles(p: Place, directory: string, count: number): Promise<string[]> {
  await p.ok('mkdir', directory);
  const names = Array.from({ length: count }, (_, i) => `entry-${i.toString(36)}-${'x'.repeat(i % 40)}`);
  await Promise.all(names.map((name) => p.ok('mknod', `${directory}/${name}`, 'S_IFREG|0644', 0, 0)));
  return names.sort();
}

function listingTests(it: It): void {
  it('a listing gives each entry once with its type and inode number', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('mkfifo', 'p');
    const entries = (await p.entries()).filter((entry) => !entry.name.startsWith('.'));
    t.same(entries.map((entry) => [entry.name, entry.type]).sort(byName), [
      ['d', 4],
      ['f', 8],
      ['l', 10],
      ['p', 1],
    ]);
    for (const entry of entries) t.equal(entry.ino, (await p.lstat(entry.name)).ino);
  });
  it('a directory of 10,000 entries lists each exactly once', async (t, p) => {
    const names = await makeFiles(p, 'd', 10_000);
    t.strictSame(await p.names('d'), names);
    await p.fails('ENOTEMPTY', 'rmdir', 'd');
  });
  it('deleting 5,000 entries while reading the directory misses none', async (t, p) => {
    const names = await makeFiles(p, 'd', 5000);
    const handle = await p.ok('opendir', 'd');
    const seen: string[] = [];
    for (;;) {
      const { entries = [] } = await p.probe.need('readdir', handle, 97);
      if (entries.length === 0) break;
      const found = entries.map((entry) => entry.name).filter((name) => name !== '.' && name !== '..');
      seen.push(...found);
      await Promise.all(found.map((name) => p.ok('unlink', `d/${name}`)));
    }
    t.strictSame(seen.sort(), names);
    await p.ok('rmdir', 'd');
  });
  it('entries that stay are listed exactly once while others come and go', async (t, p) => {
    const names = await makeFiles(p, 'd', 1000);
    const handle = await p.ok('opendir', 'd');
    const seen: string[] = [];
    for (let round = 0; ; round++) {
      const { entries = [] } = await p.probe.need('readdir', handle, 50);
      if (entries.length === 0) break;
      seen.push(...entries.map((entry) => entry.name));
      await p.ok('mknod', `d/new-${round}`, 'S_IFREG|0644', 0, 0);
      if (round > 0) await p.ok('unlink', `d/new-${round - 1}`);
    }
    t.strictSame(seen.filter((name) => name.startsWith('entry-')).sort(), names);
  });
  it('seekdir goes back to where telldir was', async (t, p) => {
    await makeFiles(p, 'd', 300);
    const handle = await p.ok('opendir', 'd');
    const { entries = [] } = await p.probe.need('readdir', handle);
    for (const index of [0, 1, 150, 299, 300]) {
      await p.ok('seekdir', handle, entries[index]?.at ?? '0');
      const { entries: rest = [] } = await p.probe.need('readdir', handle);
      t.strictSame(
        rest.map((entry) => entry.name),
        entries.slice(index + 1).map((entry) => entry.name),
      );
    }
  });
  it('rewinddir shows what was made since the directory was opened', async (t, p) => {
    await p.ok('mkdir', 'd');
    const handle = await p.ok('opendir', 'd');
    await p.probe.need('readdir', handle);
    await p.file('d/new');
    await p.ok('rewinddir', handle);
    const { entries = [] } = await p.probe.need('readdir', handle);
    t.ok(entries.some((entry) => entry.name === 'new'));
  });
  it('a name that was listed, removed and made again is found', async (t, p) => {
    for (let i = 0; i < 20; i++) {
      await p.file('f', `${i}`);
      t.equal(await p.text('f'), `${i}`);
      await p.ok('unlink', 'f');
      await p.fails('ENOENT', 'stat', 'f');
    }
    t.same(await p.names(), []);
  });
}

function byName([a]: readonly (string | number)[], [b]: readonly (string | number)[]): number {
  return String(a) < String(b) ? -1 : 1;
}

function renameTests(it: It): void {
  it('rename keeps content and inode number', async (t, p) => {
    await p.file('a', 'x');
    const before = await p.stat('a');
    await p.ok('rename', 'a', 'b');
    t.equal((await p.stat('b')).ino, before.ino);
    t.equal(await p.text('b'), 'x');
    t.same(await p.names(), ['b']);
  });
  it('rename over a file replaces it and drops its link', async (t, p) => {
    await p.file('a', 'new');
    await p.file('b', 'old');
    await p.ok('link', 'b', 'kept');
    await p.ok('rename', 'a', 'b');
    t.equal(await p.text('b'), 'new');
    t.equal(await p.text('kept'), 'old');
    t.equal(await p.nlink('kept'), 1);
  });
  it('a reader of a replaced file goes on with the old content', async (t, p) => {
    await p.file('a', 'new');
    await p.file('b', 'old');
    const fd = await p.open('b', 'O_RDONLY');
    await p.ok('rename', 'a', 'b');
    t.equal((await p.probe.readAt(fd, 10, 0)).toString(), 'old');
    t.equal((await p.fstat(fd)).nlink, 0);
  });
  it('rename of one hard link over another of the same file does nothing', async (t, p) => {
    await p.file('a', 'x');
    await p.ok('link', 'a', 'b');
    await p.ok('rename', 'a', 'b');
    t.same(await p.names(), ['a', 'b']);
    t.equal(await p.nlink('a'), 2);
  });
  it('rename to itself does nothing', async (t, p) => {
    await p.file('a', 'x');
    await p.ok('rename', 'a', 'a');
    t.equal(await p.text('a'), 'x');
  });
  it('a directory replaces an empty directory', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.file('a/f');
    await p.ok('mkdir', 'b');
    await p.ok('rename', 'a', 'b');
    t.same(await p.names('b'), ['f']);
    t.same(await p.names(), ['b']);
  });
  it('a directory does not replace one that is not empty', async (_, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'b');
    await p.file('b/f');
    await p.fails(['ENOTEMPTY', 'EEXIST'], 'rename', 'a', 'b');
  });
  it('a directory does not replace a file, nor a file a directory', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.file('f');
    await p.fails('ENOTDIR', 'rename', 'd', 'f');
    await p.fails('EISDIR', 'rename', 'f', 'd');
  });
  it('a directory cannot move below itself', async (_, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'a/b');
    await p.fails('EINVAL', 'rename', 'a', 'a/c');
    await p.fails('EINVAL', 'rename', 'a', 'a/b/c');
    await p.fails(['ENOTEMPTY', 'EEXIST'], 'rename', 'a/b', 'a');
  });
  it('. and .. cannot be renamed', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.fails(['EBUSY', 'EINVAL'], 'rename', 'd/.', 'e');
    await p.fails(['EBUSY', 'EINVAL', 'ENOTEMPTY'], 'rename', 'd/..', 'e');
  });
  it('moving a directory moves its link from the old parent to the new', 'directoryLinks', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'b');
    await p.ok('mkdir', 'a/d');
    await p.ok('rename', 'a/d', 'b/d');
    t.equal(await p.nlink('a'), 2);
    t.equal(await p.nlink('b'), 3);
  });
  it('replacing a directory drops its link from the parent', 'directoryLinks', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'a/x');
    await p.ok('mkdir', 'a/y');
    await p.ok('rename', 'a/x', 'a/y');
    t.equal(await p.nlink('a'), 3);
  });
  it('a moved tree is reachable by its new path only', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'a/b');
    await p.file('a/b/f', 'x');
    await p.stat('a/b/f');
    await p.ok('rename', 'a', 'z');
    t.equal(await p.text('z/b/f'), 'x');
    await p.fails('ENOENT', 'stat', 'a/b/f');
  });
  it('renaming a link moves the link, not what it points at', async (t, p) => {
    await p.file('f', 'x');
    await p.ok('symlink', 'f', 'l');
    await p.ok('rename', 'l', 'm');
    t.equal((await p.lstat('m')).mode & 0o170000, 0o120000);
    t.equal(await p.text('f'), 'x');
  });
  it('rename over a link replaces the link and spares its target', async (t, p) => {
    await p.file('target', 'kept');
    await p.ok('symlink', 'target', 'l');
    await p.file('f', 'new');
    await p.ok('rename', 'f', 'l');
    t.equal(await p.text('l'), 'new');
    t.equal(await p.text('target'), 'kept');
  });
  it('NOREPLACE refuses an existing name and moves to a free one', async (t, p) => {
    await p.file('a', 'a');
    await p.file('b', 'b');
    await p.fails('EEXIST', 'rename', 'a', 'b', 'RENAME_NOREPLACE');
    await p.ok('rename', 'a', 'c', 'RENAME_NOREPLACE');
    t.same(await p.names(), ['b', 'c']);
    t.equal(await p.text('b'), 'b');
  });
  it('EXCHANGE swaps two files', 'exchange', async (t, p) => {
    await p.file('a', 'a');
    await p.file('b', 'b');
    await p.ok('rename', 'a', 'b', 'RENAME_EXCHANGE');
    t.equal((await p.text('a')) + (await p.text('b')), 'ba');
  });
  it('EXCHANGE swaps a file with a full directory of another parent, and their links', 'exchange', 'directoryLinks', async (t, p) => {
    await p.ok('mkdir', 'p');
    await p.ok('mkdir', 'q');
    await p.ok('mkdir', 'p/d');
    await p.file('p/d/inside');
    await p.file('q/f', 'x');
    await p.ok('rename', 'p/d', 'q/f', 'RENAME_EXCHANGE');
    t.same(await p.names('q/f'), ['inside']);
    t.equal(await p.text('p/d'), 'x');
    t.same([await p.nlink('p'), await p.nlink('q')], [2, 3]);
    t.equal((await p.stat('q/f/..')).ino, (await p.stat('q')).ino);
  });
  it('EXCHANGE needs both names and refuses an ancestor', 'exchange', async (_, p) => {
    await p.file('a');
    await p.ok('mkdir', 'd');
    await p.ok('mkdir', 'd/e');
    await p.fails('ENOENT', 'rename', 'a', 'missing', 'RENAME_EXCHANGE');
    await p.fails('EINVAL', 'rename', 'd', 'd/e', 'RENAME_EXCHANGE');
    await p.fails('EINVAL', 'rename', 'd/e', 'd', 'RENAME_EXCHANGE');
    await p.fails('EINVAL', 'rename', 'a', 'd', 'RENAME_EXCHANGE|RENAME_NOREPLACE');
  });
  it('two processes that replace one name leave one whole file', async (t, p) => {
    const other = await p.other();
    const replace = async (probe: Probe, own: string): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        await probe.writeFile(`${own}.new`, own.repeat(100));
        await probe.ok('rename', `${own}.new`, 'shared');
      }
    };
    await Promise.all([replace(p.probe, 'a'), replace(other, 'b')]);
    t.match(await p.text('shared'), /^(a{100}|b{100})$/);
    t.same(await p.names(), ['shared']);
  });
}

function linkTests(it: It): void {
  it('a hard link is the same file', async (t, p) => {
    await p.file('a', 'x');
    await p.ok('link', 'a', 'b');
    const [a, b] = [await p.stat('a'), await p.stat('b')];
    t.equal(a.ino, b.ino);
    t.same([a.nlink, b.nlink], [2, 2]);
    await p.file('b', 'changed');
    t.equal(await p.text('a'), 'changed');
    await p.ok('chmod', 'a', 0o600);
    t.equal(await p.mode('b'), 0o600);
  });
  it('the file lives until its last link goes', async (t, p) => {
    await p.file('a', 'x');
    await p.ok('link', 'a', 'b');
    await p.ok('unlink', 'a');
    t.equal(await p.text('b'), 'x');
    t.equal(await p.nlink('b'), 1);
  });
  it('a file can have a hundred links in several folders', async (t, p) => {
    await p.file('f');
    await p.ok('mkdir', 'd');
    for (let i = 0; i < 50; i++) {
      await p.ok('link', 'f', `l${i}`);
      await p.ok('link', 'f', `d/l${i}`);
    }
    t.equal(await p.nlink('f'), 101);
    for (let i = 0; i < 50; i++) await p.ok('unlink', `d/l${i}`);
    t.equal(await p.nlink('l7'), 51);
  });
  it('a directory cannot be linked', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.fails('EPERM', 'link', 'd', 'e');
  });
  it('link to a symbolic link links the link', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('link', 'l', 'm');
    t.equal((await p.lstat('m')).ino, (await p.lstat('l')).ino);
    t.equal((await p.lstat('l')).nlink, 2);
    t.equal(await p.nlink('f'), 1);
  });
  it('link can follow a symbolic link when asked', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('link', 'l', 'm', 'AT_SYMLINK_FOLLOW');
    t.equal((await p.lstat('m')).ino, (await p.lstat('f')).ino);
  });
  it('a file whose last link went cannot be linked again', async (_, p) => {
    await p.file('f');
    const fd = await p.open('f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    await p.fails('ENOENT', 'link', `/proc/self/fd/${fd}`, 'again', 'AT_SYMLINK_FOLLOW');
  });
  it('fifos have hard links too', async (t, p) => {
    await p.ok('mkfifo', 'a');
    await p.ok('link', 'a', 'b');
    t.equal(await p.nlink('b'), 2);
  });
  it('a symbolic link holds any bytes and has their length', async (t, p) => {
    const target = Buffer.from([0xff, 0x20, 0x25, 0xc3, 0x28, 0x0a, 0x01]);
    await p.ok('symlink', new RawName(target), 'l');
    t.equal((await p.probe.need('readlink', 'l')).data, target.toString('hex'));
    t.equal((await p.lstat('l')).size, target.length);
  });
  it('a symbolic link holds 4095 bytes and not 4096', async (t, p) => {
    await p.ok('symlink', 't'.repeat(4095), 'l');
    t.equal((await p.probe.need('readlink', 'l')).value, 4095);
    await p.fails('ENAMETOOLONG', 'symlink', 't'.repeat(4096), 'm');
  });
  it('readlink cuts to the space given and refuses what is no link', async (t, p) => {
    await p.ok('symlink', 'abcdef', 'l');
    t.equal((await p.probe.need('readlink', 'l', 3)).data, Buffer.from('abc').toString('hex'));
    await p.file('f');
    await p.ok('mkdir', 'd');
    await p.fails('EINVAL', 'readlink', 'f');
    await p.fails('EINVAL', 'readlink', 'd');
  });
  it('symbolic links lead through directories, relative and absolute', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f', 'x');
    await p.ok('symlink', '../d', 'd/self');
    await p.ok('symlink', `${p.path}/d`, 'absolute');
    t.equal(await p.text('d/self/self/f'), 'x');
    t.equal(await p.text('absolute/f'), 'x');
  });
  it('a chain of more than forty links is ELOOP', async (t, p) => {
    await p.file('l0', 'x');
    for (let i = 1; i <= 42; i++) await p.ok('symlink', `l${i - 1}`, `l${i}`);
    t.equal(await p.text('l40'), 'x');
    await p.fails('ELOOP', 'stat', 'l41');
  });
  it('unlink removes the link, not its target', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('unlink', 'l');
    t.same(await p.names(), ['f']);
  });
}

function nodeTests(it: It): void {
  it('a fifo carries bytes between two processes', async (t, p) => {
    await p.ok('mkfifo', 'p', 0o600);
    t.equal((await p.stat('p')).mode, 0o010600);
    const other = await p.other();
    const reading = p.ok('open', 'p', 'O_RDONLY');
    const writer = await other.ok('open', 'p', 'O_WRONLY');
    const reader = await reading;
    await other.ok('write', writer, Buffer.from('through'));
    t.equal(Buffer.from((await p.probe.need('read', reader, 100)).data ?? '', 'hex').toString(), 'through');
  });
  it('a fifo without a reader is ENXIO for a writer that will not wait', async (_, p) => {
    await p.ok('mkfifo', 'p');
    await p.fails('ENXIO', 'open', 'p', 'O_WRONLY|O_NONBLOCK');
  });
  it('mknod makes a plain file', async (t, p) => {
    await p.ok('mknod', 'f', 'S_IFREG|0640', 0, 0);
    t.equal((await p.stat('f')).mode, 0o100640);
  });
  it('mknod makes a socket name', async (t, p) => {
    await p.ok('mknod', 's', 'S_IFSOCK|0600', 0, 0);
    t.equal((await p.stat('s')).mode, 0o140600);
  });
  it('device nodes keep their kind and numbers', 'deviceNodes', async (t, p) => {
    await p.ok('mknod', 'c', 'S_IFCHR|0600', 1, 3);
    await p.ok('mknod', 'b', 'S_IFBLK|0600', 259, 70000);
    t.same([(await p.stat('c')).mode, (await p.stat('c')).rdev], [0o020600, '1:3']);
    t.same([(await p.stat('b')).mode, (await p.stat('b')).rdev], [0o060600, '259:70000']);
  });
  it('only root makes device nodes', 'deviceNodes', 'otherUsers', async (_, p) => {
    await p.as(alice, staff);
    await p.fails('EPERM', 'mknod', 'c', 'S_IFCHR|0600', 1, 3);
  });
}

function attributeTests(it: It): void {
  it('chmod keeps all twelve bits', async (t, p) => {
    await p.file('f');
    for (const mode of [0, 0o777, 0o644, 0o4755, 0o2755, 0o1755, 0o7777]) {
      await p.ok('chmod', 'f', mode);
      t.equal(await p.mode('f'), mode);
    }
  });
  it('chmod keeps all twelve bits of a directory', async (t, p) => {
    await p.ok('mkdir', 'd');
    for (const mode of [0o7777, 0o1777, 0o2750, 0o700]) {
      await p.ok('chmod', 'd', mode);
      t.equal(await p.mode('d'), mode);
    }
  });
  it('fchmod works on an open file, also one without a name', async (t, p) => {
    await p.file('f');
    const fd = await p.open('f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    await p.ok('fchmod', fd, 0o600);
    t.equal((await p.fstat(fd)).mode & 0o7777, 0o600);
  });
  it('chmod and chown follow links; lchown does not', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('chmod', 'l', 0o600);
    t.equal(await p.mode('f'), 0o600);
    await p.ok('chown', 'l', alice, staff);
    await p.ok('lchown', 'l', bob, guests);
    t.same([(await p.stat('f')).uid, (await p.stat('f')).gid], [alice, staff]);
    t.same([(await p.lstat('l')).uid, (await p.lstat('l')).gid], [bob, guests]);
  });
  it('chown with -1 leaves that id', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chown', 'f', alice, staff);
    await p.ok('chown', 'f', -1, guests);
    await p.ok('chown', 'f', bob, -1);
    t.same([(await p.stat('f')).uid, (await p.stat('f')).gid], [bob, guests]);
  });
  it('ids above 2^31 are kept', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chown', 'f', 4294967294, 4000000000);
    t.same([(await p.stat('f')).uid, (await p.stat('f')).gid], [4294967294, 4000000000]);
  });
  it('a new file belongs to who made it', 'otherUsers', async (t, p) => {
    await p.as(alice, staff);
    await p.file('f');
    await p.ok('mkdir', 'd');
    await p.ok('symlink', 'f', 'l');
    for (const name of ['f', 'd', 'l']) t.same([(await p.lstat(name)).uid, (await p.lstat(name)).gid], [alice, staff]);
  });
  it('the umask takes bits away from new files, directories and fifos', async (t, p) => {
    await p.ok('umask', 0o027);
    await p.ok('close', await p.open('f', 'O_CREAT|O_WRONLY', 0o666));
    await p.ok('mkdir', 'd', 0o777);
    await p.ok('mkfifo', 'p', 0o666);
    t.same([await p.mode('f'), await p.mode('d'), await p.mode('p')], [0o640, 0o750, 0o640]);
    await p.ok('chmod', 'f', 0o666);
    t.equal(await p.mode('f'), 0o666, 'chmod does not heed it');
  });
  it('inode numbers stay through rename, writing, links and attribute changes', async (t, p) => {
    await p.file('f', 'x');
    const { ino } = await p.stat('f');
    await p.ok('rename', 'f', 'g');
    await p.file('g', 'longer content');
    await p.ok('link', 'g', 'h');
    await p.ok('unlink', 'g');
    await p.ok('chmod', 'h', 0o600);
    t.equal((await p.stat('h')).ino, ino);
  });
  it('two files never share an inode number', async (t, p) => {
    await makeFiles(p, 'd', 500);
    const inos = (await p.entries('d')).filter((entry) => entry.name.startsWith('entry-')).map((entry) => entry.ino);
    t.equal(new Set(inos).size, 500);
  });
  it('all files of the tree are on one device', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f');
    t.equal((await p.stat('d/f')).dev, (await p.stat('.')).dev);
  });
  it('the birth time is set once', 'birthTime', async (t, p) => {
    await p.file('f', 'x');
    const { btime, ctime } = await p.stat('f');
    t.ok(btime !== undefined && btime <= ctime);
    await p.later('f');
    await p.file('f', 'y');
    await p.ok('utimens', 'f', 0, 0);
    await p.ok('rename', 'f', 'g');
    t.equal((await p.stat('g')).btime, btime);
  });
}

interface TimeCase {
  readonly name: string;
  readonly prepare?: (p: Place) => Promise<unknown>;
  readonly act: (p: Place) => Promise<unknown>;
  /** Path (after the act) to what must change: m, c, both, or nothing. */
  readonly expect: Readonly<Record<string, 'mc' | 'c' | ''>>;
  /** Where a path was before the act, if elsewhere. */
  readonly before?: Readonly<Record<string, string>>;
  readonly needs?: readonly Need[];
}

const timeCases: readonly TimeCase[] = [
  { name: 'write', act: async (p) => p.ok('write', await p.open('d/f', 'O_WRONLY'), Buffer.from('z')), expect: { 'd/f': 'mc', d: '' } },
  { name: 'a write of nothing', act: async (p) => p.ok('write', await p.open('d/f', 'O_WRONLY'), new Uint8Array(0)), expect: { 'd/f': '' } },
  { name: 'read', act: (p) => p.text('d/f'), expect: { 'd/f': '', d: '' } },
  { name: 'truncate to less', act: (p) => p.ok('truncate', 'd/f', 1), expect: { 'd/f': 'mc', d: '' } },
  { name: 'truncate to more', act: (p) => p.ok('truncate', 'd/f', 100), expect: { 'd/f': 'mc' } },
  { name: 'ftruncate', act: async (p) => p.ok('ftruncate', await p.open('d/f', 'O_WRONLY'), 1), expect: { 'd/f': 'mc' } },
  { name: 'open with O_TRUNC', act: (p) => p.open('d/f', 'O_WRONLY|O_TRUNC'), expect: { 'd/f': 'mc', d: '' } },
  { name: 'chmod', act: (p) => p.ok('chmod', 'd/f', 0o600), expect: { 'd/f': 'c', d: '' } },
  { name: 'chown', act: (p) => p.ok('chown', 'd/f', alice, staff), expect: { 'd/f': 'c', d: '' }, needs: ['otherUsers'] },
  { name: 'setting the access time', act: (p) => p.ok('utimens', 'd/f', 5, 'omit'), expect: { 'd/f': 'c', d: '' } },
  { name: 'setxattr', act: (p) => p.ok('setxattr', 'd/f', 'user.x', Buffer.from('1')), expect: { 'd/f': 'c', d: '' }, needs: ['userXattrs'] },
  {
    name: 'removexattr',
    prepare: (p) => p.ok('setxattr', 'd/f', 'user.x', Buffer.from('1')),
    act: (p) => p.ok('removexattr', 'd/f', 'user.x'),
    expect: { 'd/f': 'c', d: '' },
    needs: ['userXattrs'],
  },
  { name: 'creating a file', act: (p) => p.file('d/new'), expect: { d: 'mc', 'd/f': '', '.': '' } },
  { name: 'opening with O_CREAT what exists', act: (p) => p.open('d/f', 'O_CREAT|O_WRONLY'), expect: { d: '', 'd/f': '' } },
  { name: 'mkdir', act: (p) => p.ok('mkdir', 'd/new'), expect: { d: 'mc' } },
  { name: 'symlink', act: (p) => p.ok('symlink', 'x', 'd/new'), expect: { d: 'mc' } },
  { name: 'mkfifo', act: (p) => p.ok('mkfifo', 'd/new'), expect: { d: 'mc' } },
  { name: 'rmdir', act: (p) => p.ok('rmdir', 'd/sub'), expect: { d: 'mc' } },
  {
    name: 'unlink',
    prepare: (p) => p.ok('link', 'd/f', 'kept'),
    act: (p) => p.ok('unlink', 'd/f'),
    before: { kept: 'kept' },
    expect: { d: 'mc', kept: 'c' },
  },
  { name: 'link', act: (p) => p.ok('link', 'd/f', 'e/g'), expect: { 'd/f': 'c', e: 'mc', d: '' } },
  { name: 'rename', act: (p) => p.ok('rename', 'd/f', 'e/g'), before: { 'e/g': 'd/f' }, expect: { 'e/g': 'c', d: 'mc', e: 'mc' } },
  {
    name: 'rename over a file that has another link',
    prepare: async (p) => {
      await p.file('e/g');
      await p.ok('link', 'e/g', 'kept');
    },
    act: (p) => p.ok('rename', 'd/f', 'e/g'),
    before: { 'e/g': 'd/f' },
    expect: { d: 'mc', e: 'mc', kept: 'c' },
  },
  {
    name: 'rename with EXCHANGE',
    prepare: (p) => p.file('e/g'),
    act: (p) => p.ok('rename', 'd/f', 'e/g', 'RENAME_EXCHANGE'),
    before: { 'e/g': 'd/f', 'd/f': 'e/g' },
    expect: { d: 'mc', e: 'mc', 'd/f': 'c', 'e/g': 'c' },
    needs: ['exchange'],
  },
  { name: 'listing', act: (p) => p.names('d'), expect: { d: '' } },
  { name: 'a failed unlink', act: (p) => p.fails('ENOENT', 'unlink', 'd/none'), expect: { d: '' } },
  { name: 'a failed mkdir', act: (p) => p.fails('EEXIST', 'mkdir', 'd/f'), expect: { d: '', 'd/f': '' } },
  { name: 'a failed rename', act: (p) => p.fails('EISDIR', 'rename', 'd/f', 'd/sub'), expect: { d: '', 'd/f': '' } },
  { name: 'a failed rmdir', act: (p) => p.fails('ENOTEMPTY', 'rmdir', 'd'), expect: { d: '', '.': '' } },
  {
    name: 'fallocate that makes the file longer',
    act: async (p) => p.ok('fallocate', await p.open('d/f', 'O_WRONLY'), 0, 0, 8192),
    expect: { 'd/f': 'mc' },
    needs: ['preallocate'],
  },
  {
    name: 'punching a hole',
    act: async (p) => p.ok('fallocate', await p.open('d/f', 'O_WRONLY'), 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 0, 4096),
    expect: { 'd/f': 'mc' },
    needs: ['punchHole'],
  },
  {
    name: 'copy_file_range into it',
    prepare: (p) => p.file('source', 'abcdef'),
    act: async (p) => p.ok('copy_file_range', await p.open('source', 'O_RDONLY'), 0, await p.open('d/f', 'O_WRONLY'), 0, 6),
    expect: { 'd/f': 'mc', source: '' },
  },
];

function timeTests(it: It): void {
  for (const { name, prepare, act, expect, before = {}, needs = [] } of timeCases) {
    const changes = Object.entries(expect).map(([path, what]) => `${what || 'nothing'} of ${path}`);
    it(`times: ${name} changes ${changes.join(', ')}`, ...needs, async (t, p) => {
      await p.ok('mkdir', 'd');
      await p.ok('mkdir', 'd/sub');
      await p.ok('mkdir', 'e');
      await p.file('d/f', 'content');
      await prepare?.(p);
      const old = new Map<string, ProbeStat>();
      for (const path of Object.keys(expect)) old.set(path, await p.lstat(before[path] ?? path));
      await p.later(...Object.keys(expect).map((path) => before[path] ?? path));
      await act(p);
      for (const [path, what] of Object.entries(expect)) {
        const [was, is] = [old.get(path), await p.lstat(path)];
        if (was === undefined) continue;
        t.equal(is.mtime > was.mtime ? 'm' : is.mtime < was.mtime ? 'm goes back' : '', what.includes('m') ? 'm' : '', `mtime of ${path}`);
        t.equal(is.ctime > was.ctime ? 'c' : is.ctime < was.ctime ? 'c goes back' : '', what.includes('c') ? 'c' : '', `ctime of ${path}`);
      }
    });
  }
  it('utimens keeps every nanosecond, before 1970 and after 2038', async (t, p) => {
    await p.file('f');
    for (const ns of [0n, 1n, 999_999_999n, 1_234_567_890_123_456_789n, 4_000_000_000_123_456_789n, -1n, -1_000_000_000_000_000_001n]) {
      await p.ok('utimens', 'f', ns + 1n, ns);
      const { atime, mtime } = await p.stat('f');
      t.same([atime, mtime], [ns + 1n, ns]);
    }
  });
  it('utimens can leave either time out', async (t, p) => {
    await p.file('f');
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('utimens', 'f', 'omit', 3000);
    await p.ok('utimens', 'f', 4000, 'omit');
    await p.ok('utimens', 'f', 'omit', 'omit');
    t.same([(await p.stat('f')).atime, (await p.stat('f')).mtime], [4000n, 3000n]);
  });
  it('utimens can set either time to now', async (t, p) => {
    await p.file('f');
    const { ctime } = await p.stat('f');
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('utimens', 'f', 'omit', 'now');
    t.equal((await p.stat('f')).atime, 1000n);
    t.ok((await p.stat('f')).mtime >= ctime - 20_000_000n);
    await p.ok('utimens', 'f', 'now', 5000);
    t.ok((await p.stat('f')).atime >= ctime - 20_000_000n);
    t.equal((await p.stat('f')).mtime, 5000n);
  });
  it('utimens on a link follows it unless told not to', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('utimens', 'l', 1000, 2000);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('utimens', 'l', 3000, 4000, 'nofollow');
    t.equal((await p.stat('f')).mtime, 2000n);
    t.equal((await p.lstat('l')).mtime, 4000n);
  });
  it('a time set after a write and before close stays', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_WRONLY');
    await p.ok('write', fd, Buffer.alloc(10_000));
    await p.ok('futimens', fd, 1000, 2000);
    await p.ok('close', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('close', await p.open('f', 'O_WRONLY'));
    t.equal((await p.stat('f')).mtime, 2000n);
  });
  it('a time set on a path while another descriptor has unwritten data stays', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_WRONLY');
    await p.ok('write', fd, Buffer.alloc(10_000));
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('fsync', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('close', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
  });
  it('directories keep set times', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f');
    await p.ok('utimens', 'd', 1000, 2000);
    t.equal((await p.stat('d')).mtime, 2000n);
  });
}

function permissionTests(it: It): void {
  it('each class of users has its own bits, and only its own', 'otherUsers', async (t, p) => {
    await p.file('f', 'x');
    await p.ok('chown', 'f', alice, staff);
    const may = async (bits: number): Promise<string> => {
      await p.asRoot();
      await p.ok('chmod', 'f', bits);
      const found: string[] = [];
      for (const [uid, gid, groups] of [
        [alice, guests, []],
        [bob, staff, []],
        [bob, guests, [staff]],
        [bob, guests, []],
      ] as const) {
        await p.as(uid, gid, ...groups);
        const read = (await p.probe.errno('open', 'f', 'O_RDONLY')) === 'OK';
        const write = (await p.probe.errno('open', 'f', 'O_WRONLY')) === 'OK';
        found.push(`${read ? 'r' : '-'}${write ? 'w' : '-'}`);
      }
      return found.join(' ');
    };
    t.equal(await may(0o600), 'rw -- -- --');
    t.equal(await may(0o060), '-- rw rw --');
    t.equal(await may(0o006), '-- -- -- rw');
    t.equal(await may(0o246), '-w r- r- rw');
    t.equal(await may(0), '-- -- -- --');
  });
  it('access answers as open would', 'otherUsers', async (_, p) => {
    await p.file('f', 'x', 0o640);
    await p.ok('chown', 'f', alice, staff);
    await p.as(bob, staff);
    await p.ok('access', 'f', 'R_OK');
    await p.fails('EACCES', 'access', 'f', 'W_OK');
    await p.fails('EACCES', 'access', 'f', 'X_OK');
    await p.as(bob, guests);
    await p.ok('access', 'f', 'F_OK');
    await p.fails('EACCES', 'access', 'f', 'R_OK');
  });
  it('root passes permissions', 'otherUsers', async (t, p) => {
    await p.ok('mkdir', 'd', 0);
    await p.file('d/f', 'x', 0);
    t.equal(await p.text('d/f'), 'x');
    t.same(await p.names('d'), ['f']);
  });
  it('listing needs read, reaching needs search', 'otherUsers', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f', 'x');
    await p.ok('chmod', 'd', 0o711);
    await p.as(alice, staff);
    await p.fails('EACCES', 'opendir', 'd');
    t.equal(await p.text('d/f'), 'x');
    await p.asRoot();
    await p.ok('chmod', 'd', 0o744);
    await p.as(alice, staff);
    t.same(await p.names('d'), ['f']);
    await p.fails('EACCES', 'stat', 'd/f');
  });
  it('only the owner changes the mode', 'otherUsers', async (_, p) => {
    await p.file('f', '', 0o666);
    await p.ok('chmod', 'f', 0o666);
    await p.as(alice, staff);
    await p.fails('EPERM', 'chmod', 'f', 0o600);
    await p.asRoot();
    await p.ok('chown', 'f', alice, staff);
    await p.as(alice, staff);
    await p.ok('chmod', 'f', 0o600);
  });
  it('an owner gives a file to own groups only, and to no other user', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chown', 'f', alice, staff);
    await p.as(alice, staff, guests);
    await p.ok('chown', 'f', -1, guests);
    t.equal((await p.stat('f')).gid, guests);
    await p.fails('EPERM', 'chown', 'f', -1, 49999);
    await p.fails('EPERM', 'chown', 'f', bob, -1);
    await p.as(bob, staff);
    await p.fails('EPERM', 'chown', 'f', -1, staff);
  });
  it('setting explicit times needs the owner; setting now needs write permission', 'otherUsers', async (_, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o666);
    await p.as(alice, staff);
    await p.ok('utimens', 'f', 'now', 'now');
    await p.fails('EPERM', 'utimens', 'f', 1000, 1000);
    await p.fails('EPERM', 'utimens', 'f', 'omit', 'now');
    await p.asRoot();
    await p.ok('chmod', 'f', 0o644);
    await p.as(alice, staff);
    await p.fails('EACCES', 'utimens', 'f', 'now', 'now');
  });
  it('truncate needs write permission', 'otherUsers', async (_, p) => {
    await p.file('f', 'x');
    await p.as(alice, staff);
    await p.fails('EACCES', 'truncate', 'f', 0);
  });
  it('a descriptor keeps its rights after the mode changed', 'otherUsers', async (_, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o666);
    await p.as(alice, staff);
    const fd = await p.open('f', 'O_RDWR');
    const other = await p.other();
    await other.ok('chmod', 'f', 0);
    await p.ok('write', fd, Buffer.from('x'));
    await p.ok('ftruncate', fd, 0);
    await p.fails('EACCES', 'open', 'f', 'O_RDWR');
  });
  it('in a sticky directory only owners remove and rename', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('chmod', 'd', 0o1777);
    await p.as(alice, staff);
    await p.file('d/alice');
    await p.ok('mkdir', 'd/alicedir');
    await p.as(bob, staff);
    await p.file('d/bob');
    await p.fails('EPERM', 'unlink', 'd/alice');
    await p.fails('EPERM', 'rmdir', 'd/alicedir');
    await p.fails('EPERM', 'rename', 'd/alice', 'd/other');
    await p.fails('EPERM', 'rename', 'd/bob', 'd/alice');
    await p.ok('rename', 'd/bob', 'd/bob2');
    await p.ok('unlink', 'd/bob2');
    await p.as(alice, staff);
    await p.ok('unlink', 'd/alice');
  });
  it('the owner of a sticky directory removes anything in it', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('chown', 'd', alice, staff);
    await p.ok('chmod', 'd', 0o1777);
    await p.as(bob, staff);
    await p.file('d/bob');
    await p.as(alice, staff);
    await p.ok('unlink', 'd/bob');
  });
  it('a directory moves to another parent only for who may write it', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('mkdir', 'e');
    await p.ok('chmod', 'd', 0o777);
    await p.ok('chmod', 'e', 0o777);
    await p.ok('mkdir', 'd/sub');
    await p.as(alice, staff);
    await p.fails('EACCES', 'rename', 'd/sub', 'e/sub');
    await p.ok('rename', 'd/sub', 'd/renamed');
  });
}

function privilegeBitTests(it: It): void {
  it('a write by its unprivileged owner clears set-user-id and set-group-id', 'otherUsers', async (t, p) => {
    await p.file('f', 'x');
    await p.ok('chown', 'f', alice, staff);
    await p.ok('chmod', 'f', 0o6777);
    await p.as(alice, staff);
    const fd = await p.open('f', 'O_WRONLY');
    await p.ok('write', fd, Buffer.from('y'));
    await p.ok('close', fd);
    t.equal(await p.mode('f'), 0o777);
  });
  it('a truncation by another user clears them', 'otherUsers', async (t, p) => {
    await p.file('f', 'xyz');
    await p.ok('chmod', 'f', 0o6777);
    await p.as(alice, staff);
    await p.ok('truncate', 'f', 1);
    t.equal(await p.mode('f'), 0o777);
  });
  it('set-group-id without group execute is kept by a chown', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o2644);
    await p.ok('chown', 'f', alice, staff);
    t.equal(await p.mode('f'), 0o2644);
  });
  it('chown of a program clears them, also by root', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o6755);
    await p.ok('chown', 'f', alice, staff);
    t.equal(await p.mode('f'), 0o755);
  });
  it('chown of a directory keeps them', 'otherUsers', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('chmod', 'd', 0o6755);
    await p.ok('chown', 'd', alice, staff);
    t.equal(await p.mode('d'), 0o6755);
  });
  it('chmod by an owner outside the group drops set-group-id', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chown', 'f', alice, guests);
    await p.as(alice, staff);
    await p.ok('chmod', 'f', 0o2755);
    t.equal(await p.mode('f'), 0o755);
  });
  it('in a set-group-id directory new entries take its group, and directories the bit', 'otherUsers', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('chown', 'd', alice, guests);
    await p.ok('chmod', 'd', 0o2777);
    await p.as(bob, staff);
    await p.file('d/f');
    await p.ok('mkdir', 'd/sub', 0o755);
    await p.ok('symlink', 'x', 'd/l');
    t.same([(await p.stat('d/f')).gid, (await p.stat('d/sub')).gid, (await p.lstat('d/l')).gid], [guests, guests, guests]);
    t.same([await p.mode('d/f'), await p.mode('d/sub')], [0o644, 0o2755]);
    await p.asRoot();
    await p.file('f');
    await p.ok('rename', 'f', 'd/moved');
    t.equal((await p.stat('d/moved')).gid, 0, 'a move is not a birth');
  });
}

function contentTests(it: It): void {
  it('what is written is read, at every size around the usual block edges', async (t, p) => {
    for (const size of [1, 511, 4095, 4096, 4097, 65535, 65536, 131071, 262143, 262144, 262145, 1048577]) {
      const content = Buffer.from(Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8) * 17 + size) & 255));
      await p.file(`f${size}`, content);
      t.equal((await p.stat(`f${size}`)).size, size);
      t.ok((await p.probe.readFile(`f${size}`)).equals(content), `${size} bytes`);
    }
  });
  it('overwriting in the middle leaves the rest', async (t, p) => {
    await p.file('f', 'a'.repeat(10_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('write', fd, Buffer.from('X'.repeat(100)), 4050);
    t.equal(await p.text('f'), 'a'.repeat(4050) + 'X'.repeat(100) + 'a'.repeat(5850));
  });
  it('one descriptor sees at once what another wrote, before any close', async (t, p) => {
    const other = await p.other();
    const writer = await p.open('f', 'O_CREAT|O_WRONLY');
    const reader = await other.ok('open', 'f', 'O_RDONLY');
    for (let i = 0; i < 20; i++) {
      await p.ok('write', writer, Buffer.from(`line ${i}\n`));
      t.equal((await other.readAt(reader, 1000, 0)).length, (await other.stat('stat', 'f')).size);
    }
  });
  it('reading at and past the end gives nothing', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDONLY');
    t.equal((await p.probe.readAt(fd, 10, 3)).length, 0);
    t.equal((await p.probe.readAt(fd, 10, 4_000_000_000)).length, 0);
    t.equal((await p.probe.readAt(fd, 10, 1)).toString(), 'bc');
  });
  it('a write past the end fills the gap with zeros', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.from('a'));
    await p.ok('write', fd, Buffer.from('b'), 10_000);
    t.equal(await p.text('f'), `a${'\0'.repeat(9999)}b`);
  });
  it('truncate shortens, and a later growth shows zeros and not the old bytes', async (t, p) => {
    await p.file('f', 'x'.repeat(10_000));
    await p.ok('truncate', 'f', 100);
    await p.ok('truncate', 'f', 10_000);
    t.equal(await p.text('f'), 'x'.repeat(100) + '\0'.repeat(9900));
  });
  it('truncating twice within unwritten data leaves zeros', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(300 * kib, 'x').subarray(0, 30_000));
    await p.ok('ftruncate', fd, 5000);
    await p.ok('write', fd, Buffer.from('end'), 20_000);
    await p.ok('close', fd);
    t.equal(await p.text('f'), `${'x'.repeat(5000)}${'\0'.repeat(15_000)}end`);
  });
  it('a file may be a terabyte long and hold three bytes', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    const far = 1_099_511_627_776 - 3;
    await p.ok('write', fd, Buffer.from('end'), far);
    t.equal((await p.fstat(fd)).size, far + 3);
    t.equal((await p.probe.readAt(fd, 100, far - 2)).toString(), '\0\0end');
  });
  it('lseek knows the end that writing made', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(12_345));
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_END'), 12_345);
    t.equal(await p.ok('lseek', fd, -345, 'SEEK_CUR'), 12_000);
  });
  it('fsync and fdatasync work on files, fsync and syncfs on directories', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.from('x'));
    await p.ok('fsync', fd);
    await p.ok('fdatasync', fd);
    const dir = await p.open('.', 'O_RDONLY|O_DIRECTORY');
    await p.ok('fsync', dir);
    await p.ok('syncfs', dir);
  });
  it('O_SYNC and O_DSYNC descriptors write', async (t, p) => {
    for (const flag of ['O_SYNC', 'O_DSYNC']) {
      const fd = await p.open(flag, `O_CREAT|O_WRONLY|${flag}`);
      await p.ok('write', fd, Buffer.from('x'));
      t.equal(await p.text(flag), 'x');
    }
  });
  it('copy_file_range copies between files and within one', async (t, p) => {
    await p.file('a', '0123456789'.repeat(1000));
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    t.equal(await p.ok('copy_file_range', from, 5, to, 3, 4000), 4000);
    t.equal(await p.text('b'), `\0\0\0${'0123456789'.repeat(1000).slice(5, 4005)}`);
    t.equal(await p.ok('copy_file_range', from, 0, from, 9000, 50), 50);
    t.equal((await p.text('a')).slice(8999, 9051), `9${'0123456789'.repeat(5)}0`);
  });
  it('copy_file_range stops at the end, refuses overlap and needs a writer', async (t, p) => {
    await p.file('a', 'abcdef');
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    t.equal(await p.ok('copy_file_range', from, 4, to, 0, 100), 2);
    t.equal(await p.ok('copy_file_range', from, 100, to, 0, 100), 0);
    await p.fails('EINVAL', 'copy_file_range', from, 0, from, 2, 4);
    await p.fails('EBADF', 'copy_file_range', from, 0, await p.open('b', 'O_RDONLY'), 0, 4);
  });
  it('a copy made by copy_file_range does not change with its source', async (t, p) => {
    await p.file('a', Buffer.alloc(600_000, 'a'));
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    await p.ok('copy_file_range', from, 0, to, 0, 600_000);
    await p.ok('write', from, Buffer.from('X'), 300_000);
    await p.ok('ftruncate', from, 300_002);
    t.ok((await p.probe.readFile('b')).equals(Buffer.alloc(600_000, 'a')));
  });
}

function spaceTests(it: It): void {
  const sparse = async (p: Place): Promise<number> => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(64 * kib, 'd'), mib);
    await p.ok('ftruncate', fd, 4 * mib);
    await p.ok('fsync', fd);
    return fd;
  };
  it('SEEK_DATA and SEEK_HOLE find the data of a sparse file', 'holes', async (t, p) => {
    const fd = await sparse(p);
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 0);
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_DATA'), mib);
    t.equal(await p.ok('lseek', fd, mib, 'SEEK_DATA'), mib);
    t.equal(await p.ok('lseek', fd, mib, 'SEEK_HOLE'), mib + 64 * kib);
    await p.fails('ENXIO', 'lseek', fd, mib + 64 * kib, 'SEEK_DATA');
  });
  it('SEEK_HOLE of a full file is its end; past the end is ENXIO', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDONLY');
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 5000);
    t.equal(await p.ok('lseek', fd, 4999, 'SEEK_DATA'), 4999);
    await p.fails('ENXIO', 'lseek', fd, 5000, 'SEEK_HOLE');
    await p.fails('ENXIO', 'lseek', fd, 5000, 'SEEK_DATA');
  });
  it('data that was just written and not yet stored is no hole', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(64 * kib, 'd'), mib);
    const data = await p.ok('lseek', fd, mib, 'SEEK_DATA');
    t.equal(data, mib);
  });
  it('st_blocks counts data in 512-byte blocks and not holes', 'holes', async (t, p) => {
    const fd = await sparse(p);
    const { blocks } = await p.fstat(fd);
    t.ok(blocks >= 128 && blocks < 1024, `${blocks} blocks`);
  });
  it('st_blocks of a full file covers its size', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('fill', fd, 16, 64 * kib);
    await p.ok('fsync', fd);
    t.ok((await p.fstat(fd)).blocks * 512 >= mib);
  });
  it('a punched hole reads as zeros, keeps the size and frees space', 'punchHole', 'holes', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(256 * kib, 'd'));
    await p.ok('fsync', fd);
    const { blocks } = await p.fstat(fd);
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 64 * kib, 128 * kib);
    await p.ok('fsync', fd);
    const content = await p.probe.readFile('f');
    t.ok(content.equals(Buffer.concat([Buffer.alloc(64 * kib, 'd'), Buffer.alloc(128 * kib), Buffer.alloc(64 * kib, 'd')])));
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 64 * kib);
    t.equal(await p.ok('lseek', fd, 64 * kib, 'SEEK_DATA'), 192 * kib);
    t.ok((await p.fstat(fd)).blocks < blocks);
  });
  it('a hole that starts and ends within blocks keeps its neighbours', 'punchHole', async (t, p) => {
    await p.file('f', 'x'.repeat(20_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 1001, 11_111);
    t.equal(await p.text('f'), `${'x'.repeat(1001)}${'\0'.repeat(11_111)}${'x'.repeat(20_000 - 12_112)}`);
  });
  it('a hole past the end changes nothing', 'punchHole', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 100_000, 4096);
    t.equal(await p.text('f'), 'abc');
  });
  it('a hole without KEEP_SIZE is refused', async (_, p) => {
    await p.file('f', 'abc');
    await p.fails(['EOPNOTSUPP', 'ENOTSUP', 'EINVAL'], 'fallocate', await p.open('f', 'O_RDWR'), 'FALLOC_FL_PUNCH_HOLE', 0, 4096);
  });
  it('fallocate makes a file longer with zeros and leaves its data', 'preallocate', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 0, 0, 10_000);
    t.equal(await p.text('f'), `abc${'\0'.repeat(9997)}`);
    await p.ok('fallocate', fd, 0, 0, 10);
    t.equal((await p.fstat(fd)).size, 10_000, 'never shorter');
  });
  it('fallocate with KEEP_SIZE leaves the size', 'preallocate', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_KEEP_SIZE', 0, 10_000);
    t.equal(await p.text('f'), 'abc');
  });
  it('a zeroed range reads as zeros and grows the file unless told not to', 'zeroRange', async (t, p) => {
    await p.file('f', 'x'.repeat(10_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE', 100, 5000);
    t.equal(await p.text('f'), `${'x'.repeat(100)}${'\0'.repeat(5000)}${'x'.repeat(4900)}`);
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE', 9000, 5000);
    t.equal((await p.fstat(fd)).size, 10_000);
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE', 9000, 5000);
    t.equal((await p.fstat(fd)).size, 14_000);
  });
}

function mappingTests(it: It): void {
  it('a shared mapping writes the file and sees writes', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(20_000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 20_000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('mstore', map, 5000, Buffer.from('mapped'));
    t.equal((await p.probe.readAt(fd, 8, 4999)).toString(), 'xmappedx');
    await p.ok('write', fd, Buffer.from('written'), 9000);
    t.equal(Buffer.from((await p.probe.need('mload', map, 9000, 7)).data ?? '', 'hex').toString(), 'written');
    await p.ok('munmap', map);
  });
  it('stores to a mapping survive msync, unmapping and closing', 'sharedMmap', async (t, p) => {
    await p.file('f', Buffer.alloc(300_000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 300_000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('close', fd);
    await p.ok('mstore', map, 262_140, Buffer.from('across'));
    await p.ok('msync', map);
    await p.ok('mstore', map, 0, Buffer.from('first'));
    await p.ok('munmap', map);
    const content = await p.probe.readFile('f');
    t.equal(content.subarray(262_139, 262_147).toString('latin1'), '\0across\0');
    t.equal(content.subarray(0, 5).toString(), 'first');
  });
  it('a store to a mapping moves the modification time on', 'sharedMmap', async (t, p) => {
    await p.file('f', Buffer.alloc(8192));
    const before = await p.stat('f');
    await p.later('f');
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 8192, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('mstore', map, 0, Buffer.from('x'));
    await p.ok('msync', map);
    await p.ok('munmap', map);
    t.ok((await p.stat('f')).mtime > before.mtime);
  });
  it('a private mapping never changes the file', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ|PROT_WRITE', 'MAP_PRIVATE');
    await p.ok('mstore', map, 0, Buffer.from('mine'));
    await p.ok('munmap', map);
    t.equal((await p.text('f')).slice(0, 5), 'xxxxx');
  });
  it('a mapping by another process shows shared stores', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const other = await p.other();
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    const theirs = await other.ok('mmap', await other.ok('open', 'f', 'O_RDONLY'), 5000, 0, 'PROT_READ', 'MAP_SHARED');
    await p.ok('mstore', map, 10, Buffer.from('hello'));
    t.equal(Buffer.from((await other.need('mload', theirs, 10, 5)).data ?? '', 'hex').toString(), 'hello');
    await p.ok('munmap', map);
  });
  it('the rest of the last page of a mapping is zero, and stays out of the file', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(100));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 4096, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    t.equal((await p.probe.need('mload', map, 100, 100)).data, '00'.repeat(100));
    await p.ok('mstore', map, 200, Buffer.from('lost'));
    await p.ok('msync', map);
    await p.ok('munmap', map);
    await p.ok('ftruncate', fd, 4096);
    t.equal((await p.stat('f')).size, 4096);
    t.equal((await p.text('f')).slice(200, 204), '\0\0\0\0');
  });
}

function orphanTests(it: It): void {
  it('a file without a name is read and written until it is closed', async (t, p) => {
    await p.file('f', 'before');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('unlink', 'f');
    await p.fails('ENOENT', 'stat', 'f');
    await p.ok('write', fd, Buffer.alloc(600_000, 'z'), 3);
    t.equal((await p.probe.readAt(fd, 5, 0)).toString(), 'befzz');
    const { nlink, size } = await p.fstat(fd);
    t.same([nlink, size], [0, 600_003]);
    await p.ok('ftruncate', fd, 10);
    await p.ok('fsync', fd);
    await p.ok('close', fd);
  });
  it('a new file of the same name is another file', async (t, p) => {
    await p.file('f', 'old');
    const fd = await p.open('f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    await p.file('f', 'new');
    t.equal((await p.probe.readAt(fd, 10, 0)).toString(), 'old');
    t.not((await p.stat('f')).ino, (await p.fstat(fd)).ino);
  });
  it('a name unlinked by one process stays open in another', async (t, p) => {
    await p.file('f', 'x');
    const other = await p.other();
    const fd = await other.ok('open', 'f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    t.equal((await other.readAt(fd, 10, 0)).toString(), 'x');
  });
  it('a mapping outlives the name and the descriptor', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDONLY');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ', 'MAP_PRIVATE');
    await p.ok('unlink', 'f');
    await p.ok('close', fd);
    t.equal((await p.probe.need('mload', map, 4999, 1)).data, '78');
    await p.ok('munmap', map);
  });
}

function lockTests(it: It): void {
  it('an exclusive flock keeps others out until it is released', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
    t.equal(await other.errno('flock', theirs, 'LOCK_SH|LOCK_NB'), 'EAGAIN');
    await p.ok('flock', mine, 'LOCK_UN');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'OK');
  });
  it('shared flocks share', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('flock', await p.open('f', 'O_RDONLY'), 'LOCK_SH');
    const theirs = await other.ok('open', 'f', 'O_RDONLY');
    t.equal(await other.errno('flock', theirs, 'LOCK_SH|LOCK_NB'), 'OK');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
  });
  it('closing releases a flock, but not while a duplicate is open', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    const copy = await p.ok('dup', mine);
    await p.ok('close', mine);
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
    await p.ok('close', copy);
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'OK');
  });
  it('a process that waits for a flock gets it', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const waiting = other.errno('flock', theirs, 'LOCK_EX');
    await p.ok('flock', mine, 'LOCK_UN');
    t.equal(await waiting, 'OK');
  });
  it('record locks conflict by range only', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 100, 100);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 150, 10), /EAGAIN|EACCES/);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_RDLCK', 199, 1), /EAGAIN|EACCES/);
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 0, 100), 'OK');
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 200, 0), 'OK');
  });
  it('F_GETLK tells who holds what', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('lock', await p.open('f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 100, 50);
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const found = await other.need('lock', theirs, 'F_GETLK', 'F_RDLCK', 0, 0);
    t.same([found.value, found.start, found.length], [1, '100', '50']);
    t.ok((found.pid ?? 0) > 0);
    t.equal((await other.need('lock', theirs, 'F_GETLK', 'F_RDLCK', 0, 100)).value, 2, 'free');
  });
  it('unlocking the middle of a record lock leaves both ends', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 300);
    await p.ok('lock', mine, 'F_SETLK', 'F_UNLCK', 100, 100);
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 100, 100), 'OK');
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 99, 1), /EAGAIN|EACCES/);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 200, 1), /EAGAIN|EACCES/);
  });
  it('closing any descriptor of the file drops the record locks of the process', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('lock', await p.open('f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 0, 0);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
    t.equal(await other.errno('lock', await other.ok('open', 'f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 0, 0), 'OK');
  });
  it('the end of a process releases its locks', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await other.ok('lock', theirs, 'F_SETLK', 'F_WRLCK', 0, 0);
    await other.ok('flock', theirs, 'LOCK_EX');
    const mine = await p.open('f', 'O_RDWR');
    const waiting = p.ok('lock', mine, 'F_SETLKW', 'F_WRLCK', 0, 0);
    await other.close();
    t.equal(await waiting, 0);
    await p.ok('flock', mine, 'LOCK_EX');
  });
  it('a process that waits for a record lock gets it', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 10);
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const waiting = other.errno('lock', theirs, 'F_SETLKW', 'F_RDLCK', 5, 1);
    await p.ok('lock', mine, 'F_SETLK', 'F_UNLCK', 0, 10);
    t.equal(await waiting, 'OK');
  });
  it('two processes that wait for each other: one gets EDEADLK', 'lockDeadlock', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 1);
    await other.ok('lock', theirs, 'F_SETLK', 'F_WRLCK', 1, 1);
    const answers: string[] = [];
    const leave = async (probe: Probe, fd: number, wanted: number, held: number): Promise<void> => {
      answers.push(await probe.errno('lock', fd, 'F_SETLKW', 'F_WRLCK', wanted, 1));
      await probe.ok('lock', fd, 'F_SETLK', 'F_UNLCK', held, 1);
    };
    await Promise.all([leave(p.probe, mine, 1, 0), leave(other, theirs, 0, 1)]);
    t.same(answers.sort(), ['EDEADLK', 'OK']);
  });
  it('open file description locks conflict between descriptors of one process', async (t, p) => {
    await p.file('f');
    const a = await p.open('f', 'O_RDWR');
    const b = await p.open('f', 'O_RDWR');
    await p.ok('lock', a, 'F_OFD_SETLK', 'F_WRLCK', 0, 0);
    t.match(await p.probe.errno('lock', b, 'F_OFD_SETLK', 'F_WRLCK', 0, 0), /EAGAIN|EACCES/);
    await p.ok('close', a);
    await p.ok('lock', b, 'F_OFD_SETLK', 'F_WRLCK', 0, 0);
  });
  it('a record lock needs a descriptor of its kind', async (_, p) => {
    await p.file('f');
    await p.fails('EBADF', 'lock', await p.open('f', 'O_RDONLY'), 'F_SETLK', 'F_WRLCK', 0, 0);
    await p.fails('EBADF', 'lock', await p.open('f', 'O_WRONLY'), 'F_SETLK', 'F_RDLCK', 0, 0);
  });
}

function xattrTests(it: It): void {
  const get = async (p: Place, path: string, name: string): Promise<string | undefined> => (await p.probe.need('getxattr', path, name)).data;
  it('an xattr keeps any bytes, on files and directories', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('mkdir', 'd');
    const value = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    for (const path of ['f', 'd']) {
      await p.ok('setxattr', path, 'user.bytes', value);
      t.equal(await get(p, path, 'user.bytes'), value.toString('hex'));
    }
  });
  it('an empty value is not an absent one', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.empty', new Uint8Array(0));
    t.equal(await get(p, 'f', 'user.empty'), '');
    t.same((await p.probe.need('listxattr', 'f')).names, ['user.empty']);
    await p.fails('ENODATA', 'getxattr', 'f', 'user.none');
    await p.fails('ENODATA', 'removexattr', 'f', 'user.none');
  });
  it('XATTR_CREATE and XATTR_REPLACE demand absence and presence', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.fails('ENODATA', 'setxattr', 'f', 'user.x', Buffer.from('1'), 'XATTR_REPLACE');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'), 'XATTR_CREATE');
    await p.fails('EEXIST', 'setxattr', 'f', 'user.x', Buffer.from('2'), 'XATTR_CREATE');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('33'), 'XATTR_REPLACE');
    t.equal(await get(p, 'f', 'user.x'), '3333');
  });
  it('sizes can be asked, and too little space is ERANGE', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.alloc(100, 'v'));
    t.equal(await p.ok('getxattr', 'f', 'user.x', 0), 100);
    await p.fails('ERANGE', 'getxattr', 'f', 'user.x', 99);
    t.equal(await p.ok('getxattr', 'f', 'user.x', 100), 100);
    const list = await p.ok('listxattr', 'f', 0);
    t.ok(list >= 'user.x'.length + 1);
    await p.fails('ERANGE', 'listxattr', 'f', list - 1);
  });
  it('removal removes that one', 'userXattrs', async (t, p) => {
    await p.file('f');
    for (const name of ['a', 'b', 'c']) await p.ok('setxattr', 'f', `user.${name}`, Buffer.from(name));
    await p.ok('removexattr', 'f', 'user.b');
    t.same((await p.probe.need('listxattr', 'f')).names?.filter((name) => name.startsWith('user.')).sort(), ['user.a', 'user.c']);
  });
  it('a large value is kept whole, also when it replaces a small one', 'userXattrs', async (t, p) => {
    const size = p.capabilities.xattrSizeMax;
    const value = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7) & 255));
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.big', Buffer.from('small'));
    await p.ok('setxattr', 'f', 'user.big', value);
    t.equal(await get(p, 'f', 'user.big'), value.toString('hex'));
    await p.ok('setxattr', 'f', 'user.big', Buffer.from('small'));
    t.equal(await p.ok('getxattr', 'f', 'user.big', 0), 5);
  });
  it('a value above 64 KiB is E2BIG, a name above 255 bytes ERANGE', 'userXattrs', async (_, p) => {
    await p.file('f');
    await p.fails('E2BIG', 'setxattr', 'f', 'user.big', Buffer.alloc(65537));
    await p.ok('setxattr', 'f', `user.${'n'.repeat(250)}`, Buffer.from('x'));
    await p.fails('ERANGE', 'setxattr', 'f', `user.${'n'.repeat(251)}`, Buffer.from('x'));
  });
  it('an unknown namespace is refused', async (_, p) => {
    await p.file('f');
    await p.fails(['EOPNOTSUPP', 'ENOTSUP'], 'setxattr', 'f', 'nonsense.x', Buffer.from('1'));
  });
  it('user xattrs live on files and directories only', 'userXattrs', async (_, p) => {
    await p.ok('symlink', 'f', 'l');
    await p.ok('mkfifo', 'p');
    await p.fails('EPERM', 'setxattr', 'l', 'user.x', Buffer.from('1'));
    await p.fails('EPERM', 'setxattr', 'p', 'user.x', Buffer.from('1'));
  });
  it('xattrs move with the file and are shared by its links', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.ok('link', 'f', 'g');
    await p.ok('rename', 'f', 'h');
    t.equal(await get(p, 'g', 'user.x'), '31');
    await p.ok('setxattr', 'h', 'user.x', Buffer.from('2'));
    t.equal(await get(p, 'g', 'user.x'), '32');
  });
  it('a new file of an old name has none of the old xattrs', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.ok('unlink', 'f');
    await p.file('f');
    t.same((await p.probe.need('listxattr', 'f')).names ?? [], []);
  });
  it('user xattrs need permission to read and write the file', 'userXattrs', 'otherUsers', async (_, p) => {
    await p.file('f', '', 0o644);
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.as(alice, staff);
    await p.ok('getxattr', 'f', 'user.x');
    await p.fails('EACCES', 'setxattr', 'f', 'user.x', Buffer.from('2'));
    await p.fails('EACCES', 'removexattr', 'f', 'user.x');
    await p.asRoot();
    await p.ok('chmod', 'f', 0o600);
    await p.as(alice, staff);
    await p.fails('EACCES', 'getxattr', 'f', 'user.x');
  });
  it('trusted xattrs are for root only', 'trustedXattrs', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'trusted.x', Buffer.from('1'));
    t.equal(await get(p, 'f', 'trusted.x'), '31');
    await p.as(alice, staff);
    await p.fails('EPERM', 'setxattr', 'f', 'trusted.y', Buffer.from('1'));
    await p.fails(['ENODATA', 'EPERM'], 'getxattr', 'f', 'trusted.x');
  });
}

function aclTests(it: It): void {
  const set = (p: Place, ...argument: string[]): Promise<unknown> => run('setfacl', argument, { cwd: p.path });
  const get = async (p: Place, path: string): Promise<string[]> => {
    const { stdout } = await run('getfacl', ['-cpn', path], { cwd: p.path });
    return stdout
      .split('\n')
      .map((line) => line.replace(/\s*#effective.*/, ''))
      .filter((line) => line !== '');
  };
  it('an ACL is kept and shown as set', 'acls', async (t, p) => {
    await p.file('f', '', 0o640);
    await set(p, '-m', `u:${alice}:rw,g:${guests}:r`, 'f');
    t.same(await get(p, 'f'), ['user::rw-', `user:${alice}:rw-`, 'group::r--', `group:${guests}:r--`, 'mask::rw-', 'other::---']);
    t.equal(await p.mode('f'), 0o660, 'the group bits show the mask');
  });
  it('an ACL lets a named user and group in, and keeps others out', 'acls', 'otherUsers', async (t, p) => {
    await p.file('f', 'x', 0o600);
    await set(p, '-m', `u:${alice}:rw,g:${guests}:r`, 'f');
    await p.as(alice, staff);
    await p.ok('close', await p.open('f', 'O_RDWR'));
    await p.as(bob, guests);
    t.equal(await p.text('f'), 'x');
    await p.fails('EACCES', 'open', 'f', 'O_WRONLY');
    await p.as(bob, staff);
    await p.fails('EACCES', 'open', 'f', 'O_RDONLY');
  });
  it('an ACL can take away what the mode would give', 'acls', 'otherUsers', async (_, p) => {
    await p.file('f', 'x', 0o644);
    await set(p, '-m', `u:${alice}:-`, 'f');
    await p.as(alice, staff);
    await p.fails('EACCES', 'open', 'f', 'O_RDONLY');
    await p.as(bob, staff);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
  });
  it('chmod of the group bits limits named users by the mask', 'acls', 'otherUsers', async (t, p) => {
    await p.file('f', 'x', 0o600);
    await set(p, '-m', `u:${alice}:rw`, 'f');
    await p.ok('chmod', 'f', 0o640);
    t.ok((await get(p, 'f')).includes('mask::r--'));
    await p.as(alice, staff);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
    await p.fails('EACCES', 'open', 'f', 'O_WRONLY');
  });
  it('a default ACL is inherited by files and directories', 'acls', async (t, p) => {
    await p.ok('mkdir', 'd', 0o755);
    await set(p, '-d', '-m', `u::rwx,u:${alice}:rwx,g::r-x,o::-`, 'd');
    await p.ok('close', await p.open('d/f', 'O_CREAT|O_WRONLY', 0o666));
    await p.ok('mkdir', 'd/sub', 0o777);
    t.same(await get(p, 'd/f'), ['user::rw-', `user:${alice}:rwx`, 'group::r-x', 'mask::rw-', 'other::---']);
    t.same(
      (await get(p, 'd/sub')).filter((line) => line.startsWith('default:')),
      ['default:user::rwx', `default:user:${alice}:rwx`, 'default:group::r-x', 'default:mask::rwx', 'default:other::---'],
    );
    t.ok((await get(p, 'd/sub')).includes(`user:${alice}:rwx`));
  });
  it('a default ACL takes the place of the umask', 'acls', async (t, p) => {
    await p.ok('mkdir', 'd');
    await set(p, '-d', '-m', 'u::rwx,g::rwx,o::rx', 'd');
    await p.ok('umask', 0o077);
    await p.ok('close', await p.open('d/f', 'O_CREAT|O_WRONLY', 0o666));
    t.equal(await p.mode('d/f'), 0o664);
  });
  it('removing the ACL leaves the mode', 'acls', async (t, p) => {
    await p.file('f', '', 0o640);
    await set(p, '-m', `u:${alice}:r`, 'f');
    await set(p, '-b', 'f');
    t.same(await get(p, 'f'), ['user::rw-', 'group::r--', 'other::---']);
    t.same((await p.probe.need('listxattr', 'f')).names ?? [], []);
  });
  it('a default ACL on a file is refused', 'acls', async (_, p) => {
    await p.file('f');
    const acl = Buffer.from('0200000001000700ffffffff04000500ffffffff20000500ffffffff', 'hex');
    await p.fails('EACCES', 'setxattr', 'f', 'system.posix_acl_default', acl);
  });
}

function nameTests(it: It): void {
  it('names of 255 bytes work, of any bytes but slash and NUL', async (t, p) => {
    const every = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).map((byte) => (byte === 47 ? 65 : byte)));
    const names = [every, Buffer.alloc(255, 0xff), Buffer.from('ä'.repeat(127) + 'x'), Buffer.alloc(255, 0x20), Buffer.alloc(255, 0x0a)];
    for (const [i, name] of names.entries()) {
      await p.file(new RawName(name), `content ${i}`);
      t.equal(await p.text(new RawName(name)), `content ${i}`);
    }
    t.same(await p.names(), names.map((name) => name.toString('latin1')).sort());
    for (const name of names) await p.ok('unlink', new RawName(name));
    t.same(await p.names(), []);
  });
  it('a directory of 255 bytes works, and is renamed to another', async (t, p) => {
    const [a, b] = [Buffer.alloc(255, 0xe4), Buffer.alloc(255, 0xf6)];
    await p.ok('mkdir', new RawName(a));
    await p.file(new RawName(Buffer.concat([a, Buffer.from('/f')])), 'x');
    await p.ok('rename', new RawName(a), new RawName(b));
    t.equal(await p.text(new RawName(Buffer.concat([b, Buffer.from('/f')]))), 'x');
  });
  it('names differ by case, by normal form and by each byte', async (t, p) => {
    const names = [
      'name',
      'Name',
      'NAME',
      'é',
      'e\u0301',
      'a ',
      'a',
      ' a',
      'a.',
      '...',
      '-rf',
      '*',
      'a\tb',
      '\u{1F600}',
      'con',
      'nul.txt',
      '\\',
      '%41',
      'A',
    ];
    for (const [i, name] of names.entries()) await p.file(name, `${i}`);
    for (const [i, name] of names.entries()) t.equal(await p.text(name), `${i}`);
    t.equal((await p.names()).length, names.length);
  });
  it('a name that is no UTF-8 is not confused with its replacement', async (t, p) => {
    await p.file(new RawName(Buffer.from([0x61, 0xff])), 'raw');
    await p.file('a\ufffd', 'text');
    t.equal(await p.text(new RawName(Buffer.from([0x61, 0xff]))), 'raw');
    t.equal(await p.text('a\ufffd'), 'text');
    await p.fails('ENOENT', 'stat', new RawName(Buffer.from([0x61, 0xfe])));
  });
}

function filesystemTests(it: It): void {
  it('statfs tells a name length of 255 and a space that adds up', async (t, p) => {
    const found = (await p.probe.need('statvfs', '.')) as unknown as Record<string, number>;
    const { namemax, blocks = 0, bfree = 0, bavail = 0, frsize = 0 } = found;
    t.equal(namemax, 255);
    t.ok(blocks > 0 && bfree <= blocks && bavail <= bfree && frsize >= 512, JSON.stringify(found));
  });
  it('cp -a, mv and rm of a tree of every kind of file work', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'a/sub', 0o700);
    await p.file('a/sub/f', 'x'.repeat(100_000));
    await p.ok('link', 'a/sub/f', 'a/hard');
    await p.ok('symlink', 'sub/f', 'a/soft');
    await p.ok('mkfifo', 'a/p');
    await p.ok('utimens', 'a/sub', 1000, 2000);
    await run('cp', ['-a', 'a', 'b'], { cwd: p.path });
    t.equal((await p.stat('b/sub')).mtime, 2000n);
    t.equal((await p.stat('b/hard')).ino, (await p.stat('b/sub/f')).ino);
    t.equal(await p.text('b/soft'), 'x'.repeat(100_000));
    await run('mv', ['b', 'a/moved'], { cwd: p.path });
    await run('rm', ['-rf', 'a'], { cwd: p.path });
    t.same(await p.names(), []);
  });
  it('a script runs from here', async (t, p) => {
    await p.file('script', '#!/bin/sh\nexit 7\n', 0o755);
    t.equal(await p.ok('exec', './script'), 7);
  });
}
