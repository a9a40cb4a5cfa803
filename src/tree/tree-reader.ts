/**
 * Reads of a tree at any root: synchronous over pages in memory, with a PageFault for a missing page
 * (doc/concurrency.md, "One instant").
 *
 * It has a cache of pages of its own, instead of one of the cache layer's: branches point directly at their children in
 * memory, so a descent needs no look-up by name, and a use costs one flag. It evicts by the clock algorithm, which
 * approximates least recently used.
 */
import type { Plaintext } from '../base/brand.js';
import { latin1Slice } from '../base/bytes.js';
import { PageFault } from '../base/page-fault.js';
import type { PageReference } from '../pack/page-reference.js';
import { checkChild, checkOrder, TreePage } from './tree-page.js';

export interface PageSource {
  /** The bytes of the page, verified and owned by the caller. */
  readPage(reference: PageReference): Promise<Plaintext>;
}

interface TreeReaderOptions {
  /** Bytes of pages kept in memory. */
  readonly cacheMax?: number;
}

/** A page is identified by its hash: two references with the same hash mean the same bytes. */
const idOf = (reference: PageReference): string => latin1Slice(reference.hash, 0, reference.hash.byteLength);

const droppedMax = 16384;
const readaheadMax = 8;

export class TreeReader {
  readonly #source: PageSource;
  readonly #cacheMax: number;
  /** In the order of the clock's hand, which points at the first. */
  readonly #pages = new Map<string, TreePage>();
  readonly #loading = new Map<string, Promise<TreePage>>();
  #bytes = 0;
  /**
   * Evicted pages, which are found again as long as somebody holds them. So a read that needs more pages than the cache
   * holds, and runs again from its start after each load, ends if its caller holds the pages that its faults have
   * loaded.
   */
  readonly #dropped = new Map<string, WeakRef<TreePage>>();
  #lastRoot: PageReference | undefined;
  #lastRootPage: TreePage | undefined;

  constructor(source: PageSource, options: TreeReaderOptions = {}) {
    this.#source = source;
    this.#cacheMax = options.cacheMax ?? 64 * 1024 * 1024;
  }

  /** Bytes of pages in memory. */
  get cachedBytes(): number {
    return this.#bytes;
  }

  /** The value, borrowed (do not change it). A root of `undefined` is the empty tree. Throws PageFault, TreeError. */
  get(root: PageReference | undefined, key: string): Uint8Array | undefined {
    if (!root) return undefined;
    let page = this.root(root);
    let boundary: TreePage | undefined;
    let boundaryIndex = 0;
    while (page.level > 0) {
      const index = page.childIndex(key);
      if (index + 1 < page.count) {
        boundary = page;
        boundaryIndex = index + 1;
      }
      const child = page.children[index];
      if (child?.resident) {
        child.used = true;
        page = child;
      } else page = this.child(page, index, boundary?.keyAt(boundaryIndex));
    }
    const index = page.find(key);
    return index < 0 ? undefined : page.valueAt(index);
  }

  /** Entries with `from <= key < to`, ascending, with borrowed values. A step that throws PageFault may be repeated. */
  scan(root: PageReference | undefined, from: string, to: string): IterableIterator<readonly [key: string, value: Uint8Array]> {
    return new TreeScan(this, root, from, to);
  }

  /** The greatest entry with `from <= key <= to`, with a borrowed value. Throws PageFault, TreeError. */
  floor(root: PageReference | undefined, from: string, to: string): readonly [key: string, value: Uint8Array] | undefined {
    if (!root || from > to) return undefined;
    let page = this.root(root);
    let upper: string | undefined;
    /** The lowest branch on the path that has a child before the one taken. */
    let left: TreePage | undefined;
    let leftIndex = 0;
    while (page.level > 0) {
      const index = page.childIndex(to);
      if (index > 0) {
        left = page;
        leftIndex = index;
      }
      if (index + 1 < page.count) upper = page.keyAt(index + 1);
      page = this.child(page, index, upper);
    }
    let index = page.lowerBound(to);
    if (index === page.count || page.compareAt(index, to) !== 0) index--;
    if (index < 0) {
      // All entries of this leaf are greater: the result is the last entry before the leaf.
      if (!left) return undefined;
      upper = left.keyAt(leftIndex);
      page = this.child(left, leftIndex - 1, upper);
      while (page.level > 0) page = this.child(page, page.count - 1, upper);
      index = page.count - 1;
    }
    const key = page.keyAt(index);
    return key >= from && key <= to ? [key, page.valueAt(index)] : undefined;
  }

  /** The page at a root. Throws PageFault. Internal to this layer. */
  root(reference: PageReference): TreePage {
    if (reference === this.#lastRoot && this.#lastRootPage?.resident) {
      this.#lastRootPage.used = true;
      return this.#lastRootPage;
    }
    const page = this.#resident(reference);
    if (!page) throw new PageFault(() => this.load(reference));
    this.#lastRoot = reference;
    this.#lastRootPage = page;
    return page;
  }

  /**
   * Child `index` of a branch, whose range ends before `upper`. Throws PageFault, whose load also calls `also`, and
   * TreeError when the page does not belong there. Internal to this layer.
   */
  child(parent: TreePage, index: number, upper: string | undefined, also?: () => void): TreePage {
    const known = parent.children[index];
    if (known?.resident) {
      known.used = true;
      return known;
    }
    const reference = parent.referenceAt(index);
    const child = this.#resident(reference);
    if (!child) {
      throw new PageFault(() => {
        const loaded = this.load(reference);
        also?.();
        return loaded;
      });
    }
    checkChild(parent, index, child, upper);
    parent.children[index] = child;
    return child;
  }

  /** As {@link TreeReader.child}, but loads a missing page instead of throwing. */
  async loadChild(parent: TreePage, index: number, upper: string | undefined): Promise<TreePage> {
    const known = parent.children[index];
    if (known?.resident) {
      known.used = true;
      return known;
    }
    const child = await this.load(parent.referenceAt(index));
    checkChild(parent, index, child, upper);
    if (child.resident) parent.children[index] = child;
    return child;
  }

  /** The page, from memory or the source. Rejects with TreeError and the errors of the source. */
  async load(reference: PageReference): Promise<TreePage> {
    const resident = this.#resident(reference);
    if (resident) return resident;
    const id = idOf(reference);
    const known = this.#loading.get(id);
    if (known) return known;
    const loading = this.#fetch(id, reference).finally(() => this.#loading.delete(id));
    this.#loading.set(id, loading);
    return loading;
  }

  /** Caches a page that was just written, since it is often read next. Takes ownership of `bytes`. */
  adopt(reference: PageReference, bytes: Uint8Array): void {
    const id = idOf(reference);
    if (!this.#pages.has(id) && !this.#loading.has(id)) this.#admit(id, new TreePage(bytes));
  }

  /** Begins to load a missing page; an error is left for the read that needs it. */
  prefetch(reference: PageReference): void {
    this.load(reference).catch(() => {});
  }

  /** Begins to load the missing ones of `count` children from `index` on whose ranges begin before `to`. */
  prefetchChildren(parent: TreePage, index: number, count: number, to: string): void {
    const end = Math.min(parent.count, index + count);
    for (let at = index; at < end && parent.compareAt(at, to) < 0; at++) {
      if (!parent.children[at]?.resident) this.prefetch(parent.referenceAt(at));
    }
  }

  #resident(reference: PageReference): TreePage | undefined {
    const id = idOf(reference);
    const page = this.#pages.get(id);
    if (page) {
      page.used = true;
      return page;
    }
    const held = this.#dropped.get(id)?.deref();
    if (held) this.#admit(id, held);
    return held;
  }

  async #fetch(id: string, reference: PageReference): Promise<TreePage> {
    const page = new TreePage(await this.#source.readPage(reference));
    this.#admit(id, page);
    return page;
  }

  #admit(id: string, page: TreePage): void {
    if (this.#pages.has(id)) return;
    const max = Math.max(0, this.#cacheMax - page.footprint);
    for (const [oldId, old] of this.#pages) {
      if (this.#bytes <= max) break;
      this.#pages.delete(oldId);
      if (old.used) {
        old.used = false;
        // Moves behind the hand: the iteration reaches it again only after all the others.
        this.#pages.set(oldId, old);
      } else this.#drop(oldId, old);
    }
    page.resident = true;
    page.used = true;
    this.#dropped.delete(id);
    this.#pages.set(id, page);
    this.#bytes += page.footprint;
  }

  #drop(id: string, page: TreePage): void {
    page.resident = false;
    // Its children stay in the cache, but this page no longer keeps them alive.
    page.children.fill(undefined);
    this.#bytes -= page.footprint;
    this.#dropped.set(id, new WeakRef(page));
    if (this.#dropped.size > droppedMax) {
      for (const oldest of this.#dropped.keys()) {
        this.#dropped.delete(oldest);
        break;
      }
    }
  }
}

/** One branch of a scan's path. */
interface Step {
  readonly page: TreePage;
  readonly index: number;
  /** The end of the page's range. */
  readonly upper: string | undefined;
}

class TreeScan implements IterableIterator<readonly [string, Uint8Array]> {
  readonly #reader: TreeReader;
  readonly #root: PageReference | undefined;
  readonly #from: string;
  readonly #to: string;
  /**
   * Branches from the root down. A step replaces the whole path once it has succeeded, so a fault leaves it unchanged.
   */
  #path: readonly Step[] = [];
  #leaf: TreePage | undefined;
  #index = 0;
  #leavesPassed = 0;
  #done = false;

  constructor(reader: TreeReader, root: PageReference | undefined, from: string, to: string) {
    this.#reader = reader;
    this.#root = root;
    this.#from = from;
    this.#to = to;
    this.#done = root === undefined || from >= to;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<readonly [string, Uint8Array], undefined> {
    while (!this.#done) {
      if (!this.#leaf) this.#seek();
      const leaf = this.#leaf as TreePage;
      if (this.#index < leaf.count) {
        const key = leaf.keyAt(this.#index);
        if (key >= this.#to) break;
        return { done: false, value: [key, leaf.valueAt(this.#index++)] };
      }
      if (!this.#advance()) break;
    }
    this.#done = true;
    this.#leaf = undefined;
    this.#path = [];
    return { done: true, value: undefined };
  }

  return(): IteratorResult<readonly [string, Uint8Array], undefined> {
    this.#done = true;
    return { done: true, value: undefined };
  }

  #seek(): void {
    const path: Step[] = [];
    let page = this.#reader.root(this.#root as PageReference);
    let upper: string | undefined;
    while (page.level > 0) {
      const index = page.childIndex(this.#from);
      path.push({ page, index, upper });
      if (index + 1 < page.count) upper = page.keyAt(index + 1);
      page = this.#child(page, index, upper);
    }
    this.#index = page.lowerBound(this.#from);
    this.#path = path;
    this.#leaf = page;
  }

  /** Moves to the next leaf. Returns false at the end of the tree or of the range. */
  #advance(): boolean {
    const depth = this.#path.findLastIndex((step) => step.index + 1 < step.page.count);
    const step = this.#path[depth];
    if (!step) return false;
    const path = this.#path.slice(0, depth);
    let { page, index, upper } = step;
    index++;
    if (page.compareAt(index, this.#to) >= 0) return false;
    for (;;) {
      path.push({ page, index, upper });
      if (index + 1 < page.count) upper = page.keyAt(index + 1);
      page = this.#child(page, index, upper);
      if (page.level === 0) break;
      index = 0;
    }
    // A page was checked against the range under which it was first found; another root may give it a narrower one.
    checkOrder(this.#leaf as TreePage, page);
    this.#path = path;
    this.#leaf = page;
    this.#index = 0;
    this.#leavesPassed++;
    return true;
  }

  #child(page: TreePage, index: number, upper: string | undefined): TreePage {
    const known = page.children[index];
    if (known?.resident) {
      known.used = true;
      return known;
    }
    const ahead = Math.min(readaheadMax, 1 + 2 * this.#leavesPassed);
    return this.#reader.child(page, index, upper, () => this.#reader.prefetchChildren(page, index + 1, ahead, this.#to));
  }
}
