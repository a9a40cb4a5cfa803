/**
 * An open volume: puts the parts of this folder together, and is what the filesystem above talks to (`volume.ts`).
 * Queries and operations run here, synchronously over the layers (doc/concurrency.md, "One instant"); committing is `committer.ts`,
 * content `content-writer.ts` and `content-reader.ts`, finding the parts in the state in which the last life left them `volume-parts.ts`.
 */
import type { ByteString } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { PageFault } from '../base/page-fault.js';
import { Journal } from '../journal/journal.js';
import { type ContentStamp, type Inode, isDirectory, isRegular, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type Ino, makeIno } from '../meta/key.js';
import { hasAncestor, pathOf } from '../operation/inode-path.js';
import { readInode } from '../operation/inode-view.js';
import { type Operation, OperationError } from '../operation/operation.js';
import { execute, recordBase } from '../operation/operation-execute.js';
import { RebaseState } from '../operation/rebase-rules.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { ReadView } from '../operation/view.js';
import { StoreError } from '../store/object-store.js';
import { type AccessTimeStore, accessTimeStore } from './access-time-file.js';
import { Committer, type Counters, defaultFoldBounds } from './committer.js';
import { ContentReader } from './content-reader.js';
import { ContentWriter, defaultContentLimits } from './content-writer.js';
import { type FileState, type FileStatus, presenceOf, StandingIndex, type SubtreeStatus, subtreeStatus } from './file-status.js';
import { encodeDirtyEntry, encodeOperationEntry } from './journal-entry.js';
import { localPace, remotePace } from './log-watch.js';
import { Patience } from './patience.js';
import { PinKeeper } from './pin-keeper.js';
import { remedyOf } from './remedy.js';
import { type Remembered, replayContent, replayOperations } from './replay.js';
import { Staleness } from './staleness.js';
import { TreeKeeper } from './tree-keeper.js';
import { UploadQueue } from './upload-queue.js';
import type { FlushProgress, PendingWork, RemoteChangeListener, Volume } from './volume.js';
import { VolumeError } from './volume-error.js';
import { type VolumeFacts, volumeFacts } from './volume-facts.js';
import { type OpenOptions, openParts, type VolumeParts } from './volume-parts.js';
import { VolumeState } from './volume-state.js';

const defaultCommitDelayMs = 1000;
const defaultHeartbeatMs = 8 * 3_600_000;
/** The journal keeps a segment or two also when nothing waits. */
const journalBytesFree = 32 * 1024 * 1024;
/** Left on the disk for the journal when staging has taken the rest. */
const diskReserveBytes = 64 * 1024 * 1024;
/** Of the cache, for the tree that is fetched ahead; and never more than the second. */
const treeShare = 0.25;
const treeBytesMax = 512 * 1024 * 1024;
const patienceDefaultMs = 30_000;
const flushPauseMs = 500;
/** How often the cache looks whether others need its space. */
const relieveIntervalMs = 15_000;
const readAheadLocal = 2 * 1024 * 1024;
const readAheadRemote = 16 * 1024 * 1024;
/** Of closed files, towards a store with a network in between. */
const sealAheadBytes = 1024 * 1024;

/** What is waited for is this machine's, not the store's. */
class Turn extends PageFault {}

export class OpenVolume implements Volume {
  readonly id: string;
  readonly readOnly: boolean;
  readonly #parts: VolumeParts;
  readonly #state: VolumeState;
  readonly #journal: Journal;
  readonly #counters: Counters;
  readonly #writer: ContentWriter;
  readonly #reader: ContentReader;
  readonly #committer: Committer;
  readonly #staleness: Staleness;
  readonly #queue: UploadQueue;
  readonly #keeper: TreeKeeper | undefined;
  readonly pins: PinKeeper;
  readonly accessTimes: AccessTimeStore;
  readonly #standings = new StandingIndex();
  readonly #ends: (() => void)[] = [];
  /** Since when the committer has been in trouble and nothing was uploaded. */
  #stuck: { readonly sinceMs: number; readonly uploadedBytes: number } | undefined;
  readonly #deviceIndex: number;
  readonly #patience: Patience;
  #listener: RemoteChangeListener | undefined;
  #closed = false;

  /** Opens the volume in the state that this device knows, with everything that its journal holds. Throws CommitError, StoreError, JournalError, PackError. */
  static async open(options: OpenOptions): Promise<OpenVolume> {
    const { parts, remembered, arrived } = await openParts(options);
    const volume = new OpenVolume(parts);
    await volume.#start(remembered, arrived);
    return volume;
  }

  private constructor(parts: VolumeParts) {
    const { options, log, state, journal, counters, staging } = parts;
    this.#parts = parts;
    this.id = toHex(options.volumeId);
    this.readOnly = options.readOnly;
    this.#state = state;
    this.#journal = journal;
    this.#counters = counters;
    this.#deviceIndex = log.deviceIndex;
    this.#patience = new Patience(options.clock, options.patienceMs);
    this.#writer = new ContentWriter(
      {
        inodeOf: (ino) => this.read((view) => readInode(view, ino)),
        apply: (operation) => this.#transact(() => ({ operation, result: undefined }), true),
        nextStamp: () => this.nextStamp(),
        appendRun: (chunks) => staging.appendRun(chunks),
        runRoom: () => staging.runRoom(parts.chunkSize),
        journalDirty: (ino, segment, mtime) => {
          journal.append(encodeDirtyEntry({ ino, version: segment.version, offset: segment.offset, mtime, bytes: segment.bytes }));
        },
        sealedAhead: () => staging.goAhead(),
        becameDirty: () => this.#committer.changed(),
      },
      { ...defaultContentLimits, ...(options.store.local ? {} : { sealAheadBytes }), chunkSize: parts.chunkSize, ...options.contentLimits },
      options.clock,
    );
    this.#reader = new ContentReader((query) => this.read(query), this.#writer, parts.packs, options.store.local ? readAheadLocal : readAheadRemote);
    const defaultPace = options.store.local ? localPace : remotePace;
    const { heartbeatMs = defaultHeartbeatMs } = options;
    this.#staleness = new Staleness(log, options.clock, options.logger, options.maxStalenessMs);
    this.#committer = new Committer({
      state,
      log,
      journal,
      staging,
      writer: this.#writer,
      tree: parts.tree,
      counters,
      clock: options.clock,
      logger: options.logger,
      readOnly: options.readOnly,
      commitDelayMs: options.commitDelayMs ?? defaultCommitDelayMs,
      store: options.store,
      pace: { ...defaultPace, busyMs: options.pollIntervalMs ?? defaultPace.busyMs },
      heartbeatMs: heartbeatMs === 0 ? Number.POSITIVE_INFINITY : heartbeatMs,
      foldBounds: options.foldBounds ?? defaultFoldBounds,
      isAway: () => options.reachability?.offlineSinceMs !== undefined,
      rebaseContext: () => ({
        deviceIndex: this.#deviceIndex,
        deviceName: options.deviceName,
        get oldView() {
          return state.view;
        },
        allocateIno: () => this.allocateIno(),
        state: new RebaseState(),
        conflicts: [],
      }),
      listener: () => this.#listener,
      onRound: () => this.#staleness.check(),
    });
    const { cache, packs, queueBytesMax } = parts;
    this.#queue = new UploadQueue({
      bytes: () => this.#writer.bytes + staging.bytes + staging.landedBytes + Math.max(0, journal.bytes - journalBytesFree),
      bytesMax: queueBytesMax,
      stuckSinceMs: () => this.#stuckSinceMs(),
      patienceMs: options.patienceMs ?? patienceDefaultMs,
      clock: options.clock,
      freeBytes: async () => {
        await cache?.relieve();
        return (await options.disk.space(options.stateDirectory)).free;
      },
      reserveBytes: diskReserveBytes,
    });
    if (cache) {
      this.#keeper = new TreeKeeper({
        packs,
        root: () => state.root,
        bytesMax: Math.min(treeBytesMax, cache.bytesMax * treeShare),
        isAway: () => options.reachability?.offlineSinceMs !== undefined,
        clock: options.clock,
        logger: options.logger,
      });
      const timer = setInterval(() => void cache.relieve(), relieveIntervalMs).unref();
      this.#ends.push(() => clearInterval(timer));
    }
    const place = { disk: options.disk, stateDirectory: options.stateDirectory, key: parts.keys.device };
    this.accessTimes = accessTimeStore(place);
    this.pins = new PinKeeper({
      read: (query) => this.read(query),
      packs,
      cache,
      place,
      version: () => log.head.sequence,
      isAway: () => options.reachability?.offlineSinceMs !== undefined,
      clock: options.clock,
      logger: options.logger,
    });
    const { reachability } = options;
    if (reachability) {
      this.#ends.push(
        reachability.onChange((isOffline) => {
          if (!isOffline) this.#committer.retrySoon();
        }),
      );
    }
  }

  #stuckSinceMs(): number | undefined {
    const { options, staging } = this.#parts;
    const offlineSinceMs = options.reachability?.offlineSinceMs;
    if (offlineSinceMs !== undefined) return offlineSinceMs;
    if (this.#committer.failure) return Number.NEGATIVE_INFINITY;
    const { uploadedBytes } = staging;
    if (this.#committer.trouble === undefined) this.#stuck = undefined;
    else if (this.#stuck?.uploadedBytes !== uploadedBytes) this.#stuck = { sinceMs: options.clock.monotonicMs(), uploadedBytes };
    return this.#stuck?.sinceMs;
  }

  // Queries and operations.

  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    this.#committer.used();
    try {
      return query(this.#state.view);
    } catch (error) {
      if (error instanceof PageFault) return this.#readAgain(query, error);
      throw remedyOf(error);
    }
  }

  async #readAgain<T>(query: (view: ReadView) => T, first: PageFault): Promise<T> {
    // Held until it has ended: otherwise what needs more pages than the cache keeps would never end.
    const held: unknown[] = [];
    for (let fault = first; ; ) {
      held.push(await this.#load(fault));
      try {
        return query(this.#state.view);
      } catch (error) {
        if (!(error instanceof PageFault)) throw remedyOf(error);
        fault = error;
      }
    }
  }

  apply(operation: Operation): MaybePromise<void> {
    return this.#transact(() => ({ operation, result: undefined }), false);
  }

  transact<T>(plan: (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T }): MaybePromise<T> {
    return this.#transact(plan, false);
  }

  /** `sealing`: the operation holds sealed content, which must not wait for itself. */
  #transact<T>(plan: (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T }, sealing: boolean): MaybePromise<T> {
    try {
      return this.#attempt(plan, sealing);
    } catch (error) {
      if (error instanceof PageFault) return this.#transactAgain(plan, sealing, error);
      throw remedyOf(error);
    }
  }

  async #transactAgain<T>(
    plan: (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T },
    sealing: boolean,
    first: PageFault,
  ): Promise<T> {
    // Held until it has ended: otherwise what needs more pages than the cache keeps would never end.
    const held: unknown[] = [];
    for (let fault = first; ; ) {
      held.push(await this.#load(fault));
      try {
        return this.#attempt(plan, sealing);
      } catch (error) {
        if (!(error instanceof PageFault)) throw remedyOf(error);
        fault = error;
      }
    }
  }

  #attempt<T>(plan: (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T }, sealing: boolean): T {
    const { operation, result } = plan(this.#state.view);
    if (!operation) return result;
    this.#requireWritable(sealing);
    if (!sealing) this.#awaitTurn(operation);
    const recorded = recordBase(this.#state.view, operation);
    const transaction = this.#state.transaction();
    const delta = execute(transaction, recorded, this.#deviceIndex);
    if (transaction.changes.count === 0) return result;
    const serial = this.#counters.serial + 1;
    // With a journal that failed, what was accepted before can still be sealed and brought into the store.
    if (!sealing || !this.#journal.failure) this.#appendToJournal(serial, recorded);
    this.#counters.serial = serial;
    this.#state.apply({ serial, operation: recorded }, transaction.changes, delta);
    this.#writer.applied(recorded);
    this.#committer.changed();
    return result;
  }

  #appendToJournal(serial: number, operation: Operation): void {
    try {
      this.#journal.append(encodeOperationEntry(serial, operation));
    } catch (error) {
      throw remedyOf(error);
    }
  }

  /** Throws a PageFault whose load is what the operation must wait for. */
  #awaitTurn(operation: Operation): void {
    // What frees space or only lets go must never wait for space.
    const room = operation.type === 'reclaim' ? undefined : this.#committer.room();
    // The kernel takes writes that we must refuse later, when nobody may look any more: what leads up to them is refused instead.
    const isBeginning =
      (operation.type === 'create' && (operation.mode & S_IFMT) === S_IFREG) || (operation.type === 'setattr' && operation.size !== undefined);
    if (isBeginning && this.#queue.isHopeless) throw new VolumeError('FULL', 'too much waits for the store, and it takes nothing');
    if (room) throw new Turn(() => this.#queue.patiently(room));
    switch (operation.type) {
      case 'setattr': {
        const busy = operation.size === undefined ? undefined : this.#writer.settled(operation.ino);
        if (busy) throw new Turn(() => busy);
        break;
      }
      case 'fallocate':
        this.#awaitSealed(operation.ino);
        break;
      case 'clone':
        this.#awaitSealed(operation.from);
        this.#awaitSealed(operation.to);
        break;
      default:
    }
  }

  #awaitSealed(ino: Ino): void {
    if (this.#writer.get(ino)) throw new Turn(() => this.#writer.seal(ino));
  }

  /** What was loaded; the caller keeps it until the read that needs it has ended. */
  async #load(fault: PageFault): Promise<unknown> {
    try {
      return await (fault instanceof Turn ? fault.load() : this.#patience.wait(fault.load()));
    } catch (error) {
      throw remedyOf(error);
    }
  }

  #requireWritable(sealing = false): void {
    if (this.readOnly) throw new VolumeError('READ_ONLY', 'the volume is mounted read-only');
    if (this.#committer.failure) throw this.#committer.failure;
    const cause = this.#journal.failure;
    if (cause && !sealing) throw new VolumeError('READ_ONLY', 'the local disk failed: the volume is read-only until it is opened again', { cause });
    if (this.#closed) throw new VolumeError('CLOSED', 'the volume is being unmounted');
  }

  inode(view: ReadView, ino: Ino): Inode | undefined {
    const stored = readInode(view, ino);
    return stored && this.#writer.effective(ino, stored);
  }

  allocateIno(): Ino {
    return makeIno(this.#deviceIndex, this.#counters.nextIno++);
  }

  nextStamp(): ContentStamp {
    return { deviceIndex: this.#deviceIndex, counter: ++this.#counters.serial };
  }

  now(): Timespec {
    return this.#parts.options.clock.now();
  }

  // Content.

  readContent(ino: Ino, offset: number, size: number, signal?: AbortSignal): MaybePromise<readonly Uint8Array[]> {
    const pieces = andThen(this.#reader.read(ino, offset, size), (found) => {
      if (!found) throw new OperationError('ESTALE', 'the file is gone');
      return found;
    });
    return pieces instanceof Promise ? this.#patience.wait(pieces, signal).catch((error: unknown) => Promise.reject(remedyOf(error))) : pieces;
  }

  writeRoom(): Promise<void> | undefined {
    return this.#queue.room();
  }

  writeContent(ino: Ino, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void> {
    this.#requireWritable();
    const room = this.writeRoom();
    if (!room) return this.#writeNow(ino, offset, data, time);
    // The bytes are the caller's and change meanwhile.
    const kept = new Uint8Array(data);
    return room.then(() => {
      this.#requireWritable();
      return this.#writeNow(ino, offset, kept, time);
    });
  }

  #writeNow(ino: Ino, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void> {
    const inode = this.read((view) => readInode(view, ino));
    // The bytes are the caller's and may change while a page is loaded.
    if (!(inode instanceof Promise)) return this.#write(ino, inode, offset, data, time);
    const copy = new Uint8Array(data);
    return inode.then((loaded) => this.#write(ino, loaded, offset, copy, time));
  }

  #write(ino: Ino, inode: Inode | undefined, offset: number, data: Uint8Array, time: Timespec | undefined): MaybePromise<void> {
    if (!inode) throw new OperationError('ESTALE', 'the file is gone');
    if (isDirectory(inode)) throw new OperationError('EISDIR', 'a directory has no content');
    if (!isRegular(inode)) throw new OperationError('EINVAL', 'only regular files have content');
    const written = this.#writer.write(ino, inode, offset, data, time);
    return written instanceof Promise ? written.catch((error: unknown) => Promise.reject(remedyOf(error))) : written;
  }

  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined> {
    return this.#reader.seek(ino, offset, what);
  }

  noteWriteTime(ino: Ino, time: Timespec): boolean {
    this.#requireWritable();
    return this.#writer.noteTime(ino, time);
  }

  sealContent(ino: Ino): MaybePromise<void> {
    return this.#writer.get(ino) ? this.#remedied(this.#writer.seal(ino)) : undefined;
  }

  persistContent(ino: Ino): MaybePromise<void> {
    try {
      const persisted = this.#writer.persist(ino);
      // What is being sealed now goes up by itself.
      if (!(persisted instanceof Promise)) this.#writer.closed(ino);
      return persisted instanceof Promise ? this.#remedied(persisted) : undefined;
    } catch (error) {
      throw remedyOf(error);
    }
  }

  async sync(ino?: Ino): Promise<void> {
    try {
      if (ino !== undefined) await this.#writer.persist(ino);
      else await this.#writer.persistAll();
      // Packs first: a journal entry that survives must not refer to content that did not.
      await this.#parts.staging.sync();
      await this.#journal.sync();
    } catch (error) {
      throw remedyOf(error);
    }
  }

  async flush(options: { readonly onProgress?: (progress: FlushProgress) => void; readonly signal?: AbortSignal } = {}): Promise<void> {
    const { onProgress, signal } = options;
    const { staging } = this.#parts;
    const before = staging.uploadedBytes;
    const report = (): void => onProgress?.({ ...this.pending(), uploadedBytes: staging.uploadedBytes - before });
    const timer = onProgress ? setInterval(report, 200) : undefined;
    try {
      // Whoever is in the middle of an upload has the lock: the limit of this flush is not theirs.
      if (!this.readOnly) await unlessAborted(this.#flush(signal), signal);
      report();
    } catch (error) {
      throw remedyOf(error);
    } finally {
      clearInterval(timer);
    }
  }

  /** What a lost connection has broken is tried again, for as long as the store is not known to be away. */
  async #flush(signal: AbortSignal | undefined): Promise<void> {
    const { reachability, clock } = this.#parts.options;
    for (;;) {
      try {
        return await this.#committer.flush(signal);
      } catch (error) {
        const isPassing = error instanceof StoreError && error.code === 'UNAVAILABLE' && error.retryAfterMs !== Number.POSITIVE_INFINITY;
        if (!isPassing || !reachability || reachability.offlineSinceMs !== undefined || signal?.aborted || this.#closed) throw error;
        await clock.sleep(flushPauseMs, signal);
      }
    }
  }

  /** Takes in what other devices have committed until now. */
  async refresh(): Promise<void> {
    try {
      await this.#committer.poll();
    } catch (error) {
      throw remedyOf(error);
    }
  }

  // What it tells.

  statistics(): VolumeStatistics {
    const { files, bytes } = this.#state.statistics;
    return { files: Math.max(0, files), bytes: Math.max(0, bytes + this.#writer.bytes) };
  }

  pending(): PendingWork {
    const files = new Set<Ino>(this.#writer.inos());
    for (const { operation } of this.#state.operations) if ('ino' in operation) files.add(operation.ino);
    return {
      operations: this.#state.operationCount,
      files: files.size,
      dirtyBytes: this.#writer.bytes,
      uploadBytes: this.#parts.staging.bytes,
    };
  }

  async fileStatus(ino: Ino): Promise<(FileStatus & { readonly isPinned: boolean }) | undefined> {
    const inode = await this.read((view) => readInode(view, ino));
    if (!inode) return undefined;
    const presence = await presenceOf((query) => this.read(query), this.#parts.packs, ino, inode);
    return { state: this.#stateOf(ino), ...presence, isPinned: await this.#isPinned(ino) };
  }

  async subtreeStatus(ino: Ino, signal?: AbortSignal): Promise<(SubtreeStatus & { readonly isPinned: boolean }) | undefined> {
    const found = await subtreeStatus(
      (query) => this.read(query),
      this.#parts.packs,
      ino,
      (one) => this.#stateOf(one),
      signal,
    );
    return found && { ...found, isPinned: await this.#isPinned(ino) };
  }

  #stateOf(ino: Ino): FileState {
    const { waitingOperations, flyingOperations } = this.#state;
    const isDirty = (this.#writer.get(ino)?.bytes ?? 0) > 0;
    return this.#standings.stateOf(ino, waitingOperations, flyingOperations, isDirty);
  }

  /** It, or a folder above it. For a file of several names the folder that it came to last counts. */
  #isPinned(ino: Ino): MaybePromise<boolean> {
    return this.read((view) => hasAncestor(view, ino, (at) => this.pins.has(at)));
  }

  pathOf(ino: Ino, hint?: { readonly parent: Ino; readonly name: ByteString }): Promise<ByteString | undefined> {
    return pathOf((query) => this.read(query), ino, hint);
  }

  get isOffline(): boolean {
    return this.#parts.options.reachability?.offlineSinceMs !== undefined;
  }

  offlineRoomBytes(): number | undefined {
    return this.isOffline ? this.#queue.roomBytes : undefined;
  }

  /** For `status`. */
  details(): VolumeFacts {
    const { log, cache, options } = this.#parts;
    return volumeFacts({
      id: this.id,
      statistics: this.statistics(),
      log,
      options,
      committer: this.#committer,
      staleness: this.#staleness,
      queue: this.#queue,
      cache,
      keeper: this.#keeper,
      journal: this.#journal,
    });
  }

  onRemoteChange(listener: RemoteChangeListener): void {
    this.#listener = listener;
  }

  /** Ends without flushing: what is pending stays in the journal for the next time. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#ends) end();
    await Promise.all([this.#keeper?.stop(), this.pins.stop()]);
    await this.#committer.stop();
    if (!this.readOnly && !this.#committer.failure) await this.#sealForGood();
    const { staging, log, cache, keys } = this.#parts;
    await staging.close();
    await this.#journal.close();
    await log.close();
    await cache?.close();
    keys.root.wipe();
  }

  async #sealForGood(): Promise<void> {
    try {
      await this.#writer.persistAll();
      await this.#parts.staging.sync();
      await this.#journal.sync();
    } catch (error) {
      this.#parts.options.logger.error('closing: not everything could be saved', { reason: describeError(error) });
    }
  }

  #remedied(work: Promise<void>): Promise<void> {
    return work.catch((error: unknown) => Promise.reject(remedyOf(error)));
  }

  // Opening.

  async #start(remembered: Remembered, arrived: Parameters<Committer['start']>[0]): Promise<void> {
    const { state, options, log, journal } = this.#parts;
    const replayed = await replayOperations(state, remembered.operations, this.#deviceIndex, this.#counters);
    // What is journalled from here on stands on this state, even if the log has gone on by the next start.
    if (!remembered.base && !options.readOnly) this.#committer.journalBase();
    // After the journal had failed, what was dirty was brought into the store without it: all of it, in commits that are newer than any entry.
    const isOutdated = log.own.operationSerial > remembered.serialMax;
    if (!isOutdated) {
      await replayContent(journal, remembered.lost, {
        restore: async (entry) => {
          const inode = await this.read((view) => readInode(view, entry.ino));
          if (inode) this.#writer.restore(entry.ino, inode.stamp, entry.offset, entry.bytes, entry.version, entry.mtime);
        },
        applied: (operation) => this.#writer.applied(operation),
      });
    }
    if (replayed > 0 || this.#writer.fileCount > 0) {
      options.logger.info('journal replayed', { operations: replayed, files: this.#writer.fileCount });
      this.#committer.changed();
    }
    await this.#committer.start(arrived);
    this.#keeper?.start();
    await this.pins.start();
  }
}

/** Rejects with the signal's reason as soon as it is aborted; the work is then left to itself. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
  });
}
