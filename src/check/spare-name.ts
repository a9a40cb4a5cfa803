/**
 * Substitute names for files that cannot have their own, because it is taken, too long with a suffix, or impossible on
 * the destination's file system. No I/O: `local-tree.ts` tries the names.
 */
import type { ByteString } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import { hashBytes } from '../crypto/hash.js';

const nameMax = 255;
const shortNameMax = 40;
/** How many files may compete for one name. */
const namesakesMax = 10_000;

/**
 * Whether `spareNames` could make this name for another file. A file whose own name looks like this keeps it, and other
 * files get other substitutes.
 */
export const looksSpare = (name: ByteString): boolean => /(\.damaged|~[0-9]+|~[0-9a-f]{8})$/.test(name);

/** The forms of a name, from the name itself to one that every file system accepts. */
export function formsOf(name: ByteString): readonly ByteString[] {
  const plain = plainName(name);
  return [...new Set([name, plain, `${cut(plain, shortNameMax)}~${toHex(hashBytes(Buffer.from(name, 'latin1'))).slice(0, 8)}`])];
}

/** `form` with `suffix`, then also with a number; each has at most 255 bytes. */
export function* spareNames(form: ByteString, suffix: string): Generator<ByteString, void> {
  for (let number = 1; number <= namesakesMax; number++) {
    const tail = number === 1 ? suffix : `${suffix}~${number}`;
    yield cut(form, nameMax - tail.length) + tail;
  }
}

/**
 * Only bytes that vfat, exFAT and NTFS allow; others become `%` and two hexadecimal digits, as does a dot or space at
 * the end.
 */
function plainName(name: ByteString): ByteString {
  return name
    .replaceAll(/[^A-Za-z0-9 ._,+=@()~-]/g, percent)
    .replace(/[. ]$/, percent)
    .replace(/^ /, percent);
}

const percent = (byte: string): string => `%${byte.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`;

/** At most `length` bytes, without cutting a UTF-8 character. */
function cut(name: ByteString, length: number): ByteString {
  if (name.length <= length) return name;
  let end = length;
  while (end > length - 3 && isContinuation(name.charCodeAt(end))) end--;
  return name.slice(0, end);
}

const isContinuation = (byte: number): boolean => byte >= 0x80 && byte < 0xc0;
