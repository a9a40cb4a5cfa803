/**
 * Tests signs of life and their absence, which a store that withholds commits cannot hide (doc/security.md,
 * "Freshness"). No real time passes.
 */
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { createLogger } from '../../src/base/logger.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ObjectKey, ObjectStore } from '../../src/store/object-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, type DeviceOptions, TestDevice } from '../suite/test-device.js';

const hourMs = 3_600_000;

/** Only the test moves the time: sleepers wake when it has passed. */
class TestClock extends ManualClock {
  readonly #sleeping = new Set<() => void>();

  override advance(ms: number): void {
    super.advance(ms);
    for (const look of this.#sleeping) look();
  }

  override sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    const untilMs = this.monotonicMs() + delayMs;
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (signal?.aborted !== true && this.monotonicMs() < untilMs) return;
        this.#sleeping.delete(look);
        signal?.removeEventListener('abort', look);
        if (signal?.aborted === true) reject(signal.reason as Error);
        else resolve();
      };
      this.#sleeping.add(look);
      signal?.addEventListener('abort', look, { once: true });
      look();
    });
  }
}

/** Hides everything in the log that comes after `freeze`. */
class FreezingStore extends MemoryStore {
  #frozen: Set<ObjectKey> | undefined;

  async freeze(): Promise<void> {
    const shown = new Set<ObjectKey>();
    for await (const { key } of super.list('log/')) shown.add(key);
    this.#frozen = shown;
  }

  override async get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#isHidden(key) ? undefined : super.get(key, options);
  }

  override async *list(...given: Parameters<MemoryStore['list']>): AsyncIterable<ListedObject> {
    for await (const object of super.list(...given)) if (!this.#isHidden(object.key)) yield object;
  }

  #isHidden(key: ObjectKey): boolean {
    return this.#frozen !== undefined && key.startsWith('log/') && !this.#frozen.has(key);
  }
}

/**
 * Lets time pass, slowly enough for the work of the devices with real files, until `isOver`; returns whether that
 * happened.
 */
async function passTime(clock: TestClock, hours: number, isOver: () => boolean = () => false): Promise<boolean> {
  const untilMs = clock.monotonicMs() + hours * hourMs;
  while (clock.monotonicMs() < untilMs) {
    if (isOver()) return true;
    clock.advance(300_000);
    await wait(1);
  }
  return isOver();
}

async function openDevice(
  t: Parameters<typeof scratchDirectory>[0],
  store: ObjectStore,
  volume: Parameters<typeof TestDevice.open>[0],
  clock: TestClock,
  more: Partial<DeviceOptions>,
) {
  const device = await TestDevice.open(
    { ...volume, store },
    { disk: systemDisk, stateDirectory: await scratchDirectory(t), clock, pollIntervalMs: undefined, ...more },
  );
  t.teardown(() => device.volume.close());
  return device;
}

const freshnessOf = (device: TestDevice): Readonly<Record<string, string | number | boolean>> => device.volume.details()['freshness'] ?? {};

t.test('an idle device shows signs of life, and others report when they stop', async (t) => {
  const clock = new TestClock();
  const inner = new FreezingStore({ disk: systemDisk });
  const volume = await createTestVolume(inner, { clock });
  const lines: { readonly level: string; readonly message: string }[] = [];
  const logger = createLogger((line) => lines.push(JSON.parse(line) as (typeof lines)[number]), 'info');
  const watcher = await openDevice(t, inner, volume, clock, { deviceName: 'watcher', maxStalenessMs: 12 * hourMs, heartbeatMs: 0, logger });
  t.equal(freshnessOf(watcher)['provenSecondsAgo'], undefined, 'no other device could prove anything');
  await passTime(clock, 14);
  t.equal(freshnessOf(watcher)['stale'], false, 'and nobody is missing');
  const other = await openDevice(t, inner, volume, clock, { deviceName: 'other', heartbeatMs: hourMs });
  const sequenceOf = (device: TestDevice): number => Number(device.volume.details()['commit']?.['sequence']);
  const before = sequenceOf(other);
  t.ok(await passTime(clock, 40, () => sequenceOf(watcher) >= before + 3), 'the other device is idle, and commits');
  t.equal(freshnessOf(watcher)['stale'], false, 'and has been heard of');
  t.same(
    lines.filter(({ level }) => level === 'warn'),
    [],
  );

  await inner.freeze();
  t.ok(await passTime(clock, 30, () => freshnessOf(watcher)['stale'] === true), 'withheld commits are noticed');
  t.ok(Number(freshnessOf(watcher)['provenSecondsAgo']) > 12 * 3600);
  t.ok(freshnessOf(watcher)['storeAnswered'], 'although the store answers');
  const warnings = (): number => lines.filter(({ message }) => message.includes('withholding')).length;
  t.ok(await passTime(clock, 2, () => warnings() > 0), 'the log says so');
  await passTime(clock, 1);
  t.equal(warnings(), 1, 'once');
  await watcher.write('still', 'works');
  t.equal(await watcher.text('still'), 'works', 'the drive goes on');
  await other.close();
});

t.test('a device without heartbeats commits nothing, and a clock that is ahead proves nothing', async (t) => {
  const clock = new TestClock();
  const store = new MemoryStore({ disk: systemDisk });
  const volume = await createTestVolume(store, { clock });
  const count = async (): Promise<number> => {
    let commits = 0;
    for await (const _ of store.list('log/')) commits++;
    return commits;
  };
  const silent = await openDevice(t, store, volume, clock, { heartbeatMs: 0, maxStalenessMs: hourMs });
  const before = await count();
  await passTime(clock, 30);
  t.equal(await count(), before, 'nothing for thirty hours');
  const ahead = new TestClock();
  ahead.advance(clock.monotonicMs() - ahead.monotonicMs() + 1000 * hourMs);
  await openDevice(t, store, volume, ahead, { deviceName: 'ahead', heartbeatMs: 0 });
  await silent.volume.refresh();
  t.equal(freshnessOf(silent)['stale'], false, 'it has just been heard of');
  await passTime(clock, 2);
  t.equal(freshnessOf(silent)['stale'], true, 'but not for forty days');
});
