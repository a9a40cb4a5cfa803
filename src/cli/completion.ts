/** What shell completion offers besides commands and options: the names of volumes, where a command takes a store or a mount. */
import { readVolumes } from '../access/volume-config.js';

/** Commands whose first argument is a store or a mount point; of those with commands below them, these. */
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
  'repair',
  'salvage',
  'status',
  'umount',
  'unmount',
  'volume remove',
];

/** Those of `names` that fit where the cursor stands; `words` are those of the line, without the program, up to and with the one being completed. */
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

/** For yargs, which does not wait: its own completions, and the names as they are now. `line` is the whole command line. */
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
    // What is wrong with the file is said when a command needs it, not at each press of the key.
    return [];
  }
}
