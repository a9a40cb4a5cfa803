import { execFileSync } from 'node:child_process';
import { readSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, rename, stat, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import type { Disk } from '../../src/disk/disk.js';
import { presentDisk, systemDisk } from '../../src/disk/system-disk.js';
import { temporaryName } from '../../src/disk/temporary-file.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import type { ObjectKey } from '../../src/store/object-store.js';
import { emptyFolderSuite } from '../suite/empty-folder-suite.js';
import { asSealed, collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { overlappingDisk } from '../suite/overlapping-disk.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { CrashKind } from '../suite/simulated-disk.js';
import { SimulatedCrashError, SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';

const seed = testSeed();
const random = new SeededRandom(seed);

objectStoreSuite(t, 'directory', async () => {
  const scratch = await scratchDirectory(t);
  const root = join(scratch, 'store');
  let count = 0;
  return {
    store: await DirectoryStore.create(root, { disk: systemDisk, random }),
    writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
    async plantForeign(name) {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), 'foreign');
    },
  };
});

emptyFolderSuite(t, 'directory', async () => {
  const root = await scratchDirectory(t);
  return {
    writeFile: (name) => writeFile(join(root, name), ''),
    makeFolder: (name) => mkdir(join(root, name)),
    create: async () => (await DirectoryStore.create(root, { disk: systemDisk, random })).close(),
  };
});

for (const links of [true, false]) {
  objectStoreSuite(t, links ? 'directory on a simulated disk' : 'directory without hard links', async () => {
    const disk = new SimulatedDisk({ seed, links });
    let count = 0;
    return {
      store: await DirectoryStore.create('/store', { disk: overlappingDisk(disk, random), random }),
      writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes),
    };
  });
}

t.test('a missing store is refused with a reason', async (t) => {
  const scratch = await scratchDirectory(t);
  const options = { disk: systemDisk, random };
  await t.rejects(DirectoryStore.open(join(scratch, 'absent'), options), { code: 'NOT_A_STORE', message: /mounted/ });
  await t.rejects(DirectoryStore.open(scratch, options), { code: 'NOT_A_STORE' });
  await writeFile(join(scratch, 'file'), 'x');
  await t.rejects(DirectoryStore.open(join(scratch, 'file'), options), { code: 'NOT_A_STORE' });
  await t.rejects(DirectoryStore.create(scratch, options), { code: 'NOT_A_STORE' }, 'a directory with other files is not made a store');
  await t.rejects(DirectoryStore.create(join(scratch, 'a/b'), options), { code: 'NOT_A_STORE' });
});

t.test('making a store twice opens it, and nobody else can read it', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  const first = await DirectoryStore.create(root, { disk: systemDisk, random });
  await first.put('keys/a', sealedText('a'));
  const second = await DirectoryStore.create(root, { disk: systemDisk, random });
  t.ok(await second.get('keys/a'));
  t.equal((await stat(root)).mode & 0o777, 0o700);
  t.equal((await stat(join(root, 'keys/a'))).mode & 0o777, 0o600);
  t.same(await readdir(join(root, '_tmp')), []);
});

t.test('permissions of new files in a store follow its folder, whatever the umask is', async (t) => {
  const scratch = await scratchDirectory(t);
  const before = process.umask();
  t.teardown(() => process.umask(before));
  // Only root can give a folder to a group that it is not in.
  const group = process.getuid?.() === 0 ? 30_000 : (process.getgid?.() ?? 0);
  for (const [folder, file, made] of [
    [0o700, 0o600, 0o700],
    [0o750, 0o640, 0o750],
    [0o755, 0o644, 0o755],
    [0o770, 0o640, 0o770],
    [0o2770, 0o640, 0o2770],
    [0o3777, 0o644, 0o3777],
  ] as const) {
    for (const umask of [0o077, 0o000]) {
      const root = join(scratch, `${folder.toString(8)}-${umask.toString(8)}`);
      await mkdir(root);
      await chown(root, -1, group);
      await chmod(root, folder);
      process.umask(umask);
      const store = await DirectoryStore.create(root, { disk: systemDisk, random });
      await store.put('keys/a', sealedText('a'));
      const path = await writeWhole(systemDisk, `${root}.pack`, new Uint8Array(1000));
      await store.put('packs/aa/x', { path, size: 1000 });
      process.umask(before);
      for (const name of ['_sealdrive', 'keys/a', 'packs/aa/x', '_tmp', 'keys', 'packs', 'packs/aa']) {
        const { mode, gid, ...stats } = await stat(join(root, name));
        const isShared = folder !== 0o700;
        t.equal(
          (mode & 0o7777).toString(8),
          (stats.nlink > 0 && (mode & 0o170000) === 0o040000 ? made : file).toString(8),
          `${name} in ${folder.toString(8)}`,
        );
        if (isShared) t.equal(gid, group, `${name} in ${folder.toString(8)}`);
      }
      t.same(await readdir(join(root, '_tmp')), []);
    }
  }
});

t.test('folders that an older version made private are opened to the other users', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  await mkdir(root);
  await chmod(root, 0o770);
  for (const folder of ['keys', 'packs', '_tmp']) await mkdir(join(root, folder), { mode: 0o700 });
  const store = await DirectoryStore.create(root, { disk: systemDisk, random });
  await store.put('keys/a', sealedText('a'));
  await store.put('packs/aa/a', sealedText('a'));
  for (const folder of ['keys', 'packs', 'packs/aa', '_tmp']) t.equal((await stat(join(root, folder))).mode & 0o777, 0o770, folder);
});

t.test('an interrupted creation is repeated', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  for (const name of ['_tmp', 'lost+found']) await mkdir(join(root, name), { recursive: true });
  await writeFile(join(root, '_sealdrive-0123abcd'), 'half');
  const store = await DirectoryStore.create(root, { disk: systemDisk, random });
  t.equal(await store.put('keys/a', sealedText('a')), 'created');
});

t.test('an unmounted disk is not taken for an empty store', async (t) => {
  const scratch = await scratchDirectory(t);
  const root = join(scratch, 'store');
  const store = await DirectoryStore.create(root, { disk: systemDisk, random });
  await store.put('keys/a', sealedText('a'));
  await rename(root, join(scratch, 'away'));
  await t.rejects(store.get('keys/b'), { code: 'UNAVAILABLE' });
  await mkdir(root);
  await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE' });
  await t.rejects(store.head('keys/a'), { code: 'UNAVAILABLE' });
  await t.rejects(store.put('keys/b', sealedText('b')), { code: 'UNAVAILABLE' });
  await t.rejects(collect(store.list('')), { code: 'UNAVAILABLE' });
  t.same(await readdir(root), [], 'nothing was written into the mount point');
  await rename(root, join(scratch, 'mount-point'));
  await rename(join(scratch, 'away'), root);
  t.ok(await store.get('keys/a'), 'the disk is back');
});

t.test('a store made of traps does not keep a reader forever', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  const store = await DirectoryStore.create(root, { disk: systemDisk, random });
  await store.put('keys/a', sealedText('a'));
  execFileSync('mkfifo', [join(root, 'keys/fifo')]);
  await symlink('/etc/passwd', join(root, 'keys/link'));
  await t.rejects(store.get('keys/fifo'), { code: 'PROTOCOL' });
  await t.rejects(store.get('keys/link'), { code: 'PROTOCOL' });
  t.same(await collect(store.list('keys/')), ['keys/a']);
  t.equal(await store.get('keys'), undefined, 'a directory of keys is not an object');
});

t.test('a file on the same filesystem is linked, not copied', async (t) => {
  const scratch = await scratchDirectory(t);
  const store = await DirectoryStore.create(join(scratch, 'store'), { disk: systemDisk, random });
  const path = await writeWhole(systemDisk, join(scratch, 'pack'), new Uint8Array(1000));
  await store.put('packs/aa/x', { path, size: 1000 });
  t.equal((await stat(join(scratch, 'store/packs/aa/x'))).ino, (await stat(path)).ino);
});

t.test('a writer removes old temporary files, and leaves recent ones', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  await DirectoryStore.create(root, { disk: systemDisk, random });
  await mkdir(join(root, '_tmp'));
  const [old, recent] = [temporaryName(random), temporaryName(random)];
  for (const name of [old, recent, 'foreign']) await writeFile(join(root, '_tmp', name), 'x');
  for (const name of [old, 'foreign']) await utimes(join(root, '_tmp', name), 1_000_000, 1_000_000);
  const store = await DirectoryStore.open(root, { disk: systemDisk, random });
  await store.get('keys/a');
  await collect(store.list(''));
  t.same((await readdir(join(root, '_tmp'))).toSorted(), [old, recent, 'foreign'].toSorted(), 'reading changes nothing');
  await store.put('keys/a', sealedText('a'));
  t.same((await readdir(join(root, '_tmp'))).toSorted(), [recent, 'foreign'].toSorted());
});

t.test('missing features of the file system are reported, and the store works without them', async (t) => {
  const scratch = await scratchDirectory(t);
  const refuse = (code: string) => (): Promise<never> => Promise.reject(Object.assign(new Error(code), { code }));
  const folders = { whole: 0o700, group: 0o770 };
  for (const [name, mode] of Object.entries(folders)) {
    await mkdir(join(scratch, name));
    await chmod(join(scratch, name), mode);
  }
  const poor: Disk = {
    ...systemDisk,
    link: refuse('EPERM'),
    syncDirectory: async () => false,
    async open(path, mode) {
      return Object.assign(await systemDisk.open(path, mode), { setAccess: refuse('EPERM') });
    },
  };
  const whole = await DirectoryStore.create(join(scratch, 'whole'), { disk: systemDisk, random });
  await whole.put('keys/a', sealedText('a'));
  t.same(await whole.traits(), { lacks: [] });
  const store = await DirectoryStore.create(join(scratch, 'group'), { disk: poor, random });
  t.equal(await store.put('keys/a', sealedText('a'), { ifAbsent: true }), 'created');
  t.equal(await store.put('keys/a', sealedText('b'), { ifAbsent: true }), 'exists');
  t.same(await collect(store.list('')), ['keys/a']);
  t.same(await store.traits(), { lacks: ['hard-links', 'folder-sync', 'rights'] });
});

t.test('disk errors get the code of their remedy', async (t) => {
  const disk = new SimulatedDisk({ seed });
  const store = await DirectoryStore.create('/store', { disk, random });
  for (const [errno, code] of [
    ['ENOSPC', 'FULL'],
    ['EDQUOT', 'FULL'],
    ['EACCES', 'DENIED'],
    ['EROFS', 'READ_ONLY'],
    ['EIO', 'UNAVAILABLE'],
    ['ESTALE', 'UNAVAILABLE'],
  ] as const) {
    disk.fault = ({ kind }) => (kind === 'write' ? errno : undefined);
    await t.rejects(store.put('keys/a', sealedText('a')), { code });
    disk.fault = undefined;
    t.equal(await store.get('keys/a'), undefined);
    t.same(await disk.readDirectory('/store/_tmp'), [], 'no temporary file is left');
  }
});

t.test('a removed directory is made again', async (t) => {
  const disk = new SimulatedDisk({ seed });
  const store = await DirectoryStore.create('/store', { disk, random });
  await store.put('packs/aa/x', sealedText('x'));
  await store.delete(['packs/aa/x']);
  await disk.removeDirectory('/store/packs/aa');
  await disk.removeDirectory('/store/_tmp');
  t.equal(await store.put('packs/aa/y', sealedText('y')), 'created');
});

/** What the dead process did not sync, a reader that relies on it does. */
async function keepsWhatWasRead(
  t: Test,
  store: DirectoryStore,
  disk: SimulatedDisk,
  bodies: readonly { readonly key: ObjectKey; readonly bytes: Uint8Array }[],
  where: string,
): Promise<void> {
  const read: (typeof bodies)[number][] = [];
  for (const body of bodies) if (await store.get(body.key)) read.push(body);
  await store.persist(read.map(({ key }) => key));
  const later = await DirectoryStore.open('/store', { disk: disk.clone(seed).crash('power'), random });
  for (const { key, bytes } of read) {
    const kept = await later.get(key);
    if (!kept || !equalBytes(kept, bytes)) t.fail(`${key} was read, and power loss took it: ${where}`);
  }
}

t.test('a crash at any point leaves each object whole or absent, and each acknowledged one whole', async (t) => {
  t.comment(`TEST_SEED=${seed}`);
  for (const links of [true, false]) {
    for (const kind of ['process', 'power'] as const satisfies readonly CrashKind[]) {
      for (let point = 0, done = false; !done; point++) {
        const disk = new SimulatedDisk({ seed: seed + point, links });
        const bodies = ['packs/aa/1', 'packs/ab/2', 'log/3', 'packs/aa/4'].map((key) => ({ key, bytes: random.bytes(2000) }));
        const created = await DirectoryStore.create('/store', { disk: overlappingDisk(disk, new SeededRandom(seed + point)), random });
        const file = await writeWhole(disk, '/file', bodies[3]!.bytes);
        await disk.syncDirectory('/');
        disk.crashAt(disk.changeCount + point);
        const acknowledged = new Set<string>();
        try {
          await Promise.all(
            bodies.map(async ({ key, bytes }, index) => {
              await created.put(key, index === 3 ? { path: file, size: bytes.length } : asSealed(bytes), { ifAbsent: true });
              acknowledged.add(key);
            }),
          );
          done = true;
        } catch (error) {
          if (!(error instanceof SimulatedCrashError)) throw error;
        }
        const where = `links ${links}, ${kind}, point ${point}, seed ${seed}`;
        const after = disk.crash(kind);
        const store = await DirectoryStore.open('/store', { disk: after, random });
        await keepsWhatWasRead(t, store, after, bodies, where);
        for (const { key, bytes } of bodies) {
          const got = await store.get(key);
          if (got ? !equalBytes(got, bytes) : acknowledged.has(key)) t.fail(`${key} is ${got ? 'torn' : 'lost'}: ${where}`);
          // The put can be repeated, whatever the crash left behind.
          const outcome = await store.put(key, asSealed(bytes), { ifAbsent: true });
          if (outcome !== (got ? 'exists' : 'created')) t.fail(`${key} cannot be put again: ${where}`);
          const again = await store.get(key);
          if (!again || !equalBytes(again, bytes)) t.fail(`${key} is wrong after a repeated put: ${where}`);
        }
        if (point === 500) throw new Error('the run never ends');
      }
    }
  }
  t.pass('every crash point was tried');
});

t.test('cached content is read synchronously, exactly or not at all', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  const disk = presentDisk({
    readNow: (fd, target, position) => readSync(fd, target, 0, target.byteLength, position),
  });
  const store = await DirectoryStore.create(root, { disk, random });
  await store.put('packs/00/00', sealedText('0123456789'));
  const target = Buffer.alloc(4);
  t.equal(store.readNow('packs/00/00', target, 3), false, 'the file is not open yet');
  await store.get('packs/00/00', { range: { offset: 0, length: 1 } });
  t.equal(store.readNow('packs/00/00', target, 3), true);
  t.equal(target.toString(), '3456');
  t.equal(store.readNow('packs/00/00', target, 7), false, 'beyond its end');
  t.equal(store.readNow('packs/00/01', target, 0), false);
  await store.close();
});

void t.test('a fresh read sees that an object was removed, moved away or replaced, whatever was read before', async (t) => {
  const root = join(await scratchDirectory(t), 'store');
  const store = await DirectoryStore.create(root, { disk: systemDisk, random });
  const range = { offset: 0, length: 3 };
  const changes: Record<string, (path: string) => Promise<void>> = {
    removed: (path) => unlink(path),
    moved: (path) => rename(path, `${path}.sync-conflict`),
    replaced: async (path) => {
      await writeFile(`${path}.new`, 'other');
      await rename(`${path}.new`, path);
    },
  };
  for (const [what, change] of Object.entries(changes)) {
    const key = `log/${what}`;
    await store.put(key, sealedText('first'));
    for (const fresh of [true, false]) t.same(await store.get(key, { range, fresh }), Buffer.from('fir'));
    await change(join(root, key));
    t.same(await store.get(key, { range, fresh: true }), what === 'replaced' ? Buffer.from('oth') : undefined, what);
  }
  await store.close();
});
