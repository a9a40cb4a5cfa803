/**
 * Structured log lines. Fields never hold secrets, plaintext names or content: callers log ids, counts, sizes and codes.
 */
import { printableJson } from './printable.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** One JSON object a line, of characters that steer no terminal, to `write`, from `lowest` upwards. */
export function createLog(write: (line: string) => void, lowest: LogLevel = 'info'): Log {
  const emit = (level: LogLevel) =>
    levels.indexOf(level) < levels.indexOf(lowest)
      ? (): void => {}
      : (message: string, fields?: LogFields): void => write(`${printableJson({ time: new Date().toISOString(), level, message, ...fields })}\n`);
  return { debug: emit('debug'), info: emit('info'), warn: emit('warn'), error: emit('error') };
}

export const silentLog: Log = createLog(() => {}, 'error');

/** An error and its causes in one line, for logs and for people. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && parts.length < 8; at = at instanceof Error ? at.cause : undefined) {
    const text = at instanceof Error ? at.message || at.name : typeof at === 'string' ? at : 'an unknown value was thrown';
    if (!parts.includes(text)) parts.push(text);
  }
  return parts.join(': ');
}
