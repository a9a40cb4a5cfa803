/**
 * Sealed bytes of packs, from wherever they are: a staging pack, the disk cache, the store (doc/architecture.md, "A
 * read"). Nothing is verified here: `pack-source.ts` opens the bytes, and reports the ones that do not verify.
 */
import type { Sealed } from '../base/brand.js';
import type { MemoryBudget } from '../base/memory-budget.js';
import type { CacheKind, DiskCache } from '../cache/disk-cache.js';
import type { ObjectStore } from '../store/object-store.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import { packKey } from './pack-id.js';
import type { PackWriter } from './pack-writer.js';
import { ReadWindows, windowReadMax } from './read-window.js';

export interface SealedRangesOptions {
  readonly store: ObjectStore;
  /**
   * Packs that are only on the local disk, by id. Their owner adds them, and removes each one once the store or the
   * disk cache has it.
   */
  readonly staging: ReadonlyMap<PackId, Pick<PackWriter, 'read'> & Partial<Pick<PackWriter, 'readNow'>>>;
  /** Sealed bytes that the store sent. Not used in front of a local store. */
  readonly diskCache?: Pick<DiskCache, 'read' | 'write' | 'evict' | 'has'> & Partial<Pick<DiskCache, 'readNow'>>;
  /** How many sealed bytes that small reads brought along are kept in memory. */
  readonly memory: Pick<MemoryBudget['shares'], 'contentWindows' | 'pageWindows'>;
}

export type RangeOrigin = 'staging' | 'disk cache' | 'store';

export interface SealedRange {
  readonly sealed: Uint8Array;
  readonly from: RangeOrigin;
}

/** Requests of a local store up to this size use recycled memory: one piece of read-ahead has 512 KiB there. */
const lentBytes = 1024 * 1024 + 64 * 1024;
const sparesMax = 4;

export class SealedRanges {
  readonly #store: ObjectStore;
  readonly #staging: SealedRangesOptions['staging'];
  readonly #diskCache: SealedRangesOptions['diskCache'];
  /** Chunks and pages never share a pack. */
  readonly #windows: Readonly<Record<CacheKind, ReadWindows>>;
  readonly #spares: Buffer[] = [];

  constructor({ store, staging, diskCache, memory }: SealedRangesOptions) {
    this.#store = store;
    this.#staging = staging;
    this.#diskCache = store.local ? undefined : diskCache;
    this.#windows = { content: this.#makeWindows('content', memory.contentWindows), pages: this.#makeWindows('pages', memory.pageWindows) };
  }

  #makeWindows(kind: CacheKind, heldMax: number): ReadWindows {
    const read = async (pack: PackId, offset: number, length: number, isAround: boolean): Promise<Uint8Array> => {
      const sealed = await this.#readStore(pack, offset, length);
      // Unverified so far: a reader that finds these bytes wrong asks the store again.
      if (isAround) void this.#diskCache?.write(pack, offset, sealed as Sealed, kind);
      return sealed;
    };
    const isCached = (...range: [PackId, number, number]): boolean => this.#diskCache?.has(...range) ?? false;
    return new ReadWindows(read, heldMax, isCached, this.#store.local);
  }

  /** Bytes that small reads brought along, in memory. */
  get heldBytes(): number {
    return this.#windows.content.heldBytes + this.#windows.pages.heldBytes;
  }

  /** Whether these bytes are on a disk of this machine: staged, cached, or in a local store. */
  isHere(pack: PackId, offset: number, length: number): boolean {
    return this.#store.local || this.#staging.has(pack) || (this.#diskCache?.has(pack, offset, length) ?? false);
  }

  /** Exactly `length` bytes. `useCache` false: not from the disk cache. Rejects with PackError and StoreError. */
  async read(kind: CacheKind, pack: PackId, offset: number, length: number, useCache: boolean): Promise<SealedRange> {
    const staged = this.#staging.has(pack) ? await this.#readStaged(pack, offset, length) : undefined;
    if (staged) return staged;
    let from: RangeOrigin = 'store';
    const readCache = async (): Promise<Uint8Array | undefined> => {
      const cached = await this.#diskCache?.read(pack, offset, length);
      if (cached) from = 'disk cache';
      return cached;
    };
    const sealed = await this.#windows[kind].read(pack, offset, length, useCache && this.#diskCache ? readCache : undefined);
    return { sealed: complete(pack, offset, length, sealed), from };
  }

  /** `undefined` when the pack is not staged, or not any more: it is in the store then. */
  async #readStaged(pack: PackId, offset: number, length: number): Promise<SealedRange | undefined> {
    const staged = this.#staging.get(pack);
    try {
      return staged && { sealed: await staged.read(offset, length), from: 'staging' };
    } catch (error) {
      // It may have been closed because the pack is in the store now.
      if (this.#staging.get(pack) === staged) throw error;
      return undefined;
    }
  }

  /**
   * Exactly `length` bytes, without neighbours, from a disk of this machine; `undefined` when they are not there.
   * Rejects with PackError and StoreError.
   */
  async readHere(pack: PackId, offset: number, length: number): Promise<SealedRange | undefined> {
    const staged = await this.#readStaged(pack, offset, length);
    if (staged) return staged;
    if (this.#store.local && this.#store.readInto) {
      const sealed = Buffer.allocUnsafe(length);
      return (await this.#store.readInto(packKey(pack), sealed, offset)) === length ? { sealed, from: 'store' } : undefined;
    }
    const cached = await this.#diskCache?.read(pack, offset, length);
    return cached && { sealed: cached, from: 'disk cache' };
  }

  /**
   * Fills `target` if that needs no waiting. Returns where the bytes came from; `undefined` if it would have to wait.
   */
  readNow(pack: PackId, target: Uint8Array, offset: number): RangeOrigin | undefined {
    const staged = this.#staging.get(pack);
    if (staged) return staged.readNow?.(target, offset) ? 'staging' : undefined;
    if (this.#store.local) return this.#store.readNow?.(packKey(pack), target, offset) ? 'store' : undefined;
    return this.#diskCache?.readNow?.(pack, target, offset) ? 'disk cache' : undefined;
  }

  /**
   * As `read` of content, for bytes that nobody keeps after `use`: large requests of a local store then use recycled
   * memory, since allocating it anew each time costs most of the garbage collector's work.
   */
  async readBriefly<T>(pack: PackId, offset: number, length: number, use: (range: SealedRange) => Promise<T>): Promise<T> {
    const isLent = length > windowReadMax && length <= lentBytes && this.#store.local && !this.#staging.has(pack);
    if (!isLent || this.#store.readInto === undefined) return use(await this.read('content', pack, offset, length, true));
    const lent = this.#spares.pop() ?? Buffer.allocUnsafeSlow(lentBytes);
    try {
      const count = await this.#store.readInto(packKey(pack), lent.subarray(0, length), offset);
      if (count === undefined) throw new PackError('MISSING', `pack ${pack} is not in the store`);
      return await use({ sealed: complete(pack, offset, length, lent.subarray(0, count)), from: 'store' });
    } finally {
      if (this.#spares.length < sparesMax) this.#spares.push(lent);
    }
  }

  /** Exactly `length` bytes from the store itself, past all caches. Rejects with PackError and StoreError. */
  async readPastCaches(pack: PackId, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    return complete(pack, offset, length, await this.#readStore(pack, offset, length, signal));
  }

  /** Up to `length` bytes, fewer only at the end of the pack. */
  async #readStore(pack: PackId, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const sealed = await this.#store.get(packKey(pack), { range: { offset, length }, ...(signal ? { signal } : {}) });
    if (!sealed) throw new PackError('MISSING', `pack ${pack} is not in the store`);
    return sealed;
  }

  /** Writes verified bytes to the disk cache, if they came from the store. */
  async keep(kind: CacheKind, pack: PackId, offset: number, { sealed, from }: SealedRange): Promise<void> {
    if (from === 'store') await this.#diskCache?.write(pack, offset, sealed as Sealed, kind);
  }

  /** Evicts the disk cache's copy, which did not verify. */
  async evict(pack: PackId): Promise<void> {
    await this.#diskCache?.evict(pack);
  }

  /** Drops what windows hold of the pack, since it did not verify. */
  forget(kind: CacheKind, pack: PackId): void {
    this.#windows[kind].forget(pack);
  }
}

function complete(pack: PackId, offset: number, length: number, sealed: Uint8Array): Uint8Array {
  if (sealed.byteLength < length) throw new PackError('MISSING', `pack ${pack} has no ${length} bytes at ${offset}`);
  return sealed.subarray(0, length);
}
