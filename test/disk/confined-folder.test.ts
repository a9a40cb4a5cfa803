import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { ConfinedFolder } from '../../src/disk/confined-folder.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { removeStaleFiles, temporaryName } from '../../src/disk/temporary-file.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const random = new SeededRandom(testSeed());

t.test('a link in the path is not followed at any depth, and the error names it', async (t) => {
  const scratch = await scratchDirectory(t);
  const root = join(scratch, 'root');
  await mkdir(join(root, 'packs'), { recursive: true });
  await mkdir(join(scratch, 'outside/aa'), { recursive: true });
  await symlink(join(scratch, 'outside'), join(root, 'link'));
  await symlink('../../outside', join(root, 'packs/aa'));
  await symlink('nowhere', join(root, 'dangling'));
  execFileSync('mkfifo', [join(root, 'fifo')]);
  await writeFile(join(root, 'file'), 'x');
  const folder = new ConfinedFolder(systemDisk, root);
  const unreachable = (): Promise<never> => Promise.reject(new Error('the work was done'));
  for (const place of ['link', 'link/aa', 'packs/aa', 'dangling', 'fifo']) {
    const name = place === 'link/aa' ? 'link' : place;
    await t.rejects(folder.use(place, unreachable), { code: 'ELOOP', message: `${join(root, name)} is a symbolic link or a special file` }, place);
  }
  await t.rejects(folder.use('file', unreachable), { code: 'ENOTDIR' });
  await t.rejects(folder.use('absent', unreachable), { code: 'ENOENT' });
});

t.test('the folder itself may be a link', async (t) => {
  const scratch = await scratchDirectory(t);
  await mkdir(join(scratch, 'real/keys'), { recursive: true });
  await writeFile(join(scratch, 'real/keys/a'), '');
  await symlink('real', join(scratch, 'root'));
  const folder = new ConfinedFolder(systemDisk, join(scratch, 'root'));
  t.same(await folder.use('keys', (path) => readdir(path)), ['a']);
  t.same(await folder.use('', (path) => readdir(path)), ['keys']);
});

t.test('a link that is swapped in while a folder is in use is not followed', async (t) => {
  const scratch = await scratchDirectory(t);
  const root = join(scratch, 'root');
  await mkdir(join(root, 'packs/aa'), { recursive: true });
  await mkdir(join(scratch, 'outside/aa'), { recursive: true });
  await writeFile(join(scratch, 'outside/aa/mine'), 'mine');
  const folder = new ConfinedFolder(systemDisk, root);
  await folder.use('packs/aa', async (path) => {
    await rename(join(root, 'packs'), join(root, 'away'));
    await symlink(join(scratch, 'outside'), join(root, 'packs'));
    const file = await systemDisk.open(join(path, 'new'), 'create-new');
    await file.close();
    await t.rejects(systemDisk.unlink(join(path, 'mine')), { code: 'ENOENT' });
  });
  t.same(await readdir(join(scratch, 'outside/aa')), ['mine']);
  t.same(await readdir(join(root, 'away/aa')), ['new']);
});

t.test('an error names the path and not the descriptor', async (t) => {
  const root = await scratchDirectory(t);
  await mkdir(join(root, 'keys'));
  const folder = new ConfinedFolder(systemDisk, root);
  const open = folder.use('keys', (path) => systemDisk.open(join(path, 'a'), 'read'));
  await t.rejects(open, { code: 'ENOENT', message: new RegExp(`'${join(root, 'keys/a')}'`) });
});

t.test('only our own old temporary files are removed, and none through a link', async (t) => {
  const scratch = await scratchDirectory(t);
  const root = join(scratch, 'root');
  const outside = join(scratch, 'outside');
  const [old, recent, inDirectory] = [temporaryName(random), temporaryName(random), temporaryName(random)];
  const fill = async (place: string): Promise<void> => {
    await mkdir(join(place, `${inDirectory}d`), { recursive: true });
    for (const name of [old, recent, 'thesis', old.toUpperCase(), `${old}x`, `${inDirectory}d/_body`]) await writeFile(join(place, name), name);
    for (const name of [old, 'thesis', old.toUpperCase(), `${old}x`, `${inDirectory}d`]) await utimes(join(place, name), 1_000_000, 1_000_000);
  };
  await fill(join(root, '_tmp'));
  await fill(outside);
  const linked = temporaryName(random);
  await symlink(join(outside, 'thesis'), join(root, '_tmp', linked));
  await symlink(outside, join(root, '_tmp', `${linked}d`));
  await symlink(outside, join(root, '_other'));
  const before = await readdir(outside);
  const folder = new ConfinedFolder(systemDisk, root);
  await removeStaleFiles(systemDisk, folder, '_other', systemClock, '_body');
  await removeStaleFiles(systemDisk, folder, '_tmp', systemClock, '_body');
  t.same(await readdir(outside), before);
  t.equal(await readFile(join(outside, 'thesis'), 'utf8'), 'thesis');
  const kept = [recent, 'thesis', old.toUpperCase(), `${old}x`, linked, `${linked}d`];
  t.same((await readdir(join(root, '_tmp'))).toSorted(), kept.toSorted());
});
