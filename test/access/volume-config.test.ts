/** The file of named volumes when several processes change it at the same time. */
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { changeVolumes, readVolumes } from '../../src/access/volume-config.js';
import { Failure } from '../../src/terminal/exit-code.js';
import { scratchDirectory } from '../suite/scratch.js';

t.test('of names that are added at the same time none is lost', async (t) => {
  const folder = await scratchDirectory(t);
  process.env['XDG_CONFIG_HOME'] = folder;
  const names = Array.from({ length: 20 }, (_, index) => `volume-${index}`);
  await Promise.all(names.map((name) => changeVolumes((volumes) => ({ ...volumes, [name]: { store: '/x' } }))));
  t.strictSame(Object.keys(await readVolumes()).toSorted(), names.toSorted());
  await Promise.all(
    names.slice(1).map((gone) => changeVolumes((volumes) => Object.fromEntries(Object.entries(volumes).filter(([name]) => name !== gone)))),
  );
  t.strictSame(await readVolumes(), { 'volume-0': { store: '/x' } });
  t.strictSame(await readdir(join(folder, 'sealdrive')), ['config.json'], 'nothing else is left');
});

t.test('a change that is refused leaves the file as it is, and the next one works', async (t) => {
  const folder = await scratchDirectory(t);
  process.env['XDG_CONFIG_HOME'] = folder;
  await changeVolumes(() => ({ kept: { store: '/x' } }));
  const refused = new Failure('USAGE', 'no');
  const refuse = (): never => {
    throw refused;
  };
  t.equal(await changeVolumes(refuse).catch((error: unknown) => error), refused);
  t.strictSame(Object.keys(await readVolumes()), ['kept']);
  await changeVolumes((volumes) => ({ ...volumes, more: { store: '/y' } }));
  t.equal((await stat(join(folder, 'sealdrive', 'config.json'))).mode & 0o777, 0o600);
});

t.test('what somebody else has begun to change is left alone, and the message says what to do', async (t) => {
  const folder = join(await scratchDirectory(t), 'sealdrive');
  process.env['XDG_CONFIG_HOME'] = join(folder, '..');
  await mkdir(folder);
  await writeFile(join(folder, 'config.json.new'), 'half of it');
  const error = await changeVolumes((volumes) => volumes).catch((caught: unknown) => caught);
  t.match(error, { name: 'Failure', message: /somebody else is changing .*remove .*config\.json\.new/ });
  t.strictSame(await readdir(folder), ['config.json.new']);
});
