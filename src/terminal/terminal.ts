/**
 * Where commands write: results to stdout, everything else to stderr. Nothing else writes to either, and whatever a
 * line holds, none of its characters steers the terminal. Names in a line have been through printable() before, which
 * distinguishes a backslash from an escape (base/printable.ts).
 */
import { writeSync } from 'node:fs';
import colors from 'picocolors';
import { printableJson, printableLines, printableText, unicodeValue } from '../base/printable.js';
import { encodeSystemText } from '../base/system-text.js';

/** A line of result. */
export function print(line = ''): void {
  write(1, `${printableText(line)}\n`);
}

/** A line of result that stands out. */
export function printHeading(line: string): void {
  const text = printableText(line);
  write(1, `${process.stdout.isTTY ? colors.bold(text) : text}\n`);
}

/**
 * A result for programs. Names in it are exact; one that is not UTF-8 has its bytes beside it, see {@link
 * unicodeValue}.
 */
export function printJson(value: unknown): void {
  write(1, `${printableJson(unicodeValue(value), 2)}\n`);
}

/** A line for people that is no result. */
export function tell(line = ''): void {
  write(2, `${printableText(line)}\n`);
}

/** Several lines for people, such as the stack of a defect. */
export function tellLines(text: string): void {
  write(2, `${printableLines(text)}\n`);
}

/**
 * Writes printable lines that were made elsewhere, such as the logger's, to stdout (1) or stderr (2). It is
 * synchronous, so that nothing is lost when the process ends. A reader that has gone away is not an error.
 */
export function write(fd: 1 | 2, text: string): void {
  let rest = Buffer.from(text, 'utf8');
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') continue;
      if (code === 'EPIPE') return;
      throw error;
    }
  }
}

function shellByte(byte: number): string {
  const character = String.fromCharCode(byte);
  if (byte < 0x20 || byte >= 0x7f) return String.raw`\x${byte.toString(16).padStart(2, '0')}`;
  return "'\\".includes(character) ? `\\${character}` : character;
}

/**
 * A word quoted for a shell, if the shell would interpret anything in it. Characters that cannot be printed are spelt
 * as bytes (`$'\\xff'`).
 */
export function quoteForShell(word: string): string {
  if (printableText(word) !== word) return `$'${Array.from(encodeSystemText(word), shellByte).join('')}'`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** For people: `1.5 MiB`. */
export function formatBytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${count} ${count === 1 ? 'byte' : 'bytes'}` : `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

export function plural(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
}
