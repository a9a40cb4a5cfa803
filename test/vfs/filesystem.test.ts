/**
 * The filesystem over a real volume: the behaviour that the kernel leaves to it. The kernel's own part is tested in
 * test/mount.
 */
import t from 'tap';
import { toHex } from '../../src/base/bytes.js';
import type { Timespec } from '../../src/base/clock.js';
import { FS_IMMUTABLE_FL } from '../../src/meta/inode.js';
import type { Ino } from '../../src/meta/key.js';
import { rootIno } from '../../src/meta/key.js';
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  accessAclName,
  decodeAcl,
  defaultAclName,
  encodeAcl,
} from '../../src/vfs/acl.js';
import type { Caller } from '../../src/vfs/caller.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import { minimalAcl } from '../suite/minimal-acl.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestRealm, openTestVolume } from '../suite/test-volume.js';

const user: Caller = { uid: 1000, gid: 100, umask: 0o027, signal: new AbortController().signal };
const root: Caller = { ...user, uid: 0, gid: 0 };
const none = 0xffffffff;
const acl = [
  { tag: ACL_USER_OBJ, permission: 7, id: none },
  { tag: ACL_USER, permission: 6, id: 1001 },
  { tag: ACL_GROUP_OBJ, permission: 5, id: none },
  { tag: ACL_MASK, permission: 7, id: none },
  { tag: ACL_OTHER, permission: 4, id: none },
];

const realm = await createTestRealm();
const volume = await openTestVolume(t, realm);
const fs = new Filesystem(volume);
let count = 0;

async function folder(mode = 0o755): Promise<Ino> {
  return (await fs.mkdir(root, rootIno, `folder-${count++}`, mode)).ino;
}

async function contentOf(ino: Ino): Promise<string> {
  return Buffer.concat(await fs.read(user, ino, 0, 1 << 20)).toString('latin1');
}

t.test('a new inode belongs to its maker, without the bits of the umask', async (t) => {
  const made = await fs.mknod(user, await folder(), 'f', 0o100666, 0);
  t.match(made, { mode: 0o100640, uid: 1000, gid: 100, nlink: 1, size: 0 });
});

t.test('new entries of a set-group-id directory inherit its group, and directories also the bit', async (t) => {
  const parent = await folder();
  await fs.setattr(parent, { gid: 55 });
  await fs.setattr(parent, { mode: 0o2777 });
  t.match(await fs.mknod(user, parent, 'f', 0o100644, 0), { gid: 55, mode: 0o100640 });
  t.match(await fs.mkdir(user, parent, 'd', 0o755), { gid: 55, mode: 0o42750 });
});

t.test('a default ACL is inherited in place of the umask', async (t) => {
  const parent = await folder();
  await fs.setxattr(parent, defaultAclName, encodeAcl(acl), 0, false);
  const file = await fs.mknod(user, parent, 'f', 0o100666, 0);
  t.equal(file.mode, 0o100664);
  t.equal(decodeAcl(await fs.getxattr(file.ino, accessAclName)).find(({ tag }) => tag === ACL_USER)?.permission, 6);
  const directory = await fs.mkdir(user, parent, 'd', 0o777);
  t.equal(toHex(await fs.getxattr(directory.ino, defaultAclName)), toHex(encodeAcl(acl)));
  const link = await fs.symlink(user, parent, 'l', 'f');
  t.same(await fs.listxattr(user, link.ino), []);
});

t.test('the times of a write from before a file became immutable are taken, those of a later one are not', async (t) => {
  const reportWrite = async (msAfterFlag: number): Promise<void> => {
    const { ino } = await fs.mknod(user, await folder(), 'f', 0o100666, 0);
    await fs.setflags(ino, FS_IMMUTABLE_FL);
    const { ctime } = await fs.getattr(ino);
    const nsec = ctime.nsec + msAfterFlag * 1e6;
    const time: Timespec = { sec: ctime.sec + Math.floor(nsec / 1e9), nsec: ((nsec % 1e9) + 1e9) % 1e9 };
    await fs.setattr(ino, { mtime: time, ctime: time });
  };
  for (const ms of [-1000, -1, 0]) await t.resolves(reportWrite(ms), `${ms} ms`);
  await t.rejects(reportWrite(1), { code: 'EPERM' });
});

t.test('ACL and mode follow each other', async (t) => {
  const { ino } = await fs.mknod(user, await folder(), 'f', 0o100600, 0);
  await fs.setxattr(ino, accessAclName, encodeAcl(acl), 0, false);
  t.equal((await fs.getattr(ino)).mode, 0o100774);
  await fs.setattr(ino, { mode: 0o640 });
  t.equal(decodeAcl(await fs.getxattr(ino, accessAclName)).find(({ tag }) => tag === ACL_MASK)?.permission, 4);
  await fs.setxattr(ino, accessAclName, encodeAcl(minimalAcl(0o604)), 0, false);
  t.equal((await fs.getattr(ino)).mode, 0o100604);
  t.same(await fs.listxattr(user, ino), [], 'a list that says nothing more is not kept');
  await t.rejects(async () => fs.setxattr(ino, defaultAclName, encodeAcl(acl), 0, false), { code: 'EACCES' });
});

t.test('set-id bits are cleared when the owner changes or another user writes', async (t) => {
  const parent = await folder();
  const { ino } = await fs.mknod(root, parent, 'f', 0o100644, 0);
  await fs.setattr(ino, { mode: 0o6755 });
  await fs.setattr(ino, { uid: 1000 });
  t.equal((await fs.getattr(ino)).mode, 0o100755);
  await fs.setattr(ino, { mode: 0o6745 });
  await fs.write({ ...user, isMemberOf: (gid) => gid === 0 }, ino, 0, Buffer.from('x'), true);
  t.equal((await fs.getattr(ino)).mode, 0o102745, 'set-group-id without group execution is kept for members of the group');
  await fs.write(user, ino, 0, Buffer.from('x'), true);
  t.equal((await fs.getattr(ino)).mode, 0o100745, 'and for nobody else');
  await fs.setattr(parent, { mode: 0o2755 });
  t.equal((await fs.setattr(parent, { uid: 5 })).mode, 0o42755, 'directories keep theirs');
});

t.test('xattr values are copied on set', async (t) => {
  const { ino } = await fs.mknod(user, await folder(), 'f', 0o100600, 0);
  const value = Buffer.from('value');
  await fs.setxattr(ino, 'user.a', value, 0, false);
  value.fill(0);
  t.equal(Buffer.from(await fs.getxattr(ino, 'user.a')).toString(), 'value');
  await fs.setxattr(ino, 'trusted.b', value, 0, false);
  t.same(await fs.listxattr(user, ino), ['user.a']);
  t.same(await fs.listxattr(root, ino), ['trusted.b', 'user.a']);
  await t.rejects(async () => fs.getxattr(ino, 'user.none'), { code: 'ENODATA' });
  await t.rejects(async () => fs.setxattr(ino, 'other.a', value, 0, false), { code: 'EOPNOTSUPP' });
});

t.test('a copy within the volume equals its source, small or large, and ends where the source ends', async (t) => {
  const parent = await folder();
  for (const size of [0, 10, 5000, 700_000]) {
    const { ino: from } = await fs.mknod(user, parent, `from-${size}`, 0o100600, 0);
    const { ino: to } = await fs.mknod(user, parent, `to-${size}`, 0o100600, 0);
    const content = 'abcdefghij'.repeat(size / 10);
    await fs.write(user, from, 0, Buffer.from(content), false);
    t.equal(await fs.copyRange(user, from, 0, to, 3, size + 100), size);
    t.equal(await contentOf(to), size === 0 ? '' : `\0\0\0${content}`);
  }
  const { ino } = await fs.mknod(user, parent, 'self', 0o100600, 0);
  await fs.write(user, ino, 0, Buffer.from('0123456789'), false);
  await t.rejects(fs.copyRange(user, ino, 0, ino, 5, 10), { code: 'EINVAL' });
});

t.test('a removed file can be read until it is released, and is then freed', async (t) => {
  const parent = await folder();
  const { ino } = await fs.mknod(user, parent, 'f', 0o100600, 0);
  await fs.write(user, ino, 0, Buffer.from('still here'), false);
  const { files } = volume.statistics();
  t.same(await fs.unlink(parent, 'f'), { ino, orphaned: true });
  t.equal(await contentOf(ino), 'still here');
  fs.forget(ino);
  t.equal(volume.statistics().files, files - 1);
  await t.rejects(async () => fs.getattr(ino), { code: 'ESTALE' });
});

t.test('an unnamed file can be given a name by link, and then outlives its process', async (t) => {
  const parent = await folder();
  const { ino, nlink } = await fs.tmpfile(user, parent, 0o100600);
  t.equal(nlink, 0);
  t.equal((await fs.link(ino, parent, 'named')).nlink, 1);
  fs.forget(ino);
  t.equal((await fs.lookup(parent, 'named'))?.ino, ino);
});

t.test('rename returns the inode that it replaced', async (t) => {
  const parent = await folder();
  const { ino: a } = await fs.mknod(user, parent, 'a', 0o100600, 0);
  const { ino: b } = await fs.mknod(user, parent, 'b', 0o100600, 0);
  t.same(await fs.rename(parent, 'a', parent, 'b', 2), { ino: a, other: b, orphaned: false });
  t.equal((await fs.lookup(parent, 'a'))?.ino, b);
  t.same(await fs.rename(parent, 'a', parent, 'b', 0), { ino: b, other: a, orphaned: true });
  t.equal(await fs.lookup(parent, 'a'), undefined);
  await t.rejects(async () => fs.rename(parent, 'b', parent, 'c', 3), { code: 'EINVAL' });
});

t.test('a listing has the directory, its parent and its entries, with attributes if asked for', async (t) => {
  const parent = await folder();
  const inner = await fs.mkdir(root, parent, 'inner', 0o755);
  const file = await fs.mknod(user, inner.ino, 'file', 0o100600, 0);
  const entries: unknown[] = [];
  await fs.readdir(inner.ino, 0, true, ({ name, ino, cookie, attributes }) => entries.push([name, ino, cookie, attributes?.mode]) > 0);
  t.same(entries, [
    ['.', inner.ino, 1, undefined],
    ['..', parent, 2, undefined],
    ['file', file.ino, file.ino, 0o100600],
  ]);
  t.throws(() => fs.readdir(file.ino, 0, false, () => true), { code: 'ENOTDIR' });
});

t.test('files that a crash left without a name are freed at the next start', async (t) => {
  const stateDirectory = await scratchDirectory(t);
  const other = await createTestRealm();
  const first = await openTestVolume(t, other, { stateDirectory });
  const before = new Filesystem(first);
  const { ino } = await before.mknod(user, rootIno, 'f', 0o100600, 0);
  await before.unlink(rootIno, 'f');
  await first.close();
  const second = await openTestVolume(t, other, { stateDirectory });
  t.equal(await new Filesystem(second).start(), 1);
  await t.rejects(async () => new Filesystem(second).getattr(ino), { code: 'ESTALE' });
});

t.test('a time that an inode cannot hold becomes the nearest possible one', async (t) => {
  const { ino } = await fs.mknod(user, await folder(), 'f', 0o100644, 0);
  for (const [asked, kept] of [
    [2 ** 52 - 1, 2 ** 52 - 1],
    [2 ** 52, 2 ** 52 - 1],
    [2 ** 63, 2 ** 52 - 1],
    [-(2 ** 63), -(2 ** 52) + 1],
  ] as const) {
    const time = { sec: asked, nsec: 0 };
    t.match(await fs.setattr(ino, { atime: time, mtime: time, ctime: time }), { atime: { sec: kept }, mtime: { sec: kept }, ctime: { sec: kept } });
  }
  await volume.flush();
  t.match(await fs.getattr(ino), { mtime: { sec: -(2 ** 52) + 1 } });
});

t.test('allocating more than there is room for is ENOSPC, and leaves the file as it was', async (t) => {
  const small = new Filesystem(volume, { space: async () => ({ free: 1_000_000, total: 2_000_000 }) });
  const { ino } = await small.mknod(user, await folder(), 'f', 0o100644, 0);
  await small.write(user, ino, 0, Buffer.alloc(300_000, 'x'), false);
  await t.rejects(small.allocate(ino, 0, 1_400_000, 0), { code: 'ENOSPC' });
  t.match(await small.getattr(ino), { size: 300_000 });
  await small.allocate(ino, 0, 1_200_000, 0);
  t.match(await small.getattr(ino), { size: 1_200_000 });
});

type SpaceStep = readonly [call: 'write' | 'truncate' | 'fallocate', at: number, length: number, mode: number, blocksAfter: number];
const [keep, punch, zeroRange] = [1, 3, 16];

/** The values of ext4 with blocks of 4 KiB. */
const spaceCases: readonly (readonly [name: string, ...steps: SpaceStep[]])[] = [
  ['a range across a block boundary', ['fallocate', 4095, 2, 0, 16], ['write', 4095, 2, 0, 16], ['truncate', 4095, 0, 0, 8]],
  ['the same past the end', ['fallocate', 4095, 2, keep, 16], ['truncate', 0, 0, 0, 1]],
  ['several ranges', ['fallocate', 1, 1, 0, 8], ['fallocate', 5000, 1, 0, 16], ['fallocate', 12_287, 2, 0, 32]],
  ['data and what follows it', ['write', 0, 5000, 0, 16], ['fallocate', 0, 10_000, 0, 24], ['truncate', 9000, 0, 0, 24]],
  ['what is zeroed', ['fallocate', 100, 5000, zeroRange, 16], ['write', 0, 20_000, 0, 40], ['fallocate', 19_000, 5000, zeroRange, 48]],
  ['a hole that fills no block', ['write', 0, 8192, 0, 16], ['fallocate', 100, 7992, punch, 16]],
  ['a hole with one whole block', ['write', 0, 12_288, 0, 24], ['fallocate', 1000, 8000, punch, 16]],
  ['holes that fill a block together', ['write', 0, 8192, 0, 16], ['fallocate', 0, 2000, punch, 16], ['fallocate', 2000, 2096, punch, 16]],
  ['a hole to the end', ['write', 0, 5000, 0, 16], ['fallocate', 4096, 904, punch, 16], ['fallocate', 4096, 2000, punch, 8]],
  ['a hole in what is reserved', ['fallocate', 0, 20_000, 0, 40], ['fallocate', 100, 8000, punch, 40], ['fallocate', 1, 19_998, punch, 16]],
];

t.test('allocated space counts in whole blocks, as on a disk', async (t) => {
  const parent = await folder();
  for (const [index, [name, ...steps]] of spaceCases.entries()) {
    const { ino } = await fs.mknod(user, parent, `space-${index}`, 0o100644, 0);
    for (const [call, at, length, mode, blocksAfter] of steps) {
      if (call === 'write') await fs.write(user, ino, at, Buffer.alloc(length, 'x'), false);
      else if (call === 'truncate') await fs.setattr(ino, { size: at });
      else await fs.allocate(ino, at, length, mode);
      await volume.sealContent(ino);
      t.equal((await fs.getattr(ino)).blocks, blocksAfter, `${name}: ${call} ${at} ${length}`);
    }
    const zeros = Buffer.concat(await fs.read(user, ino, 0, 100_000));
    t.equal(zeros.byteLength, (await fs.getattr(ino)).size);
  }
});
