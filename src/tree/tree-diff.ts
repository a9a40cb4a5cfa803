/**
 * What differs between two trees. Subtrees that both share are skipped unread, so it takes as long as the difference is large.
 */
import { equalBytes } from '../base/bytes.js';
import type { PageReference } from '../pack/page-reference.js';
import type { TreePage } from './tree-page.js';
import type { TreeReader } from './tree-reader.js';

export interface TreeDifference {
  readonly key: string;
  /** `undefined`: not there. Borrowed. */
  readonly before: Uint8Array | undefined;
  readonly after: Uint8Array | undefined;
}

/** In ascending order of keys. Rejects with TreeError and with what the reader's source throws. */
export async function* diffTrees(
  reader: TreeReader,
  before: PageReference | undefined,
  after: PageReference | undefined,
): AsyncGenerator<TreeDifference> {
  const old = new Walk(reader, before);
  const next = new Walk(reader, after);
  for (;;) {
    if (old.done && next.done) return;
    if (!old.done && !next.done && old.sameSubtree(next)) {
      old.skip();
      next.skip();
      continue;
    }
    // The side that begins earlier moves. Where both begin together the higher subtree is opened, both when they are equally high.
    const order = old.done ? 1 : next.done ? -1 : compare(old.key, next.key);
    if (order === 0 && (old.level >= 0 || next.level >= 0)) {
      const { level } = old;
      if (level >= next.level) await old.open();
      if (next.level >= level) await next.open();
    } else if (order < 0) {
      if (old.level >= 0) await old.open();
      else {
        yield { key: old.key, before: old.value, after: undefined };
        old.skip();
      }
    } else if (order > 0) {
      if (next.level >= 0) await next.open();
      else {
        yield { key: next.key, before: undefined, after: next.value };
        next.skip();
      }
    } else {
      if (!equalBytes(old.value, next.value)) yield { key: old.key, before: old.value, after: next.value };
      old.skip();
      next.skip();
    }
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

interface Step {
  readonly page: TreePage;
  index: number;
  readonly upper: string | undefined;
}

/** A position in a tree: before a subtree that is not opened yet, or at an entry of a leaf. */
class Walk {
  readonly #reader: TreeReader;
  /** The whole tree, until it is opened. */
  #root: PageReference | undefined;
  readonly #path: Step[] = [];
  #key: string | undefined;

  constructor(reader: TreeReader, root: PageReference | undefined) {
    this.#reader = reader;
    this.#root = root;
  }

  get done(): boolean {
    return this.#root === undefined && this.#path.length === 0;
  }

  /** The level of the subtree that is next, -1 at an entry; a root that is not opened counts as the highest. */
  get level(): number {
    return this.#root ? Infinity : this.#top.page.level - 1;
  }

  get #top(): Step {
    return this.#path[this.#path.length - 1];
  }

  /** The entry's key, or a lower bound of the subtree's keys. */
  get key(): string {
    if (this.#root) return '';
    this.#key ??= this.#top.page.keyAt(this.#top.index);
    return this.#key;
  }

  get value(): Uint8Array {
    return this.#top.page.valueAt(this.#top.index);
  }

  get #reference(): Uint8Array | undefined {
    if (this.#root) return this.#root.hash;
    return this.level >= 0 ? this.value.subarray(-32) : undefined;
  }

  /** Whether both are before the same subtree. Pages are known by their hashes. */
  sameSubtree(other: Walk): boolean {
    const mine = this.#reference;
    const theirs = mine && other.#reference;
    return theirs !== undefined && equalBytes(mine as Uint8Array, theirs);
  }

  /** Past the subtree or entry. */
  skip(): void {
    this.#key = undefined;
    if (this.#root) {
      this.#root = undefined;
      return;
    }
    this.#top.index++;
    while (this.#path.length > 0 && this.#top.index === this.#top.page.count) {
      this.#path.pop();
      if (this.#path.length > 0) this.#top.index++;
    }
  }

  /** Into the subtree. */
  async open(): Promise<void> {
    this.#key = undefined;
    if (this.#root) {
      const page = await this.#reader.load(this.#root);
      this.#root = undefined;
      this.#path.push({ page, index: 0, upper: undefined });
      return;
    }
    const { page, index, upper } = this.#top;
    const childUpper = index + 1 < page.count ? page.keyAt(index + 1) : upper;
    this.#path.push({ page: await this.#reader.loadChild(page, index, childUpper), index: 0, upper: childUpper });
  }
}
