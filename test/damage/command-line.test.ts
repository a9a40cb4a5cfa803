/** `check`, `repair` and `salvage` as a person runs them: exit codes, what is printed, and what is not touched. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ensurePrivateDirectory, stateDirectoryOf } from '../../src/access/state-directory.js';
import { toHex } from '../../src/base/bytes.js';
import { rootIno } from '../../src/meta/key.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { fingerprint, Workplace } from '../cli/command-line.js';
import { content, DamagedVolume, keyFile, noEntry } from './damaged-volume.js';

t.setTimeout(900_000);
const place = new Workplace();
t.teardown(() => place.remove());
const key = place.path('key');
writeFileSync(key, keyFile, { mode: 0o600 });

/** A store on disk with the volume, and the arguments that name it. */
async function exported(volume: DamagedVolume, name: string): Promise<string[]> {
  const store = place.path(name);
  await volume.exportTo(store);
  return [store, '--key-file', key];
}

t.test('check of a healthy volume exits with 0 and writes nothing', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const words = await exported(volume, 'healthy');
  const before = fingerprint(words[0]!);
  t.match(await place.succeed(['check', ...words, '--data']), /Nothing is wrong\./);
  const report = JSON.parse(await place.succeed(['check', ...words, '--json'])) as { readonly examined: { readonly sequence: number } };
  t.equal(report.examined.sequence, volume.newest);
  t.match(await place.succeed(['repair', ...words]), /nothing to mend/);
  t.equal(fingerprint(words[0]!), before);
});

t.test('check exits with 13 for flaws, repair shows a plan, and repair --yes mends them', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.changeInode('deep/deeper/medium', { nlink: 5 });
  const words = await exported(volume, 'flawed');
  const checked = await place.run(['check', ...words]);
  t.equal(checked.code, exitCodes.FLAWED);
  t.match(checked.stdout, /LINK_COUNT.*5 instead of 1/);
  t.notMatch(checked.stdout, /medium/);
  t.match((await place.run(['check', ...words, '--names'])).stdout, /\/deep\/deeper\/medium/);
  const before = fingerprint(words[0]!);
  const shown = await place.run(['repair', ...words]);
  t.equal(shown.code, exitCodes.FLAWED);
  t.match(shown.stdout, /Nothing was changed/);
  t.equal(fingerprint(words[0]!), before);
  const done = await place.succeed(['repair', ...words, '--yes']);
  t.match(done, new RegExp(`salvage STORE DIRECTORY --at \\d+`));
  await place.succeed(['check', ...words]);
  await place.succeed(['repair', ...words, '--yes', '--json']);
});

t.test('check exits with 8 for a file without a name until it is repaired', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.commit(noEntry(rootIno, 'later', (await volume.inode('later')).ino));
  const words = await exported(volume, 'nameless');
  t.equal((await place.run(['check', ...words])).code, exitCodes.INTEGRITY);
  await place.succeed(['repair', ...words, '--yes']);
  await place.succeed(['check', ...words]);
});

t.test('check exits with 14 for a broken head, repair refuses it, and salvage saves the files', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  await volume.truncate(volume.commitKey(volume.newest), 50);
  const words = await exported(volume, 'headless');
  t.equal((await place.run(['check', ...words])).code, exitCodes.UNREADABLE);
  const repair = await place.run(['repair', ...words, '--yes']);
  t.equal(repair.code, exitCodes.UNREADABLE);
  t.match(repair.stderr, /salvage/);
  const saved = place.path('saved');
  const salvage = await place.run(['salvage', words[0]!, saved, '--key-file', key]);
  t.equal(salvage.code, exitCodes.INTEGRITY);
  t.ok(readFileSync(join(saved, 'tree/deep/large')).equals(content(2, 3 * 1024 * 1024)));
  const report = JSON.parse(readFileSync(join(saved, 'report.json'), 'utf8')) as { readonly lostCommits: number[] };
  t.strictSame(report.lostCommits, [volume.newest]);
});

t.test('salvage of a whole volume exits with 0, at any commit, and only into an empty directory', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const words = await exported(volume, 'whole');
  const folder = place.path('whole-saved');
  await place.succeed(['salvage', words[0]!, folder, '--key-file', key, '--at', String(volume.newest - 1)]);
  t.ok(existsSync(join(folder, 'tree/late')));
  const again = await place.run(['salvage', words[0]!, folder, '--key-file', key]);
  t.equal(again.code, exitCodes.USAGE);
  const inside = await place.run(['salvage', words[0]!, join(words[0]!, 'inside'), '--key-file', key]);
  t.equal(inside.code, exitCodes.USAGE);
});

/** A device of this volume with a history, whose state directory the command finds with `--state-dir`. */
async function knowingDevice(volume: DamagedVolume, base: string): Promise<void> {
  const stateDirectory = stateDirectoryOf(toHex(volume.volume.volumeId), base);
  await ensurePrivateDirectory(stateDirectory);
  await (await volume.device({ stateDirectory })).close();
  volume.newest = await volume.newestSequence();
}

t.test('check exits with 8 for a rolled-back store, and repair --yes restores what this device has seen', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const base = place.path('knowing');
  await knowingDevice(volume, base);
  const words = [...(await exported(volume, 'rolled-back')), '--state-dir', base];
  const whole = fingerprint(words[0]!);
  const { newest } = volume;
  for (const sequence of [newest - 1, newest]) rmSync(join(words[0]!, volume.commitKey(sequence)));
  const before = fingerprint(words[0]!);
  t.match((await place.run(['check', ...words])).stdout, /LOG_ROLLED_BACK/);
  const shown = await place.run(['repair', ...words]);
  t.equal(shown.code, exitCodes.INTEGRITY);
  t.match(shown.stdout, new RegExp(`LOG_ROLLED_BACK: this device has seen commit ${newest}, the store ends at ${newest - 2}`));
  t.match(shown.stdout, /Nothing was changed\. To put them back: sealdrive repair --yes/);
  const { log } = JSON.parse((await place.run(['repair', ...words, '--json'])).stdout) as { readonly log: object };
  t.match(log, { seen: newest, newest: newest - 2, restorable: [newest - 1, newest], lost: [], damaged: [], restored: 0 });
  t.equal(fingerprint(words[0]!), before);
  const done = await place.run(['repair', ...words, '--yes']);
  t.equal(done.code, 0, done.stderr);
  t.match(done.stdout, /Put 2 objects back into the log\.\n.*nothing to mend/s);
  t.equal(fingerprint(words[0]!), whole);
  await place.succeed(['check', ...words]);
});

t.test('mount exits with 8 for a gap in the log before it puts anything, and a device with the commits fills it', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const base = place.path('filling');
  await knowingDevice(volume, base);
  const words = await exported(volume, 'hole');
  const whole = fingerprint(join(words[0]!, 'log'));
  const mountPoint = place.makeFolder('hole-mnt');
  for (const missing of [1, 2, volume.newest - 2, volume.newest - 1]) {
    const object = join(words[0]!, volume.commitKey(missing));
    const bytes = readFileSync(object);
    rmSync(object);
    const before = fingerprint(join(words[0]!, 'log'));
    for (const [device, options] of [
      ['a new one', ['--state-dir', place.path(`new-${missing}`)]],
      ['one that knows it', ['--state-dir', base]],
    ] as const) {
      for (const mode of [[], ['--read-only']]) {
        const mount = await place.run(['mount', words[0]!, mountPoint, ...words.slice(1), ...options, ...mode]);
        t.equal(mount.code, exitCodes.INTEGRITY, `${device}, without ${missing} ${mode.join('')}: ${mount.stderr}`);
        t.match(mount.stderr, new RegExp(`commit ${missing} is missing .*sealdrive repair`));
      }
    }
    t.equal(fingerprint(join(words[0]!, 'log')), before, 'nothing was put');
    t.match((await place.run(['check', ...words])).stdout, new RegExp(`COMMIT_MISSING: commit ${missing} `));
    const repair = await place.run(['repair', ...words, '--state-dir', base, '--yes']);
    if (repair.code === 0) t.match(repair.stdout, /Put 1 object back/);
    else {
      t.equal(repair.code, exitCodes.INTEGRITY);
      t.match(repair.stdout, /this device has no copy/);
      writeFileSync(object, bytes, { mode: 0o600 });
    }
    t.equal(fingerprint(join(words[0]!, 'log')), whole);
  }
});

t.test('repair exits with 8 and restores nothing where another device continued from the old state', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const base = place.path('forked-state');
  await knowingDevice(volume, base);
  await volume.remove(volume.commitKey(volume.newest));
  await volume.commit([], {});
  const words = [...(await exported(volume, 'forked')), '--state-dir', base];
  const before = fingerprint(words[0]!);
  const repair = await place.run(['repair', ...words, '--yes']);
  t.equal(repair.code, exitCodes.INTEGRITY);
  t.match(repair.stderr, /another device has put a commit .*nothing is put back/);
  t.equal(fingerprint(words[0]!), before);
});
