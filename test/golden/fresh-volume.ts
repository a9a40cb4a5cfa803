/** A volume in a folder that the drive's own code has just made, with all that the format has, and what it holds. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeSlot, putSlot } from '../../src/access/keyslots.js';
import { noFeatures, workFeatures } from '../../src/commit/features.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { StoredLog } from '../../src/commit/stored-log.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import type { SeededRandom } from '../model/seeded-random.js';
import { sealPayload } from '../suite/commit-author.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';
import { RandomWork } from './random-work.js';
import { describeDevice, type TreeDescription } from './tree-description.js';

type Teardown = Parameters<typeof scratchDirectory>[0];

export interface FreshVolume {
  readonly folder: string;
  readonly keyFile: string;
  readonly content: TreeDescription;
  /** What it held some time before, and the number of the newest commit then. */
  readonly earlier: { readonly head: number; readonly content: TreeDescription };
}

interface Shape {
  readonly rounds: number;
  readonly steps: number;
}

/**
 * Two devices work at the same time, in `rounds` of `steps`; checkpoints and commits that nobody may count lie between.
 */
export async function makeFreshVolume(t: Teardown, random: SeededRandom, { rounds, steps }: Shape): Promise<FreshVolume> {
  const scratch = await scratchDirectory(t);
  const folder = join(scratch, 'store');
  const store = await DirectoryStore.create(folder, { disk: systemDisk, random: systemRandom });
  const keyFile = join(scratch, 'key');
  const secret = systemRandom.bytes(64);
  await writeFile(keyFile, secret);
  const volume = await createTestVolume(store, { keyFile: secret, features: random.pick([noFeatures, workFeatures]) });
  const open = async (deviceName: string): Promise<TestDevice> =>
    TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), deviceName, foldBounds: { entries: 60, bytes: 1 << 30 } });
  const devices = [await open('one'), await open('another')];
  let earlier: FreshVolume['earlier'] = { head: 0, content: {} };
  const look = async (): Promise<FreshVolume['earlier']> => {
    const witness = await open('witness');
    const content = await describeDevice(witness);
    await witness.close();
    return { head: (await newestCommit(volume)).sequence, content };
  };
  for (let round = 0; round < rounds; round++) {
    for (const device of devices) await new RandomWork(device, random).run(steps);
    for (const device of devices) {
      if (random.chance(0.8)) await device.volume.flush();
      if (random.chance(0.3)) await putVoidCommit(volume);
    }
    for (const device of devices) await device.volume.refresh();
    if (round === Math.floor(rounds / 2)) earlier = await look();
    if (random.chance(0.5)) await devices[0]?.volume.snapshots.create(`round ${round}`);
  }
  for (const device of devices) {
    await device.volume.flush();
    await device.close();
  }
  await putVoidCommit(volume);
  const { content } = await look();
  await store.close();
  return { folder, keyFile, content, earlier };
}

/** Puts a keyslot for a new key file into the store. */
export async function addKeyFile(volume: TestVolume, path: string): Promise<void> {
  const bytes = systemRandom.bytes(64);
  await writeFile(path, bytes);
  await putSlot(volume.store, await makeSlot({ ...volume, generation: 1, since: 0 }, { type: 'key-file', bytes }, '', systemRandom));
}

interface StoredCommit {
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

async function newestCommit({ store, rootSecret }: TestVolume): Promise<StoredCommit> {
  const log = new StoredLog(store, new RootKeys(new Uint8Array(rootSecret), systemRandom));
  let newest: StoredCommit = { sequence: -1, bytes: new Uint8Array(0) };
  for (let bytes = await log.fetch(0); bytes; bytes = await log.fetch(newest.sequence + 1)) newest = { sequence: newest.sequence + 1, bytes };
  return newest;
}

/** What somebody can put into the log who has the keys of the volume and no device. */
async function putVoidCommit(volume: TestVolume): Promise<void> {
  const root = new RootKeys(new Uint8Array(volume.rootSecret), systemRandom);
  const keys = new VolumeKeys({ root, volumeId: volume.volumeId, suite: 1, random: systemRandom });
  const { sequence, bytes } = await newestCommit(volume);
  const place = { sequence: (sequence + 1) as Sequence, previousHash: hashBytes(bytes) };
  await new StoredLog(volume.store, root).put(place.sequence, sealPayload(keys, place, Buffer.from('no commit')));
}
