/**
 * The tree's key space (doc/format.md, "Tree keys"). A key is a byte string, whose order as a JavaScript string is its
 * byte order, so one comparison serves maps, scans and pages.
 */
import { assert } from '../base/assert.js';
import type { Brand, ByteString } from '../base/brand.js';
import { type ByteReader, fromHex, latin1Slice, MalformedBytesError, toHex } from '../base/bytes.js';
import type { PackId } from '../pack/pack-id.js';

/**
 * An inode number. The numbers of directory entries come from the same counters (doc/format.md, "Inode numbers"). The
 * root directory is 1.
 */
export type Ino = Brand<number, 'Ino'>;
export type TreeKey = Brand<ByteString, 'TreeKey'>;

export const rootIno = 1 as Ino;
/** Where the counter of a device begins. */
export const firstCounter = 16;

// The first numbers of the first devices fit into 31 bits, for 32-bit programs.
const smallDevices = 16;
const smallPerDevice = 2 ** 27;
const smallEnd = smallDevices * smallPerDevice;
const largeStart = 2 ** 32;
const largePerDevice = 2 ** 35;
const devicesMax = 2 ** 13;
const largeEnd = largeStart + devicesMax * largePerDevice;

/** `deviceIndex`: below 2^13. `counter`: below 2^35; those of device 0 begin at {@link firstCounter}. */
export function makeIno(deviceIndex: number, counter: number): Ino {
  assert(deviceIndex >= 0 && deviceIndex < devicesMax && counter < largePerDevice, 'no such device, or its numbers are used up');
  assert(counter >= (deviceIndex === 0 ? firstCounter : 0), 'the first numbers of device 0 are reserved');
  const isSmall = deviceIndex < smallDevices && counter < smallPerDevice;
  return (isSmall ? deviceIndex * smallPerDevice + counter : largeStart + deviceIndex * largePerDevice + counter) as Ino;
}

/** Whether it is the root or a number that some device can give. */
export function isIno(value: number): value is Ino {
  if (value < smallEnd) return value >= firstCounter || value === rootIno;
  return value >= largeStart && value < largeEnd && (deviceIndexOf(value) >= smallDevices || counterOf(value) >= smallPerDevice);
}

export function deviceIndexOf(number: number): number {
  return Math.floor(number < smallEnd ? number / smallPerDevice : (number - largeStart) / largePerDevice);
}

export function counterOf(number: number): number {
  return number < smallEnd ? number % smallPerDevice : (number - largeStart) % largePerDevice;
}

/** The end of the adjacent numbers of one device that `number` is among (exclusive). */
export function endOfRange(number: number): number {
  const device = deviceIndexOf(number) + 1;
  return number < smallEnd ? device * smallPerDevice : largeStart + device * largePerDevice;
}

/** Reads a varint that is an inode number or the number of an entry. Throws {@link MalformedBytesError}. */
export function readIno(reader: ByteReader): Ino {
  const value = reader.varint();
  if (!isIno(value)) throw new MalformedBytesError('a number that no device gives');
  return value;
}

/** The same, or 0 for none. */
export function readInoOrZero(reader: ByteReader): Ino | 0 {
  const value = reader.varint();
  if (value !== 0 && !isIno(value)) throw new MalformedBytesError('a number that no device gives');
  return value;
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
export const numberedKey = (parent: Ino, number: number): TreeKey => `N${u64(parent)}${u64(number)}` as TreeKey;
export const extentKey = (ino: Ino, offset: number): TreeKey => `E${u64(ino)}${u64(offset)}` as TreeKey;
export const xattrKey = (ino: Ino, name: ByteString): TreeKey => `X${u64(ino)}${name}` as TreeKey;
export const orphanKey = (ino: Ino): TreeKey => `O${u64(ino)}` as TreeKey;
/** `name`: a file name. */
export const snapshotKey = (name: ByteString): TreeKey => `S${name}` as TreeKey;
export const snapshotStart = 'S' as TreeKey;
export const snapshotEnd = 'T' as TreeKey;
export const policyKey = (name: ByteString): TreeKey => `C${name}` as TreeKey;
export const packEntryKey = (id: PackId): TreeKey => `P${latin1Slice(fromHex(id), 0, 16)}` as TreeKey;
export const collectedKey = (id: PackId): TreeKey => `G${latin1Slice(fromHex(id), 0, 16)}` as TreeKey;

/** The exclusive upper bound of all keys that begin with the key's type and its inode number. */
export const direntEnd = (parent: Ino): TreeKey => `D${u64(parent + 1)}` as TreeKey;
export const numberedEnd = (parent: Ino): TreeKey => `N${u64(parent + 1)}` as TreeKey;
export const extentEnd = (ino: Ino): TreeKey => `E${u64(ino + 1)}` as TreeKey;
export const xattrEnd = (ino: Ino): TreeKey => `X${u64(ino + 1)}` as TreeKey;
export const orphanStart = 'O' as TreeKey;
export const orphanEnd = 'P' as TreeKey;
export const collectedStart = 'G' as TreeKey;
export const collectedEnd = 'H' as TreeKey;

export type DecodedKey =
  | { readonly type: 'inode' | 'orphan'; readonly ino: Ino }
  | { readonly type: 'dirent' | 'xattr'; readonly ino: Ino; readonly name: ByteString }
  | { readonly type: 'numbered'; readonly ino: Ino; readonly number: number }
  | { readonly type: 'extent'; readonly ino: Ino; readonly offset: number }
  | { readonly type: 'pack'; readonly id: PackId }
  | { readonly type: 'collected'; readonly id: PackId }
  | { readonly type: 'snapshot' | 'policy'; readonly name: ByteString };

/** The number in the key of a numbered entry. Throws {@link MalformedBytesError}. */
export const numberIn = (key: TreeKey): number => readInoAt(key, 9);

function readInoAt(key: TreeKey, at: number): Ino {
  const value = readU64(key, at);
  if (!isIno(value)) throw new MalformedBytesError('a tree key has a number that no device gives');
  return value;
}

/** Strict: throws {@link MalformedBytesError} for any key that the format does not define. */
export function decodeKey(key: TreeKey): DecodedKey {
  const exact = (length: number): void => {
    if (key.length !== length) throw new MalformedBytesError('tree key has a wrong length');
  };
  switch (key[0]) {
    case 'I':
      exact(9);
      return { type: 'inode', ino: readInoAt(key, 1) };
    case 'O':
      exact(9);
      return { type: 'orphan', ino: readInoAt(key, 1) };
    case 'D': {
      const name = key.slice(9);
      if (!isFileName(name)) throw new MalformedBytesError('directory entry has an impossible name');
      return { type: 'dirent', ino: readInoAt(key, 1), name };
    }
    case 'N':
      exact(17);
      return { type: 'numbered', ino: readInoAt(key, 1), number: numberIn(key) };
    case 'X':
      if (key.length < 10 || key.length > 9 + 255) throw new MalformedBytesError('xattr key has a wrong length');
      return { type: 'xattr', ino: readInoAt(key, 1), name: key.slice(9) };
    case 'E':
      exact(17);
      return { type: 'extent', ino: readInoAt(key, 1), offset: readU64(key, 9) };
    case 'G':
    case 'P':
      exact(17);
      return { type: key.startsWith('P') ? 'pack' : 'collected', id: toHex(Buffer.from(key.slice(1), 'latin1')) as PackId };
    case 'S':
    case 'C': {
      const name = key.slice(1);
      if (!isFileName(name)) throw new MalformedBytesError('snapshot or policy has an impossible name');
      return { type: key[0] === 'S' ? 'snapshot' : 'policy', name };
    }
    default:
      throw new MalformedBytesError('tree key of an unknown type');
  }
}

/** 1..255 bytes, no `/`, no NUL, neither `.` nor `..`. */
export function isFileName(name: ByteString): boolean {
  return name.length >= 1 && name.length <= 255 && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0');
}
