/** What keyslots give, seen from the command line: the rights of the volume's owner, who admits machines, or none. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { listSlots, type NewlyMadeSlot, putSlot, unlock } from '../../src/access/keyslots.js';
import { createVolumeStore } from '../../src/access/vacant-store.js';
import { openVolumeStore } from '../../src/access/volume-store.js';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { openBareVolume } from '../../src/check/bare-volume.js';
import { Findings } from '../../src/check/finding.js';
import { commitAsOwner } from '../../src/commit/owner-commit.js';
import { createSlot, type SlotHeader } from '../../src/crypto/keyslot.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { createVolume } from '../../src/volume/create-volume.js';
import { testProgram } from '../suite/test-program.js';
import { Workplace } from './command-line.js';

/** Starting processes takes time. */
t.setTimeout(600_000);
const place = new Workplace();
t.teardown(() => place.remove());

t.test("a keyslot without the owner's rights opens the volume, and makes no other keyslot", async (t) => {
  const [rootSecret, ownerSeed] = [systemRandom.bytes(32), systemRandom.bytes(32)];
  const path = place.path('store');
  const store = await createVolumeStore(path);
  const slots: NewlyMadeSlot[] = [];
  const makeSlots = async (volumeId: Uint8Array): Promise<readonly SlotHeader[]> => {
    const grant = { volumeId, generation: 1, since: 0, rootSecret, ownerSeed, created: 1, label: '' };
    for (const rights of ['owner', 'none'] as const) {
      const bytes = systemRandom.bytes(64);
      writeFileSync(place.path(`${rights}.key`), bytes);
      slots.push(await createSlot({ ...grant, secret: { type: 'key-file', bytes }, rights }, systemRandom));
    }
    return slots.map(({ header }) => header);
  };
  await createVolume({ store, rootSecret, ownerSeed, random: systemRandom, clock: systemClock, program: testProgram, makeSlots });
  for (const slot of slots) await putSlot(store, slot);
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

  // Where nobody was admitted, such a keyslot opens the drive for reading only.
  const mountPoint = place.makeFolder('mnt');
  const mount = ['mount', path, mountPoint, '--key-file', place.path('none.key')];
  const unadmitted = await place.run(mount);
  t.equal(unadmitted.code, exitCodes.LOCKED);
  t.match(unadmitted.stderr, /keyslot of the owner, or mount with --read-only/);
  await place.succeed([...mount, '--read-only']);
  await place.succeed(['unmount', mountPoint]);
  await place.succeed(['mount', path, mountPoint, '--key-file', place.path('owner.key')]);
  await place.succeed(['unmount', mountPoint]);
  await place.succeed(mount);
  writeFileSync(join(mountPoint, 'by the machine'), 'that was admitted before');
  await place.succeed(['unmount', mountPoint]);
});

/** The ids of the keyslots that the log of the volume lists. */
async function listedKeyslots(path: string, keyFile: string): Promise<string[]> {
  const store = await openVolumeStore(path);
  try {
    const secret = { type: 'key-file' as const, bytes: readFileSync(keyFile) };
    const { rootSecret, ownerSeed, volumeId } = await unlock(await listSlots(store), secret, { random: systemRandom });
    const bare = await openBareVolume({ store, rootSecret, volumeId, random: systemRandom, findings: new Findings(1) });
    if (!bare || !ownerSeed) throw new Error('the owner opens it');
    let ids: string[] = [];
    const parts = { program: testProgram, clock: systemClock, logger: silentLogger, trusted: undefined };
    await commitAsOwner({ store, ...bare, ownerSeed, ...parts }, ({ keyslots }) => {
      ids = keyslots.map(({ slotId }) => slotId);
      return [];
    });
    return ids.toSorted();
  } finally {
    await store.close();
  }
}

t.test('the log lists the keyslots, from init on and while the drive is mounted', async (t) => {
  const { store, keyFile } = await place.makeVolume('listed');
  const inStore = (): string[] => readdirSync(join(store, 'keys')).toSorted();
  t.strictSame(await listedKeyslots(store, keyFile), inStore());
  const mountPoint = place.makeFolder('listed-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  const add = ['key', 'add', store, '--type', 'key-file', '--new-key-file', place.path('more.key'), '--key-file', keyFile, '--json'];
  const { slotId } = JSON.parse(await place.succeed(add)) as { slotId: string };
  t.strictSame(await listedKeyslots(store, keyFile), inStore());
  writeFileSync(join(mountPoint, 'meanwhile'), 'text');
  await place.succeed(['flush', mountPoint]);
  await place.succeed(['key', 'remove', store, slotId, '--key-file', keyFile]);
  t.equal(inStore().length, 1);
  t.strictSame(await listedKeyslots(store, keyFile), inStore());
  writeFileSync(join(mountPoint, 'after'), 'text');
  await place.succeed(['unmount', mountPoint]);
  t.equal((await place.run(['check', store, '--key-file', keyFile])).code, 0);
});

t.test('check says where the log and the store do not have the same keyslots, and key remove puts it right', async (t) => {
  const { store, keyFile } = await place.makeVolume('differs');
  const added = async (name: string): Promise<string> => {
    const add = ['key', 'add', store, '--type', 'key-file', '--new-key-file', place.path(name), '--key-file', keyFile, '--json'];
    return (JSON.parse(await place.succeed(add)) as { slotId: string }).slotId;
  };
  const check = ['check', store, '--key-file', keyFile];
  const [lost, revived] = [await added('lost.key'), await added('revived.key')];
  const object = join(store, 'keys', revived);
  const bytes = readFileSync(object);
  await place.succeed(['key', 'remove', store, revived, '--key-file', keyFile]);
  await place.succeed(check);
  writeFileSync(object, bytes);
  rmSync(join(store, 'keys', lost));
  const found = await place.run([...check, '--json']);
  t.equal(found.code, exitCodes.FLAWED);
  t.strictSame((JSON.parse(found.stdout) as { counts: object }).counts, { KEYSLOT_UNLISTED: 1, KEYSLOT_ABSENT: 1 });
  const text = (await place.run(check)).stdout;
  t.match(text, new RegExp(`keyslot ${revived} opens the volume, and the log does not list it: .*"sealdrive key remove"`));
  t.match(text, new RegExp(`the log lists keyslot ${lost}, and the store lacks it: .*"sealdrive key remove"`));
  for (const slotId of [revived, lost]) await place.succeed(['key', 'remove', store, slotId.slice(0, 10), '--key-file', keyFile]);
  await place.succeed(check);
  const again = await place.run(['key', 'remove', store, lost, '--key-file', keyFile]);
  t.equal(again.code, exitCodes.USAGE);
  t.match(again.stderr, /no keyslot has the id/);
});

t.test('with every device gone, the recovery words open the volume for writing on a new one', async (t) => {
  const store = place.path('words');
  const made = JSON.parse(await place.succeed(['init', store, '--passphrase-fd', '3', '--json'], { secret: 'forgotten' })) as {
    recoveryWords: string;
  };
  const mountPoint = place.makeFolder('words-mnt');
  await place.succeed(['mount', store, mountPoint, '--passphrase-fd', '3', '--state-dir', place.path('lost')], { secret: 'forgotten' });
  writeFileSync(join(mountPoint, 'before'), 'the loss');
  await place.succeed(['unmount', mountPoint]);
  rmSync(place.path('lost'), { recursive: true });
  const withWords = ['mount', store, mountPoint, '--recovery', '--passphrase-fd', '3', '--state-dir', place.path('new')];
  await place.succeed(withWords, { secret: made.recoveryWords });
  t.equal(readFileSync(join(mountPoint, 'before'), 'utf8'), 'the loss');
  writeFileSync(join(mountPoint, 'after'), 'the loss');
  const { mounts } = JSON.parse(await place.succeed(['status', mountPoint, '--json'])) as {
    mounts: { details: Record<string, Record<string, unknown>> }[];
  };
  t.match(mounts[0]?.details['device'], { index: 2, devices: 2, role: 'admin' });
  t.match(Object.values(mounts[0]?.details['devices'] ?? {}), [/^enrolled 20.*, admin, version \d+\.\d+\.\d+, admitted by the owner$/]);
  await place.succeed(['unmount', mountPoint]);
});

t.test('a volume that one machine uses says one device', async (t) => {
  const { store, keyFile } = await place.makeVolume('single');
  const mountPoint = place.makeFolder('single-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  t.match(await place.succeed(['status', mountPoint]), /device +name .*, index 1, devices 1, role admin\n/);
  await place.succeed(['unmount', mountPoint]);
});

t.test('there is nothing that an upgrade raises yet', async (t) => {
  const { store } = await place.makeVolume('upgrade');
  t.match(await place.succeed(['volume', 'upgrade', store]), /^There is nothing to upgrade/);
  t.strictSame(JSON.parse(await place.succeed(['volume', 'upgrade', store, '--json'])), { raised: [] });
  t.equal((await place.run(['volume', 'upgrade', place.makeFolder('empty')])).code, exitCodes.NOT_A_VOLUME);
});
