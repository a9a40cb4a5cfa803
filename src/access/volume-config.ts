/**
 * The file in which a user gives volumes names: `$XDG_CONFIG_HOME/sealdrive/config.json` (doc/cli.md, "Named volumes").
 * The file is read strictly, errors are reported with their place, and it is replaced as a whole. It holds no secrets,
 * and anything that looks like one is refused. The meaning of a name is in `named-volume.ts`.
 */
import { dirname, isAbsolute, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { diskErrorCode } from '../disk/disk.js';
import { realpath } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath, type NamedFile, readNamedFile, replaceFile } from '../disk/whole-file.js';
import { Failure } from '../terminal/exit-code.js';
import type { OptionWord } from '../terminal/option-kind.js';
import type { SettingOptionName } from './mount-options.js';
import { mountOptionRows } from './mount-options.js';
import { defaultConfigBase, homeFolder } from './state-directory.js';

/** The settings of one volume; all but `store` stand for the option of the same name. */
export type VolumeSettings = {
  /** As on the command line; a folder is absolute. */
  readonly store: string;
  readonly mountPoint?: string;
  readonly keyFile?: string;
  readonly stateDir?: string;
} & { readonly [Name in SettingOptionName]?: OptionWord };

export type VolumeTable = Readonly<Record<string, VolumeSettings>>;

export interface Setting {
  /** For messages: `takes ...`. */
  readonly takes: string;
  /** Whether the value is of the setting's kind; the command that uses it may still refuse it. */
  readonly accepts: (value: unknown) => boolean;
  /** A path of this machine, which may begin with `~/`. */
  readonly isPath?: true;
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const path: Setting = {
  takes: 'an absolute path, or one that begins with ~/',
  accepts: (value) => isText(value) && (isAbsolute(value) || value.startsWith('~/')),
  isPath: true,
};

const optionSettings = mountOptionRows
  .filter(([, row]) => row.isSetting)
  .map(([name, { kind }]): [string, Setting] => [name, { takes: kind.takes, accepts: (value) => value !== '' && kind.parse(value) !== undefined }]);

/** Every setting there is, by name. */
export const volumeSettings: ReadonlyMap<string, Setting> = new Map([
  ['store', { takes: 'a path or URL', accepts: isText, isPath: true }],
  ['mountPoint', path],
  ['keyFile', path],
  ['stateDir', path],
  ...optionSettings,
]);

const namePattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Whether `word` can be a volume's name: no path separator, no scheme, no dot. */
export const isVolumeName = (word: string): boolean => namePattern.test(word);

export const configPath = (): string => join(defaultConfigBase(), 'config.json');

const fileSizeMax = 1024 * 1024;

/** The volumes of the file; none when there is no file. Throws Failure `USAGE`. */
export async function readVolumes(): Promise<VolumeTable> {
  const path = configPath();
  let file: NamedFile | undefined;
  try {
    file = await readNamedFile(path, fileSizeMax);
  } catch (error) {
    if (diskErrorCode(error) === 'EFBIG') throw new Failure('USAGE', `${printable(path)} is too large to be a list of volumes`, { cause: error });
    throw new Failure('USAGE', `${printable(path)} cannot be read: ${describeError(error)}`, { cause: error });
  }
  if (!file) return {};
  // Another user could otherwise name another store and another key file.
  if ((file.mode & 0o022) !== 0) throw new Failure('USAGE', `other users can change ${printable(path)}: run "chmod 600 ${printable(path)}"`);
  return parseVolumes(file.bytes.toString('utf8'), path);
}

/** `file` begins the messages. Throws Failure `USAGE`. */
export function parseVolumes(text: string, file: string): VolumeTable {
  const wrong = (what: string): Failure => new Failure('USAGE', `${printable(file)}: ${what}`);
  let document: unknown;
  try {
    document = JSON.parse(text.replace(/^\u{feff}/u, ''));
  } catch (error) {
    throw wrong(`this is not JSON: ${placed(describeError(error), text)}`);
  }
  if (!isObject(document)) throw wrong('it must be an object: {"volumes": {...}}');
  for (const key of Object.keys(document)) if (key !== 'volumes') throw wrong(`there is no setting ${shown(key)}${nearest(key, ['volumes'])}`);
  const volumes = document['volumes'] ?? {};
  if (!isObject(volumes)) throw wrong('"volumes" must be an object of names');
  const table: Record<string, VolumeSettings> = {};
  for (const [name, settings] of Object.entries(volumes)) {
    if (!isVolumeName(name)) throw wrong(`${shown(name)} cannot be a name: letters, digits, "-" and "_", at most 64`);
    requireSettings(settings, (flaw) => wrong(`volume ${name}: ${flaw}`));
    table[name] = settings;
  }
  return table;
}

/** Throws what `wrong` makes of the first flaw. */
export function requireSettings(settings: unknown, wrong: (flaw: string) => Failure): asserts settings is VolumeSettings {
  const flaw = flawOf(settings);
  if (flaw !== undefined) throw wrong(flaw);
}

/** What is wrong with the settings of one volume, in words; `undefined`: nothing. */
function flawOf(settings: unknown): string | undefined {
  if (!isObject(settings)) return 'its settings must be an object';
  for (const [key, value] of Object.entries(settings)) {
    const setting = volumeSettings.get(key);
    if (!setting) {
      if (/pass(word|phrase)|secret|token|recovery/i.test(key)) {
        return `${shown(key)}: this file holds no secrets; name a "keyFile", or have the passphrase asked for`;
      }
      return `there is no setting ${shown(key)}${nearest(key, [...volumeSettings.keys()])}`;
    }
    // The message does not repeat the value: it may be a secret in the wrong place.
    if (!setting.accepts(value)) return `"${key}" takes ${setting.takes}`;
  }
  const { store } = settings;
  if (typeof store !== 'string') return 'it needs a "store"';
  if (/^[^/]*:\/\/[^/?#]*:[^/?#]*@/.test(store)) return '"store" holds a password: doc/stores.md says where it belongs';
  if (!/^[a-z][a-z0-9+.-]*:/.test(store) && !path.accepts(store)) return `"store" takes a URL, ${path.takes}`;
  return undefined;
}

/** Somebody else is done with the file much sooner. */
const changeTries = 60;
const changePauseMs = 50;

/**
 * Replaces the file by what `change` makes of it, as a whole and durably. Other processes may do the same at the same
 * time: they come one after the other. Throws Failure `LOCAL_DISK`, and what `change` throws.
 */
export async function changeVolumes(change: (volumes: VolumeTable) => VolumeTable): Promise<void> {
  const named = configPath();
  try {
    await ensureDirectoryPath(systemDisk, dirname(named));
    // The file may be a symbolic link to where the user keeps settings.
    const file = await realpath(named).catch(() => named);
    const temporary = `${file}.new`;
    // Read only once the temporary file exists, which keeps others from changing the file meanwhile.
    const changed = async (): Promise<Buffer> => Buffer.from(`${JSON.stringify({ volumes: change(await readVolumes()) }, undefined, 2)}\n`, 'utf8');
    for (let tries = 1; ; tries++) {
      try {
        return await replaceFile(systemDisk, file, changed, { temporary, isExclusive: true });
      } catch (error) {
        if (diskErrorCode(error) !== 'EEXIST') throw error;
        if (tries === changeTries)
          throw new Failure('LOCAL_DISK', `somebody else is changing ${printable(named)} (if not, remove ${printable(temporary)})`, { cause: error });
      }
      await wait(changePauseMs);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('LOCAL_DISK', `${printable(named)} cannot be written: ${describeError(error)}`, { cause: error });
  }
}

/** `~/x` as an absolute path. */
export const expandHome = (text: string): string => (text.startsWith('~/') ? join(homeFolder(), text.slice(2)) : text);

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A key as it may stand in a message of one line. */
const shown = (key: string): string => JSON.stringify(key.length > 40 ? `${key.slice(0, 40)}...` : key);

/** `: did you mean "x"?` for what is near enough to be a slip. */
export function nearest(word: string, known: readonly string[]): string {
  const ranked = known.map((name) => ({ name, distance: editDistance(word.toLowerCase().replaceAll(/[-_]/g, ''), name.toLowerCase()) }));
  const [best] = ranked.toSorted((a, b) => a.distance - b.distance);
  if (best && best.distance <= Math.max(2, Math.floor(best.name.length / 3))) return `: did you mean "${best.name}"?`;
  return known.length > 20 ? '' : `; there are ${known.join(', ')}`;
}

/** Insertions, deletions and replacements of characters that lead from one word to the other. */
function editDistance(from: string, to: string): number {
  let row = [0, ...Array.from(to, (_, index) => index + 1)];
  for (const [index, character] of Array.from(from).entries()) {
    let [diagonal = 0] = row;
    let left = index + 1;
    row = row.map((above, at) => {
      if (at > 0) left = Math.min(above + 1, left + 1, diagonal + (character === to[at - 1] ? 0 : 1));
      diagonal = above;
      return left;
    });
  }
  return row.at(-1) ?? 0;
}

/** The parser's message with the line in place of the position. */
function placed(message: string, text: string): string {
  const at = /position (\d+)/.exec(message);
  const plain = message.replaceAll(/\s+/g, ' ');
  // Newer versions of Node.js quote the text, which may hold anything.
  const what = plain.replace(/,? ?"[^]*" is not valid JSON/, '').replace(/ in JSON at position.*/, '');
  if (!at) return what;
  const before = text.slice(0, Number(at[1])).split('\n');
  return `${what} in line ${before.length}, column ${(before.at(-1) ?? '').length + 1}`;
}
