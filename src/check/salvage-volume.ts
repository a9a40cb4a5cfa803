/**
 * Copies everything of a volume that can still be read into a plain directory, however much is damaged (doc/cli.md, "salvage"). It goes on
 * after every error, says what is missing, and writes nothing into the store. Where the state comes from is `surviving-state.ts`.
 *
 * The key space is read as three streams side by side: names first, kept in memory; then inodes and extents, joined by inode number.
 */
import type { ByteString } from '../base/brand.js';
import { MalformedBytesError, latin1Slice, textOf, toHex } from '../base/bytes.js';
import { describeError } from '../base/log.js';
import type { Random } from '../base/random.js';
import { diskErrorCode } from '../disk/disk.js';
import { decodeDirent } from '../meta/dirent.js';
import { type DataExtent, type Extent, decodeExtent } from '../meta/extent.js';
import { type Inode, S_IFDIR, decodeInode, isDirectory, isRegular, isSymlink } from '../meta/inode.js';
import { type DecodedKey, type Ino, type TreeKey, decodeKey, rootIno } from '../meta/key.js';
import { PackError } from '../pack/pack-error.js';
import { PackSource } from '../pack/pack-source.js';
import { StoreError } from '../store/object-store.js';
import type { ObjectStore } from '../store/object-store.js';
import { openBareVolume } from './bare-volume.js';
import type { CommitCopies } from './commit-copies.js';
import { Findings } from './finding.js';
import type { LocalTree, TreeFile, TreePath } from './local-tree.js';
import { SalvageError } from './salvage-error.js';
import type { Entry } from './state-entries.js';
import { SurvivingLog } from './surviving-log.js';
import { SurvivingState } from './surviving-state.js';

export interface SalvageOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly target: LocalTree;
  /** Commits and genesis that this device has kept. */
  readonly copies: CommitCopies;
  /** The state after this commit; later ones are not looked at. */
  readonly at?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?:
    | ((progress: { readonly phase: 'log' | 'names' | 'files'; readonly done: number; readonly total?: number }) => void)
    | undefined;
}

export interface DamagedFile {
  readonly path: string;
  readonly ino: Ino;
  /** Bytes of the file that are zeros now. Empty: only its record was lost. */
  readonly missing: readonly { readonly offset: number; readonly length: number; readonly reason: string }[];
}

export interface SalvageReport {
  readonly volumeId: string;
  /** The state is that of this commit, and rests on this checkpoint (0: on commits alone). */
  readonly sequence: number;
  readonly checkpoint: number;
  readonly lostCommits: readonly number[];
  readonly lostPages: number;
  /** Whether something may be older than it was, or not be there without being named below. */
  readonly mayBeStale: boolean;
  readonly directories: number;
  readonly files: number;
  readonly links: number;
  readonly bytes: number;
  readonly damaged: readonly DamagedFile[];
  /** Names of which nothing else is left. */
  readonly missing: readonly string[];
  /** Devices, sockets and FIFOs. */
  readonly skipped: readonly string[];
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
}

/** Whether all that was there is there. */
export function isComplete(report: SalvageReport): boolean {
  return report.damaged.length + report.missing.length + report.failed.length === 0 && !report.mayBeStale;
}

/** Throws SalvageError, system errors of the target that end everything (no space), and the signal's reason. */
export async function salvageVolume(options: SalvageOptions): Promise<SalvageReport> {
  const { store, volumeId, copies, signal, at = Number.MAX_SAFE_INTEGER, onProgress } = options;
  const genesisCopy = await copies.read(0).catch(() => undefined);
  const bare = await openBareVolume({ ...options, findings: new Findings(1), genesisCopy });
  if (!bare) throw new SalvageError('NOTHING_LEFT', 'neither the store nor this device has the genesis of the volume: there are no keys');
  try {
    const log = new SurvivingLog({ store, keys: bare.keys, copies, signal });
    const survivors = await log.survey(at, (done, total) => onProgress?.({ phase: 'log', done, total }));
    if (survivors.newest === 0) throw new SalvageError('NOTHING_LEFT', 'no commit of the volume can be opened');
    const source = new PackSource({ store, keys: bare.keys.current, staging: new Map(), memoryMax: 0 });
    const state = new SurvivingState(log, survivors, source, signal);
    const found = await new Salvager(options, state, source).run();
    return {
      volumeId: toHex(volumeId),
      sequence: survivors.newest,
      checkpoint: survivors.checkpoints[0]?.sequence ?? 0,
      lostCommits: survivors.lost,
      lostPages: state.lostPages,
      mayBeStale: state.staleRanges > 0,
      ...found,
    };
  } finally {
    bare.keys.root.wipe();
  }
}

interface Name {
  readonly parent: Ino;
  readonly name: ByteString;
}

interface PlacedExtent {
  readonly offset: number;
  readonly extent: Extent;
}

const treeFolder: ByteString = 'tree';
const lostFolder: ByteString = 'lost+found';
const damagedSuffix = '.damaged';
/** The target cannot take anything any more. */
const hopeless: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);
/** Chunks that are in memory at once. */
const chunksAtOnce = 16;

class Salvager {
  readonly #o: SalvageOptions;
  readonly #state: SurvivingState;
  readonly #source: PackSource;
  /** Names that have not found their inode yet. */
  readonly #names = new Map<Ino, Name[]>();
  readonly #folders = new Set<Ino>([rootIno]);
  readonly #paths = new Map<Ino, TreePath>();
  readonly #attributes: { readonly path: TreePath; readonly inode: Inode }[] = [];
  readonly #symlinks: { readonly target: ByteString; readonly path: TreePath }[] = [];
  readonly #damaged: DamagedFile[] = [];
  readonly #missing: string[] = [];
  readonly #skipped: string[] = [];
  readonly #failed: { path: string; reason: string }[] = [];
  #files = 0;
  #links = 0;
  #bytes = 0;
  #hasLostFolder = false;

  constructor(options: SalvageOptions, state: SurvivingState, source: PackSource) {
    this.#o = options;
    this.#state = state;
    this.#source = source;
  }

  async run(): Promise<Pick<SalvageReport, 'directories' | 'files' | 'links' | 'bytes' | 'damaged' | 'missing' | 'skipped' | 'failed'>> {
    await this.#readNames();
    await this.#makeFolders();
    await this.#copyInodes();
    // Last, so that nothing is ever written through one.
    for (const { target, path } of this.#symlinks) {
      await this.#attempt(path, async () => {
        await this.#o.target.makeLink(target, path);
        this.#links++;
      });
    }
    for (const names of this.#names.values()) {
      for (const { parent, name } of names) this.#missing.push(textOfPath([...this.#folderPath(parent), name]));
    }
    // Children before parents: making a child changes the parent's times.
    for (const { path, inode } of this.#attributes.toSorted((a, b) => b.path.length - a.path.length))
      await this.#attempt(path, () => this.#o.target.setAttributes(path, inode.mode | 0o700, inode.atime, inode.mtime));
    return {
      directories: this.#paths.size,
      files: this.#files,
      links: this.#links,
      bytes: this.#bytes,
      damaged: this.#damaged,
      missing: this.#missing,
      skipped: this.#skipped,
      failed: this.#failed,
    };
  }

  // Names and directories.

  async #readNames(): Promise<void> {
    let count = 0;
    for await (const batch of this.#state.entries('D', 'E')) {
      for (const entry of batch) this.#takeName(entry);
      count += batch.length;
      this.#o.onProgress?.({ phase: 'names', done: count });
    }
  }

  #takeName([key, value]: Entry): void {
    const decoded = readKey(key);
    const dirent = decoded?.type === 'dirent' ? readValue(() => decodeDirent(value)) : undefined;
    if (decoded?.type !== 'dirent' || !dirent) return;
    this.#folders.add(decoded.ino);
    if (dirent.type === S_IFDIR) this.#folders.add(dirent.ino);
    const name = { parent: decoded.ino, name: decoded.name };
    const known = this.#names.get(dirent.ino);
    if (known) known.push(name);
    else this.#names.set(dirent.ino, [name]);
  }

  async #makeFolders(): Promise<void> {
    const { target } = this.#o;
    await target.makeDirectory([treeFolder]);
    this.#paths.set(rootIno, [treeFolder]);
    for (const ino of this.#folders) await this.#makeFolder(ino);
    // They are there now, whether or not their records are.
    for (const ino of this.#folders) this.#names.delete(ino);
  }

  /** Makes the directories above first. What leads to itself or to nothing begins in lost+found. */
  async #makeFolder(ino: Ino): Promise<void> {
    const chain: Ino[] = [];
    const seen = new Set<Ino>();
    let at = ino;
    while (!this.#paths.has(at)) {
      chain.push(at);
      seen.add(at);
      const parent = this.#names.get(at)?.[0]?.parent;
      if (parent === undefined || seen.has(parent)) break;
      at = parent;
    }
    for (const one of chain.toReversed()) {
      const [name] = this.#names.get(one) ?? [];
      const above = name && this.#paths.get(name.parent);
      const path = above ? [...above, name.name] : await this.#lostPath(one);
      this.#paths.set(one, path);
      await this.#attempt(path, () => this.#o.target.makeDirectory(path));
    }
  }

  #folderPath(ino: Ino): TreePath {
    return this.#paths.get(ino) ?? [lostFolder, `inode-${ino.toString(16)}`];
  }

  async #lostPath(ino: Ino): Promise<TreePath> {
    if (!this.#hasLostFolder) await this.#o.target.makeDirectory([lostFolder]);
    this.#hasLostFolder = true;
    return [lostFolder, `inode-${ino.toString(16)}`];
  }

  // Inodes and their extents.

  async #copyInodes(): Promise<void> {
    const extents = new ExtentGroups(this.#state.entries('E', 'F'));
    let count = 0;
    for await (const batch of this.#state.entries('I', 'J')) {
      for (const [key, value] of batch) {
        const decoded = readKey(key);
        const inode = decoded?.type === 'inode' ? readValue(() => decodeInode(value)) : undefined;
        // Without a record it is treated as one whose record is lost: its extents come up as a group of their own.
        if (decoded?.type !== 'inode' || !inode) continue;
        for (const group of await extents.before(decoded.ino)) await this.#copyWithoutRecord(group.ino, group.extents);
        await this.#copyInode(decoded.ino, inode, await extents.take(decoded.ino));
        this.#o.onProgress?.({ phase: 'files', done: ++count });
      }
    }
    for (const group of await extents.before(Number.POSITIVE_INFINITY)) await this.#copyWithoutRecord(group.ino, group.extents);
  }

  async #copyInode(ino: Ino, inode: Inode, extents: readonly PlacedExtent[]): Promise<void> {
    this.#o.signal?.throwIfAborted();
    if (isDirectory(inode) || this.#paths.has(ino)) {
      this.#names.delete(ino);
      const path = this.#paths.get(ino);
      if (path) this.#attributes.push({ path, inode });
      return;
    }
    // Removed while it was open: nobody wants it back.
    if (!this.#names.has(ino) && inode.nlink === 0) return;
    const paths = await this.#takePaths(ino);
    if (isSymlink(inode)) {
      const target = latin1Slice(inode.inline, 0, inode.inline.byteLength);
      for (const path of paths) this.#symlinks.push({ target, path });
    } else if (isRegular(inode)) {
      const written = await this.#copyFile(ino, paths[0], inode.size, inode.inline, extents, false);
      await this.#linkOthers(written, paths);
      if (written) await this.#attempt(written, () => this.#o.target.setAttributes(written, inode.mode | 0o600, inode.atime, inode.mtime));
    } else this.#skipped.push(...paths.map(textOfPath));
  }

  /** Its record is gone: the extents tell as much as there is to tell. */
  async #copyWithoutRecord(ino: Ino, extents: readonly PlacedExtent[]): Promise<void> {
    const paths = await this.#takePaths(ino);
    const size = extents.reduce((end, { offset, extent }) => (extent.kind === 'data' ? Math.max(end, offset + extent.length) : end), 0);
    await this.#linkOthers(await this.#copyFile(ino, paths[0], size, new Uint8Array(0), extents, true), paths);
  }

  async #takePaths(ino: Ino): Promise<readonly [TreePath, ...TreePath[]]> {
    const names = this.#names.get(ino) ?? [];
    this.#names.delete(ino);
    const [first, ...rest] = names.map(({ parent, name }): TreePath => [...this.#folderPath(parent), name]);
    return first ? [first, ...rest] : [await this.#lostPath(ino)];
  }

  /** Where it was written: under another name if something of it is missing. `undefined`: not at all. */
  async #copyFile(
    ino: Ino,
    path: TreePath,
    size: number,
    inline: Uint8Array,
    extents: readonly PlacedExtent[],
    isRecordLost: boolean,
  ): Promise<TreePath | undefined> {
    const missing: { offset: number; length: number; reason: string }[] = [];
    let written: TreePath | undefined;
    await this.#attempt(path, async () => {
      const file = await this.#o.target.createFile(path);
      try {
        if (inline.byteLength > 0) await file.write(inline, 0);
        this.#bytes += inline.byteLength;
        for (const { offset, extent } of extents) {
          if (extent.kind === 'data') await this.#copyExtent(file, offset, extent, missing);
        }
      } catch (error) {
        await file.abandon();
        throw error;
      }
      await file.finish(size);
      this.#files++;
      written = path;
    });
    if (!written || (missing.length === 0 && !isRecordLost)) return written;
    const renamed = damagedPath(path);
    await this.#attempt(path, async () => {
      await this.#o.target.rename(path, renamed);
      written = renamed;
    });
    this.#damaged.push({ path: textOfPath(written), ino, missing });
    return written;
  }

  async #copyExtent(
    file: TreeFile,
    offset: number,
    extent: DataExtent,
    missing: { offset: number; length: number; reason: string }[],
  ): Promise<void> {
    // Where the run's first byte would stand in the file.
    let at = offset - extent.skip;
    let packOffset = extent.packOffset;
    const end = offset + extent.length;
    for (let index = 0; index < extent.chunks.length; index += chunksAtOnce) {
      const some = extent.chunks.slice(index, index + chunksAtOnce);
      const chunks = await Promise.all(
        some.map(async ({ plainLength, sealedLength }) => {
          const chunk = { from: at, to: at + plainLength, packOffset };
          at += plainLength;
          packOffset += sealedLength;
          if (chunk.to <= offset || chunk.from >= end) return undefined;
          return { ...chunk, plain: await this.#readChunk(extent, chunk.packOffset, plainLength, sealedLength) };
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

  async #readChunk(
    { pack }: DataExtent,
    packOffset: number,
    plainLength: number,
    sealedLength: number,
  ): Promise<Uint8Array | { readonly reason: string }> {
    try {
      return await this.#source.readChunk(pack, packOffset, plainLength, sealedLength);
    } catch (error) {
      // A store that cannot read one object may well read the next.
      if (error instanceof PackError || error instanceof StoreError) return { reason: describeError(error) };
      throw error;
    }
  }

  async #linkOthers(written: TreePath | undefined, paths: readonly TreePath[]): Promise<void> {
    const [first, ...others] = paths;
    for (const path of others) {
      if (!written) continue;
      const to = written === first ? path : damagedPath(path);
      await this.#attempt(to, () => this.#o.target.linkFile(written, to));
    }
  }

  /** Goes on after whatever fails for one path. */
  async #attempt(path: TreePath, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const code = diskErrorCode(error);
      if (code === undefined || hopeless.has(code)) throw error;
      this.#failed.push({ path: textOfPath(path), reason: describeError(error) });
    }
  }
}

/** The extents of one file after the other, from a stream of all of them. */
class ExtentGroups {
  readonly #batches: AsyncIterator<readonly Entry[]>;
  #batch: readonly Entry[] = [];
  #at = 0;

  constructor(batches: AsyncIterable<readonly Entry[]>) {
    this.#batches = batches[Symbol.asyncIterator]();
  }

  /** Those of files with a lower number: nobody has asked for them. */
  async before(ino: number): Promise<{ readonly ino: Ino; readonly extents: readonly PlacedExtent[] }[]> {
    const groups: { ino: Ino; extents: readonly PlacedExtent[] }[] = [];
    for (;;) {
      const next = await this.#nextIno();
      if (next === undefined || next >= ino) return groups;
      groups.push({ ino: next, extents: await this.take(next) });
    }
  }

  /** Those of `ino`, which must not lie behind. */
  async take(ino: Ino): Promise<readonly PlacedExtent[]> {
    const extents: PlacedExtent[] = [];
    while ((await this.#nextIno()) === ino) {
      const [key, value] = this.#batch[this.#at++];
      const decoded = readKey(key);
      const extent = readValue(() => decodeExtent(value));
      if (decoded?.type === 'extent' && extent) extents.push({ offset: decoded.offset, extent });
    }
    return extents;
  }

  async #nextIno(): Promise<Ino | undefined> {
    for (;;) {
      for (; this.#at < this.#batch.length; this.#at++) {
        const decoded = readKey(this.#batch[this.#at][0]);
        if (decoded?.type === 'extent') return decoded.ino;
      }
      const next = await this.#batches.next();
      if (next.done) return undefined;
      this.#batch = next.value;
      this.#at = 0;
    }
  }
}

function readKey(key: string): DecodedKey | undefined {
  return readValue(() => decodeKey(key as TreeKey));
}

/** What does not decode is as good as lost. */
function readValue<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

/** The same place, under a name that tells. */
function damagedPath(path: TreePath): TreePath {
  const name = path[path.length - 1];
  return [...path.slice(0, -1), name.slice(0, 255 - damagedSuffix.length) + damagedSuffix];
}

function textOfPath(path: TreePath): string {
  return textOf(path.join('/'));
}
