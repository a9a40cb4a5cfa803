import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { type BulkCipher, inlineCipher, nativeCipher } from '../../src/crypto/bulk-cipher.js';
import { SealKey } from '../../src/crypto/seal-key.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { loadNative } from '../../src/fuse/native.js';

const ciphers: Readonly<Record<string, BulkCipher>> = { 'this thread': inlineCipher, 'the thread pool': nativeCipher(loadNative()) };
const plain = (length: number): Plaintext => randomBytes(length) as Uint8Array as Plaintext;

for (const [where, cipher] of Object.entries(ciphers)) {
  for (const suite of [1, 2] as const) {
    t.test(`items sealed in a batch on ${where} (suite ${suite}) open one by one, and only at their place`, async (t) => {
      const key = new SealKey({ kind: 'page', subkey: randomBytes(32), suite, volumeId: randomBytes(32), epoch: 1, random: systemRandom });
      const payloads = [[plain(8), plain(70_000)], [plain(0), plain(1), plain(4096)], [plain(8), plain(200_000), plain(13)], [plain(0)]];
      const lengths = payloads.map((parts) => key.sealedLength(parts.reduce((sum, part) => sum + part.byteLength, 0)));
      const offsets = lengths.map((_, index) => 5 + lengths.slice(0, index).reduce((sum, length) => sum + length, 0));
      const target = Buffer.alloc(5 + lengths.reduce((sum, length) => sum + length, 0) + 7, 0xee);
      const place = (index: number): Uint8Array => Buffer.from(`place ${index}`);
      await cipher.encrypt(
        payloads.map((parts, index) => key.sealLater(place(index), parts, target, offsets[index]!)),
        target,
      );
      for (const [index, parts] of payloads.entries()) {
        const sealed = target.subarray(offsets[index], offsets[index]! + lengths[index]!);
        t.ok(Buffer.concat(parts).equals(key.open(place(index), sealed)));
        t.throws(() => key.open(place(index + 1), sealed), { code: 'NOT_AUTHENTIC' });
      }
      t.same(
        [...target.subarray(0, 5), ...target.subarray(-7)],
        Array.from({ length: 12 }, () => 0xee),
        'nothing around it was touched',
      );
    });
  }
}

t.test('many batches at once do not disturb each other', async (t) => {
  const key = new SealKey({ kind: 'page', subkey: randomBytes(32), suite: 1, volumeId: randomBytes(32), epoch: 1, random: systemRandom });
  const cipher = nativeCipher(loadNative());
  const place = new Uint8Array(20);
  const results = await Promise.all(
    Array.from({ length: 40 }, async () => {
      const payload = plain(100_000);
      const target = Buffer.alloc(key.sealedLength(payload.byteLength));
      await cipher.encrypt([key.sealLater(place, [payload], target, 0)], target);
      return Buffer.from(payload).equals(key.open(place, target));
    }),
  );
  t.ok(results.every(Boolean));
});

t.test('the addon refuses places outside of the target', (t) => {
  const native = loadNative();
  const message = [1, 90, new Uint8Array(32), new Uint8Array(64), null, new Uint8Array(0)];
  t.throws(() => native.aeadEncrypt(new Uint8Array(100), [message]), TypeError);
  t.throws(() => native.aeadEncrypt(new Uint8Array(100), [[3, 0, new Uint8Array(32), new Uint8Array(64), null]]), TypeError);
  t.throws(() => native.aeadEncrypt(new Uint8Array(100), [[1, 0, new Uint8Array(31), new Uint8Array(64), null]]), TypeError);
  t.end();
});

for (const [where, cipher] of Object.entries(ciphers)) {
  t.test(`${where} opens exactly what was sealed, in place or into new memory, and returns nothing when it is not authentic`, async (t) => {
    for (const suite of [1, 2] as const) {
      const key = new SealKey({ kind: 'page', subkey: randomBytes(32), suite, volumeId: randomBytes(32), epoch: 1, random: systemRandom });
      const place = Buffer.from('here');
      for (const length of [0, 1, 4096, 70_000]) {
        const payload = plain(length);
        const sealed = key.seal(place, payload);
        const before = Buffer.from(sealed);
        const opened = key.openBy(cipher.decryptInto, place, sealed, false);
        t.ok(Buffer.from(payload).equals(opened));
        t.ok(before.equals(sealed), 'the sealed bytes stay');
        const changed = Buffer.from(sealed);
        changed[changed.byteLength - 1]! ^= 1;
        t.throws(() => key.openBy(cipher.decryptInto, place, changed, true), { code: 'NOT_AUTHENTIC' });
        t.notOk(length > 64 && changed.includes(Buffer.from(payload.subarray(0, 64))), 'no plaintext is left');
        t.throws(() => key.openBy(cipher.decryptInto, Buffer.from('there'), Buffer.from(sealed), true), { code: 'NOT_AUTHENTIC' });
        t.throws(() => key.openBy(cipher.decryptInto, place, sealed.subarray(0, key.overhead - 1), true), { code: 'MALFORMED' });
        const inPlace = key.openBy(cipher.decryptInto, place, sealed, true);
        t.ok(Buffer.from(payload).equals(inPlace));
        t.equal(inPlace.buffer, sealed.buffer);
      }
    }
  });
}
