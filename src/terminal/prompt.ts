/**
 * Asks questions on /dev/tty rather than stdin, so that both can be used at once. A secret is not shown while it is
 * typed.
 */
import { closeSync, writeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { openSync } from '../disk/files.js';
import { Failure } from './exit-code.js';

const lineSizeMax = 4096;

/** Whether there is anybody to ask. */
export function hasTerminal(): boolean {
  const fd = openTerminal();
  if (fd === undefined) return false;
  closeSync(fd);
  return true;
}

/**
 * Reads one line from the terminal, without its end. With `show`, the typed text appears. Throws Failure: `USAGE`
 * without a terminal, `INTERRUPTED`.
 */
export async function ask(question: string, show = false): Promise<string> {
  const fd = openTerminal();
  if (fd === undefined) {
    throw new Failure('USAGE', 'there is no terminal to ask for a secret on: give --passphrase-fd N or --key-file PATH');
  }
  const input = new ReadStream(fd);
  const say = (text: string): void => void writeSync(fd, text);
  // Set before the question: an answer that comes at once must not be shown.
  input.setRawMode(true);
  say(question);
  try {
    return await readLine(input, show ? say : undefined);
  } finally {
    input.setRawMode(false);
    say('\n');
    // Destroying the stream closes the descriptor.
    input.destroy();
  }
}

function openTerminal(): number | undefined {
  try {
    return openSync('/dev/tty', 'r+');
  } catch {
    return undefined;
  }
}

/** Reads keys in raw mode: backspace, ^U (start over), ^W is not special, ^C, ^D, Return. */
function readLine(input: ReadStream, echo: ((text: string) => void) | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = '';
    input.setEncoding('utf8');
    const interrupt = (): void => reject(new Failure('INTERRUPTED', 'interrupted'));
    input.on('error', () => reject(new Failure('USAGE', 'the terminal was closed during the question')));
    input.on('end', interrupt);
    input.on('data', (text: string) => {
      for (const key of text) {
        if (key === '\r' || key === '\n') return resolve(line);
        if (key === '\u0003') return interrupt();
        if (key === '\u0004') {
          if (line === '') interrupt();
          else resolve(line);
          return;
        }
        if (key === '\u007f' || key === '\b') {
          if (line !== '') echo?.('\b \b');
          line = Array.from(line).slice(0, -1).join('');
        } else if (key === '\u0015') {
          echo?.('\b \b'.repeat(Array.from(line).length));
          line = '';
        } else if (key >= ' ' && line.length < lineSizeMax) {
          line += key;
          echo?.(key);
        }
      }
    });
  });
}
