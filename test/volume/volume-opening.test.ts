/**
 * Tests that opening a volume leaves nothing open or running, and loses nothing, when it fails at any stage
 * (doc/concurrency.md, "Replay").
 */
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { createLogger } from '../../src/base/logger.js';
import { rootIno } from '../../src/meta/key.js';
import { StoreError } from '../../src/store/object-store.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { SwitchedStore } from '../suite/switched-store.js';
import { createTestVolume, type DeviceOptions, TestDevice, type TestVolume } from '../suite/test-device.js';

t.setTimeout(0);

/** Counts sleepers. */
class SleepersClock implements Clock {
  readonly sleepers = new Set<Promise<void>>();
  readonly now = systemClock.now;
  readonly monotonicMs = systemClock.monotonicMs;

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    const sleeper: Promise<void> = systemClock.sleep(delayMs, signal).finally(() => this.sleepers.delete(sleeper));
    this.sleepers.add(sleeper);
    return sleeper;
  }
}

/** Counts listeners, and fails at a given request. */
class CountingStore extends SwitchedStore {
  listenerCount = 0;
  requestCount = 0;
  failsAt = Infinity;
  /** Whether it fails from that request on, or only there. */
  failsOn = false;

  override onChange(listener: (isOffline: boolean) => void): () => void {
    this.listenerCount++;
    const forget = super.onChange(listener);
    return () => {
      this.listenerCount--;
      forget();
    };
  }

  #request(): void {
    const index = this.requestCount++;
    if (index === this.failsAt || (this.failsOn && index > this.failsAt)) throw new StoreError('REFUSED', 'this request fails');
  }

  override async get(...request: Parameters<SwitchedStore['get']>): ReturnType<SwitchedStore['get']> {
    this.#request();
    return super.get(...request);
  }

  override async head(...request: Parameters<SwitchedStore['head']>): ReturnType<SwitchedStore['head']> {
    this.#request();
    return super.head(...request);
  }

  override async *list(...request: Parameters<SwitchedStore['list']>): ReturnType<SwitchedStore['list']> {
    this.#request();
    yield* super.list(...request);
  }
}

/** Runs `work` and returns how many intervals it left behind. */
async function intervalsLeft(work: () => Promise<void>): Promise<number> {
  const { setInterval: begin, clearInterval: end } = globalThis;
  const running = new Set<unknown>();
  globalThis.setInterval = (...given: Parameters<typeof begin>) => {
    const timer = begin(...given);
    running.add(timer);
    return timer;
  };
  globalThis.clearInterval = (timer) => {
    running.delete(timer);
    end(timer);
  };
  try {
    await work();
  } finally {
    Object.assign(globalThis, { setInterval: begin, clearInterval: end });
  }
  return running.size;
}

interface Scene {
  readonly volume: TestVolume;
  readonly store: CountingStore;
  readonly disk: SimulatedDisk;
}

/**
 * A device that has everything: a cache, a pin, uncommitted operations, dirty data and a staging pack, and unread
 * commits of another device.
 */
async function prepare(): Promise<Scene> {
  const disk = new SimulatedDisk();
  const store = new CountingStore(disk);
  for (const path of ['/state', '/other']) await disk.makeDirectory(path);
  const volume = await createTestVolume(store);
  const device = await TestDevice.open(volume, { disk, stateDirectory: '/state', foldBounds: { entries: 1, bytes: 1 } });
  await device.mkdir('kept');
  await device.write('kept/stored', 'in the store');
  await device.volume.flush();
  const kept = await device.ino('kept');
  await device.volume.pins.add({ ino: kept, parent: rootIno, name: 'kept' });
  await device.write('pending', 'an operation and content in the journal');
  await device.write('sealed', new Uint8Array(20_000).fill(7));
  await device.volume.sealContent(await device.ino('sealed'));
  const other = await TestDevice.open(volume, { disk, stateDirectory: '/other' });
  await other.write('foreign', 'from elsewhere');
  await other.volume.flush();
  await other.close();
  await device.close();
  return { volume, store, disk };
}

/**
 * Opens and closes at once. Returns the error of opening; nothing may be left of it, and the device must open again as
 * if nothing had happened.
 */
async function openOnce(t: Test, { volume, store }: Scene, disk: SimulatedDisk, where: string): Promise<unknown> {
  const clock = new SleepersClock();
  const rootSecret = new Uint8Array(volume.rootSecret);
  const logger = createLogger(() => {}, 'debug');
  const options: DeviceOptions = { disk, stateDirectory: '/state', clock, logger, reachability: store };
  let failure: unknown;
  const intervals = await intervalsLeft(async () => {
    try {
      const device = await TestDevice.open({ ...volume, rootSecret }, options);
      await device.close();
    } catch (error) {
      failure = error;
    }
  });
  await Promise.allSettled([...clock.sleepers].map((sleeper) => Promise.race([sleeper, new Promise(setImmediate)])));
  t.same(
    [[...disk.openPaths].map(({ path }) => path), intervals, store.listenerCount, clock.sleepers.size],
    [[], 0, 0, 0],
    `${where}: nothing is left`,
  );
  return failure;
}

t.test('opening closes everything again if any disk operation fails', async (t) => {
  const scene = await prepare();
  let failures = 0;
  for (const lasts of [false, true]) {
    for (let index = 0; ; index++) {
      const disk = scene.disk.clone(1);
      let count = 0;
      disk.fault = ({ kind }) => {
        const at = count++;
        return (at === index || (lasts && at > index)) && kind !== 'stat' ? 'EIO' : undefined;
      };
      const failure = await openOnce(t, scene, disk, `operation ${index}`);
      if (failure) failures++;
      disk.fault = undefined;
      if (index % 10 === 0) {
        const again = await TestDevice.open(scene.volume, { disk, stateDirectory: '/state' });
        t.equal(await again.text('pending'), 'an operation and content in the journal', `operation ${index}: nothing is lost`);
        await again.close();
      }
      if (count <= index) break;
    }
  }
  t.ok(failures > 40, `${failures} openings failed`);
});

t.test('opening closes everything again if any store request fails', async (t) => {
  const scene = await prepare();
  const { store } = scene;
  let failures = 0;
  for (const lasts of [false, true]) {
    for (let index = 0; ; index++) {
      Object.assign(store, { requestCount: 0, failsAt: index, failsOn: lasts });
      if (await openOnce(t, scene, scene.disk.clone(1), `request ${index}`)) failures++;
      if (store.requestCount <= index) break;
    }
  }
  t.ok(failures > 0, `${failures} openings failed`);
});
