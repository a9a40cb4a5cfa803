/**
 * Names, paths, arguments and environment variables of a POSIX system are bytes, and usually UTF-8 text. Here they are strings that lose nothing: a byte
 * that is no part of valid UTF-8 stands as the lone surrogate U+DC00 + byte, which no valid text holds (as in Python's `surrogateescape`). How such
 * a string is shown is printable.ts; how files are reached by it is disk/files.ts.
 */
import { isUtf8 } from 'node:buffer';

const escapeBase = 0xdc00;
const sequenceMax = 4;

/** Valid UTF-8 as itself, every other byte as a lone surrogate. */
export function decodeSystemText(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  let text = '';
  for (let at = 0; at < buffer.length; ) {
    let length = 1;
    while (length <= sequenceMax && !isUtf8(buffer.subarray(at, at + length))) length++;
    if (length > sequenceMax) {
      text += String.fromCharCode(escapeBase + buffer[at]);
      at++;
    } else {
      text += buffer.toString('utf8', at, at + length);
      at += length;
    }
  }
  return text;
}

/** The bytes that {@link decodeSystemText} was given. Surrogates that stand for no byte become U+FFFD. */
export function encodeSystemText(text: string): Buffer {
  if (isUnicode(text)) return Buffer.from(text, 'utf8');
  return Buffer.concat(
    // With the flag u a pair is one character, so only lone surrogates match.
    text.split(/([\udc80-\udcff])/u).map((part, index) => (index % 2 === 1 ? Buffer.of(part.charCodeAt(0) - escapeBase) : Buffer.from(part, 'utf8'))),
  );
}

/** Whether the text holds nothing but characters: what it came from was UTF-8. */
export const isUnicode = (text: string): boolean => !/\p{Surrogate}/u.test(text);

/** A path as the functions of Node.js take it: they would replace what is not Unicode in a string, and mean another file. */
export const systemPath = (path: string): string | Buffer => (isUnicode(path) ? path : encodeSystemText(path));
