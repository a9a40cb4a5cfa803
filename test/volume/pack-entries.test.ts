/**
 * The tree's entries for packs (doc/format.md, "Tree keys"): every commit that counts implies them, and every device
 * comes to the same ones, wherever it begins.
 */
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { TreeKey } from '../../src/meta/key.js';
import { decodeKey } from '../../src/meta/key.js';
import { decodePackEntry } from '../../src/meta/pack-entry.js';
import { packKey } from '../../src/pack/pack-id.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

/** Pack id and entry of every entry, as text. */
async function entriesOf(device: TestDevice): Promise<Map<string, { readonly birth: number; readonly size: number; readonly epoch: number }>> {
  const found = new Map<string, ReturnType<typeof decodePackEntry>>();
  await device.volume.read((view) => {
    found.clear();
    for (const [key, value] of view.scan('P' as TreeKey, 'Q' as TreeKey)) {
      const decoded = decodeKey(key);
      if (decoded.type === 'pack') found.set(decoded.id, decodePackEntry(value));
    }
  });
  return found;
}

t.test('every pack of the store has its entry, on the device that wrote it, on others and on new ones', async (t) => {
  const store = new MemoryStore({ disk: systemDisk });
  const volume = await createTestVolume(store);
  const open = async (entries: number): Promise<TestDevice> =>
    TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t), foldBounds: { entries, bytes: 1 << 30 } });
  const [folding, plain] = [await open(6), await open(1 << 20)];
  for (let round = 0; round < 6; round++) {
    const device = round % 2 === 0 ? folding : plain;
    await device.volume.refresh();
    await device.write(`file ${round}`, Buffer.alloc(20_000, `text of ${round} `));
    await device.volume.flush();
  }
  await folding.volume.refresh();
  await plain.volume.refresh();
  const wanted = await entriesOf(folding);
  const packs: string[] = [];
  for await (const { key, size } of store.list('packs/')) {
    packs.push(key.slice(-32));
    t.equal(wanted.get(key.slice(-32))?.size, size, 'with its size');
  }
  t.ok(packs.length >= 7, 'content and pages');
  t.strictSame([...wanted.keys()], packs.toSorted());
  for (const [id, { birth, epoch }] of wanted) t.ok(birth > 1 && epoch === 1 && packKey(id as never), `${id} was born with commit ${birth}`);
  t.strictSame(await entriesOf(plain), wanted, 'another device');
  const fresh = await open(1 << 20);
  t.strictSame(await entriesOf(fresh), wanted, 'a device that begins at the checkpoint');
  for (const device of [folding, plain, fresh]) await device.close();
});
