/** Part of the POSIX suite (posix-suite.ts): which call changes which times, and how times are set. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ProbeStat } from '../mount/posix-probe.js';
import { alice, type It, type Need, type Place, second, staff } from './posix-place.js';

const run = promisify(execFile);

interface TimeCase {
  readonly name: string;
  readonly prepare?: (p: Place) => Promise<unknown>;
  readonly act: (p: Place) => Promise<unknown>;
  /** Path (after the act) to the times that must change: m, c, both, or none. */
  readonly expect: Readonly<Record<string, 'mc' | 'c' | ''>>;
  /** Where a path was before the act, if elsewhere. */
  readonly before?: Readonly<Record<string, string>>;
  readonly needs?: readonly Need[];
}

const timeCases: readonly TimeCase[] = [
  { name: 'write', act: async (p) => p.ok('write', await p.open('d/f', 'O_WRONLY'), Buffer.from('z')), expect: { 'd/f': 'mc', d: '' } },
  { name: 'a write of nothing', act: async (p) => p.ok('write', await p.open('d/f', 'O_WRONLY'), new Uint8Array(0)), expect: { 'd/f': '' } },
  { name: 'read', act: (p) => p.text('d/f'), expect: { 'd/f': '', d: '' } },
  { name: 'truncate to less', act: (p) => p.ok('truncate', 'd/f', 1), expect: { 'd/f': 'mc', d: '' } },
  { name: 'truncate to more', act: (p) => p.ok('truncate', 'd/f', 100), expect: { 'd/f': 'mc' } },
  { name: 'ftruncate', act: async (p) => p.ok('ftruncate', await p.open('d/f', 'O_WRONLY'), 1), expect: { 'd/f': 'mc' } },
  { name: 'open with O_TRUNC', act: (p) => p.open('d/f', 'O_WRONLY|O_TRUNC'), expect: { 'd/f': 'mc', d: '' } },
  { name: 'chmod', act: (p) => p.ok('chmod', 'd/f', 0o600), expect: { 'd/f': 'c', d: '' } },
  { name: 'chown', act: (p) => p.ok('chown', 'd/f', alice, staff), expect: { 'd/f': 'c', d: '' }, needs: ['otherUsers'] },
  { name: 'setting the access time', act: (p) => p.ok('utimens', 'd/f', 5, 'omit'), expect: { 'd/f': 'c', d: '' } },
  { name: 'setxattr', act: (p) => p.ok('setxattr', 'd/f', 'user.x', Buffer.from('1')), expect: { 'd/f': 'c', d: '' }, needs: ['userXattrs'] },
  {
    name: 'removexattr',
    prepare: (p) => p.ok('setxattr', 'd/f', 'user.x', Buffer.from('1')),
    act: (p) => p.ok('removexattr', 'd/f', 'user.x'),
    expect: { 'd/f': 'c', d: '' },
    needs: ['userXattrs'],
  },
  { name: 'creating a file', act: (p) => p.file('d/new'), expect: { d: 'mc', 'd/f': '', '.': '' } },
  { name: 'opening an existing file with O_CREAT', act: (p) => p.open('d/f', 'O_CREAT|O_WRONLY'), expect: { d: '', 'd/f': '' } },
  { name: 'mkdir', act: (p) => p.ok('mkdir', 'd/new'), expect: { d: 'mc' } },
  { name: 'symlink', act: (p) => p.ok('symlink', 'x', 'd/new'), expect: { d: 'mc' } },
  { name: 'mkfifo', act: (p) => p.ok('mkfifo', 'd/new'), expect: { d: 'mc' } },
  { name: 'rmdir', act: (p) => p.ok('rmdir', 'd/sub'), expect: { d: 'mc' } },
  {
    name: 'unlink',
    prepare: (p) => p.ok('link', 'd/f', 'kept'),
    act: (p) => p.ok('unlink', 'd/f'),
    before: { kept: 'kept' },
    expect: { d: 'mc', kept: 'c' },
  },
  { name: 'link', act: (p) => p.ok('link', 'd/f', 'e/g'), expect: { 'd/f': 'c', e: 'mc', d: '' } },
  { name: 'rename', act: (p) => p.ok('rename', 'd/f', 'e/g'), before: { 'e/g': 'd/f' }, expect: { 'e/g': 'c', d: 'mc', e: 'mc' } },
  {
    name: 'rename over a file that has another link',
    prepare: async (p) => {
      await p.file('e/g');
      await p.ok('link', 'e/g', 'kept');
    },
    act: (p) => p.ok('rename', 'd/f', 'e/g'),
    before: { 'e/g': 'd/f' },
    expect: { d: 'mc', e: 'mc', kept: 'c' },
  },
  {
    name: 'rename with EXCHANGE',
    prepare: (p) => p.file('e/g'),
    act: (p) => p.ok('rename', 'd/f', 'e/g', 'RENAME_EXCHANGE'),
    before: { 'e/g': 'd/f', 'd/f': 'e/g' },
    expect: { d: 'mc', e: 'mc', 'd/f': 'c', 'e/g': 'c' },
    needs: ['exchange'],
  },
  { name: 'listing', act: (p) => p.names('d'), expect: { d: '' } },
  { name: 'a failed unlink', act: (p) => p.fails('ENOENT', 'unlink', 'd/none'), expect: { d: '' } },
  { name: 'a failed mkdir', act: (p) => p.fails('EEXIST', 'mkdir', 'd/f'), expect: { d: '', 'd/f': '' } },
  { name: 'a failed rename', act: (p) => p.fails('EISDIR', 'rename', 'd/f', 'd/sub'), expect: { d: '', 'd/f': '' } },
  { name: 'a failed rmdir', act: (p) => p.fails('ENOTEMPTY', 'rmdir', 'd'), expect: { d: '', '.': '' } },
  {
    name: 'fallocate that makes the file longer',
    act: async (p) => p.ok('fallocate', await p.open('d/f', 'O_WRONLY'), 0, 0, 8192),
    expect: { 'd/f': 'mc' },
    needs: ['preallocate'],
  },
  {
    name: 'punching a hole',
    act: async (p) => p.ok('fallocate', await p.open('d/f', 'O_WRONLY'), 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 0, 4096),
    expect: { 'd/f': 'mc' },
    needs: ['punchHole'],
  },
  {
    name: 'copy_file_range into it',
    prepare: (p) => p.file('source', 'abcdef'),
    act: async (p) => p.ok('copy_file_range', await p.open('source', 'O_RDONLY'), 0, await p.open('d/f', 'O_WRONLY'), 0, 6),
    expect: { 'd/f': 'mc', source: '' },
  },
];

/** Ensures that the next read reaches the filesystem. */
async function uncache(p: Place, path: string): Promise<void> {
  const fd = await p.open(path, 'O_RDWR');
  await p.ok('fsync', fd);
  await p.ok('advise', fd, 0, 0, 'POSIX_FADV_DONTNEED');
  await p.ok('close', fd);
}

export function timeTests(it: It): void {
  for (const { name, prepare, act, expect, before = {}, needs = [] } of timeCases) {
    const changes = Object.entries(expect).map(([path, what]) => `${what || 'nothing'} of ${path}`);
    it(`times: ${name} changes ${changes.join(', ')}`, ...needs, async (t, p) => {
      await p.ok('mkdir', 'd');
      await p.ok('mkdir', 'd/sub');
      await p.ok('mkdir', 'e');
      await p.file('d/f', 'content');
      await prepare?.(p);
      const old = new Map<string, ProbeStat>();
      for (const path of Object.keys(expect)) old.set(path, await p.lstat(before[path] ?? path));
      await p.later(...Object.keys(expect).map((path) => before[path] ?? path));
      await act(p);
      for (const [path, what] of Object.entries(expect)) {
        const [was, is] = [old.get(path), await p.lstat(path)];
        if (was === undefined) continue;
        t.equal(is.mtime > was.mtime ? 'm' : is.mtime < was.mtime ? 'm goes back' : '', what.includes('m') ? 'm' : '', `mtime of ${path}`);
        t.equal(is.ctime > was.ctime ? 'c' : is.ctime < was.ctime ? 'c goes back' : '', what.includes('c') ? 'c' : '', `ctime of ${path}`);
      }
    });
  }
  it('utimens keeps every nanosecond, before 1970 and after 2038', async (t, p) => {
    await p.file('f');
    for (const ns of [0n, 1n, 999_999_999n, 1_234_567_890_123_456_789n, 4_000_000_000_123_456_789n, -1n, -1_000_000_000_000_000_001n]) {
      await p.ok('utimens', 'f', ns + 1n, ns);
      const { atime, mtime } = await p.stat('f');
      t.same([atime, mtime], [ns + 1n, ns]);
    }
  });
  it('utimens can leave either time out', async (t, p) => {
    await p.file('f');
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('utimens', 'f', 'omit', 3000);
    await p.ok('utimens', 'f', 4000, 'omit');
    await p.ok('utimens', 'f', 'omit', 'omit');
    t.same([(await p.stat('f')).atime, (await p.stat('f')).mtime], [4000n, 3000n]);
  });
  it('utimens can set either time to now', async (t, p) => {
    await p.file('f');
    const { ctime } = await p.stat('f');
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('utimens', 'f', 'omit', 'now');
    t.equal((await p.stat('f')).atime, 1000n);
    t.ok((await p.stat('f')).mtime >= ctime - 20_000_000n);
    await p.ok('utimens', 'f', 'now', 5000);
    t.ok((await p.stat('f')).atime >= ctime - 20_000_000n);
    t.equal((await p.stat('f')).mtime, 5000n);
  });
  it('utimens on a link follows it unless told not to', async (t, p) => {
    await p.file('f');
    await p.ok('symlink', 'f', 'l');
    await p.ok('utimens', 'l', 1000, 2000);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('utimens', 'l', 3000, 4000, 'nofollow');
    t.equal((await p.stat('f')).mtime, 2000n);
    t.equal((await p.lstat('l')).mtime, 4000n);
  });
  it('a time set after a write and before close stays', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_WRONLY');
    await p.ok('write', fd, Buffer.alloc(10_000));
    await p.ok('futimens', fd, 1000, 2000);
    await p.ok('close', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('close', await p.open('f', 'O_WRONLY'));
    t.equal((await p.stat('f')).mtime, 2000n);
  });
  it('a time set on a path while another descriptor has unwritten data stays', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_WRONLY');
    await p.ok('write', fd, Buffer.alloc(10_000));
    await p.ok('utimens', 'f', 1000, 2000);
    await p.ok('fsync', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
    await p.ok('close', fd);
    t.equal((await p.stat('f')).mtime, 2000n);
  });
  it('directories keep set times', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.file('d/f');
    await p.ok('utimens', 'd', 1000, 2000);
    t.equal((await p.stat('d')).mtime, 2000n);
  });
  it('reading updates an access time that is older than the last change, but only once', async (t, p) => {
    await p.file('f', 'content');
    await p.ok('utimens', 'f', 5n * second, 10n * second);
    t.equal((await p.stat('f')).atime, 5n * second);
    const { ctime } = await p.stat('f');
    await uncache(p, 'f');
    await p.text('f');
    const { atime } = await p.stat('f');
    t.ok(atime >= ctime - second, 'it is about now');
    await uncache(p, 'f');
    await p.text('f');
    t.equal((await p.stat('f')).atime, atime);
  });
  it('reading with O_NOATIME leaves the access time', async (t, p) => {
    await p.file('f', 'content');
    await p.ok('utimens', 'f', 5n * second, 10n * second);
    await uncache(p, 'f');
    const fd = await p.open('f', 'O_RDONLY|O_NOATIME');
    t.equal((await p.probe.readAt(fd, 100, 0)).toString(), 'content');
    t.equal((await p.stat('f')).atime, 5n * second);
  });
  it('listing a directory and following a link update their access times', async (t, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('symlink', 'd', 'l');
    await p.ok('utimens', 'd', 5n * second, 10n * second);
    await p.ok('utimens', 'l', 5n * second, 10n * second, 'nofollow');
    await p.entries('d');
    await p.ok('readlink', 'l');
    t.ok((await p.lstat('d')).atime > 10n * second);
    t.ok((await p.lstat('l')).atime > 10n * second);
  });
  it('a time out of range is brought into range and does no harm', async (t, p) => {
    await p.file('f', 'content');
    for (const seconds of [2n ** 52n, 2n ** 53n + 1n, 2n ** 62n, -(2n ** 53n), -(2n ** 62n)]) {
      await run('touch', ['-d', `@${seconds}`, join(p.path, 'f')]);
      await p.ok('chmod', 'f', 0o600);
      t.equal(await p.text('f'), 'content');
      t.same(await p.names(), ['f']);
    }
    await p.ok('utimens', 'f', 5n, 10n);
    t.equal((await p.stat('f')).mtime, 10n);
  });
}
