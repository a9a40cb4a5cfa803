/**
 * Runs work on a volume, cuts it off at a chosen point, and judges what is found afterwards (doc/architecture.md, "What
 * survives what"). The local disk is simulated, and so is the moment of death; volume, filesystem and store are the
 * real ones.
 *
 * A workload is a sequence of actions, and an action is a sequence of atoms: one system call each, which happens wholly
 * or not at all. The workload first runs to its end, to record the tree after each atom. It then runs again, to record
 * the disk and the store before each disk operation that changes something and before each put. Each of these moments
 * is a crash point; the volume is opened again from everything that a crash there can leave behind.
 */
import { createHash } from 'node:crypto';
import { describeError } from '../../src/base/errors.js';
import { silentLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import { OperationError } from '../../src/operation/operation.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { VfsError } from '../../src/vfs/vfs-error.js';
import { VolumeError } from '../../src/volume/volume-error.js';
import type { OpenOptions } from '../../src/volume/volume-parts.js';
import { SeededRandom } from './seeded-random.js';
import { type CrashKind, SimulatedDisk } from './simulated-disk.js';
import { createTestVolume, TestDevice, type TestVolume } from './test-device.js';

const caller = { uid: 1000, gid: 1000, umask: 0o022, signal: new AbortController().signal };

/** The effect of one system call. */
export type Atom = (device: TestDevice) => unknown;

export interface Action {
  readonly name: string;
  readonly atoms: readonly Atom[];
  /** Everything before it survives power loss once it has returned. */
  readonly durable?: boolean;
  /** It starts before the next action and is awaited after it. */
  readonly overlaps?: boolean;
}

/** Unique bytes that do not compress. */
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

/** write(2) and close(2). Does nothing when the file does not exist. */
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

/** Only old times are part of the picture, since only these are the same in every run. */
const setTimes = (path: string): Atom =>
  inodeOf(path, (device, ino) => device.filesystem.setattr(ino, { mtime: { sec: 1_000_000, nsec: 5 }, atime: { sec: 2_000_000, nsec: 0 } }));

const single = (name: string, ...atoms: Atom[]): Action => ({ name, atoms });

/** The actions that are cut off, one by one and in sequences. {@link makeTree} makes the tree that they work on. */
export const actions: readonly Action[] = [
  single('create', create('new')),
  single('create and write', create('new'), write('new', 0, patternOf('new', 700))),
  single('append to a small file', append('small', patternOf('more', 300))),
  single('append to a file of chunks', append('middle', patternOf('tail', 5000))),
  single('overwrite', write('middle', 4096, patternOf('over', 4096))),
  single('overwrite much', write('large', 1000, patternOf('bulk', 30_000))),
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
    inodeOf('large', (device, ino) => device.filesystem.allocate(ino, 4096, 20_000, 3)),
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
  // Times are set at the end, as rsync and tar do.
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

/** The tree that {@link actions} work on: half of it in the store, half of it only in the journal. */
async function makeTree(device: TestDevice): Promise<void> {
  await device.write('small', patternOf('small', 400));
  await setxattr('small', 'user.old', patternOf('old', 20))(device);
  await device.write('middle', patternOf('middle', 12_000));
  await device.mkdir('full');
  await device.volume.flush();
  await device.write('large', patternOf('large', 40_000));
  await device.write('full/inside', patternOf('inside', 3000));
  await device.mkdir('empty');
  await device.volume.sync();
}

/** Names below this one belong to another device; pictures omit them. */
export const foreignName = 'foreign';

/**
 * Path to type, mode, links, size, content, xattrs and target. Recent times are omitted, since they differ between
 * runs.
 */
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
  /**
   * `memory` is a store elsewhere, which survives; `directory` is on the same disk, which loses power with everything
   * else.
   */
  readonly store: 'memory' | 'directory';
  /** Every commit is folded into a new tree. */
  readonly folds: boolean;
  /** Another device commits while the workload runs. */
  readonly foreign: boolean;
}

/** How the store behaves towards the process that is going to die. */
export interface StoreFaults {
  readonly seed: number;
  /** In percent of requests. */
  readonly lostRequests: number;
  readonly lostAnswers: number;
}

type Objects = ReadonlyMap<ObjectKey, Uint8Array>;

/** The store of the process that is going to die: it announces each put, and fails as configured. */
class WatchedStore implements ObjectStore {
  readonly description = 'watched';
  readonly #inner: ObjectStore;
  readonly #random: SeededRandom;
  readonly #faults: StoreFaults | undefined;
  /** Called before each put with the object to come. */
  onPut: ((key: ObjectKey, bytes: Uint8Array | undefined) => void) | undefined;

  constructor(inner: ObjectStore, faults: StoreFaults | undefined) {
    this.#inner = inner;
    this.#faults = faults;
    this.#random = new SeededRandom(faults?.seed ?? 1);
  }

  get local(): boolean {
    return this.#inner.local;
  }

  async #request<T>(work: () => Promise<T>): Promise<T> {
    const { lostRequests = 0, lostAnswers = 0 } = this.#faults ?? {};
    if (this.#random.below(100) < lostRequests) throw new StoreError('UNAVAILABLE', 'the request was lost');
    const isLost = this.#random.below(100) < lostAnswers;
    const answer = await work();
    if (isLost) throw new StoreError('UNAVAILABLE', 'the answer was lost');
    return answer;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#request(() => this.#inner.get(key, options));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#request(() => this.#inner.head(key));
  }

  put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    // Packs are put from files; a late pack is harmless, since nothing refers to it.
    this.onPut?.(key, body instanceof Uint8Array ? new Uint8Array(body) : undefined);
    return this.#request(() => this.#inner.put(key, body, options));
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#request(() => this.#inner.delete(keys));
  }

  async persist(keys: readonly ObjectKey[]): Promise<void> {
    await this.#inner.persist?.(keys);
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

/** A {@link MemoryStore} whose objects can be captured at an instant. */
class PictureStore extends MemoryStore {
  #objects: Objects = new Map();

  get objects(): Objects {
    return this.#objects;
  }

  static async of(disk: SimulatedDisk, objects: Objects): Promise<PictureStore> {
    const store = new PictureStore({ disk });
    for (const [key, bytes] of objects) await store.put(key, bytes as never);
    store.#objects = objects;
    return store;
  }

  override async put(
    key: ObjectKey,
    body: ObjectBody,
    options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal },
  ): Promise<PutOutcome> {
    const outcome = await super.put(key, body, options);
    // Never changed in place, since pictures share it.
    if (outcome === 'created') {
      const bytes = (await super.get(key)) ?? new Uint8Array(0);
      // No await from here on: other objects are put meanwhile.
      this.#objects = new Map(this.#objects).set(key, bytes);
    }
    return outcome;
  }
}

/** The state that a crash leaves: the disk and, when the store is elsewhere, the objects of the store. */
interface World {
  readonly disk: SimulatedDisk;
  /** Empty when the store is on the disk. */
  readonly objects: Objects;
}

/** A volume with a tree in it, to be copied for every run. */
export class CrashBase {
  readonly setting: CrashSetting;
  readonly #world: World;
  readonly #volume: Omit<TestVolume, 'store'>;

  private constructor(setting: CrashSetting, world: World, volume: TestVolume) {
    this.setting = setting;
    this.#world = world;
    this.#volume = { volumeId: volume.volumeId, rootSecret: volume.rootSecret, ownerSeed: volume.ownerSeed };
  }

  static async make(setting: CrashSetting): Promise<CrashBase> {
    const disk = new SimulatedDisk({ seed: 1 });
    for (const path of ['/state', ...othersPlaces]) await disk.makeDirectory(path);
    await disk.syncDirectory('/');
    const store = setting.store === 'memory' ? new PictureStore({ disk }) : await DirectoryStore.create('/store', { disk, random: systemRandom });
    const volume = await createTestVolume(store, { chunkSize });
    const device = await openDevice(volume, disk, '/state', setting);
    await makeTree(device);
    const other = await openDevice(volume, disk, '/other', setting);
    await other.mkdir(foreignName);
    await other.volume.flush();
    await other.close();
    await device.close();
    return new CrashBase(setting, { disk: disk.crash('process'), objects: store instanceof PictureStore ? store.objects : new Map() }, volume);
  }

  get world(): World {
    return this.#world;
  }

  /** A fresh world for the next run, and the store in it. */
  async enter({ disk, objects }: World): Promise<{ readonly disk: SimulatedDisk; readonly store: DirectoryStore | PictureStore }> {
    const own = disk.clone(1);
    if (this.setting.store === 'memory') return { disk: own, store: await PictureStore.of(own, objects) };
    return { disk: own, store: await DirectoryStore.open('/store', { disk: own, random: systemRandom }) };
  }

  open(store: ObjectStore, disk: SimulatedDisk, stateDirectory = '/state', options: Partial<OpenOptions> = {}): Promise<TestDevice> {
    return openDevice({ ...this.#volume, store }, disk, stateDirectory, this.setting, options);
  }
}

/** Small, so that small files have several chunks and go through staging packs. */
const chunkSize = 8 * 1024;
const contentLimits = { journalBytesMax: 16 * 1024, sealBytes: 64 * 1024 };

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
    logger: silentLogger,
    contentLimits,
    ...(setting.folds ? { foldBounds: { entries: 0, bytes: 0 } } : {}),
    ...options,
  });
}

// --- Runs

/** The trees of a sequence: one before it, and one after each atom. */
interface Reference {
  readonly trees: readonly string[];
  /** Indexed by the tree after it. */
  readonly names: readonly string[];
}

const isRefusal = (error: unknown): boolean =>
  error instanceof OperationError || error instanceof VfsError || /no such path/.test(describeError(error));

/** Runs the sequence undisturbed to its end. An atom that is refused (its file is gone) changes nothing. */
async function referenceOf(base: CrashBase, sequence: readonly Action[]): Promise<Reference> {
  const { disk, store } = await base.enter(base.world);
  const device = await base.open(store, disk);
  const trees = [ownFacts((await factsOf(device)).facts)];
  const names = ['the start'];
  for (const action of sequence) {
    for (const atom of action.atoms) {
      // A flush has no visible effect.
      if (action.durable) trees.push(trees[trees.length - 1]!);
      else {
        await attempt(atom, device);
        trees.push(ownFacts((await factsOf(device)).facts));
      }
      names.push(action.name);
    }
  }
  await device.close();
  return { trees, names };
}

/** Retried while the store cannot be reached, as a user would. */
async function persistently(atom: Atom, device: TestDevice): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await atom(device);
      return;
    } catch (error) {
      if (tries > 50 || !(error instanceof VolumeError) || error.code !== 'UNAVAILABLE') throw error;
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

/** The promises in force when a picture was taken. */
interface Promises {
  /** Atoms that had returned. */
  readonly done: number;
  /** The number of them that were durable. */
  readonly durable: number;
  /** The data that another device had flushed. */
  readonly foreign: readonly string[];
}

/** A crash point: the world in the instant before something in it changes. */
interface CrashPoint {
  readonly what: string;
  readonly world: World;
  readonly promised: Promises;
  /** The next write, half done. */
  readonly torn?: (disk: SimulatedDisk) => void;
  /** A put in flight, which may arrive at any time. */
  readonly put?: readonly [ObjectKey, Uint8Array];
}

export interface CrashOptions {
  readonly seed: number;
  /** Whether opening and closing the volume count too, and not only the actions between them. */
  readonly whole?: boolean;
  /** Only points from this action of the sequence on, since earlier ones belong to the shorter sequence. */
  readonly from?: number;
  /** Only every nth point, from any start. */
  readonly stride?: number;
  /** Only points before a put of a commit or a key. */
  readonly putsOnly?: boolean;
  readonly faults?: StoreFaults;
  /** The recovery is cut off too, at each of its points. */
  readonly nested?: boolean;
  /** All outcomes of a power loss are tried up to this number; beyond it, see {@link SimulatedDisk.powerLosses}. */
  readonly lossesMax?: number;
  /**
   * Every outcome is opened and its tree compared. Every nth outcome of a power loss (and all others) is also changed,
   * flushed, and compared with the view of a new device.
   */
  readonly settleEvery?: number;
}

/** Runs the sequence once, taking a picture at each crash point. */
async function record(base: CrashBase, sequence: readonly Action[], options: CrashOptions): Promise<CrashPoint[]> {
  const { whole = false, from = 0 } = options;
  const { disk, store } = await base.enter(base.world);
  const watched = new WatchedStore(store, options.faults);
  const points: CrashPoint[] = [];
  const promised = { done: 0, durable: 0, foreign: [] as string[] };
  const picture = (what: string, more: Pick<CrashPoint, 'torn' | 'put'> = {}): void => {
    const world = { disk: disk.clone(1), objects: store instanceof PictureStore ? store.objects : new Map() };
    points.push({ what, world, promised: { ...promised, foreign: [...promised.foreign] }, ...more });
  };
  const watch = (): void => {
    disk.onChange = ({ kind, path }, torn) => {
      // The other device's own disk does not matter here.
      if (!path.startsWith('/other')) picture(`${kind} ${path}`, torn ? { torn } : {});
    };
    watched.onPut = (key, bytes) => picture(`put ${key}`, bytes ? { put: [key, bytes] } : {});
  };
  if (whole) watch();
  const device = await base.open(watched, disk);
  let other: TestDevice | undefined;
  let overlapping: Promise<void> | undefined;
  for (const [index, action] of sequence.entries()) {
    const before = promised.done;
    if (base.setting.foreign) {
      other ??= await base.open(watched, disk, '/other', { deviceName: 'other' });
      const name = `${foreignName}/${before}`;
      await other.write(name, name);
      await persistently(({ volume }) => volume.flush(), other);
      promised.foreign.push(name);
    }
    if (!whole && index === from) watch();
    if (action.overlaps) {
      overlapping = persistently(action.atoms[0]!, device).then(() => {
        promised.durable = Math.max(promised.durable, before);
      });
      promised.done++;
      continue;
    }
    for (const atom of action.atoms) {
      if (action.durable) await persistently(atom, device);
      else await attempt(atom, device);
      promised.done++;
    }
    if (action.durable) promised.durable = promised.done;
    await overlapping;
    overlapping = undefined;
  }
  await overlapping;
  picture('the end of the sequence');
  if (whole) {
    await device.close();
    // A clean close makes everything durable.
    promised.durable = promised.done;
    picture('the end');
  }
  disk.onChange = undefined;
  watched.onPut = undefined;
  if (!whole) await device.close();
  await other?.close();
  return points;
}

/** Counts of the attempts. */
export interface CrashTally {
  points: number;
  /** Outcomes of a crash at one of the points. */
  outcomes: number;
  /** Distinct outcomes: each was recovered from and judged. */
  recoveries: number;
  /** Points with too many outcomes to try all of them. */
  sampled: number;
  readonly wrong: string[];
}

export const emptyTally = (): CrashTally => ({ points: 0, outcomes: 0, recoveries: 0, sampled: 0, wrong: [] });

export function addTally(to: CrashTally, more: CrashTally): void {
  to.points += more.points;
  to.outcomes += more.outcomes;
  to.recoveries += more.recoveries;
  to.sampled += more.sampled;
  to.wrong.push(...more.wrong);
}

/** The result for a world: the tree, or why there is none. It is cached, since worlds repeat. */
type Verdict = { readonly tree: string; readonly wrong: readonly string[] };

const lossesSampled = 6;
/** The disks of other devices are in no danger here. */
const othersPlaces = ['/other', '/fresh'];

/** Runs one sequence, and crashes at every point of it in every way. */
export async function tryAllPoints(base: CrashBase, sequence: readonly Action[], options: CrashOptions): Promise<CrashTally> {
  const { seed, stride = 1, nested = false, lossesMax = 32, settleEvery = 1 } = options;
  const tally = emptyTally();
  const random = new SeededRandom(seed);
  const title = `[${sequence.map(({ name }) => name).join(', ')}] ${JSON.stringify(base.setting)}`;
  let reference: Reference;
  let points: CrashPoint[];
  try {
    reference = await referenceOf(base, sequence);
    points = await record(base, sequence, options);
    if (options.putsOnly) points = points.filter(({ put }) => put);
  } catch (error) {
    tally.wrong.push(`${title}: before any crash: ${describeError(error)}\n${error instanceof Error ? error.stack : ''}`);
    return tally;
  }
  const verdicts = new Map<string, Verdict>();

  const judge = async (point: CrashPoint, world: World, how: CrashKind, late: CrashPoint['put'], inner?: CrashPoint[]): Promise<void> => {
    const { done, durable, foreign } = point.promised;
    const key = `${world.disk.digest()} ${[...world.objects.keys()].join()} ${foreign.length} ${late?.[0] ?? ''}`;
    tally.outcomes++;
    let verdict = verdicts.get(key);
    if (!verdict || inner) {
      tally.recoveries++;
      const settles = how === 'process' || tally.recoveries % settleEvery === 0;
      verdict = await recover(base, world, { foreign, late, settles, inner: inner && { points: inner, promised: point.promised } });
      verdicts.set(key, verdict);
      for (const text of verdict.wrong) tally.wrong.push(`${title} ${how} death before ${point.what}: ${text}`);
    }
    const allowed = reference.trees
      .slice(how === 'process' ? done : durable, done + 2)
      .map((_, index) => index + (how === 'process' ? done : durable));
    if (verdict.wrong.length > 0 || allowed.some((index) => reference.trees[index] === verdict.tree)) return;
    const elsewhere = reference.trees.indexOf(verdict.tree);
    tally.wrong.push(
      `${title} ${how} death before ${point.what}, in "${reference.names[done + 1] ?? 'closing'}", with ${done} atoms done and ${durable} durable: ` +
        (elsewhere >= 0
          ? `the tree is the one after ${elsewhere} atoms`
          : `the tree never was: ${differenceOf(reference.trees[allowed[allowed.length - 1]!] ?? '', verdict.tree)}`),
    );
  };
  const attemptAll = async (point: CrashPoint, isInner: boolean): Promise<void> => {
    tally.points++;
    const inner: CrashPoint[] | undefined = nested && !isInner ? [] : undefined;
    const { world } = point;
    await judge(point, world, 'process', undefined, inner);
    if (point.put) await judge(point, world, 'process', point.put);
    if (point.torn) {
      const disk = world.disk.clone(1);
      point.torn(disk);
      await judge(point, { disk, objects: world.objects }, 'process', undefined);
    }
    const { exhaustive, disks } = world.disk.powerLosses(isInner ? 0 : lossesMax, isInner ? 1 : lossesSampled, random, othersPlaces);
    if (!exhaustive) tally.sampled++;
    for (const disk of disks) await judge(point, { disk, objects: world.objects }, 'power', undefined);
    for (const next of inner ?? []) await attemptAll(next, true);
  };
  for (let index = stride === 1 ? 0 : random.below(stride); index < points.length; index += stride) await attemptAll(points[index]!, false);
  return tally;
}

/** Opens the volume after the crash, reads it, changes it, and compares it with the view of a new device. */
async function recover(
  base: CrashBase,
  world: World,
  options: {
    readonly foreign: readonly string[];
    readonly late: CrashPoint['put'];
    readonly settles: boolean;
    readonly inner: { readonly points: CrashPoint[]; readonly promised: Promises } | undefined;
  },
): Promise<Verdict> {
  const { foreign, late, settles, inner } = options;
  const wrong: string[] = [];
  let tree = '';
  try {
    const { disk, store } = await base.enter(world);
    const watched = new WatchedStore(store, undefined);
    if (inner) {
      const { points, promised } = inner;
      const picture = (what: string): void => {
        points.push({
          what: `${what} of the recovery`,
          world: { disk: disk.clone(1), objects: store instanceof PictureStore ? store.objects : new Map() },
          promised,
        });
      };
      disk.onChange = ({ kind, path }) => picture(`${kind} ${path}`);
      watched.onPut = (key) => picture(`put ${key}`);
    }
    const device = await base.open(watched, disk);
    const found = await factsOf(device);
    tree = ownFacts(found.facts);
    if (late) await store.put(late[0], late[1] as never, { ifAbsent: true });
    if (inner) await device.volume.flush();
    disk.onChange = undefined;
    watched.onPut = undefined;
    if (settles) wrong.push(...(await settled(base, device, store, disk, tree, foreign)));
    else await device.close();
  } catch (error) {
    wrong.push(`after the crash: ${describeError(error)}\n${error instanceof Error ? error.stack : ''}`);
  }
  return { tree, wrong };
}

/** Flushes, compares the result with the view of a new device, and closes the device. */
async function settled(
  base: CrashBase,
  device: TestDevice,
  store: ObjectStore,
  disk: SimulatedDisk,
  tree: string,
  foreign: readonly string[],
): Promise<string[]> {
  const wrong: string[] = [];
  // The volume is usable as before.
  await device.write('after', 'life goes on');
  await device.unlink('after');
  await device.volume.flush();
  await device.volume.refresh();
  const pending = device.volume.pending();
  if (pending.operations > 0 || pending.dirtyBytes > 0) wrong.push(`still pending after a flush: ${JSON.stringify(pending)}`);
  const flushed = await factsOf(device);
  if (ownFacts(flushed.facts) !== tree) wrong.push(`the flush changed the tree: ${differenceOf(tree, ownFacts(flushed.facts))}`);
  const counted = device.volume.statistics().files;
  // Other commits may come in between, since a removed file is freed by an operation of its own.
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

function differenceOf(expected: string, found: string): string {
  const entriesOf = (text: string): Map<string, string> => new Map(text === '' ? [] : (JSON.parse(text) as [string, string][]));
  const [before, after] = [entriesOf(expected), entriesOf(found)];
  const lines: string[] = [];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(name) !== after.get(name)) lines.push(`${name}: expected ${before.get(name) ?? 'nothing'}, found ${after.get(name) ?? 'nothing'}`);
  }
  return lines.join('; ');
}
