/**
 * The independent reader and `check` judge alike what a hostile device has written into the tree: one of them must not
 * find a volume sound in which the other finds damage.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Mutation } from '../../src/commit/commit.js';
import { DamagedVolume, keyFile as secret } from '../damage/damaged-volume.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { exportStore } from '../suite/export-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { runReader } from './independent-reader.js';

t.setTimeout(0);
const seed = testSeed();
const random = new SeededRandom(seed);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 8);

/** One bit of the value is another, or it has other bytes at its end. */
function changed(value: Uint8Array): Uint8Array {
  const bytes = Buffer.from(value);
  if (random.chance(0.15)) return bytes.subarray(0, random.below(bytes.byteLength));
  if (random.chance(0.1)) return Buffer.concat([bytes, random.bytes(1)]);
  const at = random.chance(0.5) ? random.below(Math.min(24, bytes.byteLength)) : random.below(bytes.byteLength);
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  return bytes;
}

t.test(`whoever reads a volume with a changed value finds the same (TEST_SEED=${seed})`, async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const device = await volume.device({ readOnly: true });
  const entries = await device.volume.read((view) => [...view.scan('A' as never, 'Z' as never)]);
  await device.close();
  const folder = await scratchDirectory(t);
  const [keyFile, store] = [join(folder, 'key'), join(folder, 'store')];
  await writeFile(keyFile, secret);
  for (let round = 0; round < rounds; round++) {
    const kinds = [...new Set(entries.map(([key]) => key[0]))].filter((kind) => kind !== 'P');
    const kind = random.pick(kinds);
    const [key, value] = random.pick(entries.filter(([one]) => one.startsWith(kind!)));
    const mutation: Mutation = [key, random.chance(0.1) ? null : changed(value)];
    await volume.commit([mutation]);
    const { report } = await volume.check();
    await exportStore(volume.store, store);
    const { code, stderr } = await runReader('verify', store, '--key-file', keyFile);
    await rm(store, { recursive: true });
    const isSound = report.worst === undefined || report.worst === 'note';
    const what = `${JSON.stringify(key)}: ${Buffer.from(value).toString('hex')} -> ${mutation[1] && Buffer.from(mutation[1]).toString('hex')}`;
    t.notMatch(stderr, /Traceback/, what);
    t.equal(code, isSound ? 0 : 1, `check: ${JSON.stringify(report.findings)}, the reader: ${stderr}; ${what}`);
    await volume.commit([[key, value]]);
  }
});
