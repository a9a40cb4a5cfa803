/**
 * The extended attribute with the status of a file. It is answered when it is asked for by name and appears in no list,
 * so that nothing copies it (doc/semantics.md, "Status of a file"). The volume knows nothing of it.
 */
import type { ByteString } from '../base/brand.js';
import type { Ino } from '../meta/key.js';
import { VfsError } from '../vfs/vfs-error.js';
import type { Volume } from '../volume/volume.js';

export const statusAttribute = 'user.sealdrive.status';
/** Nobody can set attributes with these names. */
const reservedPrefix = 'user.sealdrive.';

/** Throws VfsError `EPERM` for a name that callers cannot set or remove. */
export function refuseReserved(name: ByteString): void {
  if (name.startsWith(reservedPrefix)) throw new VfsError('EPERM', 'the attribute tells something and cannot be changed');
}

/**
 * The value, such as `stored here=100 pinned=no`: one word, then pairs, to which later versions may add. Rejects with
 * VfsError, VolumeError.
 */
export async function readStatusAttribute(volume: Pick<Volume, 'fileStatus'>, ino: Ino): Promise<Uint8Array> {
  const status = await volume.fileStatus(ino);
  if (!status) throw new VfsError('ESTALE', 'the inode is gone');
  const { state, contentBytes, hereBytes, isPinned } = status;
  const share = contentBytes === 0 ? 100 : Math.floor((hereBytes / contentBytes) * 100);
  return Buffer.from(`${state} here=${share} pinned=${isPinned ? 'yes' : 'no'}`, 'latin1');
}
