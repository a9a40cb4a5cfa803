/**
 * Walks through a tree page by page, in the order of its keys, and past damage: a page that cannot be read is reported
 * with the range of keys that is lost with it (doc/format.md, "Tree page"). Every page is verified: hash, seal, format,
 * level, order, range. No page is kept.
 */

import { PackError } from '../pack/pack-error.js';
import type { PageReference } from '../pack/page-reference.js';
import { StoreError } from '../store/object-store.js';
import { TreeError } from '../tree/tree-error.js';
import { checkChild, TreePage } from '../tree/tree-page.js';
import type { PageSource } from '../tree/tree-reader.js';

/** Keys with `from <= key < to` (`undefined`: to the end) are lost, because the page at `reference` is. */
export interface LostRange {
  readonly from: string;
  readonly to: string | undefined;
  readonly reference: PageReference;
  readonly error: PackError | TreeError;
}

interface TreeWalkOptions {
  readonly source: PageSource;
  readonly root: PageReference | undefined;
  /** Only leaves that may hold keys of this range are read. */
  readonly from?: string;
  readonly to?: string;
  readonly signal?: AbortSignal | undefined;
  readonly onPage?: (reference: PageReference) => void;
  readonly onLost: (lost: LostRange) => void;
}

/** How many pages are fetched ahead of the current one. */
const window = 8;

type Loaded = { readonly page: TreePage } | { readonly error: unknown };

/** The readable leaves, ascending. Rejects with StoreError when the store fails, and with the signal's reason. */
export async function* walkLeaves(options: TreeWalkOptions): AsyncGenerator<TreePage, void> {
  const { root, signal } = options;
  if (!root) return;
  signal?.throwIfAborted();
  const loaded = await load(options, root);
  if ('error' in loaded) lose(options, { from: '', to: undefined, reference: root, error: damageOf(loaded.error) });
  else if (loaded.page.level === 0) yield loaded.page;
  else yield* walkBranch(options, loaded.page, undefined);
}

async function* walkBranch(options: TreeWalkOptions, branch: TreePage, upper: string | undefined): AsyncGenerator<TreePage, void> {
  const { from = '', to, signal } = options;
  const upperOf = (index: number): string | undefined => (index + 1 < branch.count ? branch.keyAt(index + 1) : upper);
  let first = from === '' ? 0 : branch.childIndex(from);
  let end = branch.count;
  if (to !== undefined) while (end > first && branch.compareAt(end - 1, to) >= 0) end--;
  const loading: Promise<Loaded>[] = [];
  try {
    for (let next = first; first < end; first++) {
      while (next < end && next < first + window) loading.push(load(options, branch.referenceAt(next++)));
      const loaded = (await loading.shift()) as Loaded;
      signal?.throwIfAborted();
      try {
        if ('error' in loaded) throw loaded.error;
        checkChild(branch, first, loaded.page, upperOf(first));
      } catch (error) {
        lose(options, { from: branch.keyAt(first), to: upperOf(first), reference: branch.referenceAt(first), error: damageOf(error) });
        continue;
      }
      if (loaded.page.level === 0) yield loaded.page;
      else yield* walkBranch(options, loaded.page, upperOf(first));
    }
  } finally {
    await Promise.all(loading);
  }
}

async function load({ source, onPage }: TreeWalkOptions, reference: PageReference): Promise<Loaded> {
  try {
    const page = new TreePage(await source.readPage(reference));
    onPage?.(reference);
    return { page };
  } catch (error) {
    return { error };
  }
}

function lose(options: TreeWalkOptions, lost: LostRange): void {
  options.onLost(lost);
}

/** The error as damage of the page; any other error is thrown. */
function damageOf(error: unknown): PackError | TreeError {
  if (error instanceof PackError || error instanceof TreeError) return error;
  // An object that the store should not have under this name is damage as well, and no failure of the store.
  if (error instanceof StoreError && error.code === 'PROTOCOL') return new PackError('MALFORMED', error.message, { cause: error });
  throw error;
}

/** Whether `key` lies in one of the ranges. */
export function isLost(ranges: readonly LostRange[], key: string): boolean {
  return ranges.some(({ from, to }) => key >= from && (to === undefined || key < to));
}

/** Whether some key that begins with `letter` may lie in one of the ranges. */
export function isKindLost(ranges: readonly LostRange[], letter: string): boolean {
  const end = String.fromCharCode(letter.charCodeAt(0) + 1);
  return ranges.some(({ from, to }) => from < end && (to === undefined || to > letter));
}
