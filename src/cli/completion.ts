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

/** Names that fit where the cursor stands; `words` are those of the line, without the program, up to and with the one being completed. */
export function volumeNamesFor(words: readonly string[]): string[] {
  const before = words.slice(0, -1).filter((word) => !word.startsWith('-'));
  if (words.at(-1)?.startsWith('-') || !takesVolume.includes(before.join(' '))) return [];
  try {
    return Object.keys(readVolumes());
  } catch {
    // A file that is wrong is told when a command wants it, not at each press of the key.
    return [];
  }
}

interface CompletionFilter {
  (onCompleted?: (error: Error | null, completions: string[] | undefined) => void): unknown;
}

/** For yargs: its own completions, and ours. */
export function completeVolumes(
  current: string,
  argv: { readonly _?: readonly (string | number)[] },
  filter: CompletionFilter,
  done: (completions: string[]) => void,
): void {
  const words = (argv._ ?? []).slice(1).map(String);
  if (words.at(-1) !== current) words.push(current);
  filter((_, completions) => done([...(completions ?? []), ...volumeNamesFor(words)]));
}
