/**
 * Shell completion of volumes' names, where a command takes a store or a mount. yargs completes commands and options.
 */
import { readVolumes } from '../access/volume-config.js';

/** Commands whose first argument is a store or a mount point. */
const takesVolume: readonly string[] = [
  'check',
  'doctor',
  'flush',
  'init',
  'key add',
  'key list',
  'key remove',
  'limit',
  'mount',
  'rejoin',
  'repair',
  'salvage',
  'status',
  'umount',
  'unmount',
  'volume remove',
];

/**
 * The names that fit at the cursor. `words` are those of the line without the program, up to and including the one
 * being completed.
 */
export function volumeNamesFor(words: readonly string[], names: readonly string[]): readonly string[] {
  const before = words.slice(0, -1).filter((word) => !word.startsWith('-'));
  return words.at(-1)?.startsWith('-') || !takesVolume.includes(before.join(' ')) ? [] : names;
}

interface CompletionFilter {
  (onCompleted?: (error: Error | null, completions: string[] | undefined) => void): unknown;
}

type Completion = (
  current: string,
  argv: { readonly _?: readonly (string | number)[] },
  filter: CompletionFilter,
  done: (completions: string[]) => void,
) => void;

/**
 * A completion for yargs, which does not wait: its own completions, and the names as they are now. `line` is the whole
 * command line.
 */
export async function volumeCompletion(line: readonly string[]): Promise<Completion> {
  const names = line.includes('--get-yargs-completions') ? await knownNames() : [];
  return (current, argv, filter, done) => {
    const words = (argv._ ?? []).slice(1).map(String);
    if (words.at(-1) !== current) words.push(current);
    filter((_, completions) => done([...(completions ?? []), ...volumeNamesFor(words, names)]));
  };
}

async function knownNames(): Promise<readonly string[]> {
  try {
    return Object.keys(await readVolumes());
  } catch {
    // An invalid file is reported when a command needs it, not on each press of the key.
    return [];
  }
}
