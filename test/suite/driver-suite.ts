/**
 * The contract of a FUSE driver, tested on the real kernel. A process must never wait synchronously for its own mount,
 * so everything here is asynchronous or done by a child process. Starting a child waits until it runs its program, so
 * neither that program nor its working directory may lie on the mount: a shell changes into it instead.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { DriverCapabilities } from '../../src/fuse/driver-capabilities.js';
import { FuseError } from '../../src/fuse/fuse-error.js';
import { findMount } from '../../src/fuse/mount-table.js';
import type { Driver, Mounted, MountOptions } from '../../src/fuse/operations.js';
import { MemoryFilesystem, type MemoryFilesystemOptions, memoryErrnoOf } from '../fuse/memory-filesystem.js';

const run = promisify(execFile);

/** Why no test can mount here, or undefined. With TEST_REQUIRE=fuse that is a failure instead of a skip. */
export function whyNoFuse(): string | false {
  if (existsSync('/dev/fuse') && (process.getuid?.() === 0 || existsSync('/usr/bin/fusermount3'))) return false;
  if (process.env['TEST_REQUIRE']?.split(',').includes('fuse')) throw new Error('FUSE is required and not there');
  return 'no FUSE here';
}

interface Mount {
  readonly path: string;
  readonly filesystem: MemoryFilesystem;
  readonly mounted: Mounted;
}

export interface DriverSuiteSettings {
  readonly options?: Partial<MountOptions>;
  readonly filesystem?: MemoryFilesystemOptions;
}

export type MountForTest = (t: Test, settings?: DriverSuiteSettings) => Promise<Mount>;

/** Mounts in a new folder for one test, and unmounts after it. */
export function mountWith(driver: Driver, base: DriverSuiteSettings = {}): MountForTest {
  return async (t, settings = {}) => {
    const path = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
    const filesystem = new MemoryFilesystem({ ...base.filesystem, ...settings.filesystem });
    const mounted = await driver(filesystem, memoryErrnoOf, {
      mountPoint: path,
      source: 'memory, with a comma',
      subtype: 'sealdrive',
      readOnly: false,
      allowOther: false,
      defaultPermissions: true,
      writebackCache: false,
      ...base.options,
      ...settings.options,
    });
    t.teardown(async () => {
      await mounted.unmount({ force: true });
      await mounted.ended;
      await fs.rmdir(path);
    });
    return { path, filesystem, mounted };
  };
}

/** Retries until it holds, within the test's own timeout. */
export async function eventually(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setImmediate(resolve));
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'no error',
    (error: unknown) => String((error as NodeJS.ErrnoException).code),
  );

export function driverSuite(t: Test, driver: Driver, capabilities: DriverCapabilities, base: DriverSuiteSettings = {}): void {
  const mount = mountWith(driver, base);

  void t.test('a mount is listed with its type and source, and starts empty', async (t) => {
    const { path, mounted, filesystem } = await mount(t);
    const entry = await findMount(path);
    if (mounted.driver === 'native') t.match(entry, { type: 'fuse.sealdrive', source: 'memory, with a comma' });
    else t.ok(entry, 'it is in the table of mounts');
    t.equal(mounted.connection.major, 7);
    t.same(filesystem.connection, mounted.connection, 'the filesystem knows what was agreed on');
    t.same(await fs.readdir(path), []);
  });

  void t.test('written data reaches the filesystem and is read back', async (t) => {
    const { path, filesystem } = await mount(t);
    const content = randomBytes(5 * 1024 * 1024 + 123);
    await fs.writeFile(join(path, 'big'), content);
    t.ok(content.equals(await fs.readFile(join(path, 'big'))), 'through the same mount');
    await run('cp', [join(path, 'big'), join(path, 'copy')]);
    await run('cmp', [join(path, 'big'), join(path, 'copy')]);
    const direct = await run('dd', [`if=${join(path, 'big')}`, 'iflag=direct', 'bs=64k'], { encoding: 'buffer', maxBuffer: 16 << 20 });
    t.ok(content.equals(direct.stdout), 'past the page cache');
    const handle = await fs.open(join(path, 'big'), 'r+');
    await handle.write(Buffer.from('patched'), 0, 7, 4090);
    await handle.truncate(10_000);
    await handle.sync();
    await handle.close();
    content.write('patched', 4090);
    t.ok(content.subarray(0, 10_000).equals(await fs.readFile(join(path, 'big'))));
    t.equal((await fs.stat(join(path, 'big'))).size, 10_000);
    t.ok((filesystem.calls.get('fsync') ?? 0) >= 1, 'fsync arrives');
  });

  void t.test('appending, truncating on open and exclusive creation work', async (t) => {
    const { path } = await mount(t);
    const file = join(path, 'log');
    await fs.appendFile(file, 'one ');
    await fs.appendFile(file, 'two');
    t.equal(await fs.readFile(file, 'utf8'), 'one two');
    t.equal(await codeOf(fs.writeFile(file, 'x', { flag: 'wx' })), 'EEXIST');
    await fs.writeFile(file, 'short');
    t.equal(await fs.readFile(file, 'utf8'), 'short');
  });

  void t.test('renaming moves files and folders and replaces existing ones', async (t) => {
    const { path } = await mount(t);
    await fs.mkdir(join(path, 'a', 'deep'), { recursive: true });
    await fs.mkdir(join(path, 'b'));
    await fs.writeFile(join(path, 'a', 'deep', 'file'), 'first');
    await fs.writeFile(join(path, 'b', 'file'), 'second');
    await fs.rename(join(path, 'a', 'deep', 'file'), join(path, 'b', 'file'));
    t.equal(await fs.readFile(join(path, 'b', 'file'), 'utf8'), 'first');
    await fs.rename(join(path, 'a'), join(path, 'b', 'moved'));
    t.same(await fs.readdir(join(path, 'b', 'moved')), ['deep']);
    await fs.writeFile(join(path, 'b', 'moved', 'deep', 'later'), 'x');
    t.same(await fs.readdir(path), ['b']);
    t.same((await fs.readdir(join(path, 'b'))).toSorted(), ['file', 'moved']);
  });

  void t.test('a directory of 5,000 entries is listed whole, with types', async (t) => {
    const { path } = await mount(t);
    const expected: string[] = [];
    for (let start = 0; start < 5000; start += 100) {
      const names = Array.from({ length: 100 }, (_, index) => `entry number ${start + index} ${'x'.repeat((start + index) % 60)}`);
      await Promise.all(names.map((name) => fs.writeFile(join(path, name), '')));
      expected.push(...names);
    }
    await fs.mkdir(join(path, 'folder'));
    const found = await fs.readdir(path, { withFileTypes: true });
    t.equal(found.length, 5001);
    t.same(
      found
        .filter((entry) => entry.isFile())
        .map((entry) => entry.name)
        .toSorted(),
      expected.toSorted(),
    );
    t.same(
      found.filter((entry) => entry.isDirectory()).map((entry) => entry.name),
      ['folder'],
    );
    const listed = await run('ls', ['-l', path], { maxBuffer: 16 << 20 });
    t.equal(listed.stdout.trim().split('\n').length, 5002, 'ls -l sees them all');
  });

  void t.test('names are bytes, not text', async (t) => {
    const { path } = await mount(t);
    if (capabilities.byteNames) {
      const name = Buffer.from([0x66, 0xff, 0xc3, 0x28]);
      const file = Buffer.concat([Buffer.from(`${path}/`), name]);
      await fs.writeFile(file, 'bytes');
      t.same(await fs.readdir(path, { encoding: 'buffer' }), [name]);
      t.equal(await fs.readFile(file, 'utf8'), 'bytes');
    }
    await fs.writeFile(join(path, 'größe €'), 'text');
    t.same(
      (await fs.readdir(path)).filter((found) => found.startsWith('g')),
      ['größe €'],
    );
  });

  void t.test('symbolic links and modes are kept', async (t) => {
    const { path } = await mount(t);
    await fs.writeFile(join(path, 'file'), 'x', { mode: 0o640 });
    await fs.symlink('file', join(path, 'link'));
    t.equal(await fs.readlink(join(path, 'link')), 'file');
    t.equal(await fs.readFile(join(path, 'link'), 'utf8'), 'x');
    t.equal((await fs.stat(join(path, 'file'))).mode & 0o7777, 0o640);
    await fs.chmod(join(path, 'file'), 0o755);
    t.equal((await fs.stat(join(path, 'file'))).mode & 0o7777, 0o755);
    await fs.utimes(join(path, 'file'), 1_000_000_000.25, 1_100_000_000.5);
    const { atimeMs, mtimeMs } = await fs.stat(join(path, 'file'));
    t.equal(atimeMs, 1_000_000_000_250);
    if (capabilities.separateTimes) t.equal(mtimeMs, 1_100_000_000_500);
    if (!capabilities.negativeTimes) return;
    await run('touch', ['-d', '@-5', join(path, 'file')]);
    t.equal((await run('stat', ['-c', '%Y', join(path, 'file')])).stdout, '-5\n', 'before 1970');
  });

  void t.test("the caller's umask is applied once", async (t) => {
    const { path } = await mount(t);
    await run('sh', ['-c', 'cd "$0" && umask 077; mkdir d; : > f; umask 0; mkdir e; : > g', path]);
    const modes = await Promise.all(['d', 'f', 'e', 'g'].map(async (name) => (await fs.stat(join(path, name))).mode & 0o777));
    t.same(modes, [0o700, 0o600, 0o777, 0o666]);
  });

  void t.test('errors keep their errno', async (t) => {
    const { path } = await mount(t);
    await fs.mkdir(join(path, 'full', 'inner'), { recursive: true });
    await fs.writeFile(join(path, 'file'), '');
    t.equal(await codeOf(fs.readFile(join(path, 'absent'))), 'ENOENT');
    t.equal(await codeOf(fs.rmdir(join(path, 'full'))), 'ENOTEMPTY');
    t.equal(await codeOf(fs.mkdir(join(path, 'full'))), 'EEXIST');
    t.equal(await codeOf(fs.readdir(join(path, 'file'))), 'ENOTDIR');
    t.equal(await codeOf(fs.readFile(join(path, 'full'))), 'EISDIR');
    t.equal(await codeOf(fs.readFile(join(path, 'file', 'below'))), 'ENOTDIR');
  });

  void t.test('statfs reports the sizes of the filesystem', async (t) => {
    const { path } = await mount(t);
    t.match(await fs.statfs(path), { blocks: 1_000_000, bfree: 600_000, bavail: 500_000, files: 10_000, ffree: 9000, bsize: 4096 });
  });

  void t.test('a program runs from the mount, with its pages mapped', async (t) => {
    const { path } = await mount(t);
    await fs.copyFile('/bin/echo', join(path, 'program'));
    await fs.chmod(join(path, 'program'), 0o755);
    t.equal((await run('sh', ['-c', '"$0" mapped', join(path, 'program')])).stdout, 'mapped\n');
  });

  void t.test('many simultaneous readers each get the right bytes', async (t) => {
    const { path } = await mount(t, { filesystem: { beforeRead: () => new Promise((resolve) => setImmediate(resolve)) } });
    const contents = Array.from({ length: 32 }, (_, index) => Buffer.alloc(300_000 + index, index));
    await Promise.all(contents.map((content, index) => fs.writeFile(join(path, `${index}`), content)));
    const reading = contents.map(async (content, index) => {
      const found = await run('cat', [join(path, `${index}`)], { encoding: 'buffer', maxBuffer: 1 << 20 });
      return content.equals(found.stdout);
    });
    t.same(new Set(await Promise.all(reading)), new Set([true]));
  });

  void t.test('a read-only mount refuses changes', async (t) => {
    const { path } = await mount(t, { options: { readOnly: true } });
    t.equal(await codeOf(fs.writeFile(join(path, 'x'), '')), 'EROFS');
    t.equal(await codeOf(fs.mkdir(join(path, 'x'))), 'EROFS');
  });

  void t.test('unmounting ends the session and notifies the filesystem', async (t) => {
    const { path, mounted, filesystem } = await mount(t);
    await fs.writeFile(join(path, 'x'), 'content');
    await mounted.unmount();
    await mounted.ended;
    t.equal(filesystem.destroyed, true);
    t.equal(await findMount(path), undefined);
    t.same(await fs.readdir(path), [], 'the folder below is as it was');
    await mounted.unmount();
    t.pass('unmounting twice does nothing');
  });

  void t.test('an unmount by another process ends the session too', async (t) => {
    const { path, mounted, filesystem } = await mount(t);
    await fs.readdir(path);
    await run('umount', [path]);
    await mounted.ended;
    t.equal(filesystem.destroyed, true);
  });

  void t.test('two mounts in one process do not disturb each other', async (t) => {
    const [one, two] = [await mount(t), await mount(t)];
    await Promise.all([fs.writeFile(join(one.path, 'x'), 'one'), fs.writeFile(join(two.path, 'x'), 'two')]);
    t.equal(await fs.readFile(join(one.path, 'x'), 'utf8'), 'one');
    t.equal(await fs.readFile(join(two.path, 'x'), 'utf8'), 'two');
  });

  void t.test('a mount point that is missing, or not a directory, is refused with a code', async (t) => {
    const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
    t.teardown(() => fs.rm(folder, { recursive: true }));
    await fs.writeFile(join(folder, 'file'), '');
    const attempt = (mountPoint: string): Promise<unknown> =>
      driver(new MemoryFilesystem(), memoryErrnoOf, {
        mountPoint,
        source: 'memory',
        subtype: 'sealdrive',
        readOnly: false,
        allowOther: false,
        defaultPermissions: true,
        writebackCache: false,
      });
    await t.rejects(attempt(join(folder, 'absent')), new FuseError('MOUNT_POINT', 'the mount point does not exist'));
    await t.rejects(attempt(join(folder, 'file')), new FuseError('MOUNT_POINT', 'the mount point is not a directory'));
  });

  void t.test('mounting over a live mount is refused', async (t) => {
    const { path } = await mount(t);
    const again = driver(new MemoryFilesystem(), memoryErrnoOf, {
      mountPoint: path,
      source: 'memory',
      subtype: 'sealdrive',
      readOnly: false,
      allowOther: false,
      defaultPermissions: true,
      writebackCache: false,
    });
    await t.rejects(again, { code: 'BUSY' });
    t.same(await fs.readdir(path), [], 'the first goes on');
  });

  const inodeSkip = capabilities.inodes ? false : 'this driver has paths, not inodes';

  void t.test('a file that is removed while open stays usable', { skip: inodeSkip }, async (t) => {
    const { path, filesystem } = await mount(t);
    const before = filesystem.nodeCount;
    const handle = await fs.open(join(path, 'doomed'), 'w+');
    await handle.write('still here');
    await fs.unlink(join(path, 'doomed'));
    t.same(await fs.readdir(path), []);
    await handle.write(' and growing', 10);
    t.equal((await handle.read(Buffer.alloc(22), 0, 22, 0)).buffer.toString(), 'still here and growing');
    t.equal((await handle.stat()).nlink, 0);
    await handle.close();
    await eventually(() => filesystem.nodeCount === before);
    t.pass('the kernel forgets it with the last descriptor');
  });

  void t.test('hard links are one inode', { skip: inodeSkip }, async (t) => {
    const { path } = await mount(t);
    await fs.writeFile(join(path, 'a'), 'x');
    await fs.link(join(path, 'a'), join(path, 'b'));
    const [a, b] = await Promise.all([fs.stat(join(path, 'a')), fs.stat(join(path, 'b'))]);
    t.equal(a.ino, b.ino);
    t.equal(b.nlink, 2);
    await fs.appendFile(join(path, 'b'), 'y');
    t.equal(await fs.readFile(join(path, 'a'), 'utf8'), 'xy');
    await fs.unlink(join(path, 'a'));
    t.equal((await fs.stat(join(path, 'b'))).nlink, 1);
  });

  void t.test('the birth time reaches stat', { skip: capabilities.birthTime ? false : 'not in this protocol' }, async (t) => {
    const { path } = await mount(t);
    await fs.writeFile(join(path, 'x'), '');
    const { birthtimeMs } = await fs.stat(join(path, 'x'));
    await fs.utimes(join(path, 'x'), 5, 5);
    const after = await fs.stat(join(path, 'x'));
    t.equal(after.birthtimeMs, birthtimeMs);
    t.ok(birthtimeMs > 1_000_000_000_000);
  });

  void t.test('extended attributes are set, listed, read and removed', { skip: capabilities.xattr ? false : 'not carried' }, async (t) => {
    const { path } = await mount(t);
    const file = join(path, 'x');
    await fs.writeFile(file, '');
    const script = `import os, sys
f = sys.argv[1]
os.setxattr(f, 'user.a', b'one')
os.setxattr(f, 'user.empty', b'')
os.setxattr(f, 'user.long', b'v' * 60000)
assert sorted(os.listxattr(f)) == ['user.a', 'user.empty', 'user.long'], os.listxattr(f)
assert os.getxattr(f, 'user.a') == b'one' and os.getxattr(f, 'user.empty') == b'' and os.getxattr(f, 'user.long') == b'v' * 60000
def errno(work):
    try: work()
    except OSError as error: return error.errno
assert errno(lambda: os.setxattr(f, 'user.a', b'', os.XATTR_CREATE)) == 17
assert errno(lambda: os.setxattr(f, 'user.b', b'', os.XATTR_REPLACE)) == 61
assert errno(lambda: os.getxattr(f, 'user.b')) == 61
os.removexattr(f, 'user.a')
assert sorted(os.listxattr(f)) == ['user.empty', 'user.long']
print('done')`;
    t.equal((await run('python3', ['-c', script, file])).stdout, 'done\n');
  });

  void t.test('renaming with NOREPLACE is refused when the name exists', { skip: capabilities.renameFlags ? false : 'not carried' }, async (t) => {
    const { path } = await mount(t);
    await fs.writeFile(join(path, 'a'), 'a');
    await fs.writeFile(join(path, 'b'), 'b');
    await run('mv', ['-n', join(path, 'a'), join(path, 'b')]).catch(() => {});
    t.equal(await fs.readFile(join(path, 'b'), 'utf8'), 'b');
    await run('mv', ['-n', join(path, 'a'), join(path, 'c')]);
    t.equal(await fs.readFile(join(path, 'c'), 'utf8'), 'a');
  });

  void t.test('a reader that gets a signal aborts its request', { skip: capabilities.interrupt ? false : 'not in this protocol' }, async (t) => {
    const interrupted: string[] = [];
    let arrived!: () => void;
    const reading = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const { path, filesystem } = await mount(t, {
      filesystem: {
        beforeRead: (context) => {
          arrived();
          return new Promise((_, reject) => {
            context.signal.addEventListener('abort', () => {
              interrupted.push((context.signal.reason as FuseError).code);
              reject(context.signal.reason as Error);
            });
          });
        },
      },
    });
    await fs.writeFile(join(path, 'x'), 'content');
    filesystem.changeBehind(filesystem.inoOf('x'), Buffer.from('changed'));
    const child = spawn('dd', [`if=${join(path, 'x')}`, 'iflag=direct', 'of=/dev/null'], { stdio: 'ignore' });
    await reading;
    child.kill('SIGINT');
    await once(child, 'exit');
    t.same(interrupted, ['INTERRUPTED']);
  });

  const invalidationSkip = capabilities.invalidation ? false : 'not in this protocol';

  void t.test('an invalidated inode is read again, also while it is open', { skip: invalidationSkip }, async (t) => {
    const { path, filesystem, mounted } = await mount(t);
    const file = join(path, 'x');
    await fs.writeFile(file, 'before');
    await run('sync', ['-f', file]);
    t.equal(await fs.readFile(file, 'utf8'), 'before');
    filesystem.changeBehind(filesystem.inoOf('x'), Buffer.from('AFTER!'));
    t.equal(await fs.readFile(file, 'utf8'), 'before', 'the kernel has it cached');
    const handle = await fs.open(file);
    mounted.notifier.invalidateInode(filesystem.inoOf('x'), 0, 0);
    await eventually(async () => (await handle.read(Buffer.alloc(6), 0, 6, 0)).buffer.toString() === 'AFTER!');
    await handle.close();
    t.equal(await fs.readFile(file, 'utf8'), 'AFTER!');
  });

  void t.test('an invalidated name is looked up again', { skip: invalidationSkip }, async (t) => {
    const { path, filesystem, mounted } = await mount(t);
    await fs.writeFile(join(path, 'kept'), 'x');
    await fs.writeFile(join(path, 'gone'), 'x');
    const child = filesystem.inoOf('gone');
    const context = { uid: 0, gid: 0, pid: 0, umask: 0, signal: new AbortController().signal };
    filesystem.unlink(context, filesystem.inoOf('kept') && (1 as never), 'gone');
    t.equal(await codeOf(fs.stat(join(path, 'gone'))), 'no error', 'the kernel has it cached');
    mounted.notifier.deleteEntry(1 as never, child, 'gone');
    await eventually(async () => (await codeOf(fs.stat(join(path, 'gone')))) === 'ENOENT');
    const lookups = filesystem.calls.get('lookup') ?? 0;
    await fs.stat(join(path, 'kept'));
    t.equal(filesystem.calls.get('lookup') ?? 0, lookups, 'the other one is still cached');
    mounted.notifier.invalidateEntry(1 as never, 'kept');
    await eventually(async () => {
      await fs.stat(join(path, 'kept'));
      return (filesystem.calls.get('lookup') ?? 0) > lookups;
    });
  });

  void t.test('a flood of notifications does not block', { skip: invalidationSkip }, async (t) => {
    const { path, filesystem, mounted } = await mount(t);
    await fs.writeFile(join(path, 'last'), 'before');
    await run('sync', ['-f', join(path, 'last')]);
    filesystem.changeBehind(filesystem.inoOf('last'), Buffer.from('AFTER!'));
    for (let ino = 100_000; ino < 120_000; ino++) mounted.notifier.invalidateInode(ino as never, 0, 0);
    mounted.notifier.invalidateInode(filesystem.inoOf('last'), 0, 0);
    await eventually(async () => (await fs.readFile(join(path, 'last'), 'utf8')) === 'AFTER!');
  });

  const busySkip = capabilities.busyUnmount ? false : 'this driver always detaches';

  void t.test('a busy mount is unmounted only by force, and ends with its last user', { skip: busySkip }, async (t) => {
    const { path, mounted } = await mount(t);
    await fs.writeFile(join(path, 'x'), 'content');
    const handle = await fs.open(join(path, 'x'));
    await t.rejects(mounted.unmount(), { code: 'BUSY' });
    t.same(await fs.readdir(path), ['x'], 'it is still there');
    await mounted.unmount({ force: true });
    t.equal(await findMount(path), undefined, 'the name is free');
    t.equal((await handle.read(Buffer.alloc(7), 0, 7, 0)).buffer.toString(), 'content', 'the open file works on');
    await handle.close();
    await mounted.ended;
  });

  void t.test('requests in progress when the connection is aborted do no harm', { skip: busySkip }, async (t) => {
    const waiting: (() => void)[] = [];
    const { path, mounted, filesystem } = await mount(t, {
      filesystem: { beforeRead: () => new Promise((resolve) => waiting.push(resolve)) },
    });
    await fs.writeFile(join(path, 'x'), 'content');
    await run('sync', ['-f', join(path, 'x')]);
    mounted.notifier.invalidateInode(filesystem.inoOf('x'), 0, 0);
    const child = spawn('dd', [`if=${join(path, 'x')}`, 'iflag=direct', 'of=/dev/null'], { stdio: 'ignore' });
    const exited = once(child, 'exit');
    await eventually(() => waiting.length > 0);
    // This aborts the connection, and then finds the mount still busy.
    await run('umount', ['-f', path]).catch(() => {});
    await exited;
    await mounted.ended;
    for (const finish of waiting) finish();
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(filesystem.destroyed, true);
  });

  void t.test('fallocate and copy_file_range work inside the mount', { skip: capabilities.ranges ? false : 'not in this protocol' }, async (t) => {
    const { path, filesystem } = await mount(t);
    await run('fallocate', ['-l', '70000', join(path, 'reserved')]);
    t.equal((await fs.stat(join(path, 'reserved'))).size, 70_000);
    const content = randomBytes(200_000);
    await fs.writeFile(join(path, 'a'), content);
    await run('python3', [
      '-c',
      `import os, sys
a = os.open(sys.argv[1], os.O_RDONLY); b = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
done = 0
while done < 200000: done += os.copy_file_range(a, b, 200000 - done)
assert os.lseek(a, 5, os.SEEK_HOLE) == 200000 and os.lseek(a, 5, os.SEEK_DATA) == 5`,
      join(path, 'a'),
      join(path, 'b'),
    ]);
    t.ok(content.equals(await fs.readFile(join(path, 'b'))));
    t.ok(filesystem.connection);
  });

  void t.test('reads and writes are as large as the driver promises', async (t) => {
    const { path, filesystem } = await mount(t);
    const size = 8 << 20;
    const handle = await fs.open(join(path, 'x'), constants.O_RDWR | constants.O_CREAT);
    await handle.write(Buffer.alloc(size, 1), 0, size, 0);
    await handle.sync();
    await handle.close();
    const least = size / capabilities.payloadMax;
    t.ok((filesystem.calls.get('write') ?? 0) <= least * 2, `${filesystem.calls.get('write')} writes`);
  });
}
