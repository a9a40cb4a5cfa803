/**
 * Whether what this device has not committed yet would come out the same on top of commits of others, so that it need not be run again
 * (doc/concurrency.md, "Operations that commits do not concern"). A device that has much to say gets its turn that way, however often others commit.
 */
import type { Commit } from '../commit/commit.js';
import { decodeDirent } from '../meta/dirent.js';
import { S_IFDIR } from '../meta/inode.js';
import { type TreeKey, decodeKey, inodeKey } from '../meta/key.js';
import type { RemoteChange } from './volume.js';
import type { VolumeState } from './volume-state.js';

/**
 * `change`: what `commits`, all of other devices, have changed. Every operation that changes anything writes each inode that its outcome depends on, but for the
 * source of a clone, the directory in which a file without a name is made, and the directories above a directory that moves, which other moves could close into a circle. May say no where it could say yes.
 */
export function areIndependent(state: VolumeState, commits: readonly Commit[], change: Pick<RemoteChange, 'inodes'>): boolean {
  if (state.operationCount === 0) return true;
  for (const ino of change.inodes) if (state.mentions(inodeKey(ino))) return false;
  const placesDirectory = commits.some(({ mutations }) => mutations.some(([key, value]) => isDirectoryEntry(key as TreeKey, value)));
  return state.operations.every(({ operation }) => {
    if (operation.type === 'clone') return !change.inodes.has(operation.from);
    if (operation.type === 'create' && operation.name === undefined) return !change.inodes.has(operation.parent);
    return !(placesDirectory && operation.type === 'rename' && operation.parent !== operation.newParent);
  });
}

function isDirectoryEntry(key: TreeKey, value: Uint8Array | null): boolean {
  return value !== null && decodeKey(key).type === 'dirent' && decodeDirent(value).type === S_IFDIR;
}
