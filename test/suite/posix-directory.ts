/**
 * Part of the POSIX suite (posix-suite.ts): directories: making, removing, link counts, and listing them while they
 * change.
 */
import { type It, makeFiles } from './posix-place.js';

export function directoryTests(it: It): void {
  it('mkdir makes an empty directory with two links', async (t, p) => {
    await p.ok('mkdir', 'd', 0o750);
    t.equal((await p.stat('d')).mode, 0o040750);
    t.equal(await p.nlink('d'), 2);
    t.same((await p.entries('d')).map((entry) => entry.name).toSorted(), ['.', '..']);
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
  it('.. of a directory is its parent, also after a move', async (t, p) => {
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

export function listingTests(it: It): void {
  it('a listing gives each entry once with its type and inode number', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('mkfifo', 'p');
    const entries = (await p.entries()).filter((entry) => !entry.name.startsWith('.'));
    t.same(entries.map((entry) => [entry.name, entry.type]).toSorted(byName), [
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
    t.strictSame(seen.toSorted(), names);
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
    t.strictSame(seen.filter((name) => name.startsWith('entry-')).toSorted(), names);
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
