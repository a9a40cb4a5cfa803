/**
 * Reads chunks and pages wherever they are: memory, a staging pack, the disk cache, the store. Nothing leaves it that was not
 * authenticated for its place; what does not verify is an error, never absence, and never retried but for the disk cache's copy
 * (doc/security.md).
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { Limiter } from '../base/limiter.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { andThen, isPromise } from '../base/maybe-promise.js';
import { type MemoryBudget, usualBudget } from '../base/memory-budget.js';
import type { CacheKind, DiskCache } from '../cache/disk-cache.js';
import { MemoryCache } from '../cache/memory-cache.js';
import { type BulkCipher, inlineCipher } from '../crypto/bulk-cipher.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { ObjectStore } from '../store/object-store.js';
import type { ItemKind, PackKeys } from './item.js';
import { decodeItem, isRaw, itemPlace } from './item.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import { packKey } from './pack-id.js';
import type { PackItem } from './pack-index.js';
import { readPackIndex } from './pack-index.js';
import type { PackWriter, RunPlace } from './pack-writer.js';
import type { PageReference } from './page-reference.js';
import { ReadWindows, windowReadMax } from './read-window.js';

export type PackMemory = Partial<Pick<MemoryBudget['shares'], 'chunks' | 'contentWindows' | 'pageWindows'> & Pick<MemoryBudget, 'largeRequests'>>;

export interface PackSourceOptions {
  readonly store: ObjectStore;
  readonly keys: PackKeys;
  /** Packs that are on the local disk only, by id. Their owner adds and removes them; one is removed once the store or the disk cache has it. */
  readonly staging: ReadonlyMap<PackId, Pick<PackWriter, 'read'> & Partial<Pick<PackWriter, 'readNow'>>>;
  /** Sealed bytes that the store sent. Of no use in front of a local store. */
  readonly diskCache?: Pick<DiskCache, 'read' | 'write' | 'evict' | 'has'> & Partial<Pick<DiskCache, 'readNow'>>;
  /** Who decrypts what is opened at once; Node.js when not given. */
  readonly cipher?: BulkCipher | undefined;
  /** What may be kept in memory, and how many large requests may be under way; what is left out is as usual. */
  readonly memory?: PackMemory;
}

/** One request brings at most this much: 4 MiB of content with its seals. */
const requestMax = 4 * 1024 * 1024 + 64 * 1024;
/**
 * Requests for what is fetched ahead, at once. Fewer than a reader's window has: those that share the link end together, and then the next one is what
 * keeps the link busy until the reader has asked for more.
 */
const aheadMax = 3;
/** Opening 256 KiB takes 0.1 ms: after this many bytes others get their turn on the event loop. */
const openSliceBytes = 1024 * 1024;

/** What is asked for at once and is in the page cache is read and opened at once, up to this: it takes 0.1 ms. */
const nowBytesMax = 260 * 1024;
/** Requests of a local store up to this are read into memory that is used again: 512 KiB are what is fetched ahead there at once. */
const lentBytes = 1024 * 1024 + 64 * 1024;
const sparesMax = 4;
/** So many chunks that parts were read of are remembered by name. */
const seenMax = 1024;

interface WantedChunk {
  readonly pack: PackId;
  readonly offset: number;
  readonly plainLength: number;
  readonly sealedLength: number;
}

interface WaitingChunk extends WantedChunk {
  readonly resolve: (plain: MaybePromise<Plaintext>) => void;
  readonly reject: (error: unknown) => void;
}

interface Range {
  readonly sealed: Uint8Array;
  readonly from: 'staging' | 'disk' | 'store';
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const chunkKey = (pack: PackId, offset: number): string => `${pack}${offset}`;

export class PackSource {
  readonly #store: ObjectStore;
  readonly #keys: PackKeys;
  readonly #staging: PackSourceOptions['staging'];
  readonly #diskCache: PackSourceOptions['diskCache'];
  readonly #memory: MemoryCache<string, Plaintext>;
  readonly #ahead: Limiter | undefined;
  readonly #cipher: BulkCipher;
  /** Sealed bytes that are opened before anything else happens. */
  readonly #scratch = Buffer.allocUnsafeSlow(nowBytesMax);
  readonly #spares: Buffer[] = [];
  readonly #memoryMax: number;
  /** Chunks that a part was read of and that were not kept, least recent first. */
  readonly #seen = new Set<string>();
  /** Chunks and pages never share a pack. */
  readonly #windows: Readonly<Record<CacheKind, ReadWindows>>;

  constructor(options: PackSourceOptions) {
    const { chunks, contentWindows, pageWindows, largeRequests } = {
      ...usualBudget.shares,
      largeRequests: usualBudget.largeRequests,
      ...options.memory,
    };
    this.#store = options.store;
    this.#keys = options.keys;
    this.#staging = options.staging;
    this.#cipher = options.cipher ?? inlineCipher;
    this.#ahead = options.store.local ? undefined : new Limiter(Math.min(aheadMax, largeRequests));
    this.#diskCache = options.store.local ? undefined : options.diskCache;
    this.#windows = { content: this.#makeWindows('content', contentWindows), pages: this.#makeWindows('pages', pageWindows) };
    this.#memoryMax = chunks;
    this.#memory = new MemoryCache({ bytesMax: this.#memoryMax, sizeOf: (plain) => plain.byteLength + 256 });
  }

  /** Bytes of opened chunks, and of what small reads brought along, in memory now. */
  get memoryBytes(): number {
    return this.#memory.bytes + this.#windows.content.heldBytes + this.#windows.pages.heldBytes;
  }

  /** One chunk, borrowed (do not change it): at once when it is in memory. Throws (or rejects with) PackError and StoreError. */
  readChunk(pack: PackId, offset: number, plainLength: number, sealedLength: number): MaybePromise<Plaintext> {
    const known = this.#memory.get(chunkKey(pack, offset));
    if (known) return checkLength(known, plainLength);
    const waiting: WaitingChunk[] = [];
    const chunk = this.#want({ pack, offset, plainLength, sealedLength }, waiting, sealedLength <= nowBytesMax);
    this.#fetchAll(waiting);
    return chunk;
  }

  /**
   * Chunks `first` to `last` (inclusive) of a run, borrowed (do not change them): at once when all are in memory. Neighbours that are
   * not come with one request of about 4 MiB. Rejects with PackError and StoreError.
   */
  readRun(run: RunPlace, first: number, last: number): MaybePromise<readonly Plaintext[]> {
    const waiting: WaitingChunk[] = [];
    let bytes = 0;
    for (let index = first; index <= last; index++) bytes += run.chunks[index].sealedLength;
    const chunks = this.#wantRun(run, first, last, waiting, bytes <= nowBytesMax);
    this.#fetchAll(waiting);
    return chunks.some(isPromise) ? Promise.all(chunks.map((chunk) => Promise.resolve(chunk))) : (chunks as Plaintext[]);
  }

  /**
   * Bytes `from` to `to` of one chunk of a run, borrowed, for a reader that jumps about: once the memory is full a chunk has to be wanted twice to be kept,
   * so that such a reader drives out nothing that others use. Rejects with PackError and StoreError.
   */
  readPart(run: RunPlace, index: number, from: number, to: number): MaybePromise<Uint8Array> {
    const { plainLength, sealedLength } = run.chunks[index];
    let offset = run.packOffset;
    for (let before = 0; before < index; before++) offset += run.chunks[before].sealedLength;
    const key = chunkKey(run.pack, offset);
    const isFull = this.#memory.bytes + plainLength + 4096 > this.#memoryMax;
    if (isFull && sealedLength <= nowBytesMax && !this.#memory.has(key) && !this.#wasSeen(key)) {
      const part = this.#partNow({ pack: run.pack, offset, plainLength, sealedLength }, from, to);
      if (part) return part;
    }
    return andThen(this.readChunk(run.pack, offset, plainLength, sealedLength), (chunk) => chunk.subarray(from, to));
  }

  #partNow(wanted: WantedChunk, from: number, to: number): MaybePromise<Uint8Array> | undefined {
    try {
      const payload = this.#payloadNow(wanted, true);
      if (!payload) return undefined;
      const isWhole = isRaw(payload);
      const plain = decodeItem('chunk', isWhole ? payload : copyOf(payload));
      return andThen(plain, (chunk) => {
        const part = checkLength(chunk, wanted.plainLength).subarray(from, to);
        return isWhole ? copyOf(part) : part;
      });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #wasSeen(key: string): boolean {
    if (this.#seen.delete(key)) return true;
    this.#seen.add(key);
    if (this.#seen.size > seenMax) this.#seen.delete(this.#seen.keys().next().value as string);
    return false;
  }

  /** Begins to load what is not there yet of runs that will be read one after the other, neighbours together; errors are left for the reads that follow. */
  prefetchRuns(runs: readonly RunPlace[]): void {
    const waiting: WaitingChunk[] = [];
    for (const run of runs) {
      for (const chunk of this.#wantRun(run, 0, run.chunks.length - 1, waiting, false)) if (isPromise(chunk)) chunk.catch(() => {});
    }
    this.#fetchAll(waiting, this.#ahead);
  }

  #wantRun(run: RunPlace, first: number, last: number, waiting: WaitingChunk[], now: boolean): MaybePromise<Plaintext>[] {
    const chunks: MaybePromise<Plaintext>[] = [];
    let offset = run.packOffset;
    for (let index = 0; index <= last; index++) {
      const { plainLength, sealedLength } = run.chunks[index];
      if (index >= first) chunks.push(this.#want({ pack: run.pack, offset, plainLength, sealedLength }, waiting, now));
      offset += sealedLength;
    }
    return chunks;
  }

  /** Keeps chunks that were just appended, since what was written is often read next. Takes `chunks` over: they must not change any more. */
  remember(run: RunPlace, chunks: readonly Plaintext[]): void {
    let offset = run.packOffset;
    for (let index = 0; index < chunks.length; index++) {
      this.#memory.set(chunkKey(run.pack, offset), chunks[index]);
      offset += run.chunks[index].sealedLength;
    }
  }

  /** A tree page, verified against the reference's hash and opened; owned by the caller. Rejects with PackError and StoreError. */
  async readPage(reference: PageReference): Promise<Plaintext> {
    const { pack, offset, length, hash } = reference;
    const open = (sealed: Uint8Array): MaybePromise<Plaintext> => {
      if (!equalBytes(hashBytes(sealed), hash)) {
        this.#windows.pages.forget(pack);
        throw new PackError('NOT_AUTHENTIC', `page at ${offset} of pack ${pack}: another hash than its reference has`);
      }
      return this.#open('page', pack, offset, sealed);
    };
    const range = await this.#read('pages', pack, offset, length, true);
    try {
      const page = await open(range.sealed);
      this.#keep(pack, offset, range, 'pages');
      return page;
    } catch (error) {
      if (range.from !== 'disk') throw error;
      await this.#diskCache?.evict(pack);
      const again = await this.#read('pages', pack, offset, length, false);
      const page = await open(again.sealed);
      this.#keep(pack, offset, again, 'pages');
      return page;
    }
  }

  /** What a finished pack of `size` bytes (as the commit that brought it says) holds. Rejects with PackError and StoreError. */
  readIndex(pack: PackId, size: number): Promise<readonly PackItem[]> {
    return readPackIndex(this.#keys, pack, size, async (offset, length) => (await this.#read('content', pack, offset, length, false)).sealed);
  }

  /** Reads a chunk or page from the store itself, past all caches, and says whether it verifies: for `check`. Rejects as the reads do. */
  async verifyItem(kind: ItemKind, pack: PackId, offset: number, sealedLength: number): Promise<void> {
    await this.#open(kind, pack, offset, await this.#readStore(pack, offset, sealedLength));
  }

  /** Whether these sealed bytes lie on a disk of this machine: staged, cached, or in a local store. */
  isHere(pack: PackId, offset: number, length: number): boolean {
    return this.#store.local || this.#staging.has(pack) || (this.#diskCache?.has(pack, offset, length) ?? false);
  }

  /**
   * Brings chunks of a pack (ascending, from first to last at most 4 MiB) to the local disk, verified, past the memory. Answers how many sealed bytes
   * the disk cache has of them now: it may have no room. Rejects with PackError and StoreError.
   */
  async bring(pack: PackId, items: readonly { readonly offset: number; readonly sealedLength: number }[], signal?: AbortSignal): Promise<number> {
    const start = items[0].offset;
    const end = items[items.length - 1].offset + items[items.length - 1].sealedLength;
    const sealed = await this.#store.get(packKey(pack), { range: { offset: start, length: end - start }, ...(signal ? { signal } : {}) });
    if (!sealed) throw new PackError('MISSING', `pack ${pack} is not in the store`);
    complete(pack, start, end - start, sealed);
    let brought = 0;
    for (let from = 0; from < items.length; ) {
      // What lies between two chunks was not asked for and is not verified: stretches without gaps are kept.
      let to = from;
      let stretchEnd = items[from].offset;
      for (; to < items.length && items[to].offset === stretchEnd; to++) {
        const { offset, sealedLength } = items[to];
        await this.#open('chunk', pack, offset, sealed.subarray(offset - start, offset - start + sealedLength));
        stretchEnd += sealedLength;
        await nextTurn();
      }
      const { offset } = items[from];
      await this.#diskCache?.write(pack, offset, sealed.subarray(offset - start, stretchEnd - start) as Sealed);
      if (this.isHere(pack, offset, stretchEnd - offset)) brought += stretchEnd - offset;
      from = to;
    }
    return brought;
  }

  /** The chunk from memory, a load under way, or (`now`) without waiting from this machine; else a promise that joins `waiting`. */
  #want(wanted: WantedChunk, waiting: WaitingChunk[], now: boolean): MaybePromise<Plaintext> {
    const chunk = this.#memory.load(
      chunkKey(wanted.pack, wanted.offset),
      () => (now ? this.#openNow(wanted) : undefined) ?? new Promise<Plaintext>((resolve, reject) => waiting.push({ ...wanted, resolve, reject })),
    );
    return isPromise(chunk) ? chunk.then((plain) => checkLength(plain, wanted.plainLength)) : checkLength(chunk, wanted.plainLength);
  }

  #openNow(wanted: WantedChunk): MaybePromise<Plaintext> | undefined {
    try {
      const payload = this.#payloadNow(wanted, false);
      return payload && decodeItem('chunk', payload);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The payload of a chunk of up to `nowBytesMax`, when there is nothing to wait for. `brief`: it is gone when anything else happens. Throws PackError. */
  #payloadNow({ pack, offset, sealedLength }: WantedChunk, brief: boolean): Plaintext | undefined {
    const sealed = this.#scratch.subarray(0, sealedLength);
    const { local } = this.#store;
    const staged = this.#staging.get(pack);
    let isHere: boolean | undefined;
    if (staged) isHere = staged.readNow?.(sealed, offset);
    else if (local) isHere = this.#store.readNow?.(packKey(pack), sealed, offset);
    else isHere = this.#diskCache?.readNow?.(pack, sealed, offset);
    if (!isHere) return undefined;
    try {
      return this.#unseal('chunk', pack, offset, sealed, brief);
    } catch (error) {
      // The disk cache's copy may be replaced by the store's: that is for those who may wait.
      if (staged || local) throw error;
      return undefined;
    }
  }

  /** Fetches chunks (ascending within a pack), neighbours together. */
  #fetchAll(waiting: readonly WaitingChunk[], limiter?: Limiter): void {
    for (let from = 0; from < waiting.length; ) {
      const { pack, offset } = waiting[from];
      let end = offset + waiting[from].sealedLength;
      let to = from + 1;
      for (; to < waiting.length && waiting[to].pack === pack && waiting[to].offset === end; to++) {
        if (end + waiting[to].sealedLength - offset > requestMax) break;
        end += waiting[to].sealedLength;
      }
      const wanted = waiting.slice(from, to);
      const fetch = (): Promise<void> => this.#fetch(pack, offset, end, wanted);
      void (limiter ? limiter.run(fetch) : fetch());
      from = to;
    }
  }

  /** Settles all of `waiting`, which fill `offset` to `end` of a pack. Never rejects. */
  async #fetch(pack: PackId, offset: number, end: number, waiting: readonly WaitingChunk[]): Promise<void> {
    const lent = this.#lend(pack, end - offset);
    try {
      let range = lent ? await this.#readInto(lent, pack, offset, end - offset) : await this.#read('content', pack, offset, end - offset, true);
      let opened = await this.#openAll(offset, range, waiting);
      if (range.from === 'disk' && opened.some((chunk) => chunk instanceof PackError)) {
        await this.#diskCache?.evict(pack);
        range = await this.#read('content', pack, offset, end - offset, false);
        opened = await this.#openAll(offset, range, waiting);
      }
      if (!opened.some((chunk) => chunk instanceof PackError)) this.#keep(pack, offset, range);
      opened.forEach((chunk, index) => {
        if (chunk instanceof PackError) waiting[index].reject(chunk);
        else waiting[index].resolve(chunk);
      });
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    } finally {
      if (lent && this.#spares.length < sparesMax) this.#spares.push(lent);
    }
  }

  /** Memory for sealed bytes of a local store that nobody keeps: fresh memory for each large request is what the garbage collector is busiest with. */
  #lend(pack: PackId, length: number): Buffer | undefined {
    const isLent =
      length > windowReadMax && length <= lentBytes && this.#store.local && this.#store.readInto !== undefined && !this.#staging.has(pack);
    return isLent ? (this.#spares.pop() ?? Buffer.allocUnsafeSlow(lentBytes)) : undefined;
  }

  async #readInto(lent: Buffer, pack: PackId, offset: number, length: number): Promise<Range> {
    const target = lent.subarray(0, length);
    const count = await this.#store.readInto?.(packKey(pack), target, offset);
    if (count === undefined) throw new PackError('MISSING', `pack ${pack} is not in the store`);
    return { sealed: complete(pack, offset, length, target.subarray(0, count)), from: 'store' };
  }

  async #openAll(start: number, range: Range, waiting: readonly WaitingChunk[]): Promise<(Plaintext | PackError)[]> {
    const opened: MaybePromise<Plaintext | PackError>[] = [];
    let slice = 0;
    for (const { pack, offset, sealedLength } of waiting) {
      if (slice > openSliceBytes) {
        await nextTurn();
        slice = 0;
      }
      slice += sealedLength;
      try {
        const plain = this.#open('chunk', pack, offset, range.sealed.subarray(offset - start, offset - start + sealedLength));
        opened.push(isPromise(plain) ? plain.catch(packErrorOf) : plain);
      } catch (error) {
        opened.push(packErrorOf(error));
      }
    }
    return Promise.all(opened.map((chunk) => Promise.resolve(chunk)));
  }

  #open(kind: ItemKind, pack: PackId, offset: number, sealed: Uint8Array): MaybePromise<Plaintext> {
    return decodeItem(kind, this.#unseal(kind, pack, offset, sealed, false));
  }

  /** `inPlace`: the payload takes the place of `sealed`. */
  #unseal(kind: ItemKind, pack: PackId, offset: number, sealed: Uint8Array, inPlace: boolean): Plaintext {
    try {
      return this.#keys[kind].openBy(this.#cipher.decryptInto, itemPlace(pack, offset), sealed, inPlace);
    } catch (cause) {
      if (!(cause instanceof CryptoError)) throw cause;
      this.#windows[kind === 'page' ? 'pages' : 'content'].forget(pack);
      throw new PackError('NOT_AUTHENTIC', `${kind} at ${offset} of pack ${pack}`, { cause });
    }
  }

  /** Exactly `length` sealed bytes, not verified. */
  async #read(kind: CacheKind, pack: PackId, offset: number, length: number, cached: boolean): Promise<Range> {
    const staged = this.#staging.get(pack);
    if (staged) {
      try {
        return { sealed: await staged.read(offset, length), from: 'staging' };
      } catch (error) {
        // It may have been closed because the pack is in the store now.
        if (this.#staging.get(pack) === staged) throw error;
      }
    }
    let from: Range['from'] = 'store';
    const readDisk = async (): Promise<Uint8Array | undefined> => {
      const held = await this.#diskCache?.read(pack, offset, length);
      if (held) from = 'disk';
      return held;
    };
    const sealed = await this.#windows[kind].read(pack, offset, length, cached && this.#diskCache ? readDisk : undefined);
    return { sealed: complete(pack, offset, length, sealed), from };
  }

  #makeWindows(kind: CacheKind, heldMax: number): ReadWindows {
    return new ReadWindows(
      (...range) => this.#readWindow(kind, ...range),
      heldMax,
      (...range) => this.#diskCache?.has(...range) ?? false,
      this.#store.local,
    );
  }

  /**
   * What a small read brings along is kept on the disk before anyone has verified it: whoever reads it from there does, and asks the store again when
   * it is wrong.
   */
  async #readWindow(kind: CacheKind, pack: PackId, offset: number, length: number, isAround: boolean): Promise<Uint8Array> {
    const sealed = await this.#readUpTo(pack, offset, length);
    if (isAround) void this.#diskCache?.write(pack, offset, sealed as Sealed, kind);
    return sealed;
  }

  async #readStore(pack: PackId, offset: number, length: number): Promise<Uint8Array> {
    return complete(pack, offset, length, await this.#readUpTo(pack, offset, length));
  }

  async #readUpTo(pack: PackId, offset: number, length: number): Promise<Uint8Array> {
    const sealed = await this.#store.get(packKey(pack), { range: { offset, length } });
    if (!sealed) throw new PackError('MISSING', `pack ${pack} is not in the store`);
    return sealed;
  }

  /** Puts verified bytes that the store sent into the disk cache, in the background. */
  #keep(pack: PackId, offset: number, range: Range, kind: CacheKind = 'content'): void {
    if (range.from === 'store') void this.#diskCache?.write(pack, offset, range.sealed as Sealed, kind);
  }
}

function copyOf<T extends Uint8Array>(bytes: T): T {
  return Uint8Array.prototype.slice.call(bytes) as T;
}

function complete(pack: PackId, offset: number, length: number, sealed: Uint8Array): Uint8Array {
  if (sealed.byteLength < length) throw new PackError('MISSING', `pack ${pack} has no ${length} bytes at ${offset}`);
  return sealed.subarray(0, length);
}

function packErrorOf(error: unknown): PackError {
  if (error instanceof PackError) return error;
  throw error;
}

/** The tree says how long a chunk is; another length means that the tree is wrong. */
function checkLength(plain: Plaintext, plainLength: number): Plaintext {
  if (plain.byteLength !== plainLength) throw new PackError('MALFORMED', `chunk has ${plain.byteLength} bytes, not ${plainLength}`);
  return plain;
}
