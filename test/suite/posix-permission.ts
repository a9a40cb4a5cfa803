/** Part of the POSIX suite (posix-suite.ts): permissions, with modes, sticky and set-id bits. */
import type { Test } from 'tap';
import { alice, bob, guests, type It, kib, type Need, type Place, staff } from './posix-place.js';

interface ContentCase {
  readonly name: string;
  readonly act: (p: Place, fd: number) => Promise<unknown>;
  readonly needs?: readonly Need[];
}

const punch = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';

/** Each changes the content of a file of 192 KiB that is open for reading and writing. */
const contentCases: readonly ContentCase[] = [
  { name: 'write', act: (p, fd) => p.ok('write', fd, Buffer.from('y')) },
  { name: 'truncation', act: (p) => p.ok('truncate', 'f', 100) },
  { name: 'ftruncate to more', act: (p, fd) => p.ok('ftruncate', fd, 300_000) },
  { name: 'open with O_TRUNC', act: (p) => p.open('f', 'O_WRONLY|O_TRUNC') },
  { name: 'fallocate of what is there', act: (p, fd) => p.ok('fallocate', fd, 0, 0, 10), needs: ['preallocate'] },
  { name: 'fallocate past the end', act: (p, fd) => p.ok('fallocate', fd, 0, 200_000, 5000), needs: ['preallocate'] },
  { name: 'fallocate that keeps the size', act: (p, fd) => p.ok('fallocate', fd, 'FALLOC_FL_KEEP_SIZE', 200_000, 5000), needs: ['preallocate'] },
  { name: 'punched hole', act: (p, fd) => p.ok('fallocate', fd, punch, 64 * kib, 64 * kib), needs: ['punchHole'] },
  { name: 'zeroed range', act: (p, fd) => p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE', 64 * kib, 64 * kib), needs: ['zeroRange'] },
  { name: 'copy_file_range', act: async (p, fd) => p.ok('copy_file_range', await p.open('source', 'O_RDONLY'), 0, fd, 0, 64 * kib) },
];

const [root, member, stranger] = ['root', 'a member of the group', 'somebody outside the group'];

/** The mode before and after, by the user who changes the content. */
type ModesAfter = readonly (readonly [caller: string, before: number, after: number])[];

const modesAfter: ModesAfter = [
  [root, 0o6777, 0o6777],
  [member, 0o6777, 0o777],
  [member, 0o2777, 0o777],
  [member, 0o4666, 0o666],
  [stranger, 0o6777, 0o777],
  [stranger, 0o2676, 0o676],
];

/** Set-group-id is no privilege where the group may not execute, and stays for members of the group. */
const modesWithoutExecution: ModesAfter = [
  [root, 0o2766, 0o2766],
  [member, 0o6766, 0o2766],
  [stranger, 0o6666, 0o666],
  [stranger, 0o2766, 0o766],
];

async function beCaller(p: Place, caller: string): Promise<void> {
  // The group is a supplementary one.
  if (caller === member) await p.as(bob, guests, staff);
  if (caller === stranger) await p.as(bob, guests);
}

async function checkModes(t: Test, p: Place, { act }: ContentCase, modes: ModesAfter): Promise<void> {
  await p.file('source', 's'.repeat(64 * kib));
  for (const [caller, before, after] of modes) {
    await p.file('f', 'x'.repeat(192 * kib));
    await p.ok('chown', 'f', alice, staff);
    await p.ok('chmod', 'f', before);
    await beCaller(p, caller);
    const fd = await p.open('f', 'O_RDWR');
    await act(p, fd);
    t.equal((await p.mode('f')).toString(8), after.toString(8), `${before.toString(8)}, by ${caller}`);
    await p.ok('close', fd);
    await p.asRoot();
    await p.ok('unlink', 'f');
  }
}

/** The value of `security.capability` for CAP_NET_RAW: version 2 with the effective bit, permitted, inheritable. */
const netRawCapability = Buffer.from('0100000200200000000000000000000000000000', 'hex');

/** The objects that chown(2) is called for, by kind. A link has no mode of its own. */
const nodeMakers: readonly (readonly [kind: string, make: (p: Place) => Promise<unknown>])[] = [
  ['file', (p) => p.file('f', 'x')],
  ['folder', (p) => p.ok('mkdir', 'f')],
  ['fifo', (p) => p.ok('mkfifo', 'f')],
  ['device', (p) => p.ok('mknod', 'f', 'S_IFCHR|0666', 1, 3)],
];

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
  it('root is not restricted by permissions', 'otherUsers', async (t, p) => {
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
  it('moving a directory to another parent needs write permission on the directory', 'otherUsers', async (_, p) => {
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
  it('a write past the cache clears set-id bits at once', 'otherUsers', async (t, p) => {
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
  it('a truncation by another user clears set-id bits', 'otherUsers', async (t, p) => {
    await p.file('f', 'xyz');
    await p.ok('chmod', 'f', 0o6777);
    await p.as(alice, staff);
    await p.ok('truncate', 'f', 1);
    t.equal(await p.mode('f'), 0o777);
  });
  for (const content of contentCases) {
    const { name, act, needs = [] } = content;
    it(`a ${name} clears set-id bits unless root does it`, 'otherUsers', ...needs, (t, p) => checkModes(t, p, content, modesAfter));
    it(`set-group-id without group execution is kept after a ${name} by a member of the group`, 'otherUsers', ...needs, (t, p) =>
      checkModes(t, p, content, modesWithoutExecution),
    );
    it(`a ${name} removes the capabilities of a program, also by root`, 'otherUsers', 'trustedXattrs', ...needs, async (t, p) => {
      await p.file('source', 's'.repeat(64 * kib));
      await p.file('f', 'x'.repeat(192 * kib));
      await p.ok('chmod', 'f', 0o6777);
      await p.ok('setxattr', 'f', 'security.capability', netRawCapability);
      await act(p, await p.open('f', 'O_RDWR'));
      await p.fails('ENODATA', 'getxattr', 'f', 'security.capability');
      t.equal(await p.mode('f'), 0o6777, 'root keeps the bits');
    });
  }
  it(
    'chown without an owner and a group updates the change time, and clears set-id bits except those of folders',
    'otherUsers',
    'deviceNodes',
    async (t, p) => {
      for (const [kind, make] of nodeMakers) {
        for (const caller of ['root', 'the owner'] as const) {
          await make(p);
          await p.ok('chown', 'f', alice, staff);
          await p.ok('chmod', 'f', 0o6777);
          const before = await p.lstat('f');
          await p.later('f');
          if (caller === 'the owner') await p.as(alice, staff);
          await p.ok('chown', 'f', -1, -1);
          const { mode, ctime, mtime } = await p.lstat('f');
          t.equal((mode & 0o7777).toString(8), kind === 'folder' ? '6777' : '777', `${kind}, by ${caller}`);
          t.ok(ctime > before.ctime, `ctime of a ${kind}, by ${caller}`);
          t.equal(mtime, before.mtime, `mtime of a ${kind}, by ${caller}`);
          await p.asRoot();
          await p.ok(kind === 'folder' ? 'rmdir' : 'unlink', 'f');
        }
      }
    },
  );
  it('chown without an owner and a group updates the change time of a link', 'otherUsers', async (t, p) => {
    await p.ok('symlink', 'nowhere', 'l');
    const { ctime } = await p.lstat('l');
    await p.later('l');
    await p.ok('lchown', 'l', -1, -1);
    t.ok((await p.lstat('l')).ctime > ctime);
  });
  it('chown without an owner and a group is EPERM for another user, and clears no bits', 'otherUsers', 'deviceNodes', async (t, p) => {
    for (const [kind, make] of nodeMakers) {
      await make(p);
      await p.ok('chown', 'f', alice, staff);
      await p.ok('chmod', 'f', 0o6777);
      await p.as(bob, guests);
      if (kind !== 'folder') await p.fails('EPERM', 'chown', 'f', -1, -1);
      t.equal(await p.mode('f'), 0o6777, kind);
      await p.asRoot();
      await p.ok(kind === 'folder' ? 'rmdir' : 'unlink', 'f');
    }
  });
  it('set-group-id without group execute is kept by a chown', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o2644);
    await p.ok('chown', 'f', alice, staff);
    t.equal(await p.mode('f'), 0o2644);
  });
  it('chown of a program clears set-id bits, also by root', 'otherUsers', async (t, p) => {
    await p.file('f');
    await p.ok('chmod', 'f', 0o6755);
    await p.ok('chown', 'f', alice, staff);
    t.equal(await p.mode('f'), 0o755);
  });
  it('chown of a directory keeps set-id bits', 'otherUsers', async (t, p) => {
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
  it('new entries of a set-group-id directory take its group, and new directories also the bit', 'otherUsers', async (t, p) => {
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
