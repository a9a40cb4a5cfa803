/** The golden volumes are opened by this program, and by the independent reader, and hold what they always held. */
import { execFile } from 'node:child_process';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { Drive, runWithInput } from '../mount/drive-process.js';
import { sourcePath } from '../mount/posix-probe.js';
import { scratchDirectory } from '../suite/scratch.js';
import { type GoldenVolume, goldenVolumes } from './golden-volume.js';
import { runReader } from './independent-reader.js';
import { describeFolder, differences, type TreeDescription } from './tree-description.js';

t.setTimeout(0);
const run = promisify(execFile);
const program = sourcePath('bin', 'sealdrive');

/** A copy, since whoever mounts may write. */
async function copyOf(t: { teardown(fn: () => unknown): void }, volume: GoldenVolume): Promise<{ scratch: string; store: string }> {
  const scratch = await scratchDirectory(t);
  const store = join(scratch, 'store');
  await cp(volume.store, store, { recursive: true });
  return { scratch, store };
}

for (const volume of goldenVolumes()) {
  const wanted = volume.content as TreeDescription;

  t.test(`golden volume ${volume.name} mounts, holds every byte that it held, and checks clean`, async (t) => {
    const { scratch, store } = await copyOf(t, volume);
    const drive = new Drive({ scratch, store, passphrase: volume.secrets.passphrase, mountOptions: ['--read-only'] });
    t.teardown(() => drive.destroy());
    await drive.mount();
    t.same(differences(await describeFolder(drive.directory), wanted), []);
    await drive.unmount();
    await drive.check();
  });

  t.test(`golden volume ${volume.name} opens with each of its secrets, and a new device can write`, async (t) => {
    const { scratch, store } = await copyOf(t, volume);
    const environment = { ...process.env, XDG_STATE_HOME: join(scratch, 'state'), XDG_CACHE_HOME: join(scratch, 'cache') };
    const drive = new Drive({ scratch: join(scratch, 'device'), store, passphrase: volume.secrets.recoveryWords, mountOptions: ['--recovery'] });
    await mkdir(join(scratch, 'device'));
    t.teardown(() => drive.destroy());
    await drive.mount();
    await run('sh', ['-c', 'echo more >"$0/new file"', drive.directory]);
    await drive.flush();
    await drive.unmount();
    await runWithInput([program, 'check', store, '--data', '--key-file', volume.keyFile], '', environment);
  });

  t.test(`golden volume ${volume.name} is read byte for byte by the independent reader`, async (t) => {
    const scratch = await scratchDirectory(t);
    const output = join(scratch, 'out');
    const extracted = await runReader('extract', volume.store, output, '--key-file', volume.keyFile);
    t.equal(extracted.code, 0, extracted.stderr);
    t.same(differences(await describeFolder(output), wanted), []);
    const verified = await runReader('verify', volume.store, '--key-file', volume.keyFile);
    t.equal(verified.code, 0, verified.stderr);
  });
}
