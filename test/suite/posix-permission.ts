/** Part of the POSIX suite (posix-suite.ts): who may do what: modes, sticky and set-id bits. */
import { alice, bob, guests, staff, type It } from './posix-place.js';

export function permissionTests(it: It): void {
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

export function privilegeBitTests(it: It): void {
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
  it('so does a write past the cache, at once', 'otherUsers', async (t, p) => {
    await p.file('f', 'x'.repeat(8192));
    await p.ok('chown', 'f', alice, staff);
    await p.ok('chmod', 'f', 0o6777);
    await p.as(alice, staff);
    const fd = await p.open('f', 'O_WRONLY|O_DIRECT');
    t.equal(await p.mode('f'), 0o6777);
    await p.ok('write', fd, Buffer.alloc(4096, 'y'), 0);
    t.equal(await p.mode('f'), 0o777);
    await p.ok('close', fd);
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
