/**
 * Finds the files that are in the log exactly as the pending operations of this installation left them: its past self,
 * or a copy of it, has committed what its journal still holds (doc/concurrency.md, "One identity, two installations").
 * Nothing can be lost by leaving those operations out, whoever wrote what the log has, since it is the same in
 * everything that an application sees.
 */
import { equalBytes } from '../base/bytes.js';
import type { Commit } from '../commit/commit.js';
import { decodeDirent } from '../meta/dirent.js';
import { decodeExtent } from '../meta/extent.js';
import { decodeInode, encodeInode, type Inode, isDirectory, S_IFMT } from '../meta/inode.js';
import { decodeKey, type Ino, type TreeKey } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import { RENAME_EXCHANGE } from '../operation/operation-namespace.js';
import type { VolumeState } from './volume-state.js';

type Value = Uint8Array | null;

/** What was set or deleted of one inode. */
class Facts {
  inode: Value | undefined;
  readonly extents = new Map<number, Value>();
  readonly xattrs = new Map<string, Value>();
}

/** What was set or deleted of some inodes, and of all names. */
class Changes {
  readonly #facts = new Map<Ino, Facts>();
  readonly names = new Map<TreeKey, Value>();

  constructor(inos: Iterable<Ino>) {
    for (const ino of inos) this.#facts.set(ino, new Facts());
  }

  /** Answers the inode if its record is in the key. */
  add(key: TreeKey, value: Value): Ino | undefined {
    const decoded = decodeKey(key);
    if (decoded.type === 'dirent') this.names.set(key, value);
    if (!('ino' in decoded)) return undefined;
    const facts = this.#facts.get(decoded.ino);
    if (!facts) return undefined;
    if (decoded.type === 'extent') facts.extents.set(decoded.offset, value);
    else if (decoded.type === 'xattr') facts.xattrs.set(decoded.name, value);
    else if (decoded.type === 'inode') facts.inode = value;
    return decoded.type === 'inode' ? decoded.ino : undefined;
  }

  of(ino: Ino): Facts | undefined {
    return this.#facts.get(ino);
  }
}

export class DoneInodes {
  readonly #done = new Set<Ino>();
  readonly #directories = new Set<Ino>();
  /** Inodes that the operations make. */
  readonly #made = new Set<Ino>();
  readonly #own: Changes;
  readonly #log: Changes;
  /** The names that the operations gave. */
  readonly #names = new Map<Ino, TreeKey[]>();

  /** Operations after `landedSerial` are looked at. */
  constructor(state: VolumeState, commits: readonly Commit[], landedSerial: number) {
    const subjects = new Set<Ino>();
    for (const { serial, operation } of state.operations) if (serial > landedSerial) this.#noteOperation(operation, subjects);
    this.#own = new Changes(subjects);
    this.#log = new Changes(subjects);
    if (subjects.size === 0) return;
    for (const [key, value] of state.uncommitted()) this.#noteOwn(key, value);
    for (const { mutations } of commits) this.#compare(mutations as readonly (readonly [TreeKey, Value])[]);
    this.#dropStrays();
  }

  /** Whether all that the operation did is in the log. */
  contain(operation: Operation): boolean {
    const subject = subjectOf(operation);
    if (subject === undefined || !this.#done.has(subject)) return false;
    // What else changed of a directory is done again: it is the same, or the last one wins.
    if (this.#directories.has(subject)) return operation.type === 'create';
    if (operation.type !== 'rename') return true;
    const { flags, replacedIno, whiteoutIno } = operation;
    const others = [whiteoutIno, (flags & RENAME_EXCHANGE) === 0 ? undefined : replacedIno];
    return others.every((ino) => ino === undefined || this.#done.has(ino));
  }

  #noteOperation(operation: Operation, subjects: Set<Ino>): void {
    const subject = subjectOf(operation);
    if (subject !== undefined) subjects.add(subject);
    const made = operation.type === 'create' ? operation.ino : operation.type === 'rename' ? operation.whiteoutIno : undefined;
    if (made === undefined) return;
    subjects.add(made);
    this.#made.add(made);
  }

  #noteOwn(key: TreeKey, value: Value): void {
    this.#own.add(key, value);
    if (value === null || decodeKey(key).type !== 'dirent') return;
    const { ino } = decodeDirent(value);
    const names = this.#names.get(ino) ?? [];
    this.#names.set(ino, names);
    names.push(key);
  }

  /** Each commit shows the state at one instant. */
  #compare(mutations: readonly (readonly [TreeKey, Value])[]): void {
    const changed: Ino[] = [];
    for (const [key, value] of mutations) {
      const ino = this.#log.add(key, value);
      if (ino !== undefined && !this.#done.has(ino)) changed.push(ino);
    }
    for (const ino of changed) if (this.#isSame(ino)) this.#done.add(ino);
  }

  #isSame(ino: Ino): boolean {
    const [own, log] = [this.#own.of(ino), this.#log.of(ino)];
    if (!own?.inode || !log?.inode) return false;
    const [here, there] = [decodeInode(own.inode), decodeInode(log.inode)];
    if (here.nlink === 0 || !this.#hasNames(ino)) return false;
    if (isDirectory(here)) {
      this.#directories.add(ino);
      return this.#made.has(ino) && isSameDirectory(here, there);
    }
    const isMade = this.#made.has(ino);
    return isSameInode(here, there) && isSameContent(own, log, isMade) && isSameMap(own.xattrs, log.xattrs, isMade);
  }

  /** Whether the log has all names that the operations gave to the inode. */
  #hasNames(ino: Ino): boolean {
    return (this.#names.get(ino) ?? []).every((key) => isSameValue(this.#own.names.get(key), this.#log.names.get(key)));
  }

  /** A name in a directory that these operations made counts only if that directory is the same, too. */
  #dropStrays(): void {
    const isStray = (key: TreeKey): boolean => {
      const decoded = decodeKey(key);
      return decoded.type === 'dirent' && this.#made.has(decoded.ino) && !this.#done.has(decoded.ino);
    };
    for (let before = -1; before !== this.#done.size; ) {
      before = this.#done.size;
      for (const ino of this.#done) if (this.#names.get(ino)?.some(isStray)) this.#done.delete(ino);
    }
  }
}

const subjectOf = (operation: Operation): Ino | undefined =>
  operation.type === 'clone' ? operation.to : operation.type === 'record' ? undefined : operation.ino;

/** Names, content and attributes are compared by themselves; when it was read last does not matter. */
function isSameInode(here: Inode, there: Inode): boolean {
  const { atime, stamp } = here;
  return equalBytes(encodeInode(here), encodeInode({ ...there, atime, stamp }));
}

function isSameDirectory(here: Inode, there: Inode): boolean {
  const isSameTime = here.btime.sec === there.btime.sec && here.btime.nsec === there.btime.nsec;
  return isSameTime && (here.mode & S_IFMT) === (there.mode & S_IFMT) && here.parent === there.parent;
}

const isSameValue = (one: Value | undefined, other: Value | undefined): boolean => (one && other ? equalBytes(one, other) : one === other);

/** `isMade`: there is nothing below, so what was deleted is as if it had never been. */
function isSameMap<Key>(one: ReadonlyMap<Key, Value>, other: ReadonlyMap<Key, Value>, isMade: boolean): boolean {
  const keys = new Set([...one.keys(), ...other.keys()]);
  for (const key of keys) {
    const [a, b] = [one.get(key), other.get(key)];
    if (!isSameValue(isMade ? (a ?? null) : a, isMade ? (b ?? null) : b)) return false;
  }
  return true;
}

function isSameContent(own: Facts, log: Facts, isMade: boolean): boolean {
  const deleted = (facts: Facts): Map<number, Value> => new Map([...facts.extents].filter(([, value]) => value === null));
  if (!isMade && !isSameMap(deleted(own), deleted(log), false)) return false;
  const [here, there] = [piecesOf(own), piecesOf(log)];
  return here.length === there.length && here.every((piece, index) => piece === there[index]);
}

/**
 * The content of the extents, chunk by chunk, by the hashes of what was sealed: wherever, and however often, that was.
 */
function piecesOf({ extents }: Facts): string[] {
  const pieces: string[] = [];
  for (const [offset, value] of [...extents].toSorted(([a], [b]) => a - b)) {
    if (value === null) continue;
    const extent = decodeExtent(value);
    const end = offset + extent.length;
    if (extent.kind === 'reserved') {
      pieces.push(`${offset} ${extent.length}`);
      continue;
    }
    let at = offset - extent.skip;
    for (const { codec, plainLength, storedLength, hashes } of extent.chunks) {
      const [from, to] = [Math.max(at, offset), Math.min(at + plainLength, end)];
      if (from < to) pieces.push(`${from} ${to - from} ${from - at} ${codec} ${plainLength} ${storedLength} ${Buffer.from(hashes).toString('hex')}`);
      at += plainLength;
    }
  }
  return pieces;
}
