/**
 * Tests packs that wait on this machine for a store that is offline (src/volume/staging.ts).
 */
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { HeldDirectory } from '../../src/disk/held-directory.js';
import type { PackId } from '../../src/pack/pack-id.js';
import type { PackWriter } from '../../src/pack/pack-writer.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { Staging } from '../../src/volume/staging.js';
import { packKeys } from '../suite/pack-keys.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

class AwayStore extends MemoryStore {
  isOffline = true;
  puts = 0;

  override put(...words: Parameters<MemoryStore['put']>): ReturnType<MemoryStore['put']> {
    if (this.isOffline) return Promise.reject(new StoreError('UNAVAILABLE', 'away'));
    this.puts++;
    return super.put(...words);
  }
}

interface Begun {
  readonly staging: Staging;
  readonly store: AwayStore;
  readonly registry: Map<PackId, PackWriter>;
  readonly disk: SimulatedDisk;
  readonly losses: () => number;
}

async function begin(): Promise<Begun> {
  const disk = new SimulatedDisk();
  await disk.makeDirectory('/staging');
  const store = new AwayStore({ disk });
  const registry = new Map<PackId, PackWriter>();
  const adopt = (): Promise<boolean> => Promise.resolve(false);
  const directory = await HeldDirectory.hold(disk, '/staging');
  let lossCount = 0;
  const onLost = (): void => void lossCount++;
  const common = { keys: packKeys, cipher: undefined, random: systemRandom };
  const staging = new Staging({ disk, directory, onLost, ...common, store, registry, largeRequests: 4, adopt });
  return { staging, store, registry, disk, losses: () => lossCount };
}

const owner = { ino: 2, offset: 0 };
const run = (bytes: number): Plaintext[] =>
  Array.from({ length: bytes / 65536 }, () => Buffer.from(systemRandom.bytes(65536)) as Uint8Array as Plaintext);

t.test('packs that wait for upload hold no buffers for more content', async (t) => {
  const { staging, registry } = await begin();
  for (let count = 0; count < 5; count++) {
    for (let part = 0; part < 4; part++) await staging.appendRun(run(1 << 20), owner);
    // A failing commit closes the packs being filled.
    await t.rejects(staging.upload(), { code: 'UNAVAILABLE' });
  }
  await staging.appendRun(run(1 << 20), owner);
  t.equal(registry.size, 6);
  const kept = [...registry.values()].map((writer) => writer.keptBytes);
  t.same(kept.slice(0, 5), [0, 0, 0, 0, 0]);
  await staging.close();
});

t.test('only the packs that a commit needs are uploaded before it', async (t) => {
  const { staging, store } = await begin();
  const first = await staging.appendRun(run(1 << 20), owner);
  await t.rejects(staging.upload(), { code: 'UNAVAILABLE' });
  await staging.appendRun(run(1 << 20), owner);
  store.isOffline = false;
  const named = await staging.upload(undefined, new Set([first.pack]));
  t.same(
    named.map(({ id }) => id),
    [first.pack],
  );
  t.equal(store.puts, 1);
  t.equal((await staging.upload()).length, 2, 'the others with the next');
  await staging.close();
});

t.test('packs whose directory was removed still reach the store but do not count as durable', async (t) => {
  const { staging, store, disk, losses } = await begin();
  await staging.appendRun(run(1 << 20), owner);
  await staging.sync();
  t.equal(losses(), 0);
  for (const { name } of await disk.readDirectory('/staging')) await disk.unlink(`/staging/${name}`);
  await disk.removeDirectory('/staging');
  await t.rejects(staging.sync(), { code: 'IO' });
  t.equal(losses(), 1);
  await t.rejects(staging.upload(), { code: 'UNAVAILABLE' });
  // A new pack, which never had a file.
  await staging.appendRun(run(1 << 20), owner);
  store.isOffline = false;
  const packs = await staging.upload();
  t.equal(packs.length, 2);
  staging.committed(packs);
  await staging.release(new Set());
  t.equal(staging.landedBytes, 0);
  await staging.close();
});
