/**
 * Opens a volume: assembles what runs in it from the parts that `volume-parts.ts` finds, replays the journal, and
 * starts the background work. If opening fails, everything opened so far is closed (doc/architecture.md,
 * "Composition").
 */
import { ClosingStack } from '../base/closing-stack.js';
import { describeError } from '../base/errors.js';
import { makeIno, type TreeKey } from '../meta/key.js';
import { readInode } from '../operation/inode-view.js';
import { type RebaseContext, RebaseState } from '../operation/rebase-rules.js';
import type { ReadView } from '../operation/view.js';
import { accessTimeStore } from './access-time-file.js';
import { Collector } from './collector.js';
import { Committer, foldEntriesMax } from './committer.js';
import { ContentReader } from './content-reader.js';
import { ContentWriter, defaultContentLimits } from './content-writer.js';
import { FrontEnds } from './front-ends.js';
import { encodeDirtyEntry } from './journal-entry.js';
import { localPace, remotePace } from './log-watch.js';
import { givesUp, runWithoutOthers } from './lost-work.js';
import { OpenVolume } from './open-volume.js';
import { Past } from './past.js';
import { PastStates } from './past-states.js';
import { Patience } from './patience.js';
import { Periodic } from './periodic.js';
import { PinKeeper } from './pin-keeper.js';
import { remedied } from './remedy.js';
import { replayContent, replayOperations } from './replay.js';
import { keepSnapshots, snapshotIntervalMs } from './snapshot-keeper.js';
import { Snapshots } from './snapshots.js';
import { Staleness } from './staleness.js';
import { Stall } from './stall.js';
import { Transactions } from './transactions.js';
import { TreeKeeper } from './tree-keeper.js';
import { UploadQueue } from './upload-queue.js';
import { graceDefaultMs, type OpenedParts, type OpenOptions, openParts, syncToDisk, type VolumeParts } from './volume-parts.js';
import { VolumeStatus } from './volume-status.js';

const defaultCommitDelayMs = 1000;
/** Not at once: a drive that was just mounted is in use. */
const collectFirstMs = 3_600_000;
const collectIntervalMs = 6 * 3_600_000;
/** Before all others: the pages to it are written again for a checkpoint that must be new. */
const firstKey = '' as TreeKey;
const defaultHeartbeatMs = 8 * 3_600_000;
/** The journal keeps a segment or two even when nothing waits. */
const journalBytesFree = 32 * 1024 * 1024;
/** Left on the disk for the journal when staging has taken the rest. */
const diskReserveBytes = 64 * 1024 * 1024;
/** The tree that is fetched ahead takes at most this share of the cache, and at most this many bytes. */
const treeShare = 0.25;
const treeBytesMax = 512 * 1024 * 1024;
const patienceDefaultMs = 30_000;
/** How often the cache checks whether others need its space. */
const relieveIntervalMs = 15_000;
/** How often past states that nobody uses are looked for. */
const dropIdleIntervalMs = 60_000;
const readAheadLocal = 2 * 1024 * 1024;
const readAheadRemote = 16 * 1024 * 1024;
/** Closed files are sealed ahead only if the store is across a network. */
const sealAheadBytes = 1024 * 1024;

/**
 * Opens the volume in the state that this device knows, with everything that its journal holds.
 * Throws VolumeError, CommitError, StoreError, JournalError, PackError, disk errors.
 */
export async function openVolume(options: OpenOptions): Promise<OpenVolume> {
  const opened = new ClosingStack();
  try {
    const found = await openParts(options, opened);
    return await startVolume(found, opened);
  } catch (error) {
    await opened.close().catch((cause: unknown) => options.logger.warn('not everything could be closed', { reason: describeError(cause) }));
    throw error;
  }
}

async function startVolume({ parts, remembered, operations, arrived, lostWork }: OpenedParts, opened: ClosingStack): Promise<OpenVolume> {
  const { options, log, state, journal, counters, staging, cache, packs, memory } = parts;
  const { store, clock, logger, reachability, readOnly } = options;
  const isOffline = (): boolean => reachability?.offlineSinceMs !== undefined;
  const patience = new Patience(clock, options.patienceMs);
  const frontEnds = new FrontEnds(logger);
  const writer: ContentWriter = new ContentWriter(
    {
      inodeOf: (ino) => transactions.read((view) => readInode(view, ino)),
      apply: (operation) => transactions.applySealed(operation),
      nextStamp: () => transactions.nextStamp(),
      appendRun: (chunks, owner) => staging.appendRun(chunks, owner),
      runRoom: () => staging.runRoom(parts.chunkSize),
      journalDirty: (ino, segment, mtime) => {
        journal.append(encodeDirtyEntry({ ino, version: segment.version, offset: segment.offset, mtime, bytes: segment.bytes }));
      },
      sealedAhead: () => staging.goAhead(),
      becameDirty: () => committer.changed(),
    },
    {
      ...defaultContentLimits,
      ...(store.local ? {} : { sealAheadBytes }),
      chunkSize: parts.chunkSize,
      dirtyBytesMax: memory.shares.dirty,
      ...options.contentLimits,
    },
    clock,
  );
  const staleness = new Staleness(log, clock, logger, options.maxStalenessMs);
  const defaultPace = store.local ? localPace : remotePace;
  const { heartbeatMs = defaultHeartbeatMs } = options;
  const rebaseContext = (deviceIndex: number, oldView: () => ReadView): RebaseContext => ({
    deviceIndex,
    deviceName: options.deviceName,
    get oldView() {
      return oldView();
    },
    allocateIno: () => makeIno(deviceIndex, counters.nextIno++),
    state: new RebaseState(),
    conflicts: [],
  });
  const committer: Committer = new Committer({
    state,
    log,
    journal,
    staging,
    writer,
    tree: parts.tree,
    packs,
    counters,
    clock,
    logger,
    readOnly,
    commitDelayMs: options.commitDelayMs ?? defaultCommitDelayMs,
    store,
    pace: { ...defaultPace, busyMs: options.pollIntervalMs ?? defaultPace.busyMs },
    heartbeatMs: heartbeatMs === 0 ? Number.POSITIVE_INFINITY : heartbeatMs,
    foldBounds: options.foldBounds ?? { entries: foldEntriesMax, bytes: memory.shares.overlay },
    pendingBytesMax: memory.shares.operations,
    graceMs: options.graceMs ?? graceDefaultMs,
    isOffline,
    rebaseContext,
    renewed: (numbers) => {
      transactions.renewed(numbers);
      frontEnds.renumber(numbers);
    },
    frontEnds,
    onRound: () => staleness.check(),
  });
  opened.push(async () => {
    await committer.stop();
    if (!readOnly && !committer.failure) await saveForNextTime(parts, writer);
  });
  const queue = new UploadQueue({
    bytes: () => writer.bytes + staging.bytes + staging.landedBytes + Math.max(0, journal.bytes - journalBytesFree),
    bytesMax: parts.queueBytesMax,
    stall: new Stall({ reachability, committer, staging, clock }),
    patienceMs: options.patienceMs ?? patienceDefaultMs,
    clock,
    freeBytes: async () => {
      await cache?.relieve();
      return (await options.disk.space(options.stateDirectory)).free;
    },
    reserveBytes: diskReserveBytes,
  });
  const transactions = new Transactions({ state, journal, counters, writer, committer, queue, patience, frontEnds, readOnly });
  const place = { disk: options.disk, stateDirectory: options.stateDirectory, key: parts.keys.device };
  const pins: PinKeeper = new PinKeeper({
    read: (query) => volume.read(query),
    packs,
    cache,
    largeRequests: memory.largeRequests,
    place,
    version: () => log.head.sequence,
    isOffline,
    clock,
    logger,
  });
  opened.push(() => pins.stop());
  const keeper =
    cache &&
    new TreeKeeper({
      packs,
      root: () => state.root,
      bytesMax: Math.min(treeBytesMax, cache.bytesMax * treeShare),
      isOffline,
      clock,
      logger,
    });
  if (keeper) opened.push(() => keeper.stop());
  if (cache) {
    const timer = setInterval(() => void cache.relieve(), relieveIntervalMs).unref();
    opened.push(() => clearInterval(timer));
  }
  const forget = reachability?.onChange((isOfflineNow) => {
    if (!isOfflineNow) committer.retrySoon();
  });
  if (forget) opened.push(forget);
  opened.push(() => transactions.close());
  const ahead = { max: store.local ? readAheadLocal : readAheadRemote, total: memory.readAheadBytes };
  const pastStates = new PastStates({ log, tree: parts.tree, clock });
  const idleTimer = setInterval(() => pastStates.dropIdle(), dropIdleIntervalMs).unref();
  opened.push(() => clearInterval(idleTimer));
  const snapshots = new Snapshots({
    read: (query) => volume.read(query),
    transact: (plan) => volume.transact(plan),
    flush: (signal) => volume.flush(signal ? { signal } : {}),
    checkpoint: (isNew, signal) => remedied(async () => committer.checkpoint(signal, isNew ? [firstKey] : [])),
    hasChangedSince: (sequence) => committer.hasChangedSince(sequence),
    clock,
  });
  const isStuck = (): boolean => isOffline() || committer.failure !== undefined;
  const collector = new Collector(parts, committer, (operation) => transactions.applySealed(operation));
  const background: Periodic[] = [];
  if (options.takesSnapshots && !readOnly) {
    const work = (signal: AbortSignal): Promise<void> => keepSnapshots(snapshots, logger, signal);
    background.push(new Periodic({ intervalMs: snapshotIntervalMs, isStuck, clock, work }));
  }
  if (options.collects && !readOnly) {
    const work = (signal: AbortSignal): Promise<void> => collector.runByItself(signal);
    background.push(new Periodic({ intervalMs: collectIntervalMs, firstMs: collectFirstMs, isStuck, clock, work }));
  }
  opened.push(async () => {
    await Promise.all(background.map((one) => one.stop()));
  });
  const volume: OpenVolume = new OpenVolume({
    parts,
    transactions,
    writer,
    reader: new ContentReader((query) => transactions.read(query), writer, packs, ahead),
    committer,
    queue,
    patience,
    frontEnds,
    status: new VolumeStatus({ parts, read: (query) => transactions.read(query), writer, committer, queue, staleness, keeper, pins, collector }),
    pins,
    collector,
    accessTimes: accessTimeStore(place),
    past: new Past(
      pastStates,
      { chunks: packs, ahead, patience },
      { head: () => log.head.sequence, members: () => log.members, snapshots: () => snapshots.list() },
    ),
    snapshots,
    close: () => opened.close(),
  });

  const replayed =
    lostWork && givesUp(lostWork)
      ? await runWithoutOthers(parts, lostWork, remembered.operations, (oldView) => rebaseContext(counters.deviceIndex, () => oldView))
      : await replayOperations(state, operations, counters);
  // Entries from now on are based on this state, even if the log has moved on by the next start.
  if (lostWork) await committer.takeUp(lostWork);
  else if (!remembered.base && !readOnly) committer.journalBase();
  // After the journal failed, all dirty data went into the store without it, in commits newer than any of its entries.
  const isOutdated = log.own.operationSerial > remembered.serialMax;
  if (!isOutdated) {
    await replayContent(journal, remembered, {
      restore: async (entry) => {
        const inode = await transactions.read((view) => readInode(view, entry.ino));
        if (inode) writer.restore(entry.ino, inode.stamp, entry.offset, entry.bytes, entry.version, entry.mtime);
      },
      applied: (operation) => writer.applied(operation),
    });
  }
  if (replayed > 0 || writer.fileCount > 0) {
    logger.info('journal replayed', { operations: replayed, files: writer.fileCount });
    committer.changed();
  }
  await committer.start(arrived);
  keeper?.start();
  for (const one of background) one.start();
  await pins.start();
  return volume;
}

/** Makes data that is not sealed yet survive the process, and then a power loss. */
async function saveForNextTime(parts: VolumeParts, writer: ContentWriter): Promise<void> {
  try {
    await syncToDisk(parts, writer);
  } catch (error) {
    parts.options.logger.error('closing: not everything could be saved', { reason: describeError(error) });
  }
}
