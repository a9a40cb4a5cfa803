/**
 * Decides whether the uncommitted operations of this device would have the same result on top of commits of others, so
 * that they need not be run again (doc/concurrency.md, "Operations that commits do not concern"). A device with much to
 * commit gets its turn that way, however often others commit. It does not rebase: `arrival.ts` does.
 */
import { PageFault } from '../base/page-fault.js';
import type { Commit } from '../commit/commit.js';
import { decodeDirent } from '../meta/dirent.js';
import { decodeInode, S_IFDIR } from '../meta/inode.js';
import { decodeKey, type Ino, inodeKey, type TreeKey } from '../meta/key.js';
import type { VolumeChange } from './volume-change.js';
import type { VolumeState } from './volume-state.js';

/**
 * `change`: what `commits`, all of other devices, have changed. An operation that changes anything writes each inode
 * that its outcome depends on, with three exceptions: the source of a clone, the directory of a file that is created
 * without a name, and the directories above a moved directory, because other moves could close a cycle. May return
 * false where true would be correct.
 */
export function areIndependent(state: VolumeState, commits: readonly Commit[], change: Pick<VolumeChange, 'inodes'>): boolean {
  if (state.operationCount === 0) return true;
  if (recordKeys(commits).some((key) => state.mentions(key))) return false;
  for (const ino of change.inodes) if (state.mentions(inodeKey(ino)) || state.readsOnly(ino)) return false;
  return !state.movesDirectories || !areAbove(state, placedDirectories(commits));
}

/** What these commits changed of what the volume keeps beside its files. */
const recordKeys = (commits: readonly Commit[]): TreeKey[] =>
  commits.flatMap(({ mutations }) => mutations.map(([key]) => key as TreeKey).filter((key) => key[0] === 'S' || key[0] === 'C'));

/**
 * Directories that got a name. A directory that these commits created can only be above an older one if an older one
 * was placed too.
 */
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
 * Whether one of `placed` was above a directory when another directory was moved there. The parent of a directory was
 * then the one in the log, or one that an uncommitted operation has created it in or moved it to: all of these are
 * checked. Also true if it cannot be known without a page that is not in memory.
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
