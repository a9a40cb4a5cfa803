/** Tests numbers of inodes and entries, tree keys and directory entries (src/meta/key.ts, src/meta/dirent.ts). */
import t from 'tap';
import { ByteWriter, MalformedBytesError } from '../../src/base/bytes.js';
import { decodeDirent, decodeNumbered, encodeDirent, encodeNumbered } from '../../src/meta/dirent.js';
import { S_IFDIR } from '../../src/meta/inode.js';
import {
  counterOf,
  decodeKey,
  deviceIndexOf,
  endOfRange,
  extentKey,
  firstCounter,
  type Ino,
  inodeKey,
  isIno,
  makeIno,
  numberedKey,
  orphanKey,
  rootIno,
  type TreeKey,
} from '../../src/meta/key.js';

const counters = [16, 17, 1000, 2 ** 27 - 1, 2 ** 27, 2 ** 31, 2 ** 32 + 5, 2 ** 35 - 1];

t.test('each device has numbers of its own, which lead back to it', (t) => {
  const seen = new Set<number>();
  for (const device of [0, 1, 2, 15, 16, 17, 77, 4096, 8191]) {
    for (const counter of counters) {
      const ino = makeIno(device, counter);
      t.ok(isIno(ino), `${device}, ${counter}`);
      t.strictSame([deviceIndexOf(ino), counterOf(ino)], [device, counter]);
      t.notOk(seen.has(ino), 'given once');
      t.ok(ino < endOfRange(ino) && deviceIndexOf(endOfRange(ino) - 1) === device);
      seen.add(ino);
    }
  }
  t.equal(makeIno(0, firstCounter), 16);
  t.end();
});

t.test('the first 134 million numbers of the first 16 devices fit into 31 bits, and no other does', (t) => {
  for (const device of [0, 1, 15]) {
    t.ok(makeIno(device, 2 ** 27 - 1) < 2 ** 31);
    t.ok(makeIno(device, 2 ** 27) >= 2 ** 32);
  }
  t.ok(makeIno(16, 16) >= 2 ** 32);
  t.ok(makeIno(8191, 2 ** 35 - 1) < 2 ** 49, 'the rest is for what a mount shows besides');
  t.end();
});

t.test('numbers that no device gives are refused', (t) => {
  const wrong = [
    0,
    2,
    15,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 32 + 2 ** 27 - 1,
    2 ** 32 + 15 * 2 ** 35 + 5,
    2 ** 32 + 2 ** 48,
    2 ** 49,
    2 ** 52,
    2 ** 53 - 1,
  ] as Ino[];
  for (const ino of wrong) {
    t.notOk(isIno(ino), `${ino}`);
    for (const key of [inodeKey(ino), orphanKey(ino), extentKey(ino, 0), numberedKey(rootIno, ino), numberedKey(ino, makeIno(1, 16))])
      t.throws(() => decodeKey(key), MalformedBytesError, `${ino}`);
    t.throws(() => decodeDirent(new ByteWriter().varint(ino).u8(8).varint(0).finish()), MalformedBytesError, `${ino}`);
  }
  for (const ino of [rootIno, makeIno(0, 16), makeIno(1, 0), makeIno(15, 2 ** 27), makeIno(16, 0), makeIno(8191, 2 ** 35 - 1)])
    t.same(decodeKey(inodeKey(ino)), { type: 'inode', ino });
  for (const [device, counter] of [
    [8192, 16],
    [-1, 16],
    [0, 15],
    [1, 2 ** 35],
  ] as const)
    t.throws(() => makeIno(device, counter));
  t.end();
});

t.test('both values of an entry decode to what was encoded, in one form only', (t) => {
  const [ino, number] = [makeIno(1, 20), makeIno(2, 30)];
  for (const entry of [
    { ino, type: S_IFDIR, number: ino, name: 'name' },
    { ino, type: S_IFDIR, number, name: '\xff'.repeat(255) },
  ]) {
    const { name: _name, ...dirent } = entry;
    t.same(decodeDirent(encodeDirent(entry)), dirent);
    t.same(decodeNumbered(entry.number, encodeNumbered(entry)), entry);
    t.same(decodeKey(numberedKey(rootIno, entry.number)), { type: 'numbered', ino: rootIno, number: entry.number });
  }
  t.equal(encodeDirent({ ino, type: S_IFDIR, number: ino }).byteLength, 6, 'the usual number takes a byte');
  t.throws(() => decodeDirent(new ByteWriter().varint(ino).u8(4).varint(ino).finish()), MalformedBytesError);
  t.throws(() => decodeNumbered(ino, new ByteWriter().varint(ino).u8(4).byteString('name').finish()), MalformedBytesError);
  for (const name of ['', '.', '..', 'a/b', 'a\0b', 'x'.repeat(256)])
    t.throws(() => decodeNumbered(ino, new ByteWriter().varint(0).u8(4).byteString(name).finish()), MalformedBytesError, name);
  t.throws(() => decodeNumbered(ino, new ByteWriter().varint(0).u8(16).byteString('name').finish()), MalformedBytesError);
  t.throws(() => decodeKey(`${numberedKey(rootIno, ino)}x` as TreeKey), MalformedBytesError);
  t.end();
});
