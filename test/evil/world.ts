/**
 * A volume with a history, to be attacked: a few devices wrote it in several steps, and for each step it is known what
 * a device may read and what the store held. It is determined by the seed, except for the volume's random keys.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.js';
import type { Random } from '../../src/base/random.js';
import { openGenesis } from '../../src/commit/genesis.js';
import { logKey } from '../../src/commit/log-name.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { createVolume } from '../../src/volume/create-volume.js';
import { SeededRandom } from '../suite/seeded-random.js';
import type { DeviceOptions, TestVolume } from '../suite/test-device.js';
import { TestDevice } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';
import type { Objects } from './evil-store.js';
import { EvilStore } from './evil-store.js';
import type { Picture } from './oracle.js';

/** One moment of the history. */
export interface Moment {
  readonly objects: Objects;
  readonly picture: Picture;
  /** The state directories at that moment, by device. */
  readonly states: Readonly<Record<string, string>>;
}

export interface World {
  readonly volume: TestVolume & { readonly store: EvilStore };
  readonly keys: VolumeKeys;
  readonly moments: readonly Moment[];
  /** The newest moment. */
  readonly now: Moment;
  /** A new folder for the state of a device: empty, or a copy of `from`. */
  stateDirectory(from?: string): string;
  /** Opens the volume on `store` with a copy of the state `from` (none: a device that was never here). */
  open(store: ObjectStore, from?: string, options?: Partial<DeviceOptions>): Promise<TestDevice>;
  remove(): void;
}

export const chunkSize = 4096;

/**
 * The history: `steps` steps, by the devices `a` and `b` in turn; the last ones fold the tree, so that there are pages
 * too.
 */
export async function makeWorld(seed: number, options: { readonly steps?: number; readonly random?: Random } = {}): Promise<World> {
  const { steps = 6 } = options;
  const random = new SeededRandom(seed);
  const folder = mkdtempSync(join(tmpdir(), 'sealdrive-evil-'));
  const store = new EvilStore(systemDisk);
  const rootSecret = random.bytes(32);
  const ownerSeed = random.bytes(32);
  const { volumeId } = await createVolume({ store, rootSecret, ownerSeed, random, clock: systemClock, program: testProgram, chunkSize });
  const volume = { store, volumeId, rootSecret, ownerSeed };
  let folders = 0;
  const stateDirectory = (from?: string): string => {
    const path = join(folder, String(folders++));
    if (from === undefined) mkdirSync(path, { mode: 0o700 });
    else cpSync(from, path, { recursive: true });
    return path;
  };
  const open = (on: ObjectStore, from?: string, more: Partial<DeviceOptions> = {}): Promise<TestDevice> =>
    TestDevice.open({ ...volume, store: on }, { disk: systemDisk, stateDirectory: stateDirectory(from), deviceName: 'device', ...more });

  const states: Record<string, string> = { a: stateDirectory(), b: stateDirectory() };
  const moments: Moment[] = [];
  let picture: Record<string, string> = {};
  for (let step = 0; step < steps; step++) {
    const name = step % 2 === 0 ? 'a' : 'b';
    // Every third step folds the overlay into the tree.
    const foldBounds = step % 3 === 1 ? { entries: 1, bytes: 1 } : { entries: 1e6, bytes: 1e9 };
    const more = { disk: systemDisk, stateDirectory: states[name] ?? '', deviceName: name, foldBounds };
    const device = await TestDevice.open(volume, more);
    await device.volume.refresh();
    picture = await change(device, random, step, picture);
    await device.volume.flush();
    await device.close();
    const copies = Object.fromEntries(Object.entries(states).map(([who, path]) => [who, stateDirectory(path)]));
    moments.push({ objects: new Map(store.objects), picture: { ...picture }, states: copies });
  }
  const now = moments.at(-1);
  if (!now) throw new Error('a world has at least one moment');
  return {
    volume,
    keys: keysOf(volume),
    moments,
    now,
    stateDirectory,
    open,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** All keys of the volume, as a mounted device has them. */
function keysOf(volume: World['volume']): VolumeKeys {
  const { store, volumeId, rootSecret } = volume;
  const random = new SeededRandom(1);
  const root = new RootKeys(new Uint8Array(rootSecret), random);
  const sealed = store.objects.get(logKey(root, 0));
  if (!sealed) throw new Error('no genesis');
  const genesis = openGenesis(root, sealed, volumeId);
  return new VolumeKeys({ root, volumeId, suite: genesis.suite, random });
}

const caller = { uid: 0, gid: 0, umask: 0o022, signal: new AbortController().signal };

/** Makes changes of all kinds, and returns the resulting tree. */
async function change(device: TestDevice, random: SeededRandom, step: number, before: Picture): Promise<Record<string, string>> {
  const picture: Record<string, string> = { ...before };
  const put = async (path: string, content: Uint8Array): Promise<void> => {
    await device.write(path, content);
    picture[path] = Buffer.from(content).toString('latin1');
  };
  const folder = `folder ${step}`;
  await device.mkdir(folder);
  picture[folder] = 'dir';
  await put(`${folder}/small`, Buffer.from(`small in step ${step}`));
  await put(`${folder}/empty`, new Uint8Array(0));
  await put(`${folder}/random`, random.bytes(3000 + random.below(20_000)));
  await put(`${folder}/text`, Buffer.from(`line of step ${step}\n`.repeat(600 + random.below(1000))));
  const { ino } = await device.filesystem.symlink(caller, await device.ino(folder), 'link', `target of ${step}`);
  picture[`${folder}/link`] = `-> target of ${step}`;
  const target = await device.ino(`${folder}/small`);
  await device.filesystem.setxattr(target, 'user.note', Buffer.from(`note ${step}`), 0, false);
  picture[`${folder}/small#user.note`] = `note ${step}`;
  device.filesystem.forget(ino);
  // The same file changes in every step, so the store holds older versions of it.
  await put('always', Buffer.concat([Buffer.from(`version ${step} `), random.bytes(9000)]));
  await put('counter', Buffer.from(`version ${step}`));
  if (step > 1) {
    const old = `folder ${step - 2}`;
    await device.unlink(`${old}/text`);
    delete picture[`${old}/text`];
    await device.rename(`${old}/random`, `${folder}/moved`);
    const moved = picture[`${old}/random`];
    delete picture[`${old}/random`];
    if (moved !== undefined) picture[`${folder}/moved`] = moved;
  }
  return picture;
}
