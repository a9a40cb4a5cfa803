import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectBody, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { FaultyStore } from '../suite/faulty-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { asSealed, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';

const seed = testSeed();

function retrying(inner: ObjectStore, disk = new SimulatedDisk(), clock = new ManualClock()): RetryingStore {
  return new RetryingStore(inner, { clock, random: new SeededRandom(seed), disk, logger: silentLogger, deadlineMs: 600_000 });
}

objectStoreSuite(t, `retrying over a store that loses 30 % (TEST_SEED=${seed})`, async () => {
  const disk = new SimulatedDisk();
  const faulty = new FaultyStore(new MemoryStore({ disk }), new SeededRandom(seed), { lostRequests: 15, lostAnswers: 15, delays: 30 });
  let count = 0;
  return { store: retrying(faulty, disk), writeFile: (bytes) => writeWhole(disk, `/file-${count++}`, bytes) };
});

/** A memory store whose puts follow a script, one step a call. */
class ScriptedStore extends MemoryStore {
  readonly script: ((put: () => Promise<PutOutcome>) => Promise<PutOutcome>)[] = [];
  putCount = 0;

  override put(key: string, body: ObjectBody, options?: { ifAbsent?: boolean }): Promise<PutOutcome> {
    this.putCount++;
    const step = this.script.shift();
    return step ? step(() => super.put(key, body, options)) : super.put(key, body, options);
  }
}

const lost = (): Promise<never> => Promise.reject(new StoreError('UNAVAILABLE', 'lost'));

t.test('a put whose answer was lost succeeds when its bytes are in the store', async (t) => {
  const disk = new SimulatedDisk();
  const inner = new ScriptedStore({ disk });
  const store = retrying(inner, disk);
  inner.script.push((put) => put().then(lost));
  t.equal(await store.put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
  t.equal(inner.putCount, 1, 'it was not sent again');
  const path = await writeWhole(disk, '/pack', new Uint8Array(5 * 1024 * 1024));
  inner.script.push((put) => put().then(lost));
  t.equal(await store.put('packs/aa/x', { path, size: 5 * 1024 * 1024 }), 'created');
  t.equal(inner.putCount, 2, 'a file is compared piece by piece');
});

t.test('a put whose request was lost is retried', async (t) => {
  const inner = new ScriptedStore();
  inner.script.push(lost, lost);
  t.equal(await retrying(inner).put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
  t.equal(inner.putCount, 3);
});

t.test('an object that another writer put meanwhile is not taken for our own', async (t) => {
  for (const other of ['theirs', 'mine and more', 'min']) {
    const inner = new ScriptedStore();
    inner.script.push(async () => {
      await inner.put('log/1', sealedText(other));
      return lost();
    });
    t.equal(await retrying(inner).put('log/1', sealedText('mine'), { ifAbsent: true }), 'exists', other);
  }
});

t.test('a lost attempt that arrives late still counts as our own', async (t) => {
  const inner = new ScriptedStore();
  inner.script.push(lost, async (put) => {
    // The first attempt arrives between the read-back and this second one.
    await put();
    return put();
  });
  t.equal(await retrying(inner).put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
});

t.test('a definite answer is passed on at once', async (t) => {
  const inner = new ScriptedStore();
  const clock = new ManualClock();
  const store = retrying(inner, undefined, clock);
  await store.put('log/1', sealedText('mine'));
  t.equal(await store.put('log/1', sealedText('mine'), { ifAbsent: true }), 'exists', 'the caller compares');
  for (const code of ['DENIED', 'FULL', 'READ_ONLY', 'NOT_A_STORE', 'PROTOCOL'] as const) {
    inner.script.push(() => Promise.reject(new StoreError(code, 'no')));
    await t.rejects(store.put('log/2', sealedText('x')), { code });
  }
  t.same(clock.sleeps, []);
});

t.test('it gives up at the deadline, with growing pauses between the attempts', async (t) => {
  const clock = new ManualClock();
  const random = new SeededRandom(seed);
  const faulty = new FaultyStore(new MemoryStore(), random, { lostRequests: 100 });
  const store = new RetryingStore(faulty, { clock, random, disk: new SimulatedDisk(), deadlineMs: 60_000, baseMs: 100, waitMaxMs: 5000 });
  const startMs = clock.monotonicMs();
  await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE' });
  t.ok(clock.monotonicMs() - startMs <= 60_000);
  t.ok(clock.sleeps.length >= 12);
  for (const [index, ms] of clock.sleeps.entries()) t.ok(ms <= Math.min(5000, 100 * 2 ** index), `wait ${index} (TEST_SEED=${seed})`);
  await t.rejects(store.put('keys/a', asSealed(new Uint8Array(3))), { code: 'UNAVAILABLE' });
  await t.rejects(store.delete(['keys/a']), { code: 'UNAVAILABLE' });
});

t.test('an abort ends the wait', async (t) => {
  const controller = new AbortController();
  const inner = new ScriptedStore();
  inner.script.push(() => {
    controller.abort(new Error('enough'));
    return lost();
  });
  await t.rejects(retrying(inner).put('keys/a', sealedText('a'), { signal: controller.signal }));
  t.equal(inner.putCount, 1);
});
