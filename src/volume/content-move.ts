/**
 * Gives content of pending operations a place in other packs: where a copy of this installation has put a pack of its
 * own under the name of ours (doc/concurrency.md, "One identity, two installations"), and where a pack is collected
 * (doc/collecting.md).
 */
import type { DataExtent } from '../meta/extent.js';
import type { Ino } from '../meta/key.js';
import type { Operation, RelocateOperation, WriteOperation } from '../operation/operation.js';
import { PackError } from '../pack/pack-error.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackSource } from '../pack/pack-source.js';
import type { RunPlace } from '../pack/pack-writer.js';
import type { Staging } from './staging.js';

export class ContentMove {
  readonly #from: ReadonlySet<PackId>;
  readonly #packs: Pick<PackSource, 'readRun'>;
  readonly #staging: Pick<Staging, 'appendRun'>;
  readonly #onLost: ((ino: Ino, bytes: number) => void) | undefined;
  /** Where runs are now, by where they were: clones share them. */
  readonly #runs = new Map<string, RunPlace>();

  /** `onLost`: content that is not there any more is left out; without it, that is an error. */
  constructor(
    from: ReadonlySet<PackId>,
    packs: Pick<PackSource, 'readRun'>,
    staging: Pick<Staging, 'appendRun'>,
    onLost?: (ino: Ino, bytes: number) => void,
  ) {
    this.#from = from;
    this.#packs = packs;
    this.#staging = staging;
    this.#onLost = onLost;
  }

  /** The operation with its content in other packs. Rejects with PackError and disk errors. */
  async moved(operation: Operation): Promise<Operation> {
    if (operation.type === 'relocate') return { ...operation, pieces: await this.#movedPieces(operation) };
    if (operation.type !== 'write') return operation;
    const pieces: WriteOperation['pieces'][number][] = [];
    for (const piece of operation.pieces) {
      const { offset, extent } = piece;
      const isMoved = extent.kind === 'data' && this.#from.has(extent.pack);
      const moved = isMoved ? await this.movedExtent(extent, operation.ino, offset) : extent;
      if (moved) pieces.push({ offset, extent: moved });
    }
    return { ...operation, pieces };
  }

  async #movedPieces({ ino, pieces }: RelocateOperation): Promise<RelocateOperation['pieces']> {
    const moved: RelocateOperation['pieces'][number][] = [];
    for (const piece of pieces) {
      const { offset, to } = piece;
      const other = this.#from.has(to.pack) ? await this.movedExtent(to, ino, offset) : to;
      if (other) moved.push({ ...piece, to: other });
    }
    return moved;
  }

  /** The extent at `offset` of a file with its content elsewhere; `undefined` when that is lost. Rejects as `moved`. */
  async movedExtent(extent: DataExtent, ino: Ino, offset: number): Promise<DataExtent | undefined> {
    try {
      return { ...extent, ...(await this.#run(extent, ino, offset)) };
    } catch (error) {
      if (!this.#onLost || !(error instanceof PackError) || error.code !== 'MISSING') throw error;
      this.#onLost(ino, extent.length);
      return undefined;
    }
  }

  async #run(extent: DataExtent, ino: Ino, offset: number): Promise<RunPlace> {
    const { pack, packOffset, chunks, skip } = extent;
    const place = `${pack} ${packOffset} ${chunks.length}`;
    const known = this.#runs.get(place);
    if (known) return known;
    const plain = await this.#packs.readRun({ pack, packOffset, chunks }, 0, chunks.length - 1);
    const run = await this.#staging.appendRun(plain, { ino, offset: Math.max(0, offset - skip) });
    this.#runs.set(place, run);
    return run;
  }
}
