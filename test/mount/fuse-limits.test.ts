/**
 * The limits of FUSE (doc/semantics.md, "What FUSE cannot carry"): each difference from a local disk is as documented
 * there.
 */
import { execFile } from 'node:child_process';
import { readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { mountedDrive } from './mounted-drive.js';
import { Probe } from './posix-probe.js';

const run = promisify(execFile);
const why = whyNoFuse() || (process.getuid?.() === 0 ? false : 'flags, swap and device nodes need root');
const [immutable, appendOnly, compressed] = [0x10, 0x20, 0x4];

if (why !== false) t.plan(0, why);
else {
  const { drive } = await mountedDrive(t);
  const p = await Probe.start();
  t.teardown(() => p.close());
  await p.ok('chdir', drive.directory);

  await t.test('an immutable file opens for writing, and the data is refused when it is written back', async (t) => {
    for (const [name, flag] of [
      ['immutable', immutable],
      ['append-only', appendOnly],
    ] as const) {
      await p.writeFile(name, 'content');
      const reader = await p.ok('open', name, 'O_RDONLY');
      await p.ok('setflags', reader, flag);
      const fd = await p.ok('open', name, 'O_WRONLY');
      await p.ok('write', fd, Buffer.from('C'), 0);
      t.match(await p.errno('fsync', fd), /EPERM|EIO/);
      await p.call('close', fd);
      await p.ok('setflags', reader, 0);
      await p.ok('close', reader);
      t.equal((await run('cat', [join(drive.directory, name)])).stdout.length, 7, 'nothing was added or lost');
    }
  });

  await t.test('a write past 2^53 - 1 is refused when it is written back', async (t) => {
    const fd = await p.ok('open', 'large', 'O_RDWR|O_CREAT', 0o644);
    const end = 2n ** 53n - 1n;
    t.equal(await p.errno('ftruncate', fd, end), 'OK');
    t.equal(await p.errno('ftruncate', fd, end + 1n), 'EFBIG');
    t.equal(await p.errno('fallocate', fd, 0, end - 4096n, 8192), 'EFBIG');
    await p.ok('write', fd, Buffer.from('x'), 2n ** 60n);
    t.match(await p.errno('fsync', fd), /EFBIG|EIO/);
    await p.call('close', fd);
    await p.ok('unlink', 'large');
  });

  await t.test('inserting and collapsing ranges is EOPNOTSUPP', async (t) => {
    await p.writeFile('ranges', Buffer.alloc(16_384, 'x'));
    const fd = await p.ok('open', 'ranges', 'O_RDWR');
    t.equal(await p.errno('fallocate', fd, 'FALLOC_FL_COLLAPSE_RANGE', 0, 4096), 'EOPNOTSUPP');
    t.equal(await p.errno('fallocate', fd, 'FALLOC_FL_INSERT_RANGE', 0, 4096), 'EOPNOTSUPP');
    await p.ok('close', fd);
    t.equal((await p.readFile('ranges')).length, 16_384);
  });

  await t.test('clones, deduplication and extent maps are EOPNOTSUPP', async (t) => {
    await p.writeFile('source', Buffer.alloc(8192, 'x'));
    await p.writeFile('target', Buffer.alloc(8192, 'x'));
    const [source, target] = [await p.ok('open', 'source', 'O_RDONLY'), await p.ok('open', 'target', 'O_RDWR')];
    t.equal(await p.errno('clone', target, source), 'EOPNOTSUPP');
    t.equal(await p.errno('dedupe', source, target, 8192), 'EOPNOTSUPP');
    t.equal(await p.errno('fiemap', source), 'EOPNOTSUPP');
    t.equal(await p.ok('copy_file_range', source, 0, target, 0, 8192), 8192, 'sharing is asked for so');
    await run('cp', ['--reflink=auto', join(drive.directory, 'source'), join(drive.directory, 'copy')]);
    for (const fd of [source, target]) await p.ok('close', fd);
  });

  await t.test('swap files are refused with EINVAL', async (t) => {
    await p.writeFile('swap', Buffer.alloc(1 << 16));
    await run('mkswap', [join(drive.directory, 'swap')]);
    t.equal(await p.errno('swapon', 'swap'), 'EINVAL');
  });

  await t.test('unsupported flags are refused with EOPNOTSUPP', async (t) => {
    await p.writeFile('flags', 'x');
    const fd = await p.ok('open', 'flags', 'O_RDONLY');
    t.equal(await p.errno('setflags', fd, compressed), 'EOPNOTSUPP');
    await p.ok('close', fd);
  });

  await t.test('device nodes are kept and have no effect', async (t) => {
    await p.ok('mknod', 'zero', 'S_IFCHR|0666', 1, 5);
    t.equal((await p.stat('stat', 'zero')).rdev, '1:5');
    t.equal(await p.errno('open', 'zero', 'O_RDONLY'), 'EACCES');
    const options = (await readFile('/proc/self/mounts', 'utf8')).split('\n').find((line) => line.includes(drive.directory)) ?? '';
    t.match(options, /nosuid.*nodev/);
  });

  await t.test('a read that the kernel answers from its cache may not update the access time', async (t) => {
    await p.writeFile('cached', 'content');
    await p.ok('utimens', 'cached', 5, 10);
    const before = (await p.stat('stat', 'cached')).ctime;
    await p.readFile('cached');
    const { atime } = await p.stat('stat', 'cached');
    t.ok(atime === 5n || atime >= before - 1_000_000_000n, 'the old one or a new one');
  });

  await t.test('the change time of chattr is visible once the kernel has dropped the file', async (t) => {
    await p.writeFile('changed', 'x');
    const before = (await p.stat('stat', 'changed')).ctime;
    const fd = await p.ok('open', 'changed', 'O_RDONLY');
    // The kernel's clock for files advances every few milliseconds.
    for (let now = before; now <= before; now = (await p.stat('stat', 'clock')).ctime) await p.writeFile('clock', 'x');
    await p.ok('setflags', fd, 0x80);
    t.equal((await p.stat('stat', 'changed')).ctime, before);
    await p.ok('close', fd);
    await p.ok('chdir', '/');
    await drive.unmount();
    await drive.mount();
    await p.ok('chdir', drive.directory);
    t.ok((await p.stat('stat', 'changed')).ctime > before);
  });

  await t.test('there are no quotas, and the drive can be unmounted and is sound', async (t) => {
    const { bavail, blocks } = await statfs(drive.directory);
    t.ok(bavail > 0 && blocks >= bavail);
    await p.ok('chdir', '/');
    await drive.unmount();
    await drive.check();
  });
}
