/**
 * One device of a volume for tests: an open volume with a filesystem on it, addressed by path. Many can share a store;
 * each has a state directory of its own. Nothing here goes through a kernel.
 */

import { makeSlot, type NewlyMadeSlot, putSlot } from '../../src/access/keyslots.js';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import type { Random } from '../../src/base/random.js';
import type { Features } from '../../src/commit/features.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import type { Disk } from '../../src/disk/disk.js';
import { S_IFDIR, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import { createVolume } from '../../src/volume/create-volume.js';
import type { OpenVolume } from '../../src/volume/open-volume.js';
import { openVolume } from '../../src/volume/volume-opening.js';
import type { OpenOptions } from '../../src/volume/volume-parts.js';
import { testProgram } from './test-program.js';

export interface TestVolume {
  readonly store: ObjectStore;
  readonly volumeId: Uint8Array;
  readonly rootSecret: Uint8Array;
  readonly ownerSeed: Uint8Array;
}

/** `keyFile`: opens its one keyslot; without it, there is none. */
export async function createTestVolume(
  store: ObjectStore,
  options: {
    readonly random?: Random;
    readonly clock?: Clock;
    readonly chunkSize?: number;
    readonly keyFile?: Uint8Array;
    readonly features?: Features;
  } = {},
): Promise<TestVolume> {
  const { random = systemRandom, clock = systemClock, chunkSize, keyFile, features } = options;
  const rootSecret = random.bytes(32);
  const ownerSeed = random.bytes(32);
  const slots: NewlyMadeSlot[] = [];
  const { volumeId } = await createVolume({
    store,
    rootSecret,
    ownerSeed,
    random,
    clock,
    program: testProgram,
    ...(chunkSize === undefined ? {} : { chunkSize }),
    ...(features ? { features } : {}),
    makeSlots: async (id) => {
      const maker = { volumeId: id, generation: 1, since: 0, rootSecret, ownerSeed };
      if (keyFile) slots.push(await makeSlot(maker, { type: 'key-file', bytes: keyFile }, '', systemRandom));
      return slots.map(({ header }) => header);
    },
  });
  for (const slot of slots) await putSlot(store, slot);
  return { store, volumeId, rootSecret, ownerSeed };
}

export type DeviceOptions = Partial<OpenOptions> & { readonly disk: Disk; readonly stateDirectory: string };

/** A path without a leading slash; the empty path is the root. */
export type TestPath = string;

/** A tree as data: path to content, link target (`-> x`) or `dir`. */
export type TreePicture = Record<string, string>;

const never = new AbortController().signal;
const caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, umask: 0o022, signal: never };

export class TestDevice {
  readonly volume: OpenVolume;
  readonly filesystem: Filesystem;

  constructor(volume: OpenVolume) {
    this.volume = volume;
    this.filesystem = new Filesystem(volume, { accessTimes: { policy: 'noatime' } });
  }

  /** `commitDelayMs` is an hour unless given: tests say when to commit. No time of grace. */
  static async open(volume: TestVolume, options: DeviceOptions): Promise<TestDevice> {
    const hourMs = 3_600_000;
    const opened = await openVolume({
      random: systemRandom,
      clock: systemClock,
      logger: silentLogger,
      readOnly: false,
      deviceName: 'device',
      commitDelayMs: hourMs,
      pollIntervalMs: hourMs,
      graceMs: 0,
      store: volume.store,
      volumeId: volume.volumeId,
      ownerSeed: volume.ownerSeed,
      program: testProgram,
      ...options,
      rootSecret: new Uint8Array(volume.rootSecret),
    });
    const device = new TestDevice(opened);
    if (!opened.readOnly) await device.filesystem.start();
    return device;
  }

  async ino(path: TestPath): Promise<Ino> {
    let at = rootIno;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const found = await this.filesystem.lookup(at, name);
      if (!found) throw new Error(`no such path: ${path}`);
      at = found.ino;
    }
    return at;
  }

  async exists(path: TestPath): Promise<boolean> {
    return this.ino(path).then(
      () => true,
      () => false,
    );
  }

  async mkdir(path: TestPath): Promise<void> {
    const [parent, name] = await this.#split(path);
    await this.filesystem.mkdir(caller, parent, name, S_IFDIR | 0o755);
  }

  /**
   * Creates the file if necessary and writes at `offset`. Like close(2), the write survives the daemon's death once it
   * returns.
   */
  async write(path: TestPath, content: string | Uint8Array, offset = 0): Promise<void> {
    const [parent, name] = await this.#split(path);
    const found = await this.filesystem.lookup(parent, name);
    const { ino } = found ?? (await this.filesystem.mknod(caller, parent, name, S_IFREG | 0o644, 0));
    await this.filesystem.writeRoom();
    await this.filesystem.write(caller, ino, offset, Buffer.from(content), false);
    await this.filesystem.persist(ino);
  }

  async read(path: TestPath): Promise<Buffer> {
    const ino = await this.ino(path);
    const { size } = await this.filesystem.getattr(ino);
    const parts: Uint8Array[] = [];
    for (let offset = 0; offset < size; offset += 1024 * 1024) {
      parts.push(...(await this.filesystem.read(caller, ino, offset, Math.min(1024 * 1024, size - offset))).map((part) => Buffer.from(part)));
    }
    return Buffer.concat(parts);
  }

  async text(path: TestPath): Promise<string> {
    return (await this.read(path)).toString('utf8');
  }

  /** Makes a file that shares the content of another one. */
  async clone(from: TestPath, to: TestPath): Promise<void> {
    const source = await this.ino(from);
    const [parent, name] = await this.#split(to);
    const { ino } = await this.filesystem.mknod(caller, parent, name, S_IFREG | 0o644, 0);
    const { size } = await this.filesystem.getattr(source);
    await this.filesystem.copyRange(caller, source, 0, ino, 0, size);
    await this.filesystem.persist(ino);
  }

  async truncate(path: TestPath, size: number): Promise<void> {
    await this.filesystem.setattr(await this.ino(path), { size });
  }

  async unlink(path: TestPath): Promise<void> {
    const [parent, name] = await this.#split(path);
    const { ino } = await this.filesystem.unlink(parent, name);
    this.filesystem.forget(ino);
  }

  async rename(from: TestPath, to: TestPath): Promise<void> {
    const [parent, name] = await this.#split(from);
    const [newParent, newName] = await this.#split(to);
    await this.filesystem.rename(parent, name, newParent, newName, 0);
  }

  async list(path: TestPath = ''): Promise<string[]> {
    const ino = await this.ino(path);
    const names: string[] = [];
    let cookie = 0;
    for (let more = true; more; ) {
      more = false;
      await this.filesystem.readdir(ino, cookie, false, (entry) => {
        more = true;
        cookie = entry.cookie;
        if (entry.name !== '.' && entry.name !== '..') names.push(entry.name);
        return true;
      });
    }
    return names;
  }

  /** The whole tree below `path`. */
  async picture(path: TestPath = ''): Promise<TreePicture> {
    const picture: TreePicture = {};
    for (const name of await this.list(path)) {
      const child = path === '' ? name : `${path}/${name}`;
      const { mode } = await this.filesystem.getattr(await this.ino(child));
      if ((mode & S_IFMT) === S_IFDIR) {
        picture[child] = 'dir';
        Object.assign(picture, await this.picture(child));
      } else if ((mode & S_IFMT) === S_IFREG) picture[child] = (await this.read(child)).toString('latin1');
      else picture[child] = `-> ${await this.filesystem.readlink(await this.ino(child))}`;
    }
    return picture;
  }

  async close(): Promise<void> {
    await this.volume.close();
  }

  async #split(path: TestPath): Promise<[parent: Ino, name: string]> {
    const slash = path.lastIndexOf('/');
    return [await this.ino(path.slice(0, Math.max(0, slash))), path.slice(slash + 1)];
  }
}
