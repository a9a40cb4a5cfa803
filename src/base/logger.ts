/** Structured log lines. Fields never hold secrets, plaintext names or content, only ids, counts, sizes and codes. */
import { printableJson } from './printable.js';

type LogLevel = 'debug' | 'info' | 'warn' | 'error';
type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Gives `write` one JSON object per line, free of terminal control characters, for levels from `lowest` up. */
export function createLogger(write: (line: string) => void, lowest: LogLevel = 'info'): Logger {
  const emit = (level: LogLevel) =>
    levels.indexOf(level) < levels.indexOf(lowest)
      ? (): void => {}
      : (message: string, fields?: LogFields): void => write(`${printableJson({ time: new Date().toISOString(), level, message, ...fields })}\n`);
  return { debug: emit('debug'), info: emit('info'), warn: emit('warn'), error: emit('error') };
}

export const silentLogger: Logger = createLogger(() => {}, 'error');
