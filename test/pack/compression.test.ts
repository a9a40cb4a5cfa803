import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { padmeLength } from '../../src/crypto/padme.js';
import { compress, decompress, frameLength, looksCompressible } from '../../src/pack/compression.js';
import { chunkPlainMax, decodeChunk, decodePage, encodeChunk, encodePage } from '../../src/pack/item.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const text = (length: number): Buffer => Buffer.alloc(length, 'The quick brown fox jumps over the lazy dog. ');

void t.test('only compressible data is compressed', async (t) => {
  t.notOk(looksCompressible(text(511)), 'small');
  t.ok(looksCompressible(text(512)));
  t.ok(looksCompressible(Buffer.alloc(262_144)));
  t.notOk(looksCompressible(randomBytes(262_144)), 'random bytes');
  const half = Buffer.concat([randomBytes(60_000), text(4_000)]);
  t.equal(await compress(half), undefined, 'a gain of less than a tenth is not taken');
});

void t.test('compressed data is restored', async (t) => {
  for (const length of [512, 1000, 65_535, 131_072, 131_073, 262_144, 1_000_000, chunkPlainMax]) {
    const plain = text(length);
    const frame = (await compress(plain)) as Uint8Array;
    t.equal(frameLength(frame, length), frame.byteLength);
    t.ok(plain.equals(await decompress(frame, length)), `${length} bytes`);
    await t.rejects(decompress(frame, length + 1), { code: 'MALFORMED' });
    await t.rejects(decompress(frame, length - 1), { code: 'MALFORMED' });
  }
});

void t.test('a frame that would grow out of bounds is refused before it is decompressed', async (t) => {
  const bomb = (await compress(Buffer.alloc(64 * 1024 * 1024))) as Uint8Array;
  t.ok(bomb.byteLength < 10_000);
  await t.rejects(decompress(bomb, 262_144), { code: 'MALFORMED' });
});

void t.test('a block beyond 128 KiB is refused, whatever its type is', async (t) => {
  const frameOf = (type: number, blockSize: number): Uint8Array => {
    const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0, 0, 0]);
    header.writeUIntLE((blockSize << 3) | (type << 1) | 1, 6, 3);
    return Buffer.concat([header, Buffer.alloc(type === 1 ? 1 : blockSize)]);
  };
  for (const type of [0, 1, 2]) {
    t.equal(frameLength(frameOf(type, 131_072), 131_072), 9 + (type === 1 ? 1 : 131_072));
    t.throws(() => frameLength(frameOf(type, 131_073), 131_072), { code: 'MALFORMED' }, `type ${type}`);
  }
});

void t.test('a damaged frame is an error or gives the same bytes, and never crashes', async (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const plain = text(3000);
  const frame = Buffer.from((await compress(plain)) as Uint8Array);
  for (let round = 0; round < 300; round++) {
    const damaged = Buffer.from(frame.subarray(0, random.below(8) === 0 ? random.below(frame.length) : frame.length));
    if (damaged.length > 0) damaged[random.below(damaged.length)]! ^= 1 << random.below(8);
    // The seal protects the bytes; only length and bounds are promised here.
    const result = await decompress(damaged, plain.length).catch((error: { code: string }) => error.code);
    if (result !== 'MALFORMED' && (result as Uint8Array).byteLength !== plain.length) return t.fail(`seed ${seed}, round ${round}`);
  }
  return t.pass('all refused or of the right length');
});

void t.test('a page is restored, and only the output of the encoder is accepted', async (t) => {
  for (const plain of [Buffer.alloc(0), text(10), text(100_000), randomBytes(5000)]) {
    const payload = Buffer.concat((await encodePage(plain as Uint8Array as Plaintext)).parts) as Uint8Array as Plaintext;
    t.ok(plain.equals(await decodePage(payload)), `${plain.length} bytes`);
    const longer = Buffer.concat([payload, Buffer.alloc(1)]) as Uint8Array as Plaintext;
    await t.rejects(async () => decodePage(longer), { code: 'MALFORMED' }, 'trailing byte');
    for (const at of [0, 1, 2, 3, 4]) {
      const changed = Buffer.from(payload);
      changed[at]! ^= 0x10;
      await t.rejects(async () => decodePage(changed as Uint8Array as Plaintext), { code: 'MALFORMED' }, `header byte ${at}`);
    }
  }
});

void t.test('what a chunk stores is restored, and only the output of the encoder is accepted', async (t) => {
  for (const plain of [text(10), text(100_000), randomBytes(5000), Buffer.alloc(65_536)]) {
    const { codec, plainLength, parts } = await encodeChunk(plain as Uint8Array as Plaintext, true);
    const stored = Buffer.concat(parts) as Uint8Array as Plaintext;
    t.equal(plainLength, plain.length);
    t.equal(codec, plain.length > 512 && looksCompressible(plain) ? 'zstd' : 'raw');
    t.ok(codec === 'raw' ? stored.length === plain.length : stored.length === padmeLength(frameLength(stored, plainLength)));
    t.ok(plain.equals(await decodeChunk({ codec, plainLength }, stored)), `${plain.length} bytes`);
    const longer = Buffer.concat([stored, Buffer.alloc(1)]) as Uint8Array as Plaintext;
    await t.rejects(async () => decodeChunk({ codec, plainLength }, longer), { code: 'MALFORMED' }, 'trailing byte');
    await t.rejects(async () => decodeChunk({ codec, plainLength: plainLength + 1 }, stored), { code: 'MALFORMED' }, 'another length');
    if (codec === 'zstd' && stored.at(-1) === 0) {
      const padded = Buffer.from(stored) as Uint8Array as Plaintext;
      padded[padded.length - 1] = 1;
      await t.rejects(async () => decodeChunk({ codec, plainLength }, padded), { code: 'MALFORMED' }, 'padding');
    }
  }
});
