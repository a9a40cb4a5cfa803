/** Part of the POSIX suite (posix-suite.ts): statfs(2), syncing, and what asks about the whole filesystem. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { It } from './posix-place.js';

const run = promisify(execFile);

export function filesystemTests(it: It): void {
  it('statfs tells a name length of 255 and a space that adds up', async (t, p) => {
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
}
