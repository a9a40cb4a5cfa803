/**
 * Work on a volume that is cut off at a chosen point, and the verdict on what is found afterwards (doc/architecture.md, "What survives
 * what"). The local disk is simulated, and so is the moment of death; volume, filesystem and store are the real ones.
 *
 * A workload is a sequence of actions, each of them of atoms: what one system call does, wholly or not at all. It is run once to the end,
 * which gives a picture of the tree after each atom; then again and again, cut off at every disk operation and every put.
 */
import { createHash } from 'node:crypto';
import { describeError, silentLog } from '../../src/base/log.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { StoreError } from '../../src/store/object-store.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { VfsError } from '../../src/vfs/vfs-error.js';
import type { OpenOptions } from '../../src/volume/open-volume.js';
import { OperationError } from '../../src/volume/operation.js';
import { VolumeError } from '../../src/volume/volume.js';
import { SeededRandom } from './seeded-random.js';
import { type CrashKind, SimulatedCrashError, SimulatedDisk } from './simulated-disk.js';
import { TestDevice, type TestVolume, createTestVolume } from './test-device.js';

const caller = { uid: 1000, gid: 1000, umask: 0o022, signal: new AbortController().signal };

/** What one system call does. */
export type Atom = (device: TestDevice) => unknown;

export interface Action {
  readonly name: string;
  readonly atoms: readonly Atom[];
  /** What was done before it survives power loss once it has returned. */
  readonly durable?: boolean;
  /** Begun before the next action, waited for after it. */
  readonly overlaps?: boolean;
}

/** Bytes that look like no others, and do not compress. */
export function patternOf(label: string, size: number): Uint8Array {
  return new SeededRandom(Buffer.from(label).reduce((sum, byte) => Math.imul(sum, 31) + byte, 7)).bytes(size);
}

async function placeOf(device: TestDevice, path: string): Promise<[parent: Ino, name: string]> {
  const slash = path.lastIndexOf('/');
  return [await device.ino(path.slice(0, Math.max(0, slash))), path.slice(slash + 1)];
}

const create =
  (path: string): Atom =>
  async (device) =>
    device.filesystem.mknod(caller, ...(await placeOf(device, path)), S_IFREG | 0o644, 0);

/** write(2) and close(2). Nothing when the file is not there. */
const write =
  (path: string, offset: number, bytes: Uint8Array): Atom =>
  async (device) => {
    if (!(await device.exists(path))) return;
    const ino = await device.ino(path);
    await device.filesystem.write(caller, ino, offset, bytes, false);
    await device.filesystem.persist(ino);
  };

const append =
  (path: string, bytes: Uint8Array): Atom =>
  async (device) => {
    if (!(await device.exists(path))) return;
    const { size } = await device.filesystem.getattr(await device.ino(path));
    await write(path, size, bytes)(device);
  };

const inodeOf =
  (path: string, work: (device: TestDevice, ino: Ino) => unknown): Atom =>
  async (device) => {
    if (await device.exists(path)) await work(device, await device.ino(path));
  };

const rename =
  (from: string, to: string, flags = 0): Atom =>
  async (device) => {
    const { other, orphaned } = await device.filesystem.rename(...(await placeOf(device, from)), ...(await placeOf(device, to)), flags);
    if (orphaned && other !== undefined) device.filesystem.forget(other);
  };

const link =
  (from: string, to: string): Atom =>
  async (device) =>
    device.filesystem.link(await device.ino(from), ...(await placeOf(device, to)));

const unlink =
  (path: string): Atom =>
  (device) =>
    device.unlink(path);

const truncate =
  (path: string, size: number): Atom =>
  (device) =>
    device.truncate(path, size);

const setxattr = (path: string, name: string, value: Uint8Array): Atom =>
  inodeOf(path, (device, ino) => device.filesystem.setxattr(ino, name, value, 0, false));

/** Times long ago are part of the picture, since only these are the same twice. */
const setTimes = (path: string): Atom =>
  inodeOf(path, (device, ino) => device.filesystem.setattr(ino, { mtime: { sec: 1_000_000, nsec: 5 }, atime: { sec: 2_000_000, nsec: 0 } }));

const single = (name: string, ...atoms: Atom[]): Action => ({ name, atoms });

/** Everything that is cut off, one by one and in sequences. The tree they work on is made by {@link makeTree}. */
export const actions: readonly Action[] = [
  single('create', create('new')),
  single('create and write', create('new'), write('new', 0, patternOf('new', 700))),
  single('append to a small file', append('small', patternOf('more', 300))),
  single('append to a file of chunks', append('middle', patternOf('tail', 5000))),
  single('overwrite', write('middle', 4096, patternOf('over', 4096))),
  single('overwrite much', write('large', 1000, patternOf('bulk', 300_000))),
  single('rename over', rename('small', 'middle')),
  single('rename a directory', rename('full', 'moved')),
  single('exchange', rename('large', 'full/inside', 2)),
  single('link', link('middle', 'full/second')),
  single('unlink', unlink('large')),
  single('truncate', truncate('large', 1000)),
  single('truncate to nothing', truncate('middle', 0)),
  single('truncate and write', truncate('small', 0), write('small', 0, patternOf('again', 60))),
  single('grow', truncate('small', 9000)),
  single(
    'punch',
    inodeOf('large', (device, ino) => device.filesystem.allocate(ino, 4096, 200_000, 3)),
  ),
  single('mkdir', (device) => device.mkdir('fresh'), create('fresh/file')),
  single('rmdir', async (device) => {
    const [parent, name] = await placeOf(device, 'empty');
    device.filesystem.forget((await device.filesystem.rmdir(parent, name)).ino);
  }),
  single('symlink', async (device) => device.filesystem.symlink(caller, ...(await placeOf(device, 'pointer')), 'some/where')),
  single('setxattr', setxattr('middle', 'user.note', patternOf('note', 100))),
  single(
    'removexattr',
    inodeOf('small', (device, ino) => device.filesystem.removexattr(ino, 'user.old')),
  ),
  single(
    'chmod',
    inodeOf('full', (device, ino) => device.filesystem.setattr(ino, { mode: 0o700 })),
  ),
  // As rsync and tar do: times are set when all is there.
  single('set times', create('full/last'), write('full/last', 0, patternOf('last', 300)), setTimes('full/last'), setTimes('full')),
  single('copy', create('copy'), async (device) => {
    if (!(await device.exists('copy')) || !(await device.exists('large'))) return;
    const [from, to] = [await device.ino('large'), await device.ino('copy')];
    await device.filesystem.copyRange(caller, from, 0, to, 0, 1_000_000);
  }),
  { name: 'fsync', atoms: [(device) => device.volume.sync()], durable: true },
  { name: 'flush', atoms: [(device) => device.volume.flush()], durable: true },
  { name: 'flush meanwhile', atoms: [(device) => device.volume.flush()], durable: true, overlaps: true },
];

/** What {@link actions} work on: half of it in the store, half of it only journalled. */
async function makeTree(device: TestDevice): Promise<void> {
  await device.write('small', patternOf('small', 400));
  await setxattr('small', 'user.old', patternOf('old', 20))(device);
  await device.write('middle', patternOf('middle', 20_000));
  await device.mkdir('full');
  await device.volume.flush();
  await device.write('large', patternOf('large', 310_000));
  await device.write('full/inside', patternOf('inside', 3000));
  await device.mkdir('empty');
  await device.volume.sync();
}

/** Names below this one are another device's; pictures leave them out. */
export const foreignName = 'foreign';

/** Path to what is there: type, mode, links, size, content, xattrs, target. Times are left out: they are not the same twice. */
export type TreeFacts = Readonly<Record<string, string>>;

export async function factsOf(device: TestDevice): Promise<{ readonly facts: TreeFacts; readonly files: number }> {
  const facts: Record<string, string> = {};
  const inos = new Set<Ino>([rootIno]);
  const visit = async (path: string): Promise<void> => {
    for (const name of (await device.list(path)).toSorted()) {
      const child = path === '' ? name : `${path}/${name}`;
      const ino = await device.ino(child);
      inos.add(ino);
      const { mode, nlink, size, mtime } = await device.filesystem.getattr(ino);
      const xattrs: string[] = [];
      for (const xattr of await device.filesystem.listxattr(caller, ino)) {
        xattrs.push(`${xattr}=${digestOf(await device.filesystem.getxattr(ino, xattr))}`);
      }
      const type = mode & S_IFMT;
      let content = '';
      if (type === S_IFREG) content = digestOf(await device.read(child));
      else if (type === S_IFLNK) content = await device.filesystem.readlink(ino);
      if (child !== foreignName)
        facts[child] =
          `${mode.toString(8)} ${nlink} ${size} ${content} ${xattrs.join(' ')}${mtime.sec < 1_000_000_000 ? ` ${mtime.sec}.${mtime.nsec}` : ''}`;
      if (type === S_IFDIR) await visit(child);
    }
  };
  await visit('');
  return { facts, files: inos.size };
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

const ownFacts = (facts: TreeFacts): string =>
  JSON.stringify(Object.entries(facts).filter(([path]) => path !== foreignName && !path.startsWith(`${foreignName}/`)));

// --- Where the volume lives

export interface CrashSetting {
  /** `memory`: a store elsewhere, which goes on; `directory`: on the same disk, which loses power with everything else. */
  readonly store: 'memory' | 'directory';
  /** Every commit is folded into a new tree. */
  readonly folds: boolean;
  /** Another device commits while the workload is under way. */
  readonly foreign: boolean;
}

/** How the store treats the process that is going to die. */
export interface StoreFaults {
  readonly seed: number;
  /** Of 100 requests. */
  readonly lostRequests: number;
  readonly lostAnswers: number;
  /** The put of a commit with this number is never answered, and is done only when {@link DyingStore.land} is called. */
  readonly hangs?: number;
}

/** The store as a process sees it that will die: nothing is done for a dead one. */
export class DyingStore implements ObjectStore {
  readonly description = 'dying';
  readonly #inner: ObjectStore;
  readonly #disk: SimulatedDisk;
  readonly #random: SeededRandom;
  readonly #faults: StoreFaults | undefined;
  /** The process dies before (even) or after (odd) put number `floor(putCrash / 2)`. */
  putCrash: number | undefined;
  putCount = 0;
  #commitCount = 0;
  #hanging: { readonly key: ObjectKey; readonly bytes: Uint8Array } | undefined;

  constructor(inner: ObjectStore, disk: SimulatedDisk, faults?: StoreFaults) {
    this.#inner = inner;
    this.#disk = disk;
    this.#faults = faults;
    this.#random = new SeededRandom(faults?.seed ?? 1);
  }

  get local(): boolean {
    return this.#inner.local;
  }

  #alive(): void {
    if (this.#disk.crashed) throw new SimulatedCrashError('the process is dead');
  }

  async #request<T>(work: () => Promise<T>): Promise<T> {
    this.#alive();
    const { lostRequests = 0, lostAnswers = 0 } = this.#faults ?? {};
    if (this.#random.below(100) < lostRequests) throw new StoreError('UNAVAILABLE', 'the request was lost');
    const isLost = this.#random.below(100) < lostAnswers;
    const answer = await work();
    this.#alive();
    if (isLost) throw new StoreError('UNAVAILABLE', 'the answer was lost');
    return answer;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#request(() => this.#inner.get(key, options));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#request(() => this.#inner.head(key));
  }

  async put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    const number = this.putCount++;
    // Commits are put from memory. What hangs of a pack's upload hurts nobody: nothing refers to it.
    if (body instanceof Uint8Array && this.#faults?.hangs === this.#commitCount++) {
      this.#hanging = { key, bytes: new Uint8Array(body) };
      this.#disk.stop();
      throw new SimulatedCrashError('the process died while the put hung');
    }
    if (this.putCrash === 2 * number) this.#disk.stop();
    return this.#request(async () => {
      const outcome = await this.#inner.put(key, body, options);
      if (this.putCrash === 2 * number + 1) this.#disk.stop();
      return outcome;
    });
  }

  /** The put that hung arrives at `store` after all. */
  async land(store: ObjectStore): Promise<void> {
    if (this.#hanging) await store.put(this.#hanging.key, this.#hanging.bytes as never, { ifAbsent: true });
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#request(() => this.#inner.delete(keys));
  }

  async *list(prefix: string, options?: { readonly after?: ObjectKey }): AsyncIterable<ListedObject> {
    for await (const object of this.#inner.list(prefix, options)) {
      await this.#request(() => Promise.resolve());
      yield object;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A volume with a tree in it, to be copied for every try. */
export class CrashBase {
  readonly setting: CrashSetting;
  readonly #disk: SimulatedDisk;
  readonly #objects: readonly (readonly [ObjectKey, Uint8Array])[];
  readonly #volume: Omit<TestVolume, 'store'>;

  private constructor(setting: CrashSetting, disk: SimulatedDisk, objects: readonly (readonly [ObjectKey, Uint8Array])[], volume: TestVolume) {
    this.setting = setting;
    this.#disk = disk;
    this.#objects = objects;
    this.#volume = { volumeId: volume.volumeId, rootSecret: volume.rootSecret };
  }

  static async make(setting: CrashSetting): Promise<CrashBase> {
    const disk = new SimulatedDisk({ seed: 1 });
    for (const path of ['/state', '/fresh', '/other']) await disk.makeDirectory(path);
    await disk.syncDirectory('/');
    const store = setting.store === 'memory' ? new MemoryStore({ disk }) : await DirectoryStore.create('/store', { disk, random: systemRandom });
    const volume = await createTestVolume(store);
    const device = await openDevice(volume, disk, '/state', setting);
    await makeTree(device);
    const other = await openDevice(volume, disk, '/other', setting);
    await other.mkdir(foreignName);
    await other.volume.flush();
    await other.close();
    await device.close();
    const objects = setting.store === 'memory' ? await objectsOf(store) : [];
    return new CrashBase(setting, disk.crash('process'), objects, volume);
  }

  /** A copy of it all, whose disk loses what `seed` says. */
  async copy(seed: number): Promise<{ readonly disk: SimulatedDisk; readonly store: ObjectStore }> {
    const disk = this.#disk.clone(seed);
    return { disk, store: await storeOn(this.setting, disk, this.#objects) };
  }

  open(store: ObjectStore, disk: SimulatedDisk, stateDirectory = '/state', options: Partial<OpenOptions> = {}): Promise<TestDevice> {
    return openDevice({ ...this.#volume, store }, disk, stateDirectory, this.setting, options);
  }
}

async function objectsOf(store: ObjectStore): Promise<(readonly [ObjectKey, Uint8Array])[]> {
  const objects: (readonly [ObjectKey, Uint8Array])[] = [];
  for await (const { key } of store.list('')) objects.push([key, (await store.get(key)) ?? new Uint8Array(0)]);
  return objects;
}

async function storeOn(setting: CrashSetting, disk: SimulatedDisk, objects: readonly (readonly [ObjectKey, Uint8Array])[]): Promise<ObjectStore> {
  if (setting.store === 'directory') return DirectoryStore.open('/store', { disk, random: systemRandom });
  const store = new MemoryStore({ disk });
  for (const [key, bytes] of objects) await store.put(key, bytes as never);
  return store;
}

function openDevice(
  volume: TestVolume,
  disk: SimulatedDisk,
  stateDirectory: string,
  setting: CrashSetting,
  options: Partial<OpenOptions> = {},
): Promise<TestDevice> {
  return TestDevice.open(volume, {
    disk,
    stateDirectory,
    log: silentLog,
    ...(setting.folds ? { foldBounds: { entries: 0, bytes: 0 } } : {}),
    ...options,
  });
}

// --- Runs

/** The trees that a sequence goes through: one before it, and one after each atom. */
export interface Reference {
  readonly trees: readonly string[];
  /** By the index of the tree after it. */
  readonly names: readonly string[];
}

const isRefusal = (error: unknown): boolean =>
  error instanceof OperationError || error instanceof VfsError || /no such path/.test(describeError(error));

/** Runs the sequence to its end, undisturbed. An atom that is refused (nothing there any more) changes nothing. */
export async function referenceOf(base: CrashBase, sequence: readonly Action[]): Promise<Reference> {
  const { disk, store } = await base.copy(1);
  const device = await base.open(store, disk);
  const trees = [ownFacts((await factsOf(device)).facts)];
  const names = ['the start'];
  for (const action of sequence) {
    for (const atom of action.atoms) {
      // A flush changes nothing that can be seen.
      if (!action.durable) await attempt(atom, device);
      trees.push(ownFacts((await factsOf(device)).facts));
      names.push(action.name);
    }
  }
  await device.close();
  return { trees, names };
}

/** Again while the store cannot be reached, as anybody would. */
async function persistently(atom: Atom, device: TestDevice, disk: SimulatedDisk): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await atom(device);
      return;
    } catch (error) {
      if (disk.crashed || tries > 50 || !(error instanceof VolumeError) || error.code !== 'UNAVAILABLE') throw error;
    }
  }
}

async function attempt(atom: Atom, device: TestDevice): Promise<void> {
  try {
    await atom(device);
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
}

export interface CrashPoint {
  readonly kind: CrashKind;
  /** The changing operation of the disk in whose middle the process dies. */
  readonly disk?: number;
  /** As {@link DyingStore.putCrash}. Without both, it dies when the sequence has ended. */
  readonly put?: number;
  /** Opening and closing the volume count too; otherwise only what lies between. */
  readonly whole: boolean;
  readonly seed: number;
  readonly faults?: StoreFaults;
}

/**
 * `undefined`: the sequence ended before the point was reached. Otherwise what is wrong with what was found after it; empty when all is well.
 */
export async function tryPoint(
  base: CrashBase,
  sequence: readonly Action[],
  reference: Reference,
  point: CrashPoint,
): Promise<readonly string[] | undefined> {
  const { disk, store } = await base.copy(point.seed);
  const dying = new DyingStore(store, disk, point.faults);
  const promised = await runUntilDeath(base, sequence, dying, disk, point);
  if (!disk.crashed) return undefined;
  const wrong: string[] = [];
  if (promised.error !== undefined) wrong.push(`before the crash: ${promised.error}`);
  const next = disk.crash(point.kind);
  const nextStore =
    base.setting.store === 'directory' ? await storeOn(base.setting, next, []) : await storeOn(base.setting, next, await objectsOf(store));
  const from = point.kind === 'process' ? promised.done : promised.durable;
  const allowed = reference.trees.slice(from, promised.done + 2);
  const late = point.seed % 3;
  try {
    if (late === 0) await dying.land(nextStore);
    let device = await base.open(nextStore, next);
    const found = await factsOf(device);
    const tree = ownFacts(found.facts);
    if (!allowed.includes(tree)) {
      const elsewhere = reference.trees.indexOf(tree);
      wrong.push(
        `after ${point.kind} death in "${reference.names[promised.done + 1] ?? 'closing'}", with ${promised.done} atoms done and ${promised.durable} durable: ` +
          (elsewhere >= 0 ? `the tree is the one after ${elsewhere} atoms` : `the tree never was: ${differenceOf(allowed.at(-1) ?? '', tree)}`),
      );
    }
    if (point.seed % 5 === 0) {
      // It dies again before it could do anything.
      next.stop();
      await device.close().catch(() => {});
      const third = next.crash('process');
      const thirdStore =
        base.setting.store === 'directory' ? await storeOn(base.setting, third, []) : await storeOn(base.setting, third, await objectsOf(nextStore));
      device = await base.open(thirdStore, third);
      const again = ownFacts((await factsOf(device)).facts);
      if (again !== tree) wrong.push(`opened once more: ${differenceOf(tree, again)}`);
      wrong.push(...(await settled(base, device, thirdStore, third, tree, promised.foreign)));
      return wrong;
    }
    if (late === 1) await dying.land(nextStore);
    wrong.push(...(await settled(base, device, nextStore, next, tree, promised.foreign)));
  } catch (error) {
    wrong.push(`after the crash: ${describeError(error)}\n${error instanceof Error ? error.stack : ''}`);
  }
  return wrong;
}

/** Flushes, and compares with what a device sees that was never there. Closes the device. */
async function settled(
  base: CrashBase,
  device: TestDevice,
  store: ObjectStore,
  disk: SimulatedDisk,
  tree: string,
  foreign: readonly string[],
): Promise<string[]> {
  const wrong: string[] = [];
  // It works as before.
  await device.write('after', 'life goes on');
  await device.unlink('after');
  await device.volume.flush();
  await device.volume.refresh();
  const pending = device.volume.pending();
  if (pending.operations > 0 || pending.dirtyBytes > 0) wrong.push(`still pending after a flush: ${JSON.stringify(pending)}`);
  const flushed = await factsOf(device);
  if (ownFacts(flushed.facts) !== tree) wrong.push(`the flush changed the tree: ${differenceOf(tree, ownFacts(flushed.facts))}`);
  const counted = device.volume.statistics().files;
  // Other commits may come in between: a removed file is freed by an operation of its own.
  if (counted !== flushed.files) wrong.push(`${flushed.files} inodes are there, ${counted} are counted`);
  const fresh = await base.open(store, disk, '/fresh');
  const seen = await factsOf(fresh);
  if (JSON.stringify(seen.facts) !== JSON.stringify(flushed.facts))
    wrong.push(`a fresh device sees: ${differenceOf(JSON.stringify(Object.entries(flushed.facts)), JSON.stringify(Object.entries(seen.facts)))}`);
  for (const name of foreign) if (!(await fresh.exists(name))) wrong.push(`what another device flushed is gone: ${name}`);
  await fresh.close();
  await device.close();
  return wrong;
}

interface Promised {
  /** Atoms that returned. */
  done: number;
  /** So many of them were durable. */
  durable: number;
  /** What another device has flushed. */
  readonly foreign: string[];
  error: string | undefined;
}

async function runUntilDeath(
  base: CrashBase,
  sequence: readonly Action[],
  store: DyingStore,
  disk: SimulatedDisk,
  point: CrashPoint,
): Promise<Promised> {
  const promised: Promised = { done: 0, durable: 0, foreign: [], error: undefined };
  let device: TestDevice | undefined;
  let other: TestDevice | undefined;
  let alive = true;
  const arm = (): void => {
    if (point.disk !== undefined) disk.crashAt(disk.changeCount + point.disk);
    if (point.put !== undefined) store.putCrash = 2 * store.putCount + point.put;
  };
  if (point.whole) arm();
  try {
    device = await base.open(store, disk);
    if (!point.whole) arm();
    let overlapping: Promise<void> | undefined;
    for (const action of sequence) {
      const before = promised.done;
      if (base.setting.foreign) {
        other ??= await base.open(store, disk, '/other', { deviceName: 'other' });
        const name = `${foreignName}/${before}`;
        await other.write(name, name);
        await persistently(({ volume }) => volume.flush(), other, disk);
        promised.foreign.push(name);
      }
      if (action.overlaps) {
        const work = persistently(action.atoms[0], device, disk);
        promised.done++;
        overlapping = work.then(() => {
          promised.durable = Math.max(promised.durable, before);
        });
        overlapping.catch(() => {});
        continue;
      }
      for (const atom of action.atoms) {
        if (action.durable) await persistently(atom, device, disk);
        else await attempt(atom, device);
        promised.done++;
      }
      if (action.durable) promised.durable = promised.done;
      await overlapping;
      overlapping = undefined;
    }
    await overlapping;
    if (point.whole) {
      await device.close();
      // An orderly end makes everything durable.
      if (!disk.crashed) promised.durable = promised.done;
    } else if (point.disk === undefined && point.put === undefined) disk.stop();
    alive = !disk.crashed;
  } catch (error) {
    if (!disk.crashed) {
      promised.error = `${describeError(error)} ${error instanceof Error ? error.stack : ''}`;
      disk.stop();
    }
    alive = false;
  }
  // A run that was not cut off is of no further use; what its closing does must not count.
  if (alive) disk.crashAt(Number.POSITIVE_INFINITY);
  store.putCrash = undefined;
  await device?.close().catch(() => {});
  await other?.close().catch(() => {});
  return promised;
}

function differenceOf(expected: string, found: string): string {
  const entriesOf = (text: string): Map<string, string> => new Map(text === '' ? [] : (JSON.parse(text) as [string, string][]));
  const [before, after] = [entriesOf(expected), entriesOf(found)];
  const lines: string[] = [];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(name) !== after.get(name)) lines.push(`${name}: expected ${before.get(name) ?? 'nothing'}, found ${after.get(name) ?? 'nothing'}`);
  }
  return lines.join('; ');
}

/** All points of one sequence: `stride` 1 for every one. Answers how many were tried and what was wrong. */
export async function tryAllPoints(
  base: CrashBase,
  sequence: readonly Action[],
  seed: number,
  options: {
    readonly kinds?: readonly CrashKind[];
    readonly stride?: number;
    readonly whole?: boolean;
    readonly faults?: (seed: number) => StoreFaults;
  } = {},
): Promise<{ readonly count: number; readonly wrong: readonly string[] }> {
  const { kinds = ['process', 'power'], stride = 1, whole = false, faults } = options;
  const reference = await referenceOf(base, sequence);
  const wrong: string[] = [];
  let count = 0;
  const attemptPoint = async (point: CrashPoint): Promise<boolean> => {
    const found = await tryPoint(base, sequence, reference, faults ? { ...point, faults: faults(point.seed) } : point);
    if (!found) return false;
    count++;
    for (const text of found)
      wrong.push(`[${sequence.map(({ name }) => name).join(', ')}] ${JSON.stringify(base.setting)} ${JSON.stringify(point)}: ${text}`);
    return true;
  };
  for (const kind of kinds) {
    for (const place of ['disk', 'put'] as const) {
      for (let at = stride === 1 ? 0 : (seed + count) % stride; ; at += stride) {
        if (!(await attemptPoint({ kind, [place]: at, seed: seed + at, whole }))) break;
      }
    }
    if (!whole) await attemptPoint({ kind, seed: seed + count, whole });
  }
  return { count, wrong };
}
