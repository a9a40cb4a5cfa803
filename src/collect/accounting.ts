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
import { type AccountedPack, type AccountFiles, type AccountHead, type AccountPart, partOf } from './account-files.js';
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

/**
 * Accounts `now` and saves it with the head that `headOf` makes. Throws TreeError, PackError, StoreError and disk
 * errors when the tree cannot be read: then the old accounts stay.
 */
export async function accountUpTo(
  options: AccountingOptions,
  now: AccountedTree,
  headOf: (at: AccountedTree) => AccountHead,
): Promise<AccountingResult> {
  const { files, snapshots, logger } = options;
  const { head } = files;
  if (head) {
    try {
      return { isRecount: false, ...(await accountOne(options, head, now, headOf(now))) };
    } catch (error) {
      if (!isStale(error)) throw error;
      logger.warn('the accounts of packs do not fit the volume, and are made anew', { reason: (error as Error).message });
    }
  }
  let [before, pages, entries]: [AccountedTree | undefined, number, number] = [undefined, 0, 0];
  for (const at of [...snapshots.filter(({ covers }) => covers < now.covers), now]) {
    const step = await accountOne(options, before, at, headOf(at));
    [before, pages, entries] = [at, pages + step.pages, entries + step.entries];
  }
  return { isRecount: true, pages, entries };
}

/** From one tree to the next; `before`: `undefined` to begin anew. */
async function accountOne(
  { files, tree, retention, signal }: AccountingOptions,
  before: AccountedTree | undefined,
  now: AccountedTree,
  head: AccountHead,
): Promise<{ readonly pages: number; readonly entries: number }> {
  const changes = await changedReferences(tree, before?.root, now.root, signal);
  const steps = { since: before?.covers ?? -1, sequence: now.covers };
  await files.save(head, await partsAfter(before && files, changes, steps, retention), before === undefined);
  return changes;
}

/** The old tree is gone, or is not what was accounted. The new one is looked at again, so nothing is hidden. */
const isStale = (error: unknown): boolean =>
  error instanceof AccountError || error instanceof MalformedBytesError || error instanceof TreeError || error instanceof PackError;

async function partsAfter(
  files: AccountFiles | undefined,
  { counts, sizes }: ReferenceChanges,
  steps: { readonly since: number; readonly sequence: number },
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
      const account = pruned(accountAfter(before?.account, counts.get(pack) ?? new CountChanges(), steps), retention);
      // Neither named nor referred to: it was buried.
      if (size === undefined && account.live.length === 0) accounts.delete(pack);
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
