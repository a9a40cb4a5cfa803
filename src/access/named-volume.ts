/**
 * Names of volumes on the command line: a word that the config file knows stands for its store, or for where it is mounted, and brings the
 * settings that it has there (doc/cli.md, "Named volumes"). A name wins over a file or folder of that name in the working directory, so that
 * a command means the same wherever it is run; `./photos` is the folder.
 */
import { printable } from '../base/printable.js';
import { existsSync } from '../disk/files.js';
import { tell } from '../terminal/terminal.js';
import { pinnedVolume } from './store-pin.js';
import type { VolumeSettings } from './volume-config.js';
import { expandHome, isVolumeName, readVolumes, volumeSettings } from './volume-config.js';

export interface NamedVolume {
  readonly name: string;
  readonly settings: VolumeSettings;
}

/** The volume that `word` names, if it does. Throws Failure `USAGE` for a config file that is wrong, but only where a name could be meant. */
export async function findNamedVolume(word: string): Promise<NamedVolume | undefined> {
  if (!isVolumeName(word)) return undefined;
  const volumes = await readVolumes();
  const settings = Object.hasOwn(volumes, word) ? volumes[word] : undefined;
  return settings && { name: word, settings };
}

/** The id (hex) of the volume that lies, as far as is known here, in the store of a named volume. */
export const volumeIdOf = ({ settings }: NamedVolume): Promise<string | undefined> => pinnedVolume(expandHome(settings.store));

/**
 * Where the argument `store` is a name, puts its store there, and each of its settings where the option of that name was not given;
 * `isGiven` tells. What a command has no option for does it no harm.
 */
export async function applyNamedVolume(args: Record<string, unknown>, isGiven: (option: string) => boolean): Promise<void> {
  const word = args['store'];
  if (typeof word !== 'string') return;
  const volume = await findNamedVolume(word);
  if (!volume) return;
  if (existsSync(word))
    tell(`note: ${printable(word)} is the volume of that name; for what lies in the working directory write ./${printable(word)}`);
  args['volumeName'] = volume.name;
  // The one secret that was chosen on the command line stands alone.
  const isSecretGiven = isGiven('passphraseFd') || isGiven('keyFile') || (args['recovery'] === true && isGiven('recovery'));
  for (const [setting, value] of Object.entries(volume.settings)) {
    if (setting !== 'store' && isGiven(setting)) continue;
    if (setting === 'keyFile' && isSecretGiven) continue;
    args[setting] = volumeSettings.get(setting)?.isPath ? expandHome(String(value)) : value;
  }
}
