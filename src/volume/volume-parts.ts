/**
 * The parts of an open volume, assembled in the state in which the last process left them: keys, log, journal, staging,
 * layers. It writes only what opening needs (an enrolment, a note of what power loss took). `volume-opening.ts` runs
 * them; `replay.ts` reads the journal (doc/architecture.md, "Composition").
 */

import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import type { ClosingStack } from '../base/closing-stack.js';
import type { Logger } from '../base/logger.js';
import { type MemoryBudget, usualBudget } from '../base/memory-budget.js';
import { withPages } from '../base/page-fault.js';
import type { Random } from '../base/random.js';
import { DiskCache } from '../cache/disk-cache.js';
import type { Commit } from '../commit/commit.js';
import { CommitLog, type HeadCode } from '../commit/commit-log.js';
import { readGenesis } from '../commit/genesis.js';
import type { LostWork } from '../commit/lost-work.js';
import type { ProgramVersion } from '../commit/program-version.js';
import type { BulkCipher } from '../crypto/bulk-cipher.js';
import { RootKeys, VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import { HeldDirectory } from '../disk/held-directory.js';
import { ensureDirectory } from '../disk/whole-file.js';
import { Journal } from '../journal/journal.js';
import { firstCounter, type Ino, packEntryKey } from '../meta/key.js';
import type { PackId } from '../pack/pack-id.js';
import { PackSource } from '../pack/pack-source.js';
import type { PackWriter } from '../pack/pack-writer.js';
import type { ObjectStore } from '../store/object-store.js';
import type { Reachability } from '../store/reachability-store.js';
import type { RefusedObjects } from '../store/refused-objects.js';
import { TreeReader } from '../tree/tree-reader.js';
import type { ContentLimits, ContentWriter } from './content-writer.js';
import { type BaseEntry, encodeForgetEntry } from './journal-entry.js';
import { packsAgain, stateBefore, workAgain } from './lost-work.js';
import { addTotals, type PendingOperation } from './pending-layers.js';
import { isStoreUnusable } from './remedy.js';

import { firstLost, type Remembered, readJournal, resumePacks, withoutLost } from './replay.js';
import { Staging } from './staging.js';
import type { Counters, FoldBounds } from './volume-state.js';
import { VolumeState } from './volume-state.js';

export interface OpenOptions {
  readonly store: ObjectStore;
  readonly disk: Disk;
  readonly random: Random;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Exists, is private, and is locked by the caller: one daemon per state directory. */
  readonly stateDirectory: string;
  readonly volumeId: Uint8Array;
  /** 32 bytes, taken over. */
  readonly rootSecret: Uint8Array;
  /** 32 bytes, borrowed for the opening; `undefined` from a keyslot without the rights of the owner. */
  readonly ownerSeed: Uint8Array | undefined;
  readonly program: ProgramVersion;
  readonly readOnly: boolean;
  /** Knows whether the store answers; undefined if that is never in doubt. */
  readonly reachability?: Reachability | undefined;
  /** Objects that the store refuses, for `status`. */
  readonly refused?: Pick<RefusedObjects, 'facts'> | undefined;
  /** How long an application waits for the store before it gets an error. Undefined: no limit. */
  readonly patienceMs?: number | undefined;
  /** Bytes of sealed packs kept on the local disk; undefined: depends on the store. */
  readonly cacheSize?: number | undefined;
  /** See {@link DiskCache}. */
  readonly cacheFreeMin?: number | undefined;
  readonly bootId?: string | undefined;
  /** Bytes on the local disk that may wait for the store; undefined: 10 GiB, or half of what is free. */
  readonly queueSize?: number | undefined;
  readonly deviceName: string;
  /** Encrypts in bulk; this thread when not given. */
  readonly cipher?: BulkCipher | undefined;
  /** The head code that another device shows: the log must contain that commit. */
  readonly headCode?: HeadCode | undefined;
  /**
   * Called before this device enrols, with the number of other devices that may write; if it throws, the volume is not
   * opened.
   */
  readonly beforeEnrolment?: ((otherDevices: number) => Promise<void>) | undefined;
  /** Takes and drops snapshots by itself, as the volume's policy says. Undefined: no. */
  readonly takesSnapshots?: boolean | undefined;
  /** Space that nothing retained needs is given back now and then. Default: no. */
  readonly collects?: boolean | undefined;
  /** For tests and tuning. */
  readonly commitDelayMs?: number;
  /** The log is polled this often while the volume is in use; undefined: depends on the store. */
  readonly pollIntervalMs?: number | undefined;
  /** A device without changes shows this often that it is alive; 0: never. Undefined: every eight hours. */
  readonly heartbeatMs?: number | undefined;
  /** The sync client that carries the store's folder to other machines, for `status`. */
  readonly syncClient?: string | undefined;
  /** For so long, a next commit that cannot be read is taken for one that still comes. Undefined: a minute. */
  readonly graceMs?: number | undefined;
  /** When no other device has shown a sign of life for this long, the state is reported as stale. Undefined: never. */
  readonly maxStalenessMs?: number | undefined;
  readonly contentLimits?: Partial<ContentLimits>;
  readonly foldBounds?: FoldBounds;
  /** Limits of memory; undefined: the defaults. */
  readonly memory?: MemoryBudget;
}

export interface VolumeParts {
  readonly options: OpenOptions;
  readonly keys: VolumeKeys;
  readonly log: CommitLog;
  readonly journal: Journal;
  readonly staging: Staging;
  readonly state: VolumeState;
  readonly tree: TreeReader;
  readonly packs: PackSource;
  readonly counters: Counters;
  readonly cache: DiskCache | undefined;
  readonly queueBytesMax: number;
  readonly memory: MemoryBudget;
  /** Largest plaintext of a chunk, bytes. */
  readonly chunkSize: number;
}

export const graceDefaultMs = 60_000;
const diskCacheBytes = 10 * 1024 * 1024 * 1024;
const queueBytesDefault = 10 * 1024 * 1024 * 1024;

export interface OpenedParts {
  readonly parts: VolumeParts;
  /** What the journal holds. */
  readonly remembered: Remembered;
  /** The pending operations, which have not been run yet. */
  readonly operations: readonly PendingOperation[];
  /** Commits of the log that the state does not hold yet. */
  readonly arrived: readonly Commit[];
  /** What lost commits did is among the operations. */
  readonly lostWork: LostWork | undefined;
}

/**
 * `opened` gets everything that must be closed, even when this throws CommitError, StoreError, JournalError or
 * PackError.
 */
export async function openParts(wanted: OpenOptions, opened: ClosingStack): Promise<OpenedParts> {
  const { store, disk, random, clock, stateDirectory, volumeId, logger, memory = usualBudget } = wanted;
  const root = new RootKeys(wanted.rootSecret, random);
  opened.push(() => root.wipe());
  const genesis = await readGenesis({ store, disk, stateDirectory, root, volumeId });
  const keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random });
  const log = await CommitLog.open({
    store,
    keys,
    disk,
    stateDirectory,
    random,
    clock,
    logger,
    genesis,
    ownerSeed: wanted.ownerSeed,
    program: wanted.program,
    deviceName: wanted.deviceName,
    readOnly: wanted.readOnly,
    headCode: wanted.headCode,
    beforeEnrolment: wanted.beforeEnrolment,
    graceMs: wanted.graceMs ?? graceDefaultMs,
  });
  opened.push(() => log.close());
  const { obstacle } = log;
  if (obstacle !== undefined && !wanted.readOnly) logger.warn('the volume is opened for reading only', { reason: obstacle });
  const readOnly = wanted.readOnly || obstacle !== undefined;
  const options = { ...wanted, readOnly };
  const journal = await Journal.open({
    disk,
    directory: join(stateDirectory, 'journal'),
    sealKey: keys.journal,
    stateId: log.stateId,
    random,
    logger,
  });
  opened.push(() => journal.close());
  const cache = await openCache(options);
  if (cache) opened.push(() => cache.close());
  const registry = new Map<PackId, PackWriter>();
  const stagingDirectory = join(stateDirectory, 'staging');
  await ensureDirectory(disk, stagingDirectory);
  // Even if it existed: the process that created it may have died before this.
  await disk.syncDirectory(stateDirectory);
  const staging = new Staging({
    disk,
    directory: await HeldDirectory.hold(disk, stagingDirectory),
    onLost: () => journal.failIfGone(true),
    keys: keys.current,
    cipher: options.cipher,
    store,
    random,
    registry,
    largeRequests: memory.largeRequests,
    adopt: (id, path, kind) => (cache ? cache.adopt(id, path, kind) : Promise.resolve(false)),
  });
  opened.push(() => staging.close());
  const packs = new PackSource({
    store,
    keys: keys.current,
    staging: registry,
    ...(cache ? { diskCache: cache } : {}),
    cipher: options.cipher,
    memory: { ...memory.shares, largeRequests: memory.largeRequests },
  });
  const tree = new TreeReader(packs, { cacheMax: memory.shares.treePages });
  let remembered = await readJournal(journal);
  const lostWork = await log.lostWork();
  staging.nameAgain([...(remembered.base?.packs ?? []), ...(lostWork ? packsAgain(lostWork) : [])]);
  // Operations that are in the log need nothing from this disk.
  const unsaved = remembered.operations.filter((one) => !log.isSettled(one));
  const { state, arrived } = lostWork ? await stateBeforeLost(tree, log, lostWork) : await loadState(tree, log, remembered.base);
  const lost = await firstLost(staging, unsaved, (id) => isNamed(id, state, arrived));
  if (lost !== undefined) {
    const before = remembered.operations.length;
    remembered = { ...remembered, ...withoutLost(remembered, lost) };
    // Before anything new, so that after another crash it is still known what is gone.
    if (!readOnly) journal.append(encodeForgetEntry(lost));
    logger.warn('power loss took what was never synced', { operations: before - remembered.operations.length });
  }
  const operations = lostWork ? workAgain(lostWork, remembered.operations) : remembered.operations;
  const given = [log.own, ...(lostWork?.lost.filter(({ isOwn }) => isOwn).map(({ commit }) => commit) ?? [])];
  // What is pending has numbers of the identity that this installation had then.
  const present = log.deviceIndex > 0 || log.formerIndex === 0 ? log.deviceIndex : log.formerIndex;
  const counters: Counters = {
    deviceIndex: remembered.base?.deviceIndex ?? present,
    nextIno: Math.max(firstCounter, remembered.base?.nextInoCounter ?? 0, ...given.map(({ nextInoCounter }) => nextInoCounter)),
    serial: Math.max(remembered.base?.counter ?? 0, ...given.map(({ operationSerial }) => operationSerial)),
  };
  await resumePacks(staging, operations);
  if (!readOnly) await staging.removeStrangers();
  const { free } = await disk.space(stateDirectory);
  const queueBytesMax = options.queueSize ?? Math.min(queueBytesDefault, Math.floor((free + staging.bytes) / 2));
  const parts = { options, keys, log, journal, staging, state, tree, packs, counters, cache, queueBytesMax, memory };
  return { parts: { ...parts, chunkSize: genesis.chunkSize }, remembered, operations, arrived, lostWork };
}

/** Whether a commit names the pack. If that cannot be known without the store, what was acknowledged is kept. */
async function isNamed(id: PackId, state: VolumeState, arrived: readonly Commit[]): Promise<boolean> {
  if (arrived.some(({ packs }) => packs.some((pack) => pack.id === id))) return true;
  try {
    return (await withPages(() => state.committedValue(packEntryKey(id)))) !== undefined;
  } catch (error) {
    if (isStoreUnusable(error)) return true;
    throw error;
  }
}

async function stateBeforeLost(tree: TreeReader, log: CommitLog, lostWork: LostWork): Promise<{ state: VolumeState; arrived: Commit[] }> {
  const arrived: Commit[] = [];
  for await (const commit of log.commitsUpToHead(lostWork.before.sequence)) arrived.push(commit);
  return { state: stateBefore(tree, lostWork), arrived };
}

/** The layers at the journal's base, and the later commits that the log already knows. */
async function loadState(tree: TreeReader, log: CommitLog, base: BaseEntry | undefined): Promise<{ state: VolumeState; arrived: Commit[] }> {
  const checkpoint = log.lastCheckpoint?.checkpoint;
  const start = base ?? { root: checkpoint?.root, covers: checkpoint?.covers ?? 0, sequence: log.head.sequence };
  // If a crash kept a checkpoint from the journal, it holds the same state in a newer tree.
  const isNewer = checkpoint !== undefined && checkpoint.covers > start.covers && checkpoint.covers <= start.sequence;
  const covers = isNewer ? checkpoint.covers : (start.covers as VolumeState['covers']);
  const totals = { files: 0, bytes: 0 };
  if (checkpoint && checkpoint.covers <= covers) {
    addTotals(totals, checkpoint);
    // Two devices may fold at the same time: the newest checkpoint can then cover less than the tree of this one.
    for await (const { sequence, filesDelta: files, bytesDelta: bytes } of log.commitsUpToHead(checkpoint.covers)) {
      if (sequence > covers) break;
      addTotals(totals, { files, bytes });
    }
  }
  const state = new VolumeState(tree, { root: isNewer ? checkpoint.root : start.root, covers, totals });
  const arrived: Commit[] = [];
  for await (const commit of log.commitsUpToHead(covers)) {
    if (commit.sequence <= start.sequence) state.advance([commit]);
    else arrived.push(commit);
  }
  return { state, arrived };
}

async function openCache(options: OpenOptions): Promise<DiskCache | undefined> {
  const bytesMax = options.cacheSize ?? (options.store.local ? 0 : diskCacheBytes);
  if (bytesMax === 0) return undefined;
  const { disk, random, logger, bootId, cacheFreeMin: freeMin } = options;
  return DiskCache.open({ disk, directory: join(options.stateDirectory, 'cache'), bytesMax, freeMin, bootId, random, logger });
}

/** Makes what was accepted survive a power loss: everything, or what concerns one file. Errors of the layers below. */
export async function syncToDisk({ staging, journal }: VolumeParts, writer: ContentWriter, ino?: Ino): Promise<void> {
  if (ino === undefined) await writer.persistAll();
  else await writer.persist(ino);
  // Packs first: a journal entry that survives must not refer to content that did not.
  await staging.sync();
  await journal.sync();
}
