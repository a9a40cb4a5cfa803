/**
 * Reads chunks and pages wherever they are (doc/architecture.md, "A read"). It keeps opened chunks in memory, and
 * fetches neighbours together. Every byte that leaves it was authenticated for its place. Bytes that do not verify are
 * an error, never absence; only the disk cache's copy is replaced by the store's (doc/security.md, "Criterion U"). The
 * sealed bytes come from `sealed-ranges.ts`.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { Limiter } from '../base/limiter.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { andThen, isPromise } from '../base/maybe-promise.js';
import { type MemoryBudget, usualBudget } from '../base/memory-budget.js';
import { MemoryCache } from '../cache/memory-cache.js';
import { type BulkCipher, inlineCipher } from '../crypto/bulk-cipher.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { ItemKind, PackKeys } from './item.js';
import { decodeItem, isRaw, itemPlace } from './item.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import type { RunPlace } from './pack-writer.js';
import type { PageReference } from './page-reference.js';
import type { SealedRange, SealedRangesOptions } from './sealed-ranges.js';
import { SealedRanges } from './sealed-ranges.js';

/** What may be kept in memory, and how many large requests may be under way. */
type PackMemory = Pick<MemoryBudget['shares'], 'chunks' | 'contentWindows' | 'pageWindows'> & Pick<MemoryBudget, 'largeRequests'>;

export interface PackSourceOptions extends Omit<SealedRangesOptions, 'memory'> {
  readonly keys: PackKeys;
  /** Decrypts; Node.js does when it is not given. */
  readonly cipher?: BulkCipher | undefined;
  /** The usual budget holds for what is left out. */
  readonly memory?: Partial<PackMemory>;
}

/** The most that one request fetches: 4 MiB of content with its seals. */
const requestMax = 4 * 1024 * 1024 + 64 * 1024;
/**
 * Concurrent requests of read-ahead. Fewer than a reader's window has, since requests that share the link end together:
 * the next one then keeps the link busy until the reader has asked for more.
 */
const aheadMax = 3;
/** Opening 256 KiB takes 0.1 ms: after this many bytes the event loop gets a turn. */
const openSliceBytes = 1024 * 1024;
/** Up to this size, bytes in the page cache are read and opened at once: it takes 0.1 ms. */
const nowBytesMax = 260 * 1024;
/** How many of the chunks are remembered of which a part was read. */
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

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const chunkKey = (pack: PackId, offset: number): string => `${pack}${offset}`;

export class PackSource {
  readonly #keys: PackKeys;
  readonly #ranges: SealedRanges;
  readonly #cipher: BulkCipher;
  /** Opened chunks. */
  readonly #memory: MemoryCache<string, Plaintext>;
  readonly #memoryMax: number;
  /** Chunks that were not kept when a part of them was read, least recent first. */
  readonly #seen = new Set<string>();
  readonly #ahead: Limiter | undefined;
  /** Sealed bytes that are opened before anything else happens. */
  readonly #scratch = Buffer.allocUnsafeSlow(nowBytesMax);

  constructor(options: PackSourceOptions) {
    this.#keys = options.keys;
    const memory: PackMemory = { ...usualBudget.shares, largeRequests: usualBudget.largeRequests, ...options.memory };
    this.#ranges = new SealedRanges({ ...options, memory });
    this.#cipher = options.cipher ?? inlineCipher;
    this.#memoryMax = memory.chunks;
    this.#memory = new MemoryCache({ bytesMax: this.#memoryMax, sizeOf: (plain) => plain.byteLength + 256 });
    this.#ahead = options.store.local ? undefined : new Limiter(Math.min(aheadMax, memory.largeRequests));
  }

  /** Bytes in memory: opened chunks, and sealed bytes that small reads brought along. */
  get memoryBytes(): number {
    return this.#memory.bytes + this.#ranges.heldBytes;
  }

  /**
   * One chunk, borrowed (do not change it): at once when it is in memory. Throws (or rejects with) PackError and
   * StoreError.
   */
  readChunk(pack: PackId, offset: number, plainLength: number, sealedLength: number): MaybePromise<Plaintext> {
    const known = this.#memory.get(chunkKey(pack, offset));
    if (known) return checkLength(known, plainLength);
    const waiting: WaitingChunk[] = [];
    const chunk = this.#want({ pack, offset, plainLength, sealedLength }, waiting, sealedLength <= nowBytesMax);
    this.#fetchAll(waiting);
    return chunk;
  }

  /**
   * Chunks `first` to `last` (inclusive) of a run, borrowed (do not change them): at once when all are in memory. Other
   * neighbours come with one request of about 4 MiB. Rejects with PackError and StoreError.
   */
  readRun(run: RunPlace, first: number, last: number): MaybePromise<readonly Plaintext[]> {
    const waiting: WaitingChunk[] = [];
    const wanted = chunksOf(run, first, last);
    const now = wanted.reduce((bytes, { sealedLength }) => bytes + sealedLength, 0) <= nowBytesMax;
    const chunks = wanted.map((chunk) => this.#want(chunk, waiting, now));
    this.#fetchAll(waiting);
    return chunks.some(isPromise) ? Promise.all(chunks.map((chunk) => Promise.resolve(chunk))) : (chunks as Plaintext[]);
  }

  /**
   * Bytes `from` to `to` of one chunk of a run, borrowed, for random access. Once the memory is full, a chunk is kept
   * only when it is wanted twice, so that such a reader evicts nothing that others use. Rejects with PackError and
   * StoreError.
   */
  readPart(run: RunPlace, index: number, from: number, to: number): MaybePromise<Uint8Array> {
    const [wanted] = chunksOf(run, index, index);
    assert(wanted, 'the chunk is in the run');
    const { pack, offset, plainLength, sealedLength } = wanted;
    const key = chunkKey(pack, offset);
    const isFull = this.#memory.bytes + plainLength + 4096 > this.#memoryMax;
    if (isFull && sealedLength <= nowBytesMax && !this.#memory.has(key) && !this.#wasSeen(key)) {
      const part = this.#partNow(wanted, from, to);
      if (part) return part;
    }
    return andThen(this.readChunk(pack, offset, plainLength, sealedLength), (chunk) => chunk.subarray(from, to));
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

  /**
   * Begins to load the missing chunks of runs that will be read one after the other, neighbours together. Errors are
   * left for the reads that follow.
   */
  prefetchRuns(runs: readonly RunPlace[]): void {
    const waiting: WaitingChunk[] = [];
    for (const wanted of runs.flatMap((run) => chunksOf(run, 0, run.chunks.length - 1))) {
      const chunk = this.#want(wanted, waiting, false);
      if (isPromise(chunk)) chunk.catch(() => {});
    }
    this.#fetchAll(waiting, this.#ahead);
  }

  /**
   * A tree page, verified against the reference's hash and opened; owned by the caller. Rejects with PackError and
   * StoreError.
   */
  async readPage(reference: PageReference): Promise<Plaintext> {
    const { pack, offset, length, hash } = reference;
    const open = async (range: SealedRange): Promise<Plaintext> => {
      if (!equalBytes(hashBytes(range.sealed), hash)) {
        this.#ranges.forget('pages', pack);
        throw new PackError('NOT_AUTHENTIC', `page at ${offset} of pack ${pack}: another hash than its reference has`);
      }
      const page = await this.#open('page', pack, offset, range.sealed);
      void this.#ranges.keep('pages', pack, offset, range);
      return page;
    };
    const range = await this.#ranges.read('pages', pack, offset, length, true);
    try {
      return await open(range);
    } catch (error) {
      if (range.from !== 'disk cache') throw error;
      await this.#ranges.evict(pack);
      return open(await this.#ranges.read('pages', pack, offset, length, false));
    }
  }

  /** Whether these sealed bytes are on a disk of this machine: staged, cached, or in a local store. */
  isHere(pack: PackId, offset: number, length: number): boolean {
    return this.#ranges.isHere(pack, offset, length);
  }

  /**
   * Fetches chunks of a pack (ascending, from first to last at most 4 MiB) into the disk cache, verified, without
   * keeping them in memory. Returns how many of the sealed bytes the disk cache has afterwards, since it may have no
   * room. Rejects with PackError and StoreError.
   */
  async bring(pack: PackId, items: readonly { readonly offset: number; readonly sealedLength: number }[], signal?: AbortSignal): Promise<number> {
    const [start, end] = [items.at(0)?.offset ?? 0, endOf(items.at(-1))];
    const sealed = await this.#ranges.readPastCaches(pack, start, end - start, signal);
    let brought = 0;
    // The bytes between two chunks are not verified, so only stretches without gaps are kept.
    for (const stretch of stretchesOf(items)) {
      for (const { offset, sealedLength } of stretch) {
        await this.#open('chunk', pack, offset, sealed.subarray(offset - start, offset - start + sealedLength));
        await nextTurn();
      }
      const [from, to] = [stretch[0].offset, endOf(stretch.at(-1))];
      await this.#ranges.keep('content', pack, from, { sealed: sealed.subarray(from - start, to - start), from: 'store' });
      if (this.isHere(pack, from, to - from)) brought += to - from;
    }
    return brought;
  }

  /**
   * The chunk from memory, from a load under way, or (`now`) from this machine without waiting; else a promise that
   * joins `waiting`.
   */
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

  /**
   * The payload of a chunk of up to `nowBytesMax`, if that needs no waiting. `brief`: it is valid only until anything
   * else happens. Throws PackError.
   */
  #payloadNow({ pack, offset, sealedLength }: WantedChunk, brief: boolean): Plaintext | undefined {
    const sealed = this.#scratch.subarray(0, sealedLength);
    const from = this.#ranges.readNow(pack, sealed, offset);
    if (!from) return undefined;
    try {
      return this.#unseal('chunk', pack, offset, sealed, brief);
    } catch (error) {
      // The store may replace the disk cache's copy, but that takes waiting.
      if (from !== 'disk cache') throw error;
      return undefined;
    }
  }

  /** Fetches chunks (ascending within a pack), neighbours together. */
  #fetchAll(waiting: readonly WaitingChunk[], limiter?: Limiter): void {
    for (const chunks of stretchesOf(waiting, requestMax)) {
      const fetch = (): Promise<void> => this.#fetch(chunks);
      void (limiter ? limiter.run(fetch) : fetch());
    }
  }

  /** Resolves or rejects all of `waiting`, which are adjacent. Never rejects. */
  async #fetch(waiting: NonEmpty<WaitingChunk>): Promise<void> {
    const [{ pack, offset }] = waiting;
    const length = endOf(waiting.at(-1)) - offset;
    const openAndKeep = async (range: SealedRange): Promise<{ readonly opened: readonly (Plaintext | PackError)[]; readonly isWhole: boolean }> => {
      const opened = await this.#openAll(offset, range, waiting);
      const isWhole = !opened.some((chunk) => chunk instanceof PackError);
      if (isWhole) void this.#ranges.keep('content', pack, offset, range);
      return { opened, isWhole };
    };
    try {
      const opened = await this.#ranges.readBriefly(pack, offset, length, async (range) => {
        const first = await openAndKeep(range);
        if (range.from !== 'disk cache' || first.isWhole) return first.opened;
        await this.#ranges.evict(pack);
        return (await openAndKeep(await this.#ranges.read('content', pack, offset, length, false))).opened;
      });
      for (const [index, { resolve, reject }] of waiting.entries()) {
        const chunk = opened[index];
        if (chunk === undefined || chunk instanceof PackError) reject(chunk);
        else resolve(chunk);
      }
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }

  /** One result for each of `waiting`. Rejects with what is not a PackError. */
  async #openAll(start: number, range: SealedRange, waiting: readonly WaitingChunk[]): Promise<readonly (Plaintext | PackError)[]> {
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

  /** `inPlace`: the payload overwrites `sealed`. */
  #unseal(kind: ItemKind, pack: PackId, offset: number, sealed: Uint8Array, inPlace: boolean): Plaintext {
    try {
      return this.#keys[kind].openBy(this.#cipher.decryptInto, itemPlace(pack, offset), sealed, inPlace);
    } catch (cause) {
      if (!(cause instanceof CryptoError)) throw cause;
      this.#ranges.forget(kind === 'page' ? 'pages' : 'content', pack);
      throw new PackError('NOT_AUTHENTIC', `${kind} at ${offset} of pack ${pack}`, { cause });
    }
  }
}

type NonEmpty<T> = readonly [T, ...T[]];

/** Chunks `first` to `last` (inclusive) of a run, with their places. */
function chunksOf(run: RunPlace, first: number, last: number): WantedChunk[] {
  const wanted: WantedChunk[] = [];
  let offset = run.packOffset;
  let index = 0;
  for (const { plainLength, sealedLength } of run.chunks) {
    if (index > last) break;
    if (index >= first) wanted.push({ pack: run.pack, offset, plainLength, sealedLength });
    offset += sealedLength;
    index++;
  }
  return wanted;
}

interface SealedPlace {
  readonly pack?: PackId;
  readonly offset: number;
  readonly sealedLength: number;
}

const endOf = (place: SealedPlace | undefined): number => (place ? place.offset + place.sealedLength : 0);

/** Consecutive items that lie side by side in one pack, each stretch of at most `bytesMax` (or one item). */
function stretchesOf<T extends SealedPlace>(items: readonly T[], bytesMax = Number.POSITIVE_INFINITY): NonEmpty<T>[] {
  const stretches: [T, ...T[]][] = [];
  for (const item of items) {
    const last = stretches.at(-1);
    const isNext = last && last[0].pack === item.pack && endOf(last.at(-1)) === item.offset && endOf(item) - last[0].offset <= bytesMax;
    if (isNext) last.push(item);
    else stretches.push([item]);
  }
  return stretches;
}

function copyOf<T extends Uint8Array>(bytes: T): T {
  return Uint8Array.prototype.slice.call(bytes) as T;
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
