/**
 * Words of the command line that need not be UTF-8 text: paths on this machine (base/system-text.ts, doc/cli.md, "Names
 * that are not UTF-8"). Everything else must be text, so that nothing gets another name than was meant.
 */
import { mountOptionRows } from '../access/mount-options.js';
import { isUnicode } from '../base/system-text.js';
import { Failure } from '../terminal/exit-code.js';
import { path } from '../terminal/option-kind.js';

/** Arguments and options that are paths of this machine, as handlers call them. */
const paths: ReadonlySet<string> = new Set([
  'accessLog',
  'base',
  'directory',
  'keyFile',
  'location',
  'mountPoint',
  'newKeyFile',
  'out',
  'path',
  'spool',
  'stateDir',
  'store',
  'tlsCert',
  'tlsKey',
  'tokens',
  ...mountOptionRows.filter(([, { kind }]) => kind === path).map(([name]) => name),
]);

/** Arguments that may also be a URL, which is ASCII. */
const places: ReadonlySet<string> = new Set(['base', 'location', 'store']);

const isUrl = (text: string): boolean => /^[a-z][a-z0-9+.-]*:/.test(text) && !text.startsWith('dir:');

/** Throws Failure `USAGE` for an argument that is neither text nor a path. `args` are those of yargs. */
export function refuseOtherBytes(args: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(args)) {
    const words = (Array.isArray(value) ? value : [value]).filter((word): word is string => typeof word === 'string' && !isUnicode(word));
    // yargs has the same value under both spellings.
    const option = name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    for (const word of words) {
      if (!paths.has(option)) throw new Failure('USAGE', `${name === '_' ? 'a word of the command line' : name} is not UTF-8 text`);
      if (places.has(option) && isUrl(word))
        throw new Failure('USAGE', 'a URL holds other bytes than ASCII as %XX; a folder can be written as dir:/path');
    }
  }
}
