/**
 * Tests `sealdrive rejoin` as a user meets it: a store that was restored from an older copy (doc/cli.md, "check,
 * repair, salvage").
 */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { Workplace } from './command-line.js';

t.setTimeout(600_000);
const skip = existsSync('/dev/fuse') ? false : 'needs /dev/fuse';

void t.test('machines that a restored store has left behind go on with it, and bring their own work', { skip }, async (t) => {
  const place = new Workplace();
  t.teardown(() => place.remove());
  const { store, keyFile } = await place.makeVolume();
  const mountPoint = place.makeFolder('drive');
  const secret = ['--key-file', keyFile];
  const optionsOf = (machine: string): string[] => [...secret, '--state-dir', place.path(`state of ${machine}`)];
  const visit = async (machine: string, work: () => void): Promise<void> => {
    await place.succeed(['mount', store, mountPoint, ...optionsOf(machine)]);
    work();
    await place.succeed(['unmount', mountPoint]);
  };
  const write = (name: string, text: string) => (): void => writeFileSync(join(mountPoint, name), text);
  await visit('a', write('first', 'of a'));
  await visit('b', write('shared', 'of b'));
  cpSync(store, place.path('copy'), { recursive: true });
  await visit('a', write('second', 'of a'));
  await visit('b', write('third', 'of b'));
  await visit('a', write('shared', 'of a'));
  // The folder is restored; only its packs are newer.
  rmSync(join(store, 'log'), { recursive: true });
  cpSync(place.path('copy', 'log'), join(store, 'log'), { recursive: true });
  await visit('c', write('shared', 'of c'));

  const refused = await place.run(['mount', store, mountPoint, ...optionsOf('a')]);
  t.equal(refused.code, exitCodes.INTEGRITY);
  t.match(refused.stderr, /sealdrive rejoin/);
  const asked = await place.run(['rejoin', store, ...optionsOf('a')]);
  t.equal(asked.code, exitCodes.INTEGRITY);
  t.match(asked.stdout, /2 commits of this machine will be done again/);
  t.match(asked.stdout, /1 commit of .*will be given up here/);
  t.match(asked.stdout, /Nothing was changed/);
  t.equal((await place.run(['mount', store, mountPoint, ...optionsOf('a')])).code, exitCodes.INTEGRITY, 'nothing was changed');
  const done = JSON.parse(await place.succeed(['rejoin', store, ...optionsOf('a'), '--yes', '--json'])) as object;
  t.match(done, { again: 2, forgotten: 0, done: true });
  t.equal(
    (await place.run(['rejoin', store, ...optionsOf('never here')])).code,
    exitCodes.INTEGRITY,
    'a machine without a history has none to leave',
  );
  await place.succeed(['rejoin', store, ...optionsOf('b'), '--yes']);
  t.match(await place.succeed(['rejoin', store, ...optionsOf('c')]), /nothing to rejoin/);
  await visit('a', () => {});
  await visit('b', () => {});
  await visit('c', () => {
    const names = readdirSync(mountPoint);
    const texts = names.filter((name) => name.startsWith('shared')).map((name) => readFileSync(join(mountPoint, name), 'utf8'));
    t.same(texts.toSorted(), ['of a', 'of c'], 'what two machines changed is there twice');
    for (const name of ['first', 'second', 'third']) t.match(readFileSync(join(mountPoint, name), 'utf8'), /^of/);
  });
  await visit('a', () => t.equal(place.path('drive'), mountPoint));
  const checked = await place.run(['check', store, ...optionsOf('a'), '--data']);
  t.equal(checked.code, 0, checked.stdout);
});
