/**
 * Everything that stat(2) reports, and file handles, survive an unmount and a mount, on the same device and on a new
 * one.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive } from './drive-process.js';
import { Probe } from './posix-probe.js';

const run = promisify(execFile);
const why = whyNoFuse() || (process.getuid?.() === 0 ? false : 'handles, flags and device nodes need root');
const kib = 1024;
const [immutable, appendOnly, noAtime] = [0x10, 0x20, 0x80];

if (why !== false) t.plan(0, why);
else {
  const scratch = await scratchDirectory(t);
  const drive = new Drive({ scratch, withKeyFile: true });
  t.teardown(() => drive.destroy());
  await drive.init();

  /** A folder with one of everything; returns the names. */
  const makeOneOfEach = async (p: Probe): Promise<string[]> => {
    await p.writeFile('small', 'content');
    await p.ok('chmod', 'small', 0o4751);
    await p.writeFile('large', Buffer.alloc(700 * kib, 'x'), 0o640);
    const sparse = await p.ok('open', 'sparse', 'O_CREAT|O_RDWR', 0o600);
    await p.ok('write', sparse, Buffer.from('far away'), 2 ** 43);
    await p.ok('write', sparse, Buffer.alloc(64 * kib, 'y'), 2 ** 20);
    await p.ok('fallocate', sparse, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 2 ** 20 + 8 * kib, 16 * kib);
    await p.ok('close', sparse);
    await p.ok('mkdir', 'folder');
    for (const name of ['one', 'two', 'three']) await p.ok('mkdir', `folder/${name}`);
    await p.ok('mkdir', 'sticky');
    await p.ok('chmod', 'sticky', 0o1777);
    await p.ok('chmod', 'folder', 0o2775);
    await p.ok('link', 'small', 'linked');
    await p.ok('symlink', 'small', 'link');
    await p.ok('mkfifo', 'fifo', 0o620);
    await p.ok('mknod', 'socket', 'S_IFSOCK|0600', 0, 0);
    await p.ok('mknod', 'device', 'S_IFBLK|0660', 8, 17);
    await p.ok('chown', 'large', 41001, 42001);
    await p.ok('setxattr', 'large', 'user.large', Buffer.alloc(64 * kib, 'z'), 0);
    await p.ok('setxattr', 'folder', 'trusted.x', Buffer.from('1'), 0);
    await run('setfacl', ['-m', 'u:41002:rw,d:u:41002:rwx', join(drive.directory, 'folder')]);
    await p.ok('utimens', 'small', -1_234_567_890_123_456_789n, 4_102_444_800_000_000_123n);
    for (const [name, flags] of [
      ['immutable', immutable],
      ['append-only', appendOnly],
      ['no-atime', noAtime],
    ] as const) {
      await p.writeFile(name, name);
      const fd = await p.ok('open', name, 'O_RDONLY');
      await p.ok('setflags', fd, flags);
      await p.ok('close', fd);
    }
    return (await names(p)).toSorted();
  };

  const names = async (p: Probe): Promise<string[]> => {
    const handle = await p.ok('opendir', '.');
    const { entries = [] } = await p.need('readdir', handle);
    await p.ok('closedir', handle);
    return entries.map(({ name }) => name).filter((name) => name !== '.' && name !== '..');
  };

  const lookAt = async (p: Probe, name: string): Promise<object> => {
    const { dev: _device, ...stat } = await p.stat('lstat', name);
    const kind = stat.mode & 0o170000;
    if (kind !== 0o100000 && kind !== 0o040000) return stat;
    const fd = await p.ok('open', name, 'O_RDONLY');
    const flags = await p.ok('getflags', fd);
    const { names: xattrs = [] } = await p.need('listxattr', name);
    const values: string[] = [];
    for (const xattr of xattrs) values.push((await p.need('getxattr', name, xattr, 64 * kib)).data ?? '');
    const edges: number[] = [];
    for (let at = 0; edges.length < 20; ) {
      const { value, error } = await p.call('lseek', fd, at, edges.length % 2 === 0 ? 'SEEK_DATA' : 'SEEK_HOLE');
      // A directory has no holes, and past the end there is nothing.
      if (error !== undefined) break;
      at = value;
      edges.push(at);
    }
    await p.ok('close', fd);
    return { ...stat, flags, xattrs, values, edges: kind === 0o100000 ? edges : [] };
  };

  const all = async (p: Probe, list: readonly string[]): Promise<Record<string, object>> => {
    const found: Record<string, object> = {};
    for (const name of list) found[name] = await lookAt(p, name);
    return found;
  };

  await t.test('inode numbers and all other attributes survive a remount, and are the same on another device', async (t) => {
    await drive.mount();
    const p = await Probe.start();
    await p.ok('chdir', drive.directory);
    const list = await makeOneOfEach(p);
    t.equal(list.length, 13);
    // The files are written back and read again, so that the kernel's cached attributes do not matter.
    await p.ok('chdir', '/');
    await drive.unmount();
    await drive.mount();
    await p.ok('chdir', drive.directory);
    const before = await all(p, list);
    t.match(before['folder'], { nlink: 5, mode: 0o42775 });
    t.match(before['sticky'], { mode: 0o41777 });
    t.match(before['small'], { nlink: 2, mode: 0o104751 });
    t.match(before['device'], { rdev: '8:17' });
    t.match(before['sparse'], { size: 2 ** 43 + 8 });
    t.match(before['immutable'], { flags: immutable });
    await p.ok('chdir', '/');
    await drive.unmount();
    await drive.mount();
    await p.ok('chdir', drive.directory);
    t.same(await names(p).then((found) => found.toSorted()), list);
    t.same(await all(p, list), before, 'on the same device');
    await p.ok('chdir', '/');
    await drive.unmount();
    await drive.forget();
    await drive.mount();
    await p.ok('chdir', drive.directory);
    t.same(await all(p, list), before, 'on a device that knew nothing');
    await p.close();
    await drive.unmount();
  });

  await t.test('a handle opens its file after a remount and under another name, and is stale once the file is removed', async (t) => {
    await drive.mount();
    const p = await Probe.start();
    await p.ok('chdir', drive.directory);
    await p.ok('mkdir', 'handles');
    await p.writeFile('handles/f', 'content');
    await p.writeFile('handles/g', 'gone');
    const [kept, gone] = [
      Buffer.from((await p.need('handle', 'handles/f')).data ?? '', 'hex'),
      Buffer.from((await p.need('handle', 'handles/g')).data ?? '', 'hex'),
    ];
    await p.ok('rename', 'handles/f', 'elsewhere', 0);
    await p.ok('unlink', 'handles/g');
    for (const round of ['on the same device', 'on a device that knew nothing']) {
      await p.ok('chdir', '/');
      await drive.unmount();
      if (round !== 'on the same device') await drive.forget();
      await drive.mount();
      await p.ok('chdir', drive.directory);
      const folder = await p.ok('open', '.', 'O_RDONLY|O_DIRECTORY');
      const fd = await p.ok('openhandle', folder, kept);
      t.equal((await p.readAt(fd, 100, 0)).toString(), 'content', round);
      t.equal(await p.errno('openhandle', folder, gone), 'ESTALE', round);
      for (const open of [fd, folder]) await p.ok('close', open);
    }
    await p.close();
    await drive.unmount();
  });
}
