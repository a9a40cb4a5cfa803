/**
 * One volume mounted twice, on any store: changes by one device reach the kernel's caches of the other
 * (doc/semantics.md, "Other devices"). Each test first reads everything, so that it is cached, then changes it on the
 * other side and waits for the change. Nothing here sleeps: a test asks until the answer is right, or until it has
 * waited far longer than a commit and a poll take.
 */
import { copyFile, mkdir, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Test } from 'tap';
import { Drive } from '../mount/drive-process.js';
import { Probe } from '../mount/posix-probe.js';

const patienceMs = 30_000;

export interface TwoDevicesOptions {
  /** Empty, on another filesystem than the drives; the caller removes it. */
  readonly scratch: string;
  /** The location of a volume that does not exist yet. */
  readonly store: string;
  /** The environment that the kind of store needs. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Resolves once both drives are unmounted and everything was tried. */
export async function twoDevicesSuite(t: Test, { scratch, store, environment = {} }: TwoDevicesOptions): Promise<void> {
  const driveOf = (name: string): Drive => new Drive({ scratch: join(scratch, name), store, environment, withKeyFile: true });
  const [one, two] = [driveOf('one'), driveOf('two')];
  t.teardown(async () => {
    await one.destroy();
    await two.destroy();
  });
  await one.init();
  await mkdir(join(scratch, 'two'), { recursive: true });
  await copyFile(join(scratch, 'one', 'key'), join(scratch, 'two', 'key'));
  await one.mount();
  await two.mount();
  const [left, right] = [await Probe.start(), await Probe.start()];
  // This happens before the unmounts, since a probe may hold files open.
  const here = (name: string): string => join(one.directory, name);
  const there = (name: string): string => join(two.directory, name);

  /** Polls until `look` returns `wanted`, then passes. The last result is shown when it never does. */
  const becomes = async (test: Pick<Test, 'equal'>, look: () => Promise<unknown>, wanted: unknown, what: string): Promise<void> => {
    const deadline = performance.now() + patienceMs;
    const wantedText = JSON.stringify(wanted);
    let seen = JSON.stringify(await look());
    while (seen !== wantedText && performance.now() < deadline) {
      await wait(20);
      seen = JSON.stringify(await look());
    }
    test.equal(seen, wantedText, what);
  };
  const textOf = async (path: string): Promise<string> => {
    const fd = await right.call('open', path, 'O_RDONLY');
    if (fd.error !== undefined) return fd.error;
    const text = (await right.readAt(fd.value, 1 << 20, 0)).toString('latin1');
    await right.ok('close', fd.value);
    return text;
  };

  const namesIn = (path: string): Promise<string[]> =>
    readdir(path).then(
      (names) => names.toSorted(),
      (error: NodeJS.ErrnoException) => [`${error.code}`],
    );
  const linkOf = (path: string): Promise<string> => readlink(path).catch((error: NodeJS.ErrnoException) => `${error.code}`);

  await t.test('a new file appears where its absence was cached', async (t) => {
    await right.ok('mkdir', there('born'));
    await becomes(t, () => left.errno('stat', here('born')), 'OK', 'the directory');
    t.equal(await right.errno('stat', there('born/file')), 'ENOENT');
    t.same(await namesIn(there('born')), []);
    await left.writeFile(here('born/file'), 'hello');
    await becomes(t, () => textOf(there('born/file')), 'hello', 'its content');
    await becomes(t, () => namesIn(there('born')), ['file'], 'the listing');
  });

  await t.test('changed content, size and attributes replace what was cached', async (t) => {
    for (const [what, before, after] of [
      ['longer', 'short', 'much longer than before'.repeat(500)],
      ['shorter', 'much longer than before'.repeat(500), 'short'],
      ['as long', 'before', 'AFTER!'],
    ] as const) {
      const name = `changed-${what.replace(' ', '-')}`;
      await left.writeFile(here(name), before);
      await becomes(t, () => textOf(there(name)), before, `${what}: the first content`);
      await left.writeFile(here(name), after);
      await becomes(t, () => textOf(there(name)), after, `${what}: the new content`);
      t.equal((await right.stat('stat', there(name))).size, after.length, `${what}: its size`);
    }
    await left.writeFile(here('mode'), 'x');
    await becomes(t, () => right.errno('stat', there('mode')), 'OK', 'the file');
    await left.ok('chmod', here('mode'), 0o600);
    await becomes(t, async () => (await right.stat('stat', there('mode'))).mode & 0o777, 0o600, 'the mode');
    const { mtime } = await left.stat('stat', here('mode'));
    t.equal((await right.stat('stat', there('mode'))).mtime, mtime, 'the times are the same on both');
  });

  await t.test('a file that was shortened while open shows its true size once it is closed', async (t) => {
    await left.writeFile(here('cut'), 'long before it was cut');
    await becomes(t, () => textOf(there('cut')), 'long before it was cut', 'the file');
    const reader = await right.ok('open', there('cut'), 'O_RDONLY');
    await left.writeFile(here('cut'), 'CUT');
    await becomes(t, async () => (await right.readAt(reader, 3, 0)).toString(), 'CUT', 'the new content');
    await right.ok('close', reader);
    await becomes(t, () => textOf(there('cut')), 'CUT', 'and no more than that');
    t.equal((await right.stat('stat', there('cut'))).size, 3);
  });

  await t.test('renamed and removed names disappear, also those of hard links and directories', async (t) => {
    await left.ok('mkdir', here('tree'));
    await left.writeFile(here('tree/a'), 'a');
    await left.ok('link', here('tree/a'), here('tree/second'));
    await left.ok('mkdir', here('tree/sub'));
    await left.writeFile(here('tree/sub/deep'), 'deep');
    await becomes(t, () => textOf(there('tree/sub/deep')), 'deep', 'all is there');
    await becomes(t, async () => (await right.stat('stat', there('tree/a'))).nlink, 2, 'with two names');
    await left.ok('rename', here('tree/sub'), here('tree/moved'));
    await left.ok('rename', here('tree/a'), here('tree/b'));
    await becomes(t, () => textOf(there('tree/moved/deep')), 'deep', 'the directory under its new name');
    t.equal(await right.errno('stat', there('tree/sub')), 'ENOENT', 'and not under its old');
    await becomes(t, () => right.errno('stat', there('tree/a')), 'ENOENT', 'the old name is gone');
    t.equal(await textOf(there('tree/b')), 'a');
    await left.ok('unlink', here('tree/b'));
    await becomes(t, () => right.errno('stat', there('tree/b')), 'ENOENT', 'a removed name');
    await becomes(t, async () => (await right.stat('stat', there('tree/second'))).nlink, 1, 'its other name is the last one');
    await becomes(t, () => namesIn(there('tree')), ['moved', 'second'], 'the listing');
    await left.ok('unlink', here('tree/moved/deep'));
    await left.ok('rmdir', here('tree/moved'));
    await becomes(t, () => right.errno('stat', there('tree/moved')), 'ENOENT', 'a removed directory');
  });

  await t.test('an open file grows with its new content, and a mapping shows it', async (t) => {
    const page = 4096;
    await left.writeFile(here('log'), 'first\n');
    await becomes(t, () => textOf(there('log')), 'first\n', 'the file');
    const reader = await right.ok('open', there('log'), 'O_RDONLY');
    const writer = await left.ok('open', here('log'), 'O_WRONLY|O_APPEND');
    t.equal((await right.readAt(reader, 100, 0)).toString(), 'first\n');
    await left.ok('write', writer, Buffer.from('second\n'));
    await left.ok('fsync', writer);
    await becomes(t, async () => (await right.readAt(reader, 100, 0)).toString(), 'first\nsecond\n', 'what was appended (tail -f)');
    // Past the end of a page, and exactly to the end of one.
    await left.ok('write', writer, Buffer.alloc(2 * page - 13, 'x'));
    await left.ok('fsync', writer);
    await becomes(t, async () => (await right.stat('fstat', reader)).size, 2 * page, 'its size');
    t.ok(
      (await right.readAt(reader, 3 * page, 0)).subarray(13).every((byte) => byte === 0x78),
      'and all of its content',
    );
    await left.ok('write', writer, Buffer.from('y'));
    await left.ok('fsync', writer);
    await becomes(t, async () => (await right.readAt(reader, page, 2 * page)).toString(), 'y', 'one byte on a new page');
    await left.ok('close', writer);
    await right.ok('close', reader);

    await left.writeFile(here('mapped'), Buffer.alloc(page, 'a'));
    await becomes(t, async () => (await textOf(there('mapped'))).length, page, 'the file to map');
    const mapped = await right.ok('open', there('mapped'), 'O_RDONLY');
    const map = await right.ok('mmap', mapped, page, 0, 'PROT_READ', 'MAP_SHARED');
    t.equal((await right.need('mload', map, 0, 2)).data, '6161');
    const changing = await left.ok('open', here('mapped'), 'O_WRONLY');
    await left.ok('write', changing, Buffer.from('bb'), 0);
    await left.ok('close', changing);
    await becomes(t, async () => (await right.need('mload', map, 0, 4)).data, '62626161', 'through the mapping');
    await right.ok('munmap', map);
    await right.ok('close', mapped);
  });

  await t.test('an open file that another device removed is stale, not empty', async (t) => {
    await left.writeFile(here('doomed'), 'content');
    await becomes(t, () => textOf(there('doomed')), 'content', 'the file');
    const fd = await right.ok('open', there('doomed'), 'O_RDONLY');
    await left.ok('unlink', here('doomed'));
    await becomes(t, () => right.errno('stat', there('doomed')), 'ENOENT', 'the name');
    await becomes(t, async () => (await right.call('read', fd, 100, 0)).error ?? 'OK', 'ESTALE', 'its content');
    await right.ok('close', fd);
  });

  await t.test('changed extended attributes and links are read again', async (t) => {
    await left.writeFile(here('labelled'), 'x');
    await left.ok('symlink', 'old', here('link'));
    await becomes(t, () => right.errno('stat', there('labelled')), 'OK', 'the file');
    t.equal(await right.errno('getxattr', there('labelled'), 'user.label', 64), 'ENODATA');
    await becomes(t, () => linkOf(there('link')), 'old', 'the link');
    await left.ok('setxattr', here('labelled'), 'user.label', Buffer.from('v'), 0);
    await left.ok('unlink', here('link'));
    await left.ok('symlink', 'new', here('link'));
    await becomes(t, async () => (await right.call('getxattr', there('labelled'), 'user.label', 64)).data ?? '', '76', 'the attribute');
    await becomes(t, () => linkOf(there('link')), 'new', 'the link that took its place');
  });

  await t.test('many changes at once all arrive', async (t) => {
    const count = 500;
    await left.ok('mkdir', here('many'));
    for (let i = 0; i < count; i++) await left.writeFile(here(`many/${i}`), `${i}`);
    await becomes(t, async () => (await namesIn(there('many'))).length, count, 'the files');
    for (let i = 0; i < count; i++) await right.stat('stat', there(`many/${i}`));
    for (let i = 0; i < count; i++) await left.writeFile(here(`many/${i}`), `changed ${i}`);
    const stale = async (): Promise<number> => {
      let differing = 0;
      for (let i = 0; i < count; i++) if ((await textOf(there(`many/${i}`))) !== `changed ${i}`) differing++;
      return differing;
    };
    await becomes(t, stale, 0, 'files that are not as they should be');
  });

  await t.test('both devices end with a sound volume', async () => {
    await left.close();
    await right.close();
    await one.unmount();
    await two.unmount();
  });
}
