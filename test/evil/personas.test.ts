/** Every persona against devices of every age, judged by criterion U. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { TestDevice } from '../suite/test-device.js';
import type { EvilStore } from './evil-store.js';
import { personas } from './evil-store.js';
import { isRefusal, judge } from './oracle.js';
import type { Moment, World } from './world.js';
import { makeWorld } from './world.js';

const rounds = Number(process.env['TEST_ROUNDS'] ?? 6);
const seed = testSeed();
t.setTimeout(1_800_000);
/**
 * Nothing that a store made the devices keep may be left when all devices are closed, but for one answer of the largest
 * size (64 MiB), which the last request may still hold.
 */
const keptMax = 128 * 1024 * 1024;

/** Resources released in later turns of the event loop are awaited. */
async function keptBytes(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let kept = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 20; round++) {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    kept = Math.min(kept, heapUsed + external);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return kept;
}

const faults: string[] = [];
const onFault = (error: unknown): void => void faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
process.on('unhandledRejection', onFault);

/** Reads, polls, writes, flushes and reads again. Returns counts of the outcomes, and pushes violations. */
async function use(device: TestDevice, store: EvilStore, acceptable: readonly Moment['picture'][], violations: string[]): Promise<number> {
  const first = await judge(device, acceptable);
  violations.push(...first.violations);
  let stopped = false;
  for (let poll = 0; poll < 10; poll++) {
    await device.volume.refresh().catch((error: unknown) => {
      if (!isRefusal(error)) violations.push(`polling: ${String(error)}`);
      stopped = device.volume.details()['commit']?.['stopped'] === true;
    });
  }
  const writesBefore = store.writes;
  const written = await Promise.resolve()
    .then(() => device.write('written under attack', 'text'))
    .then(
      () => true,
      (error: unknown) => {
        if (!isRefusal(error)) violations.push(`writing: ${String(error)}`);
        return false;
      },
    );
  await device.volume.flush().catch((error: unknown) => {
    if (!isRefusal(error)) violations.push(`flushing: ${String(error)}`);
  });
  if (stopped && (written || store.writes !== writesBefore)) violations.push('it wrote after an integrity stop');
  const plus = written ? acceptable.map((picture) => ({ ...picture, 'written under attack': 'text' })) : [];
  const second = await judge(device, [...acceptable, ...plus]);
  violations.push(...second.violations);
  return first.right + second.right;
}

t.test(`reads are correct or fail with an allowed error, whatever the store does (TEST_SEED=${seed})`, async (t) => {
  const world: World = await makeWorld(seed);
  t.teardown(() => world.remove());
  const honest = await world.open(world.volume.store.copy());
  const sane = await judge(honest, [world.now.picture]);
  await honest.close();
  t.same(sane.violations, [], 'an honest store is read without a complaint');
  t.equal(sane.refused, 0);
  const keptBefore = await keptBytes();
  for (const [name, make] of Object.entries(personas)) {
    await t.test(name, async (t) => {
      const violations: string[] = [];
      let refusedMounts = 0;
      let right = 0;
      for (let round = 0; round < rounds; round++) {
        const random = new SeededRandom(seed + round * 7919);
        const store = world.volume.store.copy();
        for (const moment of world.moments) store.history.push(moment.objects);
        // A new device, one that knows the newest commit, and one that was offline for some time.
        const known = [undefined, world.moments.length - 1, random.below(world.moments.length)][round % 3];
        const state = known === undefined ? undefined : world.moments[known]?.states[random.below(2) === 0 ? 'a' : 'b'];
        const acceptable = world.moments.slice(known ?? 0).map(({ picture }) => picture);
        // A copy of b's state from before its first step, which has seen nothing.
        const everything = [{}, ...world.moments.map(({ picture }) => picture)];
        store.persona = make(random, store);
        let device: TestDevice;
        try {
          device = await world.open(store, state);
        } catch (error) {
          if (!isRefusal(error)) violations.push(`round ${round}, opening: ${error instanceof Error ? error.stack : String(error)}`);
          refusedMounts++;
          continue;
        }
        const found: string[] = [];
        const isNew = known === undefined || device.volume.details()['freshness']?.['history'] === 'unproven';
        right += await use(device, store, isNew ? everything : [...acceptable, ...everythingSince(world, state)], found);
        violations.push(...found.map((what) => `round ${round} (${store.persona?.name}): ${what}`));
        await device.close();
        if (store.largestAnswer > 80 * 1024 * 1024) violations.push('it took more than it may');
      }
      t.same(violations, [], `seed ${seed}`);
      t.comment(`${rounds} rounds: ${refusedMounts} mounts refused, ${right} reads right`);
    });
  }
  await new Promise((resolve) => setImmediate(resolve));
  t.same(faults, [], 'no promise was left rejected');
  const kept = (await keptBytes()) - keptBefore;
  t.ok(kept < keptMax, `${Math.round(kept / 2 ** 20)} MiB kept`);
});

/** When a wrote last, device b knows one step less, as its own state shows. */
function everythingSince(world: World, state: string | undefined): Moment['picture'][] {
  const index = world.moments.findIndex(({ states }) => Object.values(states).includes(state ?? ''));
  return world.moments.slice(Math.max(0, index - 1)).map(({ picture }) => picture);
}
