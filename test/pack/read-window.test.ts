import t from 'tap';
import type { PackId } from '../../src/pack/pack-id.js';
import { ReadWindows } from '../../src/pack/read-window.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);

const pack = 'a'.repeat(32) as PackId;
const other = 'b'.repeat(32) as PackId;
const size = 3_000_000;
const heldMax = 24 * 1024 * 1024;
const content = Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >>> 8)) & 0xff);

function counted(): { windows: ReadWindows; requests: number[] } {
  const requests: number[] = [];
  const windows = new ReadWindows(async (_pack, offset, length) => {
    requests.push(length);
    return content.slice(offset, offset + length);
  }, heldMax);
  return { windows, requests };
}

const item = 4200;
const packSize = 16 * 1024 * 1024;

/** Counts requests for packs of 16 MiB, and keeps received ranges, as a disk cache does. */
function cached(): {
  read: (pack: PackId, offset: number) => Promise<Uint8Array>;
  requests: { readonly pack: PackId; readonly offset: number; readonly length: number }[];
} {
  const requests: { pack: PackId; offset: number; length: number }[] = [];
  const isCached = (of: PackId, offset: number, length: number): boolean => {
    for (let at = offset; at < offset + length; ) {
      const holding = requests.find((one) => one.pack === of && one.offset <= at && at < one.offset + one.length);
      if (!holding) return false;
      at = holding.offset + holding.length;
    }
    return true;
  };
  const windows = new ReadWindows(
    async (of, offset, length) => {
      requests.push({ pack: of, offset, length });
      return new Uint8Array(Math.max(0, Math.min(length, packSize - offset)));
    },
    heldMax,
    isCached,
  );
  const read = (of: PackId, offset: number): Promise<Uint8Array> =>
    windows.read(of, offset, item, async () => (isCached(of, offset, item) ? new Uint8Array(item) : undefined));
  return { read, requests };
}

t.test('sequential small reads cost few requests and get the right bytes', async (t) => {
  const { windows, requests } = counted();
  let differences = 0;
  for (let offset = 0; offset < size; offset += 4200) {
    const length = Math.min(4100, size - offset);
    differences += Math.abs(Buffer.compare(await windows.read(pack, offset, length), content.subarray(offset, offset + length)));
  }
  t.equal(differences, 0);
  t.ok(requests.length < 12, `${requests.length} requests`);
});

t.test('scattered and large reads are requested unchanged', async (t) => {
  const { windows, requests } = counted();
  for (const offset of [2_000_000, 10, 1_000_000]) await windows.read(pack, offset, 5000);
  await windows.read(pack, 1_005_000, 600_000);
  t.same(requests, [5000, 5000, 5000, 600_000]);
});

t.test('packs are not mixed up, and data that did not verify is requested again', async (t) => {
  const { windows, requests } = counted();
  await windows.read(pack, 0, 100);
  await windows.read(pack, 100, 100);
  await windows.read(other, 200, 100);
  await windows.read(pack, 200, 100);
  t.equal(requests.length, 3, 'the last one was in the window');
  windows.forget(pack);
  await windows.read(pack, 300, 100);
  t.equal(requests.length, 4);
});

t.test('a failed window is not kept', async (t) => {
  let fails = true;
  const windows = new ReadWindows(async (_pack, offset, length) => {
    if (fails && length > 100) throw new Error('away');
    return content.slice(offset, offset + length);
  }, heldMax);
  await windows.read(pack, 0, 100);
  await t.rejects(windows.read(pack, 100, 100), /away/);
  fails = false;
  t.equal((await windows.read(pack, 150, 100)).byteLength, 100);
});

t.test('a read over two failing windows reports the first error, and no rejection is left unhandled', async (t) => {
  const open: { readonly end: number; readonly reject: (reason: Error) => void }[] = [];
  const windows = new ReadWindows(
    (_pack, offset, length) =>
      offset === 0 ? Promise.resolve(content.slice(0, length)) : new Promise((_, reject) => open.push({ end: offset + length, reject })),
    heldMax,
  );
  await windows.read(pack, 0, 100);
  const one = windows.read(pack, 100, 100);
  const two = windows.read(pack, open[0]!.end - 50, 100);
  t.equal(open.length, 2);
  for (const { reject } of open) reject(new Error('away'));
  await t.rejects(one, /away/);
  await t.rejects(two, /away/);
  // An unhandled rejection ends the process in this turn.
  await new Promise(setImmediate);
});

t.test('a sequential reader gets its next window before it needs it', async (t) => {
  let read = 0;
  const open: number[] = [];
  const windows = new ReadWindows(async (_pack, offset, length) => {
    // Where the reader was when the window was asked for.
    open.push(offset - read);
    return new Uint8Array(length);
  }, heldMax);
  for (; read < packSize - item; read += item) await windows.read(pack, read, item);
  t.ok(
    open.slice(5).every((ahead) => ahead >= 512 * 1024),
    open.join(' '),
  );
  t.ok(open.length < 12, `${open.length} requests for 16 MiB`);
});

t.test('a sequential read continues from the end of one pack in the next', async (t) => {
  const { read, requests } = cached();
  for (const of of [pack, other]) for (let offset = 0; offset + item <= packSize; offset += item) await read(of, offset);
  const second = requests.filter((one) => one.pack === other);
  t.ok(second.length <= 6, `${second.length} requests for the second pack`);
});

t.test('adjacent reads in another order cost no more requests', async (t) => {
  const { read, requests } = cached();
  for (let start = 0; start + 100 * item < packSize; start += 100 * item) {
    const order = Array.from({ length: 100 }, (_, index) => start + index * item);
    for (let left = order.length; left > 0; left--) {
      const [offset] = order.splice(random.below(left), 1);
      await read(pack, offset!);
    }
  }
  t.ok(requests.length < 30, `${requests.length} requests for ${Math.floor(packSize / item)} reads`);
});

t.test('reads all over a pack fetch it piece by piece, and only once', async (t) => {
  const { read, requests } = cached();
  for (let count = 0; count < 2000; count++) await read(pack, random.below(Math.floor(packSize / item)) * item);
  const bytes = requests.reduce((sum, { length }) => sum + length, 0);
  t.ok(requests.length < 120, `${requests.length} requests for 2,000 reads`);
  t.ok(bytes < 1.3 * packSize, `${bytes} bytes`);
});

t.test('only sequential reads prefetch when requests cost nothing', async (t) => {
  const requests: number[] = [];
  const windows = new ReadWindows(
    async (_pack, _offset, length) => {
      requests.push(length);
      return new Uint8Array(length);
    },
    heldMax,
    undefined,
    true,
  );
  for (let count = 0; count < 100; count++) await windows.read(pack, ((count * 37) % 100) * 160 * 1024, item);
  t.same(new Set(requests), new Set([item]));
  requests.length = 0;
  for (let index = 0; index < 500; index++) await windows.read(other, index * item, item);
  t.ok(requests.length < 12, `${requests.length} requests`);
});

t.test('reads all over many packs stay small', async (t) => {
  const { read, requests } = cached();
  for (let count = 0; count < 400; count++) await read(count.toString(16).padStart(32, '0') as PackId, random.below(1000) * item);
  t.ok(requests.every(({ length }) => length === item));
});
