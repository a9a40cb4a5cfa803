/** Values of the tree that no device writes do not decode (doc/format.md, "Inode", "Directory entry", "Extent"). */
import t from 'tap';
import { ByteWriter, MalformedBytesError } from '../../src/base/bytes.js';
import { decodeDirent, decodeNumbered } from '../../src/meta/dirent.js';
import { decodeExtent, type Extent, encodeExtent } from '../../src/meta/extent.js';
import { decodeInode, encodeInode, type Inode, S_IFREG } from '../../src/meta/inode.js';
import { makeIno, rootIno } from '../../src/meta/key.js';
import type { RunChunk } from '../../src/pack/item.js';
import type { PackId } from '../../src/pack/pack-id.js';

const time = { sec: 1, nsec: 2 };
const inode: Inode = {
  mode: S_IFREG | 0o644,
  nlink: 1,
  uid: 0,
  gid: 0,
  rdev: 0,
  flags: 0,
  size: 0,
  allocated: 0,
  generation: 0,
  parent: rootIno,
  atime: time,
  mtime: time,
  ctime: time,
  btime: time,
  stamp: { deviceIndex: 1, counter: 1 },
  inline: new Uint8Array(0) as Inode['inline'],
};

t.test('of the 16 types that fit into a mode, the seven kinds of file are taken', async (t) => {
  const kinds = [1, 2, 4, 6, 8, 10, 12];
  const number = makeIno(1, 20);
  for (let type = 0; type < 16; type++) {
    const isKind = kinds.includes(type);
    const values: readonly (() => unknown)[] = [
      () => decodeInode(encodeInode({ ...inode, mode: type << 12 })),
      () => decodeDirent(new ByteWriter().varint(number).u8(type).varint(0).finish()),
      () => decodeNumbered(number, new ByteWriter().varint(0).u8(type).byteString('name').finish()),
    ];
    for (const decode of values) {
      if (isKind) t.doesNotThrow(decode, `type ${type}`);
      else t.throws(decode, MalformedBytesError, `type ${type}`);
    }
  }
});

t.test('numbers that kernels have in 32 bits are not longer', async (t) => {
  for (const field of ['nlink', 'uid', 'gid', 'rdev']) {
    t.same(decodeInode(encodeInode({ ...inode, [field]: 2 ** 32 - 1 })), { ...inode, [field]: 2 ** 32 - 1 });
    for (const value of [2 ** 32, 2 ** 53 - 1])
      t.throws(() => decodeInode(encodeInode({ ...inode, [field]: value })), MalformedBytesError, `${field} ${value}`);
  }
});

t.test('a chunk of an extent has 1 byte to 4 MiB, plain and stored', async (t) => {
  const max = 4 * 1024 * 1024;
  const extentOf = (codec: RunChunk['codec'], plainLength: number, storedLength: number): Extent => {
    const hashes = new Uint8Array(32 * Math.ceil(storedLength / 8192));
    const chunk = { codec, plainLength, storedLength, sealedLength: 0, salt: new Uint8Array(16), hashes };
    return { kind: 'data', length: 1, skip: 0, pack: 'ab'.repeat(16) as PackId, packOffset: 0, chunks: [chunk] };
  };
  const decode = (extent: Extent) => () => decodeExtent(encodeExtent(extent));
  for (const [plain, stored] of [
    [1, 1],
    [max, max],
    [1, max],
    [max, 1],
  ] as const)
    t.doesNotThrow(decode(extentOf('zstd', plain, stored)));
  for (const [plain, stored] of [
    [0, 1],
    [1, 0],
    [max + 1, 1],
    [1, max + 1],
  ] as const)
    t.throws(decode(extentOf('zstd', plain, stored)), MalformedBytesError, `${plain} as ${stored}`);
  for (const plain of [0, max + 1]) t.throws(decode(extentOf('raw', plain, plain)), MalformedBytesError);
});
