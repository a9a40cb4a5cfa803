/**
 * The chunks of packs that the volume's files refer to: collected while the metadata is read, and verified afterwards
 * pack by pack (`pack-check.ts`), each chunk once however many files share it. Typed arrays keep a reference in 72
 * bytes.
 */
import { hashLength } from '../crypto/hash.js';
import { chunkSaltLength, sealedChunkLength } from '../crypto/stream-format.js';
import type { DataExtent } from '../meta/extent.js';
import type { Ino } from '../meta/key.js';
import { codecs, contentHash, type RunChunk, type StoredChunk } from '../pack/item.js';
import type { PackId } from '../pack/pack-id.js';

export interface UsedChunk extends Omit<RunChunk, 'hashes'> {
  readonly offset: number;
  /** {@link contentHash}: the hashes of its segments would take four times as much memory. */
  readonly hash: Uint8Array;
  /** The files that refer to it, at least one. */
  readonly inos: readonly Ino[];
}

const boundLength = hashLength + chunkSaltLength;

/** A growing list of references into one pack. */
class References {
  count = 0;
  #inos = new Float64Array(16);
  /** Offset, plain length, stored length, codec. */
  #places = new Uint32Array(16 * 4);
  /** Content hash, salt. */
  #bound = new Uint8Array(16 * boundLength);

  add(ino: Ino, offset: number, chunk: StoredChunk): void {
    if (this.count === this.#inos.length) {
      this.#inos = grown(this.#inos, new Float64Array(this.count * 2));
      this.#places = grown(this.#places, new Uint32Array(this.count * 2 * 4));
      this.#bound = grown(this.#bound, new Uint8Array(this.count * 2 * boundLength));
    }
    this.#inos[this.count] = ino;
    this.#places.set([offset, chunk.plainLength, chunk.storedLength, codecs.indexOf(chunk.codec)], this.count * 4);
    this.#bound.set(contentHash(chunk), this.count * boundLength);
    this.#bound.set(chunk.salt, this.count * boundLength + hashLength);
    this.count++;
  }

  #chunkAt(index: number): Omit<UsedChunk, 'inos'> {
    const [offset, plainLength, storedLength, codec] = this.#places.subarray(index * 4, index * 4 + 4) as unknown as [number, number, number, number];
    const bound = this.#boundAt(index);
    const [hash, salt] = [bound.subarray(0, hashLength), bound.subarray(hashLength)];
    return { offset, plainLength, storedLength, sealedLength: sealedChunkLength(storedLength), codec: codecs[codec]!, hash, salt };
  }

  /** By offset, each chunk once. */
  sorted(): UsedChunk[] {
    const order = Uint32Array.from({ length: this.count }, (_, index) => index);
    order.sort((a, b) => this.#compare(a, b));
    const chunks: (UsedChunk & { inos: Ino[] })[] = [];
    let last: number | undefined;
    for (const index of order) {
      const ino = this.#inos[index] as Ino;
      const inos = chunks.at(-1)?.inos;
      if (!inos || last === undefined || this.#compare(last, index) !== 0) chunks.push({ ...this.#chunkAt(index), inos: [ino] });
      else if (!inos.includes(ino)) inos.push(ino);
      last = index;
    }
    return chunks;
  }

  #compare(a: number, b: number): number {
    for (let field = 0; field < 4; field++) {
      const difference = this.#places[a * 4 + field]! - this.#places[b * 4 + field]!;
      if (difference !== 0) return difference;
    }
    return Buffer.compare(this.#boundAt(a), this.#boundAt(b));
  }

  #boundAt(index: number): Uint8Array {
    return this.#bound.subarray(index * boundLength, (index + 1) * boundLength);
  }
}

/** `larger` with the elements of `array` at its beginning. */
function grown<T extends Float64Array | Uint32Array | Uint8Array>(array: T, larger: T): T {
  larger.set(array);
  return larger;
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
    for (const chunk of extent.chunks) {
      references?.add(ino, at, chunk);
      at += chunk.sealedLength;
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
