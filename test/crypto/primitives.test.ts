import t from 'tap';
import { toHex } from '../../src/base/bytes.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { padmeLength } from '../../src/crypto/padme.js';
import { isSignedBy, Signer } from '../../src/crypto/signature.js';
import { keyedHash } from '../../src/crypto/subkey.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys } from '../../src/crypto/volume-keys.js';

const message = Buffer.from('message');

t.test('SHA-256 and keyed BLAKE2b-256 are the standard ones', (t) => {
  t.equal(toHex(hashBytes(new Uint8Array(0))), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  t.equal(toHex(hashBytes(Buffer.from('abc'))), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  t.equal(toHex(keyedHash(Buffer.alloc(32, 7), Buffer.from('abc'))), '62d8fe04aeb9b650b0dbdb3078da63b0d4c864854da1e7ff3aae7a2daee046ba');
  t.end();
});

t.test('Ed25519: RFC 8032 test 2, and nothing but the right key, message and signature', (t) => {
  const signer = new Signer(Buffer.from('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb', 'hex'));
  t.equal(toHex(signer.publicKey), '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
  t.equal(
    toHex(signer.sign(Buffer.from([0x72]))),
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
  const signature = signer.sign(message);
  t.ok(isSignedBy(signer.publicKey, message, signature));
  t.notOk(isSignedBy(signer.publicKey, Buffer.from('massage'), signature));
  t.notOk(isSignedBy(new Signer(systemRandom.bytes(32)).publicKey, message, signature));
  t.notOk(isSignedBy(signer.publicKey, message, signature.subarray(1)));
  t.notOk(isSignedBy(signer.publicKey.subarray(1), message, signature));
  t.end();
});

t.test('keys of small order, under which anyone can sign anything, are refused', (t) => {
  const keys = [
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    '0000000000000000000000000000000000000000000000000000000000000080',
  ];
  const signatures = ['01', '00'].map((first) => Buffer.concat([Buffer.from(first.padEnd(64, '0'), 'hex'), Buffer.alloc(32)]));
  for (const key of keys) for (const signature of signatures) t.notOk(isSignedBy(Buffer.from(key, 'hex'), message, signature), key);
  t.end();
});

t.test('PADMÉ leaks little and costs little', (t) => {
  t.same([0, 1, 2, 9, 17, 100, 1000, 1025, 65_537, 1_000_000].map(padmeLength), [0, 1, 2, 10, 18, 104, 1024, 1088, 67_584, 1_015_808]);
  let distinct = new Set<number>();
  for (let length = 1; length < 100_000; length++) {
    const padded = padmeLength(length);
    distinct = distinct.add(padded);
    if (padded < length || padded > length * 1.12 + 1 || padmeLength(padded) !== padded) t.fail(`${length} becomes ${padded}`);
  }
  t.ok(distinct.size < 200, `${distinct.size} sizes`);
  t.end();
});

t.test('random bytes are never handed out twice', (t) => {
  const seen = new Set<string>();
  for (let count = 0; count < 5000; count++) seen.add(toHex(systemRandom.bytes(24)));
  t.equal(seen.size, 5000);
  t.equal(systemRandom.bytes(100_000).byteLength, 100_000);
  t.end();
});

t.test('names of commits need the root secret', (t) => {
  const root = new RootKeys(Buffer.alloc(32, 1), systemRandom);
  t.match(root.logName(5), /^[0-9a-f]{12}$/);
  t.equal(root.logName(5), new RootKeys(Buffer.alloc(32, 1), systemRandom).logName(5));
  t.not(root.logName(5), root.logName(6));
  t.not(root.logName(5), new RootKeys(Buffer.alloc(32, 2), systemRandom).logName(5));
  t.end();
});
