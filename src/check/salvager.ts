/**
 * Copies one state of a volume, as far as it can be read, into folders of a plain directory, and continues after every
 * error (doc/cli.md, "check, repair, salvage"). The state comes from `surviving-state.ts`; `local-tree.ts` chooses
 * other names where the right ones are taken or impossible.
 *
 * The key space is read as three streams: names first, which are kept in memory, and then inodes and extents, joined by
 * inode number (`file-records.ts`).
 */
import type { ByteString } from '../base/brand.js';
import { latin1Slice, textOf } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { diskErrorCode } from '../disk/disk.js';
import { decodeDirent, decodeNumbered } from '../meta/dirent.js';
import type { DataExtent } from '../meta/extent.js';
import { type Inode, isDirectory, isRegular, isSymlink, S_IFDIR } from '../meta/inode.js';
import { type Ino, rootIno } from '../meta/key.js';
import type { RunChunk } from '../pack/item.js';
import { PackError } from '../pack/pack-error.js';
import type { PackSource } from '../pack/pack-source.js';
import { StoreError } from '../store/object-store.js';
import type { EntrySource, FileRecord } from './file-records.js';
import { decodedKey, decodedValue, fileRecords, isSameRecord } from './file-records.js';
import type { IsReserved, LocalTree, SpareOptions, TreeAttributes, TreeFile, TreeFolder } from './local-tree.js';
import { componentsOf, hopelessCodes } from './local-tree.js';
import { looksSpare } from './spare-name.js';
import type { Entry } from './state-entries.js';

interface MissingRange {
  readonly offset: number;
  readonly length: number;
  readonly reason: string;
}

interface DamagedFile {
  /** Its path now, and its path in the volume. */
  readonly path: string;
  readonly original: string;
  readonly ino: Ino;
  /** Bytes of the file that are zeros now; empty when only its record was lost. */
  readonly missing: readonly MissingRange[];
}

/** What was copied, and what was not. Paths are relative to the target directory. */
export interface SalvagedTree {
  readonly directories: number;
  readonly files: number;
  readonly links: number;
  readonly bytes: number;
  readonly damaged: readonly DamagedFile[];
  /** What got another name, because its own was taken or impossible; without damaged files. */
  readonly renamed: readonly { readonly path: string; readonly original: string }[];
  /** Names of files of which nothing else is left. */
  readonly missing: readonly string[];
  /** Devices, sockets and FIFOs. */
  readonly skipped: readonly string[];
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
  /** The symbolic links that failed, with their targets. */
  readonly lostLinks: readonly { readonly path: string; readonly target: string }[];
  /** How many files and directories lack their permissions or times, since the destination refused them. */
  readonly plainAttributes: number;
}

interface SalvagerOptions {
  readonly state: EntrySource;
  readonly source: PackSource;
  readonly target: LocalTree;
  /** `tree` and `lost+found` are made in it. */
  readonly folder: TreeFolder;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly phase: 'names' | 'files'; readonly done: number }) => void) | undefined;
  /** A state that `salvager` has copied already: only what differs from it is copied now. */
  readonly copied?: { readonly state: EntrySource; readonly salvager: Salvager } | undefined;
}

interface Name {
  readonly parent: Ino;
  readonly name: ByteString;
}

/** A name in an existing folder. */
interface Place {
  readonly folder: TreeFolder;
  readonly name: ByteString;
}

const damagedSuffix = '.damaged';
/** How many chunks are in memory at once. */
const chunksAtOnce = 16;

export class Salvager {
  readonly #options: SalvagerOptions;
  /** Names whose inodes have not come yet. */
  readonly #names = new Map<Ino, Name[]>();
  /** Names that look like substitutes, with their directories: they are left to the files that really have them. */
  readonly #reserved = new Set<string>();
  readonly #directories = new Set<Ino>([rootIno]);
  readonly #folders = new Map<Ino, TreeFolder>();
  /** Files in lost+found, since none of their names is left. */
  readonly #nameless = new Set<Ino>();
  readonly #attributes: { readonly folder: TreeFolder; readonly inode: Inode }[] = [];
  readonly #symlinks: { readonly target: ByteString; readonly place: Place; readonly parent: Ino | undefined }[] = [];
  readonly #damaged: DamagedFile[] = [];
  readonly #renamed: { readonly path: string; readonly original: string }[] = [];
  readonly #missing: string[] = [];
  readonly #skipped: string[] = [];
  readonly #failed: { path: string; reason: string }[] = [];
  readonly #lostLinks: { path: string; target: string }[] = [];
  #files = 0;
  #links = 0;
  #bytes = 0;
  #plainAttributes = 0;
  #lostFolder: TreeFolder | undefined;

  constructor(options: SalvagerOptions) {
    this.#options = options;
  }

  /** Throws system errors that concern the whole target (no space), and the signal's reason. */
  async run(): Promise<void> {
    await this.#readNames();
    if (!this.#options.copied) for (const ino of this.#directories) await this.#folder(ino);
    await this.#copyFiles();
    // Last, so that nothing is ever written through one.
    for (const { target, place, parent } of this.#symlinks) {
      const isMade = await this.#attempt(place, async () => {
        this.#noteName(place, await this.#options.target.makeLink(target, place.folder, place.name, this.#isReserved(parent)));
      });
      if (isMade) this.#links++;
      else this.#lostLinks.push({ path: textOfPlace(place), target: textOf(target) });
    }
    if (!this.#options.copied) await this.#noteMissing();
    // Children before parents: making a child changes the parent's times.
    for (const { folder, inode } of this.#attributes.toSorted((a, b) => b.folder.depth - a.folder.depth))
      await this.#setAttributes(() => this.#options.target.setFolderAttributes(folder, attributesOf(inode, 0o700)));
  }

  /** What was copied so far, even if `run` has failed. */
  get result(): SalvagedTree {
    return {
      directories: this.#folders.size,
      files: this.#files,
      links: this.#links,
      bytes: this.#bytes,
      damaged: this.#damaged,
      renamed: this.#renamed,
      missing: this.#missing,
      skipped: this.#skipped,
      failed: this.#failed,
      lostLinks: this.#lostLinks,
      plainAttributes: this.#plainAttributes,
    };
  }

  // Names and directories.

  async #readNames(): Promise<void> {
    let count = 0;
    const read = async (from: string, to: string, take: (entry: Entry) => void): Promise<void> => {
      for await (const batch of this.#options.state.entries(from, to)) {
        for (const entry of batch) take(entry);
        count += batch.length;
        this.#options.onProgress?.({ phase: 'names', done: count });
      }
    };
    await read('D', 'E', (entry) => this.#takeName(entry));
    const nameless = new Set<Ino>();
    await read('N', 'O', (entry) => this.#takeListedName(entry, nameless));
  }

  #takeName([key, value]: Entry): void {
    const decoded = decodedKey(key);
    const dirent = decoded?.type === 'dirent' ? decodedValue(() => decodeDirent(value)) : undefined;
    if (decoded?.type === 'dirent' && dirent) this.#addName({ parent: decoded.ino, name: decoded.name }, dirent);
  }

  /** Where all names of an inode are lost, listings still have them. `nameless` gets these inodes. */
  #takeListedName([key, value]: Entry, nameless: Set<Ino>): void {
    const decoded = decodedKey(key);
    const listed = decoded?.type === 'numbered' ? decodedValue(() => decodeNumbered(decoded.number, value)) : undefined;
    if (decoded?.type !== 'numbered' || !listed || (this.#names.has(listed.ino) && !nameless.has(listed.ino))) return;
    nameless.add(listed.ino);
    this.#addName({ parent: decoded.ino, name: listed.name }, listed);
  }

  #addName(name: Name, { ino, type }: { readonly ino: Ino; readonly type: number }): void {
    this.#directories.add(name.parent);
    if (type === S_IFDIR) this.#directories.add(ino);
    if (looksSpare(name.name)) this.#reserved.add(reservation(name.parent, name.name));
    const known = this.#names.get(ino);
    if (known) known.push(name);
    else this.#names.set(ino, [name]);
  }

  #isReserved(parent: Ino | undefined): IsReserved {
    return (name) => parent !== undefined && this.#reserved.has(reservation(parent, name));
  }

  /** Makes the directory, after those above it. A chain that leads to itself or to nothing begins in lost+found. */
  async #folder(ino: Ino): Promise<TreeFolder> {
    const chain: Ino[] = [];
    const seen = new Set<Ino>();
    let at = ino;
    while (!this.#folders.has(at)) {
      chain.push(at);
      seen.add(at);
      const parent = this.#names.get(at)?.[0]?.parent;
      if (at === rootIno || parent === undefined || seen.has(parent)) break;
      at = parent;
    }
    for (const one of chain.toReversed()) this.#folders.set(one, await this.#makeFolder(one));
    return this.#folders.get(ino) ?? (await this.#lost());
  }

  async #makeFolder(ino: Ino): Promise<TreeFolder> {
    const { target, folder } = this.#options;
    if (ino === rootIno) return target.makeFolder(folder, 'tree');
    const [name] = this.#names.get(ino) ?? [];
    const above = name && this.#folders.get(name.parent);
    const inPlace = above && name && (await this.#tryFolder({ folder: above, name: name.name }, name.parent));
    return inPlace ?? (await this.#tryFolder({ folder: await this.#lost(), name: lostName(ino) }, undefined)) ?? this.#lost();
  }

  async #tryFolder(place: Place, parent: Ino | undefined): Promise<TreeFolder | undefined> {
    let made: TreeFolder | undefined;
    await this.#attempt(place, async () => {
      made = await this.#options.target.makeFolder(place.folder, place.name, this.#isReserved(parent));
      this.#noteName(place, made.name);
    });
    return made;
  }

  async #lost(): Promise<TreeFolder> {
    this.#lostFolder ??= await this.#options.target.makeFolder(this.#options.folder, 'lost+found');
    return this.#lostFolder;
  }

  /** Reports the names that are left after all inodes have come. */
  async #noteMissing(): Promise<void> {
    for (const [ino, names] of this.#names) {
      // Directories were made whether or not their records exist.
      if (this.#folders.has(ino)) continue;
      for (const { parent, name } of names) this.#missing.push(textOfPlace({ folder: await this.#folder(parent), name }));
    }
  }

  // Inodes and their extents.

  async #copyFiles(): Promise<void> {
    const { copied, signal, onProgress } = this.#options;
    const others = copied && fileRecords(copied.state);
    let other = await nextOf(others);
    let count = 0;
    for await (const record of fileRecords(this.#options.state)) {
      signal?.throwIfAborted();
      while (other && other.ino < record.ino) other = await nextOf(others);
      const isCopied = other?.ino === record.ino && isSameRecord(other, record) && !this.#hasNewName(record.ino);
      if (isCopied) this.#forgetName(record.ino);
      else await this.#copyRecord(record);
      onProgress?.({ phase: 'files', done: ++count });
    }
  }

  /** Whether a file that was copied before without a name has one now. */
  #hasNewName(ino: Ino): boolean {
    return this.#names.has(ino) && this.#options.copied !== undefined && this.#options.copied.salvager.#nameless.has(ino);
  }

  /** Names of directories stay, since files that are copied into them need them. */
  #forgetName(ino: Ino): void {
    if (!this.#directories.has(ino)) this.#names.delete(ino);
  }

  async #copyRecord(record: FileRecord): Promise<void> {
    const { ino, inode } = record;
    if (inode ? isDirectory(inode) : this.#directories.has(ino)) {
      const folder = await this.#folder(ino);
      if (inode) this.#attributes.push({ folder, inode });
      return;
    }
    if (this.#folders.has(ino)) return;
    // It was removed while it was open, so it is not missed.
    if (inode?.nlink === 0 && !this.#names.has(ino)) return;
    const [first, ...others] = await this.#takePlaces(ino);
    if (inode && isSymlink(inode)) {
      const target = latin1Slice(inode.inline, 0, inode.inline.byteLength);
      for (const { place, parent } of [first, ...others]) this.#symlinks.push({ target, place, parent });
    } else if (!inode || isRegular(inode)) await this.#copyFile(record, first, others);
    else this.#skipped.push(...[first, ...others].map(({ place }) => textOfPlace(place)));
  }

  async #takePlaces(ino: Ino): Promise<readonly [NamedPlace, ...NamedPlace[]]> {
    const names = this.#names.get(ino) ?? [];
    this.#names.delete(ino);
    const places: NamedPlace[] = [];
    for (const { parent, name } of names) places.push({ place: { folder: await this.#folder(parent), name }, parent });
    const [first, ...others] = places;
    if (first) return [first, ...others];
    this.#nameless.add(ino);
    return [{ place: { folder: await this.#lost(), name: lostName(ino) }, parent: undefined }];
  }

  /** Writes the file under its first name and links the others. If something is missing, all of its names say so. */
  async #copyFile(record: FileRecord, first: NamedPlace, others: readonly NamedPlace[]): Promise<void> {
    const missing: MissingRange[] = [];
    const written = await this.#writeFile(record, first, missing);
    if (!written) return;
    const isWhole = written.isFinished && missing.length === 0 && record.inode !== undefined;
    const note = ({ place }: NamedPlace, name: ByteString): void => {
      if (isWhole) this.#noteName(place, name);
      else this.#damaged.push({ path: textOfPlace({ ...place, name }), original: textOfPlace(place), ino: record.ino, missing });
    };
    const optionsOf = ({ parent }: NamedPlace): SpareOptions => ({ suffix: isWhole ? '' : damagedSuffix, isReserved: this.#isReserved(parent) });
    const { target } = this.#options;
    const { folder } = first.place;
    let { name } = written;
    if (!isWhole) {
      await this.#attempt(first.place, async () => {
        name = await target.renameFile(folder, name, first.place.name, optionsOf(first));
      });
    }
    note(first, name);
    for (const other of others) {
      const { place } = other;
      await this.#attempt(place, async () => note(other, await target.linkFile({ folder, name }, place.folder, place.name, optionsOf(other))));
    }
  }

  /** `undefined` when the file could not be made. A file that could not be written to its end stays as it is. */
  async #writeFile(
    record: FileRecord,
    { place, parent }: NamedPlace,
    missing: MissingRange[],
  ): Promise<{ readonly name: ByteString; readonly isFinished: boolean } | undefined> {
    let file: TreeFile | undefined;
    let isFinished = false;
    await this.#attempt(place, async () => {
      file = await this.#options.target.createFile(place.folder, place.name, this.#isReserved(parent));
      try {
        await this.#writeContent(file, record, missing);
      } finally {
        await file.close();
      }
      isFinished = true;
      this.#files++;
    });
    return file && { name: file.name, isFinished };
  }

  async #writeContent(file: TreeFile, { inode, extents }: FileRecord, missing: MissingRange[]): Promise<void> {
    if (inode && inode.inline.byteLength > 0) await file.write(inode.inline, 0);
    this.#bytes += inode?.inline.byteLength ?? 0;
    for (const { offset, extent } of extents) {
      if (extent.kind === 'data') await this.#copyExtent(file, offset, extent, missing);
    }
    const end = extents.reduce((most, { offset, extent }) => (extent.kind === 'data' ? Math.max(most, offset + extent.length) : most), 0);
    await file.resize(inode?.size ?? end);
    if (inode) await this.#setAttributes(() => file.setAttributes(attributesOf(inode, 0o600)));
  }

  async #copyExtent(file: TreeFile, offset: number, extent: DataExtent, missing: MissingRange[]): Promise<void> {
    // The offset in the file of the run's first byte.
    let at = offset - extent.skip;
    let { packOffset } = extent;
    const end = offset + extent.length;
    for (let index = 0; index < extent.chunks.length; index += chunksAtOnce) {
      const some = extent.chunks.slice(index, index + chunksAtOnce);
      const chunks = await Promise.all(
        some.map(async (stored) => {
          const chunk = { from: at, to: at + stored.plainLength, packOffset };
          at += stored.plainLength;
          packOffset += stored.sealedLength;
          if (chunk.to <= offset || chunk.from >= end) return undefined;
          return { ...chunk, plain: await this.#readChunk(extent, chunk.packOffset, stored) };
        }),
      );
      for (const chunk of chunks) {
        if (!chunk) continue;
        const from = Math.max(chunk.from, offset);
        const to = Math.min(chunk.to, end);
        if (chunk.plain instanceof Uint8Array) {
          await file.write(chunk.plain.subarray(from - chunk.from, to - chunk.from), from);
          this.#bytes += to - from;
        } else missing.push({ offset: from, length: to - from, reason: chunk.plain.reason });
      }
    }
  }

  async #readChunk({ pack }: DataExtent, packOffset: number, chunk: RunChunk): Promise<Uint8Array | { readonly reason: string }> {
    try {
      return await this.#options.source.readChunk(pack, packOffset, chunk);
    } catch (error) {
      // A store that fails for one object may still return others.
      if (error instanceof PackError || error instanceof StoreError) return { reason: describeError(error) };
      throw error;
    }
  }

  /** Not every file system has permissions and times; without them no content is lost. */
  async #setAttributes(set: () => Promise<void>): Promise<void> {
    try {
      await set();
    } catch (error) {
      const code = diskErrorCode(error);
      if (code === undefined || hopelessCodes.has(code)) throw error;
      this.#plainAttributes++;
    }
  }

  #noteName(place: Place, name: ByteString): void {
    if (name !== place.name) this.#renamed.push({ path: textOfPlace({ ...place, name }), original: textOfPlace(place) });
  }

  /** Records an error that concerns only one name, and returns false for it. */
  async #attempt(place: Place, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const code = diskErrorCode(error);
      if (code === undefined || hopelessCodes.has(code)) throw error;
      this.#failed.push({ path: textOfPlace(place), reason: describeError(error) });
      return false;
    }
  }
}

/** A place, and the directory inode whose entry it is; `undefined` when it is not an entry of the volume. */
interface NamedPlace {
  readonly place: Place;
  readonly parent: Ino | undefined;
}

const lostName = (ino: Ino): ByteString => `inode-${ino.toString(16)}`;
const reservation = (parent: Ino, name: ByteString): string => `${parent}/${name}`;
const textOfPlace = ({ folder, name }: Place): string => textOf([...componentsOf(folder), name].join('/'));

/** `least`: permissions that the user who salvages needs. */
const attributesOf = ({ mode, atime, mtime }: Inode, least: number): TreeAttributes => ({ mode: mode | least, atime, mtime });

async function nextOf(records: AsyncIterator<FileRecord, void> | undefined): Promise<FileRecord | undefined> {
  const next = await records?.next();
  return next?.done === false ? next.value : undefined;
}
