/**
 * A store that presents forged keyslots to waste time and memory, or to lock the user out: attack 18 of
 * doc/security.md.
 */
import t from 'tap';
import type { SlotList, StoredSlot } from '../../src/access/keyslots.js';
import { unlock } from '../../src/access/keyslots.js';
import { TrialBudget, trialOrder } from '../../src/access/slot-trial.js';
import type { KdfCost } from '../../src/crypto/argon2.js';
import { defaultKdfCost, deriveWithArgon2, kdfFloor } from '../../src/crypto/argon2.js';
import type { SlotSecret } from '../../src/crypto/keyslot.js';
import { createSlot, readSlotHeader } from '../../src/crypto/keyslot.js';
import { systemRandom } from '../../src/crypto/system-random.js';

t.setTimeout(600_000);
const secret: SlotSecret = { type: 'passphrase', passphrase: 'correct horse' };
const volumeId = systemRandom.bytes(32);
const rootSecret = systemRandom.bytes(32);

const grant = { rootSecret, ownerSeed: systemRandom.bytes(32), generation: 1, since: 0, rights: 'owner' } as const;

const genuineSlot = (cost: KdfCost): Promise<StoredSlot> => createSlot({ secret, volumeId, ...grant, created: 1, label: '', cost }, systemRandom);

/** A forged slot that resembles `like`, has any cost, and opens with no secret. */
function bogusSlot(like: StoredSlot, cost: KdfCost = like.header.cost): StoredSlot {
  const bytes = Buffer.from(like.bytes);
  bytes.writeUInt32LE(cost.memoryKiB, 12);
  bytes.writeUInt32LE(cost.passes, 16);
  bytes.set(systemRandom.bytes(16), 24);
  bytes.set(systemRandom.bytes(8), 40);
  return { header: readSlotHeader(bytes), bytes };
}

const listOf = (slots: readonly StoredSlot[]): SlotList => ({ slots, unreadable: [] });
/** The clock advances by a trial on a slow machine at every reading. */
const slowClock = (stepMs: number): (() => number) => {
  let atMs = 0;
  return () => (atMs += stepMs);
};
const plenty = (): boolean => true;

t.test('the slot that this machine used last is tried first, whatever other slots there are', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  const bogus = Array.from({ length: 255 }, () => bogusSlot(genuine));
  const { slotId } = genuine.header;
  // The first trial leaves no time for a second one.
  const unlocked = await unlock(listOf([...bogus, genuine]), secret, { random: systemRandom, used: [slotId], nowMs: slowClock(100_000) });
  t.equal(unlocked.slotId, slotId);
  const chosen = await unlock(listOf([...bogus, genuine]), secret, { random: systemRandom, chosen: slotId.slice(0, 10), nowMs: slowClock(100_000) });
  t.equal(chosen.slotId, slotId, 'and so is the one that is named');
});

t.test('time and work are bounded without a known slot, and slots left untried are reported', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  const list = listOf(Array.from({ length: 255 }, () => bogusSlot(genuine)));
  await t.rejects(unlock(list, secret, { random: systemRandom, nowMs: slowClock(25_000) }), {
    code: 'INTEGRITY',
    message: /255 keyslots.*none of 3 opens, and 252 were left untried.*--keyslot/,
  });
  const budget = new TrialBudget(() => 0);
  let count = 0;
  while (budget.take(defaultKdfCost)) count++;
  t.equal(count, 48, 'about a minute');
  t.ok(new TrialBudget(() => 0).take({ memoryKiB: 1024 * 1024, passes: 16, lanes: 1 }), 'one may always be tried');
});

t.test('slots with our own cost are tried before cheaper and dearer ones, in a new order each time', async (t) => {
  const genuine = await genuineSlot(defaultKdfCost);
  const cheap = Array.from({ length: 200 }, () => bogusSlot(genuine, kdfFloor));
  const dear = bogusSlot(genuine, { memoryKiB: 256 * 1024, passes: 16, lanes: 1 });
  t.equal((await unlock(listOf([...cheap, dear, genuine]), secret, { random: systemRandom })).slotId, genuine.header.slotId);
  const alike = Array.from({ length: 30 }, () => bogusSlot(genuine));
  const orderOf = (): string =>
    trialOrder([dear, ...cheap, ...alike], [], systemRandom)
      .map(({ header }) => header.slotId)
      .join(' ');
  t.not(orderOf(), orderOf());
  t.equal(trialOrder([dear, ...cheap, ...alike], [], systemRandom).at(-1), dear);
  const [first, second] = trialOrder([dear, ...cheap, genuine], [dear.header.slotId, cheap[7]!.header.slotId], systemRandom);
  t.strictSame([first, second], [dear, cheap[7]], 'but not before those that were used here');
});

t.test('a slot that needs more memory than ours is skipped, and the message says what helps', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  const huge = bogusSlot(genuine, { memoryKiB: 1024 * 1024, passes: 2, lanes: 1 });
  const asked: KdfCost[] = [];
  const fits = (cost: KdfCost): boolean => asked.push(cost) > 0;
  t.equal((await unlock(listOf([huge, genuine]), secret, { random: systemRandom, used: [huge.header.slotId], fits })).slotId, genuine.header.slotId);
  t.strictSame(asked, [kdfFloor], 'nothing was done for it');
  await t.rejects(unlock(listOf([huge]), secret, { random: systemRandom, fits }), {
    code: 'INTEGRITY',
    message: /more memory than 256 MiB.*--keyslot-memory 1024M/,
  });
  await t.rejects(unlock(listOf([huge]), secret, { random: systemRandom, memoryKiBMax: 1024 * 1024, fits: () => false }), { code: 'MACHINE' });
});

t.test('a machine without the memory for a keyslot says so, and a key file opens all the same', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  await t.rejects(unlock(listOf([genuine]), secret, { random: systemRandom, fits: () => false }), {
    code: 'MACHINE',
    message: /64 MiB of memory.*a key file needs none/,
  });
  const keyFile: SlotSecret = { type: 'key-file', bytes: systemRandom.bytes(64) };
  const slot = await createSlot({ secret: keyFile, volumeId, ...grant, created: 1, label: '' }, systemRandom);
  const many = Array.from({ length: 255 }, () => bogusSlot(slot));
  const options = { random: systemRandom, fits: () => false, nowMs: slowClock(100_000) };
  t.equal((await unlock(listOf([...many, slot]), keyFile, options)).slotId, slot.header.slotId, 'among any number of others');
});

t.test('a volume whose root secret was replaced by a newer version says so, and does not look damaged', async (t) => {
  const keyFile: SlotSecret = { type: 'key-file', bytes: systemRandom.bytes(64) };
  const later = await createSlot({ secret: keyFile, volumeId, ...grant, generation: 2, since: 9, created: 1, label: '' }, systemRandom);
  await t.rejects(unlock(listOf([later]), keyFile, { random: systemRandom }), { code: 'UNSUPPORTED_VERSION', message: /generation 2/ });
});

t.test('a wrong passphrase is reported as such, also beside an unreadable slot', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  const wrong: SlotSecret = { type: 'passphrase', passphrase: 'wrong' };
  const { unreadable } = { unreadable: [{ key: 'keys/0123456789abcdef', reason: Object.assign(new Error('not a keyslot'), { code: 'MALFORMED' }) }] };
  const list = { slots: [genuine], unreadable } as unknown as SlotList;
  await t.rejects(unlock(list, wrong, { random: systemRandom, fits: plenty }), {
    code: 'LOCKED',
    message: /wrong passphrase.*keys\/0123456789abcdef/,
  });
});

t.test('a slot that the secret fits and that was changed is no wrong passphrase, and another one still opens', async (t) => {
  const genuine = await genuineSlot(kdfFloor);
  const bytes = Buffer.from(genuine.bytes);
  bytes[bytes.length - 100]! ^= 1;
  const changed = { header: genuine.header, bytes };
  await t.rejects(unlock(listOf([changed]), secret, { random: systemRandom, fits: plenty }), {
    code: 'INTEGRITY',
    message: new RegExp(`the passphrase is right.*not signed.*keys/${genuine.header.slotId}`),
  });
  const other = await genuineSlot(kdfFloor);
  const options = { random: systemRandom, fits: plenty, used: [genuine.header.slotId] };
  t.equal((await unlock(listOf([changed, other]), secret, options)).slotId, other.header.slotId);
});

t.test('the memory of a key derivation is released', async (t) => {
  const password = Buffer.from('password');
  const salt = systemRandom.bytes(16);
  await deriveWithArgon2(password, salt, kdfFloor);
  const before = process.memoryUsage.rss();
  for (let round = 0; round < 4; round++) await deriveWithArgon2(password, salt, { memoryKiB: 256 * 1024, passes: 2, lanes: 1 });
  t.ok(process.memoryUsage.rss() - before < 128 * 1024 * 1024, `${Math.round((process.memoryUsage.rss() - before) / 1024 / 1024)} MiB are left`);
});
