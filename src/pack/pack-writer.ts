/**
 * A staging pack: an append-only file on the local disk that becomes a pack in the store as it stands (doc/format.md, "Pack"). It owns
 * the allocation of offsets. It is not a log: what it holds counts only once a journal record or a tree refers to it.
 *
 * Appends are sealed in call order by one pump: while one batch is being written the next is sealed. An append resolves when its bytes
 * are in the file, so whoever knows a place can read it.
 */

import { dirname } from 'node:path';
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { isPromise } from '../base/maybe-promise.js';
import { type BulkCipher, inlineCipher } from '../crypto/bulk-cipher.js';
import { hashBytes } from '../crypto/hash.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { isDiskFull } from '../disk/whole-file.js';
import type { FileBody } from '../store/object-store.js';
import type { ItemKind, PackKeys } from './item.js';
import { encodeItem, itemPlace } from './item.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import type { PackItem } from './pack-index.js';
import { packSizeMax, readPackIndex, sealPackEnd } from './pack-index.js';
import type { PageReference } from './page-reference.js';

export interface PackWriterOptions {
  readonly disk: Pick<Disk, 'open' | 'syncDirectory'>;
  readonly path: string;
  readonly id: PackId;
  readonly keys: PackKeys;
  /** Who encrypts; this thread when not given. */
  readonly cipher?: BulkCipher | undefined;
}

/** A run of chunks side by side, as `DataExtent` holds it. */
export interface RunPlace {
  readonly pack: PackId;
  readonly packOffset: number;
  readonly chunks: readonly { readonly plainLength: number; readonly sealedLength: number }[];
}

export interface FinishedPack extends FileBody {
  readonly id: PackId;
}

/** Some items that are to lie side by side. */
interface Append {
  readonly kind: ItemKind;
  readonly payloads: readonly MaybePromise<Plaintext[]>[];
  readonly resolve: (items: readonly SealedItem[]) => void;
  readonly reject: (error: unknown) => void;
}

interface SealedItem extends PackItem {
  readonly kind: ItemKind;
  /** Of the sealed bytes; pages only. */
  hash: Uint8Array | undefined;
}

interface Batch {
  readonly appends: { readonly append: Append; readonly items: readonly SealedItem[] }[];
  readonly start: number;
  end: number;
  /** Begins with the bytes of the file from `start` to `end`. */
  sealed: Buffer;
}

/** A batch is written when it has this many bytes, or when nothing more is waiting. */
const batchBytes = 2 * 1024 * 1024;
/** A buffer larger than this is not kept for the next batch. */
const spareBytesMax = 8 * 1024 * 1024;
const emptyBuffer = Buffer.alloc(0);

function diskError(id: PackId, cause: unknown): PackError {
  const full = isDiskFull(cause);
  return new PackError(full ? 'FULL' : 'IO', `staging pack ${id}: the local disk ${full ? 'is full' : 'failed'}`, { cause });
}

export class PackWriter {
  readonly id: PackId;
  readonly path: string;
  readonly #disk: PackWriterOptions['disk'];
  readonly #file: DiskFile;
  readonly #keys: PackKeys;
  /** What is in the file, in order of offsets. */
  readonly #items: PackItem[];
  readonly #queue: Append[] = [];
  #pump: Promise<void> | undefined;
  /** Where the items in the file end; of a finished pack, its size. */
  #size: number;
  #nameSynced = false;
  /** It was finished before a crash: index and footer are there, if not yet on stable storage. */
  readonly #whole: boolean;
  /** The disk failed once to make the file durable. It may call the same bytes durable next time, though they are lost (fsync(2), "EIO"). */
  #syncFailure: PackError | undefined;
  #finishing: Promise<FinishedPack> | undefined;
  #closed = false;
  /** Reads and syncs under way: the file is not closed before them, since its descriptor could be another file's when they come to run. */
  readonly #users = new Set<Promise<unknown>>();
  readonly #cipher: BulkCipher;
  /** One is being written while the next is filled. */
  readonly #spareBuffers: Buffer[] = [];
  #isComplete = false;
  /** A commit names it: it is in the store, and its file may move. */
  #isLetGo = false;

  private constructor(options: PackWriterOptions, file: DiskFile, items: PackItem[], size: number, whole: boolean) {
    this.#disk = options.disk;
    this.path = options.path;
    this.id = options.id;
    this.#keys = options.keys;
    this.#cipher = options.cipher ?? inlineCipher;
    this.#file = file;
    this.#items = items;
    this.#size = size;
    this.#whole = whole;
  }

  /** A new, empty pack; throws PackError IO when the file exists. Its name becomes durable with the first {@link PackWriter.sync}. */
  static async create(options: PackWriterOptions): Promise<PackWriter> {
    try {
      return new PackWriter(options, await options.disk.open(options.path, 'create-new'), [], 0, false);
    } catch (cause) {
      throw diskError(options.id, cause);
    }
  }

  /**
   * After a crash: keeps what lies below the end of the last of `items` (ascending), and drops the rest. A pack that was finished stays
   * finished, with all that it has, since a store may hold it already. Throws PackError MISSING when the file is shorter than that;
   * whether the bytes are intact only {@link intactItems} tells.
   */
  static async resume(options: PackWriterOptions, items: readonly PackItem[]): Promise<PackWriter> {
    const { disk, path, id, keys } = options;
    let file: DiskFile;
    try {
      file = await disk.open(path, 'write');
    } catch (cause) {
      if (diskErrorCode(cause) === 'ENOENT') throw new PackError('MISSING', `staging pack ${id} is not there`, { cause });
      throw diskError(id, cause);
    }
    try {
      const { size } = await file.stat();
      const finished = await indexOf(file, options, size);
      const wanted = withGaps(items);
      if (finished) {
        const offsets = new Map(finished.map((item) => [item.offset, item]));
        for (const item of items) {
          const found = offsets.get(item.offset);
          if (found?.sealedLength !== item.sealedLength) throw new PackError('MISSING', `staging pack ${id} has no item at ${item.offset}`);
        }
        return new PackWriter(options, file, [...finished], size, true);
      }
      const last = wanted.at(-1);
      const end = last ? last.offset + last.sealedLength : 0;
      if (end > size) throw new PackError('MISSING', `staging pack ${id} has ${size} bytes, not ${end}`);
      if (size > end) await file.truncate(end);
      return new PackWriter({ disk, path, id, keys }, file, wanted, end, false);
    } catch (cause) {
      await file.close();
      throw cause instanceof PackError ? cause : diskError(id, cause);
    }
  }

  /** Bytes of items in the file; of a finished pack, the whole file. */
  get size(): number {
    return this.#size;
  }

  get itemCount(): number {
    return this.#items.length;
  }

  /** Whether {@link PackWriter.finish} was called, now or before a crash: there can be no more appends. */
  get finished(): boolean {
    return this.#whole || this.#finishing !== undefined;
  }

  /** Memory that is kept for more appends. */
  get keptBytes(): number {
    return this.#spareBuffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
  }

  /** There will be no more appends: many packs may wait for a store that is away, and their memory must not. */
  complete(): void {
    this.#isComplete = true;
    this.#spareBuffers.length = 0;
  }

  /**
   * Seals chunks side by side, in call order with other appends. Resolves when they are in the file (not synced). Borrows the
   * plaintexts until then. Throws PackError FULL or IO, having appended nothing.
   */
  async appendRun(chunks: readonly Plaintext[], options?: { readonly compress?: boolean }): Promise<RunPlace> {
    assert(chunks.length > 0, 'a run has chunks');
    const items = await this.#append('chunk', chunks, options?.compress ?? true);
    return {
      pack: this.id,
      packOffset: items[0].offset,
      chunks: items.map((item, index) => ({ plainLength: chunks[index].byteLength, sealedLength: item.sealedLength })),
    };
  }

  /** As {@link PackWriter.appendRun}, for a tree page. */
  async appendPage(page: Plaintext): Promise<PageReference> {
    const [item] = await this.#append('page', [page], true);
    assert(item.hash, 'pages are hashed when they are sealed');
    return { pack: this.id, offset: item.offset, length: item.sealedLength, hash: item.hash };
  }

  #append(kind: ItemKind, plains: readonly Plaintext[], compress: boolean): Promise<readonly SealedItem[]> {
    assert(!this.finished && !this.#isComplete && !this.#closed, 'a finished or closed pack takes no appends');
    return new Promise((resolve, reject) => {
      const payloads = plains.map((plain) => {
        const payload = encodeItem(kind, plain, compress);
        // Whoever waits for it may come later, or never if something before it fails.
        if (isPromise(payload)) payload.catch(() => {});
        return payload;
      });
      this.#queue.push({ kind, payloads, resolve, reject });
      this.#pump ??= this.#run();
    });
  }

  /** Seals and writes until the queue is empty. Never rejects. */
  async #run(): Promise<void> {
    // Those who append in the same turn go into the same batch.
    await Promise.resolve();
    let writing: Promise<boolean> = Promise.resolve(true);
    let end = this.#size;
    while (this.#queue.length > 0) {
      const batch = await this.#sealBatch(end);
      if (await writing) {
        writing = this.#write(batch);
        end = batch.end;
      } else {
        // What follows a failed batch was sealed for places behind it: they are given out again.
        for (const { append } of batch.appends) append.reject(new PackError('IO', `staging pack ${this.id}: a write before this one failed`));
        writing = Promise.resolve(true);
        end = this.#size;
      }
      // Before the pump ends, the last batch must be in the file or have failed; meanwhile others may have come.
      if (this.#queue.length === 0 && !(await writing)) {
        writing = Promise.resolve(true);
        end = this.#size;
      }
    }
    // No await after the last look at the queue: an append that comes now starts a pump of its own.
    this.#pump = undefined;
  }

  /** Takes appends from the queue and seals them side by side into one buffer. */
  async #sealBatch(start: number): Promise<Batch> {
    const batch: Batch = { appends: [], start, end: start, sealed: emptyBuffer };
    const payloads: Plaintext[][] = [];
    while (batch.end - start < batchBytes) {
      const append = this.#queue.shift();
      if (!append) break;
      const items: SealedItem[] = [];
      const encoded: Plaintext[][] = [];
      let end = batch.end;
      try {
        for (const waiting of append.payloads) {
          const payload = isPromise(waiting) ? await waiting : waiting;
          const sealedLength = this.#keys[append.kind].sealedLength(payload.reduce((sum, part) => sum + part.byteLength, 0));
          items.push({ kind: append.kind, offset: end, sealedLength, hash: undefined });
          encoded.push(payload);
          end += sealedLength;
        }
        // Room for the largest index is left, so that every pack can be finished.
        if (end > packSizeMax / 2) throw new PackError('FULL', `staging pack ${this.id} takes no more`);
      } catch (error) {
        append.reject(error);
        continue;
      }
      batch.end = end;
      batch.appends.push({ append, items });
      payloads.push(...encoded);
    }
    try {
      await this.#seal(batch, payloads);
      return batch;
    } catch (error) {
      for (const { append } of batch.appends) append.reject(error);
      return { appends: [], start, end: start, sealed: emptyBuffer };
    }
  }

  async #seal(batch: Batch, payloads: readonly Plaintext[][]): Promise<void> {
    const { start, end } = batch;
    const spare = this.#spareBuffers.pop();
    const target = spare && spare.byteLength >= end - start ? spare : Buffer.allocUnsafeSlow(end - start);
    batch.sealed = target;
    const items = batch.appends.flatMap((one) => one.items);
    const messages = items.map(({ kind, offset }, index) =>
      this.#keys[kind].sealLater(itemPlace(this.id, offset), payloads[index], target, offset - start),
    );
    await this.#cipher.encrypt(messages, target);
    for (const { key } of messages) key.fill(0);
    for (const item of items) {
      if (item.kind === 'page') item.hash = hashBytes(target.subarray(item.offset - start, item.offset - start + item.sealedLength));
    }
  }

  /** Answers whether it went well; those who wait for the batch are told here. */
  async #write(batch: Batch): Promise<boolean> {
    const { start, end, sealed } = batch;
    if (end === start) return true;
    try {
      await this.#file.write(sealed.subarray(0, end - start), start);
    } catch (cause) {
      const error = diskError(this.id, cause);
      for (const { append } of batch.appends) append.reject(error);
      return false;
    } finally {
      if (!this.#isComplete && sealed.byteLength <= spareBytesMax && this.#spareBuffers.length < 2) this.#spareBuffers.push(sealed);
    }
    this.#size = end;
    for (const { append, items } of batch.appends) {
      for (const { kind, offset, sealedLength } of items) this.#items.push({ kind, offset, sealedLength });
      append.resolve(items);
    }
    return true;
  }

  /** The sealed bytes of items whose appends have resolved, owned by the caller. Throws PackError MISSING or IO. */
  async read(offset: number, length: number): Promise<Sealed> {
    if (this.#closed) throw new PackError('MISSING', `staging pack ${this.id} is closed`);
    const bytes = Buffer.allocUnsafeSlow(length);
    let count: number;
    try {
      count = await this.#use(this.#file.read(bytes, offset));
    } catch (cause) {
      throw diskError(this.id, cause);
    }
    if (count < length) throw new PackError('MISSING', `staging pack ${this.id} has no ${length} bytes at ${offset}`);
    return bytes as Uint8Array as Sealed;
  }

  /** {@link PackWriter.read} into all of `target`, when that needs no waiting; false when it does not. */
  readNow(target: Uint8Array, offset: number): boolean {
    return !this.#closed && this.#file.readNow?.(target, offset) === target.byteLength;
  }

  async #use<T>(running: Promise<T>): Promise<T> {
    this.#users.add(running);
    try {
      return await running;
    } finally {
      this.#users.delete(running);
    }
  }

  /**
   * All appends that have resolved, and the file's name, survive power loss. Throws PackError FULL or IO: from then on always, since what the disk
   * holds is unknown; only {@link PackWriter.finish} looks at it again.
   */
  async sync(): Promise<void> {
    if (this.#syncFailure) throw this.#syncFailure;
    // Let go of while others were asked to sync: it was finished, and so was synced.
    if (this.#isLetGo || (this.#closed && this.#finishing)) return;
    try {
      await this.#use(this.#syncFile());
      if (!(await this.isInPlace()) && !this.#isLetGo) throw new PackError('IO', `staging pack ${this.id} is not where it was`);
    } catch (error) {
      if (error instanceof PackError) this.#syncFailure ??= error;
      throw error;
    }
  }

  /** Whether the file is where the next start looks for it. */
  async isInPlace(): Promise<boolean> {
    return this.#closed || (await this.#use(this.#file.isAt(this.path)));
  }

  /** From here on it need not survive a loss of power, and its file may be moved or removed. */
  letGo(): void {
    this.#isLetGo = true;
  }

  /** All of a finished pack, whose file may have lost its name. Throws PackError MISSING or IO. */
  readAll(): Promise<Sealed> {
    return this.read(0, this.#size);
  }

  async #syncFile(): Promise<void> {
    try {
      await this.#file.datasync();
      if (!this.#nameSynced && (await this.#file.isAt(this.path))) {
        await this.#disk.syncDirectory(dirname(this.path));
        this.#nameSynced = true;
      }
    } catch (cause) {
      throw diskError(this.id, cause);
    }
  }

  /** Adds index and footer and syncs; the answer is the object to upload. Again on a finished pack: the same. Throws PackError FULL or IO; it may be tried again. */
  finish(): Promise<FinishedPack> {
    if (!this.#finishing) {
      const finishing = this.#whole ? this.#syncWhole() : this.#finish();
      this.#finishing = finishing;
      finishing.catch(() => {
        this.#finishing = undefined;
      });
    }
    return this.#finishing;
  }

  /** Whoever finished it may have died before it was synced: what goes into the store must stay here until a commit names it. */
  async #syncWhole(): Promise<FinishedPack> {
    await this.#syncFile();
    return { id: this.id, path: this.path, size: this.#size };
  }

  async #finish(): Promise<FinishedPack> {
    await this.#pump;
    const [index, footer] = sealPackEnd(this.#keys, this.id, this.#items, this.#size);
    const size = this.#size + index.byteLength + footer.byteLength;
    if (this.#syncFailure) await this.#verify();
    try {
      // A footer that is found after a power loss must mean that all before it is there: nothing else would look again.
      await this.#file.datasync();
      await this.#file.write(Buffer.concat([index, footer]), this.#size);
      // A write that failed may have left bytes behind.
      if ((await this.#file.stat()).size > size) await this.#file.truncate(size);
    } catch (cause) {
      throw diskError(this.id, cause);
    }
    await this.#syncFile();
    this.#size = size;
    return { id: this.id, path: this.path, size };
  }

  /** Whether the file still holds what was appended. Throws PackError IO or MISSING. */
  async #verify(): Promise<void> {
    for (const { kind, offset, sealedLength } of this.#items) {
      if (kind === 'gap') continue;
      const sealed = await this.read(offset, sealedLength);
      try {
        this.#keys[kind].open(itemPlace(this.id, offset), sealed);
      } catch (cause) {
        throw new PackError('IO', `staging pack ${this.id}: the local disk lost what was written at ${offset}`, { cause });
      }
    }
  }

  /** Closes the file, and leaves it there. Waits for what is under way. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pump;
    await this.#finishing?.catch(() => {});
    await Promise.allSettled(this.#users);
    await this.#file.close();
  }
}

/**
 * How many of `items`, from the first on, a staging file holds intact: what a power loss took is seen here. A finished file was synced before its
 * footer was written, and is not looked through. Throws PackError IO.
 */
export async function intactItems(options: PackWriterOptions, items: readonly PackItem[]): Promise<number> {
  let file: DiskFile;
  try {
    file = await options.disk.open(options.path, 'read');
  } catch (cause) {
    if (diskErrorCode(cause) === 'ENOENT') return 0;
    throw diskError(options.id, cause);
  }
  try {
    if (await indexOf(file, options, (await file.stat()).size)) return items.length;
    for (let index = 0; index < items.length; index++) {
      const { kind, offset, sealedLength } = items[index];
      if (kind === 'gap') continue;
      const sealed = Buffer.allocUnsafe(sealedLength);
      if ((await file.read(sealed, offset)) < sealedLength) return index;
      try {
        options.keys[kind].open(itemPlace(options.id, offset), sealed);
      } catch {
        return index;
      }
    }
    return items.length;
  } catch (cause) {
    throw diskError(options.id, cause);
  } finally {
    await file.close();
  }
}

/** The index of a file that was finished, `undefined` for one that was not. */
async function indexOf(file: DiskFile, { keys, id }: PackWriterOptions, size: number): Promise<readonly PackItem[] | undefined> {
  try {
    return await readPackIndex(keys, id, size, async (offset, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, await file.read(bytes, offset));
    });
  } catch (error) {
    // No footer, or one whose index did not reach the disk: then it was not synced either, and nobody has uploaded it.
    if (error instanceof PackError) return undefined;
    throw error;
  }
}

/** The items with the bytes between them, of which only the length is known. */
function withGaps(items: readonly PackItem[]): PackItem[] {
  const all: PackItem[] = [];
  let end = 0;
  for (const item of items) {
    assert(item.offset >= end, 'items are ascending and do not overlap');
    if (item.offset > end) all.push({ kind: 'gap', offset: end, sealedLength: item.offset - end });
    all.push(item);
    end = item.offset + item.sealedLength;
  }
  return all;
}
