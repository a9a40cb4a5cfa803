/**
 * Every readable file is salvaged under a truthful name: nothing is overwritten, however names collide, at any depth.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { decodeSystemText } from '../../src/base/system-text.js';
import { noCopies } from '../../src/check/commit-copies.js';
import { componentsOf, LocalTree } from '../../src/check/local-tree.js';
import type { SalvageReport } from '../../src/check/salvage-volume.js';
import { salvageVolume } from '../../src/check/salvage-volume.js';
import { formsOf, looksSpare, spareNames } from '../../src/check/spare-name.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { decodeExtent } from '../../src/meta/extent.js';
import { extentEnd, extentKey, rootIno } from '../../src/meta/key.js';
import { packKey } from '../../src/pack/pack-id.js';
import { scratchDirectory } from '../suite/scratch.js';
import { reasonToSkip } from '../support/server-process.js';
import { content, DamagedVolume } from './damaged-volume.js';

t.setTimeout(600_000);

const caller = { uid: 0, gid: 0, umask: 0o022, signal: new AbortController().signal };

function salvageInto(volume: DamagedVolume, path: string): Promise<SalvageReport> {
  return LocalTree.use(path, (target) => salvageVolume({ ...volume.volume, random: systemRandom, copies: noCopies, target }));
}

/** A volume whose root holds `files`, each large enough for a chunk of its own. */
async function volumeWith(t: Parameters<typeof DamagedVolume.make>[0], files: Readonly<Record<string, number>>): Promise<DamagedVolume> {
  const volume = await DamagedVolume.make(t, { files: 2 });
  const device = await volume.device();
  for (const [name, seed] of Object.entries(files)) await device.write(name, content(seed, 20_000));
  await device.volume.flush();
  await device.close();
  return volume;
}

/** Makes the content of a file unreadable, and nothing else. */
async function spoil(volume: DamagedVolume, path: string): Promise<void> {
  const { ino } = await volume.inode(path);
  const device = await volume.device({ readOnly: true });
  const extents = await device.volume.read((view) => [...view.scan(extentKey(ino, 0), extentEnd(ino))].map(([, value]) => decodeExtent(value)));
  await device.close();
  for (const extent of extents) if (extent.kind === 'data') await volume.flip(packKey(extent.pack), extent.packOffset + 100);
}

const zeros = Buffer.alloc(20_000);
const isContent = (path: string, seed: number): boolean => readFileSync(path).equals(content(seed, 20_000));

t.test('a damaged file does not take the name of a whole one, nor a whole one that of a damaged one', async (t) => {
  const names = { report: 11, 'report.damaged': 12, 'report.damaged.damaged': 13, 'report.damaged~2': 14 };
  for (const spoilt of [['report'], ['report', 'report.damaged'], ['report.damaged'], Object.keys(names)]) {
    const volume = await volumeWith(t, names);
    for (const name of spoilt) await spoil(volume, name);
    const folder = await scratchDirectory(t);
    const report = await salvageInto(volume, folder);
    const place = (name: string): string => join(folder, 'tree', name);
    for (const [name, seed] of Object.entries(names)) {
      if (!spoilt.includes(name)) t.ok(isContent(place(name), seed), `${name} is itself when ${spoilt.join(', ')} are damaged`);
    }
    t.strictSame(report.damaged.map(({ original }) => original).toSorted(), spoilt.map((name) => `tree/${name}`).toSorted());
    t.equal(new Set(report.damaged.map(({ path }) => path)).size, spoilt.length, 'each has a name of its own');
    for (const { path, original } of report.damaged) {
      t.match(path, /\.damaged(~\d+)?$/);
      t.ok(path.startsWith(original));
      t.ok(readFileSync(join(folder, path)).equals(zeros));
    }
    const ours = readdirSync(join(folder, 'tree')).filter((name) => name.startsWith('report'));
    t.equal(ours.length, Object.keys(names).length, 'nothing is lost and nothing is left over');
  }
});

t.test('damaged files with names of the longest length are saved', async (t) => {
  const long = 'n'.repeat(247);
  const wide = 'ü'.repeat(127);
  const names = { [`${long}aaaaaaaa`]: 21, [`${long}bbbbbbbb`]: 22, [`${long}.damaged`]: 23, [wide]: 24 };
  const volume = await DamagedVolume.make(t, { files: 2 });
  const device = await volume.device();
  for (const [name, seed] of Object.entries(names)) await device.write(Buffer.from(name).toString('latin1'), content(seed, 20_000));
  await device.volume.flush();
  await device.close();
  for (const name of Object.keys(names)) if (!name.endsWith('.damaged')) await spoil(volume, Buffer.from(name).toString('latin1'));
  const folder = await scratchDirectory(t);
  const report = await salvageInto(volume, folder);
  t.equal(report.damaged.length, 3);
  t.ok(isContent(join(folder, 'tree', `${long}.damaged`), 23), 'the whole one keeps its name');
  for (const { path } of report.damaged) t.ok(existsSync(join(folder, path)), 'the report names what is there');
  t.ok(
    readdirSync(join(folder, 'tree'), { encoding: 'buffer' }).every((name) => Buffer.from(name.toString('utf8')).equals(name)),
    'no character is cut in half',
  );
});

t.test('every name of a damaged file is marked and replaces no other file', async (t) => {
  const volume = await volumeWith(t, { one: 31, 'two.damaged': 32 });
  const device = await volume.device();
  await device.filesystem.link(await device.ino('one'), rootIno, 'two');
  await device.volume.flush();
  await device.close();
  await spoil(volume, 'one');
  const folder = await scratchDirectory(t);
  const report = await salvageInto(volume, folder);
  t.strictSame(report.damaged.map(({ path }) => path).toSorted(), ['tree/one.damaged', 'tree/two.damaged~2']);
  t.equal(statSync(join(folder, 'tree/one.damaged')).ino, statSync(join(folder, 'tree/two.damaged~2')).ino);
  t.ok(isContent(join(folder, 'tree/two.damaged'), 32));
});

t.test('a tree of six hundred nested folders is saved, beyond the longest path', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 2 });
  const device = await volume.device();
  const levels = 600;
  const nameOf = (level: number): string => `level-${level}-${'x'.repeat(20)}`;
  let parent = rootIno;
  for (let level = 0; level < levels; level++) {
    ({ ino: parent } = await device.filesystem.mkdir(caller, parent, nameOf(level), 0o40_755));
    if (level % 100 === 99) {
      const { ino } = await device.filesystem.mknod(caller, parent, 'file', 0o100_644, 0);
      await device.filesystem.write(caller, ino, 0, Buffer.from(`at ${level}`), false);
    }
  }
  await device.filesystem.symlink(caller, parent, 'pointer', 'file');
  await device.volume.flush();
  await device.close();
  const folder = await scratchDirectory(t);
  // rm(1) goes down step by step; Node.js spells whole paths.
  t.teardown(() => execFileSync('rm', ['-rf', folder]));
  const report = await salvageInto(volume, folder);
  t.strictSame([report.failed, report.missing, report.damaged, report.renamed], [[], [], [], []]);
  let descriptor = openSync(join(folder, 'tree'), constants.O_RDONLY | constants.O_DIRECTORY);
  const found: string[] = [];
  for (let level = 0; level < levels; level++) {
    const next = openSync(`/proc/self/fd/${descriptor}/${nameOf(level)}`, constants.O_RDONLY | constants.O_DIRECTORY);
    closeSync(descriptor);
    descriptor = next;
    if (level % 100 === 99) found.push(readFileSync(`/proc/self/fd/${descriptor}/file`, 'utf8'));
  }
  t.equal(readFileSync(`/proc/self/fd/${descriptor}/pointer`, 'utf8'), 'at 599');
  closeSync(descriptor);
  t.strictSame(
    found,
    [99, 199, 299, 399, 499, 599].map((level) => `at ${level}`),
  );
});

t.test('files in the destination are not replaced and links are not followed', async (t) => {
  const folder = await scratchDirectory(t);
  const tree = await LocalTree.prepare(folder);
  t.teardown(() => tree.close());
  writeFileSync(join(folder, 'elsewhere'), 'mine');
  execFileSync('ln', ['-s', 'elsewhere', join(folder, 'link')]);
  mkdirSync(join(folder, 'box'));
  const file = await tree.createFile(tree.root, 'link');
  await file.write(Buffer.from('new'), 0);
  await file.close();
  t.equal(file.name, 'link~2');
  t.equal(readFileSync(join(folder, 'elsewhere'), 'utf8'), 'mine');
  t.strictSame(componentsOf(await tree.makeFolder(tree.root, 'box')), ['box~2'], 'two folders are never merged');
  t.equal(await tree.makeLink('x', tree.root, 'elsewhere'), 'elsewhere~2');
  t.equal(await tree.renameFile(tree.root, 'link~2', 'elsewhere', { suffix: '' }), 'elsewhere~3');
  t.equal(await tree.linkFile({ folder: tree.root, name: 'elsewhere~3' }, tree.root, 'box', {}), 'box~3');
  t.equal(readFileSync(join(folder, 'box~3'), 'utf8'), 'new');
  t.equal(readFileSync(join(folder, 'elsewhere'), 'utf8'), 'mine');
});

t.test('substitute names are short, plain and recognized', (t) => {
  const names = ['a', 'a:b?', 'trailing.', 'trailing ', '\xff\xfe', 'x'.repeat(255), 'ü'.repeat(127), 'CON', '..x', '-'];
  for (const name of names.map((text) => Buffer.from(text, 'latin1').toString('latin1'))) {
    const [own, ...others] = formsOf(name);
    t.equal(own, name);
    for (const form of others) t.match(form, /^[A-Za-z0-9._,+=@()~%-]([A-Za-z0-9 ._,+=@()~%-]*[A-Za-z0-9_,+=@()~%-])?$/);
    t.ok(looksSpare(formsOf(name).at(-1) ?? ''));
    for (const suffix of ['', '.damaged']) {
      const [first = '', second = ''] = spareNames(name, suffix);
      t.ok(first.length <= 255 && second.length <= 255);
      t.not(first, second);
      t.ok(looksSpare(second));
      t.ok(suffix === '' || looksSpare(first));
    }
  }
  t.end();
});

const noExfat = process.getuid?.() === 0 ? (reasonToSkip('exfat', ['mkfs.exfat', 'mount.exfat-fuse', 'losetup']) ?? false) : 'needs root, to mount';

t.test('salvage works on a destination without case, links and most punctuation', { skip: noExfat }, async (t) => {
  const image = join(await scratchDirectory(t), 'image');
  const folder = await scratchDirectory(t);
  execFileSync('truncate', ['-s', '64M', image]);
  execFileSync('mkfs.exfat', [image], { stdio: 'ignore' });
  const device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
  t.teardown(() => execFileSync('losetup', ['--detach', device]));
  execFileSync('mount.exfat-fuse', [device, folder], { stdio: 'ignore' });
  t.teardown(() => execFileSync('umount', [folder]));
  const names = { report: 41, REPORT: 42, 'Report.Damaged': 43, 'a:b': 44, 'a?b': 45, 'end.': 46, '\xff\xfe': 47, [`${'q'.repeat(250)}:`]: 48 };
  const volume = await volumeWith(t, names);
  const opened = await volume.device();
  await opened.mkdir('Folder');
  await opened.mkdir('FOLDER');
  await opened.write('Folder/x', content(49, 20_000));
  await opened.write('FOLDER/X', content(50, 20_000));
  await opened.filesystem.link(await opened.ino('a:b'), rootIno, 'second');
  await opened.filesystem.symlink(caller, rootIno, 'pointer', 'report');
  await opened.volume.flush();
  await opened.close();
  await spoil(volume, 'report');
  const report = await salvageInto(volume, folder);
  const now = new Map([...report.renamed, ...report.damaged].map(({ original, path }) => [original, path]));
  const whereIs = (path: string): string => join(folder, now.get(path) ?? path);
  const text = (name: string): string => decodeSystemText(Buffer.from(name, 'latin1'));
  for (const [name, seed] of Object.entries(names)) {
    if (name !== 'report') t.ok(isContent(whereIs(`tree/${text(name)}`), seed), `${name} is there`);
  }
  t.ok(readFileSync(whereIs('tree/report')).equals(zeros));
  t.ok(isContent(whereIs('tree/second'), 44), 'a copy stands in for a link');
  const folders = ['tree/Folder', 'tree/FOLDER'].map(whereIs);
  t.ok(isContent(join(folders[0]!, 'x'), 49));
  t.ok(isContent(join(folders[1]!, 'X'), 50));
  t.strictSame(report.lostLinks, [{ path: 'tree/pointer', target: 'report' }]);
  t.strictSame(
    report.failed.map(({ path }) => path),
    ['tree/pointer'],
  );
});
