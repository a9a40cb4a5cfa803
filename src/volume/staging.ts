/**
 * Packs on this device that the store does not have yet: the ones being filled, and the ones waiting for upload. A pack goes
 * filling -> finished -> in the store -> named by a commit, and stays readable and on this disk all the way (doc/concurrency.md, "Staging").
 * It does not know what refers to the packs: the committer uploads everything that stands here before the commit that needs it.
 */
import type { Plaintext } from '../base/brand.js';
import { Limiter } from '../base/limiter.js';
import type { Random } from '../base/random.js';
import type { CacheKind } from '../cache/disk-cache.js';
import type { BulkCipher } from '../crypto/bulk-cipher.js';
import { type Disk, diskErrorCode } from '../disk/disk.js';
import type { HeldDirectory } from '../disk/held-directory.js';
import { MemoryFile } from '../disk/memory-file.js';
import type { PackKeys } from '../pack/item.js';
import { PackError } from '../pack/pack-error.js';
import { newPackId, type PackId, packKey } from '../pack/pack-id.js';
import type { PackItem } from '../pack/pack-index.js';
import { intactItems, PackWriter, type RunPlace } from '../pack/pack-writer.js';
import type { PageReference } from '../pack/page-reference.js';
import type { ObjectStore } from '../store/object-store.js';

export interface StagingOptions {
  readonly disk: Disk;
  /** Holds nothing but staging packs. */
  readonly directory: HeldDirectory;
  /** The directory, or a pack in it, was found removed, moved or replaced: what is written from here on would not be found again. */
  readonly onLost: () => void;
  readonly keys: PackKeys;
  readonly cipher: BulkCipher | undefined;
  readonly store: ObjectStore;
  readonly random: Random;
  /** The map that readers look into. */
  readonly registry: Map<PackId, PackWriter>;
  /** Uploads at once, up to four. */
  readonly largeRequests: number;
  /** Takes over the file of a pack that is in the store now (the disk cache), or answers false: then it is removed. */
  readonly adopt: (id: PackId, path: string, kind: CacheKind) => Promise<boolean>;
}

/** Packs are closed just below this, so that padding adds next to nothing; a run that was begun before still fits behind. */
const packBytesTarget = 16 * 1024 * 1024;
/** For index and footer. */
const packEndBytes = 32 * 1024;
/** A pack with less room than this is closed: a chunk does not fit. */
const packRoomMin = packEndBytes + 64 * 1024;
const sealOverhead = 128;
const uploadsMax = 4;
/** A pack with this much goes ahead; smaller ones would be many, and more padding. */
const aheadBytes = 4 * 1024 * 1024;
/** One travels while the answer for another is awaited. */
const aheadUploads = 2;

interface Filling {
  readonly writer: Promise<PackWriter>;
  /** Appends under way: the pack is not finished before they are in. */
  readonly appends: Set<Promise<unknown>>;
  bytes: number;
  /** On their way into it; compression may make them fewer. */
  coming: number;
}

/** For packs whose directory is gone. */
const memoryDisk = {
  open: (): Promise<MemoryFile> => Promise.resolve(new MemoryFile()),
  syncDirectory: (): Promise<boolean> => Promise.resolve(true),
};

export class Staging {
  readonly #options: StagingOptions;
  readonly #uploads: Limiter;
  /** Chunks and pages never share a pack: pages are read by everybody at once, chunks by the few who want that file. */
  #chunks: Filling | undefined;
  #pages: Filling | undefined;
  /** Closed packs, until they are in the store: by id, the upload that runs, if one does. */
  readonly #closed = new Map<PackId, { writer: PackWriter; upload: Promise<void> | undefined }>();
  readonly #closing = new Set<Promise<void>>();
  /** Those of them that hold pages, by id. */
  readonly #pagePacks = new Set<PackId>();
  #uploadedBytes = 0;
  /** Packs in the store that no commit names yet. */
  readonly #unnamed = new Map<PackId, number>();
  /** Packs in the store whose files are still here. */
  readonly #landed = new Map<PackId, PackWriter>();

  constructor(options: StagingOptions) {
    this.#options = options;
    this.#uploads = new Limiter(Math.min(uploadsMax, options.largeRequests));
  }

  /** Sealed bytes that the store does not have yet. */
  get bytes(): number {
    let total = (this.#chunks?.bytes ?? 0) + (this.#pages?.bytes ?? 0);
    for (const { writer } of this.#closed.values()) total += writer.size;
    return total;
  }

  /** Bytes of packs in the store that still stand here. */
  get landedBytes(): number {
    let total = 0;
    for (const writer of this.#landed.values()) total += writer.size;
    return total;
  }

  /** Sealed bytes put into the store since this volume was opened. */
  get uploadedBytes(): number {
    return this.#uploadedBytes;
  }

  /** How many chunks of up to `chunkBytes` a run should have to end where its pack does, at least one. */
  runRoom(chunkBytes: number): number {
    const room = packBytesTarget - packEndBytes - (this.#chunks ? this.#chunks.bytes + this.#chunks.coming : 0);
    return Math.max(1, Math.floor(room / (chunkBytes + sealOverhead)));
  }

  async appendRun(chunks: readonly Plaintext[]): Promise<RunPlace> {
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength + sealOverhead, 0);
    this.#chunks ??= this.#begin('content');
    const filling = this.#chunks;
    return this.#append(filling, bytes, (writer) => writer.appendRun(chunks));
  }

  async appendPage(page: Plaintext): Promise<PageReference> {
    this.#pages ??= this.#begin('pages');
    const filling = this.#pages;
    return this.#append(filling, page.byteLength + sealOverhead, (writer) => writer.appendPage(page));
  }

  /** What was appended until now survives power loss. */
  async sync(): Promise<void> {
    const writers = await this.#writers();
    await Promise.all(writers.map((writer) => this.#syncOne(writer)));
  }

  async #syncOne(writer: PackWriter): Promise<void> {
    try {
      await writer.sync();
    } catch (error) {
      if (!(await writer.isInPlace())) this.#options.onLost();
      throw error;
    }
  }

  /**
   * Everything appended until now goes into the store, or those of it that are `needed`. Answers the packs that the next commit must name.
   * Rejects with the first StoreError or PackError, and can be called again.
   */
  async upload(signal?: AbortSignal, needed?: ReadonlySet<PackId>): Promise<{ readonly id: PackId; readonly size: number }[]> {
    if (this.#chunks) this.#close(this.#chunks);
    if (this.#pages) this.#close(this.#pages);
    await Promise.all(this.#closing);
    const wanted = [...this.#closed.keys()].filter((id) => needed?.has(id) ?? true);
    await Promise.all(wanted.map((id) => this.#uploadOne(id, signal)));
    return [...this.#unnamed].map(([id, size]) => ({ id, size }));
  }

  /**
   * What is there goes up now if it is some megabytes, and if little else is on its way. Packs that wait count as well: while the drive is offline, or
   * slower than the writers, they become full ones.
   */
  goAhead(): void {
    const filling = this.#chunks;
    if (!filling || filling.bytes < aheadBytes || this.#closed.size + this.#closing.size >= aheadUploads) return;
    this.#sendUp(filling);
  }

  /** Whether all of these packs are in the store. */
  areStored(packs: Iterable<PackId>): boolean {
    for (const id of packs) if (this.#options.registry.has(id) && !this.#landed.has(id)) return false;
    return true;
  }

  /** A commit names these packs now. */
  committed(packs: readonly { readonly id: PackId }[]): void {
    for (const { id } of packs) this.#unnamed.delete(id);
  }

  /**
   * After a crash: up to where a pack that no commit names holds `items` (ascending) intact. Its file stays on this disk until one does: when it is not
   * here, power loss took its name. The store is not asked: it may be unavailable, and its word is not needed. Throws PackError IO.
   */
  async intactEnd(id: PackId, items: readonly PackItem[]): Promise<number> {
    const { disk, keys } = this.#options;
    const count = await intactItems({ disk, path: this.#path(id), id, keys }, items);
    if (count === items.length) return Number.POSITIVE_INFINITY;
    const last = items[count - 1];
    return last ? last.offset + last.sealedLength : 0;
  }

  /**
   * After a crash: a pack that operations of the journal refer to. When its file is not here any more, a commit names it, as that of the operations.
   * Throws PackError IO.
   */
  async resume(id: PackId, items: readonly PackItem[]): Promise<void> {
    const { disk, keys, cipher } = this.#options;
    try {
      const writer = await PackWriter.resume({ disk, path: this.#path(id), id, keys, cipher }, items);
      this.#options.registry.set(id, writer);
      this.#closed.set(id, { writer, upload: undefined });
    } catch (error) {
      if (!(error instanceof PackError) || error.code !== 'MISSING' || diskErrorCode(error.cause) !== 'ENOENT') throw error;
    }
  }

  /** Removes staged files that nothing refers to: left behind by a crash between an append and its journal entry. */
  async removeStrangers(): Promise<void> {
    const { disk, directory, registry } = this.#options;
    for (const { name } of await disk.readDirectory(directory.path)) {
      if (!registry.has(name as PackId)) await disk.unlink(`${directory.path}/${name}`);
    }
  }

  async close(): Promise<void> {
    const writers = await this.#writers();
    await Promise.allSettled(writers.map((writer) => writer.close()));
  }

  /** All packs that are not in the store, those that could not be begun left out. */
  async #writers(): Promise<PackWriter[]> {
    const filling = [this.#chunks, this.#pages].filter((one) => one !== undefined);
    const begun = await Promise.allSettled(filling.map((one) => one.writer));
    await Promise.all(this.#closing);
    const open = begun.filter((result) => result.status === 'fulfilled').map((result) => result.value);
    return [...new Set([...open, ...[...this.#closed.values()].map(({ writer }) => writer), ...this.#landed.values()])];
  }

  #path(id: PackId): string {
    return `${this.#options.directory.path}/${id}`;
  }

  #begin(kind: CacheKind): Filling {
    const { random } = this.#options;
    const id = newPackId(random);
    if (kind === 'pages') this.#pagePacks.add(id);
    return { writer: this.#create(id), appends: new Set(), bytes: 0, coming: 0 };
  }

  /** Where the directory is gone, what was accepted before still goes into the store: by way of memory. */
  async #create(id: PackId): Promise<PackWriter> {
    const { disk, keys, cipher, registry, directory, onLost } = this.#options;
    const isInPlace = await directory.isInPlace();
    if (!isInPlace) onLost();
    const created = await PackWriter.create({ disk: isInPlace ? disk : memoryDisk, path: this.#path(id), id, keys, cipher });
    registry.set(id, created);
    return created;
  }

  async #append<T>(filling: Filling, bytes: number, append: (writer: PackWriter) => Promise<T>): Promise<T> {
    const appended = filling.writer.then(append);
    filling.appends.add(appended);
    filling.coming += bytes;
    this.#closeFull(filling);
    try {
      const result = await appended;
      filling.bytes = (await filling.writer).size;
      return result;
    } catch (error) {
      this.#forget(filling);
      throw error;
    } finally {
      filling.appends.delete(appended);
      filling.coming -= bytes;
      this.#closeFull(filling);
    }
  }

  /** A pack that is full once everything on its way is in takes no more, and goes up. */
  #closeFull(filling: Filling): void {
    if (filling !== this.#chunks && filling !== this.#pages) return;
    if (filling.bytes + filling.coming + packRoomMin <= packBytesTarget) return;
    this.#sendUp(filling);
  }

  /** A pack that could not be begun, or whose disk failed, takes no more appends; what it has is still uploaded. */
  #forget(filling: Filling): void {
    filling.writer.then(
      () => this.#close(filling),
      () => {
        if (this.#chunks === filling) this.#chunks = undefined;
        if (this.#pages === filling) this.#pages = undefined;
      },
    );
  }

  /** No new appends go into it; appends under way are still waited for by `finish`. */
  #close(filling: Filling): void {
    if (this.#chunks === filling) this.#chunks = undefined;
    else if (this.#pages === filling) this.#pages = undefined;
    else return;
    const closing = Promise.allSettled(filling.appends)
      .then(() => filling.writer)
      .then((writer) => {
        writer.complete();
        this.#closed.set(writer.id, { writer, upload: undefined });
      })
      // One that could not be begun holds nothing; who appended to it was told.
      .catch(() => {})
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** It takes no more, and goes up while the next one fills; failures are left to the commit that needs the pack. */
  #sendUp(filling: Filling): void {
    this.#close(filling);
    void this.#uploadClosed().catch(() => {});
  }

  async #uploadClosed(): Promise<void> {
    await Promise.all(this.#closing);
    await Promise.all([...this.#closed.keys()].map((id) => this.#uploadOne(id)));
  }

  async #uploadOne(id: PackId, signal?: AbortSignal): Promise<void> {
    const entry = this.#closed.get(id);
    if (!entry) return;
    entry.upload ??= this.#uploads
      .run(() => this.#uploadPack(entry.writer, signal))
      .finally(() => {
        entry.upload = undefined;
      });
    await entry.upload;
  }

  async #uploadPack(writer: PackWriter, signal: AbortSignal | undefined): Promise<void> {
    const { store, onLost } = this.#options;
    const { id, size } = await writer.finish();
    // One that lost its name is still open.
    const isInPlace = await writer.isInPlace();
    if (!isInPlace) onLost();
    const body = isInPlace ? { path: this.#path(id), size } : await writer.readAll();
    // A pack's name is random and its bytes are ours: one that is there already is this very pack, put before a crash.
    await store.put(packKey(id), body, signal ? { signal } : {});
    this.#uploadedBytes += size;
    this.#unnamed.set(id, size);
    this.#landed.set(id, writer);
    this.#closed.delete(id);
  }

  /**
   * Lets the files of packs go that a commit names and that no pending operation needs (`needed`). Not before: after a crash the store's word that it
   * has no such pack must not pass for power loss.
   */
  async release(needed: ReadonlySet<PackId>): Promise<void> {
    const { registry, adopt, disk } = this.#options;
    for (const [id, writer] of this.#landed) {
      if (this.#unnamed.has(id) || needed.has(id)) continue;
      this.#landed.delete(id);
      const path = this.#path(id);
      writer.release();
      const isInPlace = await writer.isInPlace();
      const adopted = !isInPlace || (await adopt(id, path, this.#pagePacks.delete(id) ? 'pages' : 'content'));
      registry.delete(id);
      await writer.close();
      if (!adopted) await disk.unlink(path);
    }
  }
}
