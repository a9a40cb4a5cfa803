/**
 * Which chunks of which packs the volume's files refer to: collected while the metadata is read, verified afterwards pack by pack, each chunk
 * once however many files share it. Typed arrays: 24 bytes a chunk.
 */
import type { DataExtent } from '../meta/extent.js';
import type { Ino } from '../meta/key.js';
import type { PackId } from '../pack/pack-id.js';

export interface UsedChunk {
  readonly offset: number;
  readonly sealedLength: number;
  readonly plainLength: number;
  /** Files that refer to it, at least one. */
  readonly inos: readonly Ino[];
}

/** A growing list of references into one pack. */
class References {
  count = 0;
  #inos = new Float64Array(16);
  /** Offset, sealed length, plain length. */
  #places = new Uint32Array(48);

  add(ino: Ino, offset: number, sealedLength: number, plainLength: number): void {
    if (this.count === this.#inos.length) {
      const inos = new Float64Array(this.count * 2);
      inos.set(this.#inos);
      this.#inos = inos;
      const places = new Uint32Array(this.count * 6);
      places.set(this.#places);
      this.#places = places;
    }
    this.#inos[this.count] = ino;
    this.#places.set([offset, sealedLength, plainLength], this.count * 3);
    this.count++;
  }

  /** By offset, each place once. */
  sorted(): UsedChunk[] {
    const places = this.#places;
    const order = Uint32Array.from({ length: this.count }, (_, index) => index);
    order.sort((a, b) => places[a * 3] - places[b * 3] || places[a * 3 + 1] - places[b * 3 + 1] || places[a * 3 + 2] - places[b * 3 + 2]);
    const chunks: (UsedChunk & { inos: Ino[] })[] = [];
    for (const index of order) {
      const [offset, sealedLength, plainLength] = places.subarray(index * 3, index * 3 + 3);
      const ino = this.#inos[index] as Ino;
      const last = chunks.at(-1);
      if (last?.offset === offset && last.sealedLength === sealedLength && last.plainLength === plainLength) {
        if (!last.inos.includes(ino)) last.inos.push(ino);
      } else chunks.push({ offset, sealedLength, plainLength, inos: [ino] });
    }
    return chunks;
  }
}

export class PackUsage {
  /** Whether the chunks themselves are wanted, or only which packs are used and how far. */
  readonly #withChunks: boolean;
  readonly #chunks = new Map<PackId, References>();
  readonly #ends = new Map<PackId, number>();
  readonly #firstIno = new Map<PackId, Ino>();

  constructor(withChunks: boolean) {
    this.#withChunks = withChunks;
  }

  addExtent(ino: Ino, extent: DataExtent): void {
    const { pack } = extent;
    let references = this.#chunks.get(pack);
    if (this.#withChunks && !references) {
      references = new References();
      this.#chunks.set(pack, references);
    }
    let at = extent.packOffset;
    for (const { plainLength, sealedLength } of extent.chunks) {
      references?.add(ino, at, sealedLength, plainLength);
      at += sealedLength;
    }
    this.#touch(pack, at, ino);
  }

  addPage(pack: PackId, end: number): void {
    this.#touch(pack, end, undefined);
  }

  #touch(pack: PackId, end: number, ino: Ino | undefined): void {
    if (end > (this.#ends.get(pack) ?? 0)) this.#ends.set(pack, end);
    if (ino !== undefined && !this.#firstIno.has(pack)) this.#firstIno.set(pack, ino);
  }

  /** The packs that something refers to, with the end of the last thing referred to. */
  get packs(): ReadonlyMap<PackId, number> {
    return this.#ends;
  }

  /** Some file that needs the pack. */
  fileOf(pack: PackId): Ino | undefined {
    return this.#firstIno.get(pack);
  }

  get chunkCount(): number {
    let count = 0;
    for (const references of this.#chunks.values()) count += references.count;
    return count;
  }

  /** By offset, each once. Forgets them. */
  takeChunks(pack: PackId): readonly UsedChunk[] {
    const references = this.#chunks.get(pack);
    this.#chunks.delete(pack);
    return references?.sorted() ?? [];
  }
}
