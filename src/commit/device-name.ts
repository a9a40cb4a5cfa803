/**
 * The name by which other devices know this one. It appears in the roster and in the names of conflict copies, so it
 * must be harmless in a file name and on a terminal. Another program may have enrolled a device under any name, so
 * every name from a roster is cleaned before it is used.
 */
import { replaceUnprintable } from '../base/printable.js';

const lengthMax = 60;

/**
 * At most 60 printable characters (240 bytes of UTF-8), without slashes, and without dots or spaces at the ends; never
 * empty.
 */
export function cleanDeviceName(name: string): string {
  const harmless = replaceUnprintable(name, '_').replaceAll('/', '_');
  const short = Array.from(harmless.replace(/^[.\s]+/, ''))
    .slice(0, lengthMax)
    .join('');
  return short.replace(/[.\s]+$/, '') || 'device';
}
