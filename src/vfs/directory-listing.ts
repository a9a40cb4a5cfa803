/**
 * Lists directories in the order of their entries' numbers, which are also the cookies by which a reader continues
 * (doc/decision/0028): 1 is `.` and 2 is `..`. An entry keeps its number for as long as it lives, so a listing of any
 * length continues at any cookie, also of an entry that is gone, without anything being kept here.
 *
 * Only one thing is remembered, so that a reader comes to an end who makes entries while it lists: at which number of
 * this device a listing of a directory last began. Forgetting it means no more than that more is listed.
 */
import { isPromise, type MaybePromise } from '../base/maybe-promise.js';
import { PageFault } from '../base/page-fault.js';
import type { NamedDirent } from '../meta/dirent.js';
import type { Inode } from '../meta/inode.js';
import { deviceIndexOf, endOfRange, type Ino } from '../meta/key.js';
import { scanEntries } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';

export const dotCookie = 1;
export const dotDotCookie = 2;

/** An entry found by {@link DirectoryListings.list}; `inode` if it was asked for and exists. */
export interface ListedEntry {
  readonly dirent: NamedDirent;
  readonly inode: Inode | undefined;
}

/** Takes entries in turn. False: it did not fit, stop. */
export type TakeEntry = (entry: ListedEntry) => boolean;

/** The part of the volume that listings need. */
export interface DirectorySource {
  read<T>(query: (view: ReadView) => T): MaybePromise<T>;
  inode(view: ReadView, ino: Ino): Inode | undefined;
  readonly nextIno: Ino | undefined;
}

interface Request {
  readonly directory: Ino;
  readonly withInodes: boolean;
  readonly take: TakeEntry;
  /** This device's numbers from here on were given after the listing began. */
  readonly newer: Ino | undefined;
  /** How many entries it has taken. */
  count: number;
}

/** How many entries one query may look at: it runs again from its start after each page fault. */
const batchMax = 256;
const batchMin = 16;
/** The most directories of which the beginning of a listing is remembered. */
const beginningsMax = 4096;

export class DirectoryListings {
  readonly #source: DirectorySource;
  readonly #beginningsMax: number;
  /** For directories whose listing began lately, in that order: the number that this device was to give next. */
  readonly #beginnings = new Map<Ino, Ino>();
  /** How many entries fitted into the reader's buffer last time, as a guess for the next time. */
  #fits = 32;

  constructor(source: DirectorySource, bounds: { readonly beginningsMax?: number } = {}) {
    this.#source = source;
    this.#beginningsMax = bounds.beginningsMax ?? beginningsMax;
  }

  /**
   * Gives the entries after `cookie` (2 or less: from the first) to `take` until it refuses one or there are no more.
   * `withInodes`: looks each one's inode up too.
   */
  list(directory: Ino, cookie: number, withInodes: boolean, take: TakeEntry): MaybePromise<void> {
    // A program may seek to any place.
    if (!Number.isSafeInteger(cookie + 1)) return undefined;
    if (cookie <= dotDotCookie) this.#begin(directory);
    return this.#listFrom({ directory, withInodes, take, newer: this.#beginnings.get(directory), count: 0 }, cookie);
  }

  #begin(directory: Ino): void {
    const { nextIno } = this.#source;
    if (nextIno === undefined) return;
    this.#beginnings.delete(directory);
    this.#beginnings.set(directory, nextIno);
    for (const oldest of this.#beginnings.keys()) {
      if (this.#beginnings.size <= this.#beginningsMax) return;
      this.#beginnings.delete(oldest);
    }
  }

  #listFrom(request: Request, cookie: number): MaybePromise<void> {
    for (let after: number | undefined = cookie; after !== undefined; ) {
      const from: number = after;
      const guess = this.#fits > request.count ? this.#fits - request.count + 1 : request.count;
      const wanted = Math.min(batchMax, Math.max(batchMin, guess));
      // The entries are handed on only after the query has ended, since it may run several times.
      const found = this.#source.read((view) => this.#collect(view, request, from, wanted));
      if (isPromise(found)) {
        if (request.count === 0) return this.#listLoaded(request, found);
        // The entries found so far are an answer. The missing page is being loaded for the next request, which also
        // meets the failure if there is one.
        found.catch(() => {});
        return undefined;
      }
      after = this.#deliver(request, found);
    }
    return undefined;
  }

  async #listLoaded(request: Request, found: Promise<ListedEntry[]>): Promise<void> {
    const after = this.#deliver(request, await found);
    if (after !== undefined) await this.#listFrom(request, after);
  }

  #collect(view: ReadView, { directory, withInodes, newer }: Request, after: number, wanted: number): ListedEntry[] {
    const entries: ListedEntry[] = [];
    try {
      for (const dirent of olderEntries(view, directory, after, newer)) {
        entries.push({ dirent, inode: withInodes ? this.#source.inode(view, dirent.ino) : undefined });
        if (entries.length >= wanted) break;
      }
    } catch (error) {
      // A part is better than waiting for everything; the next query begins at the missing page.
      if (!(error instanceof PageFault) || entries.length === 0) throw error;
    }
    return entries;
  }

  /** Answers the number after which to continue, or undefined when there are no more entries, or no more fit. */
  #deliver(request: Request, entries: readonly ListedEntry[]): number | undefined {
    for (const entry of entries) {
      if (!request.take(entry)) {
        this.#fits = Math.max(1, request.count);
        return undefined;
      }
      request.count++;
    }
    return entries.at(-1)?.dirent.number;
  }
}

/** The entries after a number, without those that this device has made from the number `newer` on. */
function* olderEntries(view: ReadView, directory: Ino, after: number, newer: Ino | undefined): IterableIterator<NamedDirent> {
  for (let from: number | undefined = after; from !== undefined; ) {
    let skipTo: number | undefined;
    for (const entry of scanEntries(view, directory, from)) {
      const { number } = entry;
      if (newer !== undefined && number >= newer && deviceIndexOf(number) === deviceIndexOf(newer)) {
        skipTo = endOfRange(number) - 1;
        break;
      }
      yield entry;
    }
    from = skipTo;
  }
}
