/**
 * The tree's key space (doc/format.md, "Tree keys"). A key is a byte string, whose order as a JavaScript string is its
 * byte order, so one comparison serves maps, scans and pages.
 */
import type { Brand, ByteString } from '../base/brand.js';
import { MalformedBytesError } from '../base/bytes.js';

/** An inode number: device index * 2^40 + counter, below 2^53. The root directory is 1. */
export type Ino = Brand<number, 'Ino'>;
export type TreeKey = Brand<ByteString, 'TreeKey'>;

export const rootIno = 1 as Ino;
const perDevice = 2 ** 40;

/** `counter` is 1..2^40-1, `deviceIndex` 0..8191. */
export function makeIno(deviceIndex: number, counter: number): Ino {
  return (deviceIndex * perDevice + counter) as Ino;
}

export function deviceIndexOf(ino: Ino): number {
  return Math.floor(ino / perDevice);
}

export function counterOf(ino: Ino): number {
  return ino % perDevice;
}

function u64(value: number): ByteString {
  const high = Math.floor(value / 0x100000000);
  const low = value >>> 0;
  return String.fromCharCode(
    high >>> 24,
    (high >>> 16) & 0xff,
    (high >>> 8) & 0xff,
    high & 0xff,
    low >>> 24,
    (low >>> 16) & 0xff,
    (low >>> 8) & 0xff,
    low & 0xff,
  );
}

function readU64(key: TreeKey, at: number): number {
  if (key.length < at + 8) throw new MalformedBytesError('tree key is too short');
  let value = 0;
  for (let index = at; index < at + 8; index++) value = value * 256 + key.charCodeAt(index);
  if (!Number.isSafeInteger(value)) throw new MalformedBytesError('number in a tree key exceeds 2^53');
  return value;
}

export const inodeKey = (ino: Ino): TreeKey => `I${u64(ino)}` as TreeKey;
export const direntKey = (parent: Ino, name: ByteString): TreeKey => `D${u64(parent)}${name}` as TreeKey;
export const extentKey = (ino: Ino, offset: number): TreeKey => `E${u64(ino)}${u64(offset)}` as TreeKey;
export const xattrKey = (ino: Ino, name: ByteString): TreeKey => `X${u64(ino)}${name}` as TreeKey;
export const orphanKey = (ino: Ino): TreeKey => `O${u64(ino)}` as TreeKey;

/** The exclusive upper bound of all keys that begin with the key's type and its inode number. */
export const direntEnd = (parent: Ino): TreeKey => `D${u64(parent + 1)}` as TreeKey;
export const extentEnd = (ino: Ino): TreeKey => `E${u64(ino + 1)}` as TreeKey;
export const xattrEnd = (ino: Ino): TreeKey => `X${u64(ino + 1)}` as TreeKey;
export const orphanStart = 'O' as TreeKey;
export const orphanEnd = 'P' as TreeKey;

export type DecodedKey =
  | { readonly type: 'inode' | 'orphan'; readonly ino: Ino }
  | { readonly type: 'dirent' | 'xattr'; readonly ino: Ino; readonly name: ByteString }
  | { readonly type: 'extent'; readonly ino: Ino; readonly offset: number }
  | { readonly type: 'snapshot'; readonly name: ByteString };

/** Strict: throws {@link MalformedBytesError} for any key that the format does not define. */
export function decodeKey(key: TreeKey): DecodedKey {
  const exact = (length: number): void => {
    if (key.length !== length) throw new MalformedBytesError('tree key has a wrong length');
  };
  switch (key[0]) {
    case 'I':
      exact(9);
      return { type: 'inode', ino: readU64(key, 1) as Ino };
    case 'O':
      exact(9);
      return { type: 'orphan', ino: readU64(key, 1) as Ino };
    case 'D': {
      const name = key.slice(9);
      if (!isFileName(name)) throw new MalformedBytesError('directory entry has an impossible name');
      return { type: 'dirent', ino: readU64(key, 1) as Ino, name };
    }
    case 'X':
      if (key.length < 10 || key.length > 9 + 255) throw new MalformedBytesError('xattr key has a wrong length');
      return { type: 'xattr', ino: readU64(key, 1) as Ino, name: key.slice(9) };
    case 'E':
      exact(17);
      return { type: 'extent', ino: readU64(key, 1) as Ino, offset: readU64(key, 9) };
    case 'S':
      if (key.length < 2 || key.length > 256) throw new MalformedBytesError('snapshot key has a wrong length');
      return { type: 'snapshot', name: key.slice(1) };
    default:
      throw new MalformedBytesError('tree key of an unknown type');
  }
}

/** 1..255 bytes, no `/`, no NUL, neither `.` nor `..`. */
export function isFileName(name: ByteString): boolean {
  return name.length >= 1 && name.length <= 255 && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0');
}
