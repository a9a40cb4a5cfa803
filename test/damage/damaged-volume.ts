/**
 * A small volume with everything that can be damaged, and the ways to damage it: two checkpoints whose trees have
 * branches, commits after them, packs with content, a store whose objects can be replaced, and commits that a malicious
 * device wrote on purpose.
 */

import type { Sealed } from '../../src/base/brand.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { type BareVolume, openBareVolume } from '../../src/check/bare-volume.js';
import type { CheckOptions, CheckReport, Examination } from '../../src/check/check-volume.js';
import { checkVolume } from '../../src/check/check-volume.js';
import type { FindingCode } from '../../src/check/finding.js';
import { Findings } from '../../src/check/finding.js';
import type { Commit, Mutation } from '../../src/commit/commit.js';
import { CommitLog } from '../../src/commit/commit-log.js';
import type { Genesis } from '../../src/commit/genesis.js';
import { logKey } from '../../src/commit/log-name.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import type { VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { encodeDirent, encodeNumbered } from '../../src/meta/dirent.js';
import type { Inode } from '../../src/meta/inode.js';
import { encodeInode, S_IFREG } from '../../src/meta/inode.js';
import type { Ino } from '../../src/meta/key.js';
import { direntKey, inodeKey, numberedKey, rootIno } from '../../src/meta/key.js';
import { requireInode } from '../../src/operation/inode-view.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectKey } from '../../src/store/object-store.js';
import { exportStore } from '../suite/export-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import type { TestVolume } from '../suite/test-device.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';

type Teardown = Parameters<typeof scratchDirectory>[0];

export const mebibyte = 1024 * 1024;

/** Incompressible, and the same in every run. */
export function content(seed: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = seed * 2654435761 + 1;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** The secret that opens the one keyslot. */
export const keyFile = content(1, 64);

/** Both keys of an entry. */
export function entry(parent: Ino, name: string, ino: Ino, type: number, number: number = ino): Mutation[] {
  const dirent = { name, ino, type, number };
  return [
    [direntKey(parent, name), encodeDirent(dirent)],
    [numberedKey(parent, number), encodeNumbered(dirent)],
  ];
}

/** The deletion of both keys of an entry that has the number of its inode. */
export function noEntry(parent: Ino, name: string, ino: Ino): Mutation[] {
  return [
    [direntKey(parent, name), null],
    [numberedKey(parent, ino), null],
  ];
}

export class DamagedVolume {
  readonly t: Teardown;
  readonly store: MemoryStore;
  readonly volume: TestVolume;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  /** Number of the commit after the checkpoint, and of the newest one. */
  newest = 0;

  private constructor(t: Teardown, store: MemoryStore, volume: TestVolume, { keys, genesis }: BareVolume) {
    this.t = t;
    this.store = store;
    this.volume = volume;
    this.keys = keys;
    this.genesis = genesis;
  }

  /** `files`: how many small files lie in `many/`: from about 300 on the tree has a branch. */
  static async make(t: Teardown, options: { readonly files?: number } = {}): Promise<DamagedVolume> {
    const { files = 400 } = options;
    const store = new MemoryStore({ disk: systemDisk });
    const volume = await createTestVolume(store, { keyFile });
    const bare = await openBareVolume({ ...volume, random: systemRandom, findings: new Findings(1) });
    if (!bare) throw new Error('the volume that was just made does not open');
    const made = new DamagedVolume(t, store, volume, bare);
    const device = await made.device({ foldBounds: { entries: 100, bytes: 1 << 30 } });
    await device.mkdir('many');
    for (let index = 0; index < files; index++) await device.write(`many/file-${index}`, `text number ${index} `.repeat(8));
    await device.volume.flush();
    await device.mkdir('deep');
    await device.mkdir('deep/deeper');
    await device.write('deep/large', content(2, 3 * mebibyte));
    await device.write('deep/deeper/medium', content(3, 100_000));
    for (let index = 0; index < 110; index++) await device.write(`deep/small-${index}`, `more ${index}`);
    await device.volume.flush();
    await device.write('late', content(4, 50_000));
    await device.volume.flush();
    await device.rename('late', 'later');
    await device.volume.flush();
    await device.close();
    made.newest = await made.newestSequence();
    return made;
  }

  async device(options: Partial<Parameters<typeof TestDevice.open>[1]> = {}): Promise<TestDevice> {
    return TestDevice.open(this.volume, { disk: systemDisk, stateDirectory: await scratchDirectory(this.t), ...options });
  }

  async newestSequence(): Promise<number> {
    let sequence = 0;
    while ((await this.store.head(this.commitKey(sequence + 1))) !== undefined) sequence++;
    return sequence;
  }

  commitKey(sequence: number): ObjectKey {
    return logKey(this.keys.root, sequence);
  }

  async keysBelow(prefix: string): Promise<ObjectKey[]> {
    const keys: ObjectKey[] = [];
    for await (const { key } of this.store.list(prefix)) keys.push(key);
    return keys;
  }

  check(options: Partial<CheckOptions> = {}): Promise<Examination> {
    return checkVolume({ ...this.volume, random: systemRandom, data: true, names: false, ...options });
  }

  /** Replaces an object by the result of `change`. */
  async change(key: ObjectKey, change: (bytes: Uint8Array) => Uint8Array): Promise<void> {
    const bytes = await this.store.get(key);
    if (!bytes) throw new Error(`there is no ${key}`);
    await this.store.delete([key]);
    await this.store.put(key, change(new Uint8Array(bytes)) as Sealed);
  }

  /** Flips one bit, counted from the end when negative. */
  flip(key: ObjectKey, at: number): Promise<void> {
    return this.change(key, (bytes) => {
      bytes[at < 0 ? bytes.byteLength + at : at]! ^= 1;
      return bytes;
    });
  }

  truncate(key: ObjectKey, size: number): Promise<void> {
    return this.change(key, (bytes) => bytes.slice(0, size));
  }

  async remove(key: ObjectKey): Promise<void> {
    await this.store.delete([key]);
  }

  async swap(a: ObjectKey, b: ObjectKey): Promise<void> {
    const [first, second] = [await this.store.get(a), await this.store.get(b)];
    if (!first || !second) throw new Error('there is nothing to swap');
    await this.change(a, () => second);
    await this.change(b, () => first);
  }

  /** A commit with mutations that come from no operation. */
  async commit(mutations: readonly Mutation[], deltas: { readonly filesDelta?: number; readonly bytesDelta?: number } = {}): Promise<Commit> {
    const log = await CommitLog.open({
      store: this.store,
      keys: this.keys,
      genesis: this.genesis,
      ownerSeed: this.volume.ownerSeed,
      program: testProgram,
      disk: systemDisk,
      stateDirectory: await scratchDirectory(this.t),
      clock: systemClock,
      logger: silentLogger,
      deviceName: 'mischief',
      readOnly: false,
      random: systemRandom,
    });
    const sorted = mutations.toSorted(([a], [b]) => (a < b ? -1 : 1));
    const counters = { wallTimeMs: 0, nextInoCounter: 0, operationSerial: 0, packs: [], checkpoint: undefined };
    const commit = await log.put({ ...counters, filesDelta: 0, bytesDelta: 0, ...deltas, mutations: sorted });
    await log.close();
    if (commit === 'lost') throw new Error('somebody else writes to this volume');
    this.newest = commit.sequence;
    return commit;
  }

  /** Copies all objects into a directory store at `folder`, which must not exist, for the command line. */
  exportTo(folder: string): Promise<void> {
    return exportStore(this.store, folder);
  }

  /** The inode of a path in the tree. */
  async inode(path: string): Promise<{ readonly ino: Ino; readonly inode: Inode }> {
    const device = await this.device({ readOnly: true });
    try {
      const ino = await device.ino(path);
      return { ino, inode: await device.volume.read((view) => requireInode(view, ino)) };
    } finally {
      await device.close();
    }
  }

  async changeInode(path: string, change: Partial<Inode>): Promise<Ino> {
    const { ino, inode } = await this.inode(path);
    await this.commit([[inodeKey(ino), encodeInode({ ...inode, ...change })]]);
    return ino;
  }
}

/** `many/file-0` and `many/file-1` stand at each other's places in the listing. */
export async function swappedNumbers(volume: DamagedVolume): Promise<Mutation[]> {
  const [many, { ino: first }, { ino: second }] = [await volume.inode('many'), await volume.inode('many/file-0'), await volume.inode('many/file-1')];
  const listed = (number: Ino, name: string, ino: Ino): Mutation => [
    numberedKey(many.ino, number),
    encodeNumbered({ number, name, ino, type: S_IFREG }),
  ];
  return [listed(first, 'file-1', second), listed(second, 'file-0', first)];
}

/** The entry of `later`, in the root, gets the number of the entry at `path`. */
export async function sameNumber(volume: DamagedVolume, path: string): Promise<Mutation[]> {
  const [{ ino }, there] = [await volume.inode('later'), await volume.inode(path)];
  const [named, numbered] = entry(rootIno, 'later', ino, S_IFREG, there.ino) as [Mutation, Mutation];
  const isBeside = !path.includes('/');
  return [named, ...(isBeside ? [] : [numbered]), [numberedKey(rootIno, ino), null]];
}

/** Codes that are worse than a note, sorted, each once. */
export function codesOf({ findings }: CheckReport): FindingCode[] {
  return [...new Set(findings.filter(({ severity }) => severity !== 'note').map(({ code }) => code))].toSorted();
}
