/**
 * The one way of printing what somebody else chose: names of files, volumes and devices, paths, labels, what a server or the system says. Such text must
 * not steer a terminal, hide a part of itself, or look like another line (doc/cli.md, "Names in messages"). It says how text looks, not where it
 * goes: `terminal.ts` and `logger.ts` are the borders that let nothing else pass.
 */
import { encodeSystemText, isUnicode } from './system-text.js';

/** Controls (C0, DEL, C1), formats (bidirectional controls, zero width ...), separators of lines and paragraphs, lone surrogates, and what is never seen. */
const unprintable = String.raw`[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]`;
const unprintableOnce = new RegExp(unprintable, 'u');

/** Emoji are drawn as one picture: the invisible parts within hide nothing. Made when it is needed, since that takes a millisecond or more. */
let emojiOrUnprintable: RegExp | undefined;
const patternOf = (): RegExp => (emojiOrUnprintable ??= new RegExp(String.raw`(\p{RGI_Emoji})|${unprintable}`, 'gv'));

const shortForms: Readonly<Record<string, string>> = { '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` };

function escapeCharacter(character: string): string {
  const short = shortForms[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return String.raw`\x${code.toString(16).padStart(2, '0')}`;
  // A byte that is no text: see system-text.ts.
  if (code >= 0xdc80 && code <= 0xdcff) return String.raw`\x${(code - 0xdc00).toString(16)}`;
  return String.raw`\u{${code.toString(16)}}`;
}

/**
 * A name or path for people. What cannot be printed is written `\n`, `\r`, `\t`, `\xHH` (a byte: a control below 0x80, or one that is no UTF-8) or
 * `\u{HEX}` (a character), and a backslash as two, so that no two names look alike by it.
 */
export const printable = (name: string): string => printableText(name.replaceAll('\\', '\\\\'));

/** A whole line that may hold text of others: as {@link printable}, but backslashes stay as they are. What is printable is not changed. */
export function printableText(line: string): string {
  if (!unprintableOnce.test(line)) return line;
  return line.replaceAll(patternOf(), (character: string, emoji: string | undefined) => emoji ?? escapeCharacter(character));
}

/** {@link printableText} for text of several lines. */
export const printableLines = (text: string): string => text.split('\n').map(printableText).join('\n');

/** Text in which every character that cannot be printed became `by`: for names that are made here and kept. */
export function replaceUnprintable(text: string, by: string): string {
  if (!unprintableOnce.test(text)) return text;
  return text.replaceAll(patternOf(), (_, emoji: string | undefined) => emoji ?? by);
}

/** JSON in which what cannot be printed stands as \uXXXX: it means the same, and steers no terminal. */
export function printableJson(value: unknown, indent?: number): string {
  // JSON.stringify has escaped what is below 0x20: such characters are its own line ends.
  return (JSON.stringify(value, undefined, indent) ?? 'null').replaceAll(jsonUnprintable, (character) =>
    Array.from({ length: character.length }, (_, index) => String.raw`\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`).join(''),
  );
}

const jsonUnprintable = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * A value for {@link printableJson} in which every string is Unicode, as JSON demands. Where one is not, it has U+FFFD in place of the bytes that are no
 * text, and beside it `NAMEBase64` has all bytes. A list of strings gets such a list beside it.
 */
export function unicodeValue(value: unknown): unknown {
  if (typeof value === 'string') return isUnicode(value) ? value : withReplacements(value);
  if (Array.isArray(value)) return value.map(unicodeValue);
  if (typeof value !== 'object' || value === null) return value;
  const fields: [string, unknown][] = [];
  for (const [name, field] of Object.entries(value)) {
    fields.push([name, unicodeValue(field)]);
    if (typeof field === 'string' && !isUnicode(field)) fields.push([`${name}Base64`, base64Of(field)]);
    else if (isStringList(field) && !field.every(isUnicode)) fields.push([`${name}Base64`, field.map(base64Of)]);
  }
  return Object.fromEntries(fields);
}

const isStringList = (value: unknown): value is readonly string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');
const base64Of = (text: string): string => encodeSystemText(text).toString('base64');
const withReplacements = (text: string): string => text.replaceAll(/\p{Surrogate}/gu, '\ufffd');
