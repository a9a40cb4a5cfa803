import t from 'tap';
import type { PackId } from '../../src/pack/pack-id.js';
import { ReadWindows } from '../../src/pack/read-window.js';

const pack = 'a'.repeat(32) as PackId;
const other = 'b'.repeat(32) as PackId;
const size = 3_000_000;
const content = Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >>> 8)) & 0xff);

function counted(): { windows: ReadWindows; requests: number[] } {
  const requests: number[] = [];
  const windows = new ReadWindows(async (_pack, offset, length) => {
    requests.push(length);
    return content.slice(offset, offset + length);
  });
  return { windows, requests };
}

t.test('small reads one after the other cost few requests and get the right bytes', async (t) => {
  const { windows, requests } = counted();
  for (let offset = 0; offset < size; offset += 4200) {
    const length = Math.min(4100, size - offset);
    t.same(Buffer.compare(await windows.read(pack, offset, length), content.subarray(offset, offset + length)), 0);
  }
  t.ok(requests.length < 12, `${requests.length} requests`);
});

t.test('scattered and large reads are asked for as they are', async (t) => {
  const { windows, requests } = counted();
  for (const offset of [2_000_000, 10, 1_000_000]) await windows.read(pack, offset, 5000);
  await windows.read(pack, 1_005_000, 200_000);
  t.same(requests, [5000, 5000, 5000, 200_000]);
});

t.test('packs do not mix, and what did not verify is asked for again', async (t) => {
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
  });
  await windows.read(pack, 0, 100);
  await t.rejects(windows.read(pack, 100, 100), /away/);
  fails = false;
  t.equal((await windows.read(pack, 150, 100)).byteLength, 100);
});
