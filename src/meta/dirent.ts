/** The directory entry: the value of a `D` key (doc/format.md, "Tree keys"): ino varint, type u8 (mode >> 12). */
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import type { Ino } from './key.js';

export interface Dirent {
  readonly ino: Ino;
  /** The S_IFMT bits of the inode's mode, for d_type in readdir(3). */
  readonly type: number;
}

export function encodeDirent(dirent: Dirent): Plaintext {
  return new ByteWriter(16)
    .varint(dirent.ino)
    .u8(dirent.type >>> 12)
    .finish() as Plaintext;
}

export function decodeDirent(bytes: Uint8Array): Dirent {
  const reader = new ByteReader(bytes);
  const ino = reader.varint() as Ino;
  const type = reader.u8();
  reader.end();
  if (ino < 1 || type > 15) throw new MalformedBytesError('directory entry is out of range');
  return { ino, type: type << 12 };
}
