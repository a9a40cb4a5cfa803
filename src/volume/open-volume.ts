/**
 * An open volume as the filesystem above sees it (`volume.ts`), and the border where every error of the layers below
 * becomes a VolumeError (`remedy.ts`). It holds no state: `volume-opening.ts` assembles its parts (doc/architecture.md,
 * "Composition").
 */
import type { ByteString } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { type ContentStamp, type Inode, isDirectory, isRegular } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { pathOf } from '../operation/inode-path.js';
import { readInode } from '../operation/inode-view.js';
import { type Operation, OperationError } from '../operation/operation.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { ReadView } from '../operation/view.js';
import { PackError } from '../pack/pack-error.js';
import { StoreError } from '../store/object-store.js';
import type { AccessTimeStore } from './access-time-file.js';
import type { CollectOptions, Collector, CollectReport } from './collector.js';
import type { Committer } from './committer.js';
import type { ContentReader } from './content-reader.js';
import type { ContentWriter } from './content-writer.js';
import type { FileStatus, Pinned, SubtreeStatus } from './file-status.js';
import type { FrontEnds } from './front-ends.js';
import type { Past } from './past.js';
import type { Patience } from './patience.js';
import type { PinKeeper } from './pin-keeper.js';
import type { Plan } from './plan.js';
import { remedied } from './remedy.js';
import type { Snapshots } from './snapshots.js';
import type { Transactions } from './transactions.js';
import type { UploadQueue } from './upload-queue.js';
import type { FlushProgress, PendingWork, Volume } from './volume.js';
import type { ChangeListener } from './volume-change.js';
import { changedAttributes, changedContent } from './volume-change.js';
import type { VolumeFacts } from './volume-facts.js';
import { syncToDisk, type VolumeParts } from './volume-parts.js';
import type { VolumeStatus } from './volume-status.js';

/** The running parts of an open volume. */
export interface VolumeWorks {
  readonly parts: VolumeParts;
  readonly transactions: Transactions;
  readonly writer: ContentWriter;
  readonly reader: ContentReader;
  readonly committer: Committer;
  readonly queue: UploadQueue;
  readonly patience: Patience;
  readonly frontEnds: FrontEnds;
  readonly status: VolumeStatus;
  readonly pins: PinKeeper;
  readonly collector: Collector;
  readonly accessTimes: AccessTimeStore;
  readonly past: Past;
  readonly snapshots: Snapshots;
  /** Stops and closes all parts. */
  readonly close: () => Promise<void>;
}

const flushPauseMs = 500;
const progressIntervalMs = 200;

export class OpenVolume implements Volume {
  readonly id: string;
  readonly readOnly: boolean;
  readonly pins: PinKeeper;
  readonly accessTimes: AccessTimeStore;
  readonly past: Past;
  readonly snapshots: Snapshots;
  readonly #works: VolumeWorks;
  #closing: Promise<void> | undefined;

  /** For `volume-opening.ts`. */
  constructor(works: VolumeWorks) {
    const { options } = works.parts;
    this.#works = works;
    this.id = toHex(options.volumeId);
    this.readOnly = options.readOnly;
    this.pins = works.pins;
    this.accessTimes = works.accessTimes;
    this.past = works.past;
    this.snapshots = works.snapshots;
  }

  // Queries and operations.

  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    return remedied(() => this.#works.transactions.read(query));
  }

  apply(operation: Operation): MaybePromise<void> {
    return remedied(() => this.#works.transactions.apply(operation, this));
  }

  transact<T>(plan: Plan<T>): MaybePromise<T> {
    return remedied(() => this.#works.transactions.transact(plan, this));
  }

  inode(view: ReadView, ino: Ino): Inode | undefined {
    const stored = readInode(view, ino);
    return stored && this.#works.writer.effective(ino, stored);
  }

  pathOf(ino: Ino, hint?: { readonly parent: Ino; readonly name: ByteString }): Promise<ByteString | undefined> {
    return pathOf((query) => this.read(query), ino, hint);
  }

  allocateIno(): Ino {
    // A device that may not write has no numbers to give.
    this.#works.transactions.requireWritable();
    return this.#works.transactions.allocateIno();
  }

  get nextIno(): Ino | undefined {
    return this.#works.transactions.nextIno;
  }

  nextStamp(): ContentStamp {
    return this.#works.transactions.nextStamp();
  }

  now(): Timespec {
    return this.#works.parts.options.clock.now();
  }

  roughSec(): number {
    const { clock } = this.#works.parts.options;
    return clock.roughSec?.() ?? clock.now().sec;
  }

  // Content.

  readContent(ino: Ino, offset: number, size: number, signal?: AbortSignal): MaybePromise<readonly Uint8Array[]> {
    const { patience } = this.#works;
    return remedied(() => {
      const pieces = this.#readPieces(ino, offset, size);
      return pieces instanceof Promise
        ? patience.wait(
            pieces.catch((error: unknown) => this.#readAgain(error, () => this.#readPieces(ino, offset, size))),
            signal,
          )
        : pieces;
    });
  }

  #readPieces(ino: Ino, offset: number, size: number): MaybePromise<readonly Uint8Array[]> {
    return andThen(this.#works.reader.read(ino, offset, size), (found) => {
      if (!found) throw new OperationError('ESTALE', 'the file is gone');
      return found;
    });
  }

  /** Another device may have given the content another place, and deleted the pack, in commits not taken in yet. */
  async #readAgain<T>(error: unknown, read: () => MaybePromise<T>): Promise<T> {
    if (!(error instanceof PackError) || error.code !== 'MISSING') throw error;
    const { committer, parts } = this.#works;
    const before = parts.log.head.sequence;
    await committer.poll();
    if (parts.log.head.sequence === before) throw error;
    return read();
  }

  writeRoom(): Promise<void> | undefined {
    return this.#works.queue.room();
  }

  writeContent(ino: Ino, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void> {
    const { transactions, writer, frontEnds } = this.#works;
    return remedied(() => {
      transactions.requireWritable();
      const announcement = frontEnds.announce(this);
      const inode = transactions.read((view) => {
        announcement?.awaitCollected([ino]);
        return readInode(view, ino);
      });
      const written = andThen(inode, (found) => {
        const room = writer.write(ino, requireRegular(found), offset, data, time);
        announcement?.changed(changedContent([ino]));
        return room;
      });
      // Nothing was collected if it completed at once.
      return announcement && inode instanceof Promise ? Promise.resolve(written).finally(() => announcement.done()) : written;
    });
  }

  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined> {
    return remedied(() => this.#works.reader.seek(ino, offset, what));
  }

  noteWriteTime(ino: Ino, time: Timespec): boolean {
    const { transactions, writer, frontEnds } = this.#works;
    return remedied(() => {
      transactions.requireWritable();
      const isNoted = writer.noteTime(ino, time);
      if (isNoted) frontEnds.announce(this)?.changed(changedAttributes(ino));
      return isNoted;
    });
  }

  sealContent(ino: Ino): MaybePromise<void> {
    const { writer } = this.#works;
    return remedied(() => (writer.get(ino) ? writer.seal(ino) : undefined));
  }

  persistContent(ino: Ino): MaybePromise<void> {
    const { writer } = this.#works;
    return remedied(() => {
      const persisted = writer.persist(ino);
      // Content that is being sealed now is uploaded anyway.
      if (!(persisted instanceof Promise)) writer.closed(ino);
      return persisted;
    });
  }

  // Durability.

  sync(ino?: Ino): Promise<void> {
    const { writer, parts } = this.#works;
    return remedied(() => syncToDisk(parts, writer, ino));
  }

  flush({ onProgress, signal }: { readonly onProgress?: (progress: FlushProgress) => void; readonly signal?: AbortSignal } = {}): Promise<void> {
    const { staging } = this.#works.parts;
    const before = staging.uploadedBytes;
    const report = (): void => onProgress?.({ ...this.pending(), uploadedBytes: staging.uploadedBytes - before });
    return remedied(async () => {
      const timer = onProgress ? setInterval(report, progressIntervalMs) : undefined;
      try {
        // An upload under way may hold the lock, and the limit of this flush must not abort it.
        if (!this.readOnly) await unlessAborted(this.#flush(signal), signal);
        report();
      } finally {
        clearInterval(timer);
      }
    });
  }

  /** Retries after a lost connection, for as long as the drive is not offline. */
  async #flush(signal: AbortSignal | undefined): Promise<void> {
    const { committer, transactions, parts } = this.#works;
    const { reachability, clock } = parts.options;
    for (;;) {
      try {
        return await committer.flush(signal);
      } catch (error) {
        const isPassing = error instanceof StoreError && error.code === 'UNAVAILABLE' && error.retryAfterMs !== Number.POSITIVE_INFINITY;
        if (!isPassing || !reachability || this.isOffline || signal?.aborted || transactions.isClosed) throw error;
        await clock.sleep(flushPauseMs, signal);
      }
    }
  }

  /** Gives space back that nothing retained needs: one pass. Rejects with VolumeError. */
  collect(options: CollectOptions): Promise<CollectReport> {
    return remedied(async () => {
      this.#works.transactions.requireWritable();
      return this.#works.collector.run(options);
    });
  }

  /** What the collector's counts have that a count of the whole tree has not, or the other way round. */
  recount(signal?: AbortSignal): Promise<readonly string[]> {
    return remedied(() => this.#works.collector.recount(signal));
  }

  /** Takes in the commits that other devices have made so far. */
  refresh(): Promise<void> {
    return remedied(() => this.#works.committer.poll());
  }

  /** Ends without flushing: pending operations stay in the journal until the next start. */
  close(): Promise<void> {
    this.#closing ??= this.#works.close();
    return this.#closing;
  }

  // Status.

  get isOffline(): boolean {
    return this.#works.parts.options.reachability?.offlineSinceMs !== undefined;
  }

  get hasStopped(): boolean {
    return this.#works.committer.hasStopped;
  }

  offlineRoomBytes(): number | undefined {
    return this.isOffline ? this.#works.queue.roomBytes : undefined;
  }

  statistics(): VolumeStatistics {
    return this.#works.status.statistics();
  }

  pending(): PendingWork {
    return this.#works.status.pending();
  }

  fileStatus(ino: Ino): Promise<Pinned<FileStatus> | undefined> {
    return remedied(() => this.#works.status.fileStatus(ino));
  }

  subtreeStatus(ino: Ino, signal?: AbortSignal): Promise<Pinned<SubtreeStatus> | undefined> {
    return remedied(() => this.#works.status.subtreeStatus(ino, signal));
  }

  /** Facts for `status`. */
  details(): VolumeFacts {
    return this.#works.status.details();
  }

  // Front ends.

  frontEnd(): OpenVolume {
    return new OpenVolume(this.#works);
  }

  onChange(listener: ChangeListener): void {
    this.#works.frontEnds.listen(this, listener);
  }

  get orphans(): Set<Ino> {
    return this.#works.frontEnds.orphans;
  }

  isUsedElsewhere(ino: Ino): boolean {
    return this.#works.frontEnds.isUsed(ino, this);
  }
}

/** Throws OperationError. */
function requireRegular(inode: Inode | undefined): Inode {
  if (!inode) throw new OperationError('ESTALE', 'the file is gone');
  if (isDirectory(inode)) throw new OperationError('EISDIR', 'a directory has no content');
  if (!isRegular(inode)) throw new OperationError('EINVAL', 'only regular files have content');
  return inode;
}

/** Rejects with the signal's reason as soon as it is aborted; the work continues unobserved. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
  });
}
