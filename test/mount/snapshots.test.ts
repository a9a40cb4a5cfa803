/**
 * Snapshots through the kernel (doc/past.md, "The folder of snapshots"): what usual programs see in `.snapshots`, and
 * what they cannot do there.
 */
import { execFile } from 'node:child_process';
import { appendFile, mkdir, open, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { compareTrees } from './compare-trees.js';
import { Drive } from './drive-process.js';
import { mountedDrive } from './mounted-drive.js';

const run = promisify(execFile);
const why = whyNoFuse();

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'OK',
    (error: NodeJS.ErrnoException) => error.code ?? String(error),
  );

/** Files of all kinds, in `folder`. */
async function fill(folder: string): Promise<void> {
  const script = `
    mkdir -p a/b/c 'with space' && head -c 700000 /dev/urandom >a/large && echo small >a/b/small && : >a/empty
    ln a/large 'with space/linked' && ln a/large a/b/c/again && ln -s ../a/large 'with space/link' && ln -s nowhere dangling
    truncate -s 3M a/sparse && printf data | dd of=a/sparse bs=1 seek=1500000 conv=notrunc status=none
    mkfifo pipe && chmod 0640 a/b/small && chmod 2750 a/b && setfattr -n user.note -v text a/b/small
    touch -d '2001-02-03 04:05:06.789' a/empty a/b && i=0; while [ $i -lt 300 ]; do echo $i >a/b/c/file-$i; i=$((i+1)); done`;
  await run('sh', ['-ec', script], { cwd: folder });
}

if (why !== false) t.plan(0, why);
else {
  const { drive, scratch } = await mountedDrive(t);
  const at = (...names: string[]): string => join(drive.directory, ...names);
  const here = (...names: string[]): string => join(scratch, ...names);
  const take = async (...options: string[]): Promise<string> => (await drive.command('snapshot', 'create', drive.directory, ...options)).trim();

  await mkdir(at('tree'));
  await fill(at('tree'));
  await run('cp', ['-a', at('tree'), here('expected')]);
  const name = await take('--label', 'first');
  const past = (...names: string[]): string => at('.snapshots', name, ...names);
  await run('sh', ['-ec', 'rm -r a/b/c "with space" && echo other >a/b/small && mv a moved && echo new >a'], { cwd: at('tree') });

  await t.test('the folder of snapshots can be entered everywhere and is listed nowhere', async (t) => {
    t.notOk((await readdir(drive.directory)).includes('.snapshots'));
    t.strictSame(await readdir(at('.snapshots')), [name]);
    t.strictSame(await readdir(at('tree', '.snapshots')), [name]);
    t.strictSame((await readdir(at('tree', '.snapshots', name))).toSorted(), (await readdir(here('expected'))).toSorted());
    await mkdir(at('younger'));
    t.strictSame(await readdir(at('younger', '.snapshots')), [], 'the folder was not there then');
    t.equal(await codeOf(stat(at('younger', '.snapshots', name))), 'ENOENT');
    t.equal(await codeOf(stat(at('.snapshots', 'no such'))), 'ENOENT');
    // A folder that was renamed since is the same folder.
    t.strictSame((await readdir(at('tree', 'moved', '.snapshots', name))).toSorted(), (await readdir(here('expected', 'a'))).toSorted());
    t.equal((await run('sh', ['-c', 'cd "$0" && cd .. && cd .. && pwd -P', at('.snapshots', name)])).stdout.trim(), drive.directory);
  });

  await t.test('cp, rsync, tar and diff find the tree as it was', async (t) => {
    const differences = async (copy: string): Promise<readonly string[]> => (await compareTrees(here('expected'), copy)).differences;
    t.strictSame(await differences(past('tree')), []);
    await run('cp', ['-a', past('tree'), here('copied')]);
    t.strictSame(await differences(here('copied')), []);
    await run('rsync', ['-aHX', `${at('tree', '.snapshots', name)}/`, `${here('synced')}/`]);
    t.strictSame(await differences(here('synced')), []);
    await run('sh', ['-ec', 'mkdir "$1" && tar -C "$0" --format=posix -cf - . | tar -C "$1" -xf -', past('tree'), here('unpacked')]);
    t.strictSame(await compareTrees(here('expected'), here('unpacked'), { ignore: ['xattrs'] }).then((found) => found.differences), []);
    await run('diff', ['-r', '--no-dereference', '--exclude=pipe', here('expected'), past('tree')]);
    t.equal((await run('find', [past(), '-type', 'f'])).stdout.trim().split('\n').length, 300 + 6, 'find');
    await run('cp', ['-a', past('tree', 'a', 'large'), at('back')]);
    t.ok((await readFile(at('back'))).equals(await readFile(here('expected', 'a', 'large'))), 'onto the drive');
  });

  await t.test('inode numbers are not those of the present, and stay', async (t) => {
    const [now, then] = [await stat(at('tree', 'moved', 'empty')), await stat(past('tree', 'a', 'empty'))];
    t.not(then.ino, now.ino);
    t.ok(then.ino >= 2 ** 49 && then.ino < 2 ** 52);
    const [one, other] = [await stat(past('tree', 'a', 'large')), await stat(past('tree', 'with space', 'linked'))];
    t.equal(one.ino, other.ino, 'hard links');
    t.equal(one.nlink, 3);
    t.equal((await stat(past('tree', 'a', 'large'))).ino, one.ino);
    const listed = (await run('ls', ['-i', past('tree', 'a')])).stdout;
    t.match(listed, `${one.ino} large`);
  });

  await t.test('nothing in a snapshot can be changed', async (t) => {
    const file = past('tree', 'a', 'b', 'small');
    t.equal(await codeOf(writeFile(file, 'x')), 'EROFS');
    t.equal(await codeOf(writeFile(past('tree', 'new'), 'x')), 'EROFS');
    t.equal(await codeOf(mkdir(past('tree', 'new'))), 'EROFS');
    t.equal(await codeOf(mkdir(at('.snapshots', 'mine'))), 'EROFS');
    t.equal(await codeOf(rm(file)), 'EROFS');
    t.equal(await codeOf(rename(file, past('tree', 'other'))), 'EROFS');
    t.equal(await codeOf(rename(file, at('out'))), 'EROFS');
    t.equal(await codeOf(symlink('x', past('tree', 'link'))), 'EROFS');
    t.equal(await codeOf(run('chmod', ['600', file]).catch(() => Promise.reject(Object.assign(new Error(), { code: 'EROFS' })))), 'EROFS');
    t.equal(await readFile(file, 'latin1'), 'small\n');
  });

  await t.test('what is written to a file of a snapshot all the same is refused, and is not seen afterwards', async (t) => {
    for (const [what, write] of [
      ['in place', async (path: string) => await open(path, 'r+').then(async (file) => file.write('X', 0).then(() => file.close()))],
      ['at its end', (path: string) => appendFile(path, 'more')],
    ] as const) {
      const file = past('tree', 'a', 'b', 'small');
      t.not(await codeOf(write(file)), 'OK', what);
      // The kernel is told a moment later.
      while ((await readFile(file, 'latin1')) !== 'small\n') await wait(10);
      t.equal((await stat(file)).size, 6, what);
    }
  });

  await t.test('new snapshots appear, removed ones go, and a held one stays', async (t) => {
    const second = await take();
    t.strictSame(await readdir(at('.snapshots')), [name, second].toSorted());
    await drive.command('snapshot', 'hold', second, drive.directory);
    await t.rejects(drive.command('snapshot', 'remove', second, drive.directory), /is held/);
    await drive.command('snapshot', 'release', second, drive.directory);
    await drive.command('snapshot', 'remove', second, drive.directory);
    t.strictSame(await readdir(at('.snapshots')), [name]);
    t.equal(await codeOf(stat(at('.snapshots', second))), 'ENOENT');
    const { snapshots } = JSON.parse(await drive.command('snapshot', 'list', drive.directory, '--json')) as { snapshots: { label: string }[] };
    t.match(snapshots, [{ label: 'first', name, kind: 'manual', isHeld: false }]);
  });

  await t.test('after a remount it is all there', async (t) => {
    await drive.unmount();
    await drive.mount();
    t.strictSame((await compareTrees(here('expected'), past('tree'))).differences, []);
  });

  await t.test('a drive that is mounted read-only shows its snapshots, and takes none', async (t) => {
    await drive.unmount();
    const other = new Drive({ scratch, withKeyFile: true, mountOptions: ['--read-only'] });
    await other.mount();
    t.strictSame(await readdir(at('.snapshots')), [name]);
    await t.rejects(other.command('snapshot', 'create', drive.directory), /exit 6: .*read-only/);
    await t.rejects(other.command('rollback', drive.directory, '--at', name, '--yes'), /exit 6: .*read-only/);
    await other.unmount();
    await drive.mount();
  });

  await t.test('another name can be chosen, or none', async (t) => {
    await drive.unmount();
    const other = new Drive({ scratch, withKeyFile: true, mountOptions: ['--snapshot-dir', '~past'] });
    await other.mount();
    t.strictSame(await readdir(at('~past')), [name]);
    t.equal(await codeOf(stat(at('.snapshots'))), 'ENOENT');
    await mkdir(at('.snapshots'));
    await other.unmount();
    const none = new Drive({ scratch, withKeyFile: true, mountOptions: ['--no-snapshot-dir'] });
    await none.mount();
    t.equal(await codeOf(stat(at('~past'))), 'ENOENT');
    await none.unmount();
    await drive.mount();
    t.strictSame(await readdir(at('.snapshots')), [], 'a real folder of that name wins');
    await drive.unmount();
    await drive.check();
  });
}
