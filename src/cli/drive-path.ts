/** Finds the daemon and the inode for a path on a mounted drive. */
import { basename, dirname, resolve } from 'node:path';
import { byteStringOf } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { realpath, stat } from '../disk/file-promises.js';
import type { FoundMounts, RunningMount } from '../program/control-client.js';
import { silenceFailure, silentMountAround } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';

export interface DrivePath {
  readonly mount: RunningMount;
  /** As it was given. */
  readonly path: string;
  readonly ino: number;
  readonly isDirectory: boolean;
  /** The directory, and the name in it as bytes (latin1). The root is its own parent and has no name. */
  readonly parent: number;
  readonly name: string;
}

/** The mount among `mounts` that `path`, absolute and without symbolic links, lies on. */
export function mountOf(path: string, mounts: readonly RunningMount[]): RunningMount | undefined {
  const holds = ({ isHere, record: { mountPoint } }: RunningMount): boolean => isHere && (path === mountPoint || path.startsWith(`${mountPoint}/`));
  return mounts.filter(holds).toSorted((a, b) => b.record.mountPoint.length - a.record.mountPoint.length)[0];
}

/**
 * Throws Failure `USAGE` when there is no such file, or it is on none of the drives, and `NO_ANSWER` when its drive
 * says nothing.
 */
export async function locateOnDrive(path: string, { answering, silent }: FoundMounts): Promise<DrivePath> {
  const mute = await silentMountAround(path, silent);
  if (mute) throw silenceFailure(mute.mount);
  const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') throw new Failure('USAGE', `there is no ${printable(resolve(path))}`, { cause: error });
    throw new Failure('STORE', `${printable(resolve(path))} cannot be looked at: ${describeError(error)}`, { cause: error });
  });
  const mount = mountOf(real, answering);
  if (!mount) throw new Failure('USAGE', `${printable(resolve(path))} is not on a Sealdrive of yours; "sealdrive status" lists what is mounted`);
  try {
    const [found, parent] = await Promise.all([stat(real), stat(dirname(real))]);
    const isRoot = real === mount.record.mountPoint;
    return {
      mount,
      path,
      ino: found.ino,
      isDirectory: found.isDirectory(),
      parent: isRoot ? found.ino : parent.ino,
      name: isRoot ? '' : byteStringOf(basename(real)),
    };
  } catch (error) {
    throw new Failure('STORE', `${printable(resolve(path))} cannot be looked at: ${describeError(error)}`, { cause: error });
  }
}
