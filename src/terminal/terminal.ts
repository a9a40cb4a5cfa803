/**
 * Where commands write: results to stdout, everything else to stderr. The only place that knows of either, and a border: whatever a line holds, no character
 * of it steers the terminal. Names in it went through printable() before, which tells a backslash from an escape (base/printable.ts).
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

/** A result for programs. Names in it are exact; one that is not UTF-8 has its bytes beside it, see {@link unicodeValue}. */
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
 * Lines that were made elsewhere and are printable, such as a log's: to stdout (1) or stderr (2). Synchronous, so that nothing is lost when the process
 * ends; a reader that has gone away is no error.
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

/** A word as a shell takes it: unchanged where nothing in it means anything to the shell. What cannot be printed is spelt in bytes (`$'\\xff'`). */
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
