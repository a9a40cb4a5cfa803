/**
 * Gives content of pending operations a place in other packs, where a copy of this installation has put a pack of its
 * own under the name of ours (doc/concurrency.md, "One identity, two installations"). The pack is still staged here, so
 * nothing is fetched.
 */
import type { DataExtent } from '../meta/extent.js';
import type { Operation, WriteOperation } from '../operation/operation.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackSource } from '../pack/pack-source.js';
import type { RunPlace } from '../pack/pack-writer.js';
import type { Staging } from './staging.js';

export class ContentMove {
  readonly #from: ReadonlySet<PackId>;
  readonly #packs: Pick<PackSource, 'readRun'>;
  readonly #staging: Pick<Staging, 'appendRun'>;
  /** Where runs are now, by where they were: clones share them. */
  readonly #runs = new Map<string, RunPlace>();

  constructor(from: ReadonlySet<PackId>, packs: Pick<PackSource, 'readRun'>, staging: Pick<Staging, 'appendRun'>) {
    this.#from = from;
    this.#packs = packs;
    this.#staging = staging;
  }

  /** The operation with its content in other packs. Rejects with PackError and disk errors. */
  async moved(operation: Operation): Promise<Operation> {
    if (operation.type !== 'write') return operation;
    const pieces: WriteOperation['pieces'][number][] = [];
    for (const piece of operation.pieces) {
      const { offset, extent } = piece;
      const isMoved = extent.kind === 'data' && this.#from.has(extent.pack);
      pieces.push(isMoved ? { offset, extent: { ...extent, ...(await this.#run(extent, operation, offset)) } } : piece);
    }
    return { ...operation, pieces };
  }

  async #run(extent: DataExtent, { ino }: WriteOperation, offset: number): Promise<RunPlace> {
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
