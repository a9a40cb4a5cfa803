/**
 * Keeps pinned files on the local disk: fetches them, keeps the disk cache from evicting them, and follows changes by
 * this and other devices (doc/cli.md, "pin"). Whenever the volume has changed it walks the pinned trees, reading
 * metadata, and fetches what is missing. Only the caller that asks for a pin waits for it.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { Limiter } from '../base/limiter.js';
import { Lock } from '../base/lock.js';
import { type Logger } from '../base/logger.js';
import type { DiskCache } from '../cache/disk-cache.js';
import { isDirectory, isRegular } from '../meta/inode.js';
import { type Ino, rootIno } from '../meta/key.js';
import { lookup, readInode } from '../operation/inode-view.js';
import { dataExtentsOf, type Query, walkSubtree } from '../operation/subtree.js';
import type { PlacedChunk } from '../pack/item.js';
import { PackError } from '../pack/pack-error.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackSource } from '../pack/pack-source.js';
import { StoreError } from '../store/object-store.js';
import { type Pin, pinList } from './pin-file.js';
import { isStoreUnusable } from './remedy.js';
import { loadList, type StatePlace, saveList } from './sealed-state-file.js';
import { VolumeError } from './volume-error.js';

/**
 * - `complete`: everything is on the local disk
 * - `fetching`: not surveyed yet, or being fetched
 * - `waiting`: the store does not answer
 * - `full`: the cache has no room for everything
 * - `damaged`: some of it cannot be read
 */
export type PinState = 'complete' | 'fetching' | 'waiting' | 'full' | 'damaged';

export interface PinProgress {
  readonly files: number;
  readonly bytes: number;
  readonly hereFiles: number;
  /** Sealed bytes, like `bytes`. */
  readonly hereBytes: number;
}

export interface PinReport extends PinProgress, Pin {
  readonly state: PinState;
}

export type PinOutcome = { readonly fits: true } | { readonly fits: false; readonly neededBytes: number; readonly allowedBytes: number };

export interface PinKeeperOptions {
  readonly read: Query;
  readonly packs: Pick<PackSource, 'isHere' | 'bring'>;
  /** Undefined when the whole store is on this machine anyway. */
  readonly cache: Pick<DiskCache, 'pin' | 'bytesAllowed' | 'checkpoint'> | undefined;
  /** Concurrent requests, up to four. */
  readonly largeRequests: number;
  readonly place: StatePlace;
  /** Changes whenever the volume may have changed. */
  readonly version: () => number;
  readonly isOffline: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface KeptPin {
  pin: Pin;
  state: PinState;
  progress: PinProgress;
}

/** A sealed chunk of a pack that is not on the local disk. */
interface Missing extends PlacedChunk {
  readonly file: FileLeft;
}

/** The sealed bytes that a file still lacks. */
interface FileLeft {
  bytes: number;
}

const noProgress: PinProgress = { files: 0, bytes: 0, hereFiles: 0, hereBytes: 0 };
const lookIntervalMs = 1000;
const failurePauseMs = 5000;
const reportMs = 200;
/** Walking the trees takes at most this share of the time. */
const walkShare = 1 / 20;
const requestsMax = 4;
const requestMax = 4 * 1024 * 1024;
/** A gap of up to this many bytes between two wanted chunks is fetched with them. */
const gapMax = 64 * 1024;
/** Chunks are gathered up to these limits, so that small files share requests. */
const gatherChunks = 2048;
const gatherBytes = 32 * 1024 * 1024;

export class PinKeeper {
  readonly #options: PinKeeperOptions;
  readonly #stop = new AbortController();
  /** Guards `#pins`: only one survey or change runs at a time. */
  readonly #lock = new Lock();
  #pins: KeptPin[] = [];
  /** How long the last survey took, in milliseconds. */
  #surveyMs = 0;
  #seenVersion = -1;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: PinKeeperOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const pins = await loadList(this.#options.place, pinList);
    if (!pins) this.#options.logger.warn('the list of pins is damaged: nothing is pinned any more');
    this.#pins = (pins ?? []).map((pin) => ({ pin, state: 'fetching', progress: noProgress }));
    // The cache remembers what was pinned; without pins it must forget it.
    if (this.#pins.length === 0) this.#options.cache?.pin(new Set());
    this.#loop = this.#run().catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stop.abort(new VolumeError('CLOSED', 'the volume is being closed'));
    await this.#loop;
    await this.#lock.run(() => {});
  }

  list(): PinReport[] {
    return this.#pins.map(({ pin, state, progress }) => ({ ...pin, state, ...progress }));
  }

  /** Whether the inode itself was pinned. Inodes below a pinned folder do not count. */
  has(ino: Ino): boolean {
    return this.#pins.some(({ pin }) => pin.ino === ino);
  }

  /**
   * Pins an inode, if the cache can hold it in addition to everything else that is pinned. Resolves before everything
   * is fetched. Rejects with VolumeError or disk errors.
   */
  add(pin: Pin): Promise<PinOutcome> {
    return this.#lock.run(async () => {
      const before = this.#pins;
      if (!before.some((kept) => kept.pin.ino === pin.ino)) this.#pins = [...before, { pin, state: 'fetching', progress: noProgress }];
      try {
        const outcome = await this.#survey();
        if (!outcome.fits) {
          this.#pins = before;
          await this.#survey();
          return outcome;
        }
      } catch (error) {
        // Offline: its size is found out later.
        if (!isStoreUnusable(error)) {
          this.#pins = before;
          throw error;
        }
      }
      await this.#save();
      this.#seenVersion = -1;
      return { fits: true };
    });
  }

  /** Returns false if it was not pinned. */
  remove(ino: Ino): Promise<boolean> {
    return this.#lock.run(async () => {
      const left = this.#pins.filter(({ pin }) => pin.ino !== ino);
      if (left.length === this.#pins.length) return false;
      this.#pins = left;
      await this.#save();
      await this.#survey().catch(() => {});
      return true;
    });
  }

  /** Resolves when the pin is complete, cannot become so for now, or is gone. */
  async completed(ino: Ino, onProgress: (progress: PinProgress) => void, signal: AbortSignal): Promise<PinReport | undefined> {
    for (;;) {
      signal.throwIfAborted();
      const report = this.list().find((one) => one.ino === ino);
      if (!report || report.state !== 'fetching') return report;
      onProgress(report);
      await this.#options.clock.sleep(reportMs, signal);
    }
  }

  async #run(): Promise<void> {
    const { clock, version, isOffline, logger } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      await clock.sleep(Math.max(lookIntervalMs, this.#surveyMs / walkShare), signal);
      const now = version();
      const isDone = this.#pins.every(({ state }) => state === 'complete' || state === 'damaged');
      if (this.#pins.length === 0 || (isDone && now === this.#seenVersion)) continue;
      try {
        await this.#lock.run(() => this.#keep());
        this.#seenVersion = now;
      } catch (error) {
        signal.throwIfAborted();
        this.#seenVersion = -1;
        for (const kept of this.#pins) if (kept.state === 'fetching') kept.state = 'waiting';
        logger.debug('what is pinned cannot be fetched now', { reason: describeError(error) });
        if (!isOffline()) await clock.sleep(failurePauseMs, signal);
      }
    }
  }

  #save(): Promise<void> {
    return saveList(
      this.#options.place,
      pinList,
      this.#pins.map(({ pin }) => pin),
    );
  }

  /**
   * The inode that has the pinned name now, or else the pinned inode wherever it was moved; `undefined` when it is
   * gone.
   */
  async #resolve(pin: Pin): Promise<Pin | undefined> {
    return this.#options.read((view) => {
      const inode = readInode(view, pin.ino);
      const named = pin.ino === rootIno ? undefined : lookup(view, pin.parent, pin.name)?.ino;
      if (named === pin.ino || pin.ino === rootIno) return inode && pin;
      // A file that was written anew and renamed into place is the one the user means; folders are never replaced that
      // way.
      if (named !== undefined && !(inode && inode.nlink > 0 && isDirectory(inode))) return { ...pin, ino: named };
      return inode && inode.nlink > 0 ? pin : undefined;
    });
  }

  /** Follows the pins, adds up their size, and updates what the cache must keep. */
  async #survey(): Promise<PinOutcome> {
    const startMs = this.#options.clock.monotonicMs();
    await this.#follow();
    const packs = new Set<string>();
    let neededBytes = 0;
    for (const kept of this.#pins) {
      const progress = { files: 0, bytes: 0, hereFiles: 0, hereBytes: 0 };
      await this.#walk(kept.pin.ino, (_, file) => {
        progress.files++;
        progress.bytes += file.total;
        progress.hereBytes += file.total - file.missing;
        if (file.missing === 0) progress.hereFiles++;
        for (const pack of file.packs) packs.add(pack);
      });
      kept.progress = progress;
      const isHere = progress.hereBytes === progress.bytes;
      if (isHere) kept.state = 'complete';
      else if (kept.state === 'complete' || kept.state === 'waiting') kept.state = 'fetching';
      neededBytes += progress.bytes;
    }
    const { cache, clock } = this.#options;
    this.#surveyMs = clock.monotonicMs() - startMs;
    const allowedBytes = cache?.bytesAllowed ?? Number.POSITIVE_INFINITY;
    if (neededBytes > allowedBytes) return { fits: false, neededBytes, allowedBytes };
    cache?.pin(packs);
    return { fits: true };
  }

  async #follow(): Promise<void> {
    const followed: KeptPin[] = [];
    let isChanged = false;
    for (const kept of this.#pins) {
      const pin = await this.#resolve(kept.pin);
      if (pin) followed.push(Object.assign(kept, { pin }));
      else this.#options.logger.info('something that was pinned is gone', { ino: kept.pin.ino });
      isChanged ||= pin?.ino !== kept.pin.ino || pin === undefined;
    }
    if (followed.length === this.#pins.length && !isChanged) return;
    this.#pins = followed;
    await this.#save();
  }

  /** Visits each regular file at and below `root`. */
  async #walk(
    root: Ino,
    onFile: (ino: Ino, file: { readonly total: number; readonly missing: number; readonly packs: ReadonlySet<PackId> }) => void,
    onMissing?: (pack: PackId, chunk: Missing) => void,
  ): Promise<void> {
    const { read, packs: source } = this.#options;
    const { signal } = this.#stop;
    for await (const batch of walkSubtree(read, root, signal)) {
      for (const { ino, inode } of batch) {
        if (!isRegular(inode)) continue;
        let [total, missing] = [0, 0];
        const packs = new Set<PackId>();
        const file: FileLeft = { bytes: 0 };
        for await (const extents of dataExtentsOf(read, ino, inode, signal)) {
          for (const { pack, packOffset, chunks } of extents) {
            packs.add(pack);
            let offset = packOffset;
            for (const chunk of chunks) {
              const { sealedLength } = chunk;
              total += sealedLength;
              if (!source.isHere(pack, offset, sealedLength)) {
                missing += sealedLength;
                file.bytes += sealedLength;
                onMissing?.(pack, { ...chunk, pack, offset, file });
              }
              offset += sealedLength;
            }
          }
        }
        onFile(ino, { total, missing, packs });
      }
    }
  }

  /** Fetches what is missing. Rejects with VolumeError `UNAVAILABLE` when the store does not answer. */
  async #keep(): Promise<void> {
    const outcome = await this.#survey();
    if (!outcome.fits) {
      for (const kept of this.#pins) if (kept.state !== 'complete') kept.state = 'full';
      return;
    }
    for (const kept of this.#pins) if (kept.state !== 'complete') await this.#fetch(kept);
    await this.#options.cache?.checkpoint();
  }

  async #fetch(kept: KeptPin): Promise<void> {
    const requests = new Limiter(Math.min(requestsMax, this.#options.largeRequests));
    let [isFull, isDamaged, gathered, gatheredBytes] = [false, false, 0, 0];
    let missing = new Map<PackId, Missing[]>();
    let failure: unknown;
    const bring = async (pack: PackId, items: readonly Missing[]): Promise<void> => {
      if (failure !== undefined || isFull || this.#stop.signal.aborted) return;
      try {
        const brought = await this.#options.packs.bring(pack, items, this.#stop.signal);
        const wanted = items.reduce((sum, { sealedLength }) => sum + sealedLength, 0);
        if (brought < wanted) isFull = true;
        let files = 0;
        for (const { file, sealedLength } of items) {
          file.bytes -= sealedLength;
          if (file.bytes === 0) files++;
        }
        const { progress } = kept;
        kept.progress = { ...progress, hereBytes: progress.hereBytes + brought, hereFiles: Math.min(progress.files, progress.hereFiles + files) };
      } catch (error) {
        if (error instanceof PackError && error.code !== 'IO' && error.code !== 'FULL') {
          isDamaged = true;
          this.#options.logger.error('something that is pinned cannot be read', { pack, reason: describeError(error) });
        } else failure ??= error;
      }
    };
    const flush = async (): Promise<void> => {
      const work = [...missing].flatMap(([pack, items]) => requestsOf(items).map((request) => requests.run(() => bring(pack, request))));
      missing = new Map();
      [gathered, gatheredBytes] = [0, 0];
      await Promise.all(work);
      if (failure instanceof StoreError) throw new VolumeError('UNAVAILABLE', 'the store cannot be used now', { cause: failure });
      if (failure !== undefined) throw failure;
    };
    const flushes: Promise<void>[] = [];
    const begin = (): void => {
      const flushed = flush();
      // Its error is thrown at the end.
      flushed.catch(() => {});
      flushes.push(flushed);
    };
    await this.#walk(
      kept.pin.ino,
      () => {
        if (gathered >= gatherChunks || gatheredBytes >= gatherBytes) begin();
      },
      (pack, chunk) => {
        gathered++;
        gatheredBytes += chunk.sealedLength;
        const known = missing.get(pack);
        if (known) known.push(chunk);
        else missing.set(pack, [chunk]);
      },
    );
    begin();
    for (const one of await Promise.allSettled(flushes)) if (one.status === 'rejected') throw one.reason;
    kept.state = isFull ? 'full' : isDamaged ? 'damaged' : 'complete';
  }
}

/** Divides chunks of one pack into requests. */
function requestsOf(chunks: readonly Missing[]): Missing[][] {
  const requests: Missing[][] = [];
  // A chunk that two files share is fetched once.
  const unique = new Map(chunks.map((chunk) => [chunk.offset, chunk]));
  for (const chunk of [...unique.values()].toSorted((a, b) => a.offset - b.offset)) {
    const last = requests.at(-1);
    const [begin, end] = [last?.[0], last?.at(-1)];
    const isNear = begin && end && chunk.offset - end.offset - end.sealedLength <= gapMax;
    if (last && isNear && chunk.offset + chunk.sealedLength - begin.offset <= requestMax) last.push(chunk);
    else requests.push([chunk]);
  }
  return requests;
}
