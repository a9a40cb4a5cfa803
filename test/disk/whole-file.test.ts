import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { ensureDirectory, ensureDirectoryPath, isDiskFull, readNamedFile, readWholeFile, replaceFile } from '../../src/disk/whole-file.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

t.test('a replaced file has its new content, is private to its owner, and no temporary file is left', async (t) => {
  const folder = await scratchDirectory(t);
  const path = join(folder, 'file');
  t.equal(await readWholeFile(systemDisk, path), undefined);
  await replaceFile(systemDisk, path, Buffer.from('a longer first content'));
  await writeFile(`${path}.new`, 'what a crash left there');
  await replaceFile(systemDisk, path, Buffer.from('second'));
  t.strictSame(Buffer.from((await readWholeFile(systemDisk, path)) ?? []), Buffer.from('second'));
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.strictSame(await readdir(folder), ['file']);
});

t.test('a power cut leaves the old or the new content, and the new one once the call has returned', async (t) => {
  const before = new SimulatedDisk();
  await replaceFile(before, '/file', Buffer.from('old'));
  const found = new Set<string>();
  const contents = async (disk: SimulatedDisk): Promise<string[]> => {
    const { exhaustive, disks } = disk.powerLosses(1000, 0, new SeededRandom(1));
    t.ok(exhaustive);
    return Promise.all([...disks].map(async (one) => Buffer.from((await readWholeFile(one, '/file')) ?? []).toString()));
  };
  const pictures: SimulatedDisk[] = [];
  before.onChange = () => pictures.push(before.clone(1));
  await replaceFile(before, '/file', Buffer.from('new'));
  for (const picture of pictures) for (const content of await contents(picture)) found.add(content);
  t.strictSame([...found].toSorted(), ['new', 'old']);
  t.strictSame([...new Set(await contents(before))], ['new']);
});

t.test('a failed write leaves the old content and no temporary file', async (t) => {
  const disk = new SimulatedDisk();
  await replaceFile(disk, '/file', Buffer.from('old'));
  disk.fault = ({ kind }) => (kind === 'write' ? 'ENOSPC' : undefined);
  const failure = await replaceFile(disk, '/file', Buffer.from('new')).catch((error: unknown) => error);
  t.ok(isDiskFull(failure));
  disk.fault = undefined;
  t.equal(Buffer.from((await readWholeFile(disk, '/file')) ?? []).toString(), 'old');
  t.strictSame(
    (await disk.readDirectory('/')).map(({ name }) => name),
    ['file'],
  );
  t.notOk(isDiskFull(new Error('something else')));
});

t.test('one of two simultaneous exclusive replacements is refused, and the next one works', async (t) => {
  const path = join(await scratchDirectory(t), 'file');
  const results = await Promise.allSettled(
    ['a', 'b'].map((text) => replaceFile(systemDisk, path, async () => Buffer.from(text), { isExclusive: true })),
  );
  t.strictSame(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  const failing = replaceFile(systemDisk, path, () => Promise.reject(new Error('no content')), { isExclusive: true });
  await t.rejects(failing, { message: 'no content' });
  await replaceFile(systemDisk, path, Buffer.from('c'), { isExclusive: true });
  t.equal(Buffer.from((await readWholeFile(systemDisk, path)) ?? []).toString(), 'c');
});

t.test('a file that the user named may be a link or a pipe, and is read up to its bound', async (t) => {
  const folder = await scratchDirectory(t);
  const path = join(folder, 'file');
  await writeFile(path, Buffer.alloc(200_000, 7), { mode: 0o640 });
  await symlink('file', join(folder, 'link'));
  const file = await readNamedFile(join(folder, 'link'));
  t.strictSame(file?.bytes, Buffer.alloc(200_000, 7));
  t.equal(file?.mode, 0o640);
  await t.rejects(readNamedFile(path, 199_999), { code: 'EFBIG' });
  t.equal(await readNamedFile(join(folder, 'absent')), undefined);
  t.equal(await readNamedFile(join(path, 'below-a-file')), undefined);
  await t.rejects(readNamedFile(folder), { code: 'EISDIR' });
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const writer = spawn('sh', ['-c', 'printf through > "$0"', pipe]);
  const ended = once(writer, 'exit');
  t.equal((await readNamedFile(pipe))?.bytes.toString(), 'through');
  await ended;
});

t.test('a directory is made with those above it, and one that is there stays', async (t) => {
  const folder = await scratchDirectory(t);
  const deep = join(folder, 'a/b/c');
  await t.rejects(ensureDirectory(systemDisk, deep), { code: 'ENOENT' });
  await ensureDirectoryPath(systemDisk, deep);
  t.equal((await stat(deep)).mode & 0o777, 0o700);
  await ensureDirectoryPath(systemDisk, deep);
  t.equal(await ensureDirectory(systemDisk, deep), false);
  t.equal(await ensureDirectory(systemDisk, join(deep, 'd')), true);
  await mkdir(join(folder, 'target'));
  await symlink('target', join(folder, 'link'));
  t.equal(await ensureDirectory(systemDisk, join(folder, 'link')), false);
  await writeFile(join(folder, 'file'), '');
  await t.rejects(ensureDirectory(systemDisk, join(folder, 'file')), { code: 'EEXIST' });
  await t.rejects(ensureDirectoryPath(systemDisk, join(folder, 'file/below')), { code: 'ENOTDIR' });
});
