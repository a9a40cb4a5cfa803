/** Small files of the state directory, replaced as a whole: after a crash the old content is there or the new. */
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';

/** The file's bytes, of the caller's own; `undefined` when there is none. */
export async function readStateFile(disk: Disk, directory: string, name: string): Promise<Uint8Array | undefined> {
  try {
    const file = await disk.open(join(directory, name), 'read');
    try {
      const bytes = new Uint8Array((await file.stat()).size);
      return bytes.subarray(0, await file.read(bytes, 0));
    } finally {
      await file.close();
    }
  } catch (error) {
    if (diskErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Durable when it resolves. One call at a time for a name. */
export async function replaceStateFile(disk: Disk, directory: string, name: string, bytes: Sealed): Promise<void> {
  const temporary = join(directory, `${name}.new`);
  const file = await disk.open(temporary, 'create');
  try {
    await file.truncate(0);
    await file.write(bytes, 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, join(directory, name));
  await disk.syncDirectory(directory);
}

/** Makes a directory whose parent exists, unless it is there. */
export async function ensureDirectory(disk: Disk, path: string): Promise<void> {
  try {
    await disk.makeDirectory(path);
  } catch (error) {
    if (diskErrorCode(error) !== 'EEXIST') throw error;
  }
}
