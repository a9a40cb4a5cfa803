/**
 * Empties packs of which little is live, so that they can go (doc/collecting.md, "Repacking"): gives the content that
 * is left a place in new packs, and says which pages must be written again.
 */

import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { withPages } from '../base/page-fault.js';
import { accountAfter, CountChanges, type CountedSpan, type PackAccount } from '../collect/pack-account.js';
import type { DataExtent } from '../meta/extent.js';
import { decodeExtent, runEnd } from '../meta/extent.js';
import { decodeKey, extentKey, type Ino, isIno, type TreeKey } from '../meta/key.js';
import type { Operation, RelocateOperation } from '../operation/operation.js';
import { PackError } from '../pack/pack-error.js';
import { type PackId, packKey } from '../pack/pack-id.js';
import { type PackItem, readPackIndex } from '../pack/pack-index.js';
import { ContentMove } from './content-move.js';
import type { VolumeParts } from './volume-parts.js';

/** A pack that is to be emptied. */
export interface SparsePack {
  readonly id: PackId;
  readonly size: number;
  readonly account: PackAccount;
  readonly live: number;
}

export interface RepackerOptions {
  readonly parts: Pick<VolumeParts, 'state' | 'tree' | 'packs' | 'staging' | 'keys' | 'options'>;
  readonly apply: (operation: Operation) => Promise<void>;
  /** Puts what was moved so far into the store. */
  readonly flush: (signal: AbortSignal | undefined) => Promise<void>;
  readonly logger: Logger;
}

export interface Repacked {
  readonly movedBytes: number;
  /** Keys on whose way the pages must be written again, ascending. */
  readonly pages: readonly TreeKey[];
}

/** So much content is looked for at once, and moved before it is uploaded. */
const roundBytes = 64 * 1024 * 1024;
/** Extents that one synchronous query reads. */
const extentsPerQuery = 200;
const piecesPerOperation = 64;

interface Found {
  readonly ino: Ino;
  readonly offset: number;
  readonly extent: DataExtent;
}

export class Repacker {
  readonly #options: RepackerOptions;
  #movedBytes = 0;
  readonly #pages = new Set<TreeKey>();

  constructor(options: RepackerOptions) {
    this.#options = options;
  }

  /** Rejects with VolumeError, StoreError and disk errors; a pack that cannot be read is left alone. */
  async empty(packs: readonly SparsePack[], onProgress: (bytes: number) => void, signal: AbortSignal | undefined): Promise<Repacked> {
    const unresolved = new Map<PackId, SparsePack>();
    let round = new Map<PackId, SparsePack>();
    let bytes = 0;
    for (const [index, pack] of packs.entries()) {
      round.set(pack.id, pack);
      bytes += pack.live;
      if (bytes < roundBytes && index < packs.length - 1) continue;
      for (const left of await this.#emptyByHints(round, signal)) unresolved.set(left.id, left);
      onProgress(this.#movedBytes);
      [round, bytes] = [new Map(), 0];
    }
    if (unresolved.size > 0) await this.#emptyByWalk(unresolved, signal);
    return { movedBytes: this.#movedBytes, pages: [...this.#pages].toSorted() };
  }

  /** Returns the packs whose references the hints in their indexes do not account for. */
  async #emptyByHints(packs: ReadonlyMap<PackId, SparsePack>, signal: AbortSignal | undefined): Promise<SparsePack[]> {
    const { logger } = this.#options;
    const places = new Map<Ino, { from: number; to: number }>();
    const readable = new Map<PackId, SparsePack>();
    for (const pack of packs.values()) {
      try {
        const items = await this.#itemsOf(pack, signal);
        for (const item of items) await this.#noteItem(pack, item, places);
        // Chunks and pages never share a pack.
        if (items.some(({ kind }) => kind === 'chunk')) readable.set(pack.id, pack);
      } catch (error) {
        if (!(error instanceof PackError)) throw error;
        logger.warn('a pack cannot be emptied', { pack: pack.id, reason: describeError(error) });
      }
    }
    const found: Found[] = [];
    for (const [ino, { from, to }] of places)
      for await (const one of this.#extentsOf(ino, from, to)) if (readable.has(one.extent.pack)) found.push(one);
    const counted = countOf(found);
    await this.#move(found, signal);
    return [...readable.values()].filter(({ id, account, live }) => live > 0 && hasContent(account, counted.get(id)));
  }

  async #itemsOf({ id, size }: SparsePack, signal: AbortSignal | undefined): Promise<readonly PackItem[]> {
    const { keys, options } = this.#options.parts;
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      const bytes = await options.store.get(packKey(id), { range: { offset, length }, signal });
      if (!bytes) throw new PackError('MISSING', `pack ${id} is not in the store`);
      return bytes;
    };
    return readPackIndex(keys.current, id, size, read);
  }

  /** Notes in which part of which file a live chunk is likely to be, or the first key of a live page. */
  async #noteItem({ id, account }: SparsePack, item: PackItem, places: Map<Ino, { from: number; to: number }>): Promise<void> {
    const { offset, sealedLength } = item;
    if (!isLive(account.live, offset)) return;
    if (item.kind === 'page') {
      const page = await this.#options.parts.tree.load({ pack: id, offset, length: sealedLength, hash: item.hash });
      this.#pages.add(page.keyAt(0) as TreeKey);
    } else if (item.kind === 'chunk' && isIno(item.owner.ino)) {
      const [from, to] = [item.owner.offset, item.owner.offset + item.plainLength];
      const known = places.get(item.owner.ino);
      places.set(item.owner.ino, known ? { from: Math.min(known.from, from), to: Math.max(known.to, to) } : { from, to });
    }
  }

  /** The extents of a file that lie in a range, or begin before it and reach into it. */
  async *#extentsOf(ino: Ino, from: number, to: number): AsyncGenerator<Found, void> {
    const { state } = this.#options.parts;
    const first = await withPages(() => state.view.floor(extentKey(ino, 0), extentKey(ino, from))?.[0]);
    yield* this.#extentsBetween(first ?? extentKey(ino, from), extentKey(ino, to));
  }

  async *#extentsBetween(from: TreeKey, to: TreeKey): AsyncGenerator<Found, void> {
    const { state } = this.#options.parts;
    for (let next: TreeKey | undefined = from; next !== undefined; ) {
      const start: TreeKey = next;
      const batch = await withPages(() => {
        const entries: (readonly [TreeKey, Uint8Array])[] = [];
        for (const entry of state.view.scan(start, to)) {
          entries.push(entry);
          if (entries.length === extentsPerQuery) break;
        }
        return entries;
      });
      for (const [key, value] of batch) {
        const decoded = decodeKey(key);
        const extent = decodeExtent(value);
        if (decoded.type === 'extent' && extent.kind === 'data') yield { ino: decoded.ino, offset: decoded.offset, extent };
      }
      const last = batch.length === extentsPerQuery ? batch.at(-1)?.[0] : undefined;
      next = last === undefined ? undefined : (`${last}\0` as TreeKey);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Walks the extents of all files, once. */
  async #emptyByWalk(packs: ReadonlyMap<PackId, SparsePack>, signal: AbortSignal | undefined): Promise<void> {
    this.#options.logger.info('looks through all files for what is left in packs', { packs: packs.size });
    let found: Found[] = [];
    let bytes = 0;
    for await (const one of this.#extentsBetween('E' as TreeKey, 'F' as TreeKey)) {
      if (!packs.has(one.extent.pack)) continue;
      found.push(one);
      bytes += one.extent.length;
      if (bytes < roundBytes) continue;
      await this.#move(found, signal);
      [found, bytes] = [[], 0];
    }
    await this.#move(found, signal);
  }

  /** Gives each of these extents another place, as long as it stands where it was found. */
  async #move(found: readonly Found[], signal: AbortSignal | undefined): Promise<void> {
    const { parts, apply, flush, logger } = this.#options;
    const move = new ContentMove(new Set(found.map(({ extent }) => extent.pack)), parts.packs, parts.staging);
    let pieces: RelocateOperation['pieces'][number][] = [];
    for (const [index, { ino, offset, extent }] of found.entries()) {
      signal?.throwIfAborted();
      try {
        const to = await move.movedExtent(extent, ino, offset);
        if (to) pieces.push({ offset, from: extent, to });
        this.#movedBytes += extent.length;
      } catch (error) {
        if (!(error instanceof PackError)) throw error;
        logger.warn('content that does not open stays where it is', { pack: extent.pack, ino, reason: describeError(error) });
      }
      const isLast = found[index + 1]?.ino !== ino || pieces.length === piecesPerOperation;
      if (isLast && pieces.length > 0) await apply({ type: 'relocate', ino, pieces });
      if (isLast) pieces = [];
    }
    if (found.length > 0) await flush(signal);
  }
}

const isLive = (live: readonly CountedSpan[], offset: number): boolean => live.some(({ start, end }) => start <= offset && offset < end);

function countOf(found: readonly Found[]): Map<PackId, CountChanges> {
  const counts = new Map<PackId, CountChanges>();
  for (const { extent } of found) {
    const changes = counts.get(extent.pack) ?? new CountChanges();
    counts.set(extent.pack, changes);
    changes.add(extent.packOffset, runEnd(extent), 1);
  }
  return counts;
}

/** Whether something refers to the pack that was not found. */
function hasContent({ live }: PackAccount, found: CountChanges | undefined): boolean {
  const known = found ? accountAfter(undefined, found, 1).live : [];
  const textOf = (spans: readonly CountedSpan[]): string => spans.map(({ start, end, count }) => `${start} ${end} ${count}`).join();
  return textOf(known) !== textOf(live);
}
