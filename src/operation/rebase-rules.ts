/**
 * Runs an operation again on a base that other devices have changed; the functions here are the rules of
 * doc/conflicts.md, "Promises". Each rule translates one operation into plain operations and executes those; nothing
 * here writes to the tree in any other way. The executed operations replace the original one, also for the next rebase.
 *
 * What is in the log is never overwritten or removed unless this device has seen it. What this device has acknowledged
 * to its applications stays reachable, under another name if necessary. The result depends only on the two bases and
 * the operations.
 */
import { unreachable } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { ByteReader, byteStringOf } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { type ContentStamp, type Inode, isDirectory, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type Ino, orphanKey, rootIno } from '../meta/key.js';
import { conflictName } from './conflict-name.js';
import { findEntry, isEmptyDirectory, lookup, type PlacedExtent, readInode, requireInode, scanExtents, scanXattrs } from './inode-view.js';
import {
  type CloneOperation,
  type CreateOperation,
  type FallocateOperation,
  fileSizeMax,
  type InlineOperation,
  type LinkOperation,
  type Operation,
  OperationError,
  type ReclaimOperation,
  type RemovexattrOperation,
  type RenameOperation,
  type RmdirOperation,
  type SetattrOperation,
  type SetxattrOperation,
  type UnlinkOperation,
  type WriteOperation,
} from './operation.js';
import { execute, recordBase } from './operation-execute.js';
import { isInside, RENAME_EXCHANGE } from './operation-namespace.js';
import { isAsKnown } from './operation-record.js';
import type { StatisticsDelta } from './statistics.js';
import type { ReadView, Transaction } from './view.js';

/**
 * How a conflict was resolved.
 * - `renamed`: the name was taken, and mine got a conflict name
 * - `merged`: two directories of the same name became one
 * - `copied`: the file was changed elsewhere too, and my content is a separate file
 * - `restored`: something removed elsewhere is back, because I use it
 * - `kept`: something that I removed or replaced was changed elsewhere, and stays
 * - `dropped`: my rename or change gave way
 */
export type ConflictCode = 'renamed' | 'merged' | 'copied' | 'restored' | 'kept' | 'dropped';

/**
 * A file that was changed here and elsewhere: `ino` has their content now, and `copy` is the file that this device's
 * applications had.
 */
export interface ConflictCopy {
  readonly ino: Ino;
  readonly copy: Ino;
  /** The directory and name of `ino` on this device; undefined when not known. */
  readonly parent: Ino | undefined;
  readonly name: ByteString;
  /** Whether it had further names. */
  readonly isLinked: boolean;
}

/** For status and logger, which show no names. */
export interface Conflict {
  readonly code: ConflictCode;
  readonly ino: Ino;
  /** The inode that `ino` became or was joined to, if another one. */
  readonly other?: Ino;
  /** Only for `copied`, for front ends that have the file open. */
  readonly copy?: ConflictCopy;
}

export interface RebaseContext {
  readonly deviceIndex: number;
  /** For conflict names. */
  readonly deviceName: string;
  /**
   * This device's newest view before the rebase: the old base with all operations that are run again. It may grow
   * during the rebase, provided that the added operations are run again too.
   */
  readonly oldView: ReadView;
  /** Called in the same order for the same operations and bases, so that a replay allocates the same numbers. */
  allocateIno(): Ino;
  /** Shared by all operations of one rebase. */
  readonly state: RebaseState;
  /** Resolved conflicts are appended here. */
  readonly conflicts: Conflict[];
}

/** The same for an operation of another device, whose work this one does again. */
export const contextOf = (context: RebaseContext, deviceIndex: number, deviceName: string): RebaseContext => ({
  deviceIndex,
  deviceName,
  get oldView() {
    return context.oldView;
  },
  allocateIno: () => context.allocateIno(),
  state: context.state,
  conflicts: context.conflicts,
});

export interface RebaseResult {
  /** The executed operations in order, possibly none. Running just these on the new base gives the same tree. */
  readonly effective: readonly Operation[];
  readonly delta: StatisticsDelta;
}

interface Resolved {
  /** A conflict copy, the file itself, or 0 for none, because this device deleted the file afterwards. */
  readonly target: Ino | 0;
  /** The stamp of the content that was put there. */
  readonly stamp: ContentStamp | undefined;
}

interface Place {
  readonly parent: Ino;
  readonly name: ByteString;
}

/** A map whose changes can be discarded: an operation that meets a page fault is run again from its start. */
class DraftMap<Key, Value> {
  readonly #kept = new Map<Key, Value>();
  readonly #draft = new Map<Key, Value>();

  get(key: Key): Value | undefined {
    return this.#draft.get(key) ?? this.#kept.get(key);
  }

  set(key: Key, value: Value): void {
    this.#draft.set(key, value);
  }

  keep(): void {
    for (const [key, value] of this.#draft) this.#kept.set(key, value);
    this.#draft.clear();
  }

  forget(): void {
    this.#draft.clear();
  }
}

/** The outcomes of the operations already rebased, for the later ones. */
export class RebaseState {
  /** Maps a directory of mine that was merged to the one it became. */
  readonly merged = new DraftMap<Ino, Ino>();
  /**
   * Files whose newest content (in the old view) is already in place, and where. Their later content operations add
   * nothing, unless the old view has grown since.
   */
  readonly resolved = new DraftMap<Ino, Resolved>();
  /** Entries that are not under the name they were given. */
  readonly places = new DraftMap<string, Place>();
  #inos: Ino[] = [];
  #inosUsed = 0;

  /** A number allocated in a run that met a page fault is used again in the next run. */
  takeIno(allocateIno: () => Ino): Ino {
    const ino = this.#inos[this.#inosUsed++] ?? allocateIno();
    this.#inos[this.#inosUsed - 1] = ino;
    return ino;
  }

  begin(): void {
    this.merged.forget();
    this.resolved.forget();
    this.places.forget();
    this.#inosUsed = 0;
  }

  keep(): void {
    this.merged.keep();
    this.resolved.keep();
    this.places.keep();
    this.#inos = this.#inos.slice(this.#inosUsed);
    this.#inosUsed = 0;
  }
}

/**
 * Pure except for `context.state`, and synchronous. Throws only PageFault (discard the transaction, load, run again).
 * An operation that has no meaning on the new base is dropped and reported.
 */
export function executeRebased(view: Transaction, operation: Operation, context: RebaseContext): RebaseResult {
  context.state.begin();
  const rebase = new Rebase(view, context);
  try {
    rebase.run(operation);
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    // Every plain operation checks before it writes, so everything executed so far is complete.
    const subject = subjectOf(operation);
    if (subject !== undefined) rebase.report('dropped', subject);
  }
  context.state.keep();
  return rebase.finish();
}

const subjectOf = (operation: Operation): Ino | undefined =>
  operation.type === 'clone' ? operation.to : operation.type === 'record' ? undefined : operation.ino;
const sameStamp = (a: ContentStamp, b: ContentStamp): boolean => a.deviceIndex === b.deviceIndex && a.counter === b.counter;
const isAlive = (inode: Inode | undefined): inode is Inode => inode !== undefined && inode.nlink > 0;
const placeKey = (parent: Ino, name: ByteString, ino: Ino): string => `${parent}/${ino}/${name}`;

/** The most pieces in one write operation: bounds a journal entry. */
const piecesMax = 512;

class Rebase {
  readonly #view: Transaction;
  readonly #context: RebaseContext;
  readonly #state: RebaseState;
  readonly #oldView: ReadView;
  readonly #effective: Operation[] = [];
  readonly #conflicts: Conflict[] = [];
  #files = 0;
  #bytes = 0;

  constructor(view: Transaction, context: RebaseContext) {
    this.#view = view;
    this.#context = context;
    this.#state = context.state;
    this.#oldView = context.oldView;
  }

  finish(): RebaseResult {
    this.#context.conflicts.push(...this.#conflicts);
    return { effective: this.#effective, delta: { files: this.#files, bytes: this.#bytes } };
  }

  report(code: ConflictCode, ino: Ino, other?: Ino): void {
    this.#conflicts.push(other === undefined ? { code, ino } : { code, ino, other });
  }

  run(operation: Operation): void {
    switch (operation.type) {
      case 'create':
        return this.#create(operation);
      case 'link':
        return this.#link(operation);
      case 'unlink':
        return this.#unlink(operation);
      case 'rmdir':
        return this.#rmdir(operation);
      case 'rename':
        return this.#rename(operation);
      case 'setattr':
        return this.#setattr(operation);
      case 'write':
      case 'inline':
      case 'fallocate':
        return this.#changeContent(operation);
      case 'clone':
        return this.#clone(operation);
      case 'setxattr':
      case 'removexattr':
        return this.#changeXattr(operation);
      case 'reclaim':
        return this.#reclaim(operation);
      case 'record':
        // The first in the log wins.
        if (isAsKnown(this.#view, operation)) this.#emit(operation);
        return;
      case 'relocate':
        // It replaces what still stands, wherever that is.
        return this.#emit(operation);
      default:
        return unreachable(operation);
    }
  }

  #emit(operation: Operation): void {
    const complete = recordBase(this.#view, operation);
    const delta = execute(this.#view, complete, this.#context.deviceIndex);
    this.#files += delta.files;
    this.#bytes += delta.bytes;
    this.#effective.push(complete);
  }

  // Names: where things are now.

  #now(ino: Ino): Ino {
    return this.#state.merged.get(ino) ?? ino;
  }

  /**
   * The present place of the inode that my operation knew under this name; `undefined` if another device moved or
   * removed it.
   */
  #locate(parent: Ino, name: ByteString, ino: Ino): Place | undefined {
    const asked = { parent: this.#now(parent), name };
    for (const place of [this.#state.places.get(placeKey(parent, name, ino)), asked]) {
      if (place && lookup(this.#view, place.parent, place.name)?.ino === this.#now(ino)) return place;
    }
    return undefined;
  }

  #remember(parent: Ino, name: ByteString, ino: Ino, place: Place): void {
    if (place.parent !== this.#now(parent) || place.name !== name) this.#state.places.set(placeKey(parent, name, ino), place);
  }

  /** A conflict name that is free here and that none of my operations will use. */
  #freeName(parent: Ino, name: ByteString, time: Timespec, isDir: boolean): ByteString {
    for (let attempt = 1; ; attempt++) {
      const candidate = conflictName(name, this.#context.deviceName, time, isDir, attempt);
      if (!lookup(this.#view, parent, candidate) && !lookup(this.#oldView, parent, candidate)) return candidate;
    }
  }

  /** The name of an inode in my old view, found through the last directory it was put into. */
  #oldPlace(ino: Ino, inode: Inode): Place | undefined {
    if (inode.parent === 0 || ino === rootIno) return undefined;
    const entry = findEntry(this.#oldView, inode.parent, ino);
    return entry && { parent: inode.parent, name: entry.name };
  }

  /**
   * Rule "directory of use": if another device removed a directory while I put something into it, it is created again,
   * with its parents, at its place in my view, or merged with a directory that has that name now. If I removed it later
   * myself, its entries will leave it anyway and are put into lost+found meanwhile.
   */
  #directory(asked: Ino): Ino {
    const ino = this.#now(asked);
    const inode = readInode(this.#view, ino);
    if (isAlive(inode) && isDirectory(inode)) return ino;
    const old = readInode(this.#oldView, asked);
    const oldPlace = isAlive(old) && isDirectory(old) ? this.#oldPlace(asked, old) : undefined;
    if (!old || !oldPlace) return this.#lostAndFound();
    const parent = this.#directory(oldPlace.parent);
    const there = lookup(this.#view, parent, oldPlace.name);
    if (there?.type === S_IFDIR) {
      this.#state.merged.set(asked, there.ino);
      this.report('merged', asked, there.ino);
      return there.ino;
    }
    const name = there ? this.#freeName(parent, oldPlace.name, old.ctime, true) : oldPlace.name;
    this.#bringBack(asked, old, { parent, name });
    this.#remember(oldPlace.parent, oldPlace.name, asked, { parent, name });
    return asked;
  }

  /** `/lost+found`, created when first needed; a file of that name does not prevent it. */
  #lostAndFound(): Ino {
    const root = requireInode(this.#view, rootIno);
    for (let attempt = 1; ; attempt++) {
      const name = attempt === 1 ? 'lost+found' : `lost+found ${attempt}`;
      const there = lookup(this.#view, rootIno, name);
      if (there?.type === S_IFDIR) return there.ino;
      if (there) continue;
      const ino = this.#newIno();
      this.#emit(createOf(ino, { ...root, mode: S_IFDIR | 0o700 }, { parent: rootIno, name }, [], root.ctime));
      return ino;
    }
  }

  #newIno(): Ino {
    return this.#state.takeIno(() => this.#context.allocateIno());
  }

  #oldXattrs(ino: Ino): (readonly [ByteString, Uint8Array])[] {
    return [...scanXattrs(this.#oldView, ino)];
  }

  /**
   * Gives the inode a name again: by a link if it is still an orphan, otherwise by creating it again without content.
   * The number of its old name may belong to the entry that replaced it.
   */
  #bringBack(ino: Ino, old: Inode, place: Place, number: number = this.#newIno()): void {
    if (readInode(this.#view, ino)) this.#emit({ type: 'link', ino, ...place, number, time: old.ctime });
    else this.#emit({ ...createOf(ino, old, place, this.#oldXattrs(ino), old.ctime), number });
    this.report('restored', ino);
  }

  // Rules for names.

  /**
   * If the name is taken, two directories are merged, and anything else gets a conflict name. A directory that I
   * renamed or removed afterwards is not merged: that would rename or remove theirs too.
   */
  #create(operation: CreateOperation): void {
    const { ino, name } = operation;
    // An operation that needed it has already created it.
    if (readInode(this.#view, ino)) return;
    if (name === undefined) return this.#emit({ ...operation, parent: rootIno });
    const parent = this.#directory(operation.parent);
    const there = lookup(this.#view, parent, name);
    if (!there) {
      this.#emit({ ...operation, parent });
      this.#remember(operation.parent, name, ino, { parent, name });
      return;
    }
    const isDir = (operation.mode & S_IFMT) === S_IFDIR;
    if (isDir && there.type === S_IFDIR && lookup(this.#oldView, operation.parent, name)?.ino === ino) {
      this.#state.merged.set(ino, there.ino);
      this.report('merged', ino, there.ino);
      return;
    }
    const free = this.#freeName(parent, name, operation.time, isDir);
    this.#emit({ ...operation, parent, name: free });
    this.#remember(operation.parent, name, ino, { parent, name: free });
    this.report('renamed', ino);
  }

  /**
   * Names work as for a create. If the file itself was removed elsewhere, it comes back under this name, because I
   * wanted it here.
   */
  #link(operation: LinkOperation): void {
    const { ino } = operation;
    const parent = this.#directory(operation.parent);
    const there = lookup(this.#view, parent, operation.name);
    if (there?.ino === ino) return;
    const name = there ? this.#freeName(parent, operation.name, operation.time, false) : operation.name;
    if (readInode(this.#view, ino)) {
      this.#emit({ ...operation, parent, name });
    } else {
      const old = readInode(this.#oldView, ino);
      if (!isAlive(old)) return this.report('dropped', ino);
      this.#bringBack(ino, old, { parent, name }, operation.number);
      if ((old.mode & S_IFMT) === S_IFREG) this.#resolve(ino, old, ino);
    }
    this.#remember(operation.parent, operation.name, ino, { parent, name });
    if (there) this.report('renamed', ino);
  }

  /**
   * Edit beats delete: the last name of a file that was changed elsewhere stays. So does the last remaining name of a
   * file whose other names in my view are gone. A file that was moved elsewhere stays too.
   */
  #unlink(operation: UnlinkOperation): void {
    const { ino, baseStamp } = operation;
    const place = this.#locate(operation.parent, operation.name, ino);
    const inode = readInode(this.#view, ino);
    if (!inode) return;
    if (!place) {
      if (inode.nlink > 0) this.report('kept', ino);
      return;
    }
    if (!this.#mayVanish(ino, inode, baseStamp)) return this.report('kept', ino);
    this.#emit({ ...operation, ...place });
  }

  /** A directory that was filled, moved or merged elsewhere stays. */
  #rmdir(operation: RmdirOperation): void {
    const { ino } = operation;
    const place = this.#locate(operation.parent, operation.name, ino);
    if (!place) {
      if (isAlive(readInode(this.#view, ino))) this.report('kept', ino);
      return;
    }
    if (this.#now(ino) !== ino || !isEmptyDirectory(this.#view, ino)) return this.report('kept', ino);
    this.#emit({ ...operation, ...place });
  }

  /**
   * The first in the log wins: I do not move what was moved or removed elsewhere. A directory never moves into itself,
   * even when two moves combine to that. If the new name is taken by something that I did not mean to replace, or the
   * file that I replaced was changed, mine gets a conflict name.
   */
  #rename(operation: RenameOperation): void {
    const { newParent: askedParent, newName, replacedIno } = operation;
    const ino = this.#now(operation.ino);
    const from = this.#locate(operation.parent, operation.name, operation.ino);
    if (!from) {
      const arrived = this.#locate(askedParent, newName, operation.ino) !== undefined;
      if (!arrived) this.report('dropped', ino);
      return;
    }
    const source = requireInode(this.#view, ino);
    const replacedPlace = replacedIno === undefined ? undefined : this.#locate(askedParent, newName, replacedIno);
    if ((operation.flags & RENAME_EXCHANGE) !== 0) {
      if (!replacedPlace || replacedIno === undefined || this.#now(replacedIno) !== replacedIno) return this.report('dropped', ino);
      this.#emit({ ...operation, ...from, ino, newParent: replacedPlace.parent, newName: replacedPlace.name });
      this.#remember(askedParent, newName, operation.ino, replacedPlace);
      this.#remember(operation.parent, operation.name, replacedIno, from);
      return;
    }
    let to: Place = replacedPlace ?? { parent: this.#directory(askedParent), name: newName };
    if (isDirectory(source) && isInside(this.#view, to.parent, ino)) return this.report('dropped', ino);
    const there = lookup(this.#view, to.parent, to.name);
    if (there?.ino === ino) return;
    const replaces = there !== undefined && replacedPlace !== undefined && this.#isReplaceable(operation, source, there.ino);
    if (there && !replaces) {
      to = { parent: to.parent, name: this.#freeName(to.parent, to.name, operation.time, isDirectory(source)) };
      this.report('renamed', ino);
    }
    this.#emit({ ...operation, ...from, ino, newParent: to.parent, newName: to.name, replacedIno: replaces ? there.ino : undefined });
    this.#remember(askedParent, newName, operation.ino, to);
  }

  #isReplaceable({ replacedIno, replacedStamp }: RenameOperation, source: Inode, there: Ino): boolean {
    if (there !== replacedIno) return false;
    const inode = requireInode(this.#view, there);
    if (isDirectory(inode) !== isDirectory(source)) return false;
    if (isDirectory(inode)) return isEmptyDirectory(this.#view, there);
    return this.#mayVanish(there, inode, replacedStamp);
  }

  /** Whether I meant to remove this name: another name is left, or it is the file I knew and wanted gone. */
  #mayVanish(ino: Ino, inode: Inode, baseStamp: ContentStamp | undefined): boolean {
    if (inode.nlink > 1) return true;
    if (baseStamp && !sameStamp(inode.stamp, baseStamp)) return false;
    return !isAlive(readInode(this.#oldView, ino));
  }

  // Rules for content.

  /**
   * Whether a content operation can run unchanged. If not, its effect is already in place when this returns:
   * - changed elsewhere: my final content becomes a conflict copy
   * - removed elsewhere: the file is back with my final content
   * - removed by me later: there is nothing to keep
   */
  #isCurrent(ino: Ino, baseStamp: ContentStamp | undefined): boolean {
    const inode = readInode(this.#view, ino);
    const old = readInode(this.#oldView, ino);
    const resolved = this.#state.resolved.get(ino);
    if (resolved && (resolved.target !== 0 || !isAlive(old))) {
      const isGrown = old && resolved.stamp && !sameStamp(old.stamp, resolved.stamp);
      if (isGrown && resolved.target !== 0) this.#resolve(resolved.target, old, ino);
      return false;
    }
    const changed = inode !== undefined && baseStamp !== undefined && !sameStamp(inode.stamp, baseStamp);
    if (isAlive(inode) && !changed) return true;
    if (!isAlive(old)) {
      if (inode && !changed) return true;
      this.#state.resolved.set(ino, { target: 0, stamp: undefined });
      return false;
    }
    if (isAlive(inode)) {
      this.#copy(ino, old);
      return false;
    }
    this.#bringBack(ino, old, this.#placeFor(ino, old));
    if (inode && !changed) return true;
    this.#resolve(ino, old, ino);
    return false;
  }

  /** Where a file of my old view belongs now: under its own name if that is free, otherwise under a conflict name. */
  #placeFor(ino: Ino, old: Inode): Place {
    const place = this.#oldPlace(ino, old);
    const parent = place ? this.#directory(place.parent) : this.#lostAndFound();
    const name = place ? place.name : byteStringOf(`file ${ino}`);
    const there = lookup(this.#view, parent, name);
    const free = there ? this.#freeName(parent, name, old.mtime, false) : name;
    if (place) this.#remember(place.parent, place.name, ino, { parent, name: free });
    return { parent, name: free };
  }

  /** Rule "both contents are kept": puts my final content into a new file beside theirs. */
  #copy(ino: Ino, old: Inode): void {
    const oldPlace = this.#oldPlace(ino, old);
    const parent = oldPlace ? this.#directory(oldPlace.parent) : this.#lostAndFound();
    const name = this.#freeName(parent, oldPlace?.name ?? byteStringOf(`file ${ino}`), old.mtime, false);
    const copy = this.#newIno();
    this.#emit(createOf(copy, old, { parent, name }, this.#oldXattrs(ino), old.mtime));
    this.#resolve(copy, old, ino);
    const { parent: place, name: placeName = '' } = oldPlace ?? { parent: undefined };
    this.#conflicts.push({ code: 'copied', ino, other: copy, copy: { ino, copy, parent: place, name: placeName, isLinked: old.nlink > 1 } });
  }

  /** Gives `target` the final content of `ino` in my old view, sharing its chunks. */
  #resolve(target: Ino, old: Inode, ino: Ino): void {
    const { size, mtime, stamp } = old;
    const before = requireInode(this.#view, target);
    this.#emit({ type: 'inline', ino: target, content: old.inline, size, mtime, stamp, baseStamp: before.stamp, upTo: 0 });
    let pieces: PlacedExtent[] = [];
    const write = (): void => {
      if (pieces.length > 0) this.#emit({ type: 'write', ino: target, pieces, size, mtime, stamp, baseStamp: stamp, upTo: 0 });
      pieces = [];
    };
    for (const placed of scanExtents(this.#oldView, ino, 0, fileSizeMax)) {
      // Reserved space is a promise about room, which a volume in a store does not make.
      if (placed.extent.kind === 'data') pieces.push(placed);
      if (pieces.length === piecesMax) write();
    }
    write();
    this.#state.resolved.set(ino, { target, stamp });
  }

  #changeContent(operation: WriteOperation | InlineOperation | FallocateOperation): void {
    if (this.#isCurrent(operation.ino, operation.baseStamp)) this.#emit(operation);
  }

  /** If the source is not what it was, the target gets its own final content from my view. */
  #clone(operation: CloneOperation): void {
    const { from, to, fromStamp } = operation;
    if (!this.#isCurrent(to, operation.baseStamp)) return;
    const source = readInode(this.#view, from);
    const isSame = this.#state.resolved.get(from) === undefined && source !== undefined && (!fromStamp || sameStamp(source.stamp, fromStamp));
    if (isSame) return this.#emit(operation);
    const old = readInode(this.#oldView, to);
    if (old) this.#resolve(to, old, to);
    else this.#state.resolved.set(to, { target: 0, stamp: undefined });
  }

  // Rules for attributes: the last writer wins, and a removed inode has none.

  #setattr(operation: SetattrOperation): void {
    const ino = this.#now(operation.ino);
    if (operation.size !== undefined && this.#isCurrent(operation.ino, operation.baseStamp)) return this.#emit(operation);
    if (!readInode(this.#view, ino)) return;
    const target = this.#state.resolved.get(operation.ino)?.target;
    const { size: _size, stamp: _stamp, baseStamp: _baseStamp, atime, mtime, ctime, ...rest } = operation;
    // Times of content that is elsewhere now (in the copy, which has these times) do not apply to theirs.
    const times = target !== undefined && target !== ino ? {} : { ...(atime && { atime }), ...(mtime && { mtime }), ...(ctime && { ctime }) };
    const changesOwn = rest.mode !== undefined || rest.uid !== undefined || rest.gid !== undefined || rest.flags !== undefined;
    if (changesOwn || Object.keys(times).length > 0) this.#emit({ ...rest, ...times, ino });
  }

  #changeXattr(operation: SetxattrOperation | RemovexattrOperation): void {
    const ino = this.#now(operation.ino);
    if (!readInode(this.#view, ino)) return;
    if (operation.type === 'setxattr') return this.#emit({ ...operation, ino, flags: 0 });
    for (const [name] of scanXattrs(this.#view, ino)) if (name === operation.name) return this.#emit({ ...operation, ino });
  }

  /** Reclaims only this device's orphans: another device may still have its own open. */
  #reclaim(operation: ReclaimOperation): void {
    const holder = this.#view.get(orphanKey(operation.ino));
    if (holder !== undefined && new ByteReader(holder).varint() === this.#context.deviceIndex) this.#emit(operation);
  }
}

function createOf(ino: Ino, like: Inode, place: Place, xattrs: CreateOperation['xattrs'], time: Timespec): CreateOperation {
  const target = (like.mode & S_IFMT) === S_IFLNK ? Buffer.from(like.inline).toString('latin1') : undefined;
  const { mode, uid, gid, rdev } = like;
  return { type: 'create', ...place, ino, mode, uid, gid, rdev, target, xattrs, time };
}
