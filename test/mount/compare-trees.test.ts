/** The comparison detects a difference in each property that it promises to compare. */
import { execFile } from 'node:child_process';
import { appendFile, chmod, link, lutimes, mkdir, mkdtemp, rm, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { compareTrees } from './compare-trees.js';
import { Probe } from './posix-probe.js';

const run = promisify(execFile);
const directory = await mkdtemp(join(tmpdir(), 'compare-'));
t.teardown(() => rm(directory, { recursive: true, force: true }));

const original = join(directory, 'original');
await mkdir(join(original, 'sub', 'empty'), { recursive: true });
await writeFile(join(original, 'sub', 'file'), 'content');
await writeFile(join(original, 'sub', 'näme with space % and \n'), 'x'.repeat(300_000));
await link(join(original, 'sub', 'file'), join(original, 'hard'));
await writeFile(join(original, 'single'), 'content');
await symlink('sub/file', join(original, 'soft'));
await run('mkfifo', [join(original, 'pipe')]);

async function copy(name: string): Promise<string> {
  const path = join(directory, name);
  await run('cp', ['-a', original, path]);
  return path;
}

void t.test('a faithful copy is equal', async (t) => {
  const { entries, differences } = await compareTrees(original, await copy('faithful'));
  t.same(differences, []);
  t.equal(entries, 9);
});

const touched = new Date('2020-01-02T03:04:05.678Z');
const changes: readonly (readonly [what: string, change: (path: string) => Promise<unknown>, expected: RegExp])[] = [
  ['a missing name', (path) => unlink(join(path, 'soft')), /soft: only in the first/],
  ['a name too many', (path) => writeFile(join(path, 'more'), ''), /more: only in the second/],
  ['a longer file', (path) => appendFile(join(path, 'single'), 'x'), /single: 7 bytes/],
  ['other content of the same length', (path) => writeFile(join(path, 'single'), 'contenT'), /single: the contents differ/],
  ['another mode', (path) => chmod(join(path, 'sub', 'empty'), 0o700), /sub\/empty: mode/],
  ['another time', (path) => utimes(join(path, 'sub', 'empty'), touched, touched), /sub\/empty: mtime/],
  ['another time of a symbolic link', (path) => lutimes(join(path, 'soft'), touched, touched), /soft: mtime/],
  ['another link target', (path) => run('ln', ['-sfn', 'sub/filE', join(path, 'soft')]), /soft: the link targets differ/],
  ['a hard link that became a copy', (path) => run('sh', ['-c', 'cp -p hard x && mv x hard'], { cwd: path }), /hard link|links/],
  ['another kind', (path) => run('sh', ['-c', 'rm pipe && mkdir pipe'], { cwd: path }), /pipe: a fifo \/ a directory/],
];
for (const [what, change, expected] of changes) {
  void t.test(`${what} is detected`, async (t) => {
    const other = await copy(what.replaceAll(' ', '-'));
    await change(other);
    const { differences } = await compareTrees(original, other);
    t.match(differences.join('\n'), expected);
  });
}

void t.test('another xattr is detected', async (t) => {
  const other = await copy('xattr');
  const probe = await Probe.start();
  await probe.ok('setxattr', join(other, 'single'), 'user.note', Buffer.from('1'));
  await probe.close();
  t.match((await compareTrees(original, other)).differences.join('\n'), /single: xattr user.note: absent/);
});
