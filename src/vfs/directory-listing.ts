/**
 * Lists directories: the order of the entries, and the cookies by which a reader continues. Entries come in name order
 * straight from the tree, so a listing of any length needs no memory; only the meaning of cookies is kept here.
 *
 * Cookies are drawn from one count for all directories and never given twice (1 `.`, 2 `..` in each), since the kernel
 * caches listings and hands the cookies of one reader to another (no-opendir mode, doc/decision/0006). It resumes at
 * any cookie, often after the entries before it were deleted. Exact names are therefore kept for many batches, and
 * continuing means "after this name", never "after this many". Of older batches only the beginning is kept, and the
 * rest is counted from there.
 */
import { assert } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { isPromise, type MaybePromise } from '../base/maybe-promise.js';
import { PageFault } from '../base/page-fault.js';
import type { Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { type NamedDirent, scanEntries } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';
import { VfsError } from './vfs-error.js';

export const dotCookie = 1;
export const dotDotCookie = 2;
const firstEntryCookie = 3;

/** An entry found by {@link DirectoryListings.list}; `inode` if it was asked for and exists. */
export interface ListedEntry {
  readonly dirent: NamedDirent;
  readonly inode: Inode | undefined;
}

/** Takes entries in turn. False: it did not fit, stop. */
export type TakeEntry = (entry: ListedEntry, cookie: number) => boolean;

/** The part of the volume that listings need. */
export interface DirectorySource {
  read<T>(query: (view: ReadView) => T): MaybePromise<T>;
  inode(view: ReadView, ino: Ino): Inode | undefined;
}

/** The entries that one request was given. */
interface Batch {
  readonly directory: Ino;
  firstCookie: number;
  /** The name before the first one. */
  readonly after: ByteString | undefined;
  count: number;
  /** Dropped when the batch is old. */
  names: ByteString[] | undefined;
}

interface Place {
  readonly after: ByteString | undefined;
  /** How many entries to skip first. */
  readonly skip: number;
}

/** How many entries one query may look at: it runs again from its start after each page fault. */
const batchMax = 256;
const batchMin = 16;
const namesMaxDefault = 65_536;
const batchesMaxDefault = 65_536;

export class DirectoryListings {
  readonly #source: DirectorySource;
  readonly #namesMax: number;
  readonly #batchesMax: number;
  /** In the order of their cookies. Batches before `#exactFrom` have lost their names. */
  #batches: Batch[] = [];
  #exactFrom = 0;
  #names = 0;
  #nextCookie = firstEntryCookie;
  /** How many entries fitted into the reader's buffer last time, as a guess for the next time. */
  #fits = 32;

  /** Bounds of what is remembered: names of recent batches, and batches. */
  constructor(source: DirectorySource, bounds: { readonly namesMax?: number; readonly batchesMax?: number } = {}) {
    this.#source = source;
    this.#namesMax = bounds.namesMax ?? namesMaxDefault;
    this.#batchesMax = bounds.batchesMax ?? batchesMaxDefault;
  }

  /**
   * Gives the entries after `cookie` (2 or less: from the first) to `take` until it refuses one or there are no more.
   * `withInodes`: looks each one's inode up too. Throws VfsError ESTALE for a cookie that is forgotten or was never
   * given.
   */
  list(directory: Ino, cookie: number, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    const place = this.#placeAfter(directory, cookie);
    const batch: Batch = { directory, firstCookie: 0, after: place.after, count: 0, names: [] };
    return this.#listFrom(place, batch, withInodes, take);
  }

  #listFrom(start: Place, batch: Batch, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    for (let place = start; ; ) {
      const { after, skip } = place;
      const guess = this.#fits > batch.count ? this.#fits - batch.count + 1 : batch.count;
      const wanted = Math.min(batchMax, Math.max(batchMin, guess));
      // The entries are handed on only after the query has ended, since it may run several times.
      const found = this.#source.read((view) => this.#collect(view, batch.directory, after, skip, wanted, withInodes));
      if (isPromise(found)) {
        if (batch.count === 0) return this.#listLoaded(batch, found, withInodes, take);
        // The entries found so far are an answer. The missing page is being loaded for the next request, which also
        // meets the failure if there is one.
        found.catch(() => {});
        return undefined;
      }
      const next = this.#deliver(batch, found, take);
      if (next === undefined) return undefined;
      place = next;
    }
  }

  async #listLoaded(batch: Batch, found: Promise<ListedEntry[]>, withInodes: boolean, take: TakeEntry): Promise<void> {
    const next = this.#deliver(batch, await found, take);
    if (next !== undefined) await this.#listFrom(next, batch, withInodes, take);
  }

  #collect(view: ReadView, directory: Ino, after: ByteString | undefined, skip: number, wanted: number, withInodes: boolean): ListedEntry[] {
    const entries: ListedEntry[] = [];
    let skipped = 0;
    try {
      for (const dirent of scanEntries(view, directory, after)) {
        if (skipped < skip) {
          skipped++;
          continue;
        }
        entries.push({ dirent, inode: withInodes ? this.#source.inode(view, dirent.ino) : undefined });
        if (entries.length >= wanted) break;
      }
    } catch (error) {
      // A part is better than waiting for everything; the next query begins at the missing page.
      if (!(error instanceof PageFault) || entries.length === 0) throw error;
    }
    return entries;
  }

  /** Answers where to continue, or undefined when there are no more entries, or no more fit. */
  #deliver(batch: Batch, entries: readonly ListedEntry[], take: TakeEntry): Place | undefined {
    for (const entry of entries) {
      if (!take(entry, this.#nextCookie)) {
        this.#fits = Math.max(1, batch.count);
        return undefined;
      }
      this.#remember(batch, entry.dirent.name);
    }
    return entries.length === 0 ? undefined : { after: batch.names?.at(-1), skip: 0 };
  }

  #remember(batch: Batch, name: ByteString): void {
    const last = this.#batches.at(-1);
    // A batch of another reader may have come in between while a page was loaded; the cookies of one batch are
    // consecutive.
    if (last !== batch) {
      assert(batch.count === 0, 'a batch is delivered at one instant');
      batch.firstCookie = this.#nextCookie;
      this.#batches.push(batch);
    }
    batch.names?.push(name);
    batch.count++;
    this.#names++;
    this.#nextCookie++;
    while (this.#names > this.#namesMax && this.#exactFrom < this.#batches.length - 1) {
      const old = this.#batches[this.#exactFrom++]!;
      this.#names -= old.count;
      old.names = undefined;
    }
    if (this.#batches.length > this.#batchesMax) {
      const dropped = this.#batchesMax >>> 1;
      for (const old of this.#batches.slice(0, dropped)) if (old.names) this.#names -= old.count;
      this.#batches = this.#batches.slice(dropped);
      this.#exactFrom = Math.max(0, this.#exactFrom - dropped);
    }
  }

  /** The place of the entry after the one with `cookie`. */
  #placeAfter(directory: Ino, cookie: number): Place {
    if (cookie < firstEntryCookie) return { after: undefined, skip: 0 };
    let low = 0;
    let high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#batches[middle]!.firstCookie <= cookie) low = middle + 1;
      else high = middle;
    }
    const batch = this.#batches[low - 1];
    if (batch?.directory !== directory || cookie >= batch.firstCookie + batch.count) {
      throw new VfsError('ESTALE', 'this place of the directory is forgotten');
    }
    const index = cookie - batch.firstCookie;
    return batch.names ? { after: batch.names[index], skip: 0 } : { after: batch.after, skip: index + 1 };
  }
}
