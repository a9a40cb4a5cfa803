/**
 * Two installations with one identity: a state directory that was copied, or an older one that was restored. Whatever
 * either of them has acknowledged is there in the end, on both, under its name or a conflict name (doc/concurrency.md,
 * "One identity, two installations").
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { checkVolume } from '../../src/check/check-volume.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume, type TreePicture } from '../suite/test-device.js';

t.setTimeout(1_200_000);

const newVolume = (): Promise<TestVolume> => createTestVolume(new MemoryStore({ disk: systemDisk }));

const open = (volume: TestVolume, stateDirectory: string, options: Partial<DeviceOptions> = {}): Promise<TestDevice> =>
  TestDevice.open(volume, { disk: systemDisk, stateDirectory, ...options });

/** Also of a running device: the copy is what its death would leave. */
async function copyOf(state: string): Promise<string> {
  const copy = await scratchDirectory(t);
  cpSync(state, copy, { recursive: true });
  return copy;
}

/** Each takes in what the others have committed, until nothing new comes. */
async function settle(...devices: readonly TestDevice[]): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const device of devices) {
      await device.volume.flush();
      await device.volume.refresh();
    }
  }
}

async function checkClean(test: Pick<typeof t, 'same'>, volume: TestVolume): Promise<void> {
  const { report } = await checkVolume({ ...volume, random: systemRandom, data: true, names: true });
  // These volumes have no keyslots, and what both had packed may be in the store twice.
  test.same(
    report.findings.filter(({ code }) => code !== 'KEYSLOT_MISSING' && code !== 'PACK_UNUSED'),
    [],
  );
}

const isConflict = (path: string): boolean => path.includes(' (conflict ');
const conflictsIn = (picture: TreePicture): string[] => Object.keys(picture).filter(isConflict);

t.test('two installations that write at once both keep everything', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('common', 'common');
  await a.volume.flush();
  await a.volume.sync();
  const b = await open(volume, await copyOf(state));
  for (const [device, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    await device.mkdir(name);
    await device.write(`${name}/file`, `of ${name}`);
    await device.write(`${name}/large`, Buffer.alloc(300_000, name));
    await device.write('same', `the same name, by ${name}`);
    await device.write('common', `changed by ${name}`);
  }
  await settle(a, b);
  const picture = await a.picture();
  t.same(await b.picture(), picture);
  t.same(
    Object.values(picture)
      .filter((content) => content.length < 100)
      .toSorted(),
    ['changed by a', 'changed by b', 'dir', 'dir', 'of a', 'of b', 'the same name, by a', 'the same name, by b'].toSorted(),
  );
  t.equal(picture['a/file'], 'of a');
  t.equal(picture['b/file'], 'of b');
  t.equal(picture['a/large'], 'a'.repeat(300_000));
  t.equal(picture['b/large'], 'b'.repeat(300_000));
  t.equal(conflictsIn(picture).length, 2, 'only where both changed the same thing');
  await a.close();
  await b.close();
  await checkClean(t, volume);
});

t.test('work that waits in a copied state directory is there once, and what follows it is kept', async (t) => {
  for (const way of ['nothing', 'sealed', 'dirty', 'synced']) {
    const volume = await newVolume();
    const state = await scratchDirectory(t);
    const a = await open(volume, state);
    await a.write('common', 'common');
    await a.volume.flush();
    await a.mkdir('folder');
    await a.write('folder/waiting', 'this waits');
    await a.write('folder/large', Buffer.alloc(200_000, 'l'));
    await a.write('common', 'changed');
    if (way === 'sealed') for (const path of ['folder/waiting', 'folder/large', 'common']) await a.volume.sealContent(await a.ino(path));
    if (way !== 'nothing') await a.volume.sync();
    const copy = await copyOf(state);
    await a.volume.flush();
    await a.write('folder/after', 'by a');
    await a.volume.flush();
    const b = await open(volume, copy);
    await b.write('folder/more', 'by b');
    await settle(a, b);
    const picture = await b.picture();
    t.same(await a.picture(), picture, way);
    t.same(conflictsIn(picture), [], way);
    t.same(Object.keys(picture).toSorted(), ['common', 'folder', 'folder/after', 'folder/large', 'folder/more', 'folder/waiting'], way);
    t.equal(picture['common'], 'changed');
    t.equal(picture['folder/waiting'], 'this waits');
    await a.close();
    await b.close();
    await checkClean(t, volume);
  }
});

t.test('a copy of a running installation, in the middle of a pack, takes nothing from it, whoever is first', async (t) => {
  for (const first of ['copy', 'original']) {
    const volume = await newVolume();
    const state = await scratchDirectory(t);
    const a = await open(volume, state);
    await a.write('early', Buffer.alloc(100_000, 'e'));
    await a.volume.sealContent(await a.ino('early'));
    const b = await open(volume, await copyOf(state));
    // The pack that holds the early file goes on to be filled here.
    await a.write('late', Buffer.alloc(100_000, 'a'));
    await a.volume.sealContent(await a.ino('late'));
    await b.write('late', Buffer.alloc(100_000, 'b'));
    await b.volume.sealContent(await b.ino('late'));
    await settle(...(first === 'copy' ? [b, a] : [a, b]));
    const picture = await a.picture();
    t.same(await b.picture(), picture, first);
    t.same(Object.keys(picture).length, 3, first);
    t.equal(picture['early'], 'e'.repeat(100_000), first);
    t.same(new Set(Object.values(picture)), new Set(['e', 'a', 'b'].map((letter) => letter.repeat(100_000))), first);
    await a.close();
    await b.close();
    await checkClean(t, volume);
  }
});

t.test('an older state directory is restored: what it still holds is done, and it goes on', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('first', 'first');
  await a.volume.flush();
  await a.write('second', 'second');
  await a.write('first', 'first, changed');
  const backup = await copyOf(state);
  await a.volume.flush();
  await a.write('third', 'third');
  await a.write('second', 'second, changed later');
  await a.unlink('first');
  await a.volume.flush();
  await a.close();
  const b = await open(volume, backup);
  await b.write('fourth', 'fourth');
  await settle(b);
  t.same(await b.picture(), { second: 'second, changed later', third: 'third', fourth: 'fourth' }, 'what was done later holds');
  await b.close();
  const again = await open(volume, backup);
  t.equal(await again.text('fourth'), 'fourth');
  t.equal(again.volume.details()['device']?.['index'], 2);
  t.equal(again.volume.details()['device']?.['formerIndex'], 1);
  await again.close();
  await checkClean(t, volume);
});

t.test('only the trust file is older: nothing is enrolled anew, and nothing is lost', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('one', 'one');
  await a.volume.flush();
  const trust = readFileSync(`${state}/trust`);
  await a.write('two', 'two');
  await a.volume.flush();
  await a.write('three', 'three');
  await a.close();
  writeFileSync(`${state}/trust`, trust);
  const b = await open(volume, state);
  await settle(b);
  t.same(await b.picture(), { one: 'one', two: 'two', three: 'three' });
  t.equal(b.volume.details()['device']?.['index'], 1);
  await b.close();
});

t.test('a head code does not make a copied state directory forget its work', async (t) => {
  const volume = await newVolume();
  const state = await scratchDirectory(t);
  const a = await open(volume, state);
  await a.write('common', 'common');
  await a.volume.flush();
  // Both work on without a commit, from the same numbers on.
  const copy = await copyOf(state);
  const b = await open(volume, copy);
  await b.write('of b', 'b');
  await b.volume.sync();
  await b.close();
  await a.write('of a', 'a');
  await a.volume.flush();
  const { sequence, headCode } = a.volume.details()['commit'] ?? {};
  const again = await open(volume, copy, { headCode: { sequence: Number(sequence), hashStart: String(headCode).split('-')[1] ?? '' } });
  t.same(await again.picture(), { common: 'common', 'of a': 'a', 'of b': 'b' });
  await settle(again, a);
  t.same(await a.picture(), { common: 'common', 'of a': 'a', 'of b': 'b' });
  await a.close();
  await again.close();
  await checkClean(t, volume);
});
