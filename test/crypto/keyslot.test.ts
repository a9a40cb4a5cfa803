import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import { checkKdfCost, kdfFloor } from '../../src/crypto/argon2.js';
import type { NewSlot, SlotSecret } from '../../src/crypto/keyslot.js';
import { createSlot, openSlot, readSlotHeader } from '../../src/crypto/keyslot.js';
import { newRecoveryWords, recoveryWordsToBytes } from '../../src/crypto/recovery-words.js';
import { systemRandom } from '../../src/crypto/system-random.js';

const passphrase: SlotSecret = { type: 'passphrase', passphrase: 'correct horse' };
const rootSecret = systemRandom.bytes(32);
const base: NewSlot = {
  secret: passphrase,
  generation: 1,
  rootSecret,
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
    const { slotId, bytes } = await createSlot({ ...base, secret }, systemRandom);
    const opened = await openSlot(bytes, secret, systemRandom);
    t.ok(equalBytes(opened.rootSecret, rootSecret));
    t.equal(opened.generation, 1);
    t.same([opened.header.slotId, opened.header.label, opened.header.type], [slotId, 'ä laptop', secret.type]);
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

t.test('every flipped bit and every other length of a slot is refused', async (t) => {
  const { bytes } = await createSlot({ ...base, secret: keyFile }, systemRandom);
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    await t.rejects(openSlot(changed, keyFile, systemRandom), { name: 'CryptoError' });
  }
  for (let length = 0; length < bytes.byteLength; length++)
    await t.rejects(openSlot(bytes.subarray(0, length), keyFile, systemRandom), { name: 'CryptoError' });
  await t.rejects(openSlot(Buffer.concat([bytes, Buffer.alloc(1)]), keyFile, systemRandom), { name: 'CryptoError' });
});

t.test('secrets that protect nothing are refused', async (t) => {
  await t.rejects(createSlot({ ...base, secret: { type: 'passphrase', passphrase: '' } }, systemRandom), { code: 'WEAK_SECRET' });
  await t.rejects(createSlot({ ...base, secret: { type: 'key-file', bytes: new Uint8Array(31) } }, systemRandom), { code: 'WEAK_SECRET' });
});
