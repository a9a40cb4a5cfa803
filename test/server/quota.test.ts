/** Quotas: what counts, what is refused, and how deletions free space. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { asSealed, collect, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { ServedOptions } from './served.js';
import { Served, uploadFolderAt } from './served.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;

async function serve(t: Test, options: Partial<ServedOptions> = {}): Promise<Served> {
  const folder = join(scratch, `server-${count++}`);
  await mkdir(folder);
  const served = await Served.start({ base: new MemoryStore({ disk: systemDisk }), folder, random, ...options });
  t.teardown(() => served.server.stop(0));
  return served;
}

async function info(served: Served, token: string): Promise<unknown> {
  return (await fetch(`${served.origin}/photos?info`, { headers: { authorization: `Bearer ${token}` } })).json();
}

const kib = 1024;
const bytes = (size: number): ReturnType<typeof asSealed> => asSealed(random.bytes(size));

t.test('an object that exceeds the quota is refused as full before any of it is stored', async (t) => {
  const served = await serve(t, { volumeQuota: 300 * kib });
  const token = await served.token('append');
  const store = served.client(token);
  t.teardown(() => store.close());
  await store.put('packs/aa/1', bytes(100 * kib));
  await store.put('packs/aa/2', bytes(100 * kib));
  await t.rejects(store.put('packs/aa/3', bytes(101 * kib)), { code: 'FULL', message: /quota/ });
  t.same(await collect(store.list('')), ['packs/aa/1', 'packs/aa/2']);
  t.match(await info(served, token), { quota: 300 * kib, used: 200 * kib, free: 100 * kib, right: 'append' });
  // A put that finds an existing object takes no space.
  t.equal(await store.put('packs/aa/1', bytes(100 * kib)), 'exists');
  await store.put('packs/aa/4', bytes(100 * kib));
  await t.rejects(store.put('log/1', sealedText('x')), { code: 'FULL' });
  t.equal((await store.get('packs/aa/4'))?.byteLength, 100 * kib, 'reading goes on');
});

t.test('small objects count as a block each, so that a quota bounds their number', async (t) => {
  const served = await serve(t, { volumeQuota: 40 * kib });
  const store = served.client(await served.token('append'));
  t.teardown(() => store.close());
  for (let index = 0; index < 10; index++) await store.put(`log/${index}`, asSealed(new Uint8Array(index % 2)));
  await t.rejects(store.put('log/more', asSealed(new Uint8Array(0))), { code: 'FULL' });
});

t.test('running uploads count, so that simultaneous uploads cannot exceed the quota together', async (t) => {
  const served = await serve(t, { volumeQuota: 500 * kib });
  const store = served.client(await served.token('append'));
  t.teardown(() => store.close());
  const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => store.put(`packs/aa/${index}`, bytes(100 * kib))));
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 5);
  for (const outcome of outcomes) if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'FULL' });
});

t.test('deleted objects free space, and objects from before the start count', async (t) => {
  const base = new MemoryStore({ disk: systemDisk });
  await base.put('photos/packs/aa/old', bytes(200 * kib));
  await base.put('music/packs/aa/old', bytes(400 * kib));
  const served = await serve(t, { base, quota: 300 * kib });
  const token = await served.token('full');
  const store = served.client(token);
  t.teardown(() => store.close());
  t.match(await info(served, token), { quota: 300 * kib, used: 200 * kib });
  await t.rejects(store.put('packs/aa/1', bytes(200 * kib)), { code: 'FULL' });
  await store.delete(['packs/aa/old']);
  t.equal(await store.put('packs/aa/1', bytes(200 * kib)), 'created');
  t.match(await info(served, token), { used: 200 * kib });
});

t.test('a quota can be changed while the server runs', async (t) => {
  const served = await serve(t, { quota: 100 * kib });
  const token = await served.token('append');
  const store = served.client(token);
  t.teardown(() => store.close());
  await t.rejects(store.put('packs/aa/1', bytes(200 * kib)), { code: 'FULL' });
  await served.setQuota('photos', 250 * kib);
  t.equal(await store.put('packs/aa/1', bytes(200 * kib)), 'created');
  t.match(await info(served, token), { quota: 250 * kib });
});

t.test('a recount includes the objects that another server put', async (t) => {
  const base = new MemoryStore({ disk: systemDisk });
  const one = await serve(t, { base, volumeQuota: 300 * kib });
  const two = await serve(t, { base, tokenFile: one.tokenFile });
  const token = await one.token('full');
  const [first, second] = [one.client(token), two.client(token)];
  t.teardown(() => Promise.all([first.close(), second.close()]));
  await first.put('packs/aa/1', bytes(100 * kib));
  await second.put('packs/aa/2', bytes(100 * kib));
  // The first server does not know of it; a deletion makes it count again.
  t.match(await info(one, token), { used: 100 * kib });
  await first.delete(['packs/aa/none']);
  t.match(await info(one, token), { used: 200 * kib });
  await t.rejects(first.put('packs/aa/3', bytes(200 * kib)), { code: 'FULL' });
});

t.test('a full disk is reported as full', async (t) => {
  const folder = join(scratch, `server-${count++}`);
  await mkdir(folder);
  const failing: typeof systemDisk = {
    ...systemDisk,
    async open(path, mode) {
      const file = await systemDisk.open(path, mode);
      // Files opened for writing there are uploads, or objects being made.
      if (mode !== 'create-new' || path.includes('_sealdrive')) return file;
      return new Proxy(file, {
        get(target, name) {
          if (name === 'write')
            return () => Promise.reject(Object.assign(new Error('no space left on device'), { code: 'ENOSPC', syscall: 'write' }));
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    },
  };
  const base = await DirectoryStore.create(join(folder, 'base'), { disk: failing, random });
  const served = await serve(t, { base, uploads: uploadFolderAt(base.temporaryFolder, random, failing) });
  const store = served.client(await served.token());
  t.teardown(() => store.close());
  await t.rejects(store.put('log/1', sealedText('small')), { code: 'FULL' });
  await t.rejects(store.put('packs/aa/1', bytes(3000 * kib)), { code: 'FULL' });
  t.same(await systemDisk.readDirectory(base.temporaryFolder), []);
});
