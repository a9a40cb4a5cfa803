import { createDecipheriv } from 'node:crypto';
import t from 'tap';
import type { Plaintext, Sealed } from '../../src/base/brand.js';
import { equalBytes, toHex } from '../../src/base/bytes.js';
import { CryptoError } from '../../src/crypto/crypto-error.js';
import { decrypt, encryptInto } from '../../src/crypto/node-aead.js';
import { bareOverhead, framedOverhead } from '../../src/crypto/seal-format.js';
import type { SealKeyOptions } from '../../src/crypto/seal-key.js';
import { SealKey } from '../../src/crypto/seal-key.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { collideGcm } from '../suite/gcm-collision.js';
import {
  asPlaintext as bytes,
  goldenBase,
  goldenRandom,
  goldenSeals,
  sealKinds as kinds,
  goldenPlace as place,
  goldenPayload as plain,
} from '../suite/golden-seals.js';

const keyOf = (more: Partial<SealKeyOptions> = {}): SealKey => new SealKey({ ...goldenBase, random: systemRandom, ...more });

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof CryptoError) return error.code;
    throw error;
  }
  return 'opened';
}

t.test('sealed data of every kind, suite and length opens again, in parts or whole', (t) => {
  for (const kind of kinds) {
    for (const suite of [1, 2] as const) {
      const key = keyOf({ kind, suite });
      for (const length of [0, 1, 15, 16, 17, 1000, 300_000]) {
        const content = systemRandom.bytes(length) as Plaintext;
        const sealed = key.seal(place, content);
        t.equal(sealed.byteLength, key.sealedLength(length));
        const parts = [content.subarray(0, length / 3), new Uint8Array(0), content.subarray(length / 3)] as Plaintext[];
        t.ok(equalBytes(key.open(place, sealed), content));
        t.ok(equalBytes(key.open(place, key.seal(place, parts)), content));
      }
    }
  }
  t.equal(keyOf({ kind: 'chunk' }).overhead, bareOverhead);
  t.equal(keyOf({ kind: 'commit' }).overhead, framedOverhead);
  t.end();
});

t.test('the bytes of every version of the format never change', (t) => {
  for (const [more, hex] of goldenSeals) {
    const sealed = keyOf({ ...more, random: goldenRandom }).seal(place, plain);
    t.equal(toHex(sealed), hex);
    t.ok(equalBytes(keyOf(more).open(place, Buffer.from(hex, 'hex')), plain));
  }
  t.end();
});

t.test('every flipped bit, every other length and every transplant is refused', (t) => {
  for (const kind of ['commit', 'chunk'] as const) {
    for (const suite of [1, 2] as const) {
      const key = keyOf({ kind, suite });
      const sealed = key.seal(place, plain);
      for (let bit = 0; bit < sealed.byteLength * 8; bit++) {
        const changed = Buffer.from(sealed);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        if (codeOf(() => key.open(place, changed)) === 'opened') t.fail(`bit ${bit} of ${kind}`);
      }
      for (let length = 0; length < sealed.byteLength; length++) {
        if (codeOf(() => key.open(place, sealed.subarray(0, length))) === 'opened') t.fail(`length ${length} of ${kind}`);
      }
      t.equal(
        codeOf(() => key.open(place, Buffer.concat([sealed, Buffer.alloc(1)]))),
        'NOT_AUTHENTIC',
      );
      t.equal(
        codeOf(() => key.open(bytes('Place'), sealed)),
        'NOT_AUTHENTIC',
      );
      t.equal(
        codeOf(() => key.open(bytes('place '), sealed)),
        'NOT_AUTHENTIC',
      );
      t.equal(
        codeOf(() => keyOf({ kind, suite, epoch: 2 }).open(place, sealed)),
        'NOT_AUTHENTIC',
      );
      t.equal(
        codeOf(() => keyOf({ kind, suite, volumeId: Buffer.alloc(32, 3) }).open(place, sealed)),
        'NOT_AUTHENTIC',
      );
      t.equal(
        codeOf(() => keyOf({ kind, suite, subkey: Buffer.alloc(32, 3) }).open(place, sealed)),
        'NOT_AUTHENTIC',
      );
    }
  }
  t.end();
});

t.test('no kind of object opens as another under the same key and place', (t) => {
  for (const from of kinds) {
    const sealed = keyOf({ kind: from }).seal(place, plain);
    for (const to of kinds) {
      const code = codeOf(() => keyOf({ kind: to }).open(place, sealed));
      if (from === to) t.equal(code, 'opened');
      else t.not(code, 'opened', `${from} as ${to}`);
    }
  }
  t.end();
});

t.test('unknown versions and suites are named as such', (t) => {
  const key = keyOf();
  const sealed = key.seal(place, plain);
  const changed = (at: number, value: number): Uint8Array => sealed.map((byte, index) => (index === at ? value : byte));
  t.equal(
    codeOf(() => key.open(place, changed(4, 2))),
    'UNSUPPORTED_VERSION',
  );
  for (const suite of [0, 3, 255])
    t.equal(
      codeOf(() => key.open(place, changed(5, suite))),
      'UNSUPPORTED_VERSION',
    );
  t.equal(
    codeOf(() => key.open(place, changed(5, 2))),
    'NOT_AUTHENTIC',
  );
  t.equal(
    codeOf(() => key.open(place, changed(6, 4))),
    'MALFORMED',
  );
  t.equal(
    codeOf(() => key.open(place, changed(0, 0))),
    'MALFORMED',
  );
  t.end();
});

t.test('a ciphertext made to be authentic under two keys opens under none but its own', (t) => {
  const salt = Buffer.alloc(24, 7);
  const keys = [keyOf({ subkey: Buffer.alloc(32, 1) }), keyOf({ subkey: Buffer.alloc(32, 2) })];
  const okms = keys.map((key) => key.derive(place, salt));
  const header = Buffer.from([...Buffer.from('SEAL'), 1, 1, 3, 0]);
  for (const committed of [0, 1]) {
    const aad = Buffer.concat([header, salt, okms[committed]!.subarray(32)]);
    const body = collideGcm(okms[0]!.subarray(0, 32), okms[1]!.subarray(0, 32), aad);
    // The attack works on the cipher alone ...
    for (const okm of okms) {
      const decipher = createDecipheriv('aes-256-gcm', okm.subarray(0, 32), Buffer.alloc(12), { authTagLength: 16 });
      decipher.setAAD(aad).setAuthTag(body.subarray(-16));
      decipher.update(body.subarray(0, -16));
      t.doesNotThrow(() => decipher.final());
    }
    // ... and not on the seal.
    const sealed = Buffer.concat([aad, body]) as Uint8Array as Sealed;
    t.equal(
      codeOf(() => keys[committed]!.open(place, sealed)),
      'opened',
    );
    t.equal(
      codeOf(() => keys[1 - committed]!.open(place, sealed)),
      'NOT_AUTHENTIC',
    );
  }
  t.end();
});

t.test('the ciphers agree with their published test vectors', (t) => {
  const hex = (text: string): Uint8Array => Buffer.from(text, 'hex');
  // McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13, 14 and 16.
  const vectors = [
    { key: '00'.repeat(32), nonce: '00'.repeat(12), aad: '', plain: '', sealed: '530f8afbc74536b9a963b4f1c4cb738b' },
    {
      key: '00'.repeat(32),
      nonce: '00'.repeat(12),
      aad: '',
      plain: '00'.repeat(16),
      sealed: 'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919',
    },
    {
      key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
      nonce: 'cafebabefacedbaddecaf888',
      aad: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
      plain: 'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
      sealed:
        '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b',
    },
  ];
  for (const vector of vectors) {
    const [key, nonce, aad, content] = [hex(vector.key), hex(vector.nonce), hex(vector.aad), hex(vector.plain)];
    const expected = hex(vector.sealed);
    const target = new Uint8Array(expected.byteLength);
    t.equal(encryptInto(1, key, nonce, aad, [content], target, 0), expected.byteLength);
    t.equal(toHex(target), vector.sealed);
    t.equal(toHex(decrypt(1, key, nonce, aad, expected) ?? new Uint8Array(1)), vector.plain);
    // A tag cut short is not a tag.
    for (const cut of [1, 4, 8, 12, 16]) t.equal(decrypt(1, key, nonce, aad, expected.subarray(0, -cut)), undefined);
  }
  t.end();
});
