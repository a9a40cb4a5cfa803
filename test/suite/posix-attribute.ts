/** Part of the POSIX suite (posix-suite.ts): stat(2), chmod(2), chown(2). */
import { alice, bob, guests, type It, makeFiles, staff } from './posix-place.js';

export function attributeTests(it: It): void {
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
  it('chown with -1 leaves that id unchanged', 'otherUsers', async (t, p) => {
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
  it('a new file belongs to the user who made it', 'otherUsers', async (t, p) => {
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
