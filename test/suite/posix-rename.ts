/** Part of the POSIX suite (posix-suite.ts): rename(2) and renameat2(2). */
import type { Probe } from '../mount/posix-probe.js';
import type { It } from './posix-place.js';

export function renameTests(it: It): void {
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
  it('a process that has a replaced file open keeps reading the old content', async (t, p) => {
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
  it('two processes that replace the same name leave one whole file', async (t, p) => {
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
