/** The seal over an asynchronous cipher, as in a browser: WebCrypto, and libsodium for the ciphers that it lacks. */
import type { webcrypto } from 'node:crypto';
import sodium from 'libsodium-wrappers-sumo';
import t from 'tap';
import type { Plaintext, Sealed } from '../../src/base/brand.js';
import { equalBytes, toHex } from '../../src/base/bytes.js';
import type { Random } from '../../src/base/random.js';
import type { SealCall, SealFormatOptions } from '../../src/crypto/seal-format.js';
import { SealFormat, saltLength, sealNonce } from '../../src/crypto/seal-format.js';
import { SealKey } from '../../src/crypto/seal-key.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { asPlaintext, goldenBase, goldenPayload, goldenPlace, goldenRandom, goldenSeals, sealKinds } from '../suite/golden-seals.js';

const { subtle } = globalThis.crypto;

const aesKey = (key: Uint8Array): Promise<webcrypto.CryptoKey> => subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt']);
const gcm = ({ aad }: SealCall): webcrypto.AesGcmParams => ({ name: 'AES-GCM', iv: sealNonce, additionalData: aad, tagLength: 128 });

/** Ciphertext, then tag. */
async function encrypt(call: SealCall, plain: Uint8Array): Promise<Uint8Array> {
  if (call.suite === 2) return sodium.crypto_aead_chacha20poly1305_ietf_encrypt(plain, call.aad, null, sealNonce, call.key);
  return new Uint8Array(await subtle.encrypt(gcm(call), await aesKey(call.key), plain));
}

/** `undefined` when it is not authentic. */
async function decrypt(call: SealCall, encrypted: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    if (call.suite === 2) return sodium.crypto_aead_chacha20poly1305_ietf_decrypt(null, encrypted, call.aad, sealNonce, call.key);
    return new Uint8Array(await subtle.decrypt(gcm(call), await aesKey(call.key), encrypted));
  } catch {
    return undefined;
  }
}

/** {@link SealKey} for a browser. */
class WebSealKey {
  readonly #format: SealFormat;
  readonly #random: Random;

  constructor(options: SealFormatOptions, random: Random) {
    this.#format = new SealFormat(options);
    this.#random = random;
  }

  async seal(place: Uint8Array, payload: Plaintext): Promise<Sealed> {
    const sealed = new Uint8Array(payload.byteLength + this.#format.overhead);
    const sealing = this.#format.seal(place, this.#random.bytes(saltLength), sealed, 0);
    sealed.set(await encrypt(sealing, payload), sealing.at);
    return sealed as Sealed;
  }

  async open(place: Uint8Array, sealed: Uint8Array): Promise<Uint8Array> {
    const opening = this.#format.open(place, sealed);
    const plain = await decrypt(opening, opening.encrypted);
    if (!plain) throw this.#format.notAuthentic();
    return plain;
  }
}

t.test('WebCrypto and libsodium seal the bytes of the format', async (t) => {
  for (const [more, hex] of goldenSeals) {
    const key = new WebSealKey({ ...goldenBase, ...more }, goldenRandom);
    t.equal(toHex(await key.seal(goldenPlace, goldenPayload)), hex);
    t.ok(equalBytes(await key.open(goldenPlace, Buffer.from(hex, 'hex')), goldenPayload));
  }
});

t.test('WebCrypto and libsodium open what the other has sealed, for every kind, suite and length', async (t) => {
  for (const kind of sealKinds) {
    for (const suite of [1, 2] as const) {
      const options = { ...goldenBase, kind, suite };
      for (const length of [0, 1, 16, 1000, 300_000]) {
        const content = systemRandom.bytes(length) as Plaintext;
        const salt = systemRandom.bytes(saltLength);
        const random = { bytes: () => salt };
        const [web, node] = [new WebSealKey(options, random), new SealKey({ ...options, random })];
        const [byWeb, byNode] = [await web.seal(goldenPlace, content), node.seal(goldenPlace, content)];
        t.ok(equalBytes(byWeb, byNode), `${kind}, suite ${suite}, ${length} bytes`);
        t.ok(equalBytes(node.open(goldenPlace, byWeb), content));
        t.ok(equalBytes(await web.open(goldenPlace, byNode), content));
      }
    }
  }
});

t.test('a browser refuses what Node.js refuses', async (t) => {
  for (const suite of [1, 2] as const) {
    const key = new WebSealKey({ ...goldenBase, suite }, systemRandom);
    const sealed = await key.seal(goldenPlace, goldenPayload);
    for (let bit = 0; bit < sealed.byteLength * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      await t.rejects(key.open(goldenPlace, changed), { code: /NOT_AUTHENTIC|MALFORMED|UNSUPPORTED_VERSION/ });
    }
    await t.rejects(key.open(asPlaintext('Place'), sealed), { code: 'NOT_AUTHENTIC' });
    await t.rejects(key.open(goldenPlace, sealed.subarray(0, -1)), { code: 'NOT_AUTHENTIC' });
  }
});
