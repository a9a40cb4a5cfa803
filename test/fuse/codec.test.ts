/** Compares requests and replies byte by byte with values laid out by hand from <linux/fuse.h>. */
import t from 'tap';
import { MalformedBytesError } from '../../src/base/bytes.js';
import { DirentBuffer } from '../../src/fuse/dirent-buffer.js';
import { parseMountinfo } from '../../src/fuse/mount-table.js';
import { opcode } from '../../src/fuse/opcode.js';
import type { Attributes, Entry, NodeId } from '../../src/fuse/operations.js';
import { ReplyWriter, replyBufferSize } from '../../src/fuse/reply-writer.js';
import { RequestReader } from '../../src/fuse/request-reader.js';

const attributes: Attributes = {
  ino: 0x1_0000_0002,
  size: 0x2_0000_0003,
  blocks: 9,
  atime: { sec: 1, nsec: 2 },
  mtime: { sec: -5, nsec: 4 },
  ctime: { sec: 5, nsec: 6 },
  btime: { sec: 7, nsec: 8 },
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 1001,
  rdev: (0x12 << 8) | 0x34,
  blksize: 4096,
};

const attrHex = [
  '0200000001000000', // ino
  '0300000002000000', // size
  '0900000000000000', // blocks
  '0100000000000000', // atime
  'fbffffffffffffff', // mtime
  '0500000000000000', // ctime
  '020000000400000006000000', // nanoseconds
  'a4810000', // mode
  '02000000', // nlink
  'e8030000e9030000', // uid, gid
  '34120000', // rdev
  '0010000000000000', // blksize, flags
].join('');

function encode(write: (reply: ReplyWriter) => void, errno = 0): string {
  const bytes = Buffer.alloc(replyBufferSize, 0xee);
  const reply = new ReplyWriter(bytes);
  reply.begin(0x1_0000_0007);
  write(reply);
  reply.finish(errno);
  return bytes.subarray(0, reply.length).toString('hex');
}

const header = (length: number, error = 0): string => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(length, 0);
  bytes.writeInt32LE(error, 4);
  bytes.writeBigUInt64LE(0x100000007n, 8);
  return bytes.toString('hex');
};

void t.test('an attribute reply has the layout of fuse_attr_out', async (t) => {
  const validity = ['0200000000000000', '80b2e60e', '00000000'].join('');
  t.equal(
    encode((reply) => reply.attr({ attrValidMs: 2250, attributes })),
    header(16 + 104) + validity + attrHex,
  );
});

void t.test('an entry reply has the layout of fuse_entry_out, and a negative one is zero except for its validity', async (t) => {
  const entry: Entry = { nodeId: 5 as NodeId, generation: 6, entryValidMs: 1000, attrValidMs: 2000, attributes };
  const fixed = ['0500000000000000', '0600000000000000', '0100000000000000', '0200000000000000', '00000000'.repeat(2)].join('');
  t.equal(
    encode((reply) => reply.entry(entry)),
    header(16 + 128) + fixed + attrHex,
  );
  const negative: Entry = { nodeId: 0, generation: 0, entryValidMs: 1000, attrValidMs: 0, attributes: undefined };
  t.equal(
    encode((reply) => reply.entry(negative)),
    header(16 + 128) + '00'.repeat(16) + '01' + '00'.repeat(111),
  );
});

void t.test('a statx reply carries the birth time and splits the device number', async (t) => {
  const bytes = Buffer.from(
    encode((reply) => reply.statx({ attrValidMs: 1000, attributes })),
    'hex',
  );
  t.equal(bytes.length, 16 + 288);
  const stat = 16 + 32;
  t.equal(bytes.readUInt32LE(stat), 0xfff, 'mask');
  t.equal(bytes.readUInt16LE(stat + 28), 0o100644, 'mode');
  t.equal(bytes.readBigInt64LE(stat + 80), 7n, 'btime');
  t.equal(bytes.readBigInt64LE(stat + 112), -5n, 'mtime');
  t.same([bytes.readUInt32LE(stat + 128), bytes.readUInt32LE(stat + 132)], [0x12, 0x34]);
});

void t.test('an error reply is a header with a negative errno, whatever was encoded before', async (t) => {
  t.equal(
    encode((reply) => {
      reply.attr({ attrValidMs: 0, attributes });
      reply.data(Buffer.alloc(10));
    }, 2),
    header(16, -2),
  );
});

void t.test('the length of a data reply counts its pieces, which are not copied', async (t) => {
  const bytes = Buffer.alloc(replyBufferSize);
  const reply = new ReplyWriter(bytes);
  const pieces = [Buffer.alloc(1000), Buffer.alloc(24)];
  reply.begin(1);
  reply.data(pieces);
  reply.finish(0);
  t.equal(reply.length, 16);
  t.equal(bytes.readUInt32LE(0), 16 + 1024);
  t.equal(reply.pieces, pieces);
  reply.data(Array.from({ length: 1024 }, (_, index) => Buffer.from([index & 0xff])));
  t.equal(reply.pieces?.length, 1, 'more pieces than writev takes become one');
});

void t.test('an open reply carries its flags and its handle', async (t) => {
  t.equal(
    encode((reply) => reply.open({ handle: 9, keepCache: true, noFlush: true, cacheDirectory: true })),
    `${header(32)}09000000000000002a00000000000000`,
  );
});

void t.test('directory entries are padded to 8 bytes, without remains of earlier ones', async (t) => {
  const listing = new DirentBuffer(4096);
  listing.reset(4096, false);
  listing.add('x'.repeat(40), 1, 0o100000, 1);
  listing.reset(72, false);
  t.equal(listing.add('abc', 7, 0o040000, 3), true);
  t.equal(listing.add('12345678', 8, 0o100000, 0x1_0000_0004), true);
  t.equal(listing.add('y', 9, 0o100000, 5), false, 'full');
  const first = ['0700000000000000', '0300000000000000', '03000000', '04000000', '6162630000000000'].join('');
  const second = ['0800000000000000', '0400000001000000', '08000000', '08000000', '3132333435363738'].join('');
  t.equal(Buffer.from(listing.bytes).toString('hex'), first + second);
});

void t.test('READDIRPLUS entries carry an entry, and remember which lookups they counted', async (t) => {
  const listing = new DirentBuffer(4096);
  listing.reset(400, true);
  t.equal(listing.add('.', 1, 0o040000, 1), true);
  t.equal(listing.add('f', 5, 0o100000, 2, { nodeId: 5 as NodeId, generation: 0, entryValidMs: 0, attrValidMs: 0, attributes }), true);
  t.equal(listing.add('g', 6, 0o100000, 3, { nodeId: 6 as NodeId, generation: 0, entryValidMs: 0, attrValidMs: 0, attributes }), false);
  t.equal(listing.bytes.length, 2 * (128 + 32));
  t.same(
    [...listing.bytes.subarray(0, 128)],
    Array.from({ length: 128 }, () => 0),
  );
  t.same(listing.looked, [5]);
});

function request(code: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(40);
  bytes.writeUInt32LE(40 + payload.length, 0);
  bytes.writeUInt32LE(code, 4);
  bytes.writeBigUInt64LE(0x200000004n, 8);
  bytes.writeBigUInt64LE(0x300000005n, 16);
  bytes.writeUInt32LE(1000, 24);
  bytes.writeUInt32LE(1001, 28);
  bytes.writeUInt32LE(77, 32);
  return Buffer.concat([bytes, payload]);
}

void t.test('a request is decoded into its header, numbers, names and bytes', async (t) => {
  const payload = Buffer.concat([Buffer.from('fbffffffffffffff', 'hex'), Buffer.from('old\0n\xffw\0data', 'latin1')]);
  const bytes = request(opcode.RENAME, payload);
  const reader = new RequestReader(bytes);
  reader.accept(bytes.length);
  t.match(reader, { opcode: 12, unique: 0x200000004, nodeid: 0x300000005, uid: 1000, gid: 1001, pid: 77, payloadLength: payload.length });
  t.equal(reader.i64(0), -5);
  t.equal(reader.name(8), 'old');
  t.equal(reader.name(reader.afterName(8)), 'n\xffw');
  t.equal(Buffer.from(reader.bytes(16, 4)).toString(), 'data');
});

void t.test('a request that is too short, or lies about its length, is malformed', async (t) => {
  for (const bytes of [request(opcode.WRITE, Buffer.alloc(39)), request(opcode.LOOKUP, Buffer.alloc(0)), Buffer.alloc(20)]) {
    t.throws(() => new RequestReader(bytes).accept(bytes.length), MalformedBytesError);
  }
  const endless = request(opcode.LOOKUP, Buffer.from('endless'));
  const reader = new RequestReader(Buffer.concat([endless, Buffer.alloc(1)]));
  t.throws(() => reader.accept(endless.length - 1), MalformedBytesError);
  reader.accept(endless.length);
  t.throws(() => reader.name(0), MalformedBytesError, 'the zero behind the request does not end its name');
  t.throws(() => reader.bytes(0, 8), MalformedBytesError);
});

void t.test('escapes in the mount table are decoded', async (t) => {
  const content =
    '36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n' +
    '50 35 0:46 / /home/\xc3\xa4 rw - fuse.sealdrive a\\134b rw,user_id=0\nnot a line\n';
  t.same(parseMountinfo(content), [
    { device: '98:0', mountPoint: '/mnt 2', type: 'ext3', source: '/dev/root' },
    { device: '0:46', mountPoint: '/home/ä', type: 'fuse.sealdrive', source: 'a\\b' },
  ]);
});
