/**
 * Compares a staged pack with what the store has under its name (doc/concurrency.md, "One identity, two
 * installations"): names are random, so another content there is that of a copy of this installation, which went on
 * from the same staging file.
 */
import { equalBytes } from '../base/bytes.js';
import { hashBytes } from '../crypto/hash.js';
import type { ObjectStore } from '../store/object-store.js';
import type { PackKeys } from './item.js';
import { PackError } from './pack-error.js';
import { type PackId, packKey } from './pack-id.js';
import { footerLength, type PackItem, readPackIndex } from './pack-index.js';

/** A pack in the store, as commits name it. */
export interface StoredPack {
  readonly size: number;
  /** H of its sealed index. */
  readonly indexHash: Uint8Array;
}

/**
 * The pack that the store has under the name, if it holds all of `items`; `undefined` when it holds something else.
 * Throws StoreError; PackError when it is no pack of this volume.
 */
export async function findStored(
  store: Pick<ObjectStore, 'get' | 'head'>,
  keys: PackKeys,
  id: PackId,
  items: readonly PackItem[],
  signal: AbortSignal | undefined,
): Promise<StoredPack | undefined> {
  const key = packKey(id);
  const read = async (offset: number, length: number): Promise<Uint8Array> =>
    (await store.get(key, { range: { offset, length }, signal })) ?? new Uint8Array(0);
  const size = (await store.head(key)) ?? 0;
  const stored = await readPackIndex(keys, id, size, read);
  const byOffset = new Map(stored.map((item) => [item.offset, item]));
  if (!items.every((item) => isSameItem(item, byOffset.get(item.offset)))) return undefined;
  const end = stored.reduce((last, { offset, sealedLength }) => Math.max(last, offset + sealedLength), 0);
  const sealedIndex = await read(end, size - footerLength - end);
  if (sealedIndex.byteLength !== size - footerLength - end) throw new PackError('MISSING', `pack ${id} is cut off`);
  return { size, indexHash: hashBytes(sealedIndex) };
}

/** Whether the sealed bytes are the same: they follow from the key, the salt and what was sealed. */
function isSameItem(item: PackItem, stored: PackItem | undefined): boolean {
  if (item.kind === 'gap') return true;
  if (stored?.kind !== item.kind || stored.sealedLength !== item.sealedLength || !equalBytes(stored.hash, item.hash)) return false;
  return item.kind === 'page' || (stored.kind === 'chunk' && equalBytes(stored.salt, item.salt) && stored.codec === item.codec);
}
