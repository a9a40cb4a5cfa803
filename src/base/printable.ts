/**
 * How text that somebody else chose is printed: names of files, volumes and devices, paths, labels, messages of a
 * server or the system. Such text must not control a terminal, hide a part of itself, or look like another line
 * (doc/cli.md, "Names in messages"). `terminal.ts` and `logger.ts` apply it to all output.
 */
import { encodeSystemText, isUnicode } from './system-text.js';

/**
 * Control characters, format characters (bidirectional, zero width), line separators, lone surrogates, and invisible
 * ones.
 */
const unprintable = String.raw`[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]`;
const unprintableOnce = new RegExp(unprintable, 'u');

/**
 * An emoji is drawn as one picture, so its invisible parts hide nothing. Compiled on first use, which takes a
 * millisecond.
 */
let emojiOrUnprintable: RegExp | undefined;
const patternOf = (): RegExp => (emojiOrUnprintable ??= new RegExp(String.raw`(\p{RGI_Emoji})|${unprintable}`, 'gv'));

const shortForms: Readonly<Record<string, string>> = { '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` };

function escapeCharacter(character: string): string {
  const short = shortForms[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return String.raw`\x${code.toString(16).padStart(2, '0')}`;
  // A byte that is not text (`system-text.ts`).
  if (code >= 0xdc80 && code <= 0xdcff) return String.raw`\x${(code - 0xdc00).toString(16)}`;
  return String.raw`\u{${code.toString(16)}}`;
}

/**
 * A name or path for people. Unprintable characters become `\n`, `\r`, `\t`, `\xHH` (a control below 0x80, or a byte
 * that is not UTF-8) or `\u{HEX}`, and a backslash becomes two, so that no two names look alike.
 */
export const printable = (name: string): string => printableText(name.replaceAll('\\', '\\\\'));

/** A whole line that may hold such text: as {@link printable}, but backslashes stay as they are. */
export function printableText(line: string): string {
  if (!unprintableOnce.test(line)) return line;
  return line.replaceAll(patternOf(), (character: string, emoji: string | undefined) => emoji ?? escapeCharacter(character));
}

/** {@link printableText} for several lines. */
export const printableLines = (text: string): string => text.split('\n').map(printableText).join('\n');

/** Replaces every unprintable character with `by`: for names that are made here and stored. */
export function replaceUnprintable(text: string, by: string): string {
  if (!unprintableOnce.test(text)) return text;
  return text.replaceAll(patternOf(), (_, emoji: string | undefined) => emoji ?? by);
}

/** JSON with unprintable characters escaped as \uXXXX: it means the same, and cannot control a terminal. */
export function printableJson(value: unknown, indent?: number): string {
  // JSON.stringify escapes characters below 0x20; those that are left are its own line ends.
  return (JSON.stringify(value, undefined, indent) ?? 'null').replaceAll(jsonUnprintable, (character) =>
    Array.from({ length: character.length }, (_, index) => String.raw`\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`).join(''),
  );
}

const jsonUnprintable = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * A value for {@link printableJson} in which every string is Unicode, as JSON demands. In a field that is not, U+FFFD
 * replaces the bytes that are not text, and a field `NAMEBase64` beside it has all bytes; likewise for a list of
 * strings.
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
