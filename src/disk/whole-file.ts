/**
 * Small files that are read and replaced as a whole, and the directories that they lie in. After a crash a replaced
 * file holds the old bytes or the new ones. The state directory has several of them (doc/format.md, "Local files").
 */
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Random } from '../base/random.js';
import type { Disk, DiskFile } from './disk.js';
import { diskErrorCode } from './disk.js';
import { open } from './file-promises.js';
import { temporaryName } from './temporary-file.js';

/** No file of ours that is read as a whole is larger. */
const ownSizeMax = 256 * 1024 * 1024;
/** No settings, credentials or certificates are larger. */
const namedSizeMax = 16 * 1024 * 1024;

const tooLarge = (path: string, sizeMax: number): Error =>
  Object.assign(new Error(`${path} is larger than the ${sizeMax} bytes that such a file may have`), { code: 'EFBIG' });

/**
 * A file that this program wrote; `undefined` when there is none. The bytes belong to the caller. Rejects with the
 * error of the disk, and with EFBIG for a file that is too large to be ours.
 */
export async function readWholeFile(disk: Disk, path: string): Promise<Uint8Array | undefined> {
  let file: DiskFile;
  try {
    file = await disk.open(path, 'read');
  } catch (error) {
    if (diskErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { size } = await file.stat();
    if (size > ownSizeMax) throw tooLarge(path, ownSizeMax);
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

export interface NamedFile {
  readonly bytes: Buffer;
  /** Permission bits. */
  readonly mode: number;
}

/**
 * A file that the user named or wrote: links are followed, and it may be a pipe. `undefined` when there is none.
 * Rejects with the error of the system, and with EFBIG for more than `sizeMax` bytes.
 */
export async function readNamedFile(path: string, sizeMax = namedSizeMax): Promise<NamedFile | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(diskErrorCode(error) ?? '')) return undefined;
    throw error;
  }
  try {
    const { mode } = await file.stat();
    const pieces: Uint8Array[] = [];
    for (let size = 0; ; ) {
      const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(64 * 1024) });
      if (bytesRead === 0) return { bytes: Buffer.concat(pieces), mode: mode & 0o7777 };
      size += bytesRead;
      if (size > sizeMax) throw tooLarge(path, sizeMax);
      pieces.push(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

export interface ReplaceOptions {
  /**
   * The file's path until it is complete. Default: the path with `.new` behind it, where what a crash left is removed.
   */
  readonly temporary?: string;
  /** A temporary file that is there is somebody else's: EEXIST. */
  readonly isExclusive?: boolean;
  /** Done to the new file before it is synced. */
  readonly prepare?: (file: DiskFile) => Promise<void>;
  /** Default: true. Otherwise nothing is synced, and a power cut may leave anything in the file. */
  readonly isDurable?: boolean;
}

/**
 * Replaces the file at `path`, or makes it, with mode 0600: on stable storage when it resolves. One call at a time for
 * a path, unless the temporary file is exclusive. A function is asked for the bytes once the temporary file exists.
 * Rejects with the error of the disk, and with what the function throws.
 */
export async function replaceFile(
  disk: Disk,
  path: string,
  content: Uint8Array | (() => Promise<Uint8Array>),
  options: ReplaceOptions = {},
): Promise<void> {
  const { temporary = `${path}.new`, isExclusive = false, prepare, isDurable = true } = options;
  const file = await disk.open(temporary, 'create-new').catch(async (error: unknown) => {
    if (isExclusive || diskErrorCode(error) !== 'EEXIST') throw error;
    await disk.unlink(temporary);
    return disk.open(temporary, 'create-new');
  });
  try {
    try {
      const bytes = typeof content === 'function' ? await content() : content;
      await file.write(bytes, 0);
      await prepare?.(file);
      if (isDurable) await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(temporary, path);
  } catch (error) {
    await disk.unlink(temporary).catch(() => {});
    throw error;
  }
  if (isDurable) await disk.syncDirectory(dirname(path));
}

/**
 * {@link replaceFile}, durably, where other processes may replace the file at the same time: one of them is the last.
 * A crash leaves a temporary file of a name that nobody uses again.
 */
export function replaceSharedFile(disk: Disk, path: string, content: Uint8Array, random: Random): Promise<void> {
  return replaceFile(disk, path, content, { temporary: `${path}-${temporaryName(random)}`, isExclusive: true });
}

/**
 * Makes a directory of mode 0700 whose parent exists, unless it is there; answers whether it was made. A link to a
 * directory is one. Rejects with the error of the disk: ENOENT without the parent.
 */
export async function ensureDirectory(disk: Disk, path: string): Promise<boolean> {
  try {
    await disk.makeDirectory(path);
    return true;
  } catch (error) {
    if (diskErrorCode(error) === 'ENOENT' || (await disk.stat(path).catch(() => undefined))?.kind !== 'directory') throw error;
    return false;
  }
}

/** {@link ensureDirectory}, and the directories above it. */
export async function ensureDirectoryPath(disk: Disk, path: string): Promise<void> {
  try {
    await ensureDirectory(disk, path);
  } catch (error) {
    if (diskErrorCode(error) !== 'ENOENT') throw error;
    await ensureDirectoryPath(disk, dirname(path));
    await ensureDirectory(disk, path);
  }
}

/** Whether a write failed because the disk, this user's share of it, or the file may not become fuller. */
export const isDiskFull = (error: unknown): boolean => ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(diskErrorCode(error) ?? '');
