import { createDecipheriv, createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { type BulkCipher, inlineCipher, nativeCipher } from '../../src/crypto/bulk-cipher.js';
import type { ChunkContent } from '../../src/crypto/chunk-key.js';
import { ChunkKey } from '../../src/crypto/chunk-key.js';
import { blake2b } from '../../src/crypto/sodium.js';
import { hashesLength, sealedChunkLength, segmentCount, segmentLength, segmentsOf } from '../../src/crypto/stream-format.js';
import { loadNative } from '../../src/fuse/native.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const ciphers: Readonly<Record<string, BulkCipher>> = { 'this thread': inlineCipher, 'the addon': nativeCipher(loadNative()) };
const lengths = [1, 100, segmentLength - 1, segmentLength, segmentLength + 1, 3 * segmentLength, 65_536, 65_536 + 17, 300_000];
const plain = (length: number): Plaintext => randomBytes(length) as Uint8Array as Plaintext;
const makeKey = (suite: 1 | 2 = 1): ChunkKey => new ChunkKey({ subkey: Buffer.alloc(32, 3), suite, volumeId: Buffer.alloc(32, 9), epoch: 1 });

interface SealedChunk {
  readonly stored: Plaintext;
  readonly sealed: Buffer;
  readonly content: ChunkContent;
}

const contentFor = (length: number, place = 'place'): ChunkContent => ({
  place: Buffer.from(place),
  salt: randomBytes(16),
  hashes: new Uint8Array(hashesLength(length)),
});

/** Given to the cipher in parts that end anywhere. */
async function sealWith(cipher: BulkCipher, key: ChunkKey, stored: Plaintext, content = contentFor(stored.byteLength)): Promise<SealedChunk> {
  const cut = Math.floor(stored.byteLength / 3);
  const parts = [stored.subarray(0, cut), stored.subarray(cut, cut + 1), stored.subarray(cut + 1)] as Plaintext[];
  const sealed = Buffer.alloc(sealedChunkLength(stored.byteLength));
  await cipher.encrypt([key.sealing(content, parts, 0)], sealed);
  return { stored, sealed, content };
}

function open(cipher: BulkCipher, key: ChunkKey, content: ChunkContent, segments: Uint8Array, first: number, length: number): Uint8Array | undefined {
  const target = Buffer.alloc(length, 0xee);
  if (cipher.openStream(key.opening(content, segments, first, target))) return target;
  t.ok(
    target.every((byte) => byte === 0),
    'nothing of what is not authentic is left',
  );
  return undefined;
}

for (const suite of [1, 2] as const) {
  t.test(`both ciphers seal the same bytes and open each other's, whole and in part (suite ${suite})`, async (t) => {
    const key = makeKey(suite);
    for (const length of lengths) {
      const stored = plain(length);
      const content = contentFor(length);
      const made: Buffer[] = [];
      for (const cipher of Object.values(ciphers)) {
        const hashes = new Uint8Array(hashesLength(length));
        const { sealed } = await sealWith(cipher, key, stored, { ...content, hashes });
        if (made.length > 0) t.ok(made[0]!.equals(sealed) && Buffer.from(content.hashes).equals(hashes), `${length} bytes`);
        content.hashes.set(hashes);
        made.push(sealed);
      }
      const [sealed] = made;
      for (const cipher of Object.values(ciphers)) {
        t.ok(Buffer.from(stored).equals(open(cipher, key, content, sealed!, 0, length)!), 'the whole chunk');
        const [results] = [await cipher.openStreams([key.opening(content, sealed!, 0, Buffer.alloc(length))])];
        t.same(results, [true]);
        for (let from = 0; from < length; from += 5000) {
          const to = Math.min(length, from + 4096);
          const { first, start, end, length: held } = segmentsOf(length, from, to);
          const part = open(cipher, key, content, sealed!.subarray(start, end), first, held)!;
          const at = from - first * segmentLength;
          if (!Buffer.from(stored.subarray(from, to)).equals(part.subarray(at, at + to - from))) t.fail(`bytes ${from} to ${to} of ${length}`);
        }
      }
    }
  });
}

t.test('an aligned block of 4 KiB lies in one segment', (t) => {
  for (let from = 0; from < 65_536; from += 4096) {
    const { start, end, length } = segmentsOf(65_536, from, from + 4096);
    t.ok(length === segmentLength && end - start === segmentLength + 16);
  }
  t.end();
});

t.test('the bytes are those of the format page', async (t) => {
  const key = makeKey();
  const { stored, sealed, content } = await sealWith(inlineCipher, key, plain(segmentLength + 10));
  const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
  const header = Buffer.from([...Buffer.from('SEAL'), 1, 1, 4, 0]);
  const context = Buffer.concat([Buffer.from([4]), u32(1), Buffer.alloc(32, 9), content.place]);
  const message = Buffer.concat([Buffer.from('sealdrive v1 seal'), header, u32(context.length), context, content.salt]);
  const okm = blake2b(64, message, Buffer.alloc(32, 3));
  for (let number = 0; number < 2; number++) {
    const segment = sealed.subarray(number * (segmentLength + 16), (number + 1) * (segmentLength + 16));
    const decipher = createDecipheriv('aes-256-gcm', okm.subarray(0, 32), Buffer.concat([u32(number), Buffer.alloc(8)]));
    decipher.setAuthTag(segment.subarray(-16));
    const opened = Buffer.concat([decipher.update(segment.subarray(0, -16)), decipher.final()]);
    t.ok(opened.equals(stored.subarray(number * segmentLength, (number + 1) * segmentLength)));
    t.ok(
      createHash('sha256')
        .update(opened)
        .digest()
        .equals(Buffer.from(content.hashes.subarray(number * 32, (number + 1) * 32))),
    );
  }
});

for (const [where, cipher] of Object.entries(ciphers)) {
  t.test(`on ${where}, a changed bit, another place, salt or order, or a segment more or less is refused`, async (t) => {
    const random = new SeededRandom(testSeed());
    const key = makeKey();
    const length = 3 * segmentLength + 100;
    const { sealed, content } = await sealWith(cipher, key, plain(length));
    for (let round = 0; round < 200; round++) {
      const damaged = Buffer.from(sealed);
      damaged[random.below(damaged.length)]! ^= 1 << random.below(8);
      if (open(cipher, key, content, damaged, 0, length)) t.fail('a changed bit was not noticed');
    }
    t.equal(open(cipher, key, { ...content, place: Buffer.from('other') }, sealed, 0, length), undefined, 'another place');
    t.equal(open(cipher, key, { ...content, salt: randomBytes(16) }, sealed, 0, length), undefined, 'another salt');
    const one = segmentLength + 16;
    const swapped = Buffer.concat([sealed.subarray(one, 2 * one), sealed.subarray(0, one), sealed.subarray(2 * one)]);
    t.equal(open(cipher, key, content, swapped, 0, length), undefined, 'segments in another order');
    t.equal(open(cipher, key, content, sealed.subarray(0, one), 1, segmentLength), undefined, 'a segment as another one');
    t.throws(() => open(cipher, key, content, sealed.subarray(0, -1), 0, length), { code: 'MALFORMED' });
    t.throws(() => open(cipher, key, content, Buffer.concat([sealed, sealed.subarray(0, one)]), 0, length), { code: 'MALFORMED' });
    t.throws(() => open(cipher, key, content, sealed.subarray(0, one), 4, segmentLength), { code: 'MALFORMED' }, 'a segment that there is not');
  });

  t.test(`on ${where}, who has the key cannot put other content under the hashes`, async (t) => {
    const key = makeKey();
    const { content } = await sealWith(cipher, key, plain(2 * segmentLength));
    const forged = await sealWith(cipher, key, plain(2 * segmentLength), { ...content, hashes: new Uint8Array(64) });
    t.equal(open(cipher, key, content, forged.sealed, 0, 2 * segmentLength), undefined, 'the whole chunk');
    for (let number = 0; number < segmentCount(2 * segmentLength); number++) {
      const segment = forged.sealed.subarray(number * (segmentLength + 16), (number + 1) * (segmentLength + 16));
      t.equal(open(cipher, key, content, segment, number, segmentLength), undefined, `segment ${number}`);
      t.ok(open(cipher, key, forged.content, segment, number, segmentLength), 'which is authentic by its tag');
    }
  });
}

t.test('one of many chunks that is wrong does not fail the others', async (t) => {
  const key = makeKey();
  for (const cipher of Object.values(ciphers)) {
    const chunks = await Promise.all(Array.from({ length: 60 }, (_, index) => sealWith(cipher, key, plain(20_000 + index * 700))));
    chunks[17]!.sealed[9000]! ^= 1;
    const targets = chunks.map(({ stored }) => Buffer.alloc(stored.byteLength));
    const results = await cipher.openStreams(chunks.map(({ content, sealed }, index) => key.opening(content, sealed, 0, targets[index]!)));
    t.same(
      results,
      chunks.map((_, index) => index !== 17),
    );
    t.ok(chunks.every(({ stored }, index) => index === 17 || targets[index]!.equals(stored)));
  }
});

t.test('the addon refuses lengths that do not fit each other', (t) => {
  const native = loadNative();
  const bytes = (length: number): Uint8Array => new Uint8Array(length);
  const [key, aad] = [bytes(32), bytes(0)];
  const opens = (hashes: number, segments: number, first: number, target: number): (() => boolean) => {
    return () => native.streamOpen(1, key, aad, bytes(hashes), bytes(segments), first, bytes(target));
  };
  const whole = segmentLength + 16;
  t.notOk(opens(32, whole, 0, segmentLength)(), 'zeros are not authentic');
  const cases: [number, number, number, number][] = [
    [31, whole, 0, segmentLength],
    [64, whole, 0, segmentLength],
    [32, whole + 1, 0, segmentLength],
    [64, whole + 16, 0, segmentLength],
    [32, whole, 0, segmentLength - 1],
    [32, whole, 0, segmentLength + 1],
    [32, whole, -1, segmentLength],
    [0, 0, 0, 0],
    [32, 15, 0, 0],
  ];
  for (const one of cases) t.throws(opens(...one), TypeError, one.join(' '));
  const sealing = (at: number, hashes: Uint8Array, target: number): (() => unknown) => {
    return () => native.aeadEncrypt(bytes(target), [[1, at, key, aad, hashes, bytes(20_000)]]);
  };
  const sealed = sealedChunkLength(20_000);
  t.throws(sealing(1, bytes(96), sealed), TypeError, 'past the end of the target');
  t.throws(sealing(0, bytes(64), sealed), TypeError, 'room for too few hashes');
  t.throws(sealing(0, bytes(128), sealed), TypeError, 'room for too many');
  t.end();
});
