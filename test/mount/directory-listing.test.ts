/**
 * Listings of directories through the kernel (doc/semantics.md, "Names"; doc/decision/0028): many at a time, while
 * entries come and go, across a remount, and with the kernel's own cache of listings.
 */
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { mountedDrive } from './mounted-drive.js';
import { Probe, type ProbeEntry } from './posix-probe.js';

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const { drive } = await mountedDrive(t);
  const p = await Probe.start();
  await p.ok('chdir', drive.directory);

  const make = async (folder: string, count: number): Promise<string[]> => {
    await p.ok('mkdir', folder);
    const names = Array.from({ length: count }, (_, index) => `entry-${index}`);
    await Promise.all(names.map((name) => p.ok('mknod', `${folder}/${name}`, 'S_IFREG|0644', 0, 0)));
    return names;
  };
  const isEntry = ({ name }: { readonly name: string }): boolean => name !== '.' && name !== '..';
  const read = async (handle: number, count?: number): Promise<readonly ProbeEntry[]> =>
    (await p.need('readdir', handle, ...(count === undefined ? [] : [count]))).entries ?? [];
  const list = async (folder: string): Promise<string[]> => {
    const handle = await p.ok('opendir', folder);
    const entries = await read(handle);
    await p.ok('closedir', handle);
    return entries.filter(isEntry).map(({ name }) => name);
  };

  /** Lists another folder of 4,000 names 18 times, by requests that the daemon sees. */
  const listAnother = async (): Promise<void> => {
    for (let round = 0; round < 18; round++) {
      // The kernel answers from its cache unless something has changed.
      await p.ok('rename', 'another/entry-0', 'another/moved', 0);
      await p.ok('rename', 'another/moved', 'another/entry-0', 0);
      t.equal((await list('another')).length, 4000);
    }
  };
  await make('another', 4000);

  await t.test('removing 2,000 files while they are listed and another folder is listed 18 times leaves none', async (t) => {
    const names = await make('one', 2000);
    const handle = await p.ok('opendir', 'one');
    const seen: string[] = [];
    for (let entries = await read(handle, 100); entries.length > 0; entries = await read(handle, 100)) {
      const found = entries.filter(isEntry).map(({ name }) => name);
      await Promise.all(found.map((name) => p.ok('unlink', `one/${name}`)));
      if (seen.length === 0) await listAnother();
      seen.push(...found);
    }
    await p.ok('closedir', handle);
    t.strictSame(seen, names);
    await p.ok('rmdir', 'one');
  });

  await t.test('folders whose listings stay open while others are listed can be emptied and removed', async (t) => {
    // As a walk does that keeps a listing for each level. They are larger than the buffer of the C library.
    const folders = Array.from({ length: 4 }, (_, index) => `level-${index}`);
    const handles: number[] = [];
    for (const folder of folders) {
      await make(folder, 1200);
      const handle = await p.ok('opendir', folder);
      const first = (await read(handle, 50)).filter(isEntry);
      await Promise.all(first.map(({ name }) => p.ok('unlink', `${folder}/${name}`)));
      handles.push(handle);
    }
    await listAnother();
    for (const [index, folder] of folders.entries()) {
      const rest = (await read(handles[index]!)).filter(isEntry);
      await Promise.all(rest.map(({ name }) => p.ok('unlink', `${folder}/${name}`)));
      await p.ok('closedir', handles[index]!);
      t.equal(await p.errno('rmdir', folder), 'OK', folder);
    }
  });

  await t.test('a reader who copies each file that it lists comes to an end, and the next listing shows all', async (t) => {
    const names = await make('copied', 500);
    const handle = await p.ok('opendir', 'copied');
    const seen: string[] = [];
    for (let entries = await read(handle, 40); entries.length > 0 && seen.length < 2000; entries = await read(handle, 40)) {
      seen.push(...entries.filter(isEntry).map(({ name }) => name));
      for (const { name } of entries.filter(isEntry)) await p.ok('mknod', `copied/${name}.bak`, 'S_IFREG|0644', 0, 0);
    }
    await p.ok('closedir', handle);
    for (const name of names) t.ok(seen.includes(name), name);
    t.ok(seen.length < 1500, `${seen.length} entries were listed`);
    t.equal((await list('copied')).length, names.length + seen.length);
  });

  await t.test('what is made while another listing is open is in every listing that begins later', async (t) => {
    const names = await make('fresh', 300);
    t.equal((await list('fresh')).length, 300, 'the kernel may keep this one');
    await p.ok('mknod', 'fresh/between', 'S_IFREG|0644', 0, 0);
    t.equal((await list('fresh')).length, 301);
    for (const part of [1, 100, 250]) {
      const handle = await p.ok('opendir', 'fresh');
      const first = await read(handle, part);
      await p.ok('mknod', `fresh/new-${part}`, 'S_IFREG|0644', 0, 0);
      t.ok((await list('fresh')).includes(`new-${part}`), 'while the other is open');
      const rest = await read(handle);
      await p.ok('closedir', handle);
      const seen = [...first, ...rest].map(({ name }) => name);
      for (const name of names) t.equal(seen.filter((one) => one === name).length, 1, name);
      t.ok((await list('fresh')).includes(`new-${part}`), 'and after it has ended');
      t.ok((await list('fresh')).includes(`new-${part}`), 'and from the cache');
    }
  });

  await t.test('a position leads on from its place after entries were removed, renamed and made', async (t) => {
    await make('moved', 400);
    const handle = await p.ok('opendir', 'moved');
    const entries = (await read(handle)).filter(isEntry);
    for (const { name } of entries.filter((_, index) => index % 3 === 0)) await p.ok('unlink', `moved/${name}`);
    for (const { name } of entries.filter((_, index) => index % 3 === 1)) await p.ok('rename', `moved/${name}`, `moved/new-${name}`, 0);
    await p.ok('mknod', 'moved/late', 'S_IFREG|0644', 0, 0);
    // Where a reader goes on, the kernel answers from a listing that it has cached; only at the beginning it looks
    // whether that is still true.
    await p.ok('rewinddir', handle);
    await read(handle, 1);
    for (const at of [0, 1, 2, 99, 200, 398]) {
      await p.ok('seekdir', handle, entries[at]?.at ?? '');
      const next = (await read(handle)).map(({ name }) => name).filter((name) => name !== 'late');
      const expected = entries.flatMap(({ name }, index) => (index <= at || index % 3 === 0 ? [] : [index % 3 === 1 ? `new-${name}` : name]));
      t.strictSame(next, expected, `after ${at}`);
    }
    await p.ok('closedir', handle);
  });

  await t.test('inode numbers and positions of the first device fit into 31 bits, for 32-bit programs', async (t) => {
    await make('small', 20);
    await p.ok('link', 'small/entry-3', 'small/linked');
    const handle = await p.ok('opendir', 'small');
    const entries = await read(handle);
    await p.ok('closedir', handle);
    for (const { name, ino, at } of entries) t.ok(Number(ino) < 2 ** 31 && Number(at) < 2 ** 31, `${name} ${ino} ${at}`);
    t.ok(Number((await p.stat('stat', 'small/entry-7')).ino) < 2 ** 31);
  });

  await t.test('a position is good after a remount, by the same device and by a new one', async (t) => {
    const names = await make('kept', 250);
    const handle = await p.ok('opendir', 'kept');
    const entries = (await read(handle)).filter(isEntry);
    await p.ok('closedir', handle);
    t.strictSame(
      entries.map(({ name }) => name),
      names,
    );
    for (const isNew of [false, true]) {
      await p.ok('chdir', '/');
      await drive.unmount();
      if (isNew) await drive.forget();
      await drive.mount();
      await p.ok('chdir', drive.directory);
      const again = await p.ok('opendir', 'kept');
      for (const at of [0, 3, 120, 249]) {
        await p.ok('seekdir', again, entries[at]?.at ?? '');
        t.strictSame(
          (await read(again)).map(({ name }) => name),
          names.slice(at + 1),
          `${at}`,
        );
      }
      await p.ok('closedir', again);
    }
  });

  await t.test('the drive can be unmounted and is sound', async () => {
    await p.close();
    await drive.unmount();
    await drive.check();
  });
}
