/**
 * Several `init` on one store, in every order that a paused, killed or unlucky one can bring about: one volume at most,
 * and whoever came too late is told so.
 */
import t from 'tap';
import { ClaimedStore } from '../../src/access/claimed-store.js';
import { listSlots, unlock } from '../../src/access/keyslots.js';
import { whyTaken } from '../../src/access/vacant-store.js';
import { listClaims } from '../../src/access/volume-claim.js';
import { toHex } from '../../src/base/bytes.js';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import type { SlotSecret } from '../../src/crypto/keyslot.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { createVolumeWithSecrets } from '../../src/program/compose.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOptions,
  PutOutcome,
} from '../../src/store/object-store.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { Failure } from '../../src/terminal/exit-code.js';
import { FaultyStore, UnconditionalStore } from '../suite/faulty-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { collect, sealedText } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);

/** Waits longer than any request here takes, without waiting for time to pass. */
const patientClock: Clock = {
  ...systemClock,
  async sleep() {
    for (let turns = 0; turns < 200; turns++) await new Promise((resolve) => setImmediate(resolve));
  },
};

/** The store as one `init` sees it: `step` is called around each request, and never closes what it shows. */
class SteppedStore implements ObjectStore {
  readonly description = 'stepped';
  readonly local = false;
  readonly #inner: ObjectStore;
  readonly #step: () => Promise<void>;

  constructor(inner: ObjectStore, step: () => Promise<void> = async () => {}) {
    this.#inner = inner;
    this.#step = step;
  }

  async #around<T>(work: () => Promise<T>): Promise<T> {
    await this.#step();
    const answer = await work();
    await this.#step();
    return answer;
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#around(() => this.#inner.get(key, options));
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#around(() => this.#inner.head(key));
  }

  put(key: ObjectKey, body: ObjectBody, options?: PutOptions): Promise<PutOutcome> {
    return this.#around(() => this.#inner.put(key, body, options));
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#around(() => this.#inner.delete(keys));
  }

  async *list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    await this.#step();
    yield* this.#inner.list(prefix, options);
    await this.#step();
  }

  async close(): Promise<void> {}
}

const newSecret = (): SlotSecret => ({ type: 'key-file', bytes: systemRandom.bytes(64) });

interface InitOptions {
  readonly takesOver?: boolean;
  readonly isExclusive?: boolean;
  readonly secret?: SlotSecret;
}

/** What `sealdrive init` does once it has probed the store; returns the volume's id. */
async function init(store: ObjectStore, { takesOver = false, isExclusive = true, secret = newSecret() }: InitOptions = {}): Promise<string> {
  const claimed = await ClaimedStore.claim(store, {
    location: '/the/store',
    random: systemRandom,
    clock: patientClock,
    isExclusive,
    takesOver,
    // Its caller closes it.
    reopen: async () => new SteppedStore(store),
  });
  return toHex((await claimed.fill(() => createVolumeWithSecrets(claimed, [{ secret, label: '' }], false))).volumeId);
}

/** The ids of the volumes that were made; the others must have been told that they came too late. */
async function settle(t: Pick<typeof t_, 'match'>, inits: readonly Promise<string>[]): Promise<string[]> {
  const made: string[] = [];
  for (const result of await Promise.allSettled(inits)) {
    if (result.status === 'fulfilled') made.push(result.value);
    else t.match(result.reason, { code: 'NOT_A_VOLUME' });
  }
  return made;
}
const t_ = t;

/** The store holds one volume, with everything that opening it takes, and nothing of another one. */
async function isWhole(t: Pick<typeof t_, 'same' | 'equal'>, store: ObjectStore, volumeId: string | undefined, what: string): Promise<void> {
  const { slots, unreadable } = await listSlots(store);
  t.same([slots.map(({ header }) => toHex(header.volumeId)), unreadable], [[volumeId], []], `${what}: one keyslot`);
  t.equal((await collect(store.list('log/'))).length, 2, `${what}: its log alone`);
}

t.test('of six at once one makes the volume, which its secret opens', async (t) => {
  for (let round = 0; round < 20; round++) {
    const memory = new MemoryStore();
    const random = new SeededRandom(seed + round);
    const secrets = Array.from({ length: 6 }, newSecret);
    const made = await settle(
      t,
      secrets.map((secret) => init(new SteppedStore(new FaultyStore(memory, random, { delays: 70 })), { secret })),
    );
    t.equal(made.length, 1);
    await isWhole(t, memory, made[0], `round ${round}`);
    const list = await listSlots(memory);
    const opened = await Promise.allSettled(secrets.map((secret) => unlock(list, secret, { random: systemRandom })));
    t.equal(opened.filter(({ status }) => status === 'fulfilled').length, 1);
  }
});

t.test('without an exclusive put one of six at once makes the volume, and the others write nothing of one', async (t) => {
  for (let round = 0; round < 10; round++) {
    const memory = new MemoryStore();
    let logPuts = 0;
    const put = memory.put.bind(memory);
    memory.put = (key, ...rest) => {
      if (key.startsWith('log/')) logPuts++;
      return put(key, ...rest);
    };
    const random = new SeededRandom(seed + round);
    const made = await settle(
      t,
      Array.from({ length: 6 }, () =>
        init(new SteppedStore(new FaultyStore(new UnconditionalStore(memory), random, { delays: 70 })), { isExclusive: false }),
      ),
    );
    t.equal(made.length, 1);
    t.equal(logPuts, 2);
    await isWhole(t, memory, made[0], `round ${round}`);
  }
});

t.test('lost requests and answers make no second volume, and the claim whose answer was lost still counts', async (t) => {
  let madeCount = 0;
  for (let round = 0; round < 20; round++) {
    const memory = new MemoryStore();
    const random = new SeededRandom(seed + round);
    const results = await Promise.allSettled(
      Array.from({ length: 4 }, () => {
        const faulty = new FaultyStore(new SteppedStore(memory), random, { delays: 50, lostRequests: 5, lostAnswers: 15 });
        return init(new RetryingStore(faulty, { clock: new ManualClock(), random, disk: systemDisk }));
      }),
    );
    const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    t.ok(made.length <= 1);
    madeCount += made.length;
    if (made.length === 1) await isWhole(t, memory, made[0], `round ${round}`);
  }
  t.ok(madeCount >= 15, `${madeCount} of 20`);
});

class Killed extends Error {}

/** Runs `init` until its process is killed at the step `at`; false when it has ended before. */
async function initUntilKilled(store: ObjectStore, at: number): Promise<boolean> {
  let steps = 0;
  try {
    await init(
      new SteppedStore(store, async () => {
        if (++steps >= at) throw new Killed();
      }),
    );
    return false;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return true;
  }
}

t.test('after kill -9 at any moment the next init says what to do, and one of two that take over makes the volume', async (t) => {
  const seen = new Set<string>();
  for (let at = 1; ; at++) {
    const store = new MemoryStore();
    if (!(await initUntilKilled(store, at))) break;
    const what = `killed at step ${at}`;
    if ((await collect(store.list('keys/'))).length > 0) {
      seen.add('published');
      const { slots } = await listSlots(store);
      await isWhole(t, store, slots.map(({ header }) => toHex(header.volumeId))[0], what);
      for (const takesOver of [false, true]) {
        await t.rejects(init(store, { takesOver }), { code: 'NOT_A_VOLUME', message: /holds a volume already/ }, what);
      }
      continue;
    }
    if ((await listClaims(store)).length > 0) {
      seen.add('claimed');
      const today = new Date().toISOString().slice(0, 10);
      const message = new RegExp(`at ${today}T.* was broken off; "sealdrive init --take-over /the/store" makes`);
      await t.rejects(init(store), { code: 'NOT_A_VOLUME', message }, what);
      const made = await settle(t, [init(store, { takesOver: true }), init(store, { takesOver: true })]);
      t.equal(made.length, 1, what);
      await isWhole(t, store, made[0], what);
    } else {
      seen.add('unclaimed');
      await isWhole(t, store, await init(store), what);
    }
  }
  t.same([...seen], ['unclaimed', 'claimed', 'published']);
});

t.test('an init that was taken over while it paused, at any moment, makes no volume of its own', async (t) => {
  const winners = new Set<string>();
  for (let at = 1; ; at++) {
    const store = new MemoryStore();
    let steps = 0;
    let later: Promise<string> | undefined;
    const first = init(
      new SteppedStore(store, async () => {
        if (++steps !== at) return;
        later = init(store, { takesOver: true });
        await later.catch(() => {});
      }),
    );
    const made = await settle(t, [first]);
    if (!later) break;
    const madeLater = await settle(t, [later]);
    t.equal(made.length + madeLater.length, 1, `paused at step ${at}`);
    await isWhole(t, store, made[0] ?? madeLater[0], `paused at step ${at}`);
    winners.add(made.length === 1 ? 'first' : 'later');
  }
  t.same([...winners], ['later', 'first']);
});

t.test('an init that goes on while it is being taken over, at any moment, makes the volume or leaves it to the other', async (t) => {
  const winners = new Set<string>();
  for (let at = 1; ; at++) {
    const store = new MemoryStore();
    let goOn = (): void => {};
    let first: Promise<string> = Promise.reject(new Error('not begun'));
    first.catch(() => {});
    const isPaused = new Promise<void>((paused) => {
      const gate = new Promise<void>((resolve) => {
        goOn = resolve;
      });
      first = init(
        new SteppedStore(store, async () => {
          if ((await collect(store.list('log/'))).length < 2) return;
          paused();
          await gate;
        }),
      );
    });
    await isPaused;
    let steps = 0;
    const later = init(
      new SteppedStore(store, async () => {
        if (++steps !== at) return;
        goOn();
        await first.catch(() => {});
      }),
      { takesOver: true },
    );
    const madeLater = await settle(t, [later]);
    goOn();
    const made = await settle(t, [first]);
    t.equal(made.length + madeLater.length, 1, `went on at step ${at}`);
    await isWhole(t, store, made[0] ?? madeLater[0], `went on at step ${at}`);
    winners.add(made.length === 1 ? 'first' : 'later');
    if (steps < at) break;
  }
  t.same([...winners], ['first', 'later']);
});

t.test('those who take over while others do make one volume at most', async (t) => {
  let madeCount = 0;
  for (let round = 0; round < 60; round++) {
    const memory = new MemoryStore();
    const random = new SeededRandom(seed + round);
    const view = (): ObjectStore => new SteppedStore(new FaultyStore(memory, random, { delays: 60 }));
    const made = await settle(t, [init(view()), init(view(), { takesOver: true }), init(view(), { takesOver: true })]);
    t.ok(made.length <= 1);
    madeCount += made.length;
    if (made.length === 1) {
      // One that lost may be gone before it has removed everything.
      const { slots } = await listSlots(memory);
      t.same([...new Set(slots.map(({ header }) => toHex(header.volumeId)))], made);
    }
  }
  t.ok(madeCount > 0);
});

t.test('an init that fails takes back what it has put, the claim last', async (t) => {
  const memory = new MemoryStore();
  for (const refused of ['log/', 'keys/'] as const) {
    const faulty = new FaultyStore(memory, new SeededRandom(seed), {});
    faulty.refuses = (key) => key.startsWith(refused);
    await t.rejects(init(new SteppedStore(faulty)), { code: 'UNAVAILABLE' });
    t.same(await collect(memory.list('')), [], refused);
  }
  await isWhole(t, memory, await init(new SteppedStore(memory)), 'afterwards');
});

t.test('a store that lists nothing of what is put into it gets no volume', async (t) => {
  const memory = new MemoryStore();
  const blind = new SteppedStore(memory);
  blind.list = async function* () {};
  await t.rejects(init(blind), { code: 'STORE', message: /does not list what was put/ });
  t.same(await collect(memory.list('')), []);
});

t.test('a volume that was in use and lost its keyslots is not taken over', async (t) => {
  for (const key of ['log/0000000000000002-aabbccddeeff', 'packs/00/1']) {
    const store = new MemoryStore();
    const made = await init(store);
    await store.put(key, sealedText('x'));
    await store.delete(await collect(store.list('keys/')));
    for (const takesOver of [false, true]) {
      await t.rejects(init(store, { takesOver }), { code: 'NOT_A_VOLUME', message: /damaged copy; put "keys" back/ }, made);
    }
  }
  const foreign = new MemoryStore();
  await foreign.put('log/0000000000000000-aabbccddeeff', sealedText('x'));
  t.ok((await whyTaken(foreign, '/the/store', true)) instanceof Failure, 'without a claim it is no init that was broken off');
});
