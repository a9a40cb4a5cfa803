/**
 * A staging pack: an append-only file on the local disk that becomes a pack in the store as it is (doc/format.md,
 * "Pack"; doc/concurrency.md, "Staging"). This is the life of the file: creating it, resuming it after a crash,
 * syncing, finishing, reading and closing it. Appends are sealed and written by `append-queue.ts`. It is not a log: its
 * content counts only once a journal record or a tree refers to it.
 */
import { dirname } from 'node:path';
import { assert } from '../base/assert.js';
import type { Plaintext, Sealed } from '../base/brand.js';
import type { Random } from '../base/random.js';
import { type BulkCipher, inlineCipher } from '../crypto/bulk-cipher.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import type { FileBody } from '../store/object-store.js';
import { AppendQueue } from './append-queue.js';
import type { PackKeys, RunChunk } from './item.js';
import { itemPlace, openStored } from './item.js';
import { diskError, PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';
import type { ChunkOwner, PackItem } from './pack-index.js';
import { footerLength, packEndMax, readPackIndex, sealPackEnd } from './pack-index.js';
import type { PageReference } from './page-reference.js';

export interface PackWriterOptions {
  readonly disk: Pick<Disk, 'open' | 'syncDirectory'>;
  readonly path: string;
  readonly id: PackId;
  readonly keys: PackKeys;
  readonly random: Random;
  /** Encrypts the appends; without it, this thread does. */
  readonly cipher?: BulkCipher | undefined;
}

/** A run of adjacent chunks, as a `DataExtent` describes it. */
export interface RunPlace {
  readonly pack: PackId;
  readonly packOffset: number;
  readonly chunks: readonly RunChunk[];
}

interface FinishedPack extends FileBody {
  readonly id: PackId;
  /** The epoch whose keys seal it. */
  readonly epoch: number;
  /** H of its sealed index, 32 bytes, as commits name it. */
  readonly indexHash: Uint8Array;
}

export class PackWriter {
  readonly id: PackId;
  readonly path: string;
  readonly #disk: PackWriterOptions['disk'];
  readonly #file: DiskFile;
  readonly #keys: PackKeys;
  readonly #appends: AppendQueue;
  /** The size of the whole file, once it is finished. */
  #finishedSize: number | undefined;
  #nameSynced = false;
  /** Whether it was finished before a crash: index and footer exist, though perhaps not yet on stable storage. */
  readonly #wasFinished: boolean;
  /**
   * The disk failed once to make the file durable. Next time it may claim that the same bytes are durable, although
   * they are lost (fsync(2), "EIO").
   */
  #syncFailure: PackError | undefined;
  #finishing: Promise<FinishedPack> | undefined;
  #closed = false;
  /**
   * Reads and syncs under way. The file is closed only after them, since its descriptor could belong to another file by
   * the time they run.
   */
  readonly #users = new Set<Promise<unknown>>();
  /** A commit in the log names the pack: it is in the store, and its file may move. */
  #isReleased = false;

  private constructor(options: PackWriterOptions, file: DiskFile, items: PackItem[], end: number, finishedSize?: number) {
    const { disk, path, id, keys, random, cipher = inlineCipher } = options;
    this.#disk = disk;
    this.path = path;
    this.id = id;
    this.#keys = keys;
    this.#file = file;
    this.#appends = new AppendQueue({ id, keys, cipher, random, file, items, end });
    this.#finishedSize = finishedSize;
    this.#wasFinished = finishedSize !== undefined;
  }

  /**
   * A new, empty pack. Its name becomes durable with the first {@link PackWriter.sync}. Throws PackError IO, also when
   * the file exists.
   */
  static async create(options: PackWriterOptions): Promise<PackWriter> {
    try {
      return new PackWriter(options, await options.disk.open(options.path, 'create-new'), [], 0);
    } catch (cause) {
      throw diskError(options.id, cause);
    }
  }

  /**
   * After a crash: keeps the bytes up to the end of the last of `items` (ascending) and drops the rest. A pack that was
   * finished stays finished, with everything in it, since the store may have it already. Throws PackError MISSING when
   * the file is too short; only {@link intactItems} checks that the bytes are intact.
   */
  static async resume(options: PackWriterOptions, items: readonly PackItem[]): Promise<PackWriter> {
    const { disk, path, id } = options;
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
        return new PackWriter(options, file, [...finished], endOf(finished), size);
      }
      const end = endOf(wanted);
      if (end > size) throw new PackError('MISSING', `staging pack ${id} has ${size} bytes, not ${end}`);
      if (size > end) await file.truncate(end);
      return new PackWriter(options, file, wanted, end);
    } catch (cause) {
      await file.close();
      throw cause instanceof PackError ? cause : diskError(id, cause);
    }
  }

  /** Bytes of the items in the file; once finished, of the whole file. */
  get size(): number {
    return this.#finishedSize ?? this.#appends.end;
  }

  /** The size that it will have when it is finished now, without padding, at most. */
  get finishedSizeMax(): number {
    return this.#finishedSize ?? this.#appends.end + packEndMax(this.#appends.items.length);
  }

  get itemCount(): number {
    return this.#appends.items.length;
  }

  /** In order of offsets. */
  get items(): readonly PackItem[] {
    return this.#appends.items;
  }

  /** Whether {@link PackWriter.finish} was called, now or before a crash: it takes no more appends. */
  get finished(): boolean {
    return this.#wasFinished || this.#finishing !== undefined;
  }

  /** Memory that is kept for more appends. */
  get keptBytes(): number {
    return this.#appends.keptBytes;
  }

  /**
   * Announces that there will be no more appends. Many packs may wait while the drive is offline, and need no memory
   * for appends then.
   */
  complete(): void {
    this.#appends.complete();
  }

  /**
   * Appends adjacent chunks, which follow each other in the file of `owner`, in call order with other appends. Resolves
   * when they are in the file (not synced). Borrows the plaintexts until then. Throws PackError FULL or IO, having
   * appended nothing.
   */
  async appendRun(chunks: readonly Plaintext[], owner: ChunkOwner, options?: { readonly compress?: boolean }): Promise<RunPlace> {
    this.#assertOpen();
    const items = await this.#appends.appendChunks(chunks, owner, options?.compress ?? true);
    const [first] = items;
    assert(first, 'a run has chunks');
    return {
      pack: this.id,
      packOffset: first.offset,
      chunks: items.map(({ codec, plainLength, storedLength, sealedLength, salt, hashes }) => {
        return { codec, plainLength, storedLength, sealedLength, salt, hashes };
      }),
    };
  }

  /** As {@link PackWriter.appendRun}, for one tree page. */
  async appendPage(page: Plaintext): Promise<PageReference> {
    this.#assertOpen();
    const { offset, sealedLength, hash } = await this.#appends.appendPage(page);
    return { pack: this.id, offset, length: sealedLength, hash };
  }

  #assertOpen(): void {
    assert(!this.finished && !this.#closed, 'a finished or closed pack takes no appends');
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

  /** {@link PackWriter.read} into all of `target`, if that needs no waiting; else returns false. */
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
   * When it resolves, all appends that had resolved and the file's name survive power loss. Throws PackError FULL or
   * IO, and from then on always, since the content of the disk is unknown; only {@link PackWriter.finish} checks it.
   */
  async sync(): Promise<void> {
    if (this.#syncFailure) throw this.#syncFailure;
    // It was released while this call waited behind others: it was finished, and thereby synced.
    if (this.#isReleased || (this.#closed && this.#finishing)) return;
    try {
      await this.#use(this.#syncFile());
      if (!(await this.isInPlace()) && !this.#isReleased) throw new PackError('IO', `staging pack ${this.id} is not where it was`);
    } catch (error) {
      if (error instanceof PackError) this.#syncFailure ??= error;
      throw error;
    }
  }

  /** Whether the file is where the next start looks for it. */
  async isInPlace(): Promise<boolean> {
    return this.#closed || (await this.#use(this.#file.isAt(this.path)));
  }

  /** From now on it need not survive power loss, and its file may be moved or removed. */
  release(): void {
    this.#isReleased = true;
  }

  /** All of a finished pack, even if its file has lost its name. Throws PackError MISSING or IO. */
  readAll(): Promise<Sealed> {
    return this.read(0, this.size);
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

  /**
   * Adds index and footer, syncs, and returns the object to upload; on a finished pack, returns the same again. Throws
   * PackError FULL or IO, after which it may be retried.
   */
  finish(): Promise<FinishedPack> {
    if (!this.#finishing) {
      const finishing = this.#wasFinished ? this.#syncFinished() : this.#finish();
      this.#finishing = finishing;
      finishing.catch(() => {
        this.#finishing = undefined;
      });
    }
    return this.#finishing;
  }

  /**
   * The process that finished it may have died before it was synced, and a pack must survive here until a commit names
   * it.
   */
  async #syncFinished(): Promise<FinishedPack> {
    await this.#syncFile();
    const { end } = this.#appends;
    const sealedIndex = await this.read(end, this.size - end - footerLength);
    return this.#finished(this.size, sealedIndex);
  }

  #finished(size: number, sealedIndex: Uint8Array): FinishedPack {
    return { id: this.id, path: this.path, size, epoch: this.#keys.epoch, indexHash: hashBytes(sealedIndex) };
  }

  async #finish(): Promise<FinishedPack> {
    await this.#appends.drain();
    const { items, end } = this.#appends;
    const [index, footer] = sealPackEnd(this.#keys, this.id, items, end);
    const size = end + index.byteLength + footer.byteLength;
    if (this.#syncFailure) await this.#verify();
    try {
      // A footer that is found after a power loss must prove that everything before it is intact: nothing else checks
      // it.
      await this.#file.datasync();
      await this.#file.write(Buffer.concat([index, footer]), end);
      // A write that failed may have left bytes behind.
      if ((await this.#file.stat()).size > size) await this.#file.truncate(size);
    } catch (cause) {
      throw diskError(this.id, cause);
    }
    await this.#syncFile();
    this.#finishedSize = size;
    return this.#finished(size, index);
  }

  /** Checks that the file still holds what was appended. Throws PackError IO or MISSING. */
  async #verify(): Promise<void> {
    for (const item of this.#appends.items) {
      const isThere = item.kind === 'gap' || isIntact(this.#keys, this.id, item, await this.read(item.offset, item.sealedLength));
      if (!isThere) throw new PackError('IO', `staging pack ${this.id}: the local disk lost the bytes at ${item.offset}`);
    }
  }

  /** Closes the file without removing it. Waits for appends, reads and syncs under way. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#appends.drain();
    await this.#finishing?.catch(() => {});
    await Promise.allSettled(this.#users);
    await this.#file.close();
  }
}

/**
 * How many of `items`, from the first on, a staging file holds intact after a power loss. A finished file was synced
 * before its footer was written, so its items are not read. Throws PackError IO.
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
    for (const [index, item] of items.entries()) {
      if (item.kind === 'gap') continue;
      const sealed = Buffer.allocUnsafe(item.sealedLength);
      if ((await file.read(sealed, item.offset)) < item.sealedLength) return index;
      if (!isIntact(options.keys, options.id, item, sealed)) return index;
    }
    return items.length;
  } catch (cause) {
    throw diskError(options.id, cause);
  } finally {
    await file.close();
  }
}

/** Whether `sealed` is the item, to its last byte. */
function isIntact(keys: PackKeys, pack: PackId, item: Exclude<PackItem, { kind: 'gap' }>, sealed: Uint8Array): boolean {
  try {
    if (item.kind === 'page') keys.page.open(itemPlace(pack, item.offset), sealed);
    else openStored(keys, { ...item, pack }, item.hash, sealed);
    return true;
  } catch (error) {
    if (error instanceof CryptoError) return false;
    throw error;
  }
}

/** The index of a finished file; `undefined` for any other. */
async function indexOf(file: DiskFile, { keys, id }: PackWriterOptions, size: number): Promise<readonly PackItem[] | undefined> {
  try {
    return await readPackIndex(keys, id, size, async (offset, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, await file.read(bytes, offset));
    });
  } catch (error) {
    // No footer, or one whose index did not reach the disk. The file was then not synced, and so not uploaded.
    if (error instanceof PackError) return undefined;
    throw error;
  }
}

const endOf = (items: readonly PackItem[]): number => items.reduce((end, { offset, sealedLength }) => Math.max(end, offset + sealedLength), 0);

/** The items with gaps for the bytes between them, of which only the length is known. */
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
