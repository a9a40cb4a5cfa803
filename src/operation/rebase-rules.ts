/**
 * Running an operation again on a base that other devices have changed (doc/conflicts.md, whose rules are the functions here). Each rule says what
 * plain operations come of one operation, and those are executed: nothing here writes to the tree by itself, and what was executed takes the
 * place of the operation that was asked, for the next rebase too.
 *
 * The measure: what stands in the log is never overwritten or removed unless this device has seen it; what this device's applications were told
 * is done stays reachable, under another name if need be; and the outcome depends on nothing but the two bases and the operations.
 */
import { unreachable } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { ByteReader, byteStringOf } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { type ContentStamp, type Inode, isDirectory, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type Ino, orphanKey, rootIno } from '../meta/key.js';
import { conflictName } from './conflict-name.js';
import { isEmptyDirectory, lookup, type PlacedExtent, readInode, requireInode, scanEntries, scanExtents, scanXattrs } from './inode-view.js';
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
import type { StatisticsDelta } from './statistics.js';
import type { ReadView, Transaction } from './view.js';

/**
 * What became of a conflict. `renamed`: the name was taken, mine got a conflict name. `merged`: two directories of one name became one.
 * `copied`: the file was changed elsewhere too, my content is a file of its own. `restored`: what was removed elsewhere is back, since I use it.
 * `kept`: what I removed or replaced was changed elsewhere, and stays. `dropped`: my rename or change gave way.
 */
export type ConflictCode = 'renamed' | 'merged' | 'copied' | 'restored' | 'kept' | 'dropped';

/** What was changed here and elsewhere: `ino` has their content now, `copy` is the file that applications of this device had. */
export interface ConflictCopy {
  readonly ino: Ino;
  readonly copy: Ino;
  /** The name under which `ino` stood here; undefined when that is not known. */
  readonly parent: Ino | undefined;
  readonly name: ByteString;
  /** It had further names. */
  readonly isLinked: boolean;
}

/** For status and log: no names are shown. */
export interface Conflict {
  readonly code: ConflictCode;
  readonly ino: Ino;
  /** What `ino` became or was joined to, where that is another inode. */
  readonly other?: Ino;
  /** With `copied`: for those who have the file open. */
  readonly copy?: ConflictCopy;
}

export interface RebaseContext {
  readonly deviceIndex: number;
  /** For conflict names. */
  readonly deviceName: string;
  /**
   * This device's newest view before the rebase: the old base with all of the operations that are now run again. It may grow while the rebase
   * goes on, if the operations that it grows by are run again, too.
   */
  readonly oldView: ReadView;
  /** Called in the same order with the same operations and bases, so that a replay allocates the same. */
  allocateIno(): Ino;
  /** One for all operations of one rebase. */
  readonly state: RebaseState;
  /** What was resolved is appended here. */
  readonly conflicts: Conflict[];
}

export interface RebaseResult {
  /** What was executed, in order; maybe nothing. Running just these on the new base gives the same tree. */
  readonly effective: readonly Operation[];
  readonly delta: StatisticsDelta;
}

interface Resolved {
  /** A conflict copy, the file itself, or (0) none, since this device deleted the file afterwards. */
  readonly target: Ino | 0;
  /** Of the content that was put there. */
  readonly stamp: ContentStamp | undefined;
}

interface Place {
  readonly parent: Ino;
  readonly name: ByteString;
}

/** A map whose changes can be thrown away: an operation that meets a page fault runs again from its start. */
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

/** What earlier operations of one rebase became, for the later ones. */
export class RebaseState {
  /** A directory of mine that was merged, and the one that it became. */
  readonly merged = new DraftMap<Ino, Ino>();
  /**
   * Files whose newest content (of the old view) is in place already, and where. Their later content operations say nothing new, unless the
   * old view has grown since.
   */
  readonly resolved = new DraftMap<Ino, Resolved>();
  /** What stands elsewhere than under the name that it was given. */
  readonly places = new DraftMap<string, Place>();
  #inos: Ino[] = [];
  #inosUsed = 0;

  /** A number that was drawn for a run that met a page fault serves the next run. */
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
 * Pure but for `context.state`, and synchronous. Throws PageFault only (discard the transaction, load, run again). An operation that has no
 * meaning on the new base is dropped and reported.
 */
export function executeRebased(view: Transaction, operation: Operation, context: RebaseContext): RebaseResult {
  context.state.begin();
  const rebase = new Rebase(view, context);
  try {
    rebase.run(operation);
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    // Every plain operation checks before it writes, so what was executed so far is whole.
    rebase.report('dropped', subjectOf(operation));
  }
  context.state.keep();
  return rebase.finish();
}

const subjectOf = (operation: Operation): Ino => (operation.type === 'clone' ? operation.to : operation.ino);
const sameStamp = (a: ContentStamp, b: ContentStamp): boolean => a.deviceIndex === b.deviceIndex && a.counter === b.counter;
const isAlive = (inode: Inode | undefined): inode is Inode => inode !== undefined && inode.nlink > 0;
const placeKey = (parent: Ino, name: ByteString, ino: Ino): string => `${parent}/${ino}/${name}`;

/** Pieces of one write operation: bounds a journal entry. */
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

  /** Where the inode stands that my operation knew under this name; `undefined` if another device moved or removed it. */
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

  /** A conflict name that is free here, and that none of my own operations is going to use. */
  #freeName(parent: Ino, name: ByteString, time: Timespec, isDir: boolean): ByteString {
    for (let attempt = 1; ; attempt++) {
      const candidate = conflictName(name, this.#context.deviceName, time, isDir, attempt);
      if (!lookup(this.#view, parent, candidate) && !lookup(this.#oldView, parent, candidate)) return candidate;
    }
  }

  /** The name of an inode in my old view, found through the directory that it was put in last. */
  #oldPlace(ino: Ino, inode: Inode): Place | undefined {
    if (inode.parent === 0 || ino === rootIno) return undefined;
    for (const entry of scanEntries(this.#oldView, inode.parent)) if (entry.ino === ino) return { parent: inode.parent, name: entry.name };
    return undefined;
  }

  /**
   * Rule "directory of use": a directory that another device removed while I put something into it is made again, with its parents, at the place
   * that it has in my view; one of the same name that stands there now takes its place. What I removed myself later on only lends its name
   * to what will leave it: that goes to lost+found meanwhile.
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

  /** `/lost+found`, made when it is first needed; a file of that name does not stop it. */
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

  /** Gives the inode a name again: by a link while it is somebody's orphan, else by making it anew, without content. */
  #bringBack(ino: Ino, old: Inode, place: Place): void {
    if (readInode(this.#view, ino)) this.#emit({ type: 'link', ino, ...place, time: old.ctime });
    else this.#emit(createOf(ino, old, place, this.#oldXattrs(ino), old.ctime));
    this.report('restored', ino);
  }

  // Rules for names.

  /**
   * The name is taken: two directories become one; anything else gets a conflict name. A directory that I renamed or removed afterwards is
   * not merged: that would carry theirs along.
   */
  #create(operation: CreateOperation): void {
    const { ino, name } = operation;
    // Put in place ahead of its turn, by an operation that needed it.
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

  /** Like a create. The file itself was removed elsewhere: it comes back under this name, since I wanted it here. */
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
      this.#bringBack(ino, old, { parent, name });
      if ((old.mode & S_IFMT) === S_IFREG) this.#resolve(ino, old, ino);
    }
    this.#remember(operation.parent, operation.name, ino, { parent, name });
    if (there) this.report('renamed', ino);
  }

  /**
   * Edit beats delete: the last name of a file that was changed elsewhere stays. So does the last one of a file that has other names in my view,
   * when those are gone. What was moved elsewhere stays, too.
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

  /** A directory that was filled, moved or also made elsewhere stays. */
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
   * First in the log wins: what was moved or removed elsewhere is not moved by me. A directory does not move into itself, however the two moves
   * came together. The new name is taken by what I did not mean to replace, or what I replaced was changed: mine gets a conflict name.
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

  /** Whether one name less is what I meant: another name is left, or it is the file that I knew and wanted gone. */
  #mayVanish(ino: Ino, inode: Inode, baseStamp: ContentStamp | undefined): boolean {
    if (inode.nlink > 1) return true;
    if (baseStamp && !sameStamp(inode.stamp, baseStamp)) return false;
    return !isAlive(readInode(this.#oldView, ino));
  }

  // Rules for content.

  /**
   * Whether a content operation can run as it is. If not, its effect is in place when this returns:
   * changed elsewhere -> my final content becomes a conflict copy; removed elsewhere -> the file is back with my final content;
   * removed by me later on -> there is nothing to keep.
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

  /** Where a file of my old view belongs now: under its own name if that is free, else under a conflict name. */
  #placeFor(ino: Ino, old: Inode): Place {
    const place = this.#oldPlace(ino, old);
    const parent = place ? this.#directory(place.parent) : this.#lostAndFound();
    const name = place ? place.name : byteStringOf(`file ${ino}`);
    const there = lookup(this.#view, parent, name);
    const free = there ? this.#freeName(parent, name, old.mtime, false) : name;
    if (place) this.#remember(place.parent, place.name, ino, { parent, name: free });
    return { parent, name: free };
  }

  /** Rule "both contents are kept": mine, as it finally was, in a new file beside theirs. */
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

  /** Gives `target` the final content that `ino` has in my old view, sharing its chunks. */
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

  /** What was shared from a file that is not what it was: the target gets its final content of my view, whatever the source is now. */
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

  // Rules for attributes: the last writer wins, and what is gone has none.

  #setattr(operation: SetattrOperation): void {
    const ino = this.#now(operation.ino);
    if (operation.size !== undefined && this.#isCurrent(operation.ino, operation.baseStamp)) return this.#emit(operation);
    if (!readInode(this.#view, ino)) return;
    const target = this.#state.resolved.get(operation.ino)?.target;
    const { size: _size, stamp: _stamp, baseStamp: _baseStamp, atime, mtime, ctime, ...rest } = operation;
    // Times that belong to content which is elsewhere now (in the copy, with these times) say nothing about theirs.
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

  /** Only orphans that are this device's: another one may still have its own open. */
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
