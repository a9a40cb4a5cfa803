/**
 * Finds files in the past: the versions of one, and what was removed (doc/past.md, "Versions and removed files"). It
 * looks at what the commits say; `vfs/restoration.ts` brings something back.
 *
 * Rejects with VolumeError.
 */
import type { ByteString } from '../base/brand.js';
import type { Commit } from '../commit/commit.js';
import { type ContentStamp, decodeInode, type Inode } from '../meta/inode.js';
import { direntKey, type Ino, inodeKey, rootIno } from '../meta/key.js';
import { lookup, readInode } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';
import { isNotKept, type PastVolume } from './past-volume.js';
import type { Volume } from './volume.js';

/** The volume, as far as its past is looked for. */
export type PastSource = Pick<Volume, 'read' | 'past' | 'snapshots'>;

/** One content that a file had. */
export interface FileVersion {
  /** The commit with which it began; of a snapshot, the one that it shows. */
  readonly sequence: number;
  readonly timeMs: number;
  /** Undefined: the version is older than the commits that were looked at, and a snapshot has it. */
  readonly device: string | undefined;
  readonly snapshot: ByteString | undefined;
  readonly size: number;
}

export interface RemovedFile {
  readonly name: ByteString;
  readonly mode: number;
  readonly size: number;
  /** When it was removed, and by which device. */
  readonly timeMs: number;
  readonly device: string;
  /** The state in which it was there last. */
  readonly sequence: number;
}

/** The inode at a path, whose names are separated by slashes; `undefined` when there is none. Throws PageFault. */
export function resolvePath(view: ReadView, path: ByteString): Ino | undefined {
  let at: Ino | undefined = rootIno;
  for (const name of path.split('/').filter((part) => part !== '')) {
    at = lookup(view, at, name)?.ino;
    if (at === undefined) return undefined;
  }
  return at;
}

/** The versions of a file, the newest first: from commits since `sinceMs`, and from older snapshots. */
export async function versionsOf({ past, snapshots }: PastSource, ino: Ino, sinceMs: number, signal?: AbortSignal): Promise<FileVersion[]> {
  const versions: FileVersion[] = [];
  let newer: ContentStamp | undefined;
  let oldest: number = past.newest;
  const add = ({ stamp, size }: Inode, version: Omit<FileVersion, 'size'>): void => {
    // The content began with the oldest commit that has its stamp.
    if (newer && isSameStamp(stamp, newer)) versions.pop();
    versions.push({ ...version, size });
    newer = stamp;
  };
  for await (const commit of past.commitsBack(past.newest, signal)) {
    oldest = commit.sequence;
    if (commit.wallTimeMs < sinceMs) break;
    const value = valueIn(commit, inodeKey(ino));
    const { sequence, wallTimeMs: timeMs } = commit;
    if (value) add(decodeInode(value), { sequence, timeMs, device: past.deviceOf(commit), snapshot: undefined });
  }
  for (const snapshot of (await snapshots.list()).toReversed()) {
    if (snapshot.sequence > oldest) continue;
    const inode = await past.ofSnapshot(snapshot).read((view) => readInode(view, ino));
    const { sequence, timeMs, name } = snapshot;
    if (inode && !(newer && isSameStamp(inode.stamp, newer))) add(inode, { sequence, timeMs, device: undefined, snapshot: name });
  }
  return versions;
}

/** What was removed from the folder since `sinceMs` and is not there now, the newest first; at most `max`. */
export async function removedFrom(source: PastSource, folder: Ino, sinceMs: number, max: number, signal?: AbortSignal): Promise<RemovedFile[]> {
  const { past } = source;
  const removed: RemovedFile[] = [];
  const seen = new Set<ByteString>();
  const prefix = direntKey(folder, '');
  for await (const commit of past.commitsBack(past.newest, signal)) {
    if (commit.wallTimeMs < sinceMs || removed.length >= max) break;
    for (const [key, value] of commit.mutations) {
      const name = key.slice(prefix.length);
      if (value !== null || !key.startsWith(prefix) || seen.has(name)) continue;
      seen.add(name);
      const file = await lastSeen(source, folder, name, commit);
      if (file) removed.push(file);
    }
  }
  return removed.slice(0, max);
}

async function lastSeen(source: PastSource, folder: Ino, name: ByteString, commit: Commit): Promise<RemovedFile | undefined> {
  const { past } = source;
  const sequence = commit.sequence - 1;
  const before = await past.at(sequence);
  const found = await ifKept(async () =>
    before?.read((view) => {
      const ino = lookup(view, folder, name)?.ino;
      const inode = ino === undefined ? undefined : readInode(view, ino);
      return ino === undefined || !inode ? undefined : { ino, inode };
    }),
  );
  if (!found) return undefined;
  // What has another name now was moved, and what has this name is there.
  const isGone = await source.read((view) => lookup(view, folder, name) === undefined && (readInode(view, found.ino)?.nlink ?? 0) === 0);
  const { mode, size } = found.inode;
  return isGone ? { name, mode, size, timeMs: commit.wallTimeMs, device: past.deviceOf(commit), sequence } : undefined;
}

/**
 * The newest state since `sinceMs` in which there was something at the path, or else the newest older snapshot;
 * `undefined` when there is none.
 */
export async function lastWith(
  { past, snapshots }: PastSource,
  path: ByteString,
  sinceMs: number,
  signal?: AbortSignal,
): Promise<PastVolume | undefined> {
  const names = new Set(path.split('/'));
  const has = async (state: PastVolume | undefined): Promise<boolean> =>
    state !== undefined && (await ifKept(async () => state.read((view) => resolvePath(view, path)))) !== undefined;
  for await (const commit of past.commitsBack(past.newest, signal)) {
    if (commit.wallTimeMs < sinceMs) break;
    const removes = commit.mutations.some(([key, value]) => value === null && key[0] === 'D' && names.has(key.slice(9)));
    const before = removes ? await past.at(commit.sequence - 1) : undefined;
    if (await has(before)) return before;
  }
  for (const snapshot of (await snapshots.list()).toReversed()) {
    const state = past.ofSnapshot(snapshot);
    if (await has(state)) return state;
  }
  return undefined;
}

async function ifKept<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (isNotKept(error)) return undefined;
    throw error;
  }
}

const valueIn = ({ mutations }: Commit, key: string): Uint8Array | null | undefined => mutations.find(([one]) => one === key)?.[1];

const isSameStamp = (a: ContentStamp, b: ContentStamp): boolean => a.deviceIndex === b.deviceIndex && a.counter === b.counter;
