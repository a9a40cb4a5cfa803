import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { type BulkCipher, inlineCipher } from '../../src/crypto/bulk-cipher.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { padmeLength } from '../../src/crypto/padme.js';
import { contentHash, openStored } from '../../src/pack/item.js';
import { newPackId, type PackId } from '../../src/pack/pack-id.js';
import { type PackItem, readPackIndex, sealPackEnd } from '../../src/pack/pack-index.js';
import { PackSource } from '../../src/pack/pack-source.js';
import type { PackWriterOptions, RunPlace } from '../../src/pack/pack-writer.js';
import { intactItems, PackWriter } from '../../src/pack/pack-writer.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { packKeys } from '../suite/pack-keys.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

const random = new SeededRandom(5);
const chunk = (length: number, fill?: number): Plaintext =>
  (fill === undefined ? randomBytes(length) : Buffer.alloc(length, fill)) as Uint8Array as Plaintext;

async function freshDisk(options: ConstructorParameters<typeof SimulatedDisk>[0] = {}): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk(options);
  await disk.makeDirectory('/staging');
  await disk.syncDirectory('/');
  return disk;
}

const optionsOn = (disk: SimulatedDisk): PackWriterOptions => {
  const id = newPackId(random);
  return { disk, id, path: `/staging/${id}`, keys: packKeys, random };
};

const owner = { ino: 2, offset: 4096 };

/** The items of a run that was appended for `owner`. */
const itemsOf = (run: RunPlace): PackItem[] => {
  let [offset, at] = [run.packOffset, owner.offset];
  return run.chunks.map(({ hashes, ...chunk }) => {
    const item: PackItem = { kind: 'chunk', offset, ...chunk, hash: contentHash({ hashes }), owner: { ino: owner.ino, offset: at } };
    offset += chunk.sealedLength;
    at += chunk.plainLength;
    return item;
  });
};

const someItem = { kind: 'chunk', codec: 'raw', plainLength: 84, storedLength: 84, salt: Buffer.alloc(16), hash: Buffer.alloc(32), owner } as const;

/** With numbers in place of bytes, whose classes differ. */
const plainItem = (item: PackItem): unknown => JSON.parse(JSON.stringify(item, (_, value) => (value instanceof Uint8Array ? [...value] : value)));

async function contentOf(disk: SimulatedDisk, path: string): Promise<Buffer> {
  const file = await disk.open(path, 'read');
  const bytes = Buffer.alloc((await file.stat()).size);
  await file.read(bytes, 0);
  await file.close();
  return bytes;
}

void t.test('appends are adjacent in call order, whatever they compress to', async (t) => {
  const disk = await freshDisk();
  const options = optionsOn(disk);
  const writer = await PackWriter.create(options);
  const inputs = [[chunk(300_000, 1), chunk(200_000)], [chunk(10)], [chunk(500_000, 2), chunk(1), chunk(70_000)], [chunk(262_144)]];
  const runs = await Promise.all(inputs.map((chunks) => writer.appendRun(chunks, owner)));
  const page = chunk(40_000, 3);
  const reference = await writer.appendPage(page);
  let end = 0;
  for (const [index, run] of runs.entries()) {
    t.equal(run.packOffset, end);
    for (const [at, { plainLength, sealedLength }] of run.chunks.entries()) {
      t.equal(plainLength, inputs[index]![at]!.byteLength);
      end += sealedLength;
    }
  }
  t.equal(reference.offset, end);
  t.equal(writer.size, end + reference.length);
  t.same(hashBytes(await writer.read(reference.offset, reference.length)), reference.hash);
  t.ok(reference.length < 1000, 'zeros were compressed');
  const source = new PackSource({ store: new MemoryStore(), keys: packKeys, staging: new Map([[options.id, writer]]) });
  for (const [index, run] of runs.entries()) {
    const plains = await source.readRun(run, 0, run.chunks.length - 1);
    for (const [at, plain] of plains.entries()) t.ok(Buffer.compare(plain, inputs[index]![at]!) === 0, `run ${index}, chunk ${at}`);
  }
  t.ok(Buffer.compare(await source.readPage(reference), page) === 0);
  await writer.close();
});

void t.test('many small appends become few writes', async (t) => {
  const disk = await freshDisk();
  const writer = await PackWriter.create(optionsOn(disk));
  await Promise.all(Array.from({ length: 500 }, () => writer.appendRun([chunk(100)], owner)));
  const writes = disk.operations.filter(({ kind }) => kind === 'write').length;
  t.ok(writes <= 4, `${writes} writes`);
  await writer.close();
});

void t.test('a finished pack has an index of its items and a PADME size', async (t) => {
  for (const count of [0, 1, 7, 300]) {
    const disk = await freshDisk();
    const options = optionsOn(disk);
    const writer = await PackWriter.create(options);
    const appends: Promise<PackItem[]>[] = [];
    for (let index = 0; index < count; index++) appends.push(writer.appendRun([chunk(index * 10 + 1), chunk(5)], owner).then(itemsOf));
    if (count === 7) {
      const { offset, length, hash } = await writer.appendPage(chunk(2000));
      appends.push(Promise.resolve([{ kind: 'page', offset, sealedLength: length, hash }]));
    }
    const finished = await writer.finish();
    t.same(await writer.finish(), finished, 'finishing again is the same');
    t.equal(finished.size, padmeLength(finished.size));
    const bytes = await contentOf(disk, options.path);
    t.equal(bytes.length, finished.size);
    const items = await readPackIndex(packKeys, options.id, finished.size, async (offset, length) => bytes.subarray(offset, offset + length));
    t.same(items.map(plainItem), (await Promise.all(appends)).flat().map(plainItem));
    for (let round = 0; round < 60; round++) {
      const damaged = Buffer.from(bytes);
      const at = bytes.length - 1 - random.below(Math.min(bytes.length, 96 + 72));
      damaged[at]! ^= 1 << random.below(8);
      await t.rejects(
        readPackIndex(packKeys, options.id, bytes.length, async (offset, length) => damaged.subarray(offset, offset + length)),
        { code: 'NOT_AUTHENTIC' },
        `a flipped bit at ${at}`,
      );
    }
    await writer.close();
  }
});

void t.test('a pack that is released during reads and syncs is closed after them', async (t) => {
  const disk = await freshDisk();
  const options = optionsOn(disk);
  // A disk that carries out a request only when the test says so.
  const late: (() => void)[] = [];
  let isClosed = false;
  const slow = {
    syncDirectory: (path: string) => disk.syncDirectory(path),
    open: async (...asked: Parameters<typeof disk.open>) => {
      const file = await disk.open(...asked);
      const whenTold = async <T>(work: () => Promise<T>): Promise<T> => {
        await new Promise<void>((resolve) => late.push(resolve));
        if (isClosed) t.fail('the file was closed before');
        return work();
      };
      return {
        write: (bytes: Uint8Array, at: number) => file.write(bytes, at),
        stat: () => file.stat(),
        truncate: (size: number) => file.truncate(size),
        read: (bytes: Uint8Array, at: number) => whenTold(() => file.read(bytes, at)),
        datasync: () => whenTold(() => file.datasync()),
        isAt: (place: string) => file.isAt(place),
        close: () => {
          isClosed = true;
          return file.close();
        },
      };
    },
  } as unknown as PackWriterOptions['disk'];
  const tell = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn++) {
      await new Promise(setImmediate);
      for (const go of late.splice(0)) go();
    }
  };
  const writer = await PackWriter.create({ ...options, disk: slow });
  const appended = await writer.appendRun([chunk(1000)], owner);
  const finished = writer.finish();
  await tell();
  await finished;
  const used = Promise.all([writer.read(appended.packOffset, appended.chunks[0]!.sealedLength), writer.sync()]);
  const closed = writer.close();
  await tell();
  await used;
  await closed;
  t.ok(isClosed);
  await writer.sync();
  await t.rejects(writer.read(0, 1), { code: 'MISSING' });
});

void t.test('appends that a full disk refuses fail, and later ones take their place', async (t) => {
  const disk = await freshDisk();
  const writer = await PackWriter.create(optionsOn(disk));
  const first = await writer.appendRun([chunk(1000)], owner);
  disk.fault = ({ kind }) => (kind === 'write' ? 'ENOSPC' : undefined);
  const failed = await Promise.allSettled(Array.from({ length: 12 }, () => writer.appendRun([chunk(400_000)], owner)));
  t.ok(failed.every((outcome) => outcome.status === 'rejected'));
  t.equal((failed[0] as PromiseRejectedResult).reason.code, 'FULL');
  disk.fault = undefined;
  const second = await writer.appendRun([chunk(1000)], owner);
  t.equal(second.packOffset, first.chunks[0]!.sealedLength);
  t.equal(writer.itemCount, 2);
  const finished = await writer.finish();
  t.equal((await disk.stat(writer.path)).size, finished.size);
  await writer.close();
});

void t.test('all synced items are intact after a crash at any point, and the pack can be finished', async (t) => {
  const seed = testSeed();
  const scenario = async (options: PackWriterOptions, synced: PackItem[]): Promise<void> => {
    const writer = await PackWriter.create(options);
    for (let round = 0; round < 4; round++) {
      const runs = await Promise.all([writer.appendRun([chunk(90_000), chunk(800, 1)], owner), writer.appendRun([chunk(70)], owner)]);
      await writer.sync();
      synced.push(...runs.flatMap(itemsOf));
      await writer.appendRun([chunk(5000)], owner);
    }
    await writer.finish();
  };
  const dry = await freshDisk();
  const before = dry.changeCount;
  await scenario(optionsOn(dry), []);
  for (let at = before; at <= dry.changeCount; at++) {
    for (const kind of ['process', 'power'] as const) {
      const disk = await freshDisk({ seed: seed + at });
      const options = optionsOn(disk);
      const synced: PackItem[] = [];
      disk.crashAt(at);
      await scenario(options, synced).catch(() => {});
      const survived = { ...options, disk: disk.crash(kind) };
      if (synced.length === 0) continue;
      const where = `seed ${seed}, crash ${at} (${kind})`;
      if ((await intactItems(survived, synced)) !== synced.length) return t.fail(`synced items are lost: ${where}`);
      const writer = await PackWriter.resume(survived, synced);
      const more = writer.finished ? undefined : await writer.appendRun([chunk(3000)], owner);
      const finished = await writer.finish();
      const bytes = await contentOf(survived.disk, options.path);
      const items = await readPackIndex(packKeys, options.id, finished.size, async (offset, length) => bytes.subarray(offset, offset + length));
      const offsets = new Set(items.map(({ offset }) => offset));
      if (bytes.length !== finished.size || synced.some(({ offset }) => !offsets.has(offset))) return t.fail(`the index lacks items: ${where}`);
      for (const item of items) {
        const sealed = bytes.subarray(item.offset, item.offset + item.sealedLength);
        if (item.kind === 'chunk') openStored(packKeys, { ...item, pack: options.id }, item.hash, sealed);
      }
      if (more && !offsets.has(more.packOffset)) return t.fail(`an append after the crash is lost: ${where}`);
      await writer.close();
    }
  }
  return t.pass(`${dry.changeCount - before} crash points`);
});

void t.test('a pack that was finished before the crash stays byte for byte what may have been uploaded', async (t) => {
  const disk = await freshDisk();
  const options = optionsOn(disk);
  const writer = await PackWriter.create(options);
  const [first] = await Promise.all([writer.appendRun([chunk(100)], owner), writer.appendRun([chunk(200)], owner)]);
  const finished = await writer.finish();
  const bytes = await contentOf(disk, options.path);
  const survived = { ...options, disk: disk.crash('power') };
  const resumed = await PackWriter.resume(survived, itemsOf(first));
  t.ok(resumed.finished);
  t.same(await resumed.finish(), finished);
  t.ok(bytes.equals(await contentOf(survived.disk, options.path)));
  const index = await readPackIndex(packKeys, options.id, finished.size, async (offset, length) => bytes.subarray(offset, offset + length));
  t.equal(index.length, 2);
  await t.rejects(PackWriter.resume(survived, [{ ...someItem, offset: 3, sealedLength: 100 }]), { code: 'MISSING' });
  await resumed.close();
});

void t.test('a missing or truncated staging file is MISSING', async (t) => {
  const disk = await freshDisk();
  const options = optionsOn(disk);
  await t.rejects(PackWriter.resume(options, []), { code: 'MISSING' });
  t.equal(await intactItems(options, [{ ...someItem, offset: 0, sealedLength: 100 }]), 0);
  await (await PackWriter.create(options)).close();
  await t.rejects(PackWriter.resume(options, [{ ...someItem, offset: 0, sealedLength: 100 }]), { code: 'MISSING' });
  await t.rejects(PackWriter.create(options), { code: 'IO' }, 'a pack is never written over another');
});

void t.test('a pack that is synced or finished again after the process died survives power loss, with its name', async (t) => {
  for (const finishes of [false, true]) {
    const disk = await freshDisk();
    const options = optionsOn(disk);
    const writer = await PackWriter.create(options);
    const run = await writer.appendRun([chunk(50_000)], owner);
    if (finishes) {
      // The process dies after the footer was written and before it was synced.
      disk.fault = ({ kind }) => (kind === 'sync-directory' ? 'EIO' : undefined);
      await t.rejects(writer.finish(), { code: 'IO' });
      disk.fault = undefined;
    }
    const survived = { ...options, disk: disk.crash('process') };
    const resumed = await PackWriter.resume(survived, itemsOf(run));
    t.equal(resumed.finished, finishes);
    if (finishes) await resumed.finish();
    else await resumed.sync();
    for (const lost of survived.disk.powerLosses(64, 10, random).disks) {
      t.equal(await intactItems({ ...options, disk: lost }, itemsOf(run)), 1, finishes ? 'finished' : 'synced');
    }
    await resumed.close();
  }
});

t.test('an index whose items nobody writes is refused', async (t) => {
  const id = 'ab'.repeat(16) as PackId;
  const end = 5_000_000;
  const read = async (chunk: Partial<Extract<PackItem, { kind: 'chunk' }>>): Promise<readonly PackItem[]> => {
    const plainLength = chunk.plainLength ?? 10_000;
    const storedLength = chunk.storedLength ?? plainLength;
    const sealedLength = storedLength + 16 * Math.ceil(storedLength / 8192);
    const bound = { salt: new Uint8Array(16), hash: new Uint8Array(32), owner: { ino: 1, offset: 0 } };
    const item = { kind: 'chunk', offset: 0, sealedLength, codec: 'raw', ...bound, ...chunk, plainLength, storedLength } as const;
    const [index, footer] = sealPackEnd(packKeys, id, [item, { kind: 'gap', offset: sealedLength, sealedLength: end - sealedLength }], end);
    const tail = Buffer.concat([index, footer]);
    return readPackIndex(packKeys, id, end + tail.byteLength, async (offset, length) => tail.subarray(offset - end, offset - end + length));
  };
  t.equal((await read({})).length, 2);
  t.equal((await read({ codec: 'zstd', storedLength: 3000 })).length, 2);
  const impossible = [
    { storedLength: 9_999 },
    { plainLength: 4 * 1024 * 1024 + 1 },
    { codec: 'zstd', storedLength: 4 * 1024 * 1024 + 1 },
    { codec: 'zstd', plainLength: 0, storedLength: 1 },
    { sealedLength: 10_031 },
  ] as const;
  for (const chunk of impossible) await t.rejects(read(chunk), { code: 'MALFORMED' }, JSON.stringify(chunk));
});

t.test('keys are wiped when a cipher fails, too', async (t) => {
  const keys: Uint8Array[] = [];
  const failing: BulkCipher = {
    ...inlineCipher,
    encrypt(messages) {
      for (const { key } of messages)
        t.ok(
          key.some((byte) => byte !== 0),
          'it was a key',
        );
      keys.push(...messages.map(({ key }) => key));
      return Promise.reject(new Error('no memory'));
    },
  };
  const writer = await PackWriter.create({ ...optionsOn(await freshDisk()), cipher: failing });
  await t.rejects(writer.appendRun([randomBytes(9000) as Uint8Array as Plaintext], owner), { message: 'no memory' });
  await t.rejects(writer.appendPage(randomBytes(100) as Uint8Array as Plaintext), { message: 'no memory' });
  t.equal(keys.length, 2);
  t.ok(keys.every((key) => key.every((byte) => byte === 0)));
  await writer.close();
});
