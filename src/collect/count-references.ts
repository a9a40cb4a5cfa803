/**
 * What a difference of two trees says about packs: how often which bytes are referred to, and which packs the volume
 * has (doc/collecting.md, "The accounting").
 */
import { decodeExtent, runEnd } from '../meta/extent.js';
import { decodeKey, type TreeKey } from '../meta/key.js';
import { decodePackEntry } from '../meta/pack-entry.js';
import type { PackId } from '../pack/pack-id.js';
import type { PageReference } from '../pack/page-reference.js';
import { diffTrees } from '../tree/tree-diff.js';
import type { TreeReader } from '../tree/tree-reader.js';
import { CountChanges } from './pack-account.js';

export interface ReferenceChanges {
  readonly counts: ReadonlyMap<PackId, CountChanges>;
  /** The sizes of packs that only the new tree names, and `undefined` for those that only the old one does. */
  readonly sizes: ReadonlyMap<PackId, number | undefined>;
  readonly pages: number;
  readonly entries: number;
}

/** Throws MalformedBytesError for a value that does not decode, and what `diffTrees` throws: then nothing is known. */
export async function changedReferences(
  reader: TreeReader,
  before: PageReference | undefined,
  now: PageReference | undefined,
  signal?: AbortSignal,
): Promise<ReferenceChanges> {
  const counts = new Map<PackId, CountChanges>();
  const sizes = new Map<PackId, number | undefined>();
  let [pages, entries] = [0, 0];
  const add = (pack: PackId, start: number, end: number, delta: number): void => {
    let changes = counts.get(pack);
    if (!changes) counts.set(pack, (changes = new CountChanges()));
    changes.add(start, end, delta);
  };
  const addExtent = (value: Uint8Array | undefined, delta: number): void => {
    const extent = value && decodeExtent(value);
    if (extent?.kind !== 'data') return;
    add(extent.pack, extent.packOffset, runEnd(extent), delta);
  };
  const page = ({ pack, offset, length }: PageReference, sign: 1 | -1): void => {
    pages++;
    add(pack, offset, offset + length, sign);
  };
  const entry = (key: string, was: Uint8Array | undefined, is: Uint8Array | undefined): void => {
    entries++;
    if (key.startsWith('E')) {
      addExtent(was, -1);
      addExtent(is, 1);
    } else if (key.startsWith('P')) {
      const decoded = decodeKey(key as TreeKey);
      if (decoded.type === 'pack') sizes.set(decoded.id, is && decodePackEntry(is).size);
    }
  };
  await diffTrees(reader, before, now, { page, entry }, signal);
  return { counts, sizes, pages, entries };
}
