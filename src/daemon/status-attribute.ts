/**
 * The extended attribute that tells where a file stands: answered to whoever asks for it by name, and to be found in no list, so that nothing copies
 * it (doc/semantics.md, "Status of a file"). The volume knows nothing of it.
 */
import type { ByteString } from '../base/brand.js';
import type { Ino } from '../meta/key.js';
import { VfsError } from '../vfs/vfs-error.js';
import type { Volume } from '../volume/volume.js';

export const statusAttribute = 'user.sealdrive.status';
/** Nobody sets attributes of these names. */
const reservedPrefix = 'user.sealdrive.';

/** Throws VfsError `EPERM` for a name that is not the caller's to set or remove. */
export function refuseReserved(name: ByteString): void {
  if (name.startsWith(reservedPrefix)) throw new VfsError('EPERM', 'the attribute tells something and cannot be changed');
}

/** The value, such as `stored here=100 pinned=no`: one word, then pairs, of which there may be more one day. Rejects with VfsError, VolumeError. */
export async function readStatusAttribute(volume: Pick<Volume, 'fileStatus'>, ino: Ino): Promise<Uint8Array> {
  const status = await volume.fileStatus(ino);
  if (!status) throw new VfsError('ESTALE', 'the inode is gone');
  const { state, contentBytes, hereBytes, isPinned } = status;
  const share = contentBytes === 0 ? 100 : Math.floor((hereBytes / contentBytes) * 100);
  return Buffer.from(`${state} here=${share} pinned=${isPinned ? 'yes' : 'no'}`, 'latin1');
}
