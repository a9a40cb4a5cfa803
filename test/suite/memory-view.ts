/**
 * The key space in a sorted array, on which operations run in tests. It can answer with page faults, and can check that
 * it holds a sound tree.
 */

import { ByteReader } from '../../src/base/bytes.js';
import { PageFault } from '../../src/base/page-fault.js';
import { decodeDirent, decodeNumbered } from '../../src/meta/dirent.js';
import { decodeExtent } from '../../src/meta/extent.js';
import { decodeInode, encodeInode, type Inode, isDirectory, S_IFDIR, S_IFMT } from '../../src/meta/inode.js';
import { decodeKey, direntKey, type Ino, inodeKey, numberedKey, rootIno, type TreeKey } from '../../src/meta/key.js';
import type { Transaction } from '../../src/operation/view.js';

export class MemoryView implements Transaction {
  readonly #values: Map<TreeKey, Uint8Array>;
  #keys: TreeKey[] | undefined;
  /** Called at every read; true makes it a page fault. */
  faults: () => boolean = () => false;

  constructor(values: Iterable<readonly [TreeKey, Uint8Array]> = []) {
    this.#values = new Map(values);
  }

  copy(): MemoryView {
    return new MemoryView(this.#values);
  }

  entries(): (readonly [TreeKey, Uint8Array])[] {
    return this.#sorted().map((key) => [key, this.#values.get(key) as Uint8Array]);
  }

  /** The whole tree as text, which equals that of another tree exactly when the trees are equal. */
  fingerprint(): string {
    return this.entries()
      .map(([key, value]) => `${Buffer.from(key, 'latin1').toString('hex')}=${Buffer.from(value).toString('hex')}`)
      .join('\n');
  }

  get(key: TreeKey): Uint8Array | undefined {
    this.#mayFault();
    return this.#values.get(key);
  }

  *scan(from: TreeKey, to: TreeKey): IterableIterator<readonly [TreeKey, Uint8Array]> {
    this.#mayFault();
    const keys = this.#sorted();
    for (let index = lowerBound(keys, from); index < keys.length && keys[index]! < to; index++) {
      const value = this.#values.get(keys[index]!);
      if (value) yield [keys[index]!, value];
    }
  }

  floor(from: TreeKey, to: TreeKey): readonly [TreeKey, Uint8Array] | undefined {
    this.#mayFault();
    const keys = this.#sorted();
    const after = lowerBound(keys, `${to}\0` as TreeKey);
    const key = after > 0 ? keys[after - 1] : undefined;
    return key !== undefined && key >= from ? [key, this.#values.get(key) as Uint8Array] : undefined;
  }

  put(key: TreeKey, value: Uint8Array): void {
    // Values are copied, as in the real store, since their writers are reused.
    if (!this.#values.has(key)) this.#keys = undefined;
    this.#values.set(key, new Uint8Array(value));
  }

  delete(key: TreeKey): void {
    if (this.#values.delete(key)) this.#keys = undefined;
  }

  #sorted(): TreeKey[] {
    this.#keys ??= [...this.#values.keys()].toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    return this.#keys;
  }

  #mayFault(): void {
    if (this.faults()) throw new PageFault(() => Promise.resolve());
  }
}

function lowerBound(keys: readonly TreeKey[], key: TreeKey): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

const epoch = { sec: 1_700_000_000, nsec: 0 };

/** A new volume: an empty root directory. */
export function emptyVolume(): MemoryView {
  const times = { atime: epoch, mtime: epoch, ctime: epoch, btime: epoch };
  const numbers = { nlink: 2, uid: 0, gid: 0, rdev: 0, flags: 0, size: 0, allocated: 0, generation: 0 };
  const inode = { mode: S_IFDIR | 0o755, ...numbers, parent: rootIno, ...times, stamp: { deviceIndex: 0, counter: 0 }, inline: new Uint8Array(0) };
  return new MemoryView([[inodeKey(rootIno), encodeInode(inode as Inode)]]);
}

/** Violations in the tree, as sentences; empty if it is sound. */
export function treeProblems(view: MemoryView): string[] {
  const problems: string[] = [];
  const inodes = new Map<Ino, Inode>();
  const orphans = new Set<Ino>();
  const names = new Map<Ino, Ino[]>();
  const subdirectories = new Map<Ino, number>();
  const covered = new Map<Ino, { end: number; bytes: number }>();
  const mentioned = new Set<Ino>();
  const numbers = new Set<number>();
  for (const [key, value] of view.entries()) {
    const decoded = decodeKey(key);
    if (!('ino' in decoded)) continue;
    if (decoded.type === 'inode') inodes.set(decoded.ino, decodeInode(value));
    else if (decoded.type === 'orphan') {
      orphans.add(decoded.ino);
      const reader = new ByteReader(value);
      reader.varint();
      reader.end();
    } else mentioned.add(decoded.ino);
    if (decoded.type === 'dirent') {
      const { ino, type, number } = decodeDirent(value);
      if (numbers.has(number)) problems.push(`two entries have the number ${number}`);
      numbers.add(number);
      const numbered = view.get(numberedKey(decoded.ino, number));
      const listed = numbered && decodeNumbered(number, numbered);
      if (listed?.name !== decoded.name || listed.ino !== ino || listed.type !== type) problems.push(`entry ${number} is listed otherwise, or not`);
      names.set(ino, [...(names.get(ino) ?? []), decoded.ino]);
      if (type === S_IFDIR) subdirectories.set(decoded.ino, (subdirectories.get(decoded.ino) ?? 0) + 1);
    }
    if (decoded.type === 'numbered') {
      const named = view.get(direntKey(decoded.ino, decodeNumbered(decoded.number, value).name));
      if (!named || decodeDirent(named).number !== decoded.number) problems.push(`a listing shows ${decoded.number}, which is not there`);
    }
    if (decoded.type === 'extent') {
      const so = covered.get(decoded.ino) ?? { end: 0, bytes: 0 };
      const { length } = decodeExtent(value);
      if (decoded.offset < so.end) problems.push(`extents of ${decoded.ino} overlap at ${decoded.offset}`);
      covered.set(decoded.ino, { end: decoded.offset + length, bytes: so.bytes + length });
    }
  }
  for (const ino of [...mentioned, ...orphans, ...names.keys()]) if (!inodes.has(ino)) problems.push(`keys of ${ino}, which has no inode`);
  for (const [ino, inode] of inodes) {
    const parents = names.get(ino) ?? [];
    const bytes = (covered.get(ino)?.bytes ?? 0) + inode.inline.byteLength;
    if (inode.allocated !== bytes) problems.push(`${ino} has ${bytes} bytes allocated, says ${inode.allocated}`);
    if (inode.inline.byteLength > 0 && covered.has(ino)) problems.push(`${ino} has both extents and inline content`);
    if (inode.inline.byteLength > inode.size) problems.push(`${ino} has inline content past its end`);
    if ((inode.nlink === 0) !== orphans.has(ino)) problems.push(`${ino} has ${inode.nlink} links and is ${orphans.has(ino) ? '' : 'not '}an orphan`);
    if (!isDirectory(inode)) {
      if (parents.length !== inode.nlink) problems.push(`${ino} has ${parents.length} names, says ${inode.nlink}`);
      continue;
    }
    if (ino !== rootIno && parents.length !== (inode.nlink === 0 ? 0 : 1)) problems.push(`directory ${ino} has ${parents.length} names`);
    if (inode.nlink > 0 && inode.nlink !== 2 + (subdirectories.get(ino) ?? 0)) problems.push(`directory ${ino} miscounts its subdirectories`);
    if (ino !== rootIno && inode.nlink > 0 && parents[0] !== inode.parent) problems.push(`directory ${ino} does not know its parent`);
    let at = ino;
    for (let step = 0; at !== rootIno && step <= inodes.size; step++) at = names.get(at)?.[0] ?? rootIno;
    if (at !== rootIno) problems.push(`directory ${ino} is inside itself`);
  }
  for (const [ino, parents] of names) {
    for (const parent of parents)
      if ((inodes.get(parent)?.mode ?? 0) >>> 0 && !isDirectory(inodes.get(parent) as Inode)) problems.push(`${parent} is no directory`);
    const mode = inodes.get(ino)?.mode;
    if (mode === undefined) continue;
    for (const [key, value] of view.entries()) {
      if (key[0] === 'D' && decodeDirent(value).ino === ino && decodeDirent(value).type !== (mode & S_IFMT))
        problems.push(`a name of ${ino} has a wrong type`);
    }
  }
  return problems;
}
