/** Part of the POSIX suite (posix-suite.ts): statfs(2), syncing, and queries about the whole filesystem. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { It } from './posix-place.js';

const run = promisify(execFile);

export function filesystemTests(it: It): void {
  it('statfs reports a name length of 255 and consistent space', async (t, p) => {
    const found = (await p.probe.need('statvfs', '.')) as unknown as Record<string, number>;
    const { namemax, blocks = 0, bfree = 0, bavail = 0, frsize = 0 } = found;
    t.equal(namemax, 255);
    t.ok(blocks > 0 && bfree <= blocks && bavail <= bfree && frsize >= 512, JSON.stringify(found));
  });
  it('cp -a, mv and rm of a tree of every kind of file work', async (t, p) => {
    await p.ok('mkdir', 'a');
    await p.ok('mkdir', 'a/sub', 0o700);
    await p.file('a/sub/f', 'x'.repeat(100_000));
    await p.ok('link', 'a/sub/f', 'a/hard');
    await p.ok('symlink', 'sub/f', 'a/soft');
    await p.ok('mkfifo', 'a/p');
    await p.ok('utimens', 'a/sub', 1000, 2000);
    await run('cp', ['-a', 'a', 'b'], { cwd: p.path });
    t.equal((await p.stat('b/sub')).mtime, 2000n);
    t.equal((await p.stat('b/hard')).ino, (await p.stat('b/sub/f')).ino);
    t.equal(await p.text('b/soft'), 'x'.repeat(100_000));
    await run('mv', ['b', 'a/moved'], { cwd: p.path });
    await run('rm', ['-rf', 'a'], { cwd: p.path });
    t.same(await p.names(), []);
  });
  it('a script runs from here', async (t, p) => {
    await p.file('script', '#!/bin/sh\nexit 7\n', 0o755);
    t.equal(await p.ok('exec', './script'), 7);
  });
  it('inotify reports changes in a folder', async (t, p) => {
    const watch = await p.ok('watch', '.');
    const fd = await p.open('a', 'O_CREAT|O_WRONLY');
    await p.ok('write', fd, Buffer.from('x'));
    await p.ok('close', fd);
    await p.ok('rename', 'a', 'b');
    await p.ok('chmod', 'b', 0o600);
    await p.ok('unlink', 'b');
    const { names = [] } = await p.probe.need('events', watch);
    t.same(names, ['CREATE a', 'MODIFY a', 'CLOSE_WRITE a', 'MOVED_FROM a', 'MOVED_TO b', 'ATTRIB b', 'DELETE b']);
    const other = await p.other();
    await other.ok('mkdir', 'made by another process');
    t.same((await p.probe.need('events', watch)).names, ['CREATE made%20by%20another%20process']);
  });
  it('inotify reports when the last link of a file is removed', async (t, p) => {
    await p.file('f', 'x');
    const watch = await p.ok('watch', 'f');
    await p.ok('truncate', 'f', 0);
    await p.ok('unlink', 'f');
    const { names = [] } = await p.probe.need('events', watch);
    t.same(names.slice(0, 2), ['MODIFY ', 'ATTRIB ']);
    t.ok(names.includes('DELETE_SELF '));
  });
}
