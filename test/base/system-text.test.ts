/** Names as text from which every byte can be recovered. */
import t from 'tap';
import { decodeSystemText, encodeSystemText, isUnicode, systemPath } from '../../src/base/system-text.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';

t.test('UTF-8 is itself, and every other byte a lone surrogate', async (t) => {
  t.equal(decodeSystemText(Buffer.from('été 🎉')), 'été 🎉');
  t.equal(decodeSystemText(Buffer.from([0x61, 0xff, 0x62])), 'a\udcffb');
  t.equal(decodeSystemText(Buffer.from([0xc0, 0xaf])), '\udcc0\udcaf', 'overlong');
  t.equal(decodeSystemText(Buffer.from([0xed, 0xa0, 0x80])), '\udced\udca0\udc80', 'a surrogate in UTF-8');
  t.equal(decodeSystemText(Buffer.from([0xe2, 0x82])), '\udce2\udc82', 'cut short');
  t.equal(decodeSystemText(Buffer.from('\ufffd')), '\ufffd', 'a replacement character that was there');
});

t.test('any bytes are recovered unchanged', async (t) => {
  const seed = testSeed();
  t.comment(`TEST_SEED=${seed}`);
  const random = new SeededRandom(seed);
  const parts = ['a', '/', 'é', '€', '🎉', '\ufffd', '\ufeff'].map((text) => Buffer.from(text));
  for (let round = 0; round < 2000; round++) {
    const bytes = Buffer.concat(
      Array.from({ length: random.below(12) }, () => (random.below(2) === 0 ? Buffer.of(random.below(256)) : parts[random.below(parts.length)]!)),
    );
    const text = decodeSystemText(bytes);
    if (!encodeSystemText(text).equals(bytes)) t.fail(`${bytes.toString('hex')} became ${encodeSystemText(text).toString('hex')}`);
    if (isUnicode(text) !== Buffer.from(bytes.toString('utf8')).equals(bytes)) t.fail(`${bytes.toString('hex')} is called wrongly`);
  }
});

t.test('a path is a buffer only where it must be', async (t) => {
  t.equal(systemPath('/tmp/é'), '/tmp/é');
  t.strictSame(systemPath('/tmp/\udcff'), Buffer.from([...Buffer.from('/tmp/'), 0xff]));
});
