import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import { DiskCache } from '../../src/cache/disk-cache.js';
import type { Disk } from '../../src/disk/disk.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { asSealed } from '../suite/object-store-suite.js';
import { overlappingDisk } from '../suite/overlapping-disk.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { CrashKind } from '../suite/simulated-disk.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { readWhole, writeWhole } from '../suite/whole-file.js';

const seed = testSeed();
const random = new SeededRandom(seed);
const open = (disk: Disk, bytesMax = 1024 * 1024, directory = '/cache'): Promise<DiskCache> =>
  DiskCache.open({ disk, directory, bytesMax, freeMin: 0, random });

/** The true content of a pack: a function of its name, so that every read can be checked. */
function contentOf(packId: string, offset: number, length: number): Uint8Array {
  const base = Buffer.from(packId).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);
  return Uint8Array.from({ length }, (_, index) => 1 + (((base + (offset + index) * 2654435761) >>> 13) % 255));
}

async function write(cache: DiskCache, packId: string, offset: number, length: number): Promise<void> {
  await cache.write(packId, offset, asSealed(contentOf(packId, offset, length)));
}

t.test('exactly the written ranges can be read, also across their seams', async (t) => {
  const directory = `${await scratchDirectory(t)}/cache`;
  for (const cache of [await open(new SimulatedDisk()), await open(systemDisk, 1024 * 1024, directory)]) {
    await write(cache, 'aa', 1000, 500);
    await write(cache, 'aa', 1500, 700);
    await write(cache, 'aa', 5000, 10);
    for (const [offset, length] of [
      [1000, 1200],
      [1100, 5],
      [5000, 10],
    ] as const) {
      const got = await cache.read('aa', offset, length);
      t.ok(got && equalBytes(got, contentOf('aa', offset, length)));
    }
    for (const [offset, length] of [
      [999, 2],
      [2199, 2],
      [0, 6000],
      [5000, 11],
    ] as const) {
      t.equal(await cache.read('aa', offset, length), undefined);
    }
    t.equal(await cache.read('bb', 0, 1), undefined);
    await cache.evict('aa');
    await cache.evict('aa');
    t.equal(await cache.read('aa', 1000, 500), undefined);
    t.equal(cache.bytes, 0);
    await cache.close();
  }
});

t.test('the cache stays within its limit and keeps the most recently used packs, also after a restart', async (t) => {
  const disk = new SimulatedDisk();
  const cache = await open(disk, 5 * 4096);
  for (const packId of ['a', 'b', 'c', 'd', 'e']) await write(cache, packId, 0, 4096);
  await cache.read('a', 0, 10);
  await write(cache, 'f', 0, 4096);
  t.notOk(cache.has('b', 0, 1));
  t.ok(cache.has('a', 0, 4096));
  await cache.read('c', 0, 10);
  await cache.close();
  const again = await open(disk, 5 * 4096);
  t.equal(again.bytes, 5 * 4096);
  await write(again, 'g', 0, 2 * 4096);
  t.same(
    ['a', 'b', 'c', 'd', 'e', 'f', 'g'].filter((packId) => again.has(packId, 0, 4096)),
    ['a', 'c', 'f', 'g'],
  );
  t.ok(again.bytes <= 5 * 4096);
  t.equal((await disk.readDirectory('/cache/packs')).length, 4, 'files of evicted packs are gone');
  await write(again, 'huge', 0, 6 * 4096);
  t.notOk(again.has('huge', 0, 1));
  const none = await open(disk, 0);
  t.equal(none.packCount, 0);
  t.same(await disk.readDirectory('/cache/packs'), []);
});

t.test('a finished pack file is moved into the cache', async (t) => {
  const disk = new SimulatedDisk();
  const cache = await open(disk);
  await disk.makeDirectory('/staging');
  const path = await writeWhole(disk, '/staging/aa', contentOf('aa', 0, 9000));
  await write(cache, 'aa', 100, 50);
  t.equal(await cache.adopt('aa', path), true);
  const got = await cache.read('aa', 0, 9000);
  t.ok(got && equalBytes(got, contentOf('aa', 0, 9000)));
  t.same(await disk.readDirectory('/staging'), []);
  t.equal((await disk.readDirectory('/cache/packs')).length, 1);
  await cache.close();
  t.ok((await open(disk)).has('aa', 0, 9000));
});

t.test('a pack file that does not fit is left where it is', async (t) => {
  const disk = new SimulatedDisk();
  const path = await writeWhole(disk, '/pack', contentOf('aa', 0, 9000));
  t.equal(await (await open(disk, 8000)).adopt('aa', path), false);
  const cache = await open(disk, 80000);
  disk.fault = ({ kind }) => (kind === 'rename' ? 'EXDEV' : undefined);
  t.equal(await cache.adopt('aa', path), false);
  disk.fault = undefined;
  t.equal((await readWhole(disk, path)).byteLength, 9000);
  t.equal(await cache.adopt('aa', '/absent'), false);
});

t.test('a failing disk causes cache misses, never errors', async (t) => {
  const disk = new SimulatedDisk();
  const cache = await open(disk);
  await write(cache, 'aa', 0, 100);
  await write(cache, 'bb', 0, 100);
  disk.fault = ({ kind }) => (kind === 'read' ? 'EIO' : undefined);
  t.equal(await cache.read('aa', 0, 100), undefined);
  disk.fault = undefined;
  t.notOk(cache.has('aa', 0, 1), 'it is forgotten and fetched again');
  disk.fault = ({ kind }) => (kind === 'write' ? 'EIO' : undefined);
  await write(cache, 'cc', 0, 100);
  t.notOk(cache.has('cc', 0, 1));
  disk.fault = ({ kind }) => (kind === 'datasync' ? 'EIO' : undefined);
  await cache.checkpoint();
  disk.fault = undefined;
  t.notOk(cache.has('bb', 0, 1), 'after a failed sync nobody knows what is on the disk');
  await write(cache, 'dd', 0, 100);
  t.ok(cache.has('dd', 0, 100));
});

t.test('the cache shrinks when the disk is full', async (t) => {
  const disk = new SimulatedDisk({ freeBytes: 100_000 });
  const cache = await open(disk, 1024 * 1024);
  for (let index = 0; index < 30; index++) await write(cache, `p${index}`, 0, 4096);
  t.ok(cache.bytes < 100_000);
  t.ok(cache.bytes > 0);
  t.ok(cache.has('p29', 0, 4096) || cache.has('p28', 0, 4096), 'what came last is what is kept');
});

t.test('the cache leaves the configured space free', async (t) => {
  const disk = new SimulatedDisk({ freeBytes: 100 * 4096 });
  const options = { disk, directory: '/cache', bytesMax: 1e9, random };
  const cache = await DiskCache.open({ ...options, freeMin: 80 * 4096 });
  for (let index = 0; index < 40; index++) await write(cache, `p${index}`, 0, 4096);
  t.ok(cache.bytes <= 20 * 4096);
  await cache.close();
  const smaller = await DiskCache.open({ ...options, freeMin: 95 * 4096 });
  t.ok(smaller.bytes <= 5 * 4096);
});

t.test('content is evicted before tree pages, and pinned content stays', async (t) => {
  const disk = new SimulatedDisk();
  const cache = await open(disk, 20 * 4096);
  await cache.write('pages', 0, asSealed(contentOf('pages', 0, 4 * 4096)), 'pages');
  await write(cache, 'kept', 0, 4 * 4096);
  cache.pin(new Set(['kept']));
  for (let number = 0; number < 30; number++) await write(cache, `other${number}`, 0, 4096);
  t.equal(cache.has('pages', 0, 4 * 4096), true);
  t.equal(cache.has('kept', 0, 4 * 4096), true);
  t.equal(cache.has('other0', 0, 4096), false);
  t.equal(cache.pinnedBytes, 4 * 4096);
  await write(cache, 'too-large', 0, 17 * 4096);
  t.equal(cache.has('too-large', 0, 1), false, 'what is pinned makes no room');
  for (let number = 0; number < 8; number++) await cache.write(`page${number}`, 0, asSealed(contentOf(`page${number}`, 0, 2 * 4096)), 'pages');
  t.equal(cache.has('pages', 0, 1), false, 'pages have half of it');
  await cache.close();
  const again = await open(disk, 20 * 4096);
  t.equal(again.has('kept', 0, 4 * 4096), true);
  for (let number = 0; number < 30; number++) await write(again, `new${number}`, 0, 4096);
  t.equal(again.has('kept', 0, 4 * 4096), true, 'also before anybody says again what is pinned');
  again.pin(new Set());
  for (let number = 0; number < 30; number++) await write(again, `newer${number}`, 0, 4096);
  t.equal(again.has('kept', 0, 1), false);
  await again.close();
});

t.test('cached data survives a kill of the process, and is not trusted after a restart of the system', async (t) => {
  const directory = `${await scratchDirectory(t)}/cache`;
  const options = { disk: systemDisk, directory, bytesMax: 1024 * 1024, freeMin: 0, random };
  // The cache is not closed.
  const killed = await DiskCache.open({ ...options, bootId: 'one' });
  await write(killed, 'aa', 0, 5000);
  while (!(await readWhole(systemDisk, `${directory}/recent`).catch(() => undefined))) await new Promise((resolve) => setTimeout(resolve, 5));
  const same = await DiskCache.open({ ...options, bootId: 'one' });
  const bytes = await same.read('aa', 0, 5000);
  t.ok(bytes && equalBytes(bytes, contentOf('aa', 0, 5000)));
  const other = await DiskCache.open({ ...options, bootId: 'two' });
  t.equal(other.has('aa', 0, 5000), false);
});

t.test('a cache with a damaged index starts empty', async (t) => {
  for (let round = 0; round < 40; round++) {
    const disk = new SimulatedDisk({ seed: seed + round });
    const cache = await open(disk);
    await write(cache, 'aa', 0, 100);
    await write(cache, 'bb', 50, 100);
    await cache.close();
    const index = Buffer.from(await readWhole(disk, '/cache/index'));
    if (round % 2 === 0) index[random.below(index.length)]! ^= 1 << random.below(8);
    await writeWhole(disk, '/cache/index', round % 2 === 0 ? index : index.subarray(0, random.below(index.length)));
    const again = await open(disk);
    // A flipped bit may also name other ranges; a reader finds that their bytes do not verify, and evicts them.
    await again.read('aa', 0, 100);
    await again.evict('aa');
    await write(again, 'aa', 0, 100);
    const got = await again.read('aa', 0, 100);
    if (!got || !equalBytes(got, contentOf('aa', 0, 100))) t.fail(`the pack is wedged (TEST_SEED=${seed}, round ${round})`);
    await again.close();
  }
  t.pass('40 damaged indexes were survived');
});

t.test('a pack that is evicted while it is read or written leaves nothing behind', async (t) => {
  const disk = new SimulatedDisk();
  const cache = await open(overlappingDisk(disk, random));
  for (let round = 0; round < 30; round++) {
    await Promise.all([write(cache, 'aa', 0, 100), cache.evict('aa'), write(cache, 'aa', 100, 100), cache.read('aa', 0, 100), cache.evict('aa')]);
    await Promise.all([write(cache, 'bb', 0, 100), cache.read('bb', 0, 100), write(cache, 'bb', 0, 100), write(cache, 'bb', 50, 100)]);
    t.ok(cache.has('bb', 0, 150));
    const names = (await disk.readDirectory('/cache/packs')).map(({ name }) => name.split('.')[0]);
    t.equal(names.length, cache.packCount, `TEST_SEED=${seed}`);
    await cache.evict('bb');
  }
});

t.test('everything that is present after a crash at any point was written in full', async (t) => {
  t.comment(`TEST_SEED=${seed}`);
  let survived = 0;
  for (const kind of ['process', 'power'] as const satisfies readonly CrashKind[]) {
    for (let point = 0, done = false; !done; point++) {
      const steps = new SeededRandom(seed);
      let disk = new SimulatedDisk({ seed: seed + point });
      disk.crashAt(point);
      // Two runs with a crash each: remains of the first must not deceive the second or third.
      for (let life = 0; life < 3; life++) {
        const where = `${kind}, point ${point}, life ${life}, TEST_SEED=${seed}`;
        try {
          const cache = await open(overlappingDisk(disk, new SeededRandom(seed + point)), 6 * 4096);
          const verify = async (): Promise<void> => {
            for (const packId of ['a', 'b', 'c', 'd']) {
              for (let offset = 0; offset < 8192; offset += 1024) {
                const got = await cache.read(packId, offset, 1024);
                if (!got) continue;
                survived++;
                if (!equalBytes(got, contentOf(packId, offset, 1024))) t.fail(`a range of ${packId} is wrong: ${where}`);
              }
            }
          };
          await verify();
          for (let step = 0; step < 16 && !disk.crashed; step++) {
            const packId = 'abcd'.charAt(steps.below(4));
            const offset = steps.below(8) * 1024;
            const what = steps.below(7);
            if (what === 0 || what === 6) await Promise.all([cache.checkpoint(), write(cache, packId, offset, 1024)]);
            else if (what === 1) await cache.evict(packId);
            else if (what === 2) {
              const path = await writeWhole(disk, '/staged', contentOf(packId, 0, 8192));
              await cache.adopt(packId, path);
            } else if (what === 3) {
              // A checkpoint and a read that overlap writes see them whole or not at all.
              const all = await Promise.all([write(cache, packId, offset, 1024), cache.checkpoint(), cache.read(packId, offset, 1024)]);
              if (all[2] && !equalBytes(all[2], contentOf(packId, offset, 1024))) t.fail(`a range was read before it was written: ${where}`);
            } else await Promise.all([write(cache, packId, offset, 1024), write(cache, packId, Math.max(0, offset - 1024), 2048)]);
          }
          if (!disk.crashed) await verify();
          if (life === 2 && !disk.crashed) await cache.close();
        } catch (error) {
          if (!disk.crashed) throw error;
        }
        if (life === 0 && !disk.crashed) done = true;
        disk = disk.crash(kind);
        if (life === 0) disk.crashAt(steps.below(60));
      }
      if (point === 1000) throw new Error('the run never ends');
    }
  }
  t.ok(survived > 100, 'the crashes left something to check');
});
