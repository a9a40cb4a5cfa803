/**
 * The status of single files: whether the store has them, and how much of them is on this machine (doc/semantics.md,
 * "Status of a file"). It does not know about data that applications have written and the kernel has not handed over
 * yet.
 */

import { type Inode, isRegular } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import { dataExtentsOf, type Query, walkSubtree } from '../operation/subtree.js';
import type { PackSource } from '../pack/pack-source.js';
import type { RunPlace } from '../pack/pack-writer.js';
import type { PendingOperation } from './pending-layers.js';

/**
 * - `stored`: the store has everything that this device knows of it
 * - `uploading`: the rest is in the commit that is being put
 * - `pending`: the store has an older version
 * - `local`: the store has never had it
 */
export type FileState = 'stored' | 'uploading' | 'pending' | 'local';

export interface FileStatus {
  readonly state: FileState;
  /** Content that takes space, in bytes as the store holds it. */
  readonly contentBytes: number;
  readonly hereBytes: number;
}

/** A directory with everything below it, or one file. */
export interface SubtreeStatus {
  /** Regular files. */
  readonly files: number;
  readonly contentBytes: number;
  readonly hereBytes: number;
  /** How many inodes, of any type, are in each state. */
  readonly states: Readonly<Record<FileState, number>>;
}

/** Also says whether the inode, or a folder above it, is pinned. */
export type Pinned<Status> = Status & { readonly isPinned: boolean };

interface Standing {
  isPending: boolean;
  isFlying: boolean;
  isCreated: boolean;
}

/** The inodes that the operations touch; built again when the operations change. */
export class StandingIndex {
  /** Counts, and the newest operations themselves: a rebase replaces them. */
  #key: readonly unknown[] = [];
  #standings = new Map<Ino, Standing>();

  /**
   * `waiting` and `flying` come from the volume's state. `dirty`: whether the file has content that is in no operation
   * yet.
   */
  stateOf(ino: Ino, waiting: readonly PendingOperation[], flying: readonly PendingOperation[], dirty: boolean): FileState {
    const key = [waiting.length, waiting.at(-1), flying.length, flying.at(-1)];
    if (key.some((part, index) => part !== this.#key[index])) {
      this.#key = key;
      this.#standings = new Map();
      for (const { operation } of flying) this.#note(operation, true);
      for (const { operation } of waiting) this.#note(operation, false);
    }
    const standing = this.#standings.get(ino);
    if (!standing) return dirty ? 'pending' : 'stored';
    if (!dirty && !standing.isPending) return 'uploading';
    return standing.isCreated ? 'local' : 'pending';
  }

  #note(operation: Operation, isFlying: boolean): void {
    for (const ino of inosOf(operation)) {
      const standing = this.#standings.get(ino) ?? { isPending: false, isFlying: false, isCreated: false };
      this.#standings.set(ino, standing);
      if (isFlying) standing.isFlying = true;
      else standing.isPending = true;
      if (operation.type === 'create' && operation.ino === ino) standing.isCreated = true;
    }
  }
}

/** The inodes that an operation changes, including directories whose entries it changes. */
function inosOf(operation: Operation): Ino[] {
  const inos: Ino[] = [];
  if ('ino' in operation) inos.push(operation.ino);
  if ('parent' in operation) inos.push(operation.parent);
  if ('newParent' in operation) inos.push(operation.newParent);
  if (operation.type === 'clone') inos.push(operation.to);
  return inos;
}

type Presence = Pick<PackSource, 'isHere'>;

/** The sealed bytes of a run, and how many of them are on this machine. */
function runBytes(packs: Presence, run: RunPlace): { readonly total: number; readonly here: number } {
  const total = run.chunks.reduce((sum, { sealedLength }) => sum + sealedLength, 0);
  if (packs.isHere(run.pack, run.packOffset, total)) return { total, here: total };
  let here = 0;
  let offset = run.packOffset;
  for (const { sealedLength } of run.chunks) {
    if (packs.isHere(run.pack, offset, sealedLength)) here += sealedLength;
    offset += sealedLength;
  }
  return { total, here };
}

/** How much of a file's stored content is on this machine. Rejects with VolumeError. */
export async function presenceOf(
  read: Query,
  packs: Presence,
  ino: Ino,
  inode: Inode,
  signal?: AbortSignal,
): Promise<{ readonly contentBytes: number; readonly hereBytes: number }> {
  let contentBytes = inode.inline.byteLength;
  let hereBytes = contentBytes;
  for await (const extents of dataExtentsOf(read, ino, inode, signal)) {
    for (const extent of extents) {
      const { total, here } = runBytes(packs, extent);
      contentBytes += total;
      hereBytes += here;
    }
  }
  return { contentBytes, hereBytes };
}

/** The status of everything at and below `root`; `undefined` when there is no such inode. */
export async function subtreeStatus(
  read: Query,
  packs: Presence,
  root: Ino,
  stateOf: (ino: Ino) => FileState,
  signal?: AbortSignal,
): Promise<SubtreeStatus | undefined> {
  let [files, contentBytes, hereBytes, found] = [0, 0, 0, 0];
  const states: Record<FileState, number> = { stored: 0, uploading: 0, pending: 0, local: 0 };
  for await (const batch of walkSubtree(read, root, signal)) {
    for (const { ino, inode } of batch) {
      found++;
      states[stateOf(ino)]++;
      if (!isRegular(inode)) continue;
      files++;
      const presence = await presenceOf(read, packs, ino, inode, signal);
      contentBytes += presence.contentBytes;
      hereBytes += presence.hereBytes;
    }
  }
  return found === 0 ? undefined : { files, contentBytes, hereBytes, states };
}
