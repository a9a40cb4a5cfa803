/**
 * The front ends of an open volume, and the one way in which they hear of changes: changes by other devices are
 * reported to all of them, a change made through one is reported to the others (doc/concurrency.md, "Front ends"). It
 * knows no kernel and no operation.
 */
import type { Logger } from '../base/logger.js';
import type { Ino } from '../meta/key.js';
import type { Renumbering } from '../operation/renumbering.js';
import { Turn } from './turn.js';
import type { ChangeListener, VolumeChange } from './volume-change.js';
import { changedContent } from './volume-change.js';

/** While a change waits, reads can bring old content back into a cache. After this many rounds it waits no longer. */
export const collectRoundsMax = 4;

/** A front end is identified by its handle of the volume. */
export type FrontEnd = object;

/**
 * `by` is the front end that makes the change and therefore does not hear of it; undefined when another device makes
 * it.
 */
export class FrontEnds {
  readonly #listeners = new Map<FrontEnd, ChangeListener>();
  readonly #logger: Logger;
  /** Inodes without a name that some front end uses. */
  readonly orphans = new Set<Ino>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Inodes that were pending have other numbers. Other orphans belong to whoever has their former identity. */
  renumber(numbers: Renumbering): void {
    const before = [...this.orphans];
    this.orphans.clear();
    for (const ino of before) if (numbers.inodes.has(ino)) this.orphans.add(numbers.ino(ino));
  }

  /** At most one listener for each front end. */
  listen(frontEnd: FrontEnd, listener: ChangeListener): void {
    this.#listeners.set(frontEnd, listener);
  }

  /** Begins a change made through `by`. Returns undefined when nobody else listens. */
  announce(by: FrontEnd): Announcement | undefined {
    const own = this.#listeners.has(by) ? 1 : 0;
    return this.#listeners.size > own ? new Announcement(this, by) : undefined;
  }

  /** Whether a front end other than `by` uses the inode. */
  isUsed(ino: Ino, by: FrontEnd): boolean {
    // Asked at every removal, so no list is made.
    for (const [frontEnd, listener] of this.#listeners) if (frontEnd !== by && listener.isUsed(ino)) return true;
    return false;
  }

  /** Has the other front ends write back what they hold of the changed files. Does not reject. */
  async collect(change: VolumeChange, by?: FrontEnd): Promise<void> {
    const inTime = await Promise.all(this.#others(by).map((listener) => listener.collect(change)));
    if (inTime.includes(false))
      this.#logger.warn('the kernel did not write back in time what was changed elsewhere too', { files: change.contents.size });
  }

  isCollected(change: VolumeChange, by?: FrontEnd): boolean {
    return this.#others(by).every((listener) => listener.isCollected(change));
  }

  hold(change: VolumeChange): void {
    for (const listener of this.#others(undefined)) listener.hold(change);
  }

  changed(change: VolumeChange, by?: FrontEnd): void {
    if (change.inodes.size > 0 || change.entries.length > 0) for (const listener of this.#others(by)) listener.changed(change);
  }

  done(change: VolumeChange, by?: FrontEnd): void {
    for (const listener of this.#others(by)) listener.done(change);
  }

  #others(by: FrontEnd | undefined): ChangeListener[] {
    const others: ChangeListener[] = [];
    for (const [frontEnd, listener] of this.#listeners) if (frontEnd !== by) others.push(listener);
    return others;
  }
}

/** A change made on this device, from its first attempt until it is visible or has failed. */
export class Announcement {
  readonly #frontEnds: FrontEnds;
  readonly #by: FrontEnd;
  #collected: VolumeChange | undefined;
  #rounds = 0;

  constructor(frontEnds: FrontEnds, by: FrontEnd) {
    this.#frontEnds = frontEnds;
    this.#by = by;
  }

  /**
   * Called right before the content of `inos` changes. Throws a Turn while other front ends may hold some of it back.
   */
  awaitCollected(inos: readonly Ino[]): void {
    if (inos.length === 0) return;
    const change = (this.#collected ??= changedContent(inos));
    if (this.#frontEnds.isCollected(change, this.#by) || this.#rounds >= collectRoundsMax) return;
    this.#rounds++;
    throw new Turn(() => this.#frontEnds.collect(change, this.#by));
  }

  /** The change is visible. */
  changed(change: VolumeChange): void {
    this.#frontEnds.changed(change, this.#by);
  }

  /** The change was made, or failed. */
  done(): void {
    if (this.#collected !== undefined) this.#frontEnds.done(this.#collected, this.#by);
  }
}
