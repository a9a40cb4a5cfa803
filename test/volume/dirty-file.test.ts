/** Tests the dirty segments of one file (src/volume/dirty-file.ts) against a plain array of bytes. */
import t from 'tap';
import { rootIno } from '../../src/meta/key.js';
import { DirtyFile } from '../../src/volume/dirty-file.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);
const size = 400;

/** The bytes of a file according to its dirty segments; -1 where nothing is dirty. */
function picture(file: DirtyFile): number[] {
  const bytes = Array.from({ length: size }, () => -1);
  let at = 0;
  for (const segment of file.segments) {
    if (segment.offset < at) throw new Error('segments overlap or are out of order');
    for (const [index, byte] of segment.bytes.entries()) bytes[segment.offset + index] = byte;
    at = segment.offset + segment.bytes.byteLength;
  }
  return bytes;
}

t.test('sealing makes exactly the sealed data clean, after any writes, truncations and seals', async (t) => {
  for (let round = 0; round < 200; round++) {
    const file = new DirtyFile(rootIno, { deviceIndex: 0, counter: 0 }, 0);
    const bytes = Array.from({ length: size }, () => -1);
    const versions = Array.from({ length: size }, () => 0);
    for (let version = 1; version < 40; version++) {
      const offset = random.below(size);
      const length = 1 + random.below(Math.min(60, size - offset));
      file.write(offset, new Uint8Array(length).fill(version), version, false);
      bytes.fill(version, offset, offset + length);
      versions.fill(version, offset, offset + length);
      if (random.below(4) > 0) continue;
      const upTo = random.below(version + 1);
      const ranges: { from: number; to: number }[] = [];
      for (let at = random.below(50); at < size; ) {
        const to = at + 1 + random.below(80);
        ranges.push({ from: at, to });
        at = to + random.below(2) * random.below(60);
      }
      file.forget(upTo, ranges);
      for (const { from, to } of ranges) {
        for (let at = from; at < Math.min(to, size); at++) if (versions[at]! <= upTo) bytes[at] = -1;
      }
      t.same(picture(file), bytes, `round ${round}, seed ${seed}`);
      t.equal(file.bytes, bytes.filter((byte) => byte >= 0).length);
    }
  }
});
