/**
 * The behaviour of Linux beyond POSIX, one aspect per test, through real system calls: flags of chattr(1), handles,
 * whiteouts, very large files. It runs on a plain directory and on the mounted drive, like posix-suite.ts
 * (doc/semantics.md).
 */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Probe } from '../mount/posix-probe.js';
import { scratchDirectory } from './scratch.js';

export interface LinuxCapabilities {
  /** The tests run as root: flags and handles need it. */
  readonly root: boolean;
  /**
   * Opening an immutable file for writing fails. Where the kernel opens files without asking the filesystem, writing
   * fails instead.
   */
  readonly immutableOnOpen: boolean;
  /** The least total size of xattrs that one file can keep, in bytes. */
  readonly xattrTotal: number;
}

const everything: LinuxCapabilities = { root: true, immutableOnOpen: true, xattrTotal: 1 << 20 };

const [immutable, appendOnly, noDump, noAtime, compressed] = [0x10, 0x20, 0x40, 0x80, 0x4];
const [xflagImmutable, xflagNoAtime] = [0x8, 0x40];
const keptFlags = immutable | appendOnly | noAtime;

/** Adds the tests to `t`. `directory` is emptied of what they made; capabilities that are not given are required. */
export function linuxSuite(t: Test, options: { readonly directory: string; readonly capabilities?: Partial<LinuxCapabilities> }): void {
  const capabilities = { ...everything, ...options.capabilities };

  function test(name: string, body: (t: Test, p: Probe) => Promise<void>, needs?: 'root'): void {
    void t.test(name, needs !== undefined && !capabilities[needs] ? { skip: 'needs root' } : {}, async (t) => {
      const path = await mkdtemp(join(options.directory, 'linux-'));
      const probe = await Probe.start();
      await probe.ok('chdir', path);
      t.teardown(async () => {
        await probe.close();
        await rm(path, { recursive: true });
      });
      await body(t, probe);
    });
  }

  const flagsOf = async (p: Probe, path: string): Promise<number> => {
    const fd = await p.ok('open', path, 'O_RDONLY');
    const flags = await p.ok('getflags', fd);
    await p.ok('close', fd);
    return flags & keptFlags;
  };
  const setFlags = async (p: Probe, path: string, flags: number): Promise<string> => {
    const fd = await p.ok('open', path, 'O_RDONLY');
    const others = (await p.ok('getflags', fd)) & ~keptFlags;
    const errno = await p.errno('setflags', fd, others | flags);
    await p.ok('close', fd);
    return errno;
  };

  test(
    'an immutable file cannot be changed, renamed, linked or removed, until the flag is taken away',
    async (t, p) => {
      await p.writeFile('f', 'content');
      t.equal(await setFlags(p, 'f', immutable), 'OK');
      t.teardown(() => setFlags(p, 'f', 0).catch(() => {}));
      t.equal(await flagsOf(p, 'f'), immutable);
      const fd = await p.ok('open', 'f', 'O_RDONLY');
      t.equal((await p.ok('getxflags', fd)) & xflagImmutable, xflagImmutable, 'the other ioctl says the same');
      await p.ok('close', fd);
      for (const [call, ...argument] of [
        ['truncate', 'f', 3],
        ['open', 'f', 'O_WRONLY|O_TRUNC'],
        ['chmod', 'f', 0o600],
        ['chown', 'f', 1, 1],
        ['rename', 'f', 'g', 0],
        ['unlink', 'f'],
        ['link', 'f', 'g'],
        ['setxattr', 'f', 'user.a', Buffer.from('v'), 0],
        ['utimens', 'f', '1', '1'],
      ] as const)
        t.equal(await p.errno(call, ...argument), 'EPERM', call);
      if (capabilities.immutableOnOpen) t.equal(await p.errno('open', 'f', 'O_WRONLY'), 'EPERM');
      else
        await p.call('open', 'f', 'O_WRONLY').then(async ({ value }) => {
          await p.call('write', value, Buffer.from('other'));
          t.match(await p.errno('fsync', value), /EPERM|EIO/, 'what was written is refused when it is stored');
          // The kernel reports the error to the first syncfs as well.
          const folder = await p.ok('open', '.', 'O_RDONLY|O_DIRECTORY');
          await p.call('syncfs', folder);
          await p.ok('close', folder);
          await p.call('close', value);
        });
      t.equal(await setFlags(p, 'f', 0), 'OK');
      await p.ok('chmod', 'f', 0o600);
      t.equal((await p.readFile('f')).toString().slice(0, 7).length, 7);
      await p.ok('unlink', 'f');
    },
    'root',
  );

  test(
    'data written before a file became immutable is kept',
    async (t, p) => {
      const beside = join(await scratchDirectory(t), 'beside');
      for (let round = 0; round < 20; round++) {
        const name = `f${round}`;
        const fd = await p.ok('open', name, 'O_RDWR|O_CREAT', 0o644);
        t.teardown(() => setFlags(p, name, 0).catch(() => {}));
        // Another file system uses fine-grained times, and the kernel gives no older ones from then on.
        for (let use = 0; use < 2; use++) {
          await writeFile(beside, 'x');
          await stat(beside);
        }
        await p.ok('write', fd, Buffer.alloc(100_000, 'x'));
        const { mtime } = await p.stat('fstat', fd);
        await p.ok('setflags', fd, (await p.ok('getflags', fd)) | immutable);
        await p.ok('fsync', fd);
        await p.ok('close', fd);
        t.ok((await p.readFile(name)).equals(Buffer.alloc(100_000, 'x')));
        t.equal((await p.stat('stat', name)).mtime, mtime);
      }
    },
    'root',
  );

  test(
    'the entries of an immutable directory are fixed, but its files can be written',
    async (t, p) => {
      await p.ok('mkdir', 'd');
      await p.writeFile('d/f', 'x');
      t.equal(await setFlags(p, 'd', immutable), 'OK');
      t.teardown(() => setFlags(p, 'd', 0).catch(() => {}));
      t.equal(await flagsOf(p, 'd'), immutable);
      t.equal(await p.errno('open', 'd/new', 'O_WRONLY|O_CREAT', 0o644), 'EPERM');
      t.equal(await p.errno('mkdir', 'd/new'), 'EPERM');
      t.equal(await p.errno('unlink', 'd/f'), 'EPERM');
      t.equal(await p.errno('rename', 'd/f', 'd/g', 0), 'EPERM');
      await p.writeFile('d/f', 'other');
      t.equal((await p.readFile('d/f')).toString(), 'other');
    },
    'root',
  );

  test(
    'an append-only file can only grow',
    async (t, p) => {
      await p.writeFile('f', 'first');
      t.equal(await setFlags(p, 'f', appendOnly), 'OK');
      t.teardown(() => setFlags(p, 'f', 0).catch(() => {}));
      const fd = await p.ok('open', 'f', 'O_WRONLY|O_APPEND');
      await p.ok('write', fd, Buffer.from(' second'));
      await p.ok('fsync', fd);
      await p.ok('write', fd, Buffer.alloc(10_000, 'z'));
      await p.ok('fsync', fd);
      await p.ok('close', fd);
      t.equal((await p.readFile('f')).toString(), `first second${'z'.repeat(10_000)}`);
      t.equal(await p.errno('truncate', 'f', 3), 'EPERM');
      t.equal(await p.errno('unlink', 'f'), 'EPERM');
      t.equal(await p.errno('rename', 'f', 'g', 0), 'EPERM');
      t.equal(await p.errno('chmod', 'f', 0o600), 'EPERM');
      t.equal(await p.errno('utimens', 'f', 'now', 'now'), 'OK', 'touch');
      t.equal(await p.errno('utimens', 'f', 5, 5), 'EPERM');
    },
    'root',
  );

  test(
    'the flags of chattr are kept, others are refused, and only root sets the strong ones',
    async (t, p) => {
      await p.writeFile('f', 'x');
      t.equal(await setFlags(p, 'f', noAtime), 'OK');
      const fd = await p.ok('open', 'f', 'O_RDONLY');
      t.equal((await p.ok('getflags', fd)) & keptFlags, noAtime);
      t.equal((await p.ok('getxflags', fd)) & xflagNoAtime, xflagNoAtime);
      t.match(await p.errno('setflags', fd, noDump | compressed | 0x4000_0000), /EOPNOTSUPP|EINVAL/);
      await p.ok('chown', 'f', 41001, 41001);
      await p.ok('as', 41001, 41001);
      t.equal(await p.errno('setflags', fd, immutable), 'EPERM');
      await p.ok('as', 'root');
      await p.ok('close', fd);
    },
    'root',
  );

  test(
    'a handle opens its file after the kernel has forgotten it, under any name, and is stale once it is removed',
    async (t, p) => {
      await p.writeFile('f', 'content');
      const { data = '' } = await p.need('handle', 'f');
      const handle = Buffer.from(data, 'hex');
      const folder = await p.ok('open', '.', 'O_RDONLY|O_DIRECTORY');
      await p.ok('rename', 'f', 'g', 0);
      await p.ok('syncfs', folder);
      // Dentries and inodes that nothing holds (proc_sys_vm(5)).
      await writeFile('/proc/sys/vm/drop_caches', '2');
      const fd = await p.ok('openhandle', folder, handle);
      t.equal((await p.readAt(fd, 100, 0)).toString(), 'content');
      await p.ok('close', fd);
      await p.ok('unlink', 'g');
      await writeFile('/proc/sys/vm/drop_caches', '2');
      t.equal(await p.errno('openhandle', folder, handle), 'ESTALE');
      await p.ok('close', folder);
    },
    'root',
  );

  test(
    'WHITEOUT leaves a character device 0:0 under the old name',
    async (t, p) => {
      await p.writeFile('f', 'x');
      await p.ok('rename', 'f', 'g', 'RENAME_WHITEOUT');
      const left = await p.stat('lstat', 'f');
      t.equal(left.mode & 0o170000, 0o020000);
      t.equal(left.rdev, '0:0');
      t.equal((await p.readFile('g')).toString(), 'x');
    },
    'root',
  );

  test('a file of eight tebibytes with data at its end takes only the space of that data', async (t, p) => {
    const fd = await p.ok('open', 'f', 'O_RDWR|O_CREAT', 0o644);
    const end = 8 * 2 ** 40;
    await p.ok('ftruncate', fd, end);
    await p.ok('write', fd, Buffer.from('at the end'), end - 10);
    await p.ok('fsync', fd);
    t.equal((await p.stat('fstat', fd)).size, end);
    t.equal((await p.readAt(fd, 100, end - 10)).toString(), 'at the end');
    t.equal((await p.readAt(fd, 4, end / 2)).toString('hex'), '00000000');
    const data = await p.ok('lseek', fd, 0, 'SEEK_DATA');
    t.ok(data > end - 2 ** 21 && data <= end - 10, `data begins at ${data}`);
    t.ok((await p.stat('fstat', fd)).blocks < 10_000);
    await p.ok('close', fd);
  });

  test('many extended attributes, large and small, are kept together', async (t, p) => {
    await p.writeFile('f', 'x');
    const size = Math.min(65536, capabilities.xattrTotal >> 3);
    for (let index = 0; index < 4; index++) {
      for (let small = 0; small < 2; small++) await p.ok('setxattr', 'f', `user.small-${index}-${small}`, Buffer.from(`${small}`), 0);
      await p.ok('setxattr', 'f', `user.large-${index}`, Buffer.alloc(size, index + 1), 0);
    }
    const got = Buffer.from((await p.need('getxattr', 'f', 'user.large-2', 65536)).data ?? '', 'hex');
    t.ok(got.equals(Buffer.alloc(size, 3)));
    t.equal((await p.need('listxattr', 'f', 65536)).names?.length, 12);
  });
}
