/** Part of the POSIX suite (posix-suite.ts): extended attributes. */
import { alice, type It, type Place, staff } from './posix-place.js';

export function xattrTests(it: It): void {
  const get = async (p: Place, path: string, name: string): Promise<string | undefined> => (await p.probe.need('getxattr', path, name)).data;
  it('an xattr keeps any bytes, on files and directories', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('mkdir', 'd');
    const value = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    for (const path of ['f', 'd']) {
      await p.ok('setxattr', path, 'user.bytes', value);
      t.equal(await get(p, path, 'user.bytes'), value.toString('hex'));
    }
  });
  it('an empty value is not an absent one', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.empty', new Uint8Array(0));
    t.equal(await get(p, 'f', 'user.empty'), '');
    t.same((await p.probe.need('listxattr', 'f')).names, ['user.empty']);
    await p.fails('ENODATA', 'getxattr', 'f', 'user.none');
    await p.fails('ENODATA', 'removexattr', 'f', 'user.none');
  });
  it('XATTR_CREATE and XATTR_REPLACE demand absence and presence', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.fails('ENODATA', 'setxattr', 'f', 'user.x', Buffer.from('1'), 'XATTR_REPLACE');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'), 'XATTR_CREATE');
    await p.fails('EEXIST', 'setxattr', 'f', 'user.x', Buffer.from('2'), 'XATTR_CREATE');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('33'), 'XATTR_REPLACE');
    t.equal(await get(p, 'f', 'user.x'), '3333');
  });
  it('sizes can be asked, and too little space is ERANGE', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.alloc(100, 'v'));
    t.equal(await p.ok('getxattr', 'f', 'user.x', 0), 100);
    await p.fails('ERANGE', 'getxattr', 'f', 'user.x', 99);
    t.equal(await p.ok('getxattr', 'f', 'user.x', 100), 100);
    const list = await p.ok('listxattr', 'f', 0);
    t.ok(list >= 'user.x'.length + 1);
    await p.fails('ERANGE', 'listxattr', 'f', list - 1);
  });
  it('removing an xattr leaves the others', 'userXattrs', async (t, p) => {
    await p.file('f');
    for (const name of ['a', 'b', 'c']) await p.ok('setxattr', 'f', `user.${name}`, Buffer.from(name));
    await p.ok('removexattr', 'f', 'user.b');
    t.same((await p.probe.need('listxattr', 'f')).names?.filter((name) => name.startsWith('user.')).toSorted(), ['user.a', 'user.c']);
  });
  it('a large value is kept whole, also when it replaces a small one', 'userXattrs', async (t, p) => {
    const size = p.capabilities.xattrSizeMax;
    const value = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7) & 255));
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.big', Buffer.from('small'));
    await p.ok('setxattr', 'f', 'user.big', value);
    t.equal(await get(p, 'f', 'user.big'), value.toString('hex'));
    await p.ok('setxattr', 'f', 'user.big', Buffer.from('small'));
    t.equal(await p.ok('getxattr', 'f', 'user.big', 0), 5);
  });
  it('a value above 64 KiB is E2BIG, a name above 255 bytes ERANGE', 'userXattrs', async (_, p) => {
    await p.file('f');
    await p.fails('E2BIG', 'setxattr', 'f', 'user.big', Buffer.alloc(65537));
    await p.ok('setxattr', 'f', `user.${'n'.repeat(250)}`, Buffer.from('x'));
    await p.fails('ERANGE', 'setxattr', 'f', `user.${'n'.repeat(251)}`, Buffer.from('x'));
  });
  it('an unknown namespace is refused', async (_, p) => {
    await p.file('f');
    await p.fails(['EOPNOTSUPP', 'ENOTSUP'], 'setxattr', 'f', 'nonsense.x', Buffer.from('1'));
  });
  it('user xattrs are allowed on files and directories only', 'userXattrs', async (_, p) => {
    await p.ok('symlink', 'f', 'l');
    await p.ok('mkfifo', 'p');
    await p.fails('EPERM', 'setxattr', 'l', 'user.x', Buffer.from('1'));
    await p.fails('EPERM', 'setxattr', 'p', 'user.x', Buffer.from('1'));
  });
  it('xattrs move with the file and are shared by its links', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.ok('link', 'f', 'g');
    await p.ok('rename', 'f', 'h');
    t.equal(await get(p, 'g', 'user.x'), '31');
    await p.ok('setxattr', 'h', 'user.x', Buffer.from('2'));
    t.equal(await get(p, 'g', 'user.x'), '32');
  });
  it('a new file of an old name has none of the old xattrs', 'userXattrs', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.ok('unlink', 'f');
    await p.file('f');
    t.same((await p.probe.need('listxattr', 'f')).names ?? [], []);
  });
  it('user xattrs need permission to read and write the file', 'userXattrs', 'otherUsers', async (_, p) => {
    await p.file('f', '', 0o644);
    await p.ok('setxattr', 'f', 'user.x', Buffer.from('1'));
    await p.as(alice, staff);
    await p.ok('getxattr', 'f', 'user.x');
    await p.fails('EACCES', 'setxattr', 'f', 'user.x', Buffer.from('2'));
    await p.fails('EACCES', 'removexattr', 'f', 'user.x');
    await p.asRoot();
    await p.ok('chmod', 'f', 0o600);
    await p.as(alice, staff);
    await p.fails('EACCES', 'getxattr', 'f', 'user.x');
  });
  it('trusted xattrs are for root only', 'trustedXattrs', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('setxattr', 'f', 'trusted.x', Buffer.from('1'));
    t.equal(await get(p, 'f', 'trusted.x'), '31');
    await p.as(alice, staff);
    await p.fails('EPERM', 'setxattr', 'f', 'trusted.y', Buffer.from('1'));
    await p.fails(['ENODATA', 'EPERM'], 'getxattr', 'f', 'trusted.x');
  });
}
