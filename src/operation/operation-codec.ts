/**
 * Encodes operations for the journal (doc/format.md, "Journal segment"); it does not run them. Strict: refuses whatever
 * it would not have written itself.
 *
 * `name`, `target`, `bytes`: varint length + bytes. `time`: seconds zigzag varint, nanoseconds u32. `stamp`: device
 * index varint, counter varint. `x?`: u8 0, or 1 and x. All other fields are varints unless said otherwise.
 *
 * | type | number | fields |
 * | --- | --- | --- |
 * | create | 1 | parent, name?, ino, mode, uid, gid, rdev, target?, xattr count + (name, bytes) each, number, time |
 * | link | 2 | ino, parent, name, number, time |
 * | unlink | 3 | parent, name, ino, base stamp?, time |
 * | rmdir | 4 | parent, name, ino, time |
 * | rename | 5 | parent, name, new parent, new name, flags, ino, replaced ino, replaced stamp?, whiteout ino, time |
 * | setattr | 6 | ino, u16 bits of the fields that follow, in the order of the bits |
 * | write | 7 | ino, piece count + (offset, bytes of the extent) each, size, mtime?, stamp, base stamp, up to |
 * | inline | 8 | ino, bytes, size, mtime?, stamp, base stamp, up to |
 * | fallocate | 9 | ino, offset, length, mode, stamp, base stamp?, time? |
 * | clone | 10 | from, from offset, to, to offset, length, stamp, base stamp?, from stamp?, time? |
 * | setxattr | 11 | ino, name, bytes, flags, mode (0: none, else mode + 1), time |
 * | removexattr | 12 | ino, name, time |
 * | reclaim | 13 | ino |
 * | record | 14 | key (bytes), value?, base? (bytes) |
 *
 * A replaced or whiteout ino of 0 means none, and a number of 0 in create that of the inode. The bits of setattr: mode
 * 1, uid 2, gid 4, size 8, flags 16, atime 32, mtime 64, ctime 128, stamp 256, base stamp 512, time 1024.
 */
import { unreachable } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { type DataExtent, decodeExtent, encodeExtent } from '../meta/extent.js';
import { type ContentStamp, readTime, writeTime } from '../meta/inode.js';
import { decodeKey, type Ino, readIno, readInoOrZero, type TreeKey } from '../meta/key.js';
import type { CreateOperation, Operation, SetattrOperation, WriteOperation } from './operation.js';

const typeNumbers: Readonly<Record<Operation['type'], number>> = {
  create: 1,
  link: 2,
  unlink: 3,
  rmdir: 4,
  rename: 5,
  setattr: 6,
  write: 7,
  inline: 8,
  fallocate: 9,
  clone: 10,
  setxattr: 11,
  removexattr: 12,
  reclaim: 13,
  record: 14,
  relocate: 15,
};
const typeOfNumber = new Map(Object.entries(typeNumbers).map(([type, number]) => [number, type as Operation['type']]));

function writeString(writer: ByteWriter, value: ByteString): void {
  writer.varint(value.length).byteString(value);
}

function writeBytes(writer: ByteWriter, value: Uint8Array): void {
  writer.varint(value.byteLength).bytes(value);
}

function writeStamp(writer: ByteWriter, stamp: ContentStamp): void {
  writer.varint(stamp.deviceIndex).varint(stamp.counter);
}

function writeOptional<T>(writer: ByteWriter, value: T | undefined, write: (writer: ByteWriter, value: T) => void): void {
  writer.u8(value === undefined ? 0 : 1);
  if (value !== undefined) write(writer, value);
}

/** The bytes are the caller's own. */
export function encodeOperation(operation: Operation): Uint8Array {
  const writer = new ByteWriter(128);
  writer.u8(typeNumbers[operation.type]);
  switch (operation.type) {
    case 'create':
      writeCreate(writer, operation);
      break;
    case 'link':
      writer.varint(operation.ino).varint(operation.parent);
      writeString(writer, operation.name);
      writer.varint(operation.number);
      writeTime(writer, operation.time);
      break;
    case 'unlink':
      writer.varint(operation.parent);
      writeString(writer, operation.name);
      writer.varint(operation.ino);
      writeOptional(writer, operation.baseStamp, writeStamp);
      writeTime(writer, operation.time);
      break;
    case 'rmdir':
      writer.varint(operation.parent);
      writeString(writer, operation.name);
      writer.varint(operation.ino);
      writeTime(writer, operation.time);
      break;
    case 'rename':
      writer.varint(operation.parent);
      writeString(writer, operation.name);
      writer.varint(operation.newParent);
      writeString(writer, operation.newName);
      writer
        .varint(operation.flags)
        .varint(operation.ino)
        .varint(operation.replacedIno ?? 0);
      writeOptional(writer, operation.replacedStamp, writeStamp);
      writer.varint(operation.whiteoutIno ?? 0);
      writeTime(writer, operation.time);
      break;
    case 'setattr':
      writeSetattr(writer, operation);
      break;
    case 'relocate':
      writer.varint(operation.ino).varint(operation.pieces.length);
      for (const { offset, from, to } of operation.pieces) {
        writer.varint(offset);
        writeBytes(writer, encodeExtent(from));
        writeBytes(writer, encodeExtent(to));
      }
      break;
    case 'write':
      writer.varint(operation.ino).varint(operation.pieces.length);
      for (const { offset, extent } of operation.pieces) {
        writer.varint(offset);
        writeBytes(writer, encodeExtent(extent));
      }
      writer.varint(operation.size);
      writeOptional(writer, operation.mtime, writeTime);
      writeStamp(writer, operation.stamp);
      writeStamp(writer, operation.baseStamp);
      writer.varint(operation.upTo);
      break;
    case 'inline':
      writer.varint(operation.ino);
      writeBytes(writer, operation.content);
      writer.varint(operation.size);
      writeOptional(writer, operation.mtime, writeTime);
      writeStamp(writer, operation.stamp);
      writeStamp(writer, operation.baseStamp);
      writer.varint(operation.upTo);
      break;
    case 'fallocate':
      writer.varint(operation.ino).varint(operation.offset).varint(operation.length).varint(operation.mode);
      writeStamp(writer, operation.stamp);
      writeOptional(writer, operation.baseStamp, writeStamp);
      writeOptional(writer, operation.time, writeTime);
      break;
    case 'clone':
      writer.varint(operation.from).varint(operation.fromOffset).varint(operation.to).varint(operation.toOffset).varint(operation.length);
      writeStamp(writer, operation.stamp);
      writeOptional(writer, operation.baseStamp, writeStamp);
      writeOptional(writer, operation.fromStamp, writeStamp);
      writeOptional(writer, operation.time, writeTime);
      break;
    case 'setxattr':
      writer.varint(operation.ino);
      writeString(writer, operation.name);
      writeBytes(writer, operation.value);
      writer.varint(operation.flags).varint(operation.mode === undefined ? 0 : operation.mode + 1);
      writeTime(writer, operation.time);
      break;
    case 'removexattr':
      writer.varint(operation.ino);
      writeString(writer, operation.name);
      writeTime(writer, operation.time);
      break;
    case 'reclaim':
      writer.varint(operation.ino);
      break;
    case 'record':
      writeString(writer, operation.key);
      writeOptional(writer, operation.value, writeBytes);
      writeOptional(writer, operation.base, writeBytes);
      break;
    default:
      return unreachable(operation);
  }
  return writer.finish();
}

function writeCreate(writer: ByteWriter, operation: CreateOperation): void {
  writer.varint(operation.parent);
  writeOptional(writer, operation.name, writeString);
  writer.varint(operation.ino).varint(operation.mode).varint(operation.uid).varint(operation.gid).varint(operation.rdev);
  writeOptional(writer, operation.target, writeString);
  writer.varint(operation.xattrs.length);
  for (const [name, value] of operation.xattrs) {
    writeString(writer, name);
    writeBytes(writer, value);
  }
  writer.varint(operation.number ?? 0);
  writeTime(writer, operation.time);
}

const setattrNumbers = ['mode', 'uid', 'gid', 'size', 'flags'] as const;
const setattrTimes = ['atime', 'mtime', 'ctime'] as const;
/** Each has a bit, in this order. */
const setattrFields = [...setattrNumbers, ...setattrTimes, 'stamp', 'baseStamp', 'time'] as const;
const setattrBitsMax = 0x7ff;

function writeSetattr(writer: ByteWriter, operation: SetattrOperation): void {
  let bits = 0;
  let bit = 1;
  for (const field of setattrFields) {
    if (operation[field] !== undefined) bits |= bit;
    bit <<= 1;
  }
  writer.varint(operation.ino).u16(bits);
  for (const field of setattrNumbers) {
    const value = operation[field];
    if (value !== undefined) writer.varint(value);
  }
  for (const field of setattrTimes) {
    const value = operation[field];
    if (value !== undefined) writeTime(writer, value);
  }
  if (operation.stamp) writeStamp(writer, operation.stamp);
  if (operation.baseStamp) writeStamp(writer, operation.baseStamp);
  if (operation.time) writeTime(writer, operation.time);
}

function readString(reader: ByteReader): ByteString {
  return reader.byteString(reader.varint());
}

/** A copy: it must not share memory with the journal's buffer, which it outlives. */
function readBytes(reader: ByteReader): Uint8Array {
  return new Uint8Array(reader.bytes(reader.varint()));
}

function readStamp(reader: ByteReader): ContentStamp {
  return { deviceIndex: reader.varint(), counter: reader.varint() };
}

function readInoOrNone(reader: ByteReader): Ino | undefined {
  const ino = readInoOrZero(reader);
  return ino === 0 ? undefined : ino;
}

function readOptional<T>(reader: ByteReader, read: (reader: ByteReader) => T): T | undefined {
  const present = reader.u8();
  if (present > 1) throw new MalformedBytesError('presence is neither 0 nor 1');
  return present === 1 ? read(reader) : undefined;
}

/** Throws MalformedBytesError. Shares no memory with `bytes`. */
export function decodeOperation(bytes: Uint8Array): Operation {
  const reader = new ByteReader(bytes);
  const type = typeOfNumber.get(reader.u8());
  if (type === undefined) throw new MalformedBytesError('operation of an unknown type');
  const operation = readOperation(reader, type);
  reader.end();
  return operation;
}

// Object literals evaluate their fields in order: each literal below reads its fields as the table lists them.
function readOperation(reader: ByteReader, type: Operation['type']): Operation {
  switch (type) {
    case 'create':
      return {
        type,
        parent: readIno(reader),
        name: readOptional(reader, readString),
        ino: readIno(reader),
        mode: readMode(reader),
        uid: reader.varint(),
        gid: reader.varint(),
        rdev: reader.varint(),
        target: readOptional(reader, readString),
        xattrs: Array.from({ length: readCount(reader) }, () => [readString(reader), readBytes(reader)] as const),
        number: readInoOrNone(reader),
        time: readTime(reader),
      };
    case 'link':
      return { type, ino: readIno(reader), parent: readIno(reader), name: readString(reader), number: readIno(reader), time: readTime(reader) };
    case 'unlink':
      return {
        type,
        parent: readIno(reader),
        name: readString(reader),
        ino: readIno(reader),
        baseStamp: readOptional(reader, readStamp),
        time: readTime(reader),
      };
    case 'rmdir':
      return { type, parent: readIno(reader), name: readString(reader), ino: readIno(reader), time: readTime(reader) };
    case 'rename':
      return {
        type,
        parent: readIno(reader),
        name: readString(reader),
        newParent: readIno(reader),
        newName: readString(reader),
        flags: reader.varint(),
        ino: readIno(reader),
        replacedIno: readInoOrNone(reader),
        replacedStamp: readOptional(reader, readStamp),
        whiteoutIno: readInoOrNone(reader),
        time: readTime(reader),
      };
    case 'setattr':
      return readSetattr(reader);
    case 'relocate':
      return {
        type,
        ino: readIno(reader),
        pieces: Array.from({ length: readCount(reader) }, () => ({ offset: reader.varint(), from: readData(reader), to: readData(reader) })),
      };
    case 'write':
      return {
        type,
        ino: readIno(reader),
        pieces: Array.from({ length: readCount(reader) }, () => readPiece(reader)),
        size: reader.varint(),
        mtime: readOptional(reader, readTime),
        stamp: readStamp(reader),
        baseStamp: readStamp(reader),
        upTo: reader.varint(),
      };
    case 'inline':
      return {
        type,
        ino: readIno(reader),
        content: readBytes(reader),
        size: reader.varint(),
        mtime: readOptional(reader, readTime),
        stamp: readStamp(reader),
        baseStamp: readStamp(reader),
        upTo: reader.varint(),
      };
    case 'fallocate':
      return {
        type,
        ino: readIno(reader),
        offset: reader.varint(),
        length: reader.varint(),
        mode: reader.varint(),
        stamp: readStamp(reader),
        baseStamp: readOptional(reader, readStamp),
        time: readOptional(reader, readTime),
      };
    case 'clone':
      return {
        type,
        from: readIno(reader),
        fromOffset: reader.varint(),
        to: readIno(reader),
        toOffset: reader.varint(),
        length: reader.varint(),
        stamp: readStamp(reader),
        baseStamp: readOptional(reader, readStamp),
        fromStamp: readOptional(reader, readStamp),
        time: readOptional(reader, readTime),
      };
    case 'setxattr':
      return {
        type,
        ino: readIno(reader),
        name: readString(reader),
        value: readBytes(reader),
        flags: reader.varint(),
        mode: readModeOrNone(reader),
        time: readTime(reader),
      };
    case 'removexattr':
      return { type, ino: readIno(reader), name: readString(reader), time: readTime(reader) };
    case 'reclaim':
      return { type, ino: readIno(reader) };
    case 'record':
      return { type, key: readRecordKey(reader), value: readOptional(reader, readBytes), base: readOptional(reader, readBytes) };
    default:
      return unreachable(type);
  }
}

function readRecordKey(reader: ByteReader): TreeKey {
  const key = readString(reader) as TreeKey;
  const { type } = decodeKey(key);
  if (type !== 'snapshot' && type !== 'policy') throw new MalformedBytesError('no key of a snapshot or a policy');
  return key;
}

function readMode(reader: ByteReader): number {
  const mode = reader.varint();
  if (mode > 0xffff) throw new MalformedBytesError('mode exceeds 16 bits');
  return mode;
}

function readModeOrNone(reader: ByteReader): number | undefined {
  const mode = reader.varint();
  if (mode > 0x10000) throw new MalformedBytesError('mode exceeds 16 bits');
  return mode === 0 ? undefined : mode - 1;
}

/** Each counted item takes at least one byte, so a larger count is invalid and must not cause an allocation. */
function readCount(reader: ByteReader): number {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError('count exceeds what is left');
  return count;
}

function readPiece(reader: ByteReader): WriteOperation['pieces'][number] {
  return { offset: reader.varint(), extent: decodeExtent(reader.bytes(reader.varint())) };
}

function readData(reader: ByteReader): DataExtent {
  const extent = decodeExtent(reader.bytes(reader.varint()));
  if (extent.kind !== 'data') throw new MalformedBytesError('reserved space has no place');
  return extent;
}

function readSetattr(reader: ByteReader): SetattrOperation {
  const ino = readIno(reader);
  const bits = reader.u16();
  if (bits > setattrBitsMax) throw new MalformedBytesError('setattr has unknown fields');
  let bit = 0;
  const optional = <T>(read: (reader: ByteReader) => T): T | undefined => ((bits & (1 << bit++)) === 0 ? undefined : read(reader));
  const number = (): number | undefined => optional((from) => from.varint());
  const fields: Record<string, unknown> = {};
  for (const field of setattrNumbers) fields[field] = number();
  for (const field of setattrTimes) fields[field] = optional<Timespec>(readTime);
  for (const field of ['stamp', 'baseStamp'] as const) fields[field] = optional(readStamp);
  const time = optional<Timespec>(readTime);
  for (const field of Object.keys(fields)) if (fields[field] === undefined) delete fields[field];
  return { ...(fields as Partial<SetattrOperation>), type: 'setattr', ino, time };
}
