/**
 * The packs on this device that the store does not have yet: those being filled and those waiting for upload. A pack is
 * filled, finished, put into the store and named by a commit, and stays readable on this disk all the while
 * (doc/concurrency.md, "Staging"). It does not know which operations refer to the packs: the committer uploads them
 * before the commit that needs them.
 */
import type { Plaintext } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import { Limiter } from '../base/limiter.js';
import type { Random } from '../base/random.js';
import type { CacheKind } from '../cache/disk-cache.js';
import type { CommitPack } from '../commit/commit.js';
import type { BulkCipher } from '../crypto/bulk-cipher.js';
import { type Disk, diskErrorCode } from '../disk/disk.js';
import type { HeldDirectory } from '../disk/held-directory.js';
import { MemoryFile } from '../disk/memory-file.js';
import type { PackKeys } from '../pack/item.js';
import { PackError } from '../pack/pack-error.js';
import { newPackId, type PackId, packKey } from '../pack/pack-id.js';
import { type ChunkOwner, footerLength, type PackItem, packEndMax } from '../pack/pack-index.js';
import { intactItems, PackWriter, type RunPlace } from '../pack/pack-writer.js';
import type { PageReference } from '../pack/page-reference.js';
import { findStored, type StoredPack } from '../pack/stored-pack.js';
import type { ObjectStore } from '../store/object-store.js';

export interface StagingOptions {
  readonly disk: Disk;
  /** Holds nothing but staging packs. */
  readonly directory: HeldDirectory;
  /**
   * Called when the directory or a pack in it was removed, moved or replaced: files written from now on would not be
   * found again.
   */
  readonly onLost: () => void;
  readonly keys: PackKeys;
  readonly cipher: BulkCipher | undefined;
  readonly store: ObjectStore;
  readonly random: Random;
  /** The map in which readers look up packs. */
  readonly registry: Map<PackId, PackWriter>;
  /** Concurrent uploads, up to four. */
  readonly largeRequests: number;
  /**
   * Takes over the file of a pack that is in the store now (the disk cache). If it returns false, the file is removed.
   */
  readonly adopt: (id: PackId, path: string, kind: CacheKind) => Promise<boolean>;
}

/**
 * Packs are closed just below this size, where padding adds next to nothing; a run that has already begun still fits.
 */
const packBytesTarget = 16 * 1024 * 1024;
/** A pack with less room than this is closed: a chunk would not fit. */
const packRoomMin = 72 * 1024;
/** The most that sealing adds to `length` bytes of an append, with its part of the pack's index. */
const sealedMax = (length: number): number => Math.ceil(length * 1.001) + 256;
const uploadsMax = 4;
/** A pack of this size is uploaded ahead of the commit. Smaller packs would be many, with more padding. */
const aheadBytes = 4 * 1024 * 1024;
/** With two, one is sent while the other waits for its answer. */
const aheadUploads = 2;

interface Filling {
  readonly writer: Promise<PackWriter>;
  /** Appends under way. The pack is not finished before they end. */
  readonly appends: Set<Promise<unknown>>;
  /** With index and footer. */
  bytes: number;
  /** Bytes of the appends under way; compression may reduce them. */
  coming: number;
}

/** Holds packs in memory when their directory is gone. */
const memoryDisk = {
  open: (): Promise<MemoryFile> => Promise.resolve(new MemoryFile()),
  syncDirectory: (): Promise<boolean> => Promise.resolve(true),
};

export class Staging {
  readonly #options: StagingOptions;
  readonly #uploads: Limiter;
  /**
   * Chunks and pages never share a pack: every device reads pages together, and chunks only when it needs that file.
   */
  #chunks: Filling | undefined;
  #pages: Filling | undefined;
  /** Closed packs that are not in the store yet, by id, each with the upload under way, if any. */
  readonly #closed = new Map<PackId, { writer: PackWriter; upload: Promise<void> | undefined }>();
  readonly #closing = new Set<Promise<void>>();
  /** The packs that hold pages. */
  readonly #pagePacks = new Set<PackId>();
  #uploadedBytes = 0;
  /** Packs in the store that no commit names yet. */
  readonly #unnamed = new Map<PackId, CommitPack>();
  /** Packs in the store whose files are still here. */
  readonly #landed = new Map<PackId, PackWriter>();
  /** Closed packs whose names the store has for other packs: a copy of this installation went on from the same file. */
  readonly #taken = new Map<PackId, PackWriter>();
  /** Landed packs whose files are not what the store has. */
  readonly #different = new Set<PackId>();

  constructor(options: StagingOptions) {
    this.#options = options;
    this.#uploads = new Limiter(Math.min(uploadsMax, options.largeRequests));
  }

  /** Sealed bytes that the store does not have yet. */
  get bytes(): number {
    let total = (this.#chunks?.bytes ?? 0) + (this.#pages?.bytes ?? 0);
    for (const { writer } of this.#closed.values()) total += writer.size;
    for (const writer of this.#taken.values()) total += writer.size;
    return total;
  }

  /** Closed packs that are not in the store, as far as is known. */
  get waiting(): PackId[] {
    return [...this.#closed.keys()];
  }

  /** Packs that cannot get into the store: what pending operations have in them must be appended to others. */
  get taken(): ReadonlySet<PackId> {
    return new Set(this.#taken.keys());
  }

  /** Nothing pending needs the taken packs any more, once the journal says so. */
  releaseTaken(): void {
    for (const [id, writer] of this.#taken) {
      this.#taken.delete(id);
      this.#landAsOther(writer);
    }
  }

  /** Bytes of packs that are in the store and still in the staging directory. */
  get landedBytes(): number {
    let total = 0;
    for (const writer of this.#landed.values()) total += writer.size;
    return total;
  }

  /** Sealed bytes put into the store since this volume was opened. */
  get uploadedBytes(): number {
    return this.#uploadedBytes;
  }

  /** How many chunks of up to `chunkBytes` a run should have to end where its pack ends, at least one. */
  runRoom(chunkBytes: number): number {
    const room = packBytesTarget - (this.#chunks ? this.#chunks.bytes + this.#chunks.coming : packEndMax(0));
    return Math.max(1, Math.floor(room / sealedMax(chunkBytes)));
  }

  /** As {@link PackWriter.appendRun}, into the pack that is being filled. */
  async appendRun(chunks: readonly Plaintext[], owner: ChunkOwner): Promise<RunPlace> {
    const bytes = chunks.reduce((sum, chunk) => sum + sealedMax(chunk.byteLength), 0);
    this.#chunks ??= this.#begin('content');
    const filling = this.#chunks;
    return this.#append(filling, bytes, (writer) => writer.appendRun(chunks, owner));
  }

  async appendPage(page: Plaintext): Promise<PageReference> {
    this.#pages ??= this.#begin('pages');
    const filling = this.#pages;
    return this.#append(filling, sealedMax(page.byteLength), (writer) => writer.appendPage(page));
  }

  /** Makes everything appended so far survive a power loss. */
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
   * Uploads everything appended so far, or only the `needed` packs. Returns the packs that the next commit must name.
   * Rejects with the first StoreError or PackError, and can be called again.
   */
  async upload(signal?: AbortSignal, needed?: ReadonlySet<PackId>): Promise<CommitPack[]> {
    if (this.#chunks) this.#close(this.#chunks);
    if (this.#pages) this.#close(this.#pages);
    await Promise.all(this.#closing);
    const wanted = [...this.#closed.keys()].filter((id) => needed?.has(id) ?? true);
    await Promise.all(wanted.map((id) => this.#uploadOne(id, signal)));
    return [...this.#unnamed.values()];
  }

  /**
   * Another installation has named these packs in a commit. Those that are staged here, too, are compared with what the
   * store has. Rejects as `upload` does.
   */
  async meet(ids: Iterable<PackId>, signal?: AbortSignal): Promise<void> {
    const { registry } = this.#options;
    const shared = [...ids].filter((id) => registry.has(id) && !this.#landed.has(id));
    if (shared.length > 0) await this.upload(signal, new Set(shared));
  }

  /**
   * Uploads the pack being filled if it holds some megabytes and few other packs wait for upload. Waiting packs count
   * so that packs fill up while the drive is offline or slower than its writers.
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

  /** Whether the pack is one of this device that no commit names yet. */
  holds(id: PackId): boolean {
    return this.#options.registry.has(id) || this.#unnamed.has(id);
  }

  /** Packs in the store that were named by commits which the log has lost: the next commit must name them. */
  nameAgain(packs: readonly CommitPack[]): void {
    for (const pack of packs) this.#unnamed.set(pack.id, pack);
  }

  /** Packs that the next commit must name although they are not on this disk. */
  get namelessPacks(): readonly CommitPack[] {
    return [...this.#unnamed.values()].filter(({ id }) => !this.#landed.has(id));
  }

  /** A commit names these packs now: they are no longer returned by `upload`. */
  committed(packs: readonly { readonly id: PackId }[]): void {
    for (const { id } of packs) this.#unnamed.delete(id);
  }

  /**
   * After a crash: the offset up to which a pack that no commit names holds `items` (ascending) intact. The file stays
   * on this disk until a commit names it, so if it is missing, a power loss took its name. The store is not asked: it
   * may be unavailable, and its answer is not needed. Throws PackError IO.
   */
  async intactEnd(id: PackId, items: readonly PackItem[]): Promise<number> {
    const { disk, keys, random } = this.#options;
    const count = await intactItems({ disk, path: this.#path(id), id, keys, random }, items);
    if (count === items.length) return Number.POSITIVE_INFINITY;
    const last = items[count - 1];
    return last ? last.offset + last.sealedLength : 0;
  }

  /**
   * After a crash: takes up a pack that operations in the journal refer to. If its file is gone, a commit already names
   * the pack. Throws PackError IO.
   */
  async resume(id: PackId, items: readonly PackItem[]): Promise<void> {
    const { disk, keys, random, cipher } = this.#options;
    try {
      const writer = await PackWriter.resume({ disk, path: this.#path(id), id, keys, random, cipher }, items);
      this.#options.registry.set(id, writer);
      this.#closed.set(id, { writer, upload: undefined });
    } catch (error) {
      if (!(error instanceof PackError) || error.code !== 'MISSING' || diskErrorCode(error.cause) !== 'ENOENT') throw error;
    }
  }

  /** Removes staged files that nothing refers to, left behind by a crash between an append and its journal entry. */
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

  /** The writers of all packs, except those that could not be created. */
  async #writers(): Promise<PackWriter[]> {
    const filling = [this.#chunks, this.#pages].filter((one) => one !== undefined);
    const begun = await Promise.allSettled(filling.map((one) => one.writer));
    await Promise.all(this.#closing);
    const open = begun.filter((result) => result.status === 'fulfilled').map((result) => result.value);
    const closed = [...this.#closed.values()].map(({ writer }) => writer);
    return [...new Set([...open, ...closed, ...this.#landed.values(), ...this.#taken.values()])];
  }

  #path(id: PackId): string {
    return `${this.#options.directory.path}/${id}`;
  }

  #begin(kind: CacheKind): Filling {
    const { random } = this.#options;
    const id = newPackId(random);
    if (kind === 'pages') this.#pagePacks.add(id);
    return { writer: this.#create(id), appends: new Set(), bytes: packEndMax(0), coming: 0 };
  }

  /** If the directory is gone, data accepted earlier still reaches the store: by way of memory. */
  async #create(id: PackId): Promise<PackWriter> {
    const { disk, keys, random, cipher, registry, directory, onLost } = this.#options;
    const isInPlace = await directory.isInPlace();
    if (!isInPlace) onLost();
    const created = await PackWriter.create({ disk: isInPlace ? disk : memoryDisk, path: this.#path(id), id, keys, random, cipher });
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
      filling.bytes = (await filling.writer).finishedSizeMax;
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

  /** Closes and uploads a pack that will be full when the appends under way have ended. */
  #closeFull(filling: Filling): void {
    if (filling !== this.#chunks && filling !== this.#pages) return;
    if (filling.bytes + filling.coming + packRoomMin <= packBytesTarget) return;
    this.#sendUp(filling);
  }

  /** A pack that could not be created, or whose disk failed, takes no more appends; its content is still uploaded. */
  #forget(filling: Filling): void {
    filling.writer.then(
      () => this.#close(filling),
      () => {
        if (this.#chunks === filling) this.#chunks = undefined;
        if (this.#pages === filling) this.#pages = undefined;
      },
    );
  }

  /** The pack takes no more appends; `finish` still waits for those under way. */
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
      // A pack that could not be created holds nothing, and its appends have rejected.
      .catch(() => {})
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /**
   * Closes the pack and uploads it while the next one is filled. Failures are left to the commit that needs the pack.
   */
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
    const { id, size, epoch, indexHash } = await writer.finish();
    // A file that lost its name is still open.
    const isInPlace = await writer.isInPlace();
    if (!isInPlace) onLost();
    const body = isInPlace ? { path: this.#path(id), size } : await writer.readAll();
    const outcome = await store.put(packKey(id), body, signal ? { signal } : {});
    // A pack's name is random: if it exists in the store, this pack was put before a crash, or it is one of a copy of
    // this installation.
    const stored = outcome === 'created' ? { size, indexHash } : await this.#findStored(writer, { size, indexHash }, signal);
    this.#closed.delete(id);
    if (!stored) return this.#take(writer);
    this.#uploadedBytes += size;
    this.#unnamed.set(id, { id, epoch, ...stored });
    if (equalBytes(stored.indexHash, indexHash)) this.#landed.set(id, writer);
    else this.#landAsOther(writer);
  }

  /** The store has another pack under the name: reads go there from now on. */
  #landAsOther(writer: PackWriter): void {
    const { id } = writer;
    this.#options.registry.delete(id);
    this.#different.add(id);
    this.#landed.set(id, writer);
  }

  /** What the store has under the name, if that holds all of the pack. */
  async #findStored(writer: PackWriter, own: StoredPack, signal: AbortSignal | undefined): Promise<StoredPack | undefined> {
    const { store, keys } = this.#options;
    const { id, items } = writer;
    const found = await store.get(packKey(id), { range: { offset: own.size - footerLength, length: footerLength + 1 }, signal });
    if (found && equalBytes(found, await writer.read(own.size - footerLength, footerLength))) return own;
    try {
      return await findStored(store, keys, id, items, signal);
    } catch (error) {
      // Whatever it is, it is not this pack.
      if (error instanceof PackError) return undefined;
      throw error;
    }
  }

  /** Chunks are appended to other packs. Pages are made again by the next fold. */
  #take(writer: PackWriter): void {
    const { id } = writer;
    if (!this.#pagePacks.has(id)) {
      this.#taken.set(id, writer);
      return;
    }
    this.#landAsOther(writer);
    throw new PackError('MISSING', `the store has another pack under the name ${id}`);
  }

  /**
   * Releases the files of packs that a commit names and no pending operation needs (`needed`). They must not go
   * earlier: after a crash, a store that denies having a pack must not look like a power loss.
   */
  async release(needed: ReadonlySet<PackId>): Promise<void> {
    const { registry, adopt, disk } = this.#options;
    for (const [id, writer] of this.#landed) {
      if (this.#unnamed.has(id) || needed.has(id)) continue;
      this.#landed.delete(id);
      const path = this.#path(id);
      writer.release();
      const isInPlace = await writer.isInPlace();
      const kind = this.#pagePacks.delete(id) ? 'pages' : 'content';
      const adopted = !isInPlace || (!this.#different.delete(id) && (await adopt(id, path, kind)));
      registry.delete(id);
      await writer.close();
      if (!adopted) await disk.unlink(path);
    }
  }
}
