/**
 * Going back on a mounted drive, as a user does it (doc/past.md): versions, undelete, restore and rollback, while the
 * kernel has everything cached and applications have files open.
 */
import { execFile } from 'node:child_process';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { compareTrees } from './compare-trees.js';
import { CommandError } from './drive-process.js';
import { mountedDrive } from './mounted-drive.js';

const run = promisify(execFile);
const why = whyNoFuse();

if (why !== false) t.plan(0, why);
else {
  const { drive, scratch } = await mountedDrive(t);
  const at = (...names: string[]): string => join(drive.directory, ...names);
  const asked = async (...words: string[]): Promise<Record<string, unknown>> =>
    JSON.parse(await drive.command(...words, '--json')) as Record<string, unknown>;
  /** The number of the newest commit, with everything in it. */
  const now = async (): Promise<string> => {
    await drive.flush();
    const { before } = await asked('rollback', drive.directory, '--at', '@1', '--dry-run');
    return `@${String(before)}`;
  };

  await t.test('a file is as it was, also for an application that has it open', async (t) => {
    await mkdir(at('letters'));
    await writeFile(at('letters', 'file'), 'the first version, a longer one');
    const first = await now();
    await writeFile(at('letters', 'file'), 'second');
    await drive.flush();
    const reader = await open(at('letters', 'file'));
    t.equal(await reader.readFile('utf8'), 'second', 'cached');
    const { versions } = (await asked('versions', at('letters', 'file'))) as { versions: { size: number }[] };
    t.match(
      versions.map(({ size }) => size),
      [6, 31],
    );
    t.match(await asked('restore', at('letters', 'file'), '--at', first), { restored: 1, missing: 0 });
    t.equal(await readFile(at('letters', 'file'), 'utf8'), 'the first version, a longer one');
    const seen = Buffer.alloc(100);
    const { bytesRead } = await reader.read(seen, 0, 100, 0);
    t.equal(seen.toString('utf8', 0, bytesRead), 'the first version, a longer one');
    await reader.close();
    await writeFile(at('letters', 'file'), 'now the longest version of all of them');
    await drive.command('restore', at('letters', 'file'), '--at', first);
    t.equal(await readFile(at('letters', 'file'), 'utf8'), 'the first version, a longer one', 'a shorter one, of a file that nobody has open');
    await drive.command('restore', at('letters', 'file'), '--at', '0s ago', '--to', at('copy'));
    t.equal(await readFile(at('copy'), 'utf8'), 'the first version, a longer one');
  });

  await t.test('what was removed is listed and comes back, with the folder around it', async (t) => {
    await mkdir(at('docs', 'deep'), { recursive: true });
    await writeFile(at('docs', 'deep', 'report'), 'text');
    await drive.flush();
    await rm(at('docs', 'deep', 'report'));
    await drive.flush();
    t.match(await asked('undelete', '--list', at('docs', 'deep')), { removed: [{ name: 'report', size: 4 }] });
    t.equal(await stat(at('docs', 'deep', 'report')).catch(({ code }: NodeJS.ErrnoException) => code), 'ENOENT', 'its absence is cached');
    await drive.command('undelete', at('docs', 'deep', 'report'));
    t.equal(await readFile(at('docs', 'deep', 'report'), 'utf8'), 'text');
    await drive.flush();
    await rm(at('docs'), { recursive: true });
    await drive.flush();
    await drive.command('undelete', at('docs', 'deep', 'report'));
    t.equal(await readFile(at('docs', 'deep', 'report'), 'utf8'), 'text');
    await t.rejects(drive.command('undelete', at('docs', 'never')), CommandError);
  });

  await t.test('a rollback undoes everything, and can be undone', async (t) => {
    await mkdir(at('work'));
    await run(
      'sh',
      ['-ec', 'for i in $(seq 200); do echo $i >$i; done; mkdir sub; head -c 3000000 /dev/urandom >sub/large; ln 1 link; ln -s 2 soft'],
      { cwd: at('work') },
    );
    await run('cp', ['-a', at('work'), join(scratch, 'good')]);
    const good = await now();
    await run('sh', ['-ec', 'for i in $(seq 200); do echo encrypted >$i; mv $i $i.locked; done; rm -r sub link; echo pay >README'], {
      cwd: at('work'),
    });
    await run('cp', ['-a', at('work'), join(scratch, 'bad')]);
    const planned = await asked('rollback', at('work'), '--at', good, '--dry-run');
    t.match(planned, { isDryRun: true, missing: 0 });
    t.same((await compareTrees(join(scratch, 'bad'), at('work'))).differences, [], 'a dry run changes nothing');
    await t.rejects(drive.command('rollback', at('work'), '--at', good), /--yes/, 'nobody was asked');
    const { before } = await asked('rollback', at('work'), '--at', good, '--yes');
    t.same((await compareTrees(join(scratch, 'good'), at('work'))).differences, []);
    await drive.flush();
    await drive.command('rollback', at('work'), '--at', `@${String(before)}`, '--yes');
    t.same((await compareTrees(join(scratch, 'bad'), at('work'))).differences, []);
    t.ok((await readdir(drive.directory)).includes('docs'), 'what is beside the folder stays');
  });

  await t.test('a moved file goes back to its place', async (t) => {
    await writeFile(at('here'), 'content');
    const before = await now();
    await rename(at('here'), at('there'));
    await drive.command('rollback', drive.directory, '--at', before, '--yes');
    t.equal(await readFile(at('here'), 'utf8'), 'content');
    t.notOk((await readdir(drive.directory)).includes('there'));
  });

  await t.test('conflict copies are listed, kept and dropped', async (t) => {
    await writeFile(at('notes.txt'), 'mine');
    await writeFile(at('notes (conflict laptop 2026-08-22).txt'), 'theirs');
    await writeFile(at('notes (conflict laptop 2026-08-22 2).txt'), 'older');
    t.match(await asked('conflicts', 'list', drive.directory), { conflicts: [{ device: 'laptop', date: '2026-08-22' }, { device: 'laptop' }] });
    await drive.command('conflicts', 'drop', at('notes (conflict laptop 2026-08-22 2).txt'));
    await drive.command('conflicts', 'keep', at('notes (conflict laptop 2026-08-22).txt'));
    t.equal(await readFile(at('notes.txt'), 'utf8'), 'theirs');
    t.match(await asked('conflicts', 'list', drive.directory), { conflicts: [] });
    await t.rejects(drive.command('conflicts', 'drop', at('notes.txt')), /conflict copy/);
  });

  await t.test('after all of that the volume is sound', async () => {
    await drive.unmount();
    await drive.check();
  });
}
