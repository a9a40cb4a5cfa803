/**
 * Seals the appends of a staging pack and writes them, side by side in call order (doc/format.md, "Pack"). One pump
 * does both: while a batch is being written the next one is sealed. It allocates the offsets; syncing, finishing and
 * reading the file are the business of `pack-writer.ts`.
 */
import { assert } from '../base/assert.js';
import type { Plaintext } from '../base/brand.js';
import { totalLength } from '../base/bytes.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { isPromise } from '../base/maybe-promise.js';
import type { Random } from '../base/random.js';
import type { BulkCipher } from '../crypto/bulk-cipher.js';
import { hashBytes, hashLength } from '../crypto/hash.js';
import { chunkSaltLength, hashesLength, sealedChunkLength } from '../crypto/stream-format.js';
import type { DiskFile } from '../disk/disk.js';
import type { EncodedItem, PackKeys, RunChunk } from './item.js';
import { contentHash, contentOf, encodeChunk, encodePage, itemPlace } from './item.js';
import { diskError, PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import type { ChunkItem, ChunkOwner, PackItem, PageItem } from './pack-index.js';
import { packSizeMax } from './pack-index.js';

/** Items that are to lie side by side. */
interface Append {
  readonly encodings: readonly MaybePromise<EncodedItem>[];
  /** Makes the item for its place. */
  readonly place: (index: number, encoded: EncodedItem, offset: number) => SealedItem;
  readonly resolve: (items: readonly SealedItem[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Its hashes are filled in when it is sealed. */
type SealedItem = SealedChunk | PageItem;

export interface SealedChunk extends RunChunk {
  readonly kind: 'chunk';
  readonly offset: number;
  readonly owner: ChunkOwner;
}

interface SealingItem {
  readonly item: SealedItem;
  readonly parts: readonly Plaintext[];
}

interface Batch {
  readonly appends: { readonly append: Append; readonly items: readonly SealedItem[] }[];
  readonly start: number;
  end: number;
  /** Begins with the bytes of the file from `start` to `end`. */
  sealed: Buffer;
}

/** A batch is written when it has this many bytes, or when no append is waiting. */
const batchBytes = 2 * 1024 * 1024;
/** A larger buffer is not kept for the next batch. */
const spareBytesMax = 8 * 1024 * 1024;
const emptyBuffer = Buffer.alloc(0);

export interface AppendQueueOptions {
  readonly id: PackId;
  readonly keys: PackKeys;
  readonly cipher: BulkCipher;
  readonly random: Random;
  readonly file: Pick<DiskFile, 'write'>;
  /** The items that are in the file already, and where they end. */
  readonly items: PackItem[];
  readonly end: number;
}

export class AppendQueue {
  readonly #id: PackId;
  readonly #keys: PackKeys;
  readonly #cipher: BulkCipher;
  readonly #random: Random;
  readonly #file: AppendQueueOptions['file'];
  readonly #items: PackItem[];
  #end: number;
  readonly #waiting: Append[] = [];
  #pump: Promise<void> | undefined;
  /** One buffer is being written while the other is filled. */
  readonly #spareBuffers: Buffer[] = [];
  #isComplete = false;

  constructor({ id, keys, cipher, random, file, items, end }: AppendQueueOptions) {
    this.#id = id;
    this.#keys = keys;
    this.#cipher = cipher;
    this.#random = random;
    this.#file = file;
    this.#items = items;
    this.#end = end;
  }

  /** The items in the file, in order of offsets. */
  get items(): readonly PackItem[] {
    return this.#items;
  }

  /** Where the items in the file end. */
  get end(): number {
    return this.#end;
  }

  /** Memory that is kept for more appends. */
  get keptBytes(): number {
    return this.#spareBuffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  /** Announces that there will be no more appends, and frees the memory that is kept for them. */
  complete(): void {
    this.#isComplete = true;
    this.#spareBuffers.length = 0;
  }

  /** Resolves when all appends so far have succeeded or failed. */
  async drain(): Promise<void> {
    await this.#pump;
  }

  /**
   * Resolves when the chunks, which follow each other in the file of `owner`, are in the pack's file (not synced).
   * Borrows the plaintexts until then. Rejects with PackError, having appended nothing.
   */
  async appendChunks(plains: readonly Plaintext[], owner: ChunkOwner, compress: boolean): Promise<readonly SealedChunk[]> {
    const starts: number[] = [];
    let at = owner.offset;
    for (const plain of plains) {
      starts.push(at);
      at += plain.byteLength;
    }
    const items = await this.#append({
      encodings: plains.map((plain) => encodeChunk(plain, compress)),
      place: (index, { codec, plainLength, parts }, offset) => {
        const storedLength = totalLength(parts);
        const sealedLength = sealedChunkLength(storedLength);
        const bound = { salt: this.#random.bytes(chunkSaltLength), hashes: new Uint8Array(hashesLength(storedLength)) };
        return { kind: 'chunk', offset, sealedLength, codec, plainLength, storedLength, ...bound, owner: { ino: owner.ino, offset: starts[index]! } };
      },
    });
    return items as readonly SealedChunk[];
  }

  /** As {@link AppendQueue.appendChunks}, for one tree page. */
  async appendPage(page: Plaintext): Promise<PageItem> {
    const [item] = await this.#append({
      encodings: [encodePage(page)],
      place: (_, { parts }, offset) => ({
        kind: 'page',
        offset,
        sealedLength: this.#keys.page.sealedLength(totalLength(parts)),
        hash: new Uint8Array(hashLength),
      }),
    });
    return item as PageItem;
  }

  #append({ encodings, place }: Pick<Append, 'encodings' | 'place'>): Promise<readonly SealedItem[]> {
    assert(!this.#isComplete, 'a complete pack takes no appends');
    return new Promise((resolve, reject) => {
      // Awaited when its turn comes, or never if an item before it fails: until then a rejection must not count as
      // unhandled.
      for (const encoding of encodings) if (isPromise(encoding)) encoding.catch(() => {});
      this.#waiting.push({ encodings, place, resolve, reject });
      this.#pump ??= this.#run();
    });
  }

  /** Seals and writes until the queue is empty. Never rejects. */
  async #run(): Promise<void> {
    // Appends of the same turn go into the same batch.
    await Promise.resolve();
    let writing: Promise<boolean> = Promise.resolve(true);
    let end = this.#end;
    while (this.#waiting.length > 0) {
      const batch = await this.#sealBatch(end);
      if (await writing) {
        writing = this.#write(batch);
        end = batch.end;
      } else {
        // This batch was sealed for places behind the one that failed; its own places are given out again.
        for (const { append } of batch.appends) append.reject(new PackError('IO', `staging pack ${this.#id}: a write before this one failed`));
        writing = Promise.resolve(true);
        end = this.#end;
      }
      // Before the pump ends, the last batch must be in the file or have failed. More appends may come meanwhile.
      if (this.#waiting.length === 0 && !(await writing)) {
        writing = Promise.resolve(true);
        end = this.#end;
      }
    }
    // No await until here since the last look at the queue: an append that comes now starts a pump of its own.
    this.#pump = undefined;
  }

  /** Takes appends from the queue and seals them side by side into one buffer. */
  async #sealBatch(start: number): Promise<Batch> {
    const batch: Batch = { appends: [], start, end: start, sealed: emptyBuffer };
    const sealing: SealingItem[] = [];
    while (batch.end - start < batchBytes) {
      const append = this.#waiting.shift();
      if (!append) break;
      const encoded: SealingItem[] = [];
      let end = batch.end;
      try {
        for (const [index, encoding] of append.encodings.entries()) {
          const encodedItem = isPromise(encoding) ? await encoding : encoding;
          const item = append.place(index, encodedItem, end);
          encoded.push({ item, parts: encodedItem.parts });
          end += item.sealedLength;
        }
        // Leaves room for the largest index, so that every pack can be finished.
        if (end > packSizeMax / 2) throw new PackError('FULL', `staging pack ${this.#id} takes no more`);
      } catch (error) {
        append.reject(error);
        continue;
      }
      batch.end = end;
      batch.appends.push({ append, items: encoded.map(({ item }) => item) });
      sealing.push(...encoded);
    }
    try {
      await this.#seal(batch, sealing);
      return batch;
    } catch (error) {
      for (const { append } of batch.appends) append.reject(error);
      return { appends: [], start, end: start, sealed: emptyBuffer };
    }
  }

  async #seal(batch: Batch, sealing: readonly SealingItem[]): Promise<void> {
    const { start, end } = batch;
    const spare = this.#spareBuffers.pop();
    const target = spare && spare.byteLength >= end - start ? spare : Buffer.allocUnsafeSlow(end - start);
    batch.sealed = target;
    const messages = sealing.map(({ item, parts }) => {
      const at = item.offset - start;
      return item.kind === 'chunk'
        ? this.#keys.chunk.sealing(contentOf({ ...item, pack: this.#id }), parts, at)
        : this.#keys.page.sealLater(itemPlace(this.#id, item.offset), parts, target, at);
    });
    try {
      await this.#cipher.encrypt(messages, target);
    } finally {
      for (const { key } of messages) key.fill(0);
    }
    for (const { item } of sealing) {
      if (item.kind === 'page') item.hash.set(hashBytes(target.subarray(item.offset - start, item.offset - start + item.sealedLength)));
    }
  }

  /** Writes a batch and resolves or rejects its appends. Returns whether it succeeded. */
  async #write(batch: Batch): Promise<boolean> {
    const { start, end, sealed } = batch;
    if (end === start) return true;
    try {
      await this.#file.write(sealed.subarray(0, end - start), start);
    } catch (cause) {
      const error = diskError(this.#id, cause);
      for (const { append } of batch.appends) append.reject(error);
      return false;
    } finally {
      if (!this.#isComplete && sealed.byteLength <= spareBytesMax && this.#spareBuffers.length < 2) this.#spareBuffers.push(sealed);
    }
    this.#end = end;
    for (const { append, items } of batch.appends) {
      for (const item of items) this.#items.push(item.kind === 'page' ? item : indexed(item));
      append.resolve(items);
    }
    return true;
  }
}

/** As the pack's index has it. */
function indexed({ hashes, ...chunk }: SealedChunk): ChunkItem {
  return { ...chunk, hash: contentHash({ hashes }) };
}
