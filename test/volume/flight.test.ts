/**
 * Tests a commit that keeps losing the race: its operations go on flying (src/volume/committer.ts; doc/concurrency.md,
 * "Committing").
 */
import t from 'tap';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectBody, ObjectKey, PutOutcome } from '../../src/store/object-store.js';
import { FaultyStore } from '../suite/faulty-store.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);

/** One device's access to the store: something happens before each of its commits arrives. */
class RacedStore extends FaultyStore {
  race: () => Promise<void> = () => Promise.resolve();
  readonly asked: ObjectKey[] = [];

  override async put(key: ObjectKey, body: ObjectBody, options?: { readonly ifAbsent?: boolean }): Promise<PutOutcome> {
    if (key.startsWith('log/')) await this.race();
    this.asked.push(key);
    return super.put(key, body, options);
  }

  get packs(): number {
    return this.asked.filter((key) => key.startsWith('packs/')).length;
  }
}

async function begin(): Promise<{ store: RacedStore; mine: TestDevice; theirs: TestDevice; again: () => Promise<TestDevice> }> {
  const disk = new SimulatedDisk({ seed: 1 });
  for (const path of ['/mine', '/theirs', '/third']) await disk.makeDirectory(path);
  await disk.syncDirectory('/');
  const objects = new MemoryStore({ disk });
  const volume = await createTestVolume(objects);
  const store = new RacedStore(objects, random, {});
  const mine = await TestDevice.open({ ...volume, store }, { disk, stateDirectory: '/mine', deviceName: 'mine' });
  await mine.mkdir('mine');
  await mine.mkdir('theirs');
  await mine.write('shared', 'before');
  await mine.volume.flush();
  const theirs = await TestDevice.open(volume, { disk, stateDirectory: '/theirs', deviceName: 'theirs' });
  const again = (): Promise<TestDevice> => TestDevice.open(volume, { disk: disk.crash('process'), stateDirectory: '/mine', deviceName: 'mine' });
  return { store, mine, theirs, again };
}

for (const place of ['elsewhere', 'in the same directory']) {
  t.test(`a commit succeeds and does not grow although another device keeps committing ${place}`, async (t) => {
    const { store, mine, theirs } = await begin();
    const [myPlace, theirPlace] = place === 'elsewhere' ? ['mine', 'theirs'] : ['mine', 'mine'];
    await mine.write(`${myPlace}/first`, random.bytes(300_000));
    const packsBefore = store.packs;
    let races = 0;
    store.race = async () => {
      if (races === 6) return;
      races++;
      await mine.write(`${myPlace}/meanwhile ${races}`, random.bytes(300_000));
      await theirs.write(`${theirPlace}/of others ${races}`, `${races}`);
      await theirs.volume.flush();
    };
    await mine.volume.flush();
    t.equal(races, 6);
    t.equal(store.packs, packsBefore + 1, 'data written meanwhile waits for the next commit');
    t.ok(mine.volume.pending().operations > 0);
    await theirs.volume.refresh();
    t.equal((await theirs.read(`${myPlace}/first`)).byteLength, 300_000);
    t.notOk(await theirs.exists(`${myPlace}/meanwhile 1`));
    await mine.volume.flush();
    await theirs.volume.refresh();
    t.strictSame(await theirs.picture(), await mine.picture());
    await Promise.all([mine.close(), theirs.close()]);
  });
}

t.test('a conflict copy of a flying file has its newest content, and packs are stored before a commit names them', async (t) => {
  const { store, mine, theirs, again } = await begin();
  await mine.write('shared', random.bytes(300_000));
  const last = random.bytes(200_000);
  let races = 0;
  store.race = async () => {
    if (races++ > 0) return;
    await theirs.write('shared', 'theirs');
    await theirs.volume.flush();
    await mine.write('shared', last);
  };
  await mine.volume.flush();
  const found = await theirs.volume.refresh().then(() => theirs.picture());
  t.equal(found['shared'], 'theirs');
  const copies = Object.keys(found).filter((path) => path.startsWith('shared ('));
  t.equal(copies.length, 1);
  t.ok((await theirs.read(copies[0]!)).subarray(0, last.byteLength).equals(last), 'and every byte of it can be read');
  const after = await again();
  t.strictSame(await after.picture(), await mine.picture(), 'after a crash as well');
  await Promise.all([mine.close(), theirs.close(), after.close()]);
});
