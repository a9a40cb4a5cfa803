/**
 * Whether what this device has not committed yet would come out the same on top of commits of others, so that it need not be run again
 * (doc/concurrency.md, "Operations that commits do not concern"). A device that has much to say gets its turn that way, however often others commit.
 */
import { PageFault } from '../base/page-fault.js';
import type { Commit } from '../commit/commit.js';
import { decodeDirent } from '../meta/dirent.js';
import { decodeInode, S_IFDIR } from '../meta/inode.js';
import { decodeKey, type Ino, inodeKey, type TreeKey } from '../meta/key.js';
import type { VolumeChange } from './volume.js';
import type { VolumeState } from './volume-state.js';

/**
 * `change`: what `commits`, all of other devices, have changed. Every operation that changes anything writes each inode that its outcome depends on, but for the
 * source of a clone, the directory in which a file without a name is made, and the directories above a directory that moves, which other moves could close into a
 * circle. May say no where it could say yes.
 */
export function areIndependent(state: VolumeState, commits: readonly Commit[], change: Pick<VolumeChange, 'inodes'>): boolean {
  if (state.operationCount === 0) return true;
  for (const ino of change.inodes) if (state.mentions(inodeKey(ino)) || state.readsOnly(ino)) return false;
  return !state.movesDirectories || !areAbove(state, placedDirectories(commits));
}

/** Directories that got a name. One that was not there before them is above none that was, unless one of those was placed, too. */
function placedDirectories(commits: readonly Commit[]): Set<Ino> {
  const placed = new Set<Ino>();
  for (const { mutations } of commits) {
    for (const [key, value] of mutations) {
      if (value === null || decodeKey(key as TreeKey).type !== 'dirent') continue;
      const { type, ino } = decodeDirent(value);
      if (type === S_IFDIR) placed.add(ino);
    }
  }
  return placed;
}

/**
 * Whether one of `placed` was above a directory at the time when another one was moved there. A directory's parent was then what the log says, or where an operation
 * in no commit has made it or moved it to: all of those are looked at. True also where that is not known without a page that is not in memory.
 */
function areAbove(state: VolumeState, placed: ReadonlySet<Ino>): boolean {
  if (placed.size === 0) return false;
  const seen = new Set<Ino>();
  const waiting = [...state.directoryPlaces];
  try {
    for (let ino = waiting.pop(); ino !== undefined; ino = waiting.pop()) {
      if (seen.has(ino)) continue;
      seen.add(ino);
      if (placed.has(ino)) return true;
      const inode = state.committedValue(inodeKey(ino));
      const parent = inode && decodeInode(inode).parent;
      if (parent) waiting.push(parent);
    }
    return false;
  } catch (error) {
    if (error instanceof PageFault) return true;
    throw error;
  }
}
