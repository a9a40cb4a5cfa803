/** Counts all references of a tree anew, and compares them with what was counted step by step. */
import type { PackId } from '../pack/pack-id.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { type AccountFiles, partCount, partOf } from './account-files.js';
import type { AccountedTree } from './accounting.js';
import { changedReferences } from './count-references.js';
import { accountAfter, type CountedSpan } from './pack-account.js';

const textOf = (size: number | undefined, live: readonly CountedSpan[]): string =>
  `${size ?? 'no'} bytes, ${live.length === 0 ? 'nothing live' : live.map(({ start, end, count }) => `${start}-${end} ${count}x`).join(', ')}`;

/**
 * What is wrong with the accounts, pack by pack. Throws TreeError, PackError, StoreError, MalformedBytesError and disk
 * errors.
 */
export async function wrongAccounts(files: AccountFiles, tree: AccountedTree, reader: TreeReader, signal?: AbortSignal): Promise<string[]> {
  const { counts, sizes } = await changedReferences(reader, undefined, tree.root, signal);
  const wanted = new Map<PackId, string>();
  for (const pack of new Set([...counts.keys(), ...sizes.keys()])) {
    const changes = counts.get(pack);
    const live = changes ? accountAfter(undefined, changes, 1).live : [];
    wanted.set(pack, textOf(sizes.get(pack), live));
  }
  const wrong: string[] = [];
  for (let part = 0; part < partCount; part++) {
    const accounts = await files.read(part);
    if (!accounts) wrong.push(`part ${part} is damaged`);
    for (const [pack, { size, account }] of accounts ?? []) {
      const found = textOf(size, account.live);
      const right = wanted.get(pack) ?? textOf(undefined, []);
      if (found !== right) wrong.push(`pack ${pack}: ${found}, counted anew: ${right}`);
      wanted.delete(pack);
    }
    for (const pack of wanted.keys()) if (partOf(pack) === part) wrong.push(`pack ${pack} is not accounted`);
  }
  return wrong;
}
