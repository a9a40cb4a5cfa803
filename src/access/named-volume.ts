/**
 * Names of volumes on the command line. A name in the config file stands for the volume's store, or for where it is
 * mounted, and brings its settings along (doc/cli.md, "Named volumes"). A name wins over a file or folder of that name
 * in the working directory, so a command means the same wherever it is run; `./photos` is the folder.
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

/**
 * The volume that `word` names, if any. Throws Failure `USAGE` for an invalid config file, but only if `word` could be
 * a name.
 */
export async function findNamedVolume(word: string): Promise<NamedVolume | undefined> {
  if (!isVolumeName(word)) return undefined;
  const volumes = await readVolumes();
  const settings = Object.hasOwn(volumes, word) ? volumes[word] : undefined;
  return settings && { name: word, settings };
}

/** The id (hex) of the volume in the store of a named volume, as far as this machine knows. */
export const volumeIdOf = ({ settings }: NamedVolume): Promise<string | undefined> => pinnedVolume(expandHome(settings.store));

/**
 * If the argument `store` is a name, replaces it by the volume's store, and adds each of its settings whose option was
 * not given (`isGiven`). Settings for which a command has no option are ignored by it.
 */
export async function applyNamedVolume(args: Record<string, unknown>, isGiven: (option: string) => boolean): Promise<void> {
  const word = args['store'];
  if (typeof word !== 'string') return;
  const volume = await findNamedVolume(word);
  if (!volume) return;
  if (existsSync(word))
    tell(`note: ${printable(word)} is the volume of that name; for what lies in the working directory write ./${printable(word)}`);
  args['volumeName'] = volume.name;
  // A secret given on the command line replaces the one in the file.
  const isSecretGiven = isGiven('passphraseFd') || isGiven('keyFile') || (args['recovery'] === true && isGiven('recovery'));
  for (const [setting, value] of Object.entries(volume.settings)) {
    if (setting !== 'store' && isGiven(setting)) continue;
    if (setting === 'keyFile' && isSecretGiven) continue;
    args[setting] = volumeSettings.get(setting)?.isPath ? expandHome(String(value)) : value;
  }
}
