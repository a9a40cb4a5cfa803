/**
 * The rights of new files and folders in a store: they follow the rights of the store's folder. Several users of a
 * group share a store through its mode, its group and its set-group-id bit, whatever their umasks are (doc/stores.md,
 * "A folder for several users").
 */

import type { DiskAccess, DiskStat } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';

export interface FolderAccess {
  /**
   * Objects are never changed: whoever may read them has all that is needed. Removing one takes rights of its folder.
   */
  readonly file: DiskAccess;
  readonly folder: DiskAccess;
  /** Others than the owner have rights there. */
  readonly isShared: boolean;
  /** A group, or an access control list, has rights that not everybody has. */
  readonly isByGroup: boolean;
}

export function accessIn({ mode, group }: Pick<DiskStat, 'mode' | 'group'>): FolderAccess {
  return {
    file: { mode: 0o600 | (mode & 0o044), group },
    folder: { mode: 0o700 | (mode & 0o3077), group },
    isShared: (mode & 0o077) !== 0,
    isByGroup: ((mode >> 3) & 7) !== (mode & 7),
  };
}

/**
 * What file systems without users, and those of another machine, say to it: their own rules hold then, which `doctor`
 * tells.
 */
const refusals: ReadonlySet<string> = new Set(['EPERM', 'EACCES', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL']);

/** An open file or directory. */
export interface AccessHolder {
  setAccess(access: DiskAccess): Promise<void>;
}

/** Gives a new file or directory its rights, as far as the file system knows them. False: not all of them. */
export async function setAccess(made: AccessHolder, access: DiskAccess): Promise<boolean> {
  try {
    await made.setAccess(access);
    return true;
  } catch (error) {
    if (!refusals.has(diskErrorCode(error) ?? '')) throw error;
    return false;
  }
}
