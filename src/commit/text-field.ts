/** Texts and lists inside commits: a varint, then as many bytes of UTF-8 or items. */
import { assert } from '../base/assert.js';
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../base/bytes.js';

/** A text of at most this many bytes. */
export const textLengthMax = 255;

export function writeText(writer: ByteWriter, text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  assert(bytes.length <= textLengthMax, 'a text is bounded');
  writer.varint(bytes.length).bytes(bytes);
}

/**
 * Strict, and keeps a byte order mark, so that the text is written again as it was read. Throws MalformedBytesError.
 */
export function readText(reader: ByteReader): string {
  const length = reader.varint();
  if (length > textLengthMax) throw new MalformedBytesError('a text is too long');
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(reader.bytes(length));
  } catch (cause) {
    throw new MalformedBytesError('not UTF-8', { cause });
  }
}

/**
 * A counted list of items of at least `itemLengthMin` bytes each: a count that its bytes cannot hold is refused before
 * any work. Throws MalformedBytesError.
 */
export function readList<T>(reader: ByteReader, itemLengthMin: number, readItem: () => T): T[] {
  const count = reader.varint();
  if (count > reader.remaining / itemLengthMin) throw new MalformedBytesError('a list that is longer than its bytes');
  return Array.from({ length: count }, readItem);
}
