import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys } from '../../src/crypto/volume-keys.js';
import type { JournalOptions } from '../../src/journal/journal.js';
import { Journal } from '../../src/journal/journal.js';
import { JournalError } from '../../src/journal/journal-error.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { CrashKind } from '../suite/simulated-disk.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

const directory = '/journal';
const root = new RootKeys(Buffer.alloc(32, 1), systemRandom);
const sealKey = root.local('journal', 1, Buffer.alloc(32, 2));

function optionsFor(disk: SimulatedDisk, more: Partial<JournalOptions> = {}): JournalOptions {
  return { disk, directory, sealKey, stateId: Buffer.alloc(16, 3), random: systemRandom, logger: silentLogger, segmentSize: 2000, ...more };
}

async function replayed(journal: Journal): Promise<string[]> {
  const texts: string[] = [];
  for await (const { entry } of journal.entries()) texts.push(Buffer.from(entry).toString('latin1'));
  return texts;
}

async function reopened(disk: SimulatedDisk): Promise<string[]> {
  const journal = await Journal.open(optionsFor(disk));
  const texts = await replayed(journal);
  await journal.close();
  return texts;
}

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');
/** Lets background work proceed. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('entries come back in order, whole or in parts, over several openings', async (t) => {
  const disk = new SimulatedDisk();
  let journal = await Journal.open(optionsFor(disk));
  t.equal(journal.append(bytes('one')), 1);
  t.equal(journal.append([bytes('t'), bytes('wo')]), 2);
  t.equal(journal.appendBatch([bytes('three'), [bytes('fo'), bytes('ur')], bytes('')]), 3);
  await journal.close();
  journal = await Journal.open(optionsFor(disk));
  t.same(await replayed(journal), ['one', 'two', 'three', 'four', '']);
  t.equal(journal.append(bytes('five')), 5);
  await journal.close();
  t.same(await reopened(disk), ['one', 'two', 'three', 'four', '', 'five']);
});

t.test('an entry of a megabyte, and one between small ones, come back whole', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  const big = 'x'.repeat(1024 * 1024);
  journal.append([bytes('head'), bytes(big)]);
  journal.appendBatch([bytes('a'), [bytes('b'), bytes(big), bytes('c')], bytes('d')]);
  await journal.close();
  t.ok((await reopened(disk)).join('|') === [`head${big}`, 'a', `b${big}c`, 'd'].join('|'));
});

t.test('no plaintext reaches the disk', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let count = 0; count < 50; count++) journal.append(bytes('a secret file name'));
  await journal.close();
  for (const { name } of await disk.readDirectory(directory)) {
    const file = await disk.open(`${directory}/${name}`, 'read');
    const content = Buffer.alloc((await file.stat()).size);
    await file.read(content, 0);
    t.notOk(content.includes('secret'));
  }
});

t.test('a journal of another device, volume or key is refused with a clear error', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  journal.append(bytes('mine'));
  await journal.close();
  await t.rejects(Journal.open(optionsFor(disk, { stateId: Buffer.alloc(16, 4) })), { code: 'CORRUPT' });
  await t.rejects(Journal.open(optionsFor(disk, { sealKey: root.local('journal', 1, Buffer.alloc(32, 9)) })), { code: 'CORRUPT' });
  t.same(await reopened(disk), ['mine']);
});

t.test('the journal begins new segments, and trimming removes those that are not needed', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let count = 0; count < 100; count++) {
    journal.append(bytes(`entry ${count} ${'.'.repeat(100)}`));
    await turn();
  }
  const before = journal.bytes;
  t.ok((await disk.readDirectory(directory)).length > 5);
  await journal.trim(50);
  t.ok(journal.bytes < before * 0.7);
  await journal.close();
  const left = await reopened(disk);
  t.equal(left.at(-1)?.slice(0, 9), 'entry 99 ');
  t.ok(left.length >= 50 && left.length < 75, `${left.length} left`);

  const second = await Journal.open(optionsFor(disk));
  await second.trim(second.end);
  t.ok(second.bytes < 1000, `${second.bytes} bytes`);
  second.append(bytes('after'));
  await second.close();
  t.same(await reopened(disk), ['after']);
});

t.test('the whole journal can be trimmed repeatedly while it is in use', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let round = 0; round < 20; round++) {
    for (let count = 0; count < 15; count++) journal.append(bytes(`${round}.${count} ${'.'.repeat(200)}`));
    await journal.trim(journal.end);
  }
  t.ok(journal.bytes < 10_000, `${journal.bytes} bytes`);
  journal.append(bytes('last'));
  await journal.close();
  t.equal((await reopened(disk)).at(-1), 'last');
});

t.test('concurrent syncs share the work', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  const count = (): number => disk.operations.filter(({ kind }) => kind === 'datasync').length;
  journal.append(bytes('x'));
  await turn();
  const before = count();
  await Promise.all(Array.from({ length: 50 }, () => journal.sync()));
  t.ok(count() - before <= 2);
  t.equal(journal.durable, journal.end);
  await journal.sync();
  t.ok(count() - before <= 2, 'nothing to do, nothing done');
  await journal.close();
});

t.test('a full disk refuses a record, keeps the others, and takes records again when there is space', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  journal.append(bytes('first'));
  await turn();
  disk.fault = ({ kind }) => (kind === 'write' ? 'ENOSPC' : undefined);
  for (let count = 0; count < 3; count++) t.throws(() => journal.append(bytes('refused')), { code: 'FULL' });
  disk.fault = undefined;
  t.equal(journal.append(bytes('second')), 2);
  await journal.close();
  t.same(await reopened(disk), ['first', 'second']);
});

t.test('trimming frees space even on a full disk', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let count = 0; count < 40; count++) {
    journal.append(bytes(`${count} ${'.'.repeat(200)}`));
    await turn();
  }
  let refusals = 1;
  disk.fault = ({ kind }) => (kind === 'write' && refusals-- > 0 ? 'ENOSPC' : undefined);
  const before = journal.bytes;
  await journal.trim(journal.end);
  t.ok(journal.bytes < before / 4);
  await journal.close();
});

t.test('after a failed sync the journal takes no more records', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  journal.append(bytes('x'));
  await turn();
  disk.fault = ({ kind }) => (kind === 'datasync' ? 'EIO' : undefined);
  await t.rejects(journal.sync(), { code: 'IO' });
  disk.fault = undefined;
  await t.rejects(journal.sync(), { code: 'IO' });
  t.throws(() => journal.append(bytes('y')), { code: 'IO' });
  await journal.close();
  t.throws(() => journal.append(bytes('y')), { code: 'CLOSED' });
});

async function damage(disk: SimulatedDisk, path: string, at: number): Promise<void> {
  const file = await disk.open(path, 'write');
  const byte = Buffer.alloc(1);
  await file.read(byte, at);
  await file.write(Buffer.from([byte[0]! ^ 1]), at);
  await file.close();
}

t.test('damage to a durable record is distinguished from a torn tail', async (t) => {
  for (const [where, at] of [
    ['header', 20],
    ['first record', 90],
    ['record in the middle', 72 + 500],
  ] as const) {
    const disk = new SimulatedDisk();
    const journal = await Journal.open(optionsFor(disk));
    for (let count = 0; count < 10; count++) {
      journal.append(bytes(`${count} ${'.'.repeat(60)}`));
      await journal.sync();
    }
    await journal.close();
    await damage(disk, `${directory}/0000000000000001`, at);
    await t.rejects(Journal.open(optionsFor(disk)), { code: 'CORRUPT' }, where);
  }
});

t.test('a lost segment is damage', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let count = 0; count < 60; count++) {
    journal.append(bytes(`${count} ${'.'.repeat(100)}`));
    await journal.sync();
    await turn();
  }
  await journal.close();
  const names = (await disk.readDirectory(directory)).map(({ name }) => name).toSorted();
  t.ok(names.length > 3);
  await disk.unlink(`${directory}/${names[1]}`);
  await t.rejects(Journal.open(optionsFor(disk)), { code: 'CORRUPT' });
});

t.test('every prefix of the last segment opens with its whole records', async (t) => {
  const disk = new SimulatedDisk();
  const journal = await Journal.open(optionsFor(disk));
  for (let count = 0; count < 5; count++) journal.append(bytes(`entry ${count}`));
  await journal.close();
  const path = `${directory}/0000000000000001`;
  const whole = Buffer.alloc((await disk.stat(path)).size);
  await (await disk.open(path, 'read')).read(whole, 0);
  let last = 5;
  for (let length = whole.length; length >= 0; length--) {
    const torn = new SimulatedDisk();
    await torn.makeDirectory(directory);
    await (await torn.open(path, 'create')).write(whole.subarray(0, length), 0);
    const texts = await reopened(torn);
    t.ok(texts.length <= last && texts.every((text, index) => text === `entry ${index}`));
    last = texts.length;
  }
  t.equal(last, 0);
});

interface History {
  appended: string[];
  /** The entry being appended at the crash: all of it is there, or none. */
  inflight: string[];
  synced: number;
  trimmed: number;
}

/** The life of a journal until the disk crashes; its promises are in `history`. */
async function live(disk: SimulatedDisk, random: SeededRandom, history: History, steps: number): Promise<void> {
  const journal = await Journal.open(optionsFor(disk));
  const found = await replayed(journal);
  // Every entry found is durable from now on, and the others are gone for good.
  const all = [...history.appended, ...history.inflight];
  const first = all.indexOf(found[0]!);
  history.inflight = [];
  history.appended = all.slice(0, found.length === 0 ? history.trimmed : first + found.length);
  history.synced = history.appended.length;
  /** Position -> number of entries before it. */
  const entriesBefore = new Map<number, number>();
  for (let step = 0; step < steps; step++) {
    const choice = random.below(10);
    if (choice < 6) {
      const batch = Array.from(
        { length: 1 + random.below(3) },
        (_, index) => `${history.appended.length + index}:${random.u32()}${'.'.repeat(random.below(400))}`,
      );
      entriesBefore.set(journal.end, history.appended.length);
      history.inflight = batch;
      journal.appendBatch(batch.map(bytes));
      history.inflight = [];
      history.appended.push(...batch);
    } else if (choice < 8) {
      const count = history.appended.length;
      await journal.sync();
      history.synced = Math.max(history.synced, count);
    } else if (choice === 8) await turn();
    else {
      const positions = [...entriesBefore.keys()];
      const position = positions[random.below(positions.length + 1)] ?? 0;
      history.trimmed = Math.max(history.trimmed, entriesBefore.get(position) ?? 0);
      await journal.trim(position);
    }
  }
  await journal.close();
}

async function check(disk: SimulatedDisk, history: History, kind: CrashKind, message: string): Promise<string | undefined> {
  const texts = await reopened(disk);
  const text = texts.join('\n');
  const all = [...history.appended, ...history.inflight];
  const least = kind === 'process' ? history.appended.length : history.synced;
  const ends = Array.from({ length: history.appended.length - least + 1 }, (_, index) => least + index);
  if (history.inflight.length > 0) ends.push(all.length);
  // From any point up to the trimmed one, to any point from the synced one on.
  const fits = ends.some((end) => {
    const first = end - texts.length;
    return first >= 0 && (texts.length === 0 ? history.trimmed >= end : first <= history.trimmed) && all.slice(first, end).join('\n') === text;
  });
  return fits ? undefined : `${message}: ${texts.length} entries of ${history.appended.length}, synced ${history.synced}, trimmed ${history.trimmed}`;
}

t.test('all synced records survive a crash at any disk operation, in order', async (t) => {
  const seed = testSeed();
  let crashes = 0;
  for (let run = 0; run < 6; run++) {
    const measured = new SimulatedDisk({ seed: seed + run });
    await live(measured, new SeededRandom(seed + run), { appended: [], inflight: [], synced: 0, trimmed: 0 }, 40);
    for (let at = 0; at < measured.changeCount; at += 1) {
      for (const kind of ['process', 'power'] as const) {
        let disk = new SimulatedDisk({ seed: seed + run + at * 1000 });
        const history: History = { appended: [], inflight: [], synced: 0, trimmed: 0 };
        disk.crashAt(at);
        // Twice, to test a crash after a crash too.
        for (let life = 0; life < 2; life++) {
          const message = `TEST_SEED=${seed} run ${run} at ${at} ${kind} life ${life}`;
          try {
            await live(disk, new SeededRandom(seed + run + life * 77), history, 40);
          } catch (error) {
            if (!(error instanceof JournalError) || !disk.crashed || error.code === 'CORRUPT') {
              t.fail(`${message}: ${String(error)}`);
              return;
            }
          }
          await turn();
          crashes++;
          disk = disk.crash(kind);
          const wrong = await check(disk, history, kind, message);
          if (wrong !== undefined) {
            t.fail(wrong);
            return;
          }
          disk.crashAt(disk.changeCount + (at % 30));
        }
      }
    }
  }
  t.ok(crashes > 500, `${crashes} crashes`);
});

t.test('a removed segment accepts no records, and a moved journal is never reported durable', async (t) => {
  const disk = new SimulatedDisk();
  const removed = await Journal.open(optionsFor(disk));
  removed.append(bytes('one'));
  await removed.sync();
  for (const { name } of await disk.readDirectory(directory)) await disk.unlink(`${directory}/${name}`);
  await t.rejects(removed.sync(), { code: 'IO' }, 'not even what was synced is there any more');
  t.throws(() => removed.append(bytes('two')), { code: 'IO' });
  t.equal(removed.failure?.code, 'IO');
  await removed.close();

  const moved = await Journal.open(optionsFor(disk));
  await disk.rename(directory, '/aside');
  await disk.makeDirectory(directory);
  moved.append(bytes('three'));
  await t.rejects(moved.sync(), { code: 'IO' });
  t.throws(() => moved.append(bytes('four')), { code: 'IO' });
  await moved.close();
  t.same(await disk.readDirectory(directory), [], 'nothing is put into the directory that took its place');
});
