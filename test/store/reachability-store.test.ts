/**
 * A store that goes offline: how long requests wait, when they fail at once, and how its return is noticed. The test
 * sets the clock.
 */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ObjectBody, ObjectKey, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { ReachabilityStore } from '../../src/store/reachability-store.js';
import { objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { StepClock } from '../suite/step-clock.js';
import { writeWhole } from '../suite/whole-file.js';

type Condition = 'fine' | 'hanging' | 'refusing';

/** Answers, never answers, or refuses, as the test says; and counts. */
class MoodyStore extends MemoryStore {
  condition: Condition = 'fine';
  gets = 0;
  aborted = 0;

  override async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    this.gets++;
    await this.#pass(options.signal);
    return super.get(key, options);
  }

  override async put(
    key: ObjectKey,
    body: ObjectBody,
    options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<PutOutcome> {
    await this.#pass(options.signal);
    return super.put(key, body, options);
  }

  async #pass(signal: AbortSignal | undefined): Promise<void> {
    if (this.condition === 'refusing') throw new StoreError('UNAVAILABLE', 'refused');
    if (this.condition === 'fine') return;
    await new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => {
        this.aborted++;
        reject(signal.reason as Error);
      });
    });
  }
}

interface World {
  readonly inner: MoodyStore;
  readonly clock: StepClock;
  readonly store: ReachabilityStore;
  readonly changes: boolean[];
}

function createWorld(offline = false): World {
  const inner = new MoodyStore();
  if (offline) inner.condition = 'hanging';
  const clock = new StepClock();
  const store = new ReachabilityStore(inner, {
    clock,
    timeoutMs: 30_000,
    probe: (signal) => inner.get('keys/reachable', { signal }),
    offline,
  });
  const changes: boolean[] = [];
  store.onChange((isOffline) => changes.push(isOffline));
  return { inner, clock, store, changes };
}

/** The outcome of a request, once it has ended. */
function follow(request: Promise<unknown>): { outcome: string } {
  const followed: { outcome: string } = { outcome: 'waiting' };
  request.then(
    () => {
      followed.outcome = 'answered';
    },
    (error: unknown) => {
      followed.outcome = error instanceof StoreError ? error.code : String(error);
    },
  );
  return followed;
}

objectStoreSuite(t, 'watched', async () => {
  const disk = new SimulatedDisk();
  let count = 0;
  return {
    store: new ReachabilityStore(new MemoryStore({ disk }), { clock: systemClock, timeoutMs: 30_000, probe: () => Promise.resolve() }),
    writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes),
  };
});

t.test('an unanswered request ends at the timeout, and later ones fail at once', async (t) => {
  const { inner, clock, store, changes } = createWorld();
  t.equal(await store.get('a'), undefined);
  inner.condition = 'hanging';
  const first = follow(store.get('a'));
  await clock.advance(20_000);
  const second = follow(store.get('b'));
  await clock.advance(9000);
  t.equal(first.outcome, 'waiting', 'not before its time');
  t.equal(store.offlineSinceMs, undefined);
  await clock.advance(1100);
  t.equal(first.outcome, 'UNAVAILABLE');
  t.equal(second.outcome, 'UNAVAILABLE', 'nobody waits on when it is known');
  t.not(store.offlineSinceMs, undefined);
  const before = inner.gets;
  const error = await store.get('c').catch((reason: unknown) => reason);
  t.ok(error instanceof StoreError && error.retryAfterMs === Number.POSITIVE_INFINITY, 'and is not tried again either');
  t.equal(inner.gets, before, 'the store is not asked');
  t.strictSame(changes, [true]);
});

t.test('the return of the store is noticed without a request', async (t) => {
  const { inner, clock, store, changes } = createWorld();
  inner.condition = 'refusing';
  t.equal(follow(store.get('a')).outcome, 'waiting');
  await clock.advance(40_000);
  t.strictSame(changes, [true]);
  inner.condition = 'fine';
  await clock.advance(6000);
  t.strictSame(changes, [true, false]);
  t.equal(await store.get('a'), undefined);
  t.equal(store.offlineSinceMs, undefined);
});

t.test('a store that refuses for less than the timeout is not taken for offline', async (t) => {
  const { inner, clock, store, changes } = createWorld();
  inner.condition = 'refusing';
  await t.rejects(store.get('a'), { code: 'UNAVAILABLE', message: 'refused' });
  await clock.advance(25_000);
  inner.condition = 'fine';
  await clock.advance(30_000);
  t.strictSame(changes, []);
});

t.test('the drive does not go offline during a long upload while the store answers other requests', async (t) => {
  const { inner, clock, store, changes } = createWorld();
  inner.condition = 'hanging';
  const upload = follow(store.put('packs/aa', sealedText('a')));
  inner.condition = 'fine';
  await clock.advance(600_000);
  t.equal(upload.outcome, 'waiting');
  t.strictSame(changes, []);
  t.ok(inner.gets > 10, 'the probe asks');
});

t.test('a request that times out is aborted, and an abort by the caller is reported as such', async (t) => {
  const { inner, clock, store } = createWorld();
  inner.condition = 'hanging';
  const caller = new AbortController();
  const mine = follow(store.get('a', { signal: caller.signal }));
  const other = follow(store.get('b'));
  caller.abort(new Error('mine'));
  await clock.advance(10);
  t.equal(mine.outcome, 'Error: mine');
  t.equal(other.outcome, 'waiting');
  await clock.advance(31_000);
  t.equal(other.outcome, 'UNAVAILABLE');
  t.ok(inner.aborted >= 2);
});

t.test('it can start offline, and then no request waits', async (t) => {
  const { inner, clock, store, changes } = createWorld(true);
  await t.rejects(store.get('a'), { code: 'UNAVAILABLE' });
  await t.rejects(store.head('a'), { code: 'UNAVAILABLE' });
  await t.rejects(store.delete(['a']), { code: 'UNAVAILABLE' });
  inner.condition = 'fine';
  await clock.advance(40_000);
  t.strictSame(changes, [false]);
  t.equal(await store.get('a'), undefined);
});

t.test('nothing runs after close', async (t) => {
  const { inner, clock, store } = createWorld(true);
  inner.condition = 'refusing';
  await clock.advance(1);
  await store.close();
  const before = inner.gets;
  await clock.advance(100_000);
  t.equal(inner.gets, before);
});
