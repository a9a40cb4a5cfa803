/**
 * The name by which other devices know this one: it stands in the roster and in the names of conflict copies, so it must be harmless in a file name and
 * on a terminal. The roster of a volume may hold others, which another program wrote: whoever uses a name cleans it.
 */
import { replaceUnprintable } from '../base/printable.js';

const lengthMax = 60;

/** At most 60 characters (240 bytes of UTF-8), none of which cannot be printed or is a slash, with no dot or space at its ends; never empty. */
export function cleanDeviceName(name: string): string {
  const harmless = replaceUnprintable(name, '_').replaceAll('/', '_');
  const short = Array.from(harmless.replace(/^[.\s]+/, ''))
    .slice(0, lengthMax)
    .join('');
  return short.replace(/[.\s]+$/, '') || 'device';
}
