/**
 * Brings the accounts of all packs to a newer checkpoint, or makes them anew (doc/collecting.md, "The accounting").
 */
import { MalformedBytesError } from '../base/bytes.js';
import type { Logger } from '../base/logger.js';
import { PackError } from '../pack/pack-error.js';
import type { PackId } from '../pack/pack-id.js';
import type { PageReference } from '../pack/page-reference.js';
import { TreeError } from '../tree/tree-error.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { type AccountedPack, type AccountFiles, type AccountHead, type AccountPart, partOf, treeIdOf } from './account-files.js';
import { changedReferences, type ReferenceChanges } from './count-references.js';
import { AccountError, accountAfter, CountChanges, pruned, type Retention } from './pack-account.js';

/** A tree, and the commits that it holds. */
export interface AccountedTree {
  readonly covers: number;
  readonly root: PageReference | undefined;
}

export interface AccountingResult {
  /** The accounts were made anew, from all of the tree. */
  readonly isRecount: boolean;
  /** Pages and entries that were read. */
  readonly pages: number;
  readonly entries: number;
}

interface AccountingOptions {
  readonly files: AccountFiles;
  readonly tree: TreeReader;
  readonly logger: Logger;
  /** What is retained now: deaths before it need not be remembered. */
  readonly retention: Retention;
  /** The trees of snapshots, ascending: accounts that are made anew go through them. */
  readonly snapshots: readonly AccountedTree[];
  readonly signal?: AbortSignal | undefined;
}

/** Makes the head for a tree that is accounted at `step`. `steps`: of the trees of snapshots that are known, by id. */
export type HeadOf = (at: AccountedTree, step: number, steps: ReadonlyMap<string, number>) => AccountHead;

/**
 * Accounts the trees of new snapshots and then `now`, one after the other, each with the head that `headOf` makes.
 * Throws TreeError, PackError, StoreError and disk errors when a tree cannot be read.
 */
export async function accountUpTo(options: AccountingOptions, now: AccountedTree, headOf: HeadOf): Promise<AccountingResult> {
  const { files, snapshots, logger } = options;
  const { head } = files;
  if (head) {
    const steps = new Map(head.snapshots.map(({ tree, step }) => [tree, step]));
    const newTrees = snapshots.filter(({ root }) => !steps.has(treeIdOf(root)));
    try {
      return { isRecount: false, ...(await accountAll(options, head, [...newTrees, now], steps, headOf)) };
    } catch (error) {
      if (!isStale(error)) throw error;
      logger.warn('the accounts of packs do not fit the volume, and are made anew', { reason: (error as Error).message });
    }
  }
  return { isRecount: true, ...(await accountAll(options, undefined, [...snapshots, now], new Map(), headOf)) };
}

/** Accounts these trees, beginning with what was accounted before, or anew. */
async function accountAll(
  { files, tree, retention, signal }: AccountingOptions,
  head: AccountHead | undefined,
  trees: readonly AccountedTree[],
  steps: Map<string, number>,
  headOf: HeadOf,
): Promise<{ readonly pages: number; readonly entries: number }> {
  // Also when they are made anew: what was observed until then speaks of the steps before.
  let step = files.head?.step ?? 0;
  let [before, pages, entries]: [AccountedTree | undefined, number, number] = [head, 0, 0];
  for (const at of trees) {
    step++;
    // The last one may be that of a snapshot, too.
    steps.set(treeIdOf(at.root), step);
    const changes = await changedReferences(tree, before?.root, at.root, signal);
    await files.save(headOf(at, step, steps), await partsAfter(before && files, changes, step, retention), before === undefined);
    [before, pages, entries] = [at, pages + changes.pages, entries + changes.entries];
  }
  return { pages, entries };
}

/** The old tree is gone, or is not what was accounted. The new one is looked at again, so nothing is hidden. */
const isStale = (error: unknown): boolean =>
  error instanceof AccountError || error instanceof MalformedBytesError || error instanceof TreeError || error instanceof PackError;

async function partsAfter(
  files: AccountFiles | undefined,
  { counts, sizes }: ReferenceChanges,
  step: number,
  retention: Retention,
): Promise<Map<number, AccountPart>> {
  const packsByPart = new Map<number, Set<PackId>>();
  for (const pack of [...counts.keys(), ...sizes.keys()]) {
    const part = partOf(pack);
    packsByPart.set(part, (packsByPart.get(part) ?? new Set()).add(pack));
  }
  const parts = new Map<number, AccountPart>();
  for (const [part, packs] of packsByPart) {
    const accounts = new Map<PackId, AccountedPack>(files ? await readOrThrow(files, part) : []);
    for (const pack of packs) {
      const before = accounts.get(pack);
      const size = sizes.has(pack) ? sizes.get(pack) : before?.size;
      const account = pruned(accountAfter(before?.account, counts.get(pack) ?? new CountChanges(), step), retention);
      // Neither named nor needed: it was buried.
      if (size === undefined && account.live.length === 0 && account.dead.length === 0) accounts.delete(pack);
      else accounts.set(pack, { size, account });
    }
    parts.set(part, accounts);
  }
  return parts;
}

async function readOrThrow(files: AccountFiles, part: number): Promise<AccountPart> {
  const accounts = await files.read(part);
  if (!accounts) throw new AccountError(`part ${part} of the accounts is damaged`);
  return accounts;
}
