/**
 * Makes a golden volume: a volume with everything in it that the format has, its secrets, and what it holds, as a user
 * would make it. Golden volumes are made anew on purpose only (with an entry in the changelog), and from version 1.0 on
 * they are opened for ever. As root:
 *
 * node dist/test/golden/make-golden.js FOLDER
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { listSlots, unlock } from '../../src/access/keyslots.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { StoredLog } from '../../src/commit/stored-log.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { Drive, runWithInput } from '../mount/drive-process.js';
import { sealPayload } from '../suite/commit-author.js';
import { TestDevice } from '../suite/test-device.js';
import { contentScript, type GoldenSecrets } from './golden-volume.js';

const run = promisify(execFile);
const passphrase = 'golden passphrase';

const [target = ''] = process.argv.slice(2);
const folder = resolve(target);
const scratch = await mkdtemp(join(tmpdir(), 'sealdrive-golden-'));
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });

const store = join(scratch, 'store');
const content = async (step: string, directory: string): Promise<string> => {
  const { stdout } = await run('python3', [contentScript, step, directory], { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
};

const environment = { ...process.env, XDG_STATE_HOME: join(scratch, 'maker') };
const program = join(import.meta.dirname, '..', '..', '..', 'bin', 'sealdrive');
const made = await runWithInput([program, 'init', store, '--passphrase-fd', '0', '--json'], `${passphrase}\n`, environment);
const { recoveryWords } = JSON.parse(made) as { recoveryWords: string };
const keyFile = join(folder, 'key');
await runWithInput(
  [program, 'key', 'add', store, '--passphrase-fd', '0', '--type', 'key-file', '--new-key-file', keyFile],
  `${passphrase}\n`,
  environment,
);

/** What no user asks for: a checkpoint while the volume is small, and a commit that nobody may count. */
async function addRareCommits(): Promise<void> {
  const options = { disk: systemDisk, random: systemRandom };
  const opened = await DirectoryStore.open(store, options);
  const secret = { type: 'key-file', bytes: await readFile(keyFile) } as const;
  const { rootSecret, ownerSeed, volumeId } = await unlock(await listSlots(opened), secret, { random: systemRandom });
  if (!ownerSeed) throw new Error('the key file opens the slot of an owner');
  const stateDirectory = join(scratch, 'rare');
  await mkdir(stateDirectory, { mode: 0o700 });
  const foldBounds = { entries: 1, bytes: 1 };
  const device = await TestDevice.open(
    { store: opened, volumeId, rootSecret, ownerSeed },
    { disk: systemDisk, stateDirectory, deviceName: 'a third device', foldBounds },
  );
  await device.write('of the third device', 'written before the checkpoint');
  await device.volume.snapshots.create('golden');
  await device.volume.snapshots.changePolicy({ hourly: 0 });
  await device.write('of the third device', 'written after the snapshot');
  await device.volume.flush();
  await device.close();

  const root = new RootKeys(new Uint8Array(rootSecret), systemRandom);
  const keys = new VolumeKeys({ root, volumeId, suite: 1, random: systemRandom });
  const log = new StoredLog(opened, root);
  let sequence = 0;
  let previous: Uint8Array | undefined;
  for (let next = await log.fetch(0); next; next = await log.fetch(++sequence)) previous = next;
  if (!previous) throw new Error('the volume has a log');
  const place = { sequence: sequence as Sequence, previousHash: hashBytes(previous) };
  await log.put(sequence, sealPayload(keys, place, Buffer.from('no commit, but sealed with the key of commits')));
  await opened.close();
}

for (const step of ['first', 'second']) {
  if (step === 'second') await addRareCommits();
  const drive = new Drive({ scratch: join(scratch, step), store, passphrase });
  try {
    await mkdir(join(scratch, step));
    await drive.mount();
    await content(step, drive.directory);
    await drive.flush();
    if (step === 'second') await writeFile(join(folder, 'content.json'), await content('describe', drive.directory));
    await drive.unmount();
  } finally {
    await drive.destroy();
  }
}
await cp(store, join(folder, 'store'), { recursive: true });
const secrets: GoldenSecrets = { passphrase, recoveryWords };
await writeFile(join(folder, 'secrets.json'), `${JSON.stringify(secrets, undefined, 2)}\n`);
await rm(scratch, { recursive: true, force: true });
