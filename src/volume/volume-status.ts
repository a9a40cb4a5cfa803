/**
 * Reports the status of an open volume and its files (doc/semantics.md, "Status of a file"). It changes nothing.
 */
import { toHex } from '../base/bytes.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Ino } from '../meta/key.js';
import { hasAncestor } from '../operation/inode-path.js';
import { readInode } from '../operation/inode-view.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { Query } from '../operation/subtree.js';
import type { Collector } from './collector.js';
import type { Committer } from './committer.js';
import type { ContentWriter } from './content-writer.js';
import { type FileState, type FileStatus, type Pinned, presenceOf, StandingIndex, type SubtreeStatus, subtreeStatus } from './file-status.js';
import type { PinKeeper } from './pin-keeper.js';
import type { Staleness } from './staleness.js';
import type { TreeKeeper } from './tree-keeper.js';
import type { UploadQueue } from './upload-queue.js';
import type { PendingWork } from './volume.js';
import { type VolumeFacts, volumeFacts } from './volume-facts.js';
import type { VolumeParts } from './volume-parts.js';

export interface VolumeStatusOptions {
  readonly parts: VolumeParts;
  readonly read: Query;
  readonly writer: ContentWriter;
  readonly committer: Committer;
  readonly queue: UploadQueue;
  readonly staleness: Staleness;
  readonly keeper: TreeKeeper | undefined;
  readonly pins: PinKeeper;
  readonly collector: Collector;
}

export class VolumeStatus {
  readonly #options: VolumeStatusOptions;
  readonly #standings = new StandingIndex();

  constructor(options: VolumeStatusOptions) {
    this.#options = options;
  }

  statistics(): VolumeStatistics {
    const { parts, writer } = this.#options;
    const { files, bytes } = parts.state.statistics;
    return { files: Math.max(0, files), bytes: Math.max(0, bytes + writer.bytes) };
  }

  pending(): PendingWork {
    const { parts, writer } = this.#options;
    const files = new Set<Ino>(writer.inos());
    for (const { operation } of parts.state.operations) if ('ino' in operation) files.add(operation.ino);
    return { operations: parts.state.operationCount, files: files.size, dirtyBytes: writer.bytes, uploadBytes: parts.staging.bytes };
  }

  async fileStatus(ino: Ino): Promise<Pinned<FileStatus> | undefined> {
    const { parts, read } = this.#options;
    const inode = await read((view) => readInode(view, ino));
    if (!inode) return undefined;
    const presence = await presenceOf(read, parts.packs, ino, inode);
    return { state: this.#stateOf(ino), ...presence, isPinned: await this.#isPinned(ino) };
  }

  async subtreeStatus(ino: Ino, signal?: AbortSignal): Promise<Pinned<SubtreeStatus> | undefined> {
    const { parts, read } = this.#options;
    const found = await subtreeStatus(read, parts.packs, ino, (one) => this.#stateOf(one), signal);
    return found && { ...found, isPinned: await this.#isPinned(ino) };
  }

  /** Facts for `status`. */
  details(): VolumeFacts {
    const { parts, writer, committer, staleness, queue, keeper, collector } = this.#options;
    const { options, log, cache, journal, memory } = parts;
    const id = toHex(options.volumeId);
    const memoryBytes = parts.packs.memoryBytes + parts.tree.cachedBytes + writer.bytes + parts.state.pendingBytes + parts.state.committed.bytes;
    return volumeFacts({
      id,
      memoryBytes,
      memory,
      statistics: this.statistics(),
      log,
      options,
      committer,
      staleness,
      queue,
      cache,
      keeper,
      journal,
      collected: collector.lastReport,
    });
  }

  #stateOf(ino: Ino): FileState {
    const { parts, writer } = this.#options;
    const { waitingOperations, flyingOperations } = parts.state;
    const isDirty = (writer.get(ino)?.bytes ?? 0) > 0;
    return this.#standings.stateOf(ino, waitingOperations, flyingOperations, isDirty);
  }

  /** Whether the inode or a folder above it is pinned. For a file with several names, its most recent folder counts. */
  #isPinned(ino: Ino): MaybePromise<boolean> {
    const { read, pins } = this.#options;
    return read((view) => hasAncestor(view, ino, (at) => pins.has(at)));
  }
}
