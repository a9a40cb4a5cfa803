/** Copies of keyslots that several mounts of one volume keep at the same time. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { makeSlot } from '../../src/access/keyslots.js';
import { keepSlots, readKeptSlots } from '../../src/access/local-keyslots.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { scratchDirectory } from '../suite/scratch.js';

const maker = {
  volumeId: systemRandom.bytes(32),
  generation: 1,
  since: 0,
  rootSecret: systemRandom.bytes(32),
  ownerSeed: systemRandom.bytes(32),
};
const newSlot = () => makeSlot(maker, { type: 'key-file', bytes: systemRandom.bytes(64) }, '', systemRandom);

t.test('several mounts keep the keyslots at the same time, and every copy is whole', async (t) => {
  const directory = await scratchDirectory(t);
  const slots = await Promise.all(Array.from({ length: 6 }, newSlot));
  for (let round = 0; round < 10; round++) {
    const lists = [slots.slice(0, 4), slots.slice(2), slots].map((some) => ({ slots: some, unreadable: [] }));
    await Promise.all([...lists, ...lists, ...lists].map((list) => keepSlots(directory, list)));
    for (const { header, bytes } of slots) {
      const copy = await readFile(join(directory, 'slots', header.slotId)).catch(() => undefined);
      t.ok(copy === undefined || copy.equals(bytes), 'a copy is whole, or was removed by a mount that did not see the slot');
    }
    for (const name of await readdir(join(directory, 'slots')))
      t.ok(
        slots.some(({ header }) => header.slotId === name),
        `${name} is a slot`,
      );
  }
});

t.test('copies of slots that are gone are removed, and nothing else', async (t) => {
  const directory = await scratchDirectory(t);
  const [kept, gone] = [await newSlot(), await newSlot()];
  await keepSlots(directory, { slots: [kept, gone], unreadable: [] });
  const unfinished = join(directory, 'slots', `${kept.header.slotId}-${'0'.repeat(32)}`);
  await writeFile(unfinished, 'what another process is writing');
  await keepSlots(directory, { slots: [kept], unreadable: [] });
  t.strictSame(
    (await readKeptSlots(directory))?.slots.map(({ header }) => header.slotId),
    [kept.header.slotId],
  );
  t.equal((await readFile(unfinished)).toString(), 'what another process is writing');
  await mkdir(join(directory, 'empty'));
  t.equal(await readKeptSlots(join(directory, 'empty')), undefined);
});
