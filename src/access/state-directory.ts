/**
 * The places of this user's local files: `$XDG_STATE_HOME/sealdrive/<first 16 hex of the volume id>` for a volume, and
 * beside them the registry of running mounts. `--state-dir` moves the former, never the latter, so that any mount can
 * be found.
 */
import { isAbsolute, join, resolve } from 'node:path';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { encodeSystemText } from '../base/system-text.js';
import { environment, knownHome } from '../disk/environment.js';
import { stat } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath } from '../disk/whole-file.js';
import { Failure } from '../terminal/exit-code.js';

/**
 * The home directory. Throws Failure `USAGE` when there is none, and says what to set: a container may run as a user
 * without an entry.
 */
export function homeFolder(): string {
  const home = knownHome();
  if (home !== undefined) return home;
  if (environment()['HOME']) throw new Failure('USAGE', 'HOME is not an absolute path: set it to your home directory');
  throw new Failure('USAGE', 'this user has no home directory: set HOME, or XDG_STATE_HOME, XDG_CONFIG_HOME and XDG_DATA_HOME, to folders of yours');
}

function xdgFolder(variable: string, ...fallback: string[]): string {
  const set = environment()[variable];
  // The XDG specification has relative paths ignored.
  return join(set && isAbsolute(set) ? set : join(homeFolder(), ...fallback), 'sealdrive');
}

export const defaultStateBase = (): string => xdgFolder('XDG_STATE_HOME', '.local', 'state');
export const defaultConfigBase = (): string => xdgFolder('XDG_CONFIG_HOME', '.config');
export const defaultDataBase = (): string => xdgFolder('XDG_DATA_HOME', '.local', 'share');
export const registryFolder = (): string => join(defaultStateBase(), 'mounts');

/** The state directory of a volume below `base` (an option, or the default). */
export function stateDirectoryOf(volumeId: string, base: string | undefined): string {
  return join(base === undefined ? defaultStateBase() : resolve(base), volumeId.slice(0, 16));
}

/** Makes `path`, with its parents, for this user alone. Throws Failure `LOCAL_DISK`. */
export async function ensurePrivateDirectory(path: string): Promise<void> {
  try {
    await ensureDirectoryPath(systemDisk, path);
    const { uid, mode } = await stat(path);
    if (uid !== process.getuid?.()) throw new Failure('LOCAL_DISK', `${printable(path)} belongs to another user: choose another --state-dir`);
    if ((mode & 0o077) !== 0) throw new Failure('LOCAL_DISK', `${printable(path)} is open to other users: run "chmod 700 ${printable(path)}"`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      'LOCAL_DISK',
      `the state directory ${printable(path)} cannot be made: ${describeError(error)}; set XDG_STATE_HOME to a folder of yours, or give --state-dir`,
      { cause: error },
    );
  }
}

/** `sun_path` of sockaddr_un holds 108 bytes with its NUL. */
const socketPathMax = 107;

/**
 * The paths at which the control socket of a state directory can be: in it, or beside the registry, if the first path
 * is too long for a socket or the state directory is gone. `id` is the id of the mount.
 */
export function controlSocketPaths(stateDirectory: string, registry: string, id: string): readonly [string, ...string[]] {
  const beside = join(registry, `${id}.sock`);
  const path = join(stateDirectory, 'control.sock');
  return Buffer.byteLength(path) <= socketPathMax ? [path, beside] : [beside];
}

/**
 * Distinguishes the mounts of a registry from others in the table of all mounts, as part of their source. It is FNV-1a
 * of 32 bits, since nobody gains anything by forging it, and the library with the cryptographic hash is slow to load.
 */
export function registryTag(registry: string): string {
  let hash = 0x811c9dc5;
  for (const byte of encodeSystemText(registry)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}
