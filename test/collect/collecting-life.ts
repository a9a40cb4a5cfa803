/**
 * A random life of some devices that write, remove, clone, sleep, crash and collect, on one store (doc/collecting.md).
 * The oracle: what was acknowledged reads back everywhere, each retained tree is whole in the store, the counts equal
 * a recount, and space comes back.
 */
import { describeError } from '../../src/base/errors.js';
import { checkVolume } from '../../src/check/check-volume.js';
import { AccountFiles } from '../../src/collect/account-files.js';
import { changedReferences } from '../../src/collect/count-references.js';
import { dayMs } from '../../src/collect/observations.js';
import { readGenesis } from '../../src/commit/genesis.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { packKey } from '../../src/pack/pack-id.js';
import { PackSource } from '../../src/pack/pack-source.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { TreeReader } from '../../src/tree/tree-reader.js';
import { VolumeError } from '../../src/volume/volume-error.js';
import { HeldClock } from '../suite/held-clock.js';
import { SeededRandom } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';

export type LifeEvent =
  | 'write'
  | 'overwrite'
  | 'remove'
  | 'clone'
  | 'flush'
  | 'look'
  | 'sleep'
  | 'long sleep'
  | 'crash'
  | 'failing requests'
  | 'work beside'
  | 'collection'
  | 'interrupted collection'
  | 'snapshot'
  | 'snapshot removed'
  | 'packs freed'
  | 'bytes moved';

export interface LifeResult {
  /** What is not as it should be; empty when all is well. */
  readonly findings: readonly string[];
  readonly events: ReadonlyMap<LifeEvent, number>;
}

/** Fails at random while it is told to. */
class MoodyStore implements ObjectStore {
  readonly description = 'moody';
  readonly local = true;
  readonly #inner: MemoryStore;
  readonly #random: SeededRandom;
  /** In percent of requests. */
  failing = 0;

  constructor(inner: MemoryStore, random: SeededRandom) {
    this.#inner = inner;
    this.#random = random;
  }

  async #request<T>(work: () => Promise<T>): Promise<T> {
    const isLost = this.#random.below(100) < this.failing;
    if (isLost && this.#random.below(100) < 50) throw new StoreError('UNAVAILABLE', 'the request was lost');
    const answer = await work();
    if (isLost) throw new StoreError('UNAVAILABLE', 'the answer was lost');
    return answer;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#request(() => this.#inner.get(key, options));
  }

  put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal }): Promise<PutOutcome> {
    return this.#request(() => this.#inner.put(key, body, options));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#request(() => this.#inner.head(key));
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    // Some of them, and then the connection is gone.
    const some = this.#random.below(100) < this.failing ? keys.slice(0, this.#random.below(keys.length + 1)) : keys;
    await this.#inner.delete(some);
    if (some.length < keys.length) throw new StoreError('UNAVAILABLE', 'the connection was lost');
  }

  list(prefix: string, options?: { readonly after?: ObjectKey }): AsyncIterable<ListedObject> {
    return this.#inner.list(prefix, options);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface Tree {
  readonly covers: number;
  readonly root: PageReference;
  readonly atMs: number;
}

const never = 1000 * dayMs;
const fileSizes = [300, 5000, 60_000, 200_000, 900_000];

class Life {
  readonly #random: SeededRandom;
  /** So that a life is the same again. */
  readonly #secrets: SeededRandom;
  readonly #clock = new HeldClock();
  readonly #disk = new SimulatedDisk({ seed: 1 });
  readonly #memory = new MemoryStore({ disk: this.#disk });
  readonly #store: MoodyStore;
  readonly #devices: (TestDevice | undefined)[];
  /** What the applications of each device have written and not removed, by path. */
  readonly #files: Map<string, Uint8Array>[];
  readonly #events = new Map<LifeEvent, number>();
  readonly #findings: string[] = [];
  readonly #windowMs: number;
  readonly #trees: Tree[] = [];
  /** What the newest tree that was counted covers. */
  #newest = 0;
  #volume!: TestVolume;
  #keys!: VolumeKeys;
  #names = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#secrets = new SeededRandom(seed + 2);
    this.#store = new MoodyStore(this.#memory, new SeededRandom(seed + 1));
    const count = 1 + this.#random.below(3);
    this.#devices = Array.from({ length: count }, () => undefined);
    this.#files = this.#devices.map(() => new Map<string, Uint8Array>());
    this.#windowMs = this.#random.below(100) < 50 ? 0 : 7 * dayMs;
  }

  async run(steps: number): Promise<LifeResult> {
    this.#volume = await createTestVolume(this.#store, { random: this.#secrets, clock: this.#clock, keyFile: this.#random.bytes(64) });
    for (const index of this.#devices.keys()) await this.#disk.makeDirectory(`/${index}`);
    await this.#disk.makeDirectory('/fresh');
    const { volumeId, rootSecret } = this.#volume;
    const root = new RootKeys(new Uint8Array(rootSecret), systemRandom);
    const genesis = await readGenesis({ store: this.#store, disk: this.#disk, stateDirectory: '/0', root, volumeId });
    this.#keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random: systemRandom });
    for (const index of this.#devices.keys()) {
      const device = await this.#open(index);
      await device.mkdir(`${index}`);
      await device.volume.flush();
    }
    for (let step = 0; step < steps && this.#findings.length === 0; step++) await this.#step();
    this.#store.failing = 0;
    if (this.#findings.length === 0) await this.#judge();
    for (const device of this.#devices) await device?.volume.close();
    return { findings: this.#findings, events: this.#events };
  }

  #count(event: LifeEvent, amount = 1): void {
    this.#events.set(event, (this.#events.get(event) ?? 0) + amount);
  }

  async #open(index: number): Promise<TestDevice> {
    const device = await TestDevice.open(this.#volume, {
      disk: this.#disk,
      stateDirectory: `/${index}`,
      deviceName: `device ${index}`,
      clock: this.#clock,
      random: this.#secrets,
      heartbeatMs: 0,
      commitDelayMs: never,
      pollIntervalMs: never,
      contentLimits: { journalBytesMax: 16 * 1024 },
      foldBounds: { entries: 20, bytes: 1 << 20 },
    });
    this.#devices[index] = device;
    return device;
  }

  /** While the store fails, a device may not be open. */
  async #device(): Promise<readonly [number, TestDevice | undefined]> {
    const index = this.#random.below(this.#devices.length);
    return [index, this.#devices[index] ?? (await this.#mayFail(() => this.#open(index)))];
  }

  async #mayFail<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      const isPassing = (error instanceof StoreError || error instanceof VolumeError) && error.code === 'UNAVAILABLE' && this.#store.failing > 0;
      if (!isPassing) this.#findings.push(error instanceof Error ? `${error.message}: ${error.stack}` : String(error));
      return undefined;
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    if (random.below(100) < 3) {
      this.#store.failing = this.#store.failing > 0 ? 0 : 10;
      this.#count('failing requests');
    }
    const [index, device] = await this.#device();
    if (!device) return;
    const files = this.#files[index]!;
    const paths = [...files.keys()];
    const any = paths[random.below(Math.max(1, paths.length))];
    switch (random.below(16)) {
      case 0:
      case 1:
      case 2: {
        const path = `${index}/${this.#names++}`;
        const bytes = random.bytes(fileSizes[random.below(fileSizes.length)]!);
        this.#count('write');
        await this.#mayFail(async () => {
          await device.write(path, bytes);
          files.set(path, bytes);
        });
        break;
      }
      case 3:
        // A clone of a file whose first write was cut off is empty.
        if (any === undefined || files.get(any)!.length === 0) break;
        this.#count('overwrite');
        await this.#mayFail(async () => {
          const before = files.get(any)!;
          const offset = random.below(before.length);
          const piece = random.bytes(1 + random.below(before.length - offset));
          files.delete(any);
          await device.write(any, piece, offset);
          const after = new Uint8Array(before);
          after.set(piece, offset);
          files.set(any, after);
        });
        break;
      case 4:
      case 5:
      case 6:
        if (any === undefined) break;
        this.#count('remove');
        await this.#mayFail(async () => {
          files.delete(any);
          await device.unlink(any);
        });
        break;
      case 7:
        await this.#clone(index, device);
        break;
      case 12:
        this.#count('snapshot');
        await this.#mayFail(() => device.volume.snapshots.create(`${this.#names++}`));
        break;
      case 13: {
        const [snapshot] = (await this.#mayFail(() => device.volume.snapshots.list())) ?? [];
        if (!snapshot) break;
        this.#count('snapshot removed');
        await this.#mayFail(() => device.volume.snapshots.remove(snapshot.name));
        break;
      }
      case 8:
        this.#count('flush');
        await this.#mayFail(() => device.volume.flush());
        break;
      case 9:
        this.#count('look');
        await this.#mayFail(() => device.volume.refresh());
        break;
      case 10:
        this.#sleep();
        break;
      case 11:
        this.#count('crash');
        await device.volume.close();
        this.#devices[index] = undefined;
        break;
      default:
        await this.#collect(index, device);
    }
  }

  /** Of a file of any device, as this one sees it: so pending work refers to packs of others, and to what is gone. */
  async #clone(index: number, device: TestDevice): Promise<void> {
    const folder = `${this.#random.below(this.#files.length)}`;
    const names = (await this.#mayFail(async () => ((await device.exists(folder)) ? device.list(folder) : []))) ?? [];
    const name = names[this.#random.below(Math.max(1, names.length))];
    if (name === undefined) return;
    this.#count('clone');
    await this.#mayFail(async () => {
      const target = `${index}/${this.#names++}`;
      await device.clone(`${folder}/${name}`, target);
      this.#files[index]!.set(target, await device.read(target));
    });
  }

  /** Commits, and clones what it sees. */
  async #workBeside(index: number, device: TestDevice): Promise<void> {
    this.#count('work beside');
    await this.#clone(index, device);
    await this.#mayFail(() => device.volume.flush());
  }

  #sleep(): void {
    const isLong = this.#random.below(100) < 20;
    this.#count(isLong ? 'long sleep' : 'sleep');
    this.#clock.advance(isLong ? 40 * dayMs : this.#random.below(2 * dayMs));
  }

  async #collect(index: number, device: TestDevice): Promise<void> {
    const stop = new AbortController();
    let isDone = false;
    const isCut = this.#random.below(100) < 20;
    let left = this.#random.below(300);
    // Another device goes on meanwhile.
    const other = this.#random.below(this.#devices.length);
    const beside = other === index ? undefined : this.#devices[other];
    let before = this.#random.below(20);
    let working: Promise<void> = Promise.resolve();
    const onProgress = (): void => {
      if (beside && before-- === 0) working = this.#workBeside(other, beside);
      if (isCut && left-- === 0) stop.abort(new VolumeError('UNAVAILABLE', 'somebody pressed Ctrl-C'));
    };
    this.#count(isCut ? 'interrupted collection' : 'collection');
    try {
      const report = await device.volume.collect({ windowMs: this.#windowMs, dryRun: false, onProgress, signal: stop.signal });
      this.#count('packs freed', report.freed.packs);
      this.#count('bytes moved', report.movedBytes);
      const wrong = this.#store.failing > 0 ? [] : await device.volume.recount();
      this.#findings.push(...wrong.slice(0, 3));
      isDone = true;
    } catch (error) {
      if (!stop.signal.aborted && this.#store.failing === 0) throw error;
    }
    await working;
    const { head } = await AccountFiles.open({ disk: this.#disk, stateDirectory: `/${index}`, key: this.#keys.device });
    this.#newest = Math.max(this.#newest, head?.covers ?? 0);
    if (isDone && head?.root) this.#trees.push({ covers: head.covers, root: head.root, atMs: this.#clock.monotonicMs() });
    await this.#judgeTrees(device);
  }

  /** The packs of each tree that may still be asked for are in the store. */
  async #judgeTrees(device: TestDevice): Promise<void> {
    const present = new Set<ObjectKey>();
    for await (const { key } of this.#memory.list('packs/')) present.add(key);
    const retained = this.#trees.filter(({ covers, atMs }) => covers === this.#newest || this.#clock.monotonicMs() - atMs < this.#windowMs);
    const failing = this.#store.failing;
    this.#store.failing = 0;
    const snapshots = await device.volume.snapshots.list();
    this.#store.failing = failing;
    for (const { sequence, root } of snapshots) if (root) retained.push({ covers: sequence, root, atMs: 0 });
    for (const { covers, root } of retained) {
      const source = new PackSource({ store: this.#memory, keys: this.#keys.current, staging: new Map(), memory: { chunks: 0 } });
      try {
        const { counts } = await changedReferences(new TreeReader(source), undefined, root);
        const lost = [...counts.keys()].filter((pack: PackId) => !present.has(packKey(pack)));
        if (lost.length > 0) this.#findings.push(`${lost.length} packs of the tree at ${covers} are gone, the newest is ${this.#newest}`);
      } catch (error) {
        this.#findings.push(`the tree at ${covers} cannot be read, the newest is ${this.#newest}: ${describeError(error)}`);
      }
    }
  }

  async #judge(): Promise<void> {
    const devices: TestDevice[] = [];
    for (const [index, known] of this.#devices.entries()) devices.push(known ?? (await this.#open(index)));
    // An upload that was under way may fail yet.
    for (const device of devices) await device.volume.flush().catch(() => {});
    for (let round = 0; round < 3; round++) for (const device of devices) await device.volume.flush();
    for (const device of devices) await device.volume.refresh();
    await this.#compare(devices);
    for (const { name } of await devices[0]!.volume.snapshots.list()) await devices[0]!.volume.snapshots.remove(name);
    // All have been heard of, and the window is over: space comes back.
    for (let round = 0; round < 6; round++) {
      for (const device of devices) {
        // Identities that a device had before are heard of no more; all devices are open.
        await device.volume.collect({ windowMs: this.#windowMs, dryRun: false, lapseMs: 30 * dayMs });
        await device.volume.flush();
        await device.write('sign', `of life ${round}`);
        await device.volume.flush();
      }
      for (const device of devices) await device.volume.refresh();
      this.#clock.advance(8 * dayMs);
    }
    await this.#compare(devices);
    const checked = await checkVolume({ ...this.#volume, store: this.#memory, random: systemRandom, data: true, names: false });
    for (const { code, message } of checked.report.findings) if (code !== 'PACK_UNUSED') this.#findings.push(`check: ${code}: ${message}`);
    const { live, stored } = await devices[0]!.volume.collect({ windowMs: this.#windowMs, dryRun: false, lapseMs: 30 * dayMs });
    let bytes = 0;
    for await (const { size = 0 } of this.#memory.list('packs/')) bytes += size;
    if (bytes > 1.3 * live + 4_000_000) this.#findings.push(`${bytes} bytes are stored for ${live} that are live, ${stored.bytes} named`);
  }

  async #compare(devices: readonly TestDevice[]): Promise<void> {
    const disk = new SimulatedDisk({ seed: 1 });
    await disk.makeDirectory('/state');
    const options = {
      disk,
      stateDirectory: '/state',
      deviceName: 'fresh',
      clock: this.#clock,
      heartbeatMs: 0,
      readOnly: true,
      pollIntervalMs: never,
    };
    const fresh = await TestDevice.open(this.#volume, options);
    for (const [index, files] of this.#files.entries()) {
      for (const [path, bytes] of files) {
        for (const device of [devices[index]!, fresh]) {
          const found = await device.read(path).catch((error: unknown) => String(error));
          if (typeof found === 'string' || !found.equals(bytes)) {
            this.#findings.push(
              `${path} is not what was written${device === fresh ? ', for a new device' : ''}: ${typeof found === 'string' ? found : found.length}`,
            );
            break;
          }
        }
      }
    }
    await fresh.volume.close();
  }
}

/** Runs one life of so many steps. */
export const collectingLife = (seed: number, steps = 120): Promise<LifeResult> => new Life(seed).run(steps);
