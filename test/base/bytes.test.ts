/** The writer's buffer (src/base/bytes.ts). */
import t from 'tap';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';

void t.test('a field that makes the buffer grow is written into the grown buffer', (t) => {
  for (let capacity = 1; capacity < 48; capacity++) {
    const writer = new ByteWriter(capacity);
    writer
      .u8(1)
      .u16(2)
      .u32(3)
      .u53(2 ** 52 + 4)
      .i53(-5)
      .u64(6n)
      .varint(300)
      .byteString('ab')
      .bytes(Uint8Array.of(7, 8))
      .zeros(2)
      .u8(9);
    const reader = new ByteReader(writer.finish());
    const fields = [reader.u8(), reader.u16(), reader.u32(), reader.u53(), reader.i53(), reader.u64(), reader.varint(), reader.byteString(2)];
    t.same(fields, [1, 2, 3, 2 ** 52 + 4, -5, 6n, 300, 'ab'], `capacity ${capacity}`);
    t.same([...reader.bytes(5)], [7, 8, 0, 0, 9]);
    reader.end();
  }
  t.end();
});

void t.test('values that a reader would refuse are not written', (t) => {
  for (const value of [2 ** 53, 2 ** 60, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) t.throws(() => new ByteWriter(16).varint(value), `${value}`);
  t.equal(new ByteReader(new ByteWriter(16).varint(Number.MAX_SAFE_INTEGER).finish()).varint(), Number.MAX_SAFE_INTEGER);
  t.end();
});
