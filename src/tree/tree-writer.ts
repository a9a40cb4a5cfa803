/**
 * Makes a new tree from an old one and sorted changes, from left to right and bottom up (doc/format.md, "Tree page").
 * It writes only pages whose entries change, and the branches above them; the new tree shares all others with the old
 * one. It holds the pages of one path and a few that are being written, however large the trees are.
 *
 * Each level collects entries until they are enough for pages. A subtree without changes is adopted as one entry, after
 * the waiting entries of the levels below it have become pages. If one of these would be small, the entries are merged
 * with the first page of the subtree instead.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { PageReference } from '../pack/page-reference.js';
import { decodePageReference, encodePageReference, pageReferenceLength } from '../pack/page-reference.js';
import { fillSize, LevelBuilder, mergeSize, splitSize } from './level-builder.js';
import type { TreePage } from './tree-page.js';
import { levelMax } from './tree-page.js';
import type { TreeReader } from './tree-reader.js';

/** The destination of new pages: a pack writer, or something that fills one pack after the other. */
export interface PageSink {
  /** Calls overlap; the page is borrowed until the promise settles. */
  appendPage(page: Plaintext): Promise<PageReference>;
}

/** Changes no entry: the pages on the way to the key are written again. */
export const rewrite = Symbol('rewrite');
/** `undefined` deletes. The value is copied when the change is applied. */
export type TreeChange = readonly [key: string, value: Uint8Array | undefined | typeof rewrite];

/** How many pages are being written at once. */
const writingMax = 8;
/** How many pages of the old tree are loaded ahead, and how many changes are searched for them. */
const aheadPages = 8;
const aheadChanges = 64;
const sliceMs = 4;

/**
 * Applies `changes` (ascending keys, none twice) to the tree at `root` (`undefined`: empty). Returns the new root: the
 * old one when nothing changes, `undefined` when the new tree is empty. Rejects with TreeError for a malformed old
 * tree, and with the errors of reader and sink; the pages that were appended until then are garbage.
 */
export async function applyBatch(
  reader: TreeReader,
  root: PageReference | undefined,
  changes: Iterable<TreeChange> | AsyncIterable<TreeChange>,
  sink: PageSink,
): Promise<PageReference | undefined> {
  const cursor = new ChangeCursor(changes);
  await cursor.fill();
  return new BatchWriter(reader, cursor, sink).run(root);
}

/** The changes, with look-ahead. */
class ChangeCursor {
  readonly #iterator: Iterator<TreeChange> | undefined;
  readonly #asyncIterator: AsyncIterator<TreeChange> | undefined;
  #window: TreeChange[] = [];
  #head = 0;
  #ended = false;
  #last: string | undefined;

  constructor(changes: Iterable<TreeChange> | AsyncIterable<TreeChange>) {
    if (Symbol.iterator in changes) this.#iterator = changes[Symbol.iterator]();
    else this.#asyncIterator = changes[Symbol.asyncIterator]();
  }

  get current(): TreeChange | undefined {
    return this.#window[this.#head];
  }

  /** The current change and some of the following ones. */
  get window(): readonly TreeChange[] {
    return this.#head === 0 ? this.#window : this.#window.slice(this.#head);
  }

  /** Moves to the next change; returns a promise when it must wait for it. */
  advance(): void | Promise<void> {
    this.#head++;
    if (this.#ended || this.#window.length - this.#head > aheadChanges / 2) return undefined;
    return this.fill();
  }

  fill(): void | Promise<void> {
    this.#window = this.#window.slice(this.#head);
    this.#head = 0;
    if (!this.#iterator) return this.#fillLater();
    while (!this.#ended && this.#window.length < aheadChanges) this.#take(this.#iterator.next());
    return undefined;
  }

  async #fillLater(): Promise<void> {
    while (!this.#ended && this.#window.length < aheadChanges) this.#take(await (this.#asyncIterator as AsyncIterator<TreeChange>).next());
  }

  #take(result: IteratorResult<TreeChange, unknown>): void {
    if (result.done) {
      this.#ended = true;
      return;
    }
    assert(this.#last === undefined || result.value[0] > this.#last, 'changes ascend');
    this.#last = result.value[0];
    this.#window.push(result.value);
  }
}

const noReference = new Uint8Array(pageReferenceLength);

interface Level {
  readonly builder: LevelBuilder;
  /** References to pages that are being written, by ordinal of the entry that will hold them. */
  readonly references: Map<number, Promise<PageReference>>;
}

class BatchWriter {
  readonly #reader: TreeReader;
  readonly #changes: ChangeCursor;
  readonly #sink: PageSink;
  readonly #levels: Level[] = [];
  readonly #writing = new Set<Promise<unknown>>();
  #sliceStart = performance.now();

  constructor(reader: TreeReader, changes: ChangeCursor, sink: PageSink) {
    this.#reader = reader;
    this.#changes = changes;
    this.#sink = sink;
  }

  async run(root: PageReference | undefined): Promise<PageReference | undefined> {
    try {
      if (root) {
        const page = await this.#reader.load(root);
        if (!(await this.#process(page, undefined, async () => {}))) return root;
      } else await this.#takeChanges(undefined);
      return await this.#finish();
    } finally {
      await Promise.allSettled(this.#writing);
    }
  }

  #level(level: number): Level {
    assert(level <= levelMax, 'a tree has at most 12 levels');
    const known = this.#levels[level];
    if (known) return known;
    if (level > 0) this.#level(level - 1);
    const made = { builder: new LevelBuilder(level), references: new Map() };
    this.#levels.push(made);
    return made;
  }

  #builder(level: number): LevelBuilder {
    return this.#level(level).builder;
  }

  async #breathe(): Promise<void> {
    if (performance.now() - this.#sliceStart < sliceMs) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#sliceStart = performance.now();
  }

  /** The current change if it lies before `upper`. */
  #changeBefore(upper: string | undefined): TreeChange | undefined {
    const change = this.#changes.current;
    return change && (upper === undefined || change[0] < upper) ? change : undefined;
  }

  /** Pushes the new values of all changes before `upper`, where the old tree has no entries. */
  async #takeChanges(upper: string | undefined): Promise<void> {
    const leaf = this.#builder(0);
    for (let change = this.#changeBefore(upper); change; change = this.#changeBefore(upper)) {
      if (change[1] && change[1] !== rewrite) leaf.push(change[0], change[1]);
      if (leaf.size > 2 * fillSize) await this.#spill(0);
      const more = this.#changes.advance();
      if (more) await more;
    }
  }

  /**
   * Applies the changes in a page's range, which ends before `upper`. If they change anything, calls `begin` (which
   * pushes everything before the page), pushes the new content of the range and returns true. Otherwise returns false,
   * having pushed nothing.
   */
  #process(page: TreePage, upper: string | undefined, begin: () => Promise<void>): Promise<boolean> {
    return page.level === 0 ? this.#processLeaf(page, upper, begin) : this.#processBranch(page, upper, begin);
  }

  async #processLeaf(page: TreePage, upper: string | undefined, begin: () => Promise<void>): Promise<boolean> {
    await this.#breathe();
    let change = this.#changeBefore(upper);
    while (change && !hasEffect(page, change)) {
      const more = this.#changes.advance();
      if (more) await more;
      change = this.#changeBefore(upper);
    }
    if (!change) return false;
    await begin();
    const leaf = this.#builder(0);
    let next = 0;
    while (change) {
      const [key, value]: TreeChange = change;
      const index = page.lowerBound(key);
      leaf.pushRange(page, next, index);
      const isReplaced = value !== rewrite && index < page.count && page.compareAt(index, key) === 0;
      next = isReplaced ? index + 1 : index;
      if (value && value !== rewrite) leaf.push(key, value);
      if (leaf.size > 2 * fillSize) await this.#spill(0);
      const more = this.#changes.advance();
      if (more) await more;
      change = this.#changeBefore(upper);
    }
    leaf.pushRange(page, next, page.count);
    await this.#spill(0);
    return true;
  }

  async #processBranch(page: TreePage, upper: string | undefined, begin: () => Promise<void>): Promise<boolean> {
    let begun = false;
    /** Children before this one are pushed, once `begun`. */
    let next = 0;
    for (let change = this.#changeBefore(upper); change; change = this.#changeBefore(upper)) {
      const index = page.childIndex(change[0]);
      const childUpper = upperOf(page, index, upper);
      this.#loadAhead(page, upper);
      const child = await this.#reader.loadChild(page, index, childUpper);
      const changed = await this.#process(child, childUpper, async () => {
        if (!begun) await begin();
        begun = true;
        await this.#pushUntouched(page, next, index, upper);
      });
      if (changed) next = index + 1;
    }
    if (begun) await this.#pushUntouched(page, next, page.count, upper);
    return begun;
  }

  /** Begins to load the children that the next changes touch. */
  #loadAhead(page: TreePage, upper: string | undefined): void {
    let last = -1;
    let found = 0;
    for (const [key] of this.#changes.window) {
      if (upper !== undefined && key >= upper) return;
      const index = page.childIndex(key);
      if (index === last) continue;
      last = index;
      if (!page.children[index]?.resident) this.#reader.prefetch(page.referenceAt(index));
      if (++found > aheadPages) return;
    }
  }

  /** Adopts children `from` to `to` (exclusive) of a branch, whose range ends before `upper`. */
  async #pushUntouched(page: TreePage, from: number, to: number, upper: string | undefined): Promise<void> {
    for (let index = from; index < to; index++) {
      const waiting = this.#waitingBelow(page.level);
      if (waiting === 'nothing') {
        this.#adopt(page, index, to);
        break;
      }
      if (waiting === 'pages') {
        for (let level = 0; level < page.level; level++) await this.#flush(level);
        this.#adopt(page, index, index + 1);
      } else {
        const childUpper = upperOf(page, index, upper);
        const child = await this.#reader.loadChild(page, index, childUpper);
        if (child.level === 0) {
          this.#builder(0).pushRange(child, 0, child.count);
          await this.#spill(0);
        } else await this.#pushUntouched(child, 0, child.count, childUpper);
      }
    }
    await this.#spill(page.level);
  }

  /** Makes children of a branch entries of the new tree; nothing waits below. */
  #adopt(page: TreePage, from: number, to: number): void {
    this.#builder(page.level).pushRange(page, from, to);
    for (let below = 0; below < page.level; below++) this.#builder(below).begin();
  }

  /**
   * What waits on the levels below `level`: nothing, enough for pages, or so little on some level that its page would
   * be small.
   */
  #waitingBelow(level: number): 'nothing' | 'pages' | 'little' {
    let carried = 0;
    for (let below = 0; below < level; below++) {
      const builder = this.#builder(below);
      if (builder.count + carried === 0) continue;
      if (builder.size + carried * 100 < mergeSize) return 'little';
      carried = 1;
    }
    return carried > 0 ? 'pages' : 'nothing';
  }

  /** Writes pages while more than two full ones wait on a level. */
  async #spill(level: number): Promise<void> {
    const builder = this.#builder(level);
    while (builder.size > 2 * fillSize && builder.count > 1) await this.#cut(builder, builder.fitting(fillSize));
  }

  /** Writes all waiting entries of a level. */
  async #flush(level: number): Promise<void> {
    const builder = this.#builder(level);
    await this.#spill(level);
    while (builder.count > 0) {
      await this.#cut(builder, builder.size <= splitSize ? builder.count : builder.fitting(Math.min(fillSize, Math.ceil(builder.size / 2) + 256)));
    }
  }

  /** Writes one page and pushes its reference to the level above. */
  async #cut(builder: LevelBuilder, count: number): Promise<void> {
    const parent = this.#level(builder.level + 1);
    const { key, reference } = await this.#write(builder, count);
    parent.references.set(parent.builder.total, reference);
    parent.builder.push(key, noReference);
    await this.#breathe();
    await this.#spill(parent.builder.level);
  }

  async #write(builder: LevelBuilder, count: number): Promise<{ readonly key: string; readonly reference: Promise<PageReference> }> {
    const { references } = this.#level(builder.level);
    const known = new Map<number, Uint8Array>();
    const first = builder.total - builder.count;
    for (let ordinal = first; references.size > 0 && ordinal < first + count; ordinal++) {
      const reference = references.get(ordinal);
      if (!reference) continue;
      known.set(ordinal, encodePageReference(await reference));
      references.delete(ordinal);
    }
    const { key, bytes } = builder.cut(count, (ordinal) => known.get(ordinal));
    const reference = this.#sink.appendPage(bytes);
    // The level above will meet the error when it needs the reference; until then it must not count as unhandled.
    const ended: Promise<unknown> = reference.then(
      (place) => {
        this.#writing.delete(ended);
        this.#reader.adopt(place, bytes);
      },
      () => {
        this.#writing.delete(ended);
      },
    );
    this.#writing.add(ended);
    if (this.#writing.size > writingMax) await Promise.race(this.#writing);
    return { key, reference };
  }

  async #finish(): Promise<PageReference | undefined> {
    // Flushing a level may add another one above it, which the loop then reaches.
    for (const { builder } of this.#levels) {
      const { level } = builder;
      const isTop = this.#levels.every((above) => above.builder.level <= level || above.builder.count === 0);
      if (builder.count === 0) continue;
      if (!isTop || (builder.size > splitSize && builder.count > 1)) {
        await this.#flush(level);
        continue;
      }
      if (level > 0 && builder.count === 1) return this.#collapse(builder);
      return (await this.#write(builder, builder.count)).reference;
    }
    return undefined;
  }

  /** The root below a branch with a single child: the first page with more than one entry, or a leaf. */
  async #collapse(builder: LevelBuilder): Promise<PageReference> {
    const written = this.#level(builder.level).references.get(builder.total - 1);
    let root = written ? await written : decodePageReference(builder.soleValue());
    for (let level = builder.level - 1; level > 0; level--) {
      const page = await this.#reader.load(root);
      if (page.count > 1) break;
      root = page.referenceAt(0);
    }
    return root;
  }
}

function upperOf(page: TreePage, index: number, upper: string | undefined): string | undefined {
  return index + 1 < page.count ? page.keyAt(index + 1) : upper;
}

function hasEffect(page: TreePage, [key, value]: TreeChange): boolean {
  if (value === rewrite) return true;
  const index = page.find(key);
  if (value === undefined) return index >= 0;
  return index < 0 || !equalBytes(page.valueAt(index), value);
}
