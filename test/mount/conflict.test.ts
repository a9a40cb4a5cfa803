/**
 * Two devices change the same files at the same time, through the kernel (doc/conflicts.md, "Open files"): dirty data
 * in the kernel does not overwrite what the other device wrote, and an application that has a file open keeps using its
 * copy.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { ask, DrivePair } from './drive-pair.js';

const page = 4096;
const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  t.setTimeout(0);
  const scratch = await scratchDirectory(t);
  const pair = await DrivePair.start({ scratch, store: join(scratch, 'store') }, (drive) => t.teardown(() => drive.destroy()));
  const { left, right } = pair;

  const textOf = async (side: typeof left, name: string): Promise<string> =>
    side.probe.readFile(side.at(name)).then(
      (bytes) => bytes.toString('latin1'),
      (error: Error) => error.message,
    );
  /** The file is the same on both sides, and was read on both. */
  const share = async (name: string, content: string): Promise<void> => {
    await left.probe.writeFile(left.at(name), content);
    await ask(
      () => textOf(right, name),
      (text) => text === content,
    );
  };
  const copiesOf = async (side: typeof left, name: string): Promise<string[]> =>
    (await readdir(side.drive.directory)).filter((entry) => entry.startsWith(`${name} (conflict`)).toSorted();
  const copyOf = async (side: typeof left, name: string, count = 1): Promise<string> =>
    (
      await ask(
        () => copiesOf(side, name),
        (found) => found.length >= count,
      )
    )[count - 1] ?? 'no copy';

  await t.test('unsynced data becomes a conflict copy when another device changed the file', async (t) => {
    const [before, theirs] = ['a'.repeat(3 * page), `${'a'.repeat(2 * page)}${'L'.repeat(page)}`];
    await share('notes', before);
    const fd = await right.probe.ok('open', right.at('notes'), 'O_RDWR');
    // The kernel keeps this dirty for seconds.
    await right.probe.ok('write', fd, Buffer.from('mine'), 0);
    await right.probe.ok('write', fd, Buffer.from('mine'), 2 * page);
    await left.probe.writeFile(left.at('notes'), theirs);
    await left.drive.flush();
    const copy = await copyOf(right, 'notes');
    t.match(copy, /^notes \(conflict right \d{4}-\d\d-\d\d\)$/);
    const mine = `mine${'a'.repeat(2 * page - 4)}mine${'a'.repeat(page - 4)}`;
    t.ok((await textOf(right, copy)) === mine, 'the copy is what the application saw and wrote');
    t.ok((await textOf(right, 'notes')) === theirs, 'the name shows what the other device wrote');
    await right.probe.ok('close', fd);
    await right.drive.flush();
    await copyOf(left, 'notes');
    t.ok((await textOf(left, copy)) === mine, 'the other device gets the copy');
    t.ok((await textOf(left, 'notes')) === theirs, 'and keeps its own');
  });

  await t.test('an application that has the file open keeps using the copy, and a new open gets the other version', async (t) => {
    await share('draft.txt', 'first line\n');
    const fd = await right.probe.ok('open', right.at('draft.txt'), 'O_RDWR|O_APPEND');
    await right.probe.ok('write', fd, Buffer.from('mine\n'));
    await left.probe.writeFile(left.at('draft.txt'), 'first line\ntheirs\n');
    await left.drive.flush();
    const name = 'draft';
    const copy = await copyOf(right, name);
    t.match(copy, /^draft \(conflict right .*\)\.txt$/);
    await right.probe.ok('write', fd, Buffer.from('mine again\n'));
    await right.probe.ok('fsync', fd);
    t.equal(await textOf(right, copy), 'first line\nmine\nmine again\n', 'what the application goes on writing is in the copy');
    t.equal(await textOf(right, 'draft.txt'), 'first line\ntheirs\n', 'and not in the other version');
    t.equal((await right.probe.readAt(fd, 100, 0)).toString(), 'first line\nmine\nmine again\n', 'it reads what it wrote');
    const [open, named, original] = [
      await right.probe.stat('fstat', fd),
      await right.probe.stat('stat', right.at(copy)),
      await right.probe.stat('stat', right.at('draft.txt')),
    ];
    t.equal(open.ino, named.ino, 'the descriptor is the copy');
    t.not(open.ino, original.ino);
    t.equal(open.size, 27);
    t.equal(original.size, 18);

    const reader = await right.probe.ok('open', right.at('draft.txt'), 'O_RDONLY');
    await left.probe.writeFile(left.at('draft.txt'), 'first line\ntheirs\nand more\n');
    const grown = await ask(
      async () => (await right.probe.readAt(reader, 100, 0)).toString(),
      (text) => text.includes('more'),
    );
    t.equal(grown, 'first line\ntheirs\nand more\n', 'what was opened afterwards follows the other device');
    t.equal((await right.probe.stat('fstat', fd)).size, 27, 'and the copy does not');
    await right.probe.ok('close', reader);

    await right.probe.ok('unlink', right.at('draft.txt'));
    t.equal((await right.probe.readAt(fd, 5, 0)).toString(), 'first', 'removing the one leaves the other');
    t.equal(await right.probe.errno('stat', right.at('draft.txt')), 'ENOENT');
    await right.probe.ok('close', fd);
    await right.drive.flush();
    t.equal(
      await ask(
        () => left.probe.errno('stat', left.at('draft.txt')),
        (code) => code === 'ENOENT',
      ),
      'ENOENT',
    );
    t.equal(await textOf(left, copy), 'first line\nmine\nmine again\n', 'the other device has the copy, whole');
  });

  await t.test('a second conflict of the same open file continues from its copy, and one of the file makes another copy', async (t) => {
    await share('plan', 'base');
    const first = await right.probe.ok('open', right.at('plan'), 'O_RDWR');
    await right.probe.ok('write', first, Buffer.from('one!'), 0);
    await left.probe.writeFile(left.at('plan'), 'left');
    await left.drive.flush();
    const copy = await copyOf(right, 'plan');
    await right.drive.flush();
    // The name now leads to another inode for the kernel, with a conflict like the first.
    const second = await right.probe.ok('open', right.at('plan'), 'O_RDWR');
    t.equal((await right.probe.readAt(second, 10, 0)).toString(), 'left');
    await right.probe.ok('write', second, Buffer.from('two!'), 0);
    await left.probe.writeFile(left.at('plan'), 'LEFT');
    // The copy gets a conflict too.
    await ask(
      () => left.probe.errno('stat', left.at(copy)),
      (code) => code === 'OK',
    );
    await right.probe.ok('write', first, Buffer.from('1111'), 0);
    await left.probe.writeFile(left.at(copy), 'theirs in the copy');
    await left.drive.flush();
    const names = await ask(
      () => copiesOf(right, 'plan'),
      (found) => found.length >= 3,
    );
    t.equal(names.length, 3, 'three copies');
    const contents = await Promise.all([...names, 'plan'].map((name) => textOf(right, name)));
    t.same(contents.toSorted(), ['1111', 'LEFT', 'theirs in the copy', 'two!'], 'nothing is lost');
    await right.probe.ok('write', first, Buffer.from('2'), 0);
    await right.probe.ok('write', second, Buffer.from('T'), 0);
    t.equal((await right.probe.readAt(first, 10, 0)).toString(), '2111');
    t.equal((await right.probe.readAt(second, 10, 0)).toString(), 'Two!');
    await right.probe.ok('close', first);
    await right.probe.ok('close', second);
    const after = await Promise.all([...names, 'plan'].map((name) => textOf(right, name)));
    t.same(after.toSorted(), ['2111', 'LEFT', 'Two!', 'theirs in the copy'], 'each descriptor goes on in its own');
  });

  await t.test('neither name of a file with two names shows the copy', async (t) => {
    await share('name', 'base');
    await left.probe.ok('link', left.at('name'), left.at('other name'));
    await ask(
      () => textOf(right, 'other name'),
      (text) => text === 'base',
    );
    await right.probe.stat('stat', right.at('name'));
    const fd = await right.probe.ok('open', right.at('other name'), 'O_RDWR');
    await right.probe.ok('write', fd, Buffer.from('mine'), 0);
    await left.probe.writeFile(left.at('name'), 'theirs');
    await left.drive.flush();
    const found = await ask(
      async () => (await readdir(right.drive.directory)).find((entry) => /name \(conflict/.test(entry)),
      (entry) => entry !== undefined,
    );
    t.equal(await textOf(right, found ?? ''), 'mine');
    t.equal(await textOf(right, 'name'), 'theirs');
    t.equal(await textOf(right, 'other name'), 'theirs');
    t.equal((await right.probe.readAt(fd, 10, 0)).toString(), 'mine');
    await right.probe.ok('close', fd);
  });

  await t.test('unsynced stores to a mapping become a conflict copy too', async (t) => {
    await share('mapped', 'm'.repeat(page));
    const fd = await right.probe.ok('open', right.at('mapped'), 'O_RDWR');
    const map = await right.probe.ok('mmap', fd, page, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await right.probe.ok('mstore', map, 10, Buffer.from('mine'));
    const theirs = `theirs${'m'.repeat(page - 6)}`;
    await left.probe.writeFile(left.at('mapped'), theirs);
    await left.drive.flush();
    const copy = await copyOf(right, 'mapped');
    await right.probe.ok('mstore', map, 20, Buffer.from('more'));
    await right.probe.ok('munmap', map);
    await right.probe.ok('fsync', fd);
    t.equal((await textOf(right, copy)).slice(8, 26), 'mmminemmmmmmmoremm', 'both stores');
    t.ok((await textOf(right, 'mapped')) === theirs);
    await right.probe.ok('close', fd);
  });

  await t.test('both devices end with the same files, and the store is sound', async (t) => {
    await left.drive.flush();
    await right.drive.flush();
    const listing = async (side: typeof left): Promise<string[]> => {
      const names = (await readdir(side.drive.directory)).toSorted();
      return Promise.all(names.map(async (name) => `${name}: ${(await textOf(side, name)).slice(0, 40)}`));
    };
    const wanted = JSON.stringify(await listing(right));
    const seen = await ask(
      async () => JSON.stringify(await listing(left)),
      (text) => text === wanted,
    );
    t.equal(seen, wanted);
    await pair.unmount();
    await left.drive.check();
  });
}
