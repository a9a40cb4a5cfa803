/** Part of the POSIX suite (posix-suite.ts): hard links, symbolic links, and nodes that are neither file nor folder. */
import { RawName } from '../mount/posix-probe.js';
import { alice, type It, staff } from './posix-place.js';

export function linkTests(it: It): void {
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
  it('a file exists until its last link is removed', async (t, p) => {
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
  it('a file cannot be linked again after its last link is removed', async (_, p) => {
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
  it('readlink truncates to the given space and refuses other kinds of files', async (t, p) => {
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

export function nodeTests(it: It): void {
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
  it('opening a fifo without a reader is ENXIO for a non-blocking writer', async (_, p) => {
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
