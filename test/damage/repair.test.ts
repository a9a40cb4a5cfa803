/**
 * Repair resolves contradictions: afterwards a check finds nothing, no content is lost, and replaced values are in the
 * log.
 */

import type { Test } from 'tap';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import type { BareVolume } from '../../src/check/bare-volume.js';
import type { FindingCode } from '../../src/check/finding.js';
import { RepairError } from '../../src/check/repair-error.js';
import type { AppliedRepair } from '../../src/check/repair-volume.js';
import { planVolumeRepair, repairVolume } from '../../src/check/repair-volume.js';
import { CommitLog } from '../../src/commit/commit-log.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { encodeNumbered } from '../../src/meta/dirent.js';
import { encodeInode, S_IFDIR, S_IFREG } from '../../src/meta/inode.js';
import { direntKey, inodeKey, makeIno, numberedKey, orphanKey, rootIno } from '../../src/meta/key.js';
import { packKey } from '../../src/pack/pack-id.js';
import { scratchDirectory } from '../suite/scratch.js';
import type { TreePicture } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';
import { codesOf, content, DamagedVolume, entry, noEntry, sameNumber, swappedNumbers } from './damaged-volume.js';

const nobody = makeIno(77, 5);
/** A number that no entry has. */
const spare = makeIno(77, 6);

async function repair(volume: DamagedVolume): Promise<AppliedRepair> {
  const stateDirectory = await scratchDirectory(volume.t);
  return repairVolume({
    ...volume.volume,
    random: systemRandom,
    clock: systemClock,
    openLog: ({ keys, genesis }) =>
      CommitLog.open({
        store: volume.store,
        keys,
        genesis,
        ownerSeed: volume.volume.ownerSeed,
        program: testProgram,
        disk: systemDisk,
        stateDirectory,
        clock: systemClock,
        logger: silentLogger,
        deviceName: 'mender',
        readOnly: false,
        random: systemRandom,
      }),
  });
}

async function pictureOf(volume: DamagedVolume): Promise<TreePicture> {
  const device = await volume.device({ readOnly: true });
  try {
    return await device.picture();
  } finally {
    await device.close();
  }
}

/** `harm` damages the volume; a check after repair must find nothing; `look` gets the tree afterwards. */
function mends(name: string, harm: (volume: DamagedVolume) => Promise<unknown>, look: (picture: TreePicture, t: Test) => void): void {
  t.test(name, async (t) => {
    const volume = await DamagedVolume.make(t, { files: 12 });
    await harm(volume);
    const before = codesOf((await volume.check()).report);
    t.ok(before.length > 0);
    const { plan, commits } = await repair(volume);
    t.equal(commits.length, 1);
    t.strictSame(plan.left, []);
    const { report } = await volume.check();
    t.strictSame(codesOf(report), [], JSON.stringify(report.findings));
    const picture = await pictureOf(volume);
    t.equal(picture['deep/large'] ?? lost(picture, 3 * 1024 * 1024), content(2, 3 * 1024 * 1024).toString('latin1'), 'content is untouched');
    look(picture, t);
    t.equal((await repair(volume)).commits.length, 0, 'a second time there is nothing to do');
  });
}

/** The content of the file of this size, wherever it is. */
function lost(picture: TreePicture, size: number): string | undefined {
  return Object.values(picture).find((text) => text.length === size);
}

const later = content(4, 50_000).toString('latin1');
const hasLater = (picture: TreePicture, t: Test): void => void t.equal(picture['later'], later);

mends(
  'wrong link counts, parents, sums and totals',
  async (v) => {
    await v.changeInode('later', { nlink: 9, allocated: 3 });
    await v.changeInode('deep/deeper', { nlink: 1, parent: rootIno });
    await v.changeInode('', { nlink: 77 });
    await v.commit([], { filesDelta: 100, bytesDelta: 12345 });
  },
  hasLater,
);

mends('an entry of the wrong type', async (v) => v.commit(entry(rootIno, 'later', (await v.inode('later')).ino, S_IFDIR)), hasLater);

mends(
  'an orphan record for a file that has a name',
  async (v) => v.commit([[orphanKey((await v.inode('later')).ino), new Uint8Array([0])]]),
  hasLater,
);

mends(
  'a file without a name gets one',
  async (v) => v.commit(noEntry(rootIno, 'later', (await v.inode('later')).ino)),
  (picture, t) => {
    t.notOk(picture['later']);
    const [path] = Object.entries(picture).find(([, text]) => text === later) ?? [''];
    t.match(path, /^lost\+found\/inode-/);
  },
);

mends(
  'an entry that points nowhere becomes a note',
  (v) => v.commit(entry(rootIno, 'ghost', nobody, S_IFDIR)),
  (picture, t) => {
    t.notOk('ghost' in picture);
    t.ok(Object.entries(picture).some(([path, text]) => path.startsWith('lost+found/entry-') && text.includes('ghost')));
  },
);

mends('a file whose inode is gone is made again from its extents', async (v) => v.commit([[inodeKey((await v.inode('later')).ino), null]]), hasLater);

mends(
  'a directory whose inode is gone is made again from its entries',
  async (v) => v.commit([[inodeKey((await v.inode('deep')).ino), null]], { filesDelta: -1 }),
  (picture, t) => {
    t.equal(picture['deep'], 'dir');
    t.equal(picture['deep/small-7'], 'more 7');
    hasLater(picture, t);
  },
);

mends(
  'a directory with two names keeps the one that it knows itself',
  async (v) => v.commit(entry(rootIno, 'again', (await v.inode('deep/deeper')).ino, S_IFDIR, spare)),
  (picture, t) => {
    t.ok('deep/deeper/medium' in picture);
    t.notOk('again' in picture);
  },
);

mends(
  'directories that contain each other come back to light',
  async (v) => {
    const deep = await v.inode('deep');
    const deeper = await v.inode('deep/deeper');
    await v.commit([
      ...noEntry(rootIno, 'deep', deep.ino),
      ...entry(deeper.ino, 'deep', deep.ino, S_IFDIR),
      [inodeKey(deep.ino), encodeInode({ ...deep.inode, parent: deeper.ino })],
    ]);
  },
  (picture, t) => t.ok(Object.keys(picture).some((path) => /^lost\+found\/inode-[0-9a-f-]+\/deeper\/medium$/.test(path))),
);

mends(
  'what is half removed is not removed, but named',
  async (v) => {
    const { ino } = await v.inode('later');
    await v.commit([...noEntry(rootIno, 'later', ino), [orphanKey(ino), new Uint8Array([0])]]);
  },
  (picture, t) => t.equal(lost(picture, 50_000), later),
);

mends('a name that is in no listing is listed', async (v) => v.commit([[numberedKey(rootIno, (await v.inode('later')).ino), null]]), hasLater);

mends(
  'what a listing shows and is not there becomes a note',
  async (v) => {
    const { ino } = await v.inode('later');
    await v.commit([[numberedKey(rootIno, spare), encodeNumbered({ ino, type: S_IFREG, number: spare, name: 'ghost' })]]);
  },
  (picture, t) => {
    hasLater(picture, t);
    t.notOk('ghost' in picture);
    t.ok(Object.entries(picture).some(([path, text]) => path.startsWith('lost+found/entry-') && text.includes('ghost')));
  },
);

mends(
  'a file that only a listing names gets its name back',
  async (v) => v.commit([[direntKey(rootIno, 'later'), null]]),
  (picture, t) => {
    hasLater(picture, t);
    t.notOk('lost+found' in picture);
  },
);

mends(
  'a directory that only a listing names gets its name back',
  async (v) => v.commit([[direntKey((await v.inode('deep')).ino, 'deeper'), null]]),
  (picture, t) => t.equal(picture['deep/deeper/medium'], content(3, 100_000).toString('latin1')),
);

mends(
  'a listing that shows other files than the names have is made anew',
  async (v) => {
    const { ino } = await v.inode('later');
    await v.commit([
      ...(await swappedNumbers(v)),
      [numberedKey(rootIno, ino), encodeNumbered({ ino: nobody, type: S_IFDIR, number: ino, name: 'later' })],
    ]);
  },
  (picture, t) => {
    hasLater(picture, t);
    t.equal(picture['many/file-0'], 'text number 0 '.repeat(8));
    t.notOk('lost+found' in picture);
  },
);

mends('entries of one number get numbers of their own', async (v) => v.commit(await sameNumber(v, 'deep/large')), hasLater);
mends('so do two of one directory', async (v) => v.commit(await sameNumber(v, 'deep')), hasLater);

t.test('damage that cannot be mended is left and reported', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.changeInode('later', { nlink: 3 });
  await volume.commit([['Xebra', new Uint8Array([1])]]);
  const { plan } = await repair(volume);
  t.strictSame(
    plan.left.map(({ code }) => code),
    ['KEY_MALFORMED'] satisfies FindingCode[],
  );
  t.strictSame(codesOf((await volume.check()).report), ['KEY_MALFORMED']);
});

t.test('a plan changes nothing, and a damaged state is left for salvage', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.changeInode('later', { nlink: 3 });
  const before = await volume.keysBelow('');
  const options = { ...volume.volume, random: systemRandom, clock: systemClock };
  const { plan } = await planVolumeRepair(options);
  t.strictSame(
    plan.steps.map(({ code }) => code),
    ['LINK_COUNT'] satisfies FindingCode[],
  );
  t.strictSame(await volume.keysBelow(''), before);
  const { survey } = await volume.check();
  const pack = survey?.checkpoint?.root?.pack;
  if (pack) await volume.remove(packKey(pack));
  await t.rejects(
    planVolumeRepair(options),
    new RepairError('BEYOND_REPAIR', 'the newest state cannot be read as a whole: restore the objects from a copy of the store'),
  );
});

t.test('a device that has the volume open keeps working after a repair by another', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const device = await volume.device();
  await device.write('meanwhile', 'not committed yet');
  await volume.commit(entry(rootIno, 'ghost', nobody, S_IFREG));
  t.equal((await repair(volume)).commits.length, 1);
  await device.volume.flush();
  t.notOk(await device.exists('ghost'));
  t.ok(await device.exists('lost+found'));
  t.equal(await device.text('meanwhile'), 'not committed yet');
  await device.close();
  t.strictSame(codesOf((await volume.check()).report), []);
});

t.test('the repairing device can mount afterwards, with the contents of its journal', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const stateDirectory = await scratchDirectory(t);
  const device = await volume.device({ stateDirectory });
  await device.write('pending', content(8, 30_000));
  await device.mkdir('new');
  await device.close();
  await volume.changeInode('later', { nlink: 3 });
  await volume.commit(noEntry(rootIno, 'later', (await volume.inode('later')).ino));
  const shared = { store: volume.store, disk: systemDisk, stateDirectory, clock: systemClock, logger: silentLogger, random: systemRandom };
  const openLog = ({ keys, genesis }: BareVolume) =>
    CommitLog.open({ ...shared, keys, genesis, ownerSeed: undefined, program: testProgram, deviceName: 'x', readOnly: false });
  await repairVolume({ ...volume.volume, random: systemRandom, clock: systemClock, openLog });
  const again = await volume.device({ stateDirectory });
  await again.volume.flush();
  t.ok((await again.read('pending')).equals(content(8, 30_000)));
  t.strictSame((await again.list()).toSorted(), ['deep', 'lost+found', 'many', 'new', 'pending']);
  await again.close();
  t.strictSame(codesOf((await volume.check()).report), []);
});
