/**
 * Part of the POSIX suite (posix-suite.ts): errors that many calls share: missing folders, files in the way, loops,
 * long names, other filesystems.
 */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProbeArgument } from '../mount/posix-probe.js';
import { alice, type It, type Place, staff } from './posix-place.js';

/** Every call that takes a path, as a function of the path that supplies the other arguments. */
const pathCalls: readonly (readonly [string, (path: ProbeArgument) => readonly ProbeArgument[]])[] = [
  ['open', (path) => [path, 'O_RDONLY']],
  ['open', (path) => [path, 'O_CREAT|O_WRONLY']],
  ['mkdir', (path) => [path]],
  ['rmdir', (path) => [path]],
  ['unlink', (path) => [path]],
  ['rename', (path) => [path, 'other']],
  ['rename', (path) => ['source', path]],
  ['link', (path) => [path, 'other']],
  ['link', (path) => ['source', path]],
  ['symlink', (path) => ['x', path]],
  ['readlink', (path) => [path]],
  ['mkfifo', (path) => [path]],
  ['chmod', (path) => [path, 0o600]],
  ['chown', (path) => [path, -1, -1]],
  ['utimens', (path) => [path, 'now', 'now']],
  ['truncate', (path) => [path, 0]],
  ['stat', (path) => [path]],
  ['lstat', (path) => [path]],
  ['access', (path) => [path, 'F_OK']],
  ['opendir', (path) => [path]],
  ['getxattr', (path) => [path, 'user.x']],
  ['setxattr', (path) => [path, 'user.x', Buffer.from('1')]],
  ['statvfs', (path) => [path]],
];

/** Calls that create the last name, so its absence is no error. */
function makes(call: string, argument: readonly ProbeArgument[]): boolean {
  return ['mkdir', 'symlink', 'mkfifo'].includes(call) || argument[0] === 'source' || (call === 'open' && argument[1] !== 'O_RDONLY');
}

export function errorTests(it: It): void {
  const withSource = async (p: Place): Promise<void> => p.file('source');
  it('a missing last name is ENOENT for every call that does not create it', async (_, p) => {
    for (const [call, place] of pathCalls) {
      const argument = place('missing');
      if (!makes(call, argument)) await p.fails('ENOENT', call, ...argument);
    }
  });
  it('a missing folder on the way is ENOENT for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENOENT', call, ...place('missing/name'));
  });
  it('a file on the way is ENOTDIR for every call', async (_, p) => {
    await withSource(p);
    await p.file('file');
    for (const [call, place] of pathCalls) await p.fails('ENOTDIR', call, ...place('file/name'));
  });
  it('a name of 256 bytes is ENAMETOOLONG for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENAMETOOLONG', call, ...place('n'.repeat(256)));
  });
  it('a path of 4096 bytes is ENAMETOOLONG for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENAMETOOLONG', call, ...place('./'.repeat(2048)));
  });
  it('a circle of links on the way is ELOOP for every call', async (_, p) => {
    await withSource(p);
    await p.ok('symlink', 'b', 'a');
    await p.ok('symlink', 'a', 'b');
    for (const [call, place] of pathCalls) await p.fails('ELOOP', call, ...place('a/name'));
  });
  it('an empty path is ENOENT for every call', async (_, p) => {
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('ENOENT', call, ...place(''));
  });
  it('a folder that may not be searched is EACCES for every call', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'locked');
    await p.file('locked/name');
    await p.ok('chmod', 'locked', 0o600);
    await p.as(alice, staff);
    await withSource(p);
    for (const [call, place] of pathCalls) await p.fails('EACCES', call, ...place('locked/name'));
  });
  it('a folder that may not be written is EACCES for every call that changes it', 'otherUsers', async (_, p) => {
    await p.ok('mkdir', 'shut');
    await p.file('shut/name');
    await p.ok('mkdir', 'shut/dir');
    await p.ok('chmod', 'shut', 0o755);
    await p.as(alice, staff);
    await withSource(p);
    await p.fails('EACCES', 'open', 'shut/new', 'O_CREAT|O_WRONLY');
    await p.fails('EACCES', 'mkdir', 'shut/new');
    await p.fails('EACCES', 'mkfifo', 'shut/new');
    await p.fails('EACCES', 'symlink', 'x', 'shut/new');
    await p.fails('EACCES', 'unlink', 'shut/name');
    await p.fails('EACCES', 'rmdir', 'shut/dir');
    await p.fails('EACCES', 'rename', 'shut/name', 'mine');
    await p.fails('EACCES', 'rename', 'source', 'shut/new');
    await p.fails(['EACCES', 'EPERM'], 'link', 'source', 'shut/new');
  });
  it('an existing name is EEXIST for every call that makes one, of whatever kind it is', async (_, p) => {
    await withSource(p);
    await p.file('file');
    await p.ok('mkdir', 'dir');
    await p.ok('symlink', 'nowhere', 'dangling');
    await p.ok('mkfifo', 'fifo');
    for (const name of ['file', 'dir', 'dangling', 'fifo']) {
      await p.fails('EEXIST', 'mkdir', name);
      await p.fails('EEXIST', 'mkfifo', name);
      await p.fails('EEXIST', 'symlink', 'x', name);
      await p.fails('EEXIST', 'link', 'source', name);
    }
  });
  it('a slash after a file is ENOTDIR', async (_, p) => {
    await p.file('f');
    await p.fails('ENOTDIR', 'stat', 'f/');
    await p.fails('ENOTDIR', 'open', 'f/', 'O_RDONLY');
    await p.fails('ENOTDIR', 'unlink', 'f/');
  });
  it('a name on another filesystem is EXDEV for rename and link', async (t, p) => {
    await p.file('f');
    const here = (await p.stat('.')).dev;
    for (const elsewhere of ['/dev/shm', '/tmp', '/run']) {
      if ((await p.stat(elsewhere)).dev === here) continue;
      await p.fails('EXDEV', 'rename', 'f', `${elsewhere}/never-made`);
      await p.fails('EXDEV', 'link', 'f', `${elsewhere}/never-made`);
      return;
    }
    t.fail('no second filesystem was found');
  });
  it('an executable that is open for writing is ETXTBSY', async (t, p) => {
    await copyFile('/bin/true', join(p.path, 'program'));
    await p.ok('chmod', 'program', 0o755);
    const fd = await p.open('program', 'O_WRONLY');
    await p.fails('ETXTBSY', 'exec', 'program');
    await p.ok('close', fd);
    t.equal(await p.ok('exec', './program'), 0);
  });
  it('a file without any execute bit is EACCES to run, even for root', async (_, p) => {
    await copyFile('/bin/true', join(p.path, 'program'));
    await p.ok('chmod', 'program', 0o644);
    await p.fails('EACCES', 'exec', './program');
  });
  it('a write past the file size limit of the process is EFBIG', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('limit', 1000);
    t.equal(await p.ok('write', fd, Buffer.alloc(600), 700), 300, 'the part that fits is written');
    await p.fails('EFBIG', 'write', fd, Buffer.alloc(10), 1000);
    await p.fails('EFBIG', 'ftruncate', fd, 2000);
    await p.ok('limit', -1);
    await p.ok('ftruncate', fd, 2000);
  });
  it('a size beyond what any file may have is EFBIG', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.fails('EFBIG', 'ftruncate', fd, '0x7ffffffffffff000');
    await p.fails('EFBIG', 'truncate', 'f', '0x7ffffffffffff000');
    await p.fails('EFBIG', 'fallocate', fd, 0, '0x7ffffffffffff000', 4096);
  });
  it('a write beyond what any file may have is EFBIG', 'sizeLimitOnWrite', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.fails('EFBIG', 'write', fd, Buffer.from('x'), '0x7fffffffffffff00');
  });
  it('negative sizes and offsets are EINVAL', async (_, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.fails('EINVAL', 'ftruncate', fd, -1);
    await p.fails('EINVAL', 'truncate', 'f', -1);
    await p.fails('EINVAL', 'lseek', fd, -1, 'SEEK_SET');
    await p.fails('EINVAL', 'read', fd, 1, -1);
    await p.fails('EINVAL', 'fallocate', fd, 0, 0, 0);
  });
  it('truncating a directory is EISDIR, a fifo EINVAL', async (_, p) => {
    await p.ok('mkdir', 'd');
    await p.ok('mkfifo', 'p');
    await p.fails('EISDIR', 'truncate', 'd', 0);
    await p.fails('EINVAL', 'truncate', 'p', 0);
  });
}
