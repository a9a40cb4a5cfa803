/**
 * The chunks of packs that the volume's files refer to: collected while the metadata is read, and verified afterwards
 * pack by pack (`pack-check.ts`), each chunk once however many files share it. Typed arrays keep a reference in 20
 * bytes.
 */
import type { DataExtent } from '../meta/extent.js';
import type { Ino } from '../meta/key.js';
import type { PackId } from '../pack/pack-id.js';

export interface UsedChunk {
  readonly offset: number;
  readonly sealedLength: number;
  readonly plainLength: number;
  /** The files that refer to it, at least one. */
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
    const field = (index: number, at: number): number => this.#places[index * 3 + at] ?? 0;
    const order = Uint32Array.from({ length: this.count }, (_, index) => index);
    order.sort((a, b) => field(a, 0) - field(b, 0) || field(a, 1) - field(b, 1) || field(a, 2) - field(b, 2));
    const chunks: (UsedChunk & { inos: Ino[] })[] = [];
    for (const index of order) {
      const [offset, sealedLength, plainLength] = [field(index, 0), field(index, 1), field(index, 2)];
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
  /** Whether to collect chunks, or only which packs are used and how far. */
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

  /** The packs that something refers to, and how far they are referred to. */
  get packs(): ReadonlyMap<PackId, number> {
    return this.#ends;
  }

  /** One of the files that need the pack. */
  fileOf(pack: PackId): Ino | undefined {
    return this.#firstIno.get(pack);
  }

  /** The chunks of a pack by offset, each once, and forgets them. */
  takeChunks(pack: PackId): readonly UsedChunk[] {
    const references = this.#chunks.get(pack);
    this.#chunks.delete(pack);
    return references?.sorted() ?? [];
  }
}
