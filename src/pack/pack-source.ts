/**
 * Reads chunks and pages wherever they are (doc/architecture.md, "A read"). It keeps opened chunks in memory, and
 * fetches neighbours together. Every byte that leaves it was authenticated for its place. Bytes that do not verify are
 * an error, never absence; only the disk cache's copy is replaced by the store's (doc/security.md, "Criterion U"). The
 * sealed bytes come from `sealed-ranges.ts`.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { equalBytes, latin1Slice } from '../base/bytes.js';
import { Limiter } from '../base/limiter.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { andThen, isPromise } from '../base/maybe-promise.js';
import { type MemoryBudget, usualBudget } from '../base/memory-budget.js';
import { MemoryCache } from '../cache/memory-cache.js';
import { type BulkCipher, inlineCipher } from '../crypto/bulk-cipher.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { StreamOpening } from '../crypto/node-stream.js';
import { type SegmentSpan, segmentLength, segmentsOf } from '../crypto/stream-format.js';
import type { PackKeys, PlacedChunk, RunChunk } from './item.js';
import { contentOf, decodeChunk, decodePage, itemPlace } from './item.js';
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
/** Up to this size, bytes in the page cache are read and opened at once: it takes 0.2 ms. */
const nowBytesMax = 264 * 1024;
/** How many of the chunks are remembered of which a part was read. */
const seenMax = 1024;

interface WaitingChunk extends PlacedChunk {
  readonly resolve: (plain: MaybePromise<Plaintext>) => void;
  readonly reject: (error: unknown) => void;
}

/** With the salt: of two copies of one installation, each may have filled its own pack under the same name. */
const chunkKey = (pack: PackId, offset: number, { salt }: RunChunk): string => `${pack}${offset} ${latin1Slice(salt, 0, salt.byteLength)}`;

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
   * The chunk at `offset`, borrowed (do not change it): at once when it is in memory. Throws (or rejects with)
   * PackError and StoreError.
   */
  readChunk(pack: PackId, offset: number, chunk: RunChunk): MaybePromise<Plaintext> {
    const known = this.#memory.get(chunkKey(pack, offset, chunk));
    if (known) return checkLength(known, chunk.plainLength);
    const waiting: WaitingChunk[] = [];
    const plain = this.#want({ pack, offset, ...chunk }, waiting, chunk.sealedLength <= nowBytesMax);
    this.#fetchAll(waiting);
    return plain;
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
   * Bytes `from` to `to` of one chunk of a run, borrowed, for random access. Of a raw chunk on a disk of this machine
   * only the segments that hold them are read and opened, and nothing is kept: the kernel keeps what was asked for.
   * Others are opened as a whole, and once the memory is full they are kept only when they are wanted twice, so that
   * such a reader evicts nothing that others use. Rejects with PackError and StoreError.
   */
  readPart(run: RunPlace, index: number, from: number, to: number): MaybePromise<Uint8Array> {
    const [wanted] = chunksOf(run, index, index);
    assert(wanted, 'the chunk is in the run');
    const { pack, offset } = wanted;
    const key = chunkKey(pack, offset, wanted);
    const known = this.#memory.get(key);
    if (known) return checkLength(known, wanted.plainLength).subarray(from, to);
    const whole = (): MaybePromise<Uint8Array> => andThen(this.readChunk(pack, offset, wanted), (chunk) => chunk.subarray(from, to));
    if (wanted.codec !== 'raw') return this.#wholeNow(wanted, key, from, to) ?? whole();
    const span = segmentsOf(wanted.storedLength, from, to);
    const partOf = (opened: Uint8Array): Uint8Array => opened.subarray(from - span.first * segmentLength, to - span.first * segmentLength);
    const now = this.#segmentsNow(wanted, span);
    if (now) return andThen(now, partOf);
    if (!this.#ranges.isHere(pack, offset, wanted.sealedLength)) return whole();
    return this.#segmentsHere(wanted, span).then((opened) => (opened ? partOf(opened) : whole()));
  }

  /** Reads and opens some segments, if that needs no waiting. */
  #segmentsNow(wanted: PlacedChunk, span: SegmentSpan): MaybePromise<Uint8Array> | undefined {
    if (span.end - span.start > this.#scratch.byteLength) return undefined;
    const segments = this.#scratch.subarray(0, span.end - span.start);
    const origin = this.#ranges.readNow(wanted.pack, segments, wanted.offset + span.start);
    if (!origin) return undefined;
    try {
      return this.#openSpan(wanted, span, { sealed: segments, from: origin });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Reads and opens some segments from a disk of this machine; `undefined` when they are not there any more. */
  async #segmentsHere(wanted: PlacedChunk, span: SegmentSpan): Promise<Uint8Array | undefined> {
    const range = await this.#ranges.readHere(wanted.pack, wanted.offset + span.start, span.end - span.start);
    return range && this.#openSpan(wanted, span, range);
  }

  /** `undefined` when the disk cache has wrong bytes, which the store may replace. Throws PackError. */
  #openSpan(wanted: PlacedChunk, span: SegmentSpan, { sealed, from }: SealedRange): Uint8Array | undefined {
    try {
      return this.#openSegments(wanted, sealed, span.first, Buffer.allocUnsafe(span.length));
    } catch (error) {
      if (from === 'disk cache') return undefined;
      throw error;
    }
  }

  /** Opens a chunk that is not to be kept, if that needs no waiting. */
  #wholeNow(wanted: PlacedChunk, key: string, from: number, to: number): MaybePromise<Uint8Array> | undefined {
    const isFull = this.#memory.bytes + wanted.plainLength + 4096 > this.#memoryMax;
    if (!isFull || wanted.sealedLength > nowBytesMax || this.#memory.has(key) || this.#wasSeen(key)) return undefined;
    const plain = this.#openNow(wanted);
    return plain && andThen(plain, (chunk) => checkLength(chunk, wanted.plainLength).subarray(from, to));
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
      const page = await this.#openPage(reference, range.sealed);
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
  async bring(pack: PackId, chunks: readonly PlacedChunk[], signal?: AbortSignal): Promise<number> {
    const [start, end] = [chunks.at(0)?.offset ?? 0, endOf(chunks.at(-1))];
    const sealed = await this.#ranges.readPastCaches(pack, start, end - start, signal);
    let brought = 0;
    // The bytes between two chunks are not verified, so only stretches without gaps are kept.
    for (const stretch of stretchesOf(chunks)) {
      for (const opened of await this.#openAll(start, { sealed, from: 'store' }, stretch)) if (opened instanceof PackError) throw opened;
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
  #want(wanted: PlacedChunk, waiting: WaitingChunk[], now: boolean): MaybePromise<Plaintext> {
    const chunk = this.#memory.load(
      chunkKey(wanted.pack, wanted.offset, wanted),
      () => (now ? this.#openNow(wanted) : undefined) ?? new Promise<Plaintext>((resolve, reject) => waiting.push({ ...wanted, resolve, reject })),
    );
    return isPromise(chunk) ? chunk.then((plain) => checkLength(plain, wanted.plainLength)) : checkLength(chunk, wanted.plainLength);
  }

  /** A chunk of up to `nowBytesMax`, if that needs no waiting (but for decompression). */
  #openNow(wanted: PlacedChunk): MaybePromise<Plaintext> | undefined {
    const sealed = this.#scratch.subarray(0, wanted.sealedLength);
    const origin = this.#ranges.readNow(wanted.pack, sealed, wanted.offset);
    if (!origin) return undefined;
    try {
      return decodeChunk(wanted, this.#openSegments(wanted, sealed, 0, Buffer.allocUnsafeSlow(wanted.storedLength)));
    } catch (error) {
      // The store may replace the disk cache's copy, but that takes waiting.
      return origin === 'disk cache' ? undefined : Promise.reject(error);
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
  async #openAll(start: number, range: SealedRange, waiting: readonly PlacedChunk[]): Promise<readonly (Plaintext | PackError)[]> {
    const openings = waiting.map((chunk) => {
      const sealed = range.sealed.subarray(chunk.offset - start, chunk.offset - start + chunk.sealedLength);
      return this.#keys.chunk.opening(contentOf(chunk), sealed, 0, Buffer.allocUnsafeSlow(chunk.storedLength));
    });
    const authentic = await this.#openStreams(openings);
    const opened = openings.map(({ target }, index): MaybePromise<Plaintext | PackError> => {
      const chunk = waiting[index]!;
      if (!authentic[index]) return this.#damaged(chunk);
      try {
        const plain = decodeChunk(chunk, target as Plaintext);
        return isPromise(plain) ? plain.catch(packErrorOf) : plain;
      } catch (error) {
        return packErrorOf(error);
      }
    });
    return Promise.all(opened.map((chunk) => Promise.resolve(chunk)));
  }

  async #openStreams(openings: readonly StreamOpening[]): Promise<readonly boolean[]> {
    try {
      return await this.#cipher.openStreams(openings);
    } finally {
      for (const { key } of openings) key.fill(0);
    }
  }

  /** Returns `target`. Throws PackError. */
  #openSegments(chunk: PlacedChunk, segments: Uint8Array, first: number, target: Uint8Array): Plaintext {
    const opening = this.#keys.chunk.opening(contentOf(chunk), segments, first, target);
    const isAuthentic = this.#cipher.openStream(opening);
    opening.key.fill(0);
    if (!isAuthentic) throw this.#damaged(chunk);
    return target as Plaintext;
  }

  #damaged({ pack, offset }: PlacedChunk): PackError {
    this.#ranges.forget('content', pack);
    return new PackError('NOT_AUTHENTIC', `chunk at ${offset} of pack ${pack}`, { cause: this.#keys.chunk.notAuthentic() });
  }

  #openPage({ pack, offset }: PageReference, sealed: Uint8Array): MaybePromise<Plaintext> {
    try {
      return decodePage(this.#keys.page.openBy(this.#cipher.decryptInto, itemPlace(pack, offset), sealed, false));
    } catch (cause) {
      if (!(cause instanceof CryptoError)) throw cause;
      this.#ranges.forget('pages', pack);
      throw new PackError('NOT_AUTHENTIC', `page at ${offset} of pack ${pack}`, { cause });
    }
  }
}

type NonEmpty<T> = readonly [T, ...T[]];

/** Chunks `first` to `last` (inclusive) of a run, with their places. */
function chunksOf(run: RunPlace, first: number, last: number): PlacedChunk[] {
  const wanted: PlacedChunk[] = [];
  let offset = run.packOffset;
  let index = 0;
  for (const chunk of run.chunks) {
    if (index > last) break;
    if (index >= first) wanted.push({ pack: run.pack, offset, ...chunk });
    offset += chunk.sealedLength;
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

function packErrorOf(error: unknown): PackError {
  if (error instanceof PackError) return error;
  throw error;
}

/** The tree says how long a chunk is; another length means that the tree is wrong. */
function checkLength(plain: Plaintext, plainLength: number): Plaintext {
  if (plain.byteLength !== plainLength) throw new PackError('MALFORMED', `chunk has ${plain.byteLength} bytes, not ${plainLength}`);
  return plain;
}
