/**
 * Names, paths, arguments and environment variables of a POSIX system are bytes, and usually UTF-8 text. Here they are
 * strings without loss: a byte that is not part of valid UTF-8 becomes the lone surrogate U+DC00 + byte, which no valid
 * text contains (as in Python's `surrogateescape`). `printable.ts` shows such strings, and `disk/files.ts` opens files
 * by them.
 */
import { isUtf8 } from 'node:buffer';

const escapeBase = 0xdc00;
const sequenceMax = 4;

/** Valid UTF-8 as it is, every other byte as a lone surrogate. */
export function decodeSystemText(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  let text = '';
  for (let at = 0; at < buffer.length; ) {
    let length = 1;
    while (length <= sequenceMax && !isUtf8(buffer.subarray(at, at + length))) length++;
    if (length > sequenceMax) {
      text += String.fromCharCode(escapeBase + buffer.readUInt8(at));
      at++;
    } else {
      text += buffer.toString('utf8', at, at + length);
      at += length;
    }
  }
  return text;
}

/** The inverse of {@link decodeSystemText}. Surrogates that stand for no byte become U+FFFD. */
export function encodeSystemText(text: string): Buffer {
  if (isUnicode(text)) return Buffer.from(text, 'utf8');
  return Buffer.concat(
    // With the flag `u` a surrogate pair is one character, so only lone ones match.
    text.split(/([\udc80-\udcff])/u).map((part, index) => (index % 2 === 1 ? Buffer.of(part.charCodeAt(0) - escapeBase) : Buffer.from(part, 'utf8'))),
  );
}

/** Whether the text has no lone surrogates, so that it came from UTF-8. */
export const isUnicode = (text: string): boolean => !/\p{Surrogate}/u.test(text);

/** A path for Node.js, which would replace lone surrogates in a string and so open another file. */
export const systemPath = (path: string): string | Buffer => (isUnicode(path) ? path : encodeSystemText(path));
