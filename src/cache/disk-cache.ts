/**
 * Sealed packs, or parts of them, on the local disk (doc/format.md, "Local files"). It holds what the store sent,
 * sealed as it came: it knows no keys, and whoever reads it verifies. It is a cache and never fails its callers: what
 * cannot be read is not there, what cannot be written is not kept.
 *
 * `packs/<pack id>.<12 hex>` is a sparse file; `index` says which of its bytes are there, in order of use:
 *
 * | field | |
 * | --- | --- |
 * | magic | u32 0x43444453 |
 * | version | u8 2 |
 * | boot | length varint and bytes: in `recent` the running system's boot id, in `index` empty |
 * | count | varint |
 * | per pack, oldest use first | name: length varint, bytes; flags varint (1 pages, 2 pinned); count of ranges |
 * | per range of the pack | gap since the last end varint; length varint |
 *
 * The index is replaced as a whole, after everything that it speaks of has been synced: after a power loss it may know
 * less than the disk holds, never more. `recent` is the same without the sync, some seconds old at most, and believed
 * only under the boot in which it was written: when the process is killed nothing that was written is lost, and a drive
 * that opens offline then needs what it had. A pack that is evicted and fetched again gets a new file name, so that an
 * old index cannot speak of the new file. Files that the index does not know are removed at open.
 *
 * What goes first when room is needed: content that was not used for long, then tree pages, which make the drive
 * listable while the store is offline; they have half of the cache at most. Pinned packs stay.
 */

import { join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError, toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { silentLogger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { OpenFiles } from '../disk/open-files.js';
import { ensureDirectory, isDiskFull, replaceFile } from '../disk/whole-file.js';
import { RangeSet } from './range-set.js';

export interface DiskCacheOptions {
  readonly disk: Disk;
  /** Absolute; made when its parent is there. Nothing else lives in it, and one process at a time uses it. */
  readonly directory: string;
  /** Bytes on the disk. With 0 nothing is kept, and existing content is removed. */
  readonly bytesMax: number;
  /**
   * The cache shrinks rather than leave less than this free on its filesystem. Default: 1 GiB, or a twentieth of the
   * filesystem if that is less.
   */
  readonly freeMin?: number | undefined;
  /** Identifies the running system until it is rebooted; without it only the synced index is kept. */
  readonly bootId?: string | undefined;
  readonly random: Random;
  readonly logger?: Logger;
}

/** The content of a pack: tree pages are kept longer than file content. */
export type CacheKind = 'content' | 'pages';

interface CachedPack {
  readonly file: string;
  readonly kind: CacheKind;
  readonly ranges: RangeSet;
  /** As {@link RangeSet.diskBytes}, counted into the cache's total. */
  bytes: number;
  /** Holds bytes that the index on disk must not speak of before the file is synced. */
  unsynced: boolean;
}

const magic = 0x43444453;
const version = 2;
const freeMinDefault = 1024 * 1024 * 1024;
const freeShareDefault = 0.05;
/** Of the cache, for tree pages. */
const pageShareMax = 0.5;
/** How old the unsynced index may become, per pack: a larger index costs more to write. */
const recentDelayMs = 250;
const recentDelayPerPackMs = 0.5;
const openFilesMax = 64;
/** Written bytes after which the index is updated: the most that a crash makes us fetch again. */
const checkpointBytes = 64 * 1024 * 1024;
/** Written bytes after which the free space is checked again. */
const spaceCheckBytes = 16 * 1024 * 1024;
const fileNamePattern = /^([0-9a-z-]{1,100})\.[0-9a-f]{12}$/;
const packIdPattern = /^[0-9a-z-]{1,100}$/;

export class DiskCache {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #packsDirectory: string;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #bytesMax: number;
  readonly #freeMin: number | undefined;
  readonly #bootId: string | undefined;
  /** By pack id, least recently used first. */
  readonly #packs = new Map<string, CachedPack>();
  readonly #open = new OpenFiles<{ readonly file: DiskFile }>(openFilesMax);
  #bytes = 0;
  #pageBytes = 0;
  #pinnedBytes = 0;
  /** Ids of packs that are not evicted for room, here or yet to come. */
  #pinned: ReadonlySet<string> = new Set();
  #recentTimer: NodeJS.Timeout | undefined;
  #noting: Promise<void> = Promise.resolve();
  /** The part of `#bytesMax` that the free space allows. */
  #allowed: number;
  #writtenSinceCheckpoint = 0;
  #writtenSinceSpaceCheck = 0;
  #checkpointing: Promise<void> | undefined;
  #closed = false;

  private constructor(options: DiskCacheOptions) {
    this.#disk = options.disk;
    this.#directory = options.directory;
    this.#packsDirectory = join(options.directory, 'packs');
    this.#random = options.random;
    this.#logger = options.logger ?? silentLogger;
    this.#bytesMax = options.bytesMax;
    this.#freeMin = options.freeMin;
    this.#bootId = options.bootId;
    this.#allowed = options.bytesMax;
  }

  /** Throws the disk's error when the directory cannot be made or read; a damaged index only means an empty cache. */
  static async open(options: DiskCacheOptions): Promise<DiskCache> {
    const cache = new DiskCache(options);
    for (const path of [cache.#directory, cache.#packsDirectory]) {
      await ensureDirectory(options.disk, path);
    }
    await cache.#recover();
    return cache;
  }

  /** Bytes held on the disk. */
  get bytes(): number {
    return this.#bytes;
  }

  get packCount(): number {
    return this.#packs.size;
  }

  /** The most that it may ever hold, in bytes. */
  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** The most that it may hold now, in bytes: its size, or what free space leaves of it. */
  get bytesAllowed(): number {
    return this.#allowed;
  }

  /** Bytes of pinned packs that are here. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  /** From now on these packs, and no others, stay however much room is needed. Takes the set over. */
  pin(packs: ReadonlySet<string>): void {
    this.#pinned = packs;
    this.#pinnedBytes = 0;
    for (const [packId, pack] of this.#packs) if (packs.has(packId)) this.#pinnedBytes += pack.bytes;
    this.#changed();
  }

  /** Checks the free space now, and frees what others need. Never rejects. */
  async relieve(): Promise<void> {
    if (this.#closed) return;
    await this.#checkSpace();
    await this.#shrink(this.#allowed);
  }

  /**
   * `length` bytes of the pack at `offset`, owned by the caller, or `undefined` when not all of them are there. They
   * are what was written, unless the disk lies: the caller verifies them, and calls {@link DiskCache.evict} when they
   * are wrong.
   */
  async read(packId: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    const pack = this.#packs.get(packId);
    if (!pack?.ranges.covers(offset, offset + length)) return undefined;
    this.#packs.delete(packId);
    this.#packs.set(packId, pack);
    try {
      const bytes = Buffer.allocUnsafeSlow(length);
      const count = await this.#use(pack, 'write', (file) => file.read(bytes, offset));
      if (count === length) return bytes;
      this.#logger.warn('a cached pack is shorter than it was', { pack: packId });
    } catch (error) {
      this.#logger.warn('a cached pack cannot be read', { pack: packId, error: describeError(error) });
    }
    if (this.#packs.get(packId) === pack) await this.evict(packId);
    return undefined;
  }

  /** {@link DiskCache.read} into all of `target`, when that needs no waiting. False says nothing. */
  readNow(packId: string, target: Uint8Array, offset: number): boolean {
    const pack = this.#packs.get(packId);
    if (!pack?.ranges.covers(offset, offset + target.byteLength)) return false;
    if (this.#open.peek(pack.file)?.file.readNow?.(target, offset) !== target.byteLength) return false;
    this.#packs.delete(packId);
    this.#packs.set(packId, pack);
    return true;
  }

  /** Whether {@link DiskCache.read} would find it: for deciding what to fetch. */
  has(packId: string, offset: number, length: number): boolean {
    return this.#packs.get(packId)?.ranges.covers(offset, offset + length) ?? false;
  }

  /** Keeps bytes of a pack, if it can; they must not change before the promise resolves. It never rejects. */
  async write(packId: string, offset: number, bytes: Sealed, kind: CacheKind = 'content'): Promise<void> {
    assert(packIdPattern.test(packId), 'a pack id is a plain name');
    if (this.#closed || bytes.byteLength === 0 || bytes.byteLength > this.#bytesMax) return;
    // Pinned packs are not evicted.
    if (bytes.byteLength > this.#allowed - this.#pinnedBytes) return this.#countForSpaceCheck(bytes.byteLength);
    const pack = this.#packs.get(packId) ?? this.#add(packId, kind);
    if (pack.ranges.covers(offset, offset + bytes.byteLength)) return;
    try {
      await this.#use(pack, 'create', (file) => file.write(bytes, offset));
    } catch (error) {
      await this.#afterFailedWrite(packId, pack, error);
      return;
    }
    if (this.#packs.get(packId) !== pack) {
      // Evicted meanwhile, perhaps before the file was made.
      await this.#remove(pack);
      return;
    }
    this.#present(packId, pack, offset, offset + bytes.byteLength);
    await this.#afterWrite(bytes.byteLength);
  }

  /**
   * Takes over a finished, synced pack file by moving it here. False: it was not taken and is still the caller's
   * (the cache is too small, or on another filesystem). Never rejects.
   */
  async adopt(packId: string, path: string, kind: CacheKind = 'content'): Promise<boolean> {
    assert(packIdPattern.test(packId), 'a pack id is a plain name');
    try {
      const { size } = await this.#disk.stat(path);
      if (this.#closed || size === 0 || size > this.#allowed - this.#pinnedBytes) return false;
      const file = this.#freshName(packId);
      await this.#disk.rename(path, join(this.#packsDirectory, file));
      await this.evict(packId);
      const pack: CachedPack = { file, kind, ranges: new RangeSet(), bytes: 0, unsynced: true };
      this.#packs.set(packId, pack);
      this.#present(packId, pack, 0, size);
      await this.#afterWrite(size);
      return true;
    } catch (error) {
      this.#logger.debug('a pack file was not taken into the cache', { pack: packId, error: describeError(error) });
      return false;
    }
  }

  /** Forgets a pack: its bytes turned out wrong, or it is gone from the volume. */
  async evict(packId: string): Promise<void> {
    const pack = this.#packs.get(packId);
    if (!pack) return;
    this.#packs.delete(packId);
    this.#count(packId, pack, -pack.bytes);
    this.#changed();
    await this.#remove(pack);
  }

  /** Makes the current content survive a crash. Never rejects; also runs on its own, and on close. */
  checkpoint(): Promise<void> {
    this.#checkpointing ??= this.#checkpoint().finally(() => {
      this.#checkpointing = undefined;
    });
    return this.#checkpointing;
  }

  /** Updates the index and closes the files. Reads and writes should have ended before. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#recentTimer);
    await this.#noting;
    await this.#checkpointing;
    await this.checkpoint();
    await this.#disk.unlink(join(this.#directory, 'recent')).catch(() => {});
    await this.#open.close();
  }

  #freshName(packId: string): string {
    return `${packId}.${toHex(this.#random.bytes(6))}`;
  }

  #add(packId: string, kind: CacheKind): CachedPack {
    const pack: CachedPack = { file: this.#freshName(packId), kind, ranges: new RangeSet(), bytes: 0, unsynced: true };
    this.#packs.set(packId, pack);
    return pack;
  }

  #present(packId: string, pack: CachedPack, start: number, end: number): void {
    pack.ranges.add(start, end);
    pack.unsynced = true;
    const bytes = pack.ranges.diskBytes();
    this.#count(packId, pack, bytes - pack.bytes);
    pack.bytes = bytes;
    this.#changed();
  }

  #count(packId: string, { kind }: CachedPack, bytes: number): void {
    this.#bytes += bytes;
    if (kind === 'pages') this.#pageBytes += bytes;
    if (this.#pinned.has(packId)) this.#pinnedBytes += bytes;
  }

  /** The unsynced index follows soon. */
  #changed(): void {
    if (this.#bootId === undefined || this.#recentTimer !== undefined || this.#closed) return;
    this.#recentTimer = setTimeout(
      () => {
        this.#recentTimer = undefined;
        this.#noting = this.#writeIndex('recent', this.#encodeIndex(this.#bootId ?? ''), false).catch((error: unknown) => {
          this.#logger.debug('the recent index of the cache cannot be written', { error: describeError(error) });
        });
      },
      recentDelayMs + this.#packs.size * recentDelayPerPackMs,
    ).unref();
  }

  #writeIndex(name: string, index: Uint8Array, isDurable: boolean): Promise<void> {
    return replaceFile(this.#disk, join(this.#directory, name), index, { isDurable });
  }

  #use<T>(pack: CachedPack, mode: 'write' | 'create', work: (file: DiskFile) => Promise<T>): Promise<T | undefined> {
    const path = join(this.#packsDirectory, pack.file);
    return this.#open.use(
      pack.file,
      async () => ({ file: await this.#disk.open(path, mode) }),
      ({ file }) => work(file),
    );
  }

  async #remove(pack: CachedPack): Promise<void> {
    await this.#open.drop(pack.file).catch(() => {});
    // A file that stays behind is unknown to the next index, and removed with it.
    await this.#disk.unlink(join(this.#packsDirectory, pack.file)).catch(() => {});
  }

  async #afterFailedWrite(packId: string, pack: CachedPack, error: unknown): Promise<void> {
    this.#logger.warn('a pack cannot be cached', { pack: packId, error: describeError(error) });
    if (isDiskFull(error)) {
      // Others need the space more: a good part is freed now, and the free space is checked before growing again.
      await this.#shrink(Math.floor(this.#bytes * 0.75));
      await this.#checkSpace();
    } else if (this.#packs.get(packId) === pack) await this.evict(packId);
  }

  async #afterWrite(count: number): Promise<void> {
    await this.#countForSpaceCheck(count);
    await this.#shrink(this.#allowed);
    this.#writtenSinceCheckpoint += count;
    // Runs in the background: a write to a cache does not wait for a sync.
    if (this.#writtenSinceCheckpoint >= checkpointBytes) void this.checkpoint();
  }

  /** Also counts writes that were refused for lack of space, since there may be space again. */
  async #countForSpaceCheck(count: number): Promise<void> {
    this.#writtenSinceSpaceCheck += count;
    if (this.#writtenSinceSpaceCheck >= spaceCheckBytes) await this.#checkSpace();
  }

  async #checkSpace(): Promise<void> {
    this.#writtenSinceSpaceCheck = 0;
    try {
      const { free, total } = await this.#disk.space(this.#directory);
      const freeMin = this.#freeMin ?? Math.min(freeMinDefault, Math.floor(total * freeShareDefault));
      this.#allowed = Math.min(this.#bytesMax, Math.max(0, this.#bytes + free - freeMin));
    } catch (error) {
      this.#logger.warn('the free space for the cache cannot be read', { error: describeError(error) });
    }
  }

  async #shrink(target: number): Promise<void> {
    const pagesMax = this.#bytesMax * pageShareMax;
    if (this.#pageBytes > pagesMax) await this.#evictWhile('pages', () => this.#pageBytes > pagesMax);
    await this.#evictWhile('content', () => this.#bytes > target);
    await this.#evictWhile('pages', () => this.#bytes > target);
  }

  async #evictWhile(kind: CacheKind, isTooMuch: () => boolean): Promise<void> {
    if (!isTooMuch()) return;
    for (const [packId, pack] of this.#packs) {
      if (pack.kind !== kind || this.#pinned.has(packId)) continue;
      await this.evict(packId);
      if (!isTooMuch()) return;
    }
  }

  async #checkpoint(): Promise<void> {
    try {
      this.#writtenSinceCheckpoint = 0;
      // No await until `unsynced` is cleared: the index speaks of exactly what is synced next.
      const index = this.#encodeIndex('');
      const unsynced = [...this.#packs].filter(([, pack]) => pack.unsynced);
      for (const [, pack] of unsynced) pack.unsynced = false;
      let failed = false;
      for (const [packId, pack] of unsynced) {
        try {
          await this.#use(pack, 'write', (file) => file.datasync());
        } catch (error) {
          // An evicted pack has no file any more, and the index may name it: it is dropped when its file is not found.
          if (this.#packs.get(packId) !== pack) continue;
          // After a failed sync the content of the disk is unknown.
          failed = true;
          await this.evict(packId);
          this.#logger.warn('a cached pack cannot be synced', { pack: packId, error: describeError(error) });
        }
      }
      // The index must not name a file that could not be synced, so it is written again without it.
      if (failed) return await this.#checkpoint();
      await this.#disk.syncDirectory(this.#packsDirectory);
      await this.#writeIndex('index', index, true);
    } catch (error) {
      // The old index, or none, stays: it knows less, which is safe.
      for (const pack of this.#packs.values()) pack.unsynced = true;
      this.#logger.warn('the index of the cache cannot be written', { error: describeError(error) });
    }
  }

  #encodeIndex(bootId: string): Uint8Array {
    const held = [...this.#packs].filter(([, pack]) => pack.ranges.count > 0);
    const writer = new ByteWriter(64 + held.length * 80).u32(magic).u8(version);
    writer.varint(bootId.length).byteString(bootId).varint(held.length);
    for (const [packId, { file, kind, ranges }] of held) {
      const flags = (kind === 'pages' ? 1 : 0) + (this.#pinned.has(packId) ? 2 : 0);
      writer.varint(file.length).byteString(file).varint(flags).varint(ranges.count);
      let last = 0;
      for (const [start, end] of ranges) {
        writer.varint(start - last).varint(end - start);
        last = end;
      }
    }
    return writer.finish();
  }

  async #recover(): Promise<void> {
    const recent = this.#bootId === undefined ? undefined : await this.#readIndex('recent', this.#bootId);
    const known = recent ?? (await this.#readIndex('index', '')) ?? [];
    const files = new Set(known.map(({ file }) => file));
    const found = new Set<string>();
    for (const { name } of await this.#disk.readDirectory(this.#packsDirectory)) {
      if (files.has(name)) found.add(name);
      else await this.#disk.unlink(join(this.#packsDirectory, name)).catch(() => {});
    }
    // Packs pinned before stay until a new set of pins is given.
    const pinned = new Set<string>();
    for (const { packId, isPinned } of known) if (isPinned) pinned.add(packId);
    this.#pinned = pinned;
    for (const { packId, file, kind, ranges } of known) {
      if (!found.has(file)) continue;
      // An unsynced index may name files that were never synced.
      const pack: CachedPack = { file, kind, ranges, bytes: ranges.diskBytes(), unsynced: recent !== undefined };
      this.#packs.set(packId, pack);
      this.#count(packId, pack, pack.bytes);
    }
    await this.#checkSpace();
    await this.#shrink(this.#allowed);
  }

  /** Least recently used first; `undefined` when there is no such index, it is of another boot, or it is damaged. */
  async #readIndex(name: string, bootId: string): Promise<IndexedPack[] | undefined> {
    const known: IndexedPack[] = [];
    try {
      const file = await this.#disk.open(join(this.#directory, name), 'read');
      let bytes: Uint8Array;
      try {
        bytes = Buffer.alloc((await file.stat()).size);
        await file.read(bytes, 0);
      } finally {
        await file.close();
      }
      const reader = new ByteReader(bytes);
      if (reader.u32() !== magic || reader.u8() !== version) return undefined;
      if (reader.byteString(reader.varint()) !== bootId) return undefined;
      const packs = new Set<string>();
      for (let count = reader.varint(); count > 0; count--) {
        const fileName = reader.byteString(reader.varint());
        const packId = fileNamePattern.exec(fileName)?.[1];
        if (packId === undefined || packs.has(packId)) throw new MalformedBytesError('not a name of a cached pack');
        packs.add(packId);
        const flags = reader.varint();
        const ranges = new RangeSet();
        let at = 0;
        for (let left = reader.varint(); left > 0; left--) {
          const start = at + reader.varint();
          at = start + reader.varint();
          ranges.add(start, at);
        }
        known.push({ packId, file: fileName, kind: (flags & 1) === 0 ? 'content' : 'pages', isPinned: (flags & 2) !== 0, ranges });
      }
      reader.end();
      return known;
    } catch (error) {
      if (diskErrorCode(error) === 'ENOENT') return undefined;
      if (!(error instanceof MalformedBytesError) && diskErrorCode(error) === undefined) throw error;
      this.#logger.warn('an index of the cache is damaged', { name, error: describeError(error) });
      return undefined;
    }
  }
}

interface IndexedPack {
  readonly packId: string;
  readonly file: string;
  readonly kind: CacheKind;
  readonly isPinned: boolean;
  readonly ranges: RangeSet;
}
