/**
 * The difference of two trees: pages and entries that only one of them has. What they share is skipped without being
 * read, so the cost is that of what changed (doc/collecting.md, "The accounting").
 */
import { equalBytes } from '../base/bytes.js';
import { type PageReference, samePage } from '../pack/page-reference.js';
import type { TreePage } from './tree-page.js';
import type { TreeReader } from './tree-reader.js';

export interface TreeDifference {
  /**
   * A page of one of the trees: 1 for the new one, -1 for the old one. A page of both may be reported for both. Its
   * reference is the caller's.
   */
  readonly page: (reference: PageReference, sign: 1 | -1) => void;
  /** An entry that is not the same in both; keys ascend. The values are borrowed. */
  readonly entry: (key: string, before: Uint8Array | undefined, now: Uint8Array | undefined) => void;
}

const sliceMs = 4;
/** How many pages are loaded ahead where everything is read. */
const aheadPages = 8;
const afterAllKeys = '\u0100';

/** A child that was not opened, or an entry of a leaf. */
interface Item {
  readonly key: string;
  /** Of a child. */
  readonly reference: PageReference | undefined;
  /** Of a child; -1 of an entry. */
  readonly level: number;
}

/** Stands in a tree: before a page that was not opened, or at an entry of a leaf. */
class Cursor {
  readonly #reader: TreeReader;
  readonly #onPage: (reference: PageReference) => void;
  readonly #path: { readonly page: TreePage; index: number; readonly upper: string | undefined }[] = [];
  #item: Item | undefined;

  constructor(reader: TreeReader, onPage: (reference: PageReference) => void) {
    this.#reader = reader;
    this.#onPage = onPage;
  }

  async begin(root: PageReference | undefined): Promise<void> {
    if (!root) return;
    this.#onPage(root);
    this.#path.push({ page: await this.#reader.load(root), index: 0, upper: undefined });
    this.#look();
  }

  /** `undefined` at the end. */
  get item(): Item | undefined {
    return this.#item;
  }

  /** Of the entry at which it stands; borrowed. */
  get value(): Uint8Array | undefined {
    const step = this.#path.at(-1);
    return step?.page.valueAt(step.index);
  }

  /** Goes to the first item below the page before which it stands. */
  async open(): Promise<void> {
    const step = this.#path.at(-1);
    const reference = this.#item?.reference;
    if (!step || !reference) return;
    const { page, index } = step;
    this.#onPage(reference);
    const upper = index + 1 < page.count ? page.keyAt(index + 1) : step.upper;
    this.#path.push({ page: await this.#reader.loadChild(page, index, upper), index: 0, upper });
    this.#look();
  }

  loadAhead(): void {
    const step = this.#path.at(-1);
    if (step && step.page.level > 0) this.#reader.prefetchChildren(step.page, step.index + 1, aheadPages, afterAllKeys);
  }

  /** Passes the item. */
  skip(): void {
    for (let step = this.#path.at(-1); step; step = this.#path.at(-1)) {
      if (++step.index < step.page.count) break;
      this.#path.pop();
    }
    this.#look();
  }

  #look(): void {
    const step = this.#path.at(-1);
    if (!step) {
      this.#item = undefined;
      return;
    }
    const { page, index } = step;
    this.#item = { key: page.keyAt(index), reference: page.level > 0 ? page.referenceAt(index) : undefined, level: page.level - 1 };
  }
}

/**
 * Walks both trees (`undefined`: the empty one). Throws TreeError, PackError and StoreError when a page of what changed
 * cannot be read: then what was reported is not all.
 */
export async function diffTrees(
  reader: TreeReader,
  before: PageReference | undefined,
  now: PageReference | undefined,
  difference: TreeDifference,
  signal?: AbortSignal,
): Promise<void> {
  if (before && now && samePage(before, now)) return;
  const old = new Cursor(reader, (reference) => difference.page(reference, -1));
  const young = new Cursor(reader, (reference) => difference.page(reference, 1));
  await Promise.all([old.begin(before), young.begin(now)]);
  let sliceStart = performance.now();
  while (old.item || young.item) {
    if (performance.now() - sliceStart > sliceMs) {
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      sliceStart = performance.now();
    }
    await step(old, young, difference);
  }
}

/** Passes what comes first, or opens it. */
async function step(old: Cursor, young: Cursor, { entry }: TreeDifference): Promise<void> {
  const [a, b] = [old.item, young.item];
  if (a?.reference && b?.reference && samePage(a.reference, b.reference)) {
    old.skip();
    young.skip();
    return;
  }
  const order = orderOf(a, b);
  const isOldFirst = order <= 0;
  const isYoungFirst = order >= 0;
  const opens = [...(isOldFirst && a?.reference ? [old] : []), ...(isYoungFirst && b?.reference ? [young] : [])];
  if (opens.length > 0) {
    if (!a || !b) for (const cursor of opens) cursor.loadAhead();
    await Promise.all(opens.map((cursor) => cursor.open()));
    return;
  }
  const [was, is] = [isOldFirst ? old.value : undefined, isYoungFirst ? young.value : undefined];
  if (!was || !is || !equalBytes(was, is)) entry((isOldFirst ? a : b)?.key ?? '', was, is);
  if (isOldFirst) old.skip();
  if (isYoungFirst) young.skip();
}

/** Which of the two comes first, or has to be opened first: below 0 the old one, above 0 the young one, 0 both. */
function orderOf(a: Item | undefined, b: Item | undefined): number {
  if (!a || !b) return a ? -1 : 1;
  // The key of a page is a lower bound: it may hold what comes before an entry of the other tree, or is that.
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return b.level - a.level;
}
