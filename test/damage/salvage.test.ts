/**
 * `salvage` on damaged volumes saves everything that is left, reports what is missing, and writes nothing into the
 * store.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { noCopies, openCommitCopies } from '../../src/check/commit-copies.js';
import { LocalTree } from '../../src/check/local-tree.js';
import { SalvageError } from '../../src/check/salvage-error.js';
import type { SalvageOptions, SalvageReport } from '../../src/check/salvage-volume.js';
import { isComplete, salvageVolume } from '../../src/check/salvage-volume.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { DataExtent } from '../../src/meta/extent.js';
import { decodeExtent } from '../../src/meta/extent.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { direntKey, extentEnd, extentKey, inodeKey, makeIno, rootIno } from '../../src/meta/key.js';
import { packKey } from '../../src/pack/pack-id.js';
import { scratchDirectory } from '../suite/scratch.js';
import type { TreePicture } from '../suite/test-device.js';
import { content, DamagedVolume, entry, noEntry } from './damaged-volume.js';

t.setTimeout(600_000);

async function salvage(
  volume: DamagedVolume,
  options: Partial<SalvageOptions> = {},
): Promise<{ report: SalvageReport; picture: TreePicture; path: string }> {
  const path = await scratchDirectory(volume.t);
  const before = await volume.keysBelow('');
  const report = await LocalTree.use(path, (target) =>
    salvageVolume({ ...volume.volume, random: systemRandom, copies: noCopies, target, ...options }),
  );
  if ((await volume.keysBelow('')).join(' ') !== before.join(' ')) throw new Error('salvage has changed the store');
  return { report, picture: pictureOf(path), path };
}

function pictureOf(folder: string, prefix = ''): TreePicture {
  const picture: TreePicture = {};
  for (const name of readdirSync(join(folder, prefix))) {
    const path = join(prefix, name);
    const stat = lstatSync(join(folder, path));
    if (stat.isDirectory()) {
      picture[path] = 'dir';
      Object.assign(picture, pictureOf(folder, path));
    } else picture[path] = stat.isSymbolicLink() ? `-> ${readlinkSync(join(folder, path))}` : readFileSync(join(folder, path), 'latin1');
  }
  return picture;
}

/** The tree as a mount shows it, under `tree/`. */
async function wholePicture(volume: DamagedVolume): Promise<TreePicture> {
  const device = await volume.device({ readOnly: true });
  try {
    const entries = Object.entries(await device.picture()).map(([path, text]) => [`tree/${path}`, text] as const);
    return { tree: 'dir', ...Object.fromEntries(entries) };
  } finally {
    await device.close();
  }
}

async function extentsOf(volume: DamagedVolume, path: string): Promise<DataExtent[]> {
  const { ino } = await volume.inode(path);
  const device = await volume.device({ readOnly: true });
  try {
    const values = await device.volume.read((view) => [...view.scan(extentKey(ino, 0), extentEnd(ino))].map(([, value]) => decodeExtent(value)));
    return values.filter((extent) => extent.kind === 'data');
  } finally {
    await device.close();
  }
}

async function checkpointOf(volume: DamagedVolume) {
  const { survey } = await volume.check({ data: false });
  const checkpoint = survey?.checkpoint;
  if (!checkpoint?.root) throw new Error('there is no checkpoint');
  return { sequence: checkpoint.sequence, root: checkpoint.root };
}

t.test('an undamaged volume is salvaged completely, with links, modes and times', async (t) => {
  const volume = await DamagedVolume.make(t);
  const device = await volume.device();
  await device.filesystem.symlink(caller, rootIno, 'pointer', 'deep/large');
  await device.filesystem.link(await device.ino('later'), await device.ino('deep'), 'second');
  await device.filesystem.setattr(await device.ino('later'), { mode: 0o640, mtime: { sec: 1_000_000, nsec: 0 } });
  await device.truncate('deep/deeper/medium', 200_000);
  await device.volume.flush();
  await device.close();
  const { report, picture, path } = await salvage(volume);
  t.strictSame(picture, await wholePicture(volume));
  t.ok(isComplete(report));
  const later = lstatSync(join(path, 'tree/later'));
  t.equal(later.ino, lstatSync(join(path, 'tree/deep/second')).ino);
  t.equal(later.mode & 0o777, 0o640);
  t.equal(later.mtimeMs, 1_000_000_000);
  t.ok(lstatSync(join(path, 'tree/deep/deeper/medium')).blocks * 512 < 150_000, 'a hole stays a hole');
});

t.test('a damaged chunk becomes a hole, and the name of the file is marked', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const extent = (await extentsOf(volume, 'deep/large'))[0]!;
  const whole = await wholePicture(volume);
  await volume.flip(packKey(extent.pack), extent.packOffset + extent.chunks[0]!.sealedLength + 100);
  const { report, picture } = await salvage(volume);
  t.equal(report.damaged.length, 1);
  const damaged = report.damaged[0]!;
  t.equal(damaged.path, 'tree/deep/large.damaged');
  const missing = { offset: extent.chunks[0]!.plainLength, length: extent.chunks[1]!.plainLength };
  t.match(damaged.missing, [missing]);
  const expected = Buffer.from(content(2, 3 * 1024 * 1024)).fill(0, missing.offset, missing.offset + missing.length);
  t.ok(picture['tree/deep/large.damaged'] === expected.toString('latin1'));
  const { 'tree/deep/large': _, ...others } = whole;
  const { 'tree/deep/large.damaged': _damaged, ...rest } = picture;
  t.strictSame(rest, others, 'all else is whole');
});

t.test('a missing pack costs only what was in it', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const extent = (await extentsOf(volume, 'later'))[0]!;
  await volume.remove(packKey(extent.pack));
  const { report, picture } = await salvage(volume);
  t.strictSame(
    report.damaged.map(({ path }) => path),
    ['tree/later.damaged'],
  );
  t.equal(picture['tree/later.damaged'], '\0'.repeat(50_000));
  t.equal(picture['tree/deep/large'], content(2, 3 * 1024 * 1024).toString('latin1'));
});

t.test('a damaged leaf is filled from the checkpoint before and the commits since', async (t) => {
  const volume = await DamagedVolume.make(t);
  const whole = await wholePicture(volume);
  const { root } = await checkpointOf(volume);
  await volume.flip(packKey(root.pack), root.offset - 100);
  const { report, picture } = await salvage(volume);
  t.strictSame(picture, whole);
  t.ok(report.lostPages > 0);
  t.ok(isComplete(report), 'the log is whole, so nothing is lost');
});

t.test('everything is salvaged from the log and an older tree when the newest tree is missing', async (t) => {
  const volume = await DamagedVolume.make(t);
  const whole = await wholePicture(volume);
  await volume.remove(packKey((await checkpointOf(volume)).root.pack));
  const { report, picture } = await salvage(volume);
  t.strictSame(picture, whole);
  t.ok(isComplete(report));
});

t.test('everything is salvaged from the commits alone when every tree is missing', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const whole = await wholePicture(volume);
  const { root } = await checkpointOf(volume);
  await volume.flip(packKey(root.pack), root.offset + 10);
  const { picture } = await salvage(volume);
  t.strictSame(picture, whole);
});

t.test('the state before the newest commits is salvaged when those are gone', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.truncate(volume.commitKey(volume.newest), 100);
  const { report, picture } = await salvage(volume);
  t.equal(report.sequence, volume.newest - 1);
  t.strictSame(report.lostCommits, [volume.newest]);
  t.notOk(isComplete(report));
  t.equal(picture['tree/late'], content(4, 50_000).toString('latin1'), 'before the rename');
});

t.test('commits behind a gap in the log are applied as far as they open', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const device = await volume.device();
  await device.write('one', '1');
  await device.volume.flush();
  const gap = await volume.newestSequence();
  for (const name of ['two', 'three', 'four']) {
    await device.write(name, name);
    await device.volume.flush();
  }
  await device.close();
  await volume.remove(volume.commitKey(gap));
  const { report, picture } = await salvage(volume);
  t.strictSame(report.lostCommits, [gap, gap + 1]);
  t.ok(report.mayBeStale);
  t.notOk('tree/one' in picture);
  t.equal(picture['tree/three'], 'three');
  t.equal(picture['tree/four'], 'four');
});

t.test("a device's copies stand in for genesis and commits that the store has lost", async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const stateDirectory = await scratchDirectory(t);
  await (await volume.device({ stateDirectory })).close();
  const whole = await wholePicture(volume);
  const copies = await openCommitCopies(systemDisk, stateDirectory);
  const newest = await volume.newestSequence();
  for (const sequence of [0, newest, newest - 1]) await volume.remove(volume.commitKey(sequence));
  const { report, picture } = await salvage(volume, { copies });
  t.strictSame(picture, whole);
  t.equal(report.sequence, newest);
  await t.rejects(salvage(volume), SalvageError, 'without them there is no key');
});

t.test('names without files and files without names or records do not stop salvage', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const { ino } = await volume.inode('later');
  const medium = await volume.inode('deep/deeper/medium');
  await volume.commit([
    ...entry(rootIno, 'ghost', makeIno(77, 5), S_IFREG),
    ...noEntry(rootIno, 'later', ino),
    [inodeKey(medium.ino), null],
    ['Xebra', new Uint8Array(1)],
  ]);
  const { report, picture } = await salvage(volume);
  t.strictSame(report.missing, ['tree/ghost']);
  t.equal(picture[`lost+found/inode-${ino.toString(16)}`], content(4, 50_000).toString('latin1'));
  t.equal(picture['tree/deep/deeper/medium.damaged'], content(3, 100_000).toString('latin1'));
});

t.test('a file whose name is lost has the name by which its directory lists it', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const { ino } = await volume.inode('deep/deeper');
  await volume.commit([
    [direntKey(rootIno, 'later'), null],
    [direntKey(ino, 'medium'), null],
  ]);
  const { picture } = await salvage(volume);
  t.equal(picture['tree/later'], content(4, 50_000).toString('latin1'));
  t.equal(picture['tree/deep/deeper/medium'], content(3, 100_000).toString('latin1'));
  t.notOk('lost+found' in picture);
});

t.test('an earlier state can be salvaged, for example after an unwanted repair', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const { report, picture } = await salvage(volume, { at: volume.newest - 1 });
  t.equal(report.sequence, volume.newest - 1);
  t.ok(isComplete(report));
  t.ok('tree/late' in picture);
  t.notOk('tree/later' in picture);
});

const caller = { uid: 0, gid: 0, umask: 0o022, signal: new AbortController().signal };
