/**
 * Names of files that are completed under a temporary name and then moved into place, and the removal of those that a
 * crash left behind. Others may write into the folder, so only entries with our kind of name, type and place are
 * removed.
 */
import { join } from 'node:path';
import { toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { ConfinedFolder } from './confined-folder.js';
import type { Disk } from './disk.js';

/** A temporary file this old belongs to nobody: several machines may share the folder, and none can ask another. */
const staleMs = 24 * 60 * 60 * 1000;
const filePattern = /^[0-9a-f]{32}$/;
const directoryPattern = /^[0-9a-f]{32}d$/;

/**
 * The name of a file that nobody else makes. With a `d` behind it, it is the name of a directory that holds one file.
 */
export function temporaryName(random: Random): string {
  return toHex(random.bytes(16));
}

/** Whether {@link temporaryName} can have given this one. */
export const isTemporaryName = (name: string): boolean => filePattern.test(name);

/**
 * Removes the temporary files in `place` of `folder` that are older than a day, and the directories of ours that hold
 * nothing but one called `contentName`. Only for those who write there anyway. Never rejects: what cannot be removed
 * stays.
 */
export async function removeStaleFiles(disk: Disk, folder: ConfinedFolder, place: string, clock: Clock, contentName?: string): Promise<void> {
  const nowMs = clock.now().sec * 1000;
  const removeFrom = async (path: string): Promise<void> => {
    for (const { name, kind } of await disk.readDirectory(path)) {
      const isOurs = kind === 'file' ? isTemporaryName(name) : kind === 'directory' && contentName !== undefined && directoryPattern.test(name);
      if (!isOurs) continue;
      const stat = await disk.lstat(join(path, name)).catch(() => undefined);
      if (stat?.kind !== kind || nowMs - stat.mtimeMs < staleMs) continue;
      const remove = kind === 'file' ? disk.unlink(join(path, name)) : removeDirectory(name);
      await remove.catch(() => {});
    }
  };
  const removeDirectory = async (name: string): Promise<void> => {
    if (contentName !== undefined) await folder.use(join(place, name), (path) => disk.unlink(join(path, contentName)).catch(() => {}));
    await folder.use(place, (path) => disk.removeDirectory(join(path, name)));
  };
  await folder
    .use(place, async (path) => {
      // Another file system in this place is somebody else's, whatever lies there.
      const [at, root] = await Promise.all([disk.stat(path), disk.stat(folder.root)]);
      if (at.device === root.device) await removeFrom(path);
    })
    .catch(() => {});
}
