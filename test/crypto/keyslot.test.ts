import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import { checkKdfCost, kdfFloor } from '../../src/crypto/argon2.js';
import { CryptoError } from '../../src/crypto/crypto-error.js';
import type { NewSlot, SlotSecret } from '../../src/crypto/keyslot.js';
import { createSlot, isSlotSigned, openSlot, readSlotHeader, slotLengthMax, wrapRoot } from '../../src/crypto/keyslot.js';
import { newRecoveryWords, recoveryWordsToBytes } from '../../src/crypto/recovery-words.js';
import { Signer } from '../../src/crypto/signature.js';
import { systemRandom } from '../../src/crypto/system-random.js';

t.setTimeout(600_000);
const passphrase: SlotSecret = { type: 'passphrase', passphrase: 'correct horse' };
const rootSecret = systemRandom.bytes(32);
const ownerSeed = systemRandom.bytes(32);
const owner = new Signer(ownerSeed).publicKey;
const base: NewSlot = {
  secret: passphrase,
  generation: 1,
  since: 0,
  rootSecret,
  ownerSeed,
  rights: 'owner',
  volumeId: systemRandom.bytes(32),
  created: 1_700_000_000,
  label: 'ä laptop',
  cost: kdfFloor,
};
const keyFile: SlotSecret = { type: 'key-file', bytes: systemRandom.bytes(32) };

t.test('each type of slot gives the root secret back, and only for its own secret', async (t) => {
  const words = newRecoveryWords(systemRandom);
  const pairs: [SlotSecret, SlotSecret][] = [
    [passphrase, { type: 'passphrase', passphrase: 'correct horse ' }],
    [
      { type: 'recovery-words', words },
      { type: 'recovery-words', words: newRecoveryWords(systemRandom) },
    ],
    [keyFile, { type: 'key-file', bytes: systemRandom.bytes(32) }],
  ];
  for (const [secret, wrong] of pairs) {
    const { header, bytes } = await createSlot({ ...base, secret }, systemRandom);
    t.ok(bytes.byteLength < slotLengthMax);
    t.ok(isSlotSigned(bytes));
    t.same(readSlotHeader(bytes), header);
    const opened = await openSlot(bytes, secret, systemRandom);
    t.ok(equalBytes(opened.rootSecret, rootSecret));
    t.ok(opened.ownerSeed && equalBytes(opened.ownerSeed, ownerSeed));
    t.same([opened.generation, opened.since], [1, 0]);
    t.same(opened.header, header);
    t.ok(equalBytes(header.owner, owner));
    t.same([header.label, header.type], ['ä laptop', secret.type]);
    await t.rejects(openSlot(bytes, wrong, systemRandom), { code: 'WRONG_SECRET' });
    t.equal(readSlotHeader(bytes).created, 1_700_000_000);
  }
  const { bytes } = await createSlot(base, systemRandom);
  await t.rejects(openSlot(bytes, keyFile, systemRandom), { code: 'WRONG_SECRET' });
});

t.test('a passphrase is the same however its letters were composed', async (t) => {
  const { bytes } = await createSlot({ ...base, secret: { type: 'passphrase', passphrase: 'caf\u00e9' } }, systemRandom);
  t.ok(await openSlot(bytes, { type: 'passphrase', passphrase: 'cafe\u0301' }, systemRandom));
});

t.test('recovery words tolerate other case and spaces, but no misspelling', (t) => {
  const words = newRecoveryWords(systemRandom);
  t.equal(words.split(' ').length, 24);
  t.same(recoveryWordsToBytes(`  ${words.toUpperCase().replaceAll(' ', ' \n ')} `), recoveryWordsToBytes(words));
  const list = words.split(' ');
  t.throws(() => recoveryWordsToBytes(list.slice(1).join(' ')), { code: 'WRONG_SECRET' });
  t.throws(() => recoveryWordsToBytes([...list.slice(1), 'nonsense'].join(' ')), { code: 'WRONG_SECRET' });
  t.throws(() => recoveryWordsToBytes('abandon '.repeat(11).concat('about')), { code: 'WRONG_SECRET' }, '12 words');
  t.end();
});

t.test('costs outside the bounds are refused before any work', async (t) => {
  const { bytes } = await createSlot(base, systemRandom);
  // Each of these would take minutes, or all memory.
  const costs: [number, number][] = [
    [12, 64 * 1024 - 1],
    [12, 0],
    [12, 4 * 1024 * 1024 + 1],
    [12, 0xffffffff],
    [16, 1],
    [16, 0],
    [16, 65],
    [16, 0xffffffff],
    [20, 0],
    [20, 2],
  ];
  for (const [at, value] of costs) {
    const changed = Buffer.from(bytes);
    changed.writeUInt32LE(value, at);
    await t.rejects(openSlot(changed, passphrase, systemRandom), { code: 'KDF_OUT_OF_BOUNDS' });
    t.throws(() => readSlotHeader(changed), { code: 'KDF_OUT_OF_BOUNDS' });
  }
  await t.rejects(createSlot({ ...base, cost: { memoryKiB: 1024, passes: 2, lanes: 1 } }, systemRandom), { code: 'KDF_OUT_OF_BOUNDS' });
  t.throws(() => checkKdfCost({ memoryKiB: Number.NaN, passes: 2, lanes: 1 }), { code: 'KDF_OUT_OF_BOUNDS' });
});

/** Whether it opens; an error of another kind fails the test. */
async function opens(slot: Uint8Array): Promise<boolean> {
  try {
    await openSlot(slot, keyFile, systemRandom);
    return true;
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    return false;
  }
}

t.test('every flipped bit and every other length of a slot is refused', async (t) => {
  const { bytes } = await createSlot({ ...base, secret: keyFile }, systemRandom);
  const accepted: string[] = [];
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    if (await opens(changed)) accepted.push(`bit ${bit}`);
  }
  for (let length = 0; length < bytes.byteLength; length++) if (await opens(bytes.subarray(0, length))) accepted.push(`length ${length}`);
  if (await opens(Buffer.concat([bytes, Buffer.alloc(1)]))) accepted.push('a byte too many');
  t.same(accepted, []);
  t.ok(await opens(bytes));
});

t.test('secrets that protect nothing are refused', async (t) => {
  await t.rejects(createSlot({ ...base, secret: { type: 'passphrase', passphrase: '' } }, systemRandom), { code: 'WEAK_SECRET' });
  await t.rejects(createSlot({ ...base, secret: { type: 'key-file', bytes: new Uint8Array(31) } }, systemRandom), { code: 'WEAK_SECRET' });
});

t.test("a slot without the owner's rights opens the volume, and makes nobody its owner", async (t) => {
  const { bytes } = await createSlot({ ...base, secret: keyFile, rights: 'none', generation: 7, since: 1234 }, systemRandom);
  const opened = await openSlot(bytes, keyFile, systemRandom);
  t.equal(opened.ownerSeed, undefined);
  t.ok(equalBytes(opened.rootSecret, rootSecret) && equalBytes(opened.header.owner, owner));
  t.same([opened.generation, opened.since], [7, 1234]);
});

t.test('a label is what it was, to its last byte, and a slot of no generation is refused', async (t) => {
  for (const label of ['', '\ufeffmarked', 'x'.repeat(255)]) {
    const { header, bytes } = await createSlot({ ...base, secret: keyFile, label }, systemRandom);
    t.equal(readSlotHeader(bytes).label, label);
    t.same(header, readSlotHeader(bytes));
  }
  await t.rejects(openSlot(await newSlot({ generation: 0 }), keyFile, systemRandom), { code: 'MALFORMED' });
});

const backLength = 1120 + 158 + 64;
const frontOf = (slot: Uint8Array): Uint8Array => slot.subarray(0, -backLength);
const newSlot = async (more: Partial<NewSlot> = {}): Promise<Uint8Array> =>
  (await createSlot({ ...base, secret: keyFile, ...more }, systemRandom)).bytes;

t.test('a new root secret is wrapped to a slot whose secret is not at hand', async (t) => {
  const slot = await newSlot();
  const renewed = systemRandom.bytes(32);
  const wrapped = await wrapRoot(frontOf(slot), { ...base, rootSecret: renewed, generation: 2, since: 99 }, systemRandom);
  t.ok(equalBytes(frontOf(wrapped), frontOf(slot)));
  const opened = await openSlot(wrapped, keyFile, systemRandom);
  t.ok(equalBytes(opened.rootSecret, renewed));
  t.same([opened.generation, opened.since], [2, 99]);
});

t.test('a store that exchanges a part of a slot is refused', async (t) => {
  const slot = await newSlot();
  const other = await newSlot({ label: 'other' });
  const [place, anchorEnd] = [slot.byteLength - backLength - 80, slot.byteLength - backLength];
  const [encapsulationEnd, wrappedEnd] = [anchorEnd + 1120, anchorEnd + 1120 + 158];
  // The labels are of other lengths.
  const shift = other.byteLength - slot.byteLength;
  const exchanged = (from: number, to: number): Uint8Array =>
    Buffer.concat([slot.subarray(0, from), other.subarray(from + shift, to + shift), slot.subarray(to)]);
  const stranger: NewSlot = { ...base, volumeId: systemRandom.bytes(32), rootSecret: systemRandom.bytes(32), ownerSeed: systemRandom.bytes(32) };
  const byStranger = await wrapRoot(frontOf(slot), stranger, systemRandom);
  // Salt and slot key stay, so that the secret leads to the key; he has no secret to make an anchor with.
  const theirs = Buffer.from(frontOf(slot));
  theirs.set(stranger.volumeId, 48);
  theirs.set(new Signer(stranger.ownerSeed).publicKey, 80);
  const attacks: [name: string, slot: Uint8Array, code: string][] = [
    ['the slot key of another slot', exchanged(place - 1216, place), 'WRONG_SECRET'],
    ['the anchor of another slot', exchanged(place, anchorEnd), 'WRONG_SECRET'],
    ['the encapsulation of another slot', exchanged(anchorEnd, encapsulationEnd), 'NOT_AUTHENTIC'],
    ['the wrapped root of another slot', exchanged(encapsulationEnd, wrappedEnd), 'NOT_AUTHENTIC'],
    ['the signature of another slot', exchanged(wrappedEnd, slot.byteLength), 'NOT_AUTHENTIC'],
    ['the whole back part of another slot', exchanged(anchorEnd, slot.byteLength), 'NOT_AUTHENTIC'],
    ['a root that a stranger wrapped to the slot key', byStranger, 'NOT_AUTHENTIC'],
    ["a stranger's volume and owner, wrapped to the slot key", await wrapRoot(theirs, stranger, systemRandom), 'WRONG_SECRET'],
  ];
  for (const [name, bytes, code] of attacks) await t.rejects(openSlot(bytes, keyFile, systemRandom), { name: 'CryptoError', code }, name);
  t.ok(await openSlot(slot, keyFile, systemRandom), 'the slot itself opens');
});

t.test('an old wrapped root does not open in a new header, even when the owner signs it', async (t) => {
  // Both have one salt, and so one slot key: only the header differs.
  const salt = systemRandom.bytes(16);
  const fixed = { bytes: (count: number): Uint8Array => (count === 16 ? salt : systemRandom.bytes(count)) };
  const before = await createSlot({ ...base, secret: keyFile, label: 'before' }, fixed);
  const after = await createSlot({ ...base, secret: keyFile, label: 'after' }, fixed);
  t.ok(equalBytes(before.header.slotKey, after.header.slotKey));
  const signed = Buffer.concat([frontOf(after.bytes), before.bytes.subarray(-backLength, -64)]);
  const signature = new Signer(ownerSeed).sign(Buffer.concat([Buffer.from('sealdrive v1 keyslot'), signed]));
  await t.rejects(openSlot(Buffer.concat([signed, signature]), keyFile, systemRandom), { code: 'NOT_AUTHENTIC', message: /wrapped-root/ });
});

t.test('a seed that is not that of the owner in the header is refused', async (t) => {
  const slot = await newSlot();
  const { bytes } = await createSlot({ ...base, secret: keyFile, ownerSeed: systemRandom.bytes(32) }, systemRandom);
  t.notOk(equalBytes(readSlotHeader(bytes).owner, owner));
  // Only the owner himself could sign this.
  const other = await wrapRoot(frontOf(slot), { ...base, ownerSeed: systemRandom.bytes(32) }, systemRandom);
  const signed = other.subarray(0, -64);
  const signature = new Signer(ownerSeed).sign(Buffer.concat([Buffer.from('sealdrive v1 keyslot'), signed]));
  await t.rejects(openSlot(Buffer.concat([signed, signature]), keyFile, systemRandom), { code: 'MALFORMED', message: /another owner/ });
});
