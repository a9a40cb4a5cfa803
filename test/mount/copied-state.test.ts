/**
 * Two daemons on one identity, through the kernel: a state directory is copied, both are mounted at once and used at
 * once (doc/concurrency.md, "One identity, two installations"). Nobody stops, whatever either was told is done is
 * there, and applications keep their open files.
 */
import { cpSync, rmSync } from 'node:fs';
import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { ask } from './drive-pair.js';
import { Drive } from './drive-process.js';
import { Probe } from './posix-probe.js';

const why = whyNoFuse();
const rounds = Number(process.env['TEST_ROUNDS'] ?? 3);
if (why !== false) t.plan(0, why);
else {
  t.setTimeout(0);
  const scratch = await scratchDirectory(t);
  const store = join(scratch, 'store');
  const sides = ['left', 'right'].map((name) => {
    const drive = new Drive({ scratch: join(scratch, name), store, withKeyFile: true, mountOptions: ['--device-name', name] });
    t.teardown(() => drive.destroy());
    return { name, drive, at: (path: string) => join(drive.directory, path) };
  });
  const [left, right] = sides as [(typeof sides)[0], (typeof sides)[0]];
  await left.drive.init();
  await mkdir(join(scratch, 'right'), { recursive: true });
  await copyFile(join(scratch, 'left', 'key'), join(scratch, 'right', 'key'));
  const probe = await Probe.start();
  t.teardown(() => probe.close());
  const textOf = (path: string): Promise<string> =>
    probe.readFile(path).then(
      (bytes) => bytes.toString('latin1'),
      (error: Error) => error.message,
    );

  await left.drive.mount();
  await probe.writeFile(left.at('common'), 'common');
  await left.drive.unmount();

  await t.test('two daemons on a copied state directory keep everything', async (t) => {
    for (let round = 0; round < rounds; round++) {
      const say = (what: string): string => `round ${round}: ${what}`;
      const folder = `round ${round}`;
      // Work that waits in the state directory is copied with it.
      await left.drive.mount();
      await probe.ok('mkdir', left.at(folder));
      await probe.writeFile(left.at(`${folder}/waiting`), 'waits');
      await left.drive.kill();
      rmSync(join(scratch, 'right', 'state'), { recursive: true, force: true });
      cpSync(join(scratch, 'left', 'state'), join(scratch, 'right', 'state'), { recursive: true, filter: (path) => !path.endsWith('.sock') });
      await Promise.all(sides.map(({ drive }) => drive.mount()));
      const open: number[] = [];
      await Promise.all(
        sides.map(async ({ name, at }, index) => {
          const own = await Probe.start();
          await own.ok('mkdir', at(`${folder}/${name}`));
          for (let file = 0; file < 10; file++) await own.writeFile(at(`${folder}/${name}/${file}`), `${file} of ${name}`);
          await own.writeFile(at(`${folder}/large of ${name}`), Buffer.alloc(3_000_000, name));
          await own.writeFile(at(`${folder}/same`), `same name, by ${name}`);
          await own.close();
          open[index] = await probe.ok('open', at(`${folder}/open of ${name}`), 'O_RDWR|O_CREAT', 0o644);
          await probe.ok('write', open[index], Buffer.from('before, '));
        }),
      );
      await Promise.all(sides.map(({ drive }) => drive.flush()));
      const seen = async ({ at }: (typeof sides)[0]): Promise<string[]> => (await readdir(at(folder))).toSorted();
      const wanted = ['large of left', 'large of right', 'left', 'open of left', 'open of right', 'right', 'same', 'waiting'];
      for (const side of sides) {
        const names = await ask(
          () => seen(side),
          (found) => found.length > wanted.length,
        );
        t.same(
          names.filter((name) => !name.startsWith('same (conflict ')),
          wanted,
          say(`what ${side.name} shows`),
        );
        t.equal(names.length, wanted.length + 1, say('a conflict name only where both made the same'));
      }
      for (const [index, { name }] of sides.entries()) {
        await probe.ok('write', open[index]!, Buffer.from('and after'));
        t.equal((await probe.readAt(open[index]!, 100, 0)).toString(), 'before, and after', say(`the open file of ${name}`));
        await probe.ok('close', open[index]!);
      }
      await Promise.all(sides.map(({ drive }) => drive.flush()));
      for (const { at, name } of sides) {
        for (const { name: by } of sides) {
          const text = await ask(
            () => textOf(at(`${folder}/open of ${by}`)),
            (found) => found === 'before, and after',
          );
          t.equal(text, 'before, and after', say(`${name} shows what ${by} wrote into its open file`));
          for (let file = 0; file < 10; file++) t.equal(await textOf(at(`${folder}/${by}/${file}`)), `${file} of ${by}`);
          t.ok((await textOf(at(`${folder}/large of ${by}`))) === Buffer.alloc(3_000_000, by).toString('latin1'), say(`the large file of ${by}`));
        }
        t.equal(await textOf(at(`${folder}/waiting`)), 'waits');
        const same = await Promise.all(
          (await readdir(at(folder))).filter((one) => one.startsWith('same')).map((one) => textOf(at(`${folder}/${one}`))),
        );
        t.same(same.toSorted(), ['same name, by left', 'same name, by right'], say('both of the same name'));
      }
      await Promise.all(sides.map(({ drive }) => drive.unmount()));
    }
    await left.drive.check();
  });

  await t.test('the log says that a new identity was taken, and nothing worse', async (t) => {
    const warnings = [...(await left.drive.warnings()), ...(await right.drive.warnings())];
    const renewals = warnings.filter((line) => line.includes('another installation has the identity of this one'));
    t.ok(renewals.length >= 1, 'the last copy of the state directory says so');
    t.same(
      warnings.filter((line) => line.includes('"level":"error"')),
      [],
    );
  });
}
