/**
 * Tests when the log is polled (src/volume/log-watch.ts): how often at which times, and what a store that can wait may
 * cause. No real time passes.
 */
import t from 'tap';
import type { Clock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { type AwaitOptions, StoreError } from '../../src/store/object-store.js';
import { LogWatch, remotePace } from '../../src/volume/log-watch.js';
import { CountingStore } from '../suite/counting-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const hourMs = 3_600_000;

/** A sleep moves the clock after everything that can run has run. */
class PatientClock extends ManualClock {
  override async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    await new Promise(setImmediate);
    await super.sleep(delayMs, signal);
  }
}

const watchOf = (
  clock: Clock,
  awaitObject?: (key: string, options: AwaitOptions) => Promise<boolean>,
  onHint: (isThere: boolean) => void = () => {},
) =>
  new LogWatch({
    store: awaitObject ? { awaitObject } : {},
    nextKey: () => 'log/1',
    clock,
    logger: silentLogger,
    pace: remotePace,
    onHint,
  });

t.test('the pause between polls grows while nothing happens and falls back on first use', (t) => {
  const clock = new ManualClock();
  const hints: boolean[] = [];
  const watch = watchOf(clock, undefined, (isThere) => hints.push(isThere));
  t.equal(watch.pauseMs(), remotePace.busyMs);
  clock.advance(60_000);
  t.equal(watch.pauseMs(), 3000, 'a twentieth');
  clock.advance(hourMs);
  t.equal(watch.pauseMs(), remotePace.idleMs, 'and no more than that');
  watch.used();
  t.same(hints, [false], 'a sleeping waiter is woken');
  t.equal(watch.pauseMs(), remotePace.busyMs);
  watch.used();
  t.equal(hints.length, 1, 'once');
  clock.advance(hourMs);
  watch.moved();
  t.equal(watch.pauseMs(), remotePace.busyMs, 'a moving log counts as use');
  t.end();
});

t.test('a store that supports it waits for the next commit, and again after each new head', async (t) => {
  const clock = new PatientClock();
  const asked: { readonly resolve: (isThere: boolean) => void; readonly signal: AbortSignal | undefined; readonly timeoutMs: number }[] = [];
  const hints: boolean[] = [];
  const waiting = (_key: string, { signal, timeoutMs }: AwaitOptions): Promise<boolean> =>
    new Promise((resolve, reject) => {
      asked.push({ resolve, signal, timeoutMs });
      signal?.addEventListener('abort', () => reject(signal.reason as Error));
    });
  const watch = watchOf(clock, waiting, (isThere) => hints.push(isThere));
  watch.start();
  t.equal(asked.length, 1);
  t.ok((asked[0]?.timeoutMs ?? 0) < 60_000, 'less than proxies allow');
  asked[0]?.resolve(true);
  await new Promise(setImmediate);
  t.same(hints, [true]);
  t.equal(watch.pauseMs(), 60_000, 'then polls are rare');
  watch.moved();
  while (asked.length < 2) await new Promise(setImmediate);
  watch.moved();
  while (asked.length < 3) await new Promise(setImmediate);
  t.equal(asked[1]?.signal?.aborted, true, 'the wait for the old commit is cancelled');
  await watch.stop();
  t.equal(asked[2]?.signal?.aborted, true);
});

for (const [name, answer] of [
  ['says at once that there is something', () => Promise.resolve(true)],
  ['says at once that there is nothing', () => Promise.resolve(false)],
  ['fails at once', () => Promise.reject(new StoreError('PROTOCOL', 'no'))],
] as const) {
  t.test(`a store that ${name} is asked seldom and polled like one that cannot wait`, async (t) => {
    const clock = new PatientClock();
    const startMs = clock.monotonicMs();
    let count = 0;
    const watch = watchOf(clock, () => {
      count++;
      return answer();
    });
    watch.start();
    while (clock.monotonicMs() - startMs < hourMs) await new Promise(setImmediate);
    t.ok(count > 10 && count < 100, `${count} times an hour`);
    t.equal(watch.pauseMs(), remotePace.idleMs);
    await watch.stop();
  });
}

t.test('an idle remote volume costs at most 300 requests an hour', async (t) => {
  const clock = new PatientClock();
  // A disk of this machine takes time, in which this clock would go on.
  const disk = new SimulatedDisk();
  await disk.makeDirectory('/state');
  const store = new CountingStore(new MemoryStore({ disk }));
  const volume = await createTestVolume(store);
  const device = await TestDevice.open(volume, {
    disk,
    stateDirectory: '/state',
    clock,
    pollIntervalMs: undefined,
    commitDelayMs: 1000,
  });
  await device.volume.flush();
  const passHours = async (hours: number): Promise<void> => {
    const untilMs = clock.monotonicMs() + hours * hourMs;
    while (clock.monotonicMs() < untilMs) await new Promise(setImmediate);
  };
  await passHours(1);
  const before = { ...store.counts };
  await passHours(10);
  const { gets, lists, puts, heads } = store.counts;
  const perHour = (gets - before.gets + lists - before.lists + puts - before.puts + heads - before.heads) / 10;
  t.comment(`${perHour} requests an hour, ${(lists - before.lists) / 10} of them lists`);
  t.ok(perHour <= 305, `${perHour} requests an hour`);
  t.ok(perHour >= 100, 'it does look');
  t.equal(puts - before.puts, 1, 'one of them a sign of life, every eight hours');
  await device.volume.close();
});
