/** When snapshots are taken and dropped without being asked for (doc/past.md, "Snapshots by themselves"). */
import t from 'tap';
import { systemClock, timespecOfMs } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { type SnapshotPolicy, usualPolicy } from '../../src/meta/snapshot.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { dueSnapshot, expiredSnapshots, type ScheduledSnapshot } from '../../src/volume/snapshot-schedule.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const start = Date.UTC(2026, 0, 1);

/** A drive that looks every `stepMs` for so many days. */
function live(days: number, policy: SnapshotPolicy, stepMs = 20 * 60_000): ScheduledSnapshot[] {
  let kept: ScheduledSnapshot[] = [];
  for (let now = start; now < start + days * dayMs; now += stepMs) {
    const due = dueSnapshot(now, policy, kept);
    if (due) kept.push({ ...due, isHeld: false });
    const expired = new Set(expiredSnapshots(now, policy, kept));
    kept = kept.filter((one) => !expired.has(one));
  }
  return kept;
}

const count = (snapshots: readonly ScheduledSnapshot[], kind: string): number => snapshots.filter((one) => one.kind === kind).length;

t.test('after a year and a half there is one for each hour, day, week and month of the policy', async (t) => {
  const kept = live(540, usualPolicy);
  // A longer interval begins with a snapshot that counts for the shorter ones as well.
  t.ok(kept.filter((one) => Date.parse(`${one.name.slice(0, 13)}:00Z`) > start + 540 * dayMs - 48 * hourMs).length >= 47, 'hours');
  t.ok(count(kept, 'daily') >= 11 && count(kept, 'daily') <= 14, 'days');
  t.ok(count(kept, 'weekly') >= 6 && count(kept, 'weekly') <= 8, 'weeks');
  t.ok(count(kept, 'monthly') >= 12 && count(kept, 'monthly') <= 13, 'months');
  t.equal(new Set(kept.map(({ name }) => name)).size, kept.length);
  t.strictSame(
    kept.map(({ name }) => name).toSorted(),
    kept.map(({ name }) => name),
    'names sort by time',
  );
});

t.test('kinds can be switched off, also all of them', async (t) => {
  const none = { hourly: 0, daily: 0, weekly: 0, monthly: 0 };
  t.strictSame(live(40, none), []);
  const daily = live(40, { ...none, daily: 5 * 86_400 });
  t.equal(count(daily, 'daily'), daily.length);
  t.ok(daily.length >= 5 && daily.length <= 6);
  t.match(daily[0]?.name, /T00\.00\.00Z$/);
});

t.test('a flood of snapshots pushes none out, nor do false times', async (t) => {
  const good = live(60, usualPolicy);
  const now = start + 60 * dayMs;
  const flood = Array.from(
    { length: 10_000 },
    (_, index): ScheduledSnapshot => ({
      name: new Date(now + index * hourMs).toISOString().replace(/:.*/, '.00.00Z'),
      kind: 'hourly',
      isHeld: false,
    }),
  );
  const expired = new Set(expiredSnapshots(now, usualPolicy, [...good, ...flood]));
  for (const one of good) t.notOk(expired.has(one), one.name);
});

t.test('a drive takes one an hour at most, only when something changed, and two devices take one together', async (t) => {
  let nowMs = start + 30 * 60_000;
  const clock = { ...systemClock, now: () => timespecOfMs(nowMs), roughSec: () => Math.floor(nowMs / 1000) };
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }), { clock });
  const open = async (): Promise<TestDevice> => TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), clock });
  const [one, two] = [await open(), await open()];
  const { snapshots } = one.volume;
  await one.write('file', 'first');
  t.match(await snapshots.takeDue(), { name: '2026-01-01T00.00.00Z', kind: 'monthly', timeMs: nowMs });
  await one.write('file', 'second');
  t.equal(await snapshots.takeDue(), undefined, 'the hour has one');
  nowMs += hourMs;
  t.match(await snapshots.takeDue(), { name: '2026-01-01T01.00.00Z', kind: 'hourly' });
  nowMs += hourMs;
  t.equal(await snapshots.takeDue(), undefined, 'nothing has changed since');
  await one.write('file', 'third');
  await two.write('another', 'changed too');
  const [ours, theirs] = [await snapshots.takeDue(), await two.volume.snapshots.takeDue()];
  t.strictSame(theirs, ours, 'two devices that do not know of each other');
  t.equal((await two.volume.snapshots.list()).length, 3);
  const held = await snapshots.hold('2026-01-01T01.00.00Z', true);
  t.equal(held, 'done');
  const manual = await snapshots.create('mine');
  nowMs += 100 * dayMs;
  t.equal(await snapshots.dropExpired(), 1);
  t.strictSame(
    (await snapshots.list()).map(({ name }) => name),
    ['2026-01-01T00.00.00Z', '2026-01-01T01.00.00Z', manual.name],
    'the month’s, the held one and the one that was asked for',
  );
  for (const device of [one, two]) await device.close();
});
