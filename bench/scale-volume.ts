/**
 * Fills a volume with many small files without a kernel: it runs the operations of the filesystem directly on an open
 * volume, so that bench/scale.ts gets a large one in minutes. The tree is that of scale-work.ts.
 *
 *   node dist/bench/scale-volume.js STORE KEYFILE STATE COUNT tree|flat
 */
import { mkdirSync } from 'node:fs';
import { openVolumeStore } from '../src/access/volume-store.js';
import { systemClock } from '../src/base/clock.js';
import { createLogger } from '../src/base/logger.js';
import { systemRandom } from '../src/crypto/system-random.js';
import { systemDisk } from '../src/disk/system-disk.js';
import { S_IFDIR, S_IFREG } from '../src/meta/inode.js';
import { type Ino, rootIno } from '../src/meta/key.js';
import { unlockVolume } from '../src/program/unlock-volume.js';
import { openVolume } from '../src/volume/volume-opening.js';

const [location = '', keyFile = '', stateDirectory = '', countText = '0', shape = 'tree'] = process.argv.slice(2);
const count = Number(countText);
const filesPerDirectory = 1000;
const directoriesPerGroup = 50;
const reportEvery = 100_000;
const content = Buffer.from('a few words, as many small files hold them');

const store = await openVolumeStore(location);
const { unlocked } = await unlockVolume(store, { store: location, keyFile, passphraseFd: undefined, recovery: undefined });
mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
const volume = await openVolume({
  store,
  disk: systemDisk,
  random: systemRandom,
  clock: systemClock,
  logger: createLogger((line) => process.stderr.write(line), 'warn'),
  stateDirectory,
  volumeId: unlocked.volumeId,
  rootSecret: unlocked.rootSecret,
  ownerSeed: unlocked.ownerSeed,
  program: [0, 0, 0],
  readOnly: false,
  deviceName: 'generator',
});

async function make(parent: Ino, name: string, mode: number): Promise<Ino> {
  const ino = volume.allocateIno();
  await volume.apply({
    type: 'create',
    parent,
    name: name,
    ino,
    mode,
    uid: 0,
    gid: 0,
    rdev: 0,
    target: undefined,
    xattrs: [],
    time: volume.now(),
  });
  return ino;
}

const top = await make(rootIno, shape, S_IFDIR | 0o755);
let [group, folder] = [top, top];
let reportedMs = performance.now();
for (let index = 0; index < count; index++) {
  if (shape === 'tree') {
    const number = index / filesPerDirectory;
    if (index % (filesPerDirectory * directoriesPerGroup) === 0) group = await make(top, `group ${number / directoriesPerGroup}`, S_IFDIR | 0o755);
    if (index % filesPerDirectory === 0) folder = await make(group, `folder ${number}`, S_IFDIR | 0o755);
  }
  const ino = await make(folder, shape === 'tree' ? `document-${index}.txt` : `entry-${index}`, S_IFREG | 0o644);
  await volume.writeContent(ino, 0, content, volume.now());
  await volume.persistContent(ino);
  // Yields, since requests of the kernel come in turns of the event loop.
  if (index % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  if ((index + 1) % reportEvery === 0) {
    const now = performance.now();
    const { rss } = process.memoryUsage();
    process.stdout.write(`${JSON.stringify({ made: index + 1, perSecond: Math.round((reportEvery * 1000) / (now - reportedMs)), resident: rss })}\n`);
    reportedMs = now;
  }
}
await volume.flush();
await volume.close();
await store.close();
