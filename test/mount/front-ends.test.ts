/**
 * A mount and a second front end on the same volume in one process (doc/concurrency.md, "Front ends"): through the
 * kernel, the mount shows the changes of the other one, and dirty data of applications does not undo them.
 */
import { mkdir, mkdtemp, open, opendir, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { createErrnoOf } from '../../src/daemon/errno.js';
import { FuseFilesystem } from '../../src/daemon/fuse-filesystem.js';
import { KernelCache } from '../../src/daemon/kernel-cache.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { nativeDriver } from '../../src/fuse/native-driver.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';
import { ask } from './drive-pair.js';

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const beside = await TestDevice.open(await createTestVolume(new MemoryStore({ disk: systemDisk })), {
    disk: systemDisk,
    stateDirectory: await scratchDirectory(t),
  });
  const volume = beside.volume.frontEnd();
  const filesystem = new Filesystem(volume);
  const cache = new KernelCache(filesystem);
  const mountPoint = await mkdtemp(join(tmpdir(), 'sealdrive-front-ends-'));
  const mounted = await nativeDriver(new FuseFilesystem(filesystem, cache), createErrnoOf(silentLogger), {
    mountPoint,
    source: 'sealdrive-test',
    subtype: 'sealdrive',
    readOnly: false,
    allowOther: false,
    defaultPermissions: true,
    writebackCache: true,
  });
  cache.attach(mounted.notifier);
  volume.onChange(cache);
  t.teardown(async () => {
    await mounted.unmount({ force: true });
    await mounted.ended;
    await beside.close();
    await rmdir(mountPoint);
  });
  const at = (name: string): string => join(mountPoint, name);
  const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'no code';
  const textOf = (name: string): Promise<string> => readFile(at(name), 'latin1').catch(codeOf);
  /** The kernel processes notifications within a moment. */
  const shows = (name: string, wanted: string): Promise<string> =>
    ask(
      () => textOf(name),
      (text) => text === wanted,
      2000,
    );

  await t.test('changes by another front end are visible at once: creating, writing, renaming, truncating, removing', async (t) => {
    t.equal(await textOf('file'), 'ENOENT', 'the kernel keeps the absent name');
    t.same(await readdir(mountPoint), [], 'and the listing');
    await beside.write('file', 'content');
    t.equal(await shows('file', 'content'), 'content');
    t.same(await readdir(mountPoint), ['file']);
    await beside.write('file', 'CON');
    t.equal(await shows('file', 'CONtent'), 'CONtent');
    await beside.write('file', ' and more', 7);
    t.equal(await shows('file', 'CONtent and more'), 'CONtent and more');
    await beside.truncate('file', 3);
    t.equal(await shows('file', 'CON'), 'CON');
    t.equal((await stat(at('file'))).size, 3);
    await beside.rename('file', 'other');
    t.equal(await shows('file', 'ENOENT'), 'ENOENT');
    t.equal(await shows('other', 'CON'), 'CON');
    t.same(await readdir(mountPoint), ['other']);
    await beside.unlink('other');
    t.equal(await shows('other', 'ENOENT'), 'ENOENT');
    await beside.mkdir('folder');
    t.same(
      await ask(
        () => readdir(mountPoint),
        (names) => names.includes('folder'),
        2000,
      ),
      ['folder'],
    );
  });

  await t.test('what another front end makes while a listing of the mount is open is in every listing that begins later', async (t) => {
    await mkdir(at('large'));
    for (let index = 0; index < 2000; index++) await writeFile(at(`large/file-${index}`), '');
    for (const part of [1, 500, 1500]) {
      const listing = await opendir(at('large'), { bufferSize: 1 });
      for (let count = 0; count < part; count++) await listing.read();
      await beside.write(`large/new-${part}`, '');
      let last = await listing.read();
      while (last !== null) last = await listing.read();
      await listing.close();
      const listed = await ask(
        () => readdir(at('large')),
        (names) => names.includes(`new-${part}`),
        2000,
      );
      t.ok(listed.includes(`new-${part}`), `${part}`);
    }
    await rm(at('large'), { recursive: true });
  });

  await t.test('a file that is open in the mount shows the changes', async (t) => {
    await writeFile(at('open'), 'first line\n');
    const file = await open(at('open'), 'r+');
    const seen = async (): Promise<string> => (await file.read(Buffer.alloc(100), 0, 100, 0)).buffer.toString('latin1').replaceAll('\0', '');
    t.equal(await seen(), 'first line\n');
    await beside.write('open', 'second line\n', 11);
    t.equal(await ask(seen, (text) => text.includes('second'), 2000), 'first line\nsecond line\n');
    await file.close();
  });

  await t.test('dirty data of an application undoes neither a later write nor a truncation', async (t) => {
    await writeFile(at('dirty'), '.'.repeat(8192));
    const file = await open(at('dirty'), 'r+');
    await file.write(Buffer.from('aaaa'), 0, 4, 0);
    await file.write(Buffer.from('aaaa'), 0, 4, 8000);
    await beside.write('dirty', 'bb', 2);
    await file.sync();
    t.equal((await beside.text('dirty')).slice(0, 6), 'aabb..', 'the later write is on top');
    t.equal((await beside.text('dirty')).slice(8000, 8004), 'aaaa', 'and nothing is lost');
    t.ok((await shows('dirty', await beside.text('dirty'))).startsWith('aabb'));
    await file.write(Buffer.from('cccc'), 0, 4, 8100);
    await beside.truncate('dirty', 100);
    await file.sync();
    await file.close();
    t.equal((await beside.read('dirty')).length, 100, 'the held page did not make it long again');
    t.equal((await shows('dirty', await beside.text('dirty'))).length, 100);
  });

  await t.test('a removed file that is open in the mount keeps its content until it is closed', async (t) => {
    const { files } = beside.volume.statistics();
    await writeFile(at('removed'), 'content');
    const file = await open(at('removed'), 'r+');
    await beside.unlink('removed');
    t.equal(await shows('removed', 'ENOENT'), 'ENOENT');
    t.equal((await file.read(Buffer.alloc(100), 0, 100, 0)).buffer.toString('latin1', 0, 7), 'content');
    t.equal(beside.volume.statistics().files, files + 1);
    await file.close();
    t.equal(
      await ask(
        async () => beside.volume.statistics().files,
        (count) => count === files,
        2000,
      ),
      files,
      'then it is freed',
    );
  });
}
