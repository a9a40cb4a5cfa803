/**
 * Answers small reads of packs from larger ones (doc/architecture.md, "A read"): files that were written together lie
 * together, and a request costs far more than the bytes around the wanted ones. It keeps sealed bytes as the store sent
 * them, for a short while, and verifies nothing.
 *
 * Reads that follow each other form a trail. The windows of a trail grow as they are used, and the next one is fetched
 * while the last one is read. Reads that are scattered over a pack also fetch their neighbourhoods, but only after some
 * of them: so waiting is at most about doubled, and with a disk cache behind no byte is fetched twice.
 */
import type { PackId } from './pack-id.js';

/** Reads up to `length` bytes of a pack, fewer only at its end. `isAround`: nobody has asked for all of them. */
type ReadPack = (pack: PackId, offset: number, length: number, isAround: boolean) => Promise<Uint8Array>;

interface Window {
  readonly pack: PackId;
  readonly start: number;
  /** The end of the request; the pack may end before. */
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
}

interface Trail {
  readonly pack: PackId;
  /** Where its last read ended. */
  at: number;
  /** Where its last window ends. */
  fetchedTo: number;
  /** The size of its next window; 0 before the first. */
  size: number;
}

/** A larger read is requested as it is. */
export const windowReadMax = 512 * 1024;
/**
 * A read this far from the end of the last one still follows it: chunks of other files may lie between, in another
 * order.
 */
const nearMax = 512 * 1024;
const windowFirst = 128 * 1024;
/**
 * The largest window of a trail, which takes a third of a second at 100 Mbit/s. A window takes at most half of the
 * room, so that the next one fits beside it.
 */
const windowMax = 4 * 1024 * 1024;
/** From this window size on, the next window of a trail is fetched ahead. */
const aheadFrom = 1024 * 1024;
const trailsMax = 64;
/**
 * The same for a local store, whose requests cost next to nothing: only reads that almost touch form a trail, and
 * scattered ones fetch nothing else. There a trail saves trips to the thread pool and small reads of the disk.
 */
const nearMaxLocal = 64 * 1024;
/**
 * After this many scattered reads of a pack, each one fetches its neighbourhood too, which a link of 100 Mbit/s carries
 * in 30 ms.
 */
const scatteredMax = 4;
const neighbourhood = 384 * 1024;
/** Bytes that are here already are left out of a request in steps of this size. */
const grain = 64 * 1024;
const packsMax = 1024;

export class ReadWindows {
  readonly #read: ReadPack;
  readonly #heldMax: number;
  readonly #windowMax: number;
  readonly #isNearby: (pack: PackId, offset: number, length: number) => boolean;
  readonly #local: boolean;
  /** Oldest first. */
  #windows: Window[] = [];
  /** Least recently followed first. */
  #trails: Trail[] = [];
  /** Scattered reads so far, by pack; least recent first. */
  readonly #scattered = new Map<PackId, number>();
  /** Where packs end, if a read has reached the end. */
  readonly #ends = new Map<PackId, number>();

  /**
   * `heldMax`: bytes kept in memory. Nobody may change the bytes that `read` returns. `isNearby`: whether bytes are on
   * this machine, so that they need not be fetched along. `local`: requests cost next to nothing.
   */
  constructor(read: ReadPack, heldMax: number, isNearby: (pack: PackId, offset: number, length: number) => boolean = () => false, local = false) {
    this.#read = read;
    this.#heldMax = heldMax;
    this.#windowMax = Math.min(windowMax, Math.floor(heldMax / 2));
    this.#isNearby = isNearby;
    this.#local = local;
  }

  /**
   * `length` bytes at `offset`, or fewer where the pack ends. The bytes may be shared: do not change them. `nearby` is
   * tried before the store. Rejects as the read does.
   */
  async read(pack: PackId, offset: number, length: number, nearby?: () => Promise<Uint8Array | undefined>): Promise<Uint8Array> {
    if (length > windowReadMax) return (await nearby?.()) ?? this.#read(pack, offset, length, false);
    const end = offset + length;
    const trail = this.#follow(pack, offset, end);
    let held = this.#cover(pack, offset, end);
    if (held.to < end && nearby) {
      const found = await nearby();
      if (found) return found;
      // Another read may have requested it meanwhile.
      held = this.#cover(pack, offset, end);
    }
    if (held.to < end) {
      const [wideFrom, wideTo] = trail.size > 0 ? this.#stretch(trail, held.to, end) : this.#surroundings(pack, held.to, end);
      const from = this.#firstMissing(pack, wideFrom, held.to);
      const to = this.#lastMissing(pack, end, wideTo);
      trail.size ||= windowFirst;
      trail.fetchedTo = Math.max(trail.fetchedTo, to);
      if (from === offset && to === end) return this.#read(pack, offset, length, false);
      const opened = this.#open(pack, from, to);
      held = { windows: [...held.windows, opened], to: end };
    }
    this.#goAhead(trail);
    try {
      const bytes = await join(held.windows, offset, end);
      // The read goes past the end of the pack, or an answer was cut off: ask the store for exactly this.
      return bytes.byteLength === length ? bytes : await this.#read(pack, offset, length, false);
    } catch (error) {
      this.#windows = this.#windows.filter((one) => !held.windows.includes(one));
      throw error;
    }
  }

  /** Bytes held in memory, including requests under way. */
  get heldBytes(): number {
    return this.#windows.reduce((sum, one) => sum + one.end - one.start, 0);
  }

  /** Drops what is held of the pack, since it did not verify. */
  forget(pack: PackId): void {
    this.#windows = this.#windows.filter((window) => window.pack !== pack);
    this.#trails = this.#trails.filter((trail) => trail.pack !== pack);
    this.#ends.delete(pack);
  }

  /** The windows that hold these bytes, side by side, and how far they reach. */
  #cover(pack: PackId, offset: number, end: number): { readonly windows: readonly Window[]; readonly to: number } {
    const windows: Window[] = [];
    let to = offset;
    while (to < end) {
      const next = this.#windows.findLast((window) => window.pack === pack && window.start <= to && to < window.end);
      if (!next) break;
      windows.push(next);
      to = next.end;
    }
    return { windows, to };
  }

  /** The trail that this read continues, or a new one. */
  #follow(pack: PackId, offset: number, end: number): Trail {
    const last = this.#trails.at(-1);
    const near = this.#local ? nearMaxLocal : nearMax;
    let trail = this.#trails.findLast((one) => one.pack === pack && offset >= one.at - near && offset <= one.at + near);
    if (trail) {
      this.#trails.splice(this.#trails.lastIndexOf(trail), 1);
      trail.at = Math.max(trail.at, end);
    } else {
      trail = { pack, at: end, fetchedTo: end, size: 0 };
      // One pack was read to its end, and this one from its beginning: the files continue here.
      const packEnd = last && this.#ends.get(last.pack);
      if (last && packEnd !== undefined && offset < nearMax && last.at > packEnd - nearMax) {
        trail.size = last.size;
        trail.fetchedTo = 0;
      }
    }
    this.#trails.push(trail);
    if (this.#trails.length > trailsMax) this.#trails.shift();
    return trail;
  }

  /** The next window of a trail, which contains the read. */
  #stretch(trail: Trail, offset: number, end: number): readonly [from: number, to: number] {
    const { fetchedTo, size } = trail;
    let from = offset;
    if (offset >= fetchedTo && offset - fetchedTo <= nearMax) from = fetchedTo;
    else if (offset < fetchedTo) from = Math.max(0, end - size);
    const to = Math.max(end, from + size);
    trail.size = Math.min(this.#windowMax, size * 2);
    trail.fetchedTo = Math.max(fetchedTo, to);
    return [from, to];
  }

  /** The neighbourhood that a scattered read fetches. */
  #surroundings(pack: PackId, offset: number, end: number): readonly [from: number, to: number] {
    if (this.#local) return [offset, end];
    const count = (this.#scattered.get(pack) ?? 0) + 1;
    this.#scattered.delete(pack);
    this.#scattered.set(pack, count);
    if (this.#scattered.size > packsMax) this.#scattered.delete(this.#scattered.keys().next().value as PackId);
    if (count <= scatteredMax) return [offset, end];
    // On a grid, so that neighbourhoods do not overlap.
    const from = Math.floor(offset / neighbourhood) * neighbourhood;
    return [from, Math.ceil(end / neighbourhood) * neighbourhood];
  }

  /** The lowest offset from `from` on such that no grain from there up to `offset` is here. */
  #firstMissing(pack: PackId, from: number, offset: number): number {
    let first = offset;
    while (first > from && !this.#isHere(pack, Math.max(from, first - grain), Math.min(grain, first - from))) first = Math.max(from, first - grain);
    return first;
  }

  /** The highest offset up to `to` such that no grain from `offset` up to there is here. */
  #lastMissing(pack: PackId, offset: number, to: number): number {
    let last = offset;
    while (last < to && !this.#isHere(pack, last, Math.min(grain, to - last))) last = Math.min(to, last + grain);
    return last;
  }

  #isHere(pack: PackId, offset: number, length: number): boolean {
    return this.#cover(pack, offset, offset + length).to >= offset + length || this.#isNearby(pack, offset, length);
  }

  /** Fetches the next window of a trail that is reading its last one. */
  #goAhead(trail: Trail): void {
    const { pack, at, fetchedTo, size } = trail;
    if (size < aheadFrom || at > fetchedTo || fetchedTo - at > size / 2) return;
    const packEnd = this.#ends.get(pack) ?? Number.POSITIVE_INFINITY;
    if (fetchedTo >= packEnd) return;
    const to = this.#lastMissing(pack, fetchedTo, Math.min(fetchedTo + size, packEnd));
    trail.fetchedTo = Math.max(to, fetchedTo + grain);
    if (to === fetchedTo) return;
    trail.size = Math.min(this.#windowMax, size * 2);
    this.#open(pack, fetchedTo, to);
  }

  #open(pack: PackId, start: number, end: number): Window {
    const bytes = this.#read(pack, start, end - start, true).then((got) => {
      if (got.byteLength < end - start) this.#noteEnd(pack, start + got.byteLength);
      return got;
    });
    const window: Window = { pack, start, end, bytes };
    this.#windows.push(window);
    // The readers that wait for it get the error. There may be none: it was fetched ahead, or its reader met another
    // error first.
    bytes.catch(() => {
      this.#windows = this.#windows.filter((one) => one !== window);
    });
    let held = this.heldBytes;
    while (held > this.#heldMax) {
      const oldest = this.#windows.shift() as Window;
      held -= oldest.end - oldest.start;
    }
    return window;
  }

  #noteEnd(pack: PackId, end: number): void {
    this.#ends.delete(pack);
    this.#ends.set(pack, end);
    if (this.#ends.size > packsMax) this.#ends.delete(this.#ends.keys().next().value as PackId);
  }
}

/** Bytes `from` to `to` of windows side by side, fewer when one of them ends early. */
async function join(windows: readonly Window[], from: number, to: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let at = from;
  for (const window of windows) {
    const end = Math.min(to, window.end);
    const part = (await window.bytes).subarray(at - window.start, end - window.start);
    parts.push(part);
    if (part.byteLength < end - at) break;
    at = end;
  }
  const [only, ...more] = parts;
  return only && more.length === 0 ? only : Buffer.concat(parts);
}
