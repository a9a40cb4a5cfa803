/** X-Wing against the test vectors of draft-connolly-cfrg-xwing-kem. */
import t from 'tap';
import { equalBytes, toHex } from '../../src/base/bytes.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { encapsulationLength, kemPublicKeyLength } from '../../src/crypto/kem-key.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { decapsulate, encapsulate, kemPublicKey } from '../../src/crypto/x-wing.js';

/** Of the public key and the encapsulation, which are long: their SHA-256. */
const vectors = [
  {
    seed: '7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26',
    mlKemCoins: '3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2',
    ephemeral: '35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2',
    publicKey: '2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb',
    encapsulation: '17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33',
    sharedSecret: 'd2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384',
  },
  {
    seed: 'badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea',
    mlKemCoins: '17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef',
    ephemeral: 'aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d',
    publicKey: 'c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916',
    encapsulation: '1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154',
    sharedSecret: 'f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150',
  },
  {
    seed: 'ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9',
    mlKemCoins: '22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619',
    ephemeral: 'f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b',
    publicKey: '6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95',
    encapsulation: 'd3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6',
    sharedSecret: '953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f',
  },
];

t.test('keys, encapsulations and secrets are those of the draft', (t) => {
  for (const { seed, mlKemCoins, ephemeral, ...expected } of vectors) {
    const secretSeed = Buffer.from(seed, 'hex');
    const publicKey = kemPublicKey(secretSeed);
    t.equal(publicKey.byteLength, kemPublicKeyLength);
    t.equal(toHex(hashBytes(publicKey)), expected.publicKey);
    const { sharedSecret, encapsulation } = encapsulate(publicKey, { bytes: () => Buffer.from(mlKemCoins + ephemeral, 'hex') });
    t.equal(encapsulation.byteLength, encapsulationLength);
    t.equal(toHex(hashBytes(encapsulation)), expected.encapsulation);
    t.equal(toHex(sharedSecret), expected.sharedSecret);
    t.equal(toHex(decapsulate(secretSeed, encapsulation)), expected.sharedSecret);
    t.equal(toHex(secretSeed), seed, 'the seed is only read');
  }
  t.end();
});

t.test('only the holder of the key gets the secret, and only from the encapsulation as it was made', (t) => {
  const seed = systemRandom.bytes(32);
  const publicKey = kemPublicKey(seed);
  const { sharedSecret, encapsulation } = encapsulate(publicKey, systemRandom);
  t.ok(equalBytes(decapsulate(seed, encapsulation), sharedSecret));
  t.notOk(equalBytes(encapsulate(publicKey, systemRandom).sharedSecret, sharedSecret), 'each one is new');
  t.notOk(equalBytes(decapsulate(systemRandom.bytes(32), encapsulation), sharedSecret));
  for (const at of [0, 500, 1087, 1088, 1100]) {
    const changed = Buffer.from(encapsulation);
    changed[at]! ^= 1;
    t.notOk(equalBytes(decapsulate(seed, changed), sharedSecret), `byte ${at}`);
  }
  t.end();
});

t.test('what is no key or no encapsulation is refused', (t) => {
  const seed = systemRandom.bytes(32);
  const publicKey = kemPublicKey(seed);
  const { encapsulation } = encapsulate(publicKey, systemRandom);
  const zeroPoint = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes.subarray(0, -32), Buffer.alloc(32)]);
  // 0xfff is no coefficient below the modulus.
  const tooLarge = Buffer.from(publicKey).fill(0xff, 0, 3);
  const keys = [publicKey.subarray(1), Buffer.concat([publicKey, Buffer.alloc(1)]), new Uint8Array(0), tooLarge, zeroPoint(publicKey)];
  for (const key of keys) t.throws(() => encapsulate(key, systemRandom), { code: 'MALFORMED' });
  const encapsulations = [encapsulation.subarray(1), Buffer.concat([encapsulation, Buffer.alloc(1)]), new Uint8Array(0), zeroPoint(encapsulation)];
  for (const one of encapsulations) t.throws(() => decapsulate(seed, one), { code: 'MALFORMED' });
  t.end();
});
