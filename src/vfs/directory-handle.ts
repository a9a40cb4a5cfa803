/**
 * An open directory: the order in which its entries are told and the cookies by which a reader goes on. Entries come in name order straight
 * from the tree, so a listing of any length needs no memory of its own; what this keeps is which cookie meant which name.
 *
 * A cookie is a count within one handle: 1 `.`, 2 `..`, then 3, 4 ... for the entries. The kernel resumes at any cookie that it was given,
 * typically in the middle of the last batch, often after the entries before it were deleted: so the names of the last two batches are
 * kept exactly, and going on means "after this name", never "after this many". For older places (seekdir(3)) every so many entries
 * one name is kept, and the rest is counted from there.
 */
import type { ByteString } from '../base/brand.js';
import { type MaybePromise, isPromise } from '../base/maybe-promise.js';
import { PageFault } from '../base/page-fault.js';
import type { Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { type NamedDirent, scanEntries } from '../volume/inode-view.js';
import type { ReadView } from '../volume/view.js';

export const dotCookie = 1;
export const dotDotCookie = 2;
const firstEntryCookie = 3;

/** An entry found by {@link DirectoryHandle.list}; `inode` if it was asked for and exists. */
export interface ListedEntry {
  readonly dirent: NamedDirent;
  readonly inode: Inode | undefined;
}

/** Takes entries in turn. False: it did not fit, stop. */
export type TakeEntry = (entry: ListedEntry, cookie: number) => boolean;

/** What a handle needs of the volume. */
export interface DirectorySource {
  read<T>(query: (view: ReadView) => T): MaybePromise<T>;
  inode(view: ReadView, ino: Ino): Inode | undefined;
}

/** What one request was given. */
interface Batch {
  readonly firstCookie: number;
  readonly names: ByteString[];
}

interface Landmark {
  /** The first entry after `after` has this cookie. */
  readonly cookie: number;
  readonly after: ByteString | undefined;
}

interface Place {
  /** Of the next entry. */
  readonly cookie: number;
  readonly after: ByteString | undefined;
  /** Entries to pass over first. */
  readonly skip: number;
}

/** How many entries one query may look at: it runs again from its start after each page fault. */
const batchMax = 256;
const batchMin = 16;
const landmarksMax = 1024;

export class DirectoryHandle {
  readonly ino: Ino;
  readonly #source: DirectorySource;
  #newest: Batch | undefined;
  #older: Batch | undefined;
  #landmarks: Landmark[] = [];
  /** Entries from one landmark to the next; doubles when there are too many. */
  #landmarkStride = batchMax;
  /** How many entries the reader's buffer took last time: the guess for the next. */
  #fits = 32;

  constructor(source: DirectorySource, ino: Ino) {
    this.#source = source;
    this.ino = ino;
  }

  /**
   * Gives the entries after `cookie` (2 or less: from the first) to `take` until it refuses one or there are no more. `withInodes`: looks
   * each one's inode up too.
   */
  list(cookie: number, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    if (cookie < firstEntryCookie) this.#rewind();
    const place = this.#placeAfter(Math.max(cookie, dotDotCookie));
    return this.#listFrom(place, { firstCookie: place.cookie, names: [] }, withInodes, take);
  }

  #listFrom(start: Place, batch: Batch, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    const { names } = batch;
    for (let place = start; ; ) {
      const { after, skip } = place;
      const guess = this.#fits > names.length ? this.#fits - names.length + 1 : names.length;
      const wanted = Math.min(batchMax, Math.max(batchMin, guess));
      // What this query finds is handed on only after it has ended: it may run several times.
      const found = this.#source.read((view) => this.#collect(view, after, skip, wanted, withInodes));
      if (isPromise(found)) {
        if (names.length === 0) return this.#listLoaded(place, batch, found, withInodes, take);
        // What there is already is an answer; the page is on its way for the next request, which meets its failure, if it fails.
        found.catch(() => {});
        return undefined;
      }
      const next = this.#deliver(place, batch, found, take);
      if (next === undefined) return undefined;
      place = next;
    }
  }

  async #listLoaded(place: Place, batch: Batch, found: Promise<ListedEntry[]>, withInodes: boolean, take: TakeEntry): Promise<void> {
    const next = this.#deliver(place, batch, await found, take);
    if (next !== undefined) await this.#listFrom(next, batch, withInodes, take);
  }

  #collect(view: ReadView, after: ByteString | undefined, skip: number, wanted: number, withInodes: boolean): ListedEntry[] {
    const entries: ListedEntry[] = [];
    let skipped = 0;
    try {
      for (const dirent of scanEntries(view, this.ino, after)) {
        if (skipped < skip) {
          skipped++;
          continue;
        }
        entries.push({ dirent, inode: withInodes ? this.#source.inode(view, dirent.ino) : undefined });
        if (entries.length >= wanted) break;
      }
    } catch (error) {
      // A part is better than waiting for all; the next query begins at the page that was missing.
      if (!(error instanceof PageFault) || entries.length === 0) throw error;
    }
    return entries;
  }

  /** Answers where to go on, or undefined when there is no more, or no more fits. */
  #deliver(place: Place, batch: Batch, entries: readonly ListedEntry[], take: TakeEntry): Place | undefined {
    const { names } = batch;
    let cookie = place.cookie;
    for (const entry of entries) {
      if (!take(entry, cookie)) {
        this.#fits = Math.max(1, names.length);
        return undefined;
      }
      if (names.length === 0) this.#begin(place, batch);
      names.push(entry.dirent.name);
      cookie++;
    }
    return entries.length === 0 ? undefined : { cookie, after: names.at(-1), skip: 0 };
  }

  #begin(place: Place, batch: Batch): void {
    // A place that was counted from a landmark has no name of its own to begin after.
    if (place.skip === 0) this.#addLandmark({ cookie: place.cookie, after: place.after });
    this.#older = this.#newest;
    this.#newest = batch;
  }

  #rewind(): void {
    this.#newest = undefined;
    this.#older = undefined;
    this.#landmarks = [];
    this.#landmarkStride = batchMax;
  }

  /** Where the entry after the one with `cookie` is. */
  #placeAfter(cookie: number): Place {
    const next = cookie + 1;
    if (next === firstEntryCookie) return { cookie: next, after: undefined, skip: 0 };
    for (const batch of [this.#newest, this.#older]) {
      if (batch === undefined || cookie < batch.firstCookie || cookie >= batch.firstCookie + batch.names.length) continue;
      return { cookie: next, after: batch.names[cookie - batch.firstCookie], skip: 0 };
    }
    let nearest: Landmark = { cookie: firstEntryCookie, after: undefined };
    for (const landmark of this.#landmarks) if (landmark.cookie <= next && landmark.cookie > nearest.cookie) nearest = landmark;
    return { cookie: next, after: nearest.after, skip: next - nearest.cookie };
  }

  #addLandmark(landmark: Landmark): void {
    const last = this.#landmarks.at(-1);
    if (landmark.cookie - (last?.cookie ?? firstEntryCookie) < this.#landmarkStride) return;
    this.#landmarks.push(landmark);
    if (this.#landmarks.length <= landmarksMax) return;
    this.#landmarks = this.#landmarks.filter((_, index) => index % 2 === 1);
    this.#landmarkStride *= 2;
  }
}
