/**
 * The directory entry (doc/format.md, "Tree keys"). It stands under two keys of its directory, which always change
 * together: `D` with its name, for lookups, and `N` with its number, for listings (doc/decision/0028).
 *
 * | key | value |
 * | --- | --- |
 * | `D` parent, name | ino varint, type u8 (mode >> 12), number varint (0: the same as ino) |
 * | `N` parent, number | ino varint (0: the same as the number), type u8, name: the rest |
 */
import type { ByteString, Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { isFileType } from './inode.js';
import { direntKey, type Ino, isFileName, numberedKey, readIno, readInoOrZero, type TreeKey } from './key.js';

export interface Dirent {
  readonly ino: Ino;
  /** The S_IFMT bits of the inode's mode, for d_type in readdir(3). */
  readonly type: number;
  /**
   * Given once in the whole volume, from the counters of inode numbers. The entry keeps it for as long as it lives, and
   * listings have its order.
   */
  readonly number: number;
}

export interface NamedDirent extends Dirent {
  readonly name: ByteString;
}

/** The value of the `D` key. */
export function encodeDirent({ ino, type, number }: Dirent): Plaintext {
  return new ByteWriter(16)
    .varint(ino)
    .u8(type >>> 12)
    .varint(number === ino ? 0 : number)
    .finish() as Plaintext;
}

/** Strict; throws MalformedBytesError. */
export function decodeDirent(bytes: Uint8Array): Dirent {
  const reader = new ByteReader(bytes);
  const ino = readIno(reader);
  const type = readType(reader);
  const number = readInoOrZero(reader);
  reader.end();
  if (number === ino) throw new MalformedBytesError('directory entry is not in its shortest form');
  return { ino, type, number: number === 0 ? ino : number };
}

/** The value of the `N` key. */
export function encodeNumbered({ ino, type, number, name }: NamedDirent): Plaintext {
  return new ByteWriter(8 + name.length)
    .varint(number === ino ? 0 : ino)
    .u8(type >>> 12)
    .byteString(name)
    .finish() as Plaintext;
}

/** `number`: the one in the key. Strict; throws MalformedBytesError. */
export function decodeNumbered(number: number, bytes: Uint8Array): NamedDirent {
  const reader = new ByteReader(bytes);
  const ino = readInoOrZero(reader);
  const type = readType(reader);
  const name = reader.byteString(reader.remaining);
  if (ino === number || !isFileName(name)) throw new MalformedBytesError('numbered entry is out of range');
  return { ino: ino === 0 ? (number as Ino) : ino, type, number, name };
}

function readType(reader: ByteReader): number {
  const type = reader.u8();
  if (!isFileType(type << 12)) throw new MalformedBytesError('directory entry is of an impossible type');
  return type << 12;
}

/** What takes the changes of keys: a transaction, or a plan of repair. */
export interface EntryTarget {
  put(key: TreeKey, value: Uint8Array): void;
  delete(key: TreeKey): void;
}

/** Writes both keys of an entry. An entry of the same name and another number must be deleted before. */
export function putEntry(target: EntryTarget, parent: Ino, entry: NamedDirent): void {
  target.put(direntKey(parent, entry.name), encodeDirent(entry));
  target.put(numberedKey(parent, entry.number), encodeNumbered(entry));
}

/** Deletes both keys of an entry. */
export function deleteEntry(target: EntryTarget, parent: Ino, { name, number }: Pick<NamedDirent, 'name' | 'number'>): void {
  target.delete(direntKey(parent, name));
  target.delete(numberedKey(parent, number));
}
