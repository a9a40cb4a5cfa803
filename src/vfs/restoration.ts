/**
 * Brings files and folders of a past state back (doc/past.md, "Restoring"): by ordinary operations on the present that
 * share the chunks of the past, so that no content moves. Other devices and the kernel's caches hear of it as of any
 * change. It looks at one folder at a time.
 *
 * Fails with VfsError, OperationError or VolumeError; what was done by then stays.
 */
import type { ByteString } from '../base/brand.js';
import { equalBytes, latin1Slice } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { encodeExtent } from '../meta/extent.js';
import { FS_IMMUTABLE_FL, type Inode, isDirectory, isRegular, isSymlink, S_IFMT } from '../meta/inode.js';
import { type Ino, packEntryKey, rootIno } from '../meta/key.js';
import { lookup, type PlacedExtent, readInode, scanExtents, scanNames, scanXattrs } from '../operation/inode-view.js';
import { fileSizeMax } from '../operation/operation.js';
import type { ReadView } from '../operation/view.js';
import type { ReadableVolume } from '../volume/readable-volume.js';
import type { Volume } from '../volume/volume.js';
import { Filesystem } from './filesystem.js';
import { VfsError } from './vfs-error.js';

/** What was done, or would be. */
export interface RestoreCounts {
  /** Files and folders that were brought back, or got another content or other attributes. */
  restored: number;
  removed: number;
  /** The sizes of the files whose content was brought back. */
  bytes: number;
  unchanged: number;
  /** Files whose content is not kept any more. What stands in their place stays. */
  missing: number;
}

export interface RestorationOptions {
  /** A handle of the volume for this alone. */
  readonly volume: Volume;
  readonly past: ReadableVolume;
  /** Counts what would be done, and does nothing. */
  readonly isDryRun: boolean;
  readonly onProgress?: (counts: Readonly<RestoreCounts>) => void;
  readonly signal?: AbortSignal;
}

interface Named {
  readonly name: ByteString;
  readonly ino: Ino;
  readonly type: number;
}

/** What a past inode is, with all but content. */
interface Former {
  readonly ino: Ino;
  readonly inode: Inode;
  readonly xattrs: readonly (readonly [ByteString, Uint8Array])[];
}

/** Where a dry run puts things: nothing is there. */
const nowhere = 0 as Ino;
/** The most extents in one operation. */
const piecesMax = 512;

export class Restoration {
  readonly #options: RestorationOptions;
  readonly #volume: Volume;
  readonly #past: ReadableVolume;
  readonly #filesystem: Filesystem;
  readonly counts: RestoreCounts = { restored: 0, removed: 0, bytes: 0, unchanged: 0, missing: 0 };
  /** Where inodes with several names are now. */
  readonly #linked = new Map<Ino, Ino>();
  /** These inodes. */
  readonly #taken = new Set<Ino>();

  constructor(options: RestorationOptions) {
    this.#options = options;
    this.#volume = options.volume;
    this.#past = options.past;
    this.#filesystem = new Filesystem(options.volume, { accessTimes: { policy: 'noatime' } });
  }

  /**
   * Brings the past inode back under this name, with everything below it. What a folder has got since stays; a file or
   * link of that name gets the past content.
   */
  async restore(ino: Ino, parent: Ino, name: ByteString): Promise<void> {
    await this.#put(await this.#former(ino), parent, name, 'merge');
  }

  /** Brings back the folder alone, if there is none of that name. Answers the one that is there. */
  async restoreFolder(ino: Ino, parent: Ino, name: ByteString): Promise<Ino> {
    const present = await this.#volume.read((view) => lookup(view, parent, name));
    return present?.ino ?? this.#create(await this.#former(ino), parent, name);
  }

  /** Makes everything in the folder what it was in the past state; `ino` is the folder in both. */
  async rollBack(ino: Ino): Promise<void> {
    const former = await this.#former(ino);
    await this.#fill(former, ino, 'replace');
    await this.#setAttributes(former, ino);
  }

  async #former(ino: Ino): Promise<Former> {
    return this.#past.read((view) => {
      const inode = readInode(view, ino);
      if (!inode) throw new VfsError('ENOENT', 'it was not there');
      return { ino, inode, xattrs: [...scanXattrs(view, ino)] };
    });
  }

  #step(): void {
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.(this.counts);
  }

  /** `replace`: what a folder has beside goes, and so does what stands in the way. */
  async #put(former: Former, parent: Ino, name: ByteString, how: 'merge' | 'replace'): Promise<void> {
    this.#step();
    if (isRegular(former.inode) && !(await this.#isKept(former.ino))) {
      this.counts.missing++;
      return;
    }
    const present = await this.#volume.read((view) => lookup(view, parent, name));
    const linked = former.inode.nlink > 1 && !isDirectory(former.inode) ? this.#linked.get(former.ino) : undefined;
    if (linked !== undefined) return this.#link(linked, parent, name, present?.ino);
    const isFitting = present !== undefined && (await this.#fits(former, present.ino));
    if (present && !isFitting) {
      if (how === 'merge' && (await this.#isDirectory(present.ino))) throw new VfsError('EISDIR', 'a folder stands in its place');
      await this.#remove(parent, { ...present, name });
    }
    const ino = present && isFitting ? present.ino : await this.#create(former, parent, name);
    if (former.inode.nlink > 1) {
      this.#linked.set(former.ino, ino);
      this.#taken.add(ino);
    }
    const isNew = ino !== present?.ino || !isFitting;
    if (isDirectory(former.inode)) {
      await this.#fill(former, ino, isNew ? 'merge' : how);
      await this.#setAttributes(former, ino, isNew);
    } else await this.#complete(former, ino, isNew);
  }

  async #complete(former: Former, ino: Ino, isNew: boolean): Promise<void> {
    const isContentSame = !isRegular(former.inode) || (!isNew && (await this.#hasContent(former, ino)));
    if (!isContentSame) await this.#setContent(former, ino, isNew);
    const isAttributeSet = await this.#setAttributes(former, ino, isNew);
    if (!isContentSame) this.counts.bytes += former.inode.size;
    if (isNew) return;
    if (isContentSame && !isAttributeSet) this.counts.unchanged++;
    else this.counts.restored++;
  }

  async #fill(former: Former, folder: Ino, how: 'merge' | 'replace'): Promise<void> {
    const then = await this.#past.read((view) => namesIn(view, former.ino));
    if (how === 'replace') {
      const wanted = new Set(then.map(({ name }) => name));
      for (const entry of await this.#volume.read((view) => namesIn(view, folder))) if (!wanted.has(entry.name)) await this.#remove(folder, entry);
    }
    for (const { name, ino } of then) await this.#put(await this.#former(ino), folder, name, how);
  }

  // Names.

  /** Under its old number, if nobody has that now. */
  async #create({ ino: formerIno, inode, xattrs }: Former, parent: Ino, name: ByteString): Promise<Ino> {
    this.counts.restored++;
    if (this.#options.isDryRun) return nowhere;
    const [number, spare, time] = [this.#volume.allocateIno(), this.#volume.allocateIno(), this.#volume.now()];
    const target = isSymlink(inode) ? latin1Slice(inode.inline, 0, inode.inline.byteLength) : undefined;
    const { mode, uid, gid, rdev } = inode;
    return this.#volume.transact((view) => {
      const ino = formerIno !== rootIno && readInode(view, formerIno) === undefined ? formerIno : spare;
      return { operation: { type: 'create', parent, name, ino, mode, uid, gid, rdev, target, xattrs, number, time }, result: ino };
    });
  }

  async #link(ino: Ino, parent: Ino, name: ByteString, present: Ino | undefined): Promise<void> {
    if (present === ino) {
      this.counts.unchanged++;
      return;
    }
    if (present !== undefined) await this.#remove(parent, { name, ino: present });
    this.counts.restored++;
    if (!this.#options.isDryRun) await this.#filesystem.link(ino, parent, name);
  }

  async #remove(parent: Ino, { name, ino }: Omit<Named, 'type'>): Promise<void> {
    this.#step();
    const isFolder = await this.#isDirectory(ino);
    if (isFolder) for (const entry of await this.#volume.read((view) => namesIn(view, ino))) await this.#remove(ino, entry);
    this.counts.removed++;
    if (this.#options.isDryRun) return;
    const removed = isFolder ? await this.#filesystem.rmdir(parent, name) : await this.#filesystem.unlink(parent, name);
    this.#filesystem.forget(removed.ino);
  }

  async #isDirectory(ino: Ino): Promise<boolean> {
    return this.#volume.read((view) => {
      const inode = readInode(view, ino);
      return inode !== undefined && isDirectory(inode);
    });
  }

  /**
   * Whether the present inode can become the former one. One that has other names, which are not to change, must be the
   * same already; links and device nodes cannot be changed.
   */
  async #fits(former: Former, ino: Ino): Promise<boolean> {
    const { inode } = former;
    const present = await this.#volume.read((view) => readInode(view, ino));
    if (!present || (present.mode & S_IFMT) !== (inode.mode & S_IFMT)) return false;
    if (isDirectory(inode)) return true;
    if (present.nlink > 1 && ino !== former.ino) {
      const mayBeSame = present.nlink === inode.nlink && !this.#taken.has(ino) && isSameAttributes(present, inode);
      if (!mayBeSame || (isRegular(inode) && !(await this.#hasContent(former, ino)))) return false;
    }
    return isRegular(inode) || (present.rdev === inode.rdev && equalBytes(present.inline, inode.inline));
  }

  // Content.

  /**
   * Whether the present tree knows every pack of the content: a pack that it does not know may be on its way out of the
   * store, and must not be referred to again.
   */
  async #isKept(ino: Ino): Promise<boolean> {
    for (let from = 0; ; ) {
      const at = from;
      const extents = await this.#past.read((view) => someExtents(view, ino, at));
      if (!(await this.#volume.read((view) => areKept(view, extents)))) return false;
      if (extents.length < piecesMax) return true;
      from = endOf(extents.at(-1));
    }
  }

  async #hasContent({ ino: formerIno, inode }: Former, ino: Ino): Promise<boolean> {
    await this.#volume.sealContent(ino);
    const present = await this.#volume.read((view) => this.#volume.inode(view, ino));
    if (present?.size !== inode.size || !equalBytes(present.inline, inode.inline)) return false;
    for (let from = 0; ; ) {
      const at = from;
      const then = await this.#past.read((view) => someExtents(view, formerIno, at));
      const now = await this.#volume.read((view) => someExtents(view, ino, at));
      if (then.length !== now.length || !then.every((placed, index) => isSamePlaced(placed, now[index]))) return false;
      if (then.length < piecesMax) return true;
      from = endOf(then.at(-1));
    }
  }

  async #setContent({ ino: formerIno, inode }: Former, ino: Ino, isNew: boolean): Promise<void> {
    const { size, mtime } = inode;
    if (this.#options.isDryRun) return;
    if (!isNew) {
      const cut = { stamp: this.#volume.nextStamp(), time: this.#volume.now() };
      await this.#volume.transact((view) => {
        requireChangeable(readInode(view, ino));
        return { operation: { type: 'setattr', ino, size: 0, ...cut }, result: undefined };
      });
    }
    const first = this.#volume.nextStamp();
    await this.#volume.transact((view) => {
      const { stamp: baseStamp } = required(readInode(view, ino));
      return { operation: { type: 'inline', ino, content: inode.inline, size, mtime, stamp: first, baseStamp, upTo: 0 }, result: undefined };
    });
    for (let from = 0; ; ) {
      const at = from;
      const pieces = await this.#past.read((view) => someExtents(view, formerIno, at));
      if (pieces.length > 0) await this.#write(ino, pieces, size, mtime);
      if (pieces.length < piecesMax) return;
      from = endOf(pieces.at(-1));
    }
  }

  async #write(ino: Ino, pieces: readonly PlacedExtent[], size: number, mtime: Timespec): Promise<void> {
    const stamp = this.#volume.nextStamp();
    await this.#volume.transact((view) => {
      // At the instant of the operation, and not only before.
      if (!areKept(view, pieces)) throw new VfsError('ENODATA', 'its content is not kept any more');
      const { stamp: baseStamp } = required(readInode(view, ino));
      return { operation: { type: 'write', ino, pieces, size, mtime, stamp, baseStamp, upTo: 0 }, result: undefined };
    });
  }

  // Attributes.

  /** Answers whether anything was different. A new inode has them except for its times. */
  async #setAttributes({ inode, xattrs }: Former, ino: Ino, isNew = false): Promise<boolean> {
    const found = await this.#volume.read((view) => ({ present: this.#volume.inode(view, ino), values: new Map(scanXattrs(view, ino)) }));
    const { present, values } = found;
    // Nothing is made in a dry run.
    if (!present || this.#options.isDryRun) return present !== undefined && !isNew && !isSameAttributes(present, inode);
    const time = this.#volume.now();
    const { mode, uid, gid, flags, mtime, atime } = inode;
    const wanted = new Map(xattrs);
    const removed = [...values.keys()].filter((name) => !wanted.has(name));
    const changed = xattrs.filter(([name, value]) => !equalBytes(values.get(name) ?? new Uint8Array(0), value) || !values.has(name));
    for (const name of removed) await this.#volume.apply({ type: 'removexattr', ino, name, time });
    for (const [name, value] of changed)
      await this.#volume.apply({ type: 'setxattr', ino, name, value: new Uint8Array(value), flags: 0, mode: undefined, time });
    const isSame = isSameAttributes(present, inode);
    if (!isSame) await this.#volume.apply({ type: 'setattr', ino, mode, uid, gid, flags, mtime, atime, time });
    return !isSame || removed.length > 0 || changed.length > 0;
  }
}

const namesIn = (view: ReadView, folder: Ino): Named[] => [...scanNames(view, folder)].map(({ name, ino, type }) => ({ name, ino, type }));

const areKept = (view: ReadView, extents: readonly PlacedExtent[]): boolean =>
  extents.every(({ extent }) => extent.kind !== 'data' || view.get(packEntryKey(extent.pack)) !== undefined);

/** The next extents that hold data. */
function someExtents(view: ReadView, ino: Ino, from: number): PlacedExtent[] {
  const found: PlacedExtent[] = [];
  for (const placed of scanExtents(view, ino, from, fileSizeMax)) {
    // Reserved space is a promise about room, which a volume in a store does not make.
    if (placed.extent.kind === 'data') found.push(placed);
    if (found.length === piecesMax) break;
  }
  return found;
}

const endOf = (placed: PlacedExtent | undefined): number => (placed ? placed.offset + placed.extent.length : 0);

const isSamePlaced = (one: PlacedExtent, other: PlacedExtent | undefined): boolean =>
  one.offset === other?.offset && equalBytes(encodeExtent(one.extent), encodeExtent(other.extent));

const isSameTime = (one: Timespec, other: Timespec): boolean => one.sec === other.sec && one.nsec === other.nsec;

const isSameAttributes = (one: Inode, other: Inode): boolean =>
  one.mode === other.mode && one.uid === other.uid && one.gid === other.gid && one.flags === other.flags && isSameTime(one.mtime, other.mtime);

function required(inode: Inode | undefined): Inode {
  if (!inode) throw new VfsError('ESTALE', 'it was removed meanwhile');
  return inode;
}

function requireChangeable(inode: Inode | undefined): void {
  if ((required(inode).flags & FS_IMMUTABLE_FL) !== 0) throw new VfsError('EPERM', 'the file is immutable');
}
