import t from 'tap';
import type { Sealed } from '../../src/base/brand.js';
import { equalBytes, toHex } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import type { ChainState } from '../../src/commit/chain.js';
import { nextCommit } from '../../src/commit/chain.js';
import type { Commit, CommitDraft, Mutation } from '../../src/commit/commit.js';
import { CommitError } from '../../src/commit/commit-error.js';
import { CommitLog, type HeadCode } from '../../src/commit/commit-log.js';
import { deviceIndexMax, ownerId } from '../../src/commit/enrolment.js';
import type { Features } from '../../src/commit/features.js';
import { noFeatures } from '../../src/commit/features.js';
import { createVolumeLog, readGenesis } from '../../src/commit/genesis.js';
import { LocalLog } from '../../src/commit/local-log.js';
import { logKey } from '../../src/commit/log-name.js';
import { stateAfterGenesis } from '../../src/commit/log-state.js';
import { commitAsOwner } from '../../src/commit/owner-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { StoredLog } from '../../src/commit/stored-log.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { enrolmentOf, newAuthor, ownerOf, sealCommit } from '../suite/commit-author.js';
import { asSealed } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { testProgram } from '../suite/test-program.js';

t.setTimeout(900_000);

/** A memory store that a test can inspect, change, copy and interrupt. */
class Store implements ObjectStore {
  readonly description = 'test';
  readonly local = false;
  memory = new MemoryStore();
  /** Called before (and for puts after) each operation. */
  hook: ((what: 'get' | 'put' | 'put-done', key: ObjectKey, options?: GetOptions) => Promise<void> | void) | undefined;

  async get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    await this.hook?.('get', key, options);
    return this.memory.get(key, options);
  }
  async put(key: ObjectKey, body: Sealed, options?: { readonly ifAbsent?: boolean }): Promise<PutOutcome> {
    await this.hook?.('put', key);
    const outcome = await this.memory.put(key, body, options);
    await this.hook?.('put-done', key);
    return outcome;
  }
  list(prefix: string, options?: { readonly after?: ObjectKey }): ReturnType<ObjectStore['list']> {
    return this.memory.list(prefix, options);
  }
  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.memory.delete(keys);
  }
  head(key: ObjectKey): Promise<number | undefined> {
    return this.memory.head(key);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }

  async copy(): Promise<Store> {
    const copy = new Store();
    for await (const { key } of this.memory.list('')) {
      const bytes = await this.memory.get(key);
      if (bytes) await copy.memory.put(key, bytes as Sealed);
    }
    return copy;
  }

  async replace(key: ObjectKey, bytes: Uint8Array | undefined): Promise<void> {
    await this.memory.delete([key]);
    if (bytes) await this.memory.put(key, bytes as Sealed);
  }
}

interface Volume {
  readonly store: Store;
  readonly rootSecret: Uint8Array;
  readonly ownerSeed: Uint8Array;
  readonly root: RootKeys;
  readonly volumeId: Uint8Array;
}

const makeSlots = () => Promise.resolve([]);
const firstMutations: Mutation[] = [['I00000001', Buffer.from('root directory')]];

async function newVolume(): Promise<Volume> {
  const store = new Store();
  const rootSecret = systemRandom.bytes(32);
  const ownerSeed = systemRandom.bytes(32);
  const root = new RootKeys(rootSecret, systemRandom);
  const options = {
    random: systemRandom,
    createdMs: 1,
    features: noFeatures,
    chunkSize: 262144,
    suite: 1,
    program: testProgram,
  } as const;
  const { volumeId } = await createVolumeLog({ store, root, mutations: firstMutations, filesDelta: 1, makeSlots, ownerSeed, ...options });
  return { store, rootSecret, ownerSeed, root, volumeId };
}

const stateDirectory = '/state';

async function newDisk(): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk();
  await disk.makeDirectory(stateDirectory);
  await disk.syncDirectory('/');
  return disk;
}

async function openLog(
  volume: Volume,
  disk: SimulatedDisk,
  more: { store?: ObjectStore; readOnly?: boolean; name?: string; ownerSeed?: Uint8Array | undefined; headCode?: HeadCode } = {},
): Promise<CommitLog> {
  const { root, volumeId } = volume;
  const store = more.store ?? volume.store;
  const genesis = await readGenesis({ store, disk, stateDirectory, root, volumeId });
  const keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random: systemRandom });
  const deviceName = more.name ?? 'laptop';
  return CommitLog.open({
    store,
    keys,
    genesis,
    ownerSeed: 'ownerSeed' in more ? more.ownerSeed : volume.ownerSeed,
    program: testProgram,
    disk,
    stateDirectory,
    random: systemRandom,
    clock: systemClock,
    logger: silentLogger,
    deviceName,
    readOnly: more.readOnly ?? false,
    headCode: more.headCode,
  });
}

let serial = 0;
function draft(text: string, more: Partial<CommitDraft> = {}): CommitDraft {
  serial++;
  return {
    wallTimeMs: -5,
    nextInoCounter: serial,
    operationSerial: serial,
    filesDelta: -1,
    bytesDelta: 2 ** 40,
    packs: [{ id: 'ab'.repeat(16) as PackId, size: 12345, epoch: 1, indexHash: Buffer.alloc(32, 6) }],
    checkpoint: undefined,
    mutations: [
      ['Da', Buffer.from(text)],
      ['Db', null],
      ['Dc', new Uint8Array(0)],
    ],
    ...more,
  };
}

function checkpointDraft(log: CommitLog): CommitDraft {
  const root = { pack: 'cd'.repeat(16) as PackId, offset: 1, length: 2, hash: Buffer.alloc(32, 5) };
  return draft('', { checkpoint: { root, covers: log.head.sequence, files: 3, bytes: 4 }, mutations: [] });
}

/** Puts, however often another device wins the race. */
async function write(log: CommitLog, text: string): Promise<Commit> {
  const wanted = draft(text);
  for (;;) {
    const commit = await log.put(wanted);
    if (commit !== 'lost') return commit;
    await log.poll();
  }
}

async function texts(log: CommitLog, after = 1): Promise<string[]> {
  const found: string[] = [];
  for await (const commit of log.commitsUpToHead(after as Sequence)) {
    const value = commit.mutations.find(([key]) => key === 'Da')?.[1];
    if (value) found.push(Buffer.from(value).toString());
  }
  return found;
}

const code = (name: string) => ({ code: name });

t.test('a device reads what another wrote, with all its fields', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk(), { name: 'α device' });
  const written = await write(a, 'hello');
  const b = await openLog(volume, await newDisk(), { name: 'b' });
  t.same(
    b.roster.map(({ name, deviceIndex }) => [name, deviceIndex]),
    [
      ['α device', 1],
      ['b', 2],
    ],
  );
  t.equal(b.freshness, 'unproven');
  const read = [];
  for await (const commit of b.commitsUpToHead(0 as Sequence)) read.push(commit);
  t.same(
    read.map(({ sequence }) => sequence),
    [1, 2, 3, 4],
  );
  t.equal(Buffer.from(read[0]!.mutations[0]![1] ?? []).toString(), 'root directory');
  t.same(JSON.stringify(read[2]), JSON.stringify(written));
  t.same((await a.poll()).length, 1);
  t.same(toHex(a.head.hash), toHex(b.head.hash));
  t.same(a.own, { nextInoCounter: written.nextInoCounter, operationSerial: written.operationSerial });
});

t.test('racing devices agree on one order and lose nothing', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const volume = await newVolume();
  const logs = [await openLog(volume, await newDisk()), await openLog(volume, await newDisk()), await openLog(volume, await newDisk())];
  volume.store.hook = async () => {
    for (let turns = random.below(5); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  };
  const wanted: string[] = [];
  await Promise.all(
    logs.map(async (log, device) => {
      for (let count = 0; count < 15; count++) {
        const text = `${device}.${count}`;
        wanted.push(text);
        await write(log, text);
        if (random.below(4) === 0) await log.poll();
      }
    }),
  );
  for (const log of logs) await log.poll();
  const orders = await Promise.all(logs.map((log) => texts(log)));
  t.same(orders[0]!.toSorted(), wanted.toSorted(), `TEST_SEED=${seed}`);
  t.same(orders[0], orders[1], `TEST_SEED=${seed}`);
  t.same(orders[0], orders[2], `TEST_SEED=${seed}`);
});

t.test('a put whose answer was lost is resolved by reading the commit back', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const b = await openLog(volume, await newDisk());
  await a.poll();
  volume.store.hook = (what) => {
    if (what === 'put-done') throw new StoreError('UNAVAILABLE', 'lost answer');
  };
  t.not(await a.put(draft('mine')), 'lost');
  volume.store.hook = (what) => {
    if (what === 'put') throw new StoreError('UNAVAILABLE', 'lost request');
  };
  t.equal(await b.put(draft('late')), 'lost', 'another commit has the number');
  await b.poll();
  await t.rejects(b.put(draft('never arrived')), code('UNAVAILABLE'));
  volume.store.hook = undefined;
  t.same(await b.poll(), [], 'it did not arrive');
  await write(b, 'second try');
  await a.poll();
  t.same(await texts(a), ['mine', 'second try']);
});

t.test('a commit whose outcome was unknown is returned by the next poll', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  let a = await openLog(volume, disk);
  let done = false;
  volume.store.hook = (what) => {
    if (what === 'put-done') done = true;
    if (done) throw new StoreError('UNAVAILABLE', 'cut off');
  };
  const wanted = draft('mine');
  await t.rejects(a.put(wanted), code('UNAVAILABLE'));
  volume.store.hook = undefined;
  t.equal(await a.put(draft('other')), 'lost');
  const [commit] = await a.poll();
  t.equal(commit?.operationSerial, wanted.operationSerial);
  t.equal(commit?.author, a.deviceId);

  done = false;
  volume.store.hook = (what) => {
    if (what === 'put-done') done = true;
    if (done) throw new StoreError('UNAVAILABLE', 'cut off');
  };
  await t.rejects(a.put(draft('before the crash')), code('UNAVAILABLE'));
  volume.store.hook = undefined;
  const { sequence } = a.head;
  a = await openLog(volume, disk);
  t.equal(a.head.sequence, sequence + 1, 'also after a restart');
  await write(a, 'after');
  t.same(await texts(a), ['mine', 'before the crash', 'after']);
});

t.test('a device with a history opens the log offline, a new device does not', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk);
  await write(a, 'one');
  await a.put(checkpointDraft(a));
  await write(a, 'two');
  volume.store.hook = () => {
    throw new StoreError('UNAVAILABLE', 'no network');
  };
  const again = await openLog(volume, disk);
  t.equal(again.freshness, 'offline');
  t.same(await texts(again), ['one', 'two']);
  t.equal(again.lastCheckpoint?.checkpoint?.files, 3);
  await t.rejects(again.poll(), code('UNAVAILABLE'));
  await t.rejects(openLog(volume, await newDisk()), code('UNAVAILABLE'));
  volume.store.hook = undefined;
  t.same(await again.poll(), []);
  t.equal(again.freshness, 'proven');
});

t.test('a new device reads many commits in few round trips, even if one of them is large', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const large = Buffer.from(systemRandom.bytes(1_500_000));
  const put = (text: string): Promise<unknown> => a.put(draft(text, text === '50' ? { mutations: [['Da', large]] } : {}));
  for (let count = 0; count < 100; count++) t.not(await put(`${count}`), 'lost');
  const reads = new Map<ObjectKey, number>();
  volume.store.hook = (what, key) => {
    if (what === 'get') reads.set(key, (reads.get(key) ?? 0) + 1);
  };
  const b = await openLog(volume, await newDisk());
  t.equal(b.head.sequence, a.head.sequence + 1);
  const total = [...reads.values()].reduce((sum, count) => sum + count, 0);
  t.ok(total < 2.2 * reads.size, `${total} reads of ${reads.size} objects`);
});

t.test('a new device starts at the checkpoint and knows the whole roster', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk(), { name: 'a' });
  for (let count = 0; count < 100; count++) await write(a, `${count}`);
  const checkpoint = await a.put(checkpointDraft(a));
  t.not(checkpoint, 'lost');
  await write(a, 'after');
  let gets = 0;
  let wholeGets = 0;
  volume.store.hook = (what, _key, options) => {
    if (what === 'get') gets++;
    if (what === 'get' && !options?.range) wholeGets++;
  };
  const disk = await newDisk();
  const b = await openLog(volume, disk, { name: 'b' });
  t.ok(wholeGets < 12, `${wholeGets} commits are read`);
  t.ok(gets < 80, `${gets} questions, most of them for a byte`);
  volume.store.hook = undefined;
  t.same(
    b.roster.map(({ name }) => name),
    ['a', 'b'],
  );
  t.equal(b.lastCheckpoint?.sequence, 103);
  t.same(await texts(b, 103), ['after']);
  await write(b, 'from b');
  await write(a, 'from a');
  await b.poll();
  t.not(await b.put(checkpointDraft(b)), 'lost');
  const c = await openLog(volume, await newDisk(), { name: 'c' });
  await write(c, 'from c');
  await a.poll();
  const again = await openLog(volume, disk);
  await again.poll();
  t.same(toHex(again.head.hash), toHex(c.head.hash));
  await again.removeCopies(again.head.sequence);
  const offline = await openLog(volume, disk);
  t.equal(offline.lastCheckpoint?.sequence, again.lastCheckpoint?.sequence);
});

t.test('a read-only device enrols only once it may write', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const reader = await openLog(volume, disk, { readOnly: true });
  t.equal(reader.deviceIndex, -1);
  t.equal(reader.head.sequence, 1);
  const writer = await openLog(volume, disk);
  t.equal(writer.deviceIndex, 1);
  t.equal(writer.deviceId, reader.deviceId);
});

t.test('a device that crashed while it enrolled keeps its identity', async (t) => {
  const volume = await newVolume();
  const measured = await newDisk();
  const before = measured.changeCount;
  await openLog(volume, measured);
  for (let at = before; at < measured.changeCount; at++) {
    const disk = await newDisk();
    disk.crashAt(at);
    await t.rejects(openLog(volume, disk));
    const log = await openLog(volume, disk.crash('power'));
    await write(log, `crash at ${at}`);
  }
});

t.test('a rollback of the store is refused, at the next start and while the log is open', async (t) => {
  const volume = await newVolume();
  const disks = [await newDisk(), await newDisk()];
  const a = await openLog(volume, disks[0]!);
  const b = await openLog(volume, disks[1]!);
  await a.poll();
  const old = await volume.store.copy();
  await write(a, 'one');
  await write(a, 'two');
  await b.poll();
  await write(b, 'three');
  await a.poll();
  await t.rejects(openLog(volume, disks[0]!, { store: old }), code('ROLLBACK'));
  await t.rejects(openLog(volume, disks[1]!, { store: old }), code('ROLLBACK'));
  volume.store.memory = old.memory;
  for (const log of [a, b]) {
    await t.rejects(async () => {
      for (let count = 0; count < 20; count++) await log.poll();
    }, code('ROLLBACK'));
  }
});

t.test('a rollback that takes only commits on which nobody has built is undone by the device that wrote them', async (t) => {
  const volume = await newVolume();
  const disks = [await newDisk(), await newDisk()];
  const a = await openLog(volume, disks[0]!);
  const b = await openLog(volume, disks[1]!);
  await a.poll();
  const old = await volume.store.copy();
  await write(a, 'one');
  await write(a, 'two');
  const whole = await volume.store.copy();
  await b.poll();
  await t.rejects(openLog(volume, disks[0]!, { store: await old.copy(), readOnly: true }), code('OWN_COMMIT_MISSING'), 'a reader puts nothing');
  volume.store.memory = old.memory;
  await t.rejects(openLog(volume, disks[1]!), code('ROLLBACK'), 'who has only seen them does not put them');
  for (let count = 0; count < 8; count++) t.same(await a.poll(), []);
  for (const sequence of [a.head.sequence, a.head.sequence - 1]) {
    const key = logKey(volume.root, sequence);
    t.same(await volume.store.get(key), await whole.get(key));
  }
  t.same(await b.poll(), []);
});

t.test('a fork between two devices is detected by the first commit of one that the other reads', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const diskB = await newDisk();
  const b = await openLog(volume, diskB);
  await a.poll();
  const fork = await volume.store.copy();
  await write(a, 'a1');
  await write(a, 'a2');
  const forkedB = await openLog(volume, diskB, { store: fork });
  await write(forkedB, 'b1');
  const c = await openLog(volume, await newDisk(), { store: fork });
  await write(c, 'c1');
  await forkedB.poll();
  while (a.head.sequence <= forkedB.head.sequence) await write(a, 'more');
  // B is shown A's next commit.
  const crossing = await volume.store.get(logKey(volume.root, a.head.sequence));
  await fork.replace(logKey(volume.root, a.head.sequence), crossing);
  await t.rejects(forkedB.poll(), code('NOT_AUTHENTIC'));
  // B is shown all of A's history: now the fork itself is proven.
  fork.memory = volume.store.memory;
  const error = await forkedB.poll().catch((thrown: unknown) => thrown);
  t.ok(error instanceof CommitError && error.code === 'FORK' && error.evidence.foundHash !== error.evidence.expectedHash);
  await t.rejects(openLog(volume, diskB), code('FORK'));
  t.ok(b);
});

t.test('copies that no start needs are kept up to a bound, the newest of them, and the genesis', async (t) => {
  const disk = await newDisk();
  const copies = new LocalLog(disk, stateDirectory);
  await copies.prepare();
  const [bytes, work] = [asSealed(Buffer.alloc(1000)), asSealed(Buffer.alloc(500))];
  await copies.write(Array.from({ length: 10 }, (_, sequence) => ({ sequence, bytes, work: sequence % 2 === 0 ? work : undefined })));
  const left = async (): Promise<string[]> =>
    (await disk.readDirectory(`${stateDirectory}/log`)).map(({ name }) => name.replace(/^0+(?=[0-9a-f])/, '')).toSorted();
  await copies.removeBefore(8, 3, 3600);
  t.same(await left(), ['0', '0.work', '3', '5', '6', '6.work', '7', '8', '8.work', '9']);
  await copies.removeBefore(9, undefined, 0);
  t.same(await left(), ['0', '0.work', '9']);
});

t.test('a fork in which nobody has built on what a device wrote is a race that it has lost', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const diskB = await newDisk();
  const b = await openLog(volume, diskB);
  await a.poll();
  const { sequence } = b.head;
  const fork = await volume.store.copy();
  await write(a, 'a1');
  await write(a, 'a2');
  const forkedB = await openLog(volume, diskB, { store: fork });
  const work = Buffer.from('what b1 did');
  const group = { deviceIndex: forkedB.deviceIndex, source: undefined, first: 1, last: 1, bytes: work };
  const b1 = await forkedB.put(draft('b1'), undefined, [group]);
  t.not(b1, 'lost');
  fork.memory = volume.store.memory;
  const arrived: Commit[] = [];
  for (let count = 0; count < 10; count++) arrived.push(...(await forkedB.poll()));
  t.same(forkedB.head, a.head);
  t.equal(arrived.length, 2);
  for (const log of [forkedB, await openLog(volume, diskB)]) {
    const lost = await log.lostWork();
    t.equal(lost?.before.sequence, sequence);
    t.same(
      lost?.lost,
      [{ commit: b1, isOwn: true, work: [{ carriedUpTo: 0, carried: undefined, bytes: new Uint8Array(work) }] }],
      'it can be done again, and after a start too',
    );
    await log.close();
  }
  const again = await openLog(volume, diskB);
  await again.forgetLostWork();
  t.equal(await again.lostWork(), undefined);
  t.ok(await write(again, 'b2'));
  t.equal((await a.poll()).length, 1);
});

t.test('a deleted commit is reported as missing by devices behind it and by new devices', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const b = await openLog(volume, await newDisk());
  await a.poll();
  const first = await write(a, 'one');
  await write(a, 'two');
  await volume.store.replace(logKey(volume.root, first.sequence), undefined);
  await t.rejects(async () => {
    for (let count = 0; count < 20; count++) await b.poll();
  }, code('MISSING'));
});

t.test('swapped, copied, damaged and truncated commits are refused', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  const disk = await newDisk();
  await openLog(volume, disk);
  await a.poll();
  const b = await openLog(volume, disk);
  const one = logKey(volume.root, (await write(a, 'one')).sequence);
  const two = logKey(volume.root, (await write(a, 'two')).sequence);
  const [bytesOne, bytesTwo] = [await volume.store.get(one), await volume.store.get(two)];
  if (!bytesOne || !bytesTwo) throw new Error('both are there');
  const flipped = (at: number): Uint8Array => bytesOne.map((byte, index) => (index === at ? byte ^ 1 : byte));
  const cases: [string, Uint8Array][] = [
    ['the next one', bytesTwo],
    ['empty', new Uint8Array(0)],
    ['half', bytesOne.subarray(0, bytesOne.length / 2)],
    ['extended', Buffer.concat([bytesOne, Buffer.alloc(1)])],
    ...Array.from({ length: bytesOne.length }, (_, at): [string, Uint8Array] => [`flipped at ${at}`, flipped(at)]),
  ];
  for (const [name, bytes] of cases) {
    await volume.store.replace(one, bytes);
    await t.rejects(b.poll(), { code: 'NOT_AUTHENTIC' }, name);
  }
  await volume.store.replace(one, bytesOne);
  t.equal((await b.poll()).length, 2);
});

t.test('another volume of the same user is refused', async (t) => {
  const volume = await newVolume();
  const other = await newVolume();
  await t.rejects(openLog(volume, await newDisk(), { store: other.store }), code('MISSING'));
  const options = {
    random: systemRandom,
    createdMs: 1,
    features: noFeatures,
    chunkSize: 262144,
    suite: 1,
    program: testProgram,
    ownerSeed: systemRandom.bytes(32),
  } as const;
  const sameKeys = new Store();
  await createVolumeLog({ store: sameKeys, root: volume.root, mutations: [], filesDelta: 0, makeSlots, ...options });
  await t.rejects(openLog(volume, await newDisk(), { store: sameKeys }), code('FORK'));
});

t.test('foreign objects under log numbers are ignored', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  for (let sequence = 0; sequence < 30; sequence++)
    await volume.store.put(`log/${sequence.toString(16).padStart(16, '0')}-000000000000`, Buffer.from('squat') as Uint8Array as Sealed);
  await volume.store.put('log/nonsense', Buffer.from('squat') as Uint8Array as Sealed);
  for (let count = 0; count < 20; count++) t.same(await a.poll(), []);
  await write(a, 'one');
  t.same(await texts(a), ['one']);
});

t.test('damaged or missing local copies are fetched again', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk);
  for (let count = 0; count < 5; count++) await write(a, `${count}`);
  for (const { name } of await disk.readDirectory(`${stateDirectory}/log`)) {
    const file = await disk.open(`${stateDirectory}/log/${name}`, 'write');
    await file.write(Buffer.from('damage'), 100);
    await file.close();
  }
  t.same(await texts(a), ['0', '1', '2', '3', '4']);
  for (const { name } of await disk.readDirectory(`${stateDirectory}/log`)) await disk.unlink(`${stateDirectory}/log/${name}`);
  const again = await openLog(volume, disk);
  t.same(await texts(again), ['0', '1', '2', '3', '4']);
});

t.test('a damaged or foreign trust or device file is an error, not a new device', async (t) => {
  for (const name of ['trust', 'device']) {
    const volume = await newVolume();
    const disk = await newDisk();
    await openLog(volume, disk);
    const file = await disk.open(`${stateDirectory}/${name}`, 'write');
    const byte = Buffer.alloc(1);
    await file.read(byte, 90);
    await file.write(Buffer.from([byte[0]! ^ 1]), 90);
    await file.close();
    await t.rejects(openLog(volume, disk), code('BAD_STATE'), name);
  }
});

/** Another installation with the identity of the one on `disk`, which is at rest. */
const copied = (disk: SimulatedDisk): SimulatedDisk => disk.clone(7);

t.test('of two installations with one identity, the second to commit enrols anew, however it hears of the first', async (t) => {
  const ways: Record<string, (volume: Volume, disk: SimulatedDisk, clone: CommitLog) => Promise<CommitLog>> = {
    'a poll': async (_volume, _disk, clone) => {
      await clone.poll();
      return clone;
    },
    'a lost race': async (_volume, _disk, clone) => {
      t.equal(await clone.put(draft('lost')), 'lost');
      await clone.poll();
      return clone;
    },
    'an opening': (volume, disk) => openLog(volume, disk),
    'an opening with a head code': async (volume, disk) => {
      const { head } = await openLog(volume, await newDisk(), { readOnly: true });
      return openLog(volume, disk, { headCode: { sequence: head.sequence, hashStart: toHex(head.hash) } });
    },
    'an opening without trust': async (volume, disk) => {
      await disk.unlink(`${stateDirectory}/trust`);
      return openLog(volume, disk);
    },
    'an opening that only reads': (volume, disk) => openLog(volume, disk, { readOnly: true }),
  };
  for (const [name, hears] of Object.entries(ways)) {
    for (const count of [1, 3]) {
      const volume = await newVolume();
      const disk = await newDisk();
      const a = await openLog(volume, disk);
      await write(a, 'common');
      const { operationSerial } = a.own;
      const disk2 = copied(disk);
      const clone = await openLog(volume, disk2);
      for (let index = 0; index < count; index++) await write(a, `from the original ${index}`);
      const heard = await hears(volume, disk2, clone);
      t.not(heard.deviceId, a.deviceId, name);
      t.equal(heard.formerIndex, 1, name);
      t.equal(heard.own.operationSerial, operationSerial, `${name}: operations of the other one are not its own`);
      t.equal(heard.head.sequence >= a.head.sequence, true, name);
      if (name.endsWith('only reads')) continue;
      while (heard.mustEnrol) if ((await heard.enrol()) === 'lost') await heard.poll();
      t.equal(heard.deviceIndex, 2, name);
      t.same(heard.members[1]?.enrolment.admittedBy, 1, 'the identity that both had admits the new one');
      await write(heard, 'from the clone');
      await write(a, 'more');
      await heard.poll();
      const reader = await openLog(volume, await newDisk());
      t.same(await texts(reader), await texts(heard), name);
      t.equal((await texts(reader)).length, count + 3, name);
      const again = await openLog(volume, disk2);
      t.equal(again.deviceId, heard.deviceId, 'it keeps its new identity');
    }
  }
});

t.test('an installation that crashes while it takes a new identity goes on with it, or takes another', async (t) => {
  const prepare = async (): Promise<{ volume: Volume; disk: SimulatedDisk; sequence: number }> => {
    const volume = await newVolume();
    const disk = await newDisk();
    const a = await openLog(volume, disk);
    await write(a, 'common');
    const clone = copied(disk);
    await write(a, 'from the original');
    return { volume, disk: clone, sequence: a.own.operationSerial };
  };
  const measured = await prepare();
  const before = measured.disk.changeCount;
  await openLog(measured.volume, measured.disk);
  for (let at = before; at < measured.disk.changeCount; at++) {
    const { volume, disk, sequence } = await prepare();
    disk.crashAt(at);
    await t.rejects(openLog(volume, disk));
    const log = await openLog(volume, disk.crash('power'));
    t.not(log.deviceIndex, 1);
    t.ok(log.own.operationSerial < sequence, `crash at ${at}`);
    await write(log, 'from the copy');
    const reader = await openLog(volume, await newDisk());
    t.same(await texts(reader), ['common', 'from the original', 'from the copy'], `crash at ${at}`);
  }
});

t.test('an own commit whose answer was lost is known again, and one that was overtaken as well', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk);
  for (const isOpen of [true, false]) {
    volume.store.hook = (what) => {
      if (what === 'put-done') throw new StoreError('UNAVAILABLE', 'no answer');
    };
    volume.store.memory.get = () => Promise.reject(new StoreError('UNAVAILABLE', 'no answer'));
    await t.rejects(a.put(draft(`unknown ${isOpen}`)), code('UNAVAILABLE'));
    volume.store.hook = undefined;
    delete (volume.store.memory as unknown as Record<string, unknown>)['get'];
    const log = isOpen ? a : await openLog(volume, disk);
    await log.poll();
    t.equal(log.deviceIndex, 1);
    t.equal(log.deviceId, a.deviceId);
  }
});

t.test('the log opens with all of its commits after a crash at any disk operation', async (t) => {
  for (const kind of ['process', 'power'] as const) {
    const volume = await newVolume();
    const life = async (disk: SimulatedDisk): Promise<void> => {
      const log = await openLog(volume, disk);
      await write(log, 'x');
      await log.put(checkpointDraft(log));
      await write(log, 'y');
      await log.removeCopies(log.lastCheckpoint?.checkpoint?.covers ?? (0 as Sequence));
    };
    const measured = await newDisk();
    await life(measured);
    for (let at = 1; at < measured.changeCount; at += 2) {
      let disk = await newDisk();
      disk.crashAt(at);
      await life(disk).catch(() => {});
      disk = disk.crash(kind);
      const log = await openLog(volume, disk);
      await log.poll();
      await write(log, `after ${at}`);
      const again = await openLog(volume, disk);
      t.ok(equalBytes(again.head.hash, log.head.hash));
      await texts(again, again.lastCheckpoint?.checkpoint?.covers ?? 0);
    }
  }
});

/** Puts a commit that breaks a rule behind the head of `log`, as somebody can who has all the keys. */
async function forge(volume: Volume, log: CommitLog, draftOf: Partial<CommitDraft> = {}, records: readonly LogRecord[] = []): Promise<void> {
  const genesis = await readGenesis({ store: volume.store, disk: await newDisk(), stateDirectory, root: volume.root, volumeId: volume.volumeId });
  const keys = new VolumeKeys({ root: volume.root, volumeId: volume.volumeId, suite: genesis.suite, random: systemRandom });
  const author = newAuthor(1);
  const state = { head: log.head, checkpoint: log.lastCheckpoint, log: stateAfterGenesis(genesis, genesis.features) };
  const fields = nextCommit(state, author.id, testProgram, draft('forged', draftOf), records);
  t.ok(await new StoredLog(volume.store, volume.root).put(fields.sequence, sealCommit(keys, fields, author.signer)));
}

t.test('a void commit uses up its number and nothing else: devices skip it, and go on behind it', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk, { name: 'a' });
  const b = await openLog(volume, await newDisk(), { name: 'b' });
  await a.poll();
  await write(a, 'one');
  await forge(volume, a);
  t.equal(await a.put(draft('two')), 'lost', 'the number is taken');
  t.same(await a.poll(), [], 'and there is nothing in it');
  await write(a, 'two');
  await forge(volume, a, { checkpoint: { root: undefined, covers: 1 as Sequence, files: 0, bytes: 0 }, mutations: [] });
  t.equal((await b.poll()).length, 2);
  await write(b, 'three');
  await a.poll();
  t.same(await texts(a), ['one', 'two', 'three']);
  await b.put(checkpointDraft(b));
  await forge(volume, b);
  const c = await openLog(volume, await newDisk(), { name: 'c' });
  t.equal(c.lastCheckpoint?.sequence, b.lastCheckpoint?.sequence, 'a new device begins at the checkpoint that counts');
  t.same(
    c.roster.map(({ name }) => name),
    ['a', 'b', 'c'],
  );
  await write(c, 'four');
  const again = await openLog(volume, disk);
  await again.poll();
  t.same(toHex(again.head.hash), toHex(c.head.hash));
  t.same(await texts(again), ['one', 'two', 'three', 'four'], 'also when it reads its copies again');
});

t.test('a device is admitted by whoever holds the seed of the owner, once', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  await t.rejects(openLog(volume, disk, { ownerSeed: undefined }), code('NOT_ADMITTED'));
  const reader = await openLog(volume, disk, { ownerSeed: undefined, readOnly: true });
  t.equal(reader.deviceIndex, -1, 'reading needs nobody');
  await t.rejects(openLog(volume, disk, { ownerSeed: systemRandom.bytes(32) }), code('FORK'), 'nor is another owner believed');
  const admitted = await openLog(volume, disk);
  t.equal(admitted.deviceId, reader.deviceId);
  t.match(admitted.members[0]?.enrolment, { role: 'admin', admittedBy: 0, program: testProgram });
  const later = await openLog(volume, disk, { ownerSeed: undefined });
  await write(later, 'without the seed');
  t.same(await texts(later), ['without the seed']);
});

t.test('a store that drops what it says it has taken is an integrity error, and not tried for ever', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk());
  await write(a, 'one');
  volume.store.put = () => Promise.resolve('created');
  await a.put(draft('dropped'));
  for (const text of ['two', 'three']) await t.rejects(a.put(draft(text)), code('OWN_COMMIT_MISSING'));
});

t.test('when the numbers of devices are used up, a new machine hears so, and can still read', async (t) => {
  const volume = await newVolume();
  const owner = ownerOf(volume.ownerSeed);
  const newcomers = (first: number, count: number): LogRecord[] =>
    Array.from({ length: count }, (_, index) => {
      return { type: 'admission', enrolment: enrolmentOf(newAuthor(first + index), owner, volume.volumeId, 'reader') };
    });
  await commitAsOwner(await ownerOptions(volume), () => newcomers(1, deviceIndexMax - 1));
  const last = await openLog(volume, await newDisk());
  t.equal(last.deviceIndex, deviceIndexMax);
  await write(last, 'by the last one');
  const disk = await newDisk();
  await t.rejects(openLog(volume, disk), code('NO_ROOM'));
  const { head } = last;
  t.same(await texts(await openLog(volume, disk, { readOnly: true })), ['by the last one']);
  await last.poll();
  t.same(last.head, head, 'nothing was put');
});

t.test('with all devices lost, the seed of the owner is enough to go on', async (t) => {
  const volume = await newVolume();
  for (const name of ['a', 'b']) await write(await openLog(volume, await newDisk(), { name }), name);
  const fresh = await openLog(volume, await newDisk(), { name: 'fresh' });
  await write(fresh, 'fresh');
  t.same(await texts(fresh), ['a', 'b', 'fresh']);
});

const ownerOptions = async (volume: Volume, trusted?: ChainState) => {
  const { store, root, volumeId, ownerSeed } = volume;
  const genesis = await readGenesis({ store, disk: await newDisk(), stateDirectory, root, volumeId });
  const keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random: systemRandom });
  return { store, keys, genesis, ownerSeed, program: testProgram, clock: systemClock, logger: silentLogger, trusted };
};

t.test('the owner writes records beside the devices, and they go on', async (t) => {
  const volume = await newVolume();
  const a = await openLog(volume, await newDisk(), { name: 'a' });
  await write(a, 'one');
  const keyslots = [{ slotId: '0123456789abcdef', type: 'passphrase' as const, keyHash: Buffer.alloc(32, 1), label: 'x' }];
  let raced = false;
  await commitAsOwner(await ownerOptions(volume), (log) => {
    t.same(log.keyslots, []);
    if (!raced)
      volume.store.hook = async (what) => {
        volume.store.hook = undefined;
        raced = true;
        if (what === 'put') await write(a, 'in between');
      };
    return [{ type: 'keyslots', keyslots }];
  });
  t.ok(raced);
  t.equal((await a.poll())[0]?.author, ownerId);
  await write(a, 'two');
  await commitAsOwner(await ownerOptions(volume), (log) => {
    t.same(log.keyslots, keyslots);
    return [];
  });
  t.same(await a.poll(), []);
  t.same(await texts(a), ['one', 'in between', 'two']);
});

t.test('a device that was removed writes nothing more, and says why', async (t) => {
  const volume = await newVolume();
  const [diskA, diskB] = [await newDisk(), await newDisk()];
  const a = await openLog(volume, diskA, { name: 'a' });
  const b = await openLog(volume, diskB, { name: 'b' });
  await write(b, 'before');
  await commitAsOwner(await ownerOptions(volume), () => [{ type: 'removal', deviceIndex: b.deviceIndex }]);
  t.equal(await b.put(draft('late')), 'lost');
  await b.poll();
  const { sequence } = b.head;
  await t.rejects(b.put(draft('later')), { code: 'NOT_PERMITTED', message: /removed/ });
  t.notOk(await volume.store.get(logKey(volume.root, sequence + 1)), 'nothing was put');
  await a.poll();
  await write(a, 'after');
  const again = await openLog(volume, diskB);
  t.match(again.obstacle, /removed/);
  t.same(await texts(again), ['before', 'after'], 'it still reads');
});

t.test('a program that lacks a feature reads only, or refuses, and names it', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk, { name: 'a' });
  const raise = async (features: Partial<Features>): Promise<void> =>
    commitAsOwner(await ownerOptions(volume), (log) => [{ type: 'features', features: { ...log.features, ...features } }]);
  await raise({ compatible: ['gloss'] });
  await a.poll();
  await write(a, 'a compatible one changes nothing');
  await raise({ toWrite: ['depth'] });
  await a.poll();
  await t.rejects(a.put(draft('x')), { code: 'NOT_PERMITTED', message: /feature depth/ });
  const reader = await openLog(volume, await newDisk());
  t.match(reader.obstacle, /feature depth/);
  t.equal(reader.deviceIndex, -1, 'it does not enrol');
  t.equal((await texts(reader)).length, 1);
  await t.rejects(raise({ toRead: ['height'] }), { code: 'UNSUPPORTED', message: /feature depth/ }, 'who lacks one raises none');
});

t.test('a feature that is needed to read stops a mounted device, and each later start', async (t) => {
  const volume = await newVolume();
  const disk = await newDisk();
  const a = await openLog(volume, disk, { name: 'a' });
  const { genesis, keys, ownerSeed } = await ownerOptions(volume);
  const log = { ...stateAfterGenesis(genesis, genesis.features), owner: { counter: 1, newest: 1 as Sequence } };
  const features = { ...genesis.features, toRead: ['height'] };
  const counters = { nextInoCounter: 0, operationSerial: 0, packs: [] };
  const state = { head: a.head, checkpoint: undefined, log };
  const fields = nextCommit(state, ownerId, testProgram, draft('by a newer program', counters), [{ type: 'features', features }]);
  t.ok(await new StoredLog(volume.store, volume.root).put(fields.sequence, sealCommit(keys, fields, ownerOf(ownerSeed).signer)));
  const refusal = { code: 'UNSUPPORTED', message: /feature height/ };
  await t.rejects(a.poll(), refusal);
  await t.rejects(openLog(volume, disk), refusal);
  await t.rejects(openLog(volume, await newDisk()), refusal);
  await t.rejects(openLog(volume, await newDisk(), { readOnly: true }), refusal);
});
