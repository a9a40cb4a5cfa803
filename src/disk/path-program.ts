/**
 * Starts system programs that take a path as their last argument: Node.js passes arguments as UTF-8, and a shell can
 * make any bytes.
 */
import { encodeSystemText, isUnicode } from '../base/system-text.js';

/** Octal escapes become bytes; the x keeps line ends at the end of the path. */
const script = 'path=$(printf %b "$1"x); shift; exec "$@" "${path%x}"';

/** What to start, so that `program` gets `parameters`, and then `path` as it is (base/system-text.ts). */
export function programWithPath(program: string, parameters: readonly string[], path: string): readonly [program: string, parameters: string[]] {
  if (isUnicode(path)) return [program, [...parameters, path]];
  const octal = Array.from(encodeSystemText(path), (byte) => String.raw`\0${byte.toString(8).padStart(3, '0')}`).join('');
  return ['/bin/sh', ['-c', script, 'sh', octal, program, ...parameters]];
}
