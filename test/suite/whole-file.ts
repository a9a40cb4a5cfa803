/** Whole files of a {@link Disk}, for arranging tests. */
import type { Disk } from '../../src/disk/disk.js';

/** Writes, syncs and closes a file; returns its path. */
export async function writeWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<string> {
  const file = await disk.open(path, 'create');
  await file.truncate(0);
  await file.write(bytes, 0);
  await file.datasync();
  await file.close();
  return path;
}

export async function readWhole(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  const bytes = new Uint8Array((await file.stat()).size);
  await file.read(bytes, 0);
  await file.close();
  return bytes;
}
