/** The command line with keyslots that do not give the rights of the volume's owner. */
import { readdirSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { putSlot } from '../../src/access/keyslots.js';
import { createVolumeStore } from '../../src/access/vacant-store.js';
import { systemClock } from '../../src/base/clock.js';
import { createSlot } from '../../src/crypto/keyslot.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { createVolume } from '../../src/volume/create-volume.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());

t.test("a keyslot without the owner's rights opens the volume, and makes no other keyslot", async (t) => {
  const [rootSecret, ownerSeed] = [systemRandom.bytes(32), systemRandom.bytes(32)];
  const path = place.path('store');
  const store = await createVolumeStore(path);
  const { volumeId } = await createVolume({ store, rootSecret, ownerSeed, random: systemRandom, clock: systemClock });
  const grant = { volumeId, generation: 1, since: 0, rootSecret, ownerSeed, created: 1, label: '' };
  for (const rights of ['owner', 'none'] as const) {
    const bytes = systemRandom.bytes(64);
    writeFileSync(place.path(`${rights}.key`), bytes);
    await putSlot(store, await createSlot({ ...grant, secret: { type: 'key-file', bytes }, rights }, systemRandom));
  }
  await store.close();

  const add = (by: string, made: string) =>
    place.run(['key', 'add', path, '--type', 'key-file', '--new-key-file', place.path(made), '--key-file', place.path(`${by}.key`)]);
  t.equal((await place.run(['check', path, '--key-file', place.path('none.key')])).code, 0);
  const refused = await add('none', 'refused.key');
  t.equal(refused.code, exitCodes.LOCKED);
  t.match(refused.stderr, /without the rights of its owner.*nothing was changed/);
  t.notOk(readdirSync(place.folder).includes('refused.key'), 'no key file was made');
  t.equal((await add('owner', 'added.key')).code, 0);
  t.equal((await add('added', 'another.key')).code, 0, 'what the owner adds has his rights');
  t.equal(readdirSync(place.path('store', 'keys')).length, 4);
});
