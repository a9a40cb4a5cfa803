/**
 * Part of the POSIX suite (posix-suite.ts): open(2), including creation, truncation, refusals, descriptors and their
 * flags.
 */
import { alice, type It, staff } from './posix-place.js';

export function openTests(it: It): void {
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
      t.same(found.toSorted(), ['EEXIST', 'OK']);
    }
  });
  it('O_CREAT through a dangling link makes its target', async (t, p) => {
    await p.ok('symlink', 'target', 'l');
    await p.file('l', 'x');
    t.equal(await p.text('target'), 'x');
  });
  it('O_TRUNC empties a file', async (t, p) => {
    await p.file('f', 'something');
    await p.ok('close', await p.open('f', 'O_WRONLY|O_TRUNC'));
    t.equal((await p.stat('f')).size, 0);
  });
  it('O_APPEND writes at the end, wherever the file position is', async (t, p) => {
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
  it('O_PATH gives a descriptor that can be examined but not read', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_PATH');
    t.equal((await p.fstat(fd)).size, 3);
    await p.fails('EBADF', 'read', fd, 1);
  });
  it('openat works from a directory that was renamed after it was opened', async (t, p) => {
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
