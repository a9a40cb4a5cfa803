/** The code and severity that a check reports for each kind of damage, one kind per test. */
import t from 'tap';
import { makeSlot, putSlot } from '../../src/access/keyslots.js';
import type { Sealed } from '../../src/base/brand.js';
import type { Severity } from '../../src/check/finding.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { encodeNumbered } from '../../src/meta/dirent.js';
import type { DataExtent } from '../../src/meta/extent.js';
import { decodeExtent, encodeExtent } from '../../src/meta/extent.js';
import { encodeInode, S_IFDIR, S_IFREG } from '../../src/meta/inode.js';
import type { Ino, TreeKey } from '../../src/meta/key.js';
import { extentEnd, extentKey, inodeKey, makeIno, numberedKey, orphanKey, rootIno, xattrKey } from '../../src/meta/key.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { packKey } from '../../src/pack/pack-id.js';
import { codesOf, DamagedVolume, entry, noEntry, sameNumber, swappedNumbers } from './damaged-volume.js';

interface Expected {
  readonly codes: readonly string[];
  readonly worst: Severity;
}

/** `harm` damages a fresh volume; the check must find exactly `codes`. */
function damage(name: string, harm: (volume: DamagedVolume) => Promise<unknown>, expected: Expected, files = 12): void {
  t.test(name, async (t) => {
    const volume = await DamagedVolume.make(t, { files });
    await harm(volume);
    const { report } = await volume.check();
    t.strictSame(codesOf(report), expected.codes.toSorted(), JSON.stringify(report.findings.slice(0, 4)));
    t.equal(report.worst, expected.worst);
  });
}

/** The newest checkpoint's number and reference to its root. */
async function checkpointOf(volume: DamagedVolume) {
  const { survey } = await volume.check({ data: false });
  const checkpoint = survey?.checkpoint;
  if (!checkpoint?.root) throw new Error('there is no checkpoint');
  return { ...checkpoint, root: checkpoint.root };
}

async function firstExtent(volume: DamagedVolume, path: string): Promise<{ ino: Ino; key: TreeKey; extent: DataExtent }> {
  const { ino } = await volume.inode(path);
  const device = await volume.device({ readOnly: true });
  try {
    const [key, value] = await device.volume.read((view) => [...view.scan(extentKey(ino, 0), extentEnd(ino))][0]!);
    const extent = decodeExtent(value);
    if (extent.kind !== 'data') throw new Error('no data');
    return { ino, key, extent };
  } finally {
    await device.close();
  }
}

const slotOf = async (volume: DamagedVolume): Promise<string> => (await volume.keysBelow('keys/'))[0]!;

// Keyslots and genesis.

damage('a keyslot cut short', async (v) => v.truncate(await slotOf(v), 100), { codes: ['KEYSLOT_DAMAGED', 'KEYSLOT_MISSING'], worst: 'error' });
damage('no keyslot at all', async (v) => v.remove(await slotOf(v)), { codes: ['KEYSLOT_ABSENT', 'KEYSLOT_MISSING'], worst: 'error' });
damage(
  'a keyslot under the name of another',
  async (v) => {
    const key = await slotOf(v);
    const bytes = await v.store.get(key);
    await v.store.put(`keys/${'0'.repeat(16)}`, bytes as Sealed);
  },
  { codes: ['KEYSLOT_DAMAGED'], worst: 'warning' },
);
damage('a keyslot whose root secret has a flipped bit', async (v) => v.flip(await slotOf(v), -100), {
  codes: ['KEYSLOT_DAMAGED', 'KEYSLOT_MISSING'],
  worst: 'error',
});
damage(
  'a keyslot that somebody else made for the volume',
  async (v) => {
    const stranger = { ...v.volume, ownerSeed: systemRandom.bytes(32), generation: 1, since: 0 };
    await putSlot(v.store, await makeSlot(stranger, { type: 'key-file', bytes: systemRandom.bytes(64) }, '', systemRandom));
  },
  { codes: ['KEYSLOT_FOREIGN'], worst: 'error' },
);
damage('no genesis', (v) => v.remove(v.commitKey(0)), { codes: ['GENESIS_MISSING'], worst: 'fatal' });
damage('a genesis with a flipped bit', (v) => v.flip(v.commitKey(0), 150), { codes: ['GENESIS_DAMAGED'], worst: 'fatal' });

// The log.

damage('a commit in the middle is gone', (v) => v.remove(v.commitKey(2)), { codes: ['COMMIT_MISSING', 'COMMIT_CUT_OFF'], worst: 'error' });
damage('a commit in the middle has a flipped bit', (v) => v.flip(v.commitKey(2), -20), {
  codes: ['COMMIT_DAMAGED', 'COMMIT_CUT_OFF'],
  worst: 'error',
});
damage('two commits are exchanged', (v) => v.swap(v.commitKey(1), v.commitKey(2)), { codes: ['COMMIT_DAMAGED', 'COMMIT_CUT_OFF'], worst: 'error' });
damage('the newest commit is cut short', (v) => v.truncate(v.commitKey(v.newest), 200), { codes: ['COMMIT_DAMAGED'], worst: 'fatal' });
damage('the newest commit but one is gone', (v) => v.remove(v.commitKey(v.newest - 1)), {
  codes: ['COMMIT_MISSING', 'COMMIT_CUT_OFF'],
  worst: 'fatal',
});
t.test('a check without the newest checkpoint examines the one before it and the commits since', async (t) => {
  const volume = await DamagedVolume.make(t);
  const { sequence } = await checkpointOf(volume);
  await volume.flip(volume.commitKey(sequence), 90);
  const { report, survey } = await volume.check();
  t.ok(survey?.checkpoint && survey.checkpoint.sequence < sequence);
  const lost = report.findings.filter((finding) => finding.sequence !== undefined).map(({ code, sequence: number }) => [code, number]);
  t.strictSame(lost, [
    ['COMMIT_DAMAGED', sequence],
    ['COMMIT_CUT_OFF', sequence + 1],
  ]);
  t.equal(report.worst, 'fatal');
  t.ok(report.examined.files > 400, 'what remains was examined');
});

damage('a foreign object lies in the log', (v) => v.store.put('log/00000000000000ff-0123456789ab', new Uint8Array(3) as Sealed), {
  codes: [],
  worst: 'note',
});

t.test('a rolled-back store is detected by a device that has seen a newer state', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const { survey } = await volume.check({ data: false });
  await volume.remove(volume.commitKey(volume.newest));
  const alone = await volume.check({ data: false });
  t.strictSame(codesOf(alone.report), [], 'from the store alone nothing shows');
  const { report } = await volume.check({ data: false, anchor: survey?.head });
  t.strictSame(codesOf(report), ['LOG_ROLLED_BACK']);
  t.equal(report.worst, 'fatal');
});

// The tree.

damage(
  'the root of the tree is gone with its pack',
  async (v) => v.remove(packKey((await checkpointOf(v)).root.pack)),
  { codes: ['PAGE_MISSING'], worst: 'fatal' },
  400,
);
damage(
  'the root page has a flipped bit',
  async (v) => {
    const { root } = await checkpointOf(v);
    await v.flip(packKey(root.pack), root.offset + 60);
  },
  { codes: ['PAGE_DAMAGED'], worst: 'fatal' },
  400,
);

t.test('only the entries of a damaged leaf are reported as damaged', async (t) => {
  const volume = await DamagedVolume.make(t);
  const { root } = await checkpointOf(volume);
  // Pages of one fold lie side by side, leaves before the branch above them.
  t.ok(root.offset > 100);
  await volume.flip(packKey(root.pack), root.offset - 100);
  const { report, lost } = await volume.check();
  t.equal(lost.length, 1);
  t.ok(codesOf(report).includes('PAGE_DAMAGED'));
  for (const code of codesOf(report)) t.ok(['PAGE_DAMAGED', 'PACK_INDEX_DAMAGED', 'INODE_UNREACHABLE', 'ROOT_MISSING'].includes(code), code);
  t.ok(report.examined.files > 10);
});

// Packs.

damage('a pack of content is gone', async (v) => v.remove(packKey((await firstExtent(v, 'later')).extent.pack)), {
  codes: ['PACK_MISSING'],
  worst: 'error',
});
damage(
  'a chunk has a flipped bit',
  async (v) => {
    const { extent } = await firstExtent(v, 'later');
    await v.flip(packKey(extent.pack), extent.packOffset + 1000);
  },
  { codes: ['CHUNK_DAMAGED'], worst: 'error' },
);
damage(
  'two packs are exchanged',
  async (v) => v.swap(packKey((await firstExtent(v, 'later')).extent.pack), packKey((await firstExtent(v, 'deep/large')).extent.pack)),
  { codes: ['CHUNK_DAMAGED', 'PACK_INDEX_DAMAGED', 'PACK_SIZE'], worst: 'error' },
);
damage('a pack is cut short by its footer', async (v) => v.change(packKey((await firstExtent(v, 'later')).extent.pack), (b) => b.slice(0, -96)), {
  codes: ['PACK_INDEX_DAMAGED', 'PACK_SIZE'],
  worst: 'warning',
});
damage('a footer has a flipped bit', async (v) => v.flip(packKey((await firstExtent(v, 'later')).extent.pack), -1), {
  codes: ['PACK_INDEX_DAMAGED'],
  worst: 'warning',
});
damage(
  'an extent that names a pack nobody has written',
  async (v) => {
    const { key, extent } = await firstExtent(v, 'later');
    await v.commit([[key, encodeExtent({ ...extent, pack: 'ab'.repeat(16) as PackId })]]);
  },
  { codes: ['PACK_MISSING', 'PACK_UNKNOWN'], worst: 'error' },
);
damage(
  'an extent that claims another length for its chunk',
  async (v) => {
    const { key, extent } = await firstExtent(v, 'later');
    const chunks = extent.chunks.map((chunk) => ({ ...chunk, plainLength: chunk.plainLength + 1 }));
    await v.commit([[key, encodeExtent({ ...extent, chunks })]]);
  },
  { codes: ['CHUNK_DAMAGED', 'PACK_INDEX_DAMAGED'], worst: 'error' },
);

// Contradictory metadata, committed by a device on purpose.

const nobody = makeIno(77, 5);
/** A number that no entry has. */
const spare = makeIno(77, 6);

damage('a wrong link count', (v) => v.changeInode('later', { nlink: 7 }), { codes: ['LINK_COUNT'], worst: 'warning' });
damage('a wrong link count of a directory', (v) => v.changeInode('deep', { nlink: 2 }), { codes: ['LINK_COUNT'], worst: 'warning' });
damage('a wrong parent of a directory', (v) => v.changeInode('deep/deeper', { parent: rootIno }), { codes: ['PARENT'], worst: 'warning' });
damage('a wrong sum of allocated bytes', (v) => v.changeInode('later', { allocated: 1 }), { codes: ['ALLOCATED', 'TOTALS'], worst: 'warning' });
damage('a size before the end of the data', (v) => v.changeInode('later', { size: 10 }), { codes: ['DATA_PAST_END'], worst: 'warning' });
damage('totals that are off', (v) => v.commit([], { filesDelta: 3, bytesDelta: -5 }), { codes: ['TOTALS'], worst: 'warning' });
damage('an entry without an inode', (v) => v.commit(entry(rootIno, 'ghost', nobody, S_IFREG)), {
  codes: ['ENTRY_DANGLES'],
  worst: 'error',
});
damage(
  'an entry in a directory that is not there',
  async (v) => {
    const { ino } = await v.inode('later');
    await v.commit([...entry(nobody, 'lost', ino, S_IFREG), ...noEntry(rootIno, 'later', ino)]);
  },
  { codes: ['ENTRY_WITHOUT_DIRECTORY'], worst: 'error' },
);
damage('an entry of the wrong type', async (v) => v.commit(entry(rootIno, 'later', (await v.inode('later')).ino, S_IFDIR)), {
  codes: ['ENTRY_TYPE'],
  worst: 'warning',
});
damage('a file without a name', async (v) => v.commit(noEntry(rootIno, 'later', (await v.inode('later')).ino)), {
  codes: ['INODE_UNREACHABLE'],
  worst: 'error',
});
damage('a directory with two names', async (v) => v.commit(entry(rootIno, 'again', (await v.inode('deep/deeper')).ino, S_IFDIR, spare)), {
  codes: ['DIRECTORY_NAMES', 'LINK_COUNT'],
  worst: 'error',
});
damage(
  'directories that contain each other',
  async (v) => {
    const deep = await v.inode('deep');
    const deeper = await v.inode('deep/deeper');
    const root = await v.inode('');
    await v.commit([
      ...noEntry(rootIno, 'deep', deep.ino),
      ...entry(deeper.ino, 'deep', deep.ino, S_IFDIR),
      [inodeKey(deep.ino), encodeInode({ ...deep.inode, parent: deeper.ino })],
      [inodeKey(deeper.ino), encodeInode({ ...deeper.inode, nlink: 3 })],
      [inodeKey(rootIno), encodeInode({ ...root.inode, nlink: root.inode.nlink - 1 })],
    ]);
  },
  { codes: ['DIRECTORY_CYCLE'], worst: 'error' },
);
damage('a name that is in no listing', async (v) => v.commit([[numberedKey(rootIno, (await v.inode('later')).ino), null]]), {
  codes: ['ENTRY_UNLISTED'],
  worst: 'warning',
});
damage(
  'a listing that shows a name that is not there',
  async (v) => {
    const { ino } = await v.inode('later');
    await v.commit([[numberedKey(rootIno, spare), encodeNumbered({ ino, type: S_IFREG, number: spare, name: 'ghost' })]]);
  },
  { codes: ['ENTRY_UNNAMED'], worst: 'warning' },
);
for (const wrong of [{ ino: nobody }, { type: S_IFDIR }, { name: 'Later' }]) {
  damage(
    `a listing that shows another ${Object.keys(wrong).join()} than the name has`,
    async (v) => {
      const { ino } = await v.inode('later');
      await v.commit([[numberedKey(rootIno, ino), encodeNumbered({ ino, type: S_IFREG, name: 'later', number: ino, ...wrong })]]);
    },
    { codes: ['ENTRY_UNLISTED', 'ENTRY_UNNAMED'], worst: 'warning' },
  );
}
damage("two names with each other's places in the listing", async (v) => v.commit(await swappedNumbers(v)), {
  codes: ['ENTRY_UNLISTED', 'ENTRY_UNNAMED'],
  worst: 'warning',
});
damage('two entries of one number, in different directories', async (v) => v.commit(await sameNumber(v, 'deep/large')), {
  codes: ['ENTRY_NUMBER'],
  worst: 'warning',
});
damage('two entries of one number, in one directory', async (v) => v.commit(await sameNumber(v, 'deep')), {
  codes: ['ENTRY_NUMBER', 'ENTRY_UNLISTED'],
  worst: 'warning',
});
damage('an orphan record for nothing', (v) => v.commit([[orphanKey(nobody), new Uint8Array([0])]]), { codes: ['ORPHAN_STRAY'], worst: 'warning' });
damage('an orphan record for a file that has a name', async (v) => v.commit([[orphanKey((await v.inode('later')).ino), new Uint8Array([0])]]), {
  codes: ['ORPHAN_STRAY'],
  worst: 'warning',
});
damage(
  'an inode is gone, its extents and attributes are not',
  async (v) => {
    const { ino, inode } = await v.inode('later');
    const mutations = [
      [inodeKey(ino), null],
      [xattrKey(ino, 'user.a'), new Uint8Array([1])],
    ] as const;
    await v.commit(mutations, { filesDelta: -1, bytesDelta: -inode.allocated });
  },
  { codes: ['ENTRY_DANGLES', 'EXTENT_STRAY', 'XATTR_STRAY'], worst: 'error' },
);
damage(
  'two extents cover the same bytes',
  async (v) => {
    const { ino, extent } = await firstExtent(v, 'later');
    await v.commit([[extentKey(ino, 4096), encodeExtent({ ...extent, length: 1000 })]]);
    await v.changeInode('later', { allocated: 51_000 });
    await v.commit([], { bytesDelta: 1000 });
  },
  { codes: ['EXTENT_OVERLAP'], worst: 'error' },
);
damage(
  'a file with inline content and extents',
  async (v) => {
    const { inode } = await v.inode('many/file-1');
    await v.changeInode('later', { inline: inode.inline, allocated: 50_000 + inode.inline.byteLength });
    await v.commit([], { bytesDelta: inode.inline.byteLength });
  },
  { codes: ['CONTENT_TWICE'], worst: 'error' },
);
damage(
  'a record that does not decode',
  async (v) => v.commit([[inodeKey((await v.inode('later')).ino), new Uint8Array([9, 9])]], { filesDelta: -1, bytesDelta: -50_000 }),
  {
    codes: ['VALUE_MALFORMED'],
    worst: 'error',
  },
);
damage('a key that is cut short', (v) => v.commit([['Xebra', new Uint8Array([1])]]), { codes: ['KEY_MALFORMED'], worst: 'error' });
damage('no root directory', (v) => v.commit([[inodeKey(rootIno), null]], { filesDelta: -1 }), {
  codes: ['ENTRY_WITHOUT_DIRECTORY', 'ROOT_MISSING'],
  worst: 'fatal',
});

t.test('paths are reported only when asked for', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.changeInode('deep/deeper/medium', { nlink: 4 });
  const silent = await volume.check();
  t.notMatch(JSON.stringify(silent.report), /medium/);
  const { report } = await volume.check({ names: true });
  t.equal(report.findings.find(({ code }) => code === 'LINK_COUNT')?.path, '/deep/deeper/medium');
});

t.test('a check can be aborted', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const controller = new AbortController();
  const stop = (): void => controller.abort(new Error('enough'));
  await t.rejects(volume.check({ signal: controller.signal, onProgress: stop }), { message: 'enough' });
});
