/** Where commands write: results to stdout, everything else to stderr. The only place that knows of either. */
import { writeSync } from 'node:fs';
import colors from 'picocolors';

/** A line of result. */
export function print(line = ''): void {
  write(1, `${line}\n`);
}

/** A result for programs. */
export function printJson(value: unknown): void {
  write(1, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** A line for people that is no result. */
export function tell(line = ''): void {
  write(2, `${line}\n`);
}

export const emphasis = (text: string): string => (process.stdout.isTTY ? colors.bold(text) : text);

/** Lines that were made elsewhere, such as a log's: to stdout (1) or stderr (2). Synchronous, so that nothing is lost when the process ends; a reader that has gone away is no error. */
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

/** A word as a POSIX shell takes it: unchanged where nothing in it means anything to the shell. */
export function quoteForShell(word: string): string {
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

/** `10G`, `512M`, `1.5 TiB`, `4096`: bytes, in powers of 1024; `undefined` when it is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text);
  if (!match) return undefined;
  const power = match[2] === '' ? 0 : 'kmgtp'.indexOf(match[2].toLowerCase()) + 1;
  const bytes = Math.floor(Number(match[1]) * 1024 ** power);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** `30`, `30s`, `5m`, `1h`: milliseconds; `undefined` when it is no duration. */
export function parseDurationMs(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$/.exec(text);
  if (!match) return undefined;
  const scale = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2] ?? 's'] ?? 1000;
  return Math.round(Number(match[1]) * scale);
}
