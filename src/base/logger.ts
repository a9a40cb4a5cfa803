/**
 * Structured log lines. Fields never hold secrets, plaintext names or content: callers log ids, counts, sizes and codes.
 */
import { printableJson } from './printable.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** One JSON object a line, of characters that steer no terminal, to `write`, from `lowest` upwards. */
export function createLogger(write: (line: string) => void, lowest: LogLevel = 'info'): Logger {
  const emit = (level: LogLevel) =>
    levels.indexOf(level) < levels.indexOf(lowest)
      ? (): void => {}
      : (message: string, fields?: LogFields): void => write(`${printableJson({ time: new Date().toISOString(), level, message, ...fields })}\n`);
  return { debug: emit('debug'), info: emit('info'), warn: emit('warn'), error: emit('error') };
}

export const silentLogger: Logger = createLogger(() => {}, 'error');
