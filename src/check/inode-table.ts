/**
 * What is known about every inode while the metadata is examined (doc/cli.md, "check, repair, salvage"): a hash table
 * of typed arrays, since a million inodes must fit beside everything else. A slot takes 59 bytes and the table is at
 * most 60 % full: 95 to 190 MB for a million inodes, and nothing for the garbage collector to trace.
 */
import type { Ino } from '../meta/key.js';

/** Bits of {@link InodeTable.flags}. */
export const hasInode = 1;
export const isDir = 2;
/** It has no name and should be recorded as an orphan. */
export const wantsOrphan = 4;
export const isOrphan = 8;
export const hasExtents = 16;
export const hasXattrs = 32;
/** Its record in the tree cannot be read. */
export const isUnreadable = 64;
/** Some entry has this number. */
export const isEntryNumber = 128;

type Cells = Float64Array | Uint32Array | Int32Array | Uint8Array;

/** One number for each slot; 0 at first. */
class Column {
  readonly #make: (length: number) => Cells;
  #cells: Cells;

  constructor(make: (length: number) => Cells, slots: number) {
    this.#make = make;
    this.#cells = make(slots);
  }

  at(slot: number): number {
    return this.#cells[slot] ?? 0;
  }

  set(slot: number, value: number): void {
    this.#cells[slot] = value;
  }

  add(slot: number, delta: number): void {
    this.#cells[slot] = this.at(slot) + delta;
  }

  /** Sets the bits of `mask`. */
  mark(slot: number, mask: number): void {
    this.#cells[slot] = this.at(slot) | mask;
  }

  /** Whether all bits of `mask` are set. */
  has(slot: number, mask: number): boolean {
    return (this.at(slot) & mask) === mask;
  }

  /**
   * Becomes a column of `slots`, with each cell at the slot that `moves` has for its old one; -1: the slot was free.
   */
  rearrange(slots: number, moves: Int32Array): void {
    const old = this.#cells;
    this.#cells = this.#make(slots);
    for (const [from, to] of moves.entries()) if (to >= 0) this.#cells[to] = old[from] ?? 0;
  }
}

const bytes = (length: number): Cells => new Uint8Array(length);
const counts = (length: number): Cells => new Uint32Array(length);
const numbers = (length: number): Cells => new Float64Array(length);

/** A slot is found with `slotOf` and stays valid until the next call that adds one. */
export class InodeTable {
  #slots: number;
  #count = 0;
  readonly #columns: Column[] = [];
  /** 0: the slot is free. */
  readonly #inos: Column;
  readonly flags: Column;
  /** S_IFMT >>> 12 according to an entry; 0: no entry. */
  readonly entryType: Column;
  /** How many entries point to it. */
  readonly names: Column;
  /** The directory of the last of these entries. */
  readonly namedIn: Column;
  /** According to the inode. */
  readonly nlink: Column;
  readonly parent: Column;
  /** How many entries in it are directories. */
  readonly subdirectories: Column;
  /** How many bytes its extents cover, and where the last data extent ends. */
  readonly covered: Column;
  readonly dataEnd: Column;
  /** For walks: 0 not seen. */
  readonly walked: Column;

  /** For directories: the hashes of the entries by name, minus those of the entries by number, modulo 2^32. */
  readonly pairing: Column;

  constructor(capacity = 1024) {
    this.#slots = 2 ** Math.ceil(Math.log2(Math.max(16, capacity)));
    this.#inos = this.#column(numbers);
    this.flags = this.#column(bytes);
    this.entryType = this.#column(bytes);
    this.names = this.#column(counts);
    this.namedIn = this.#column(numbers);
    this.nlink = this.#column(counts);
    this.parent = this.#column(numbers);
    this.subdirectories = this.#column((length) => new Int32Array(length));
    this.covered = this.#column(numbers);
    this.dataEnd = this.#column(numbers);
    this.walked = this.#column(bytes);
    this.pairing = this.#column(counts);
  }

  #column(make: (length: number) => Cells): Column {
    const column = new Column(make, this.#slots);
    this.#columns.push(column);
    return column;
  }

  get count(): number {
    return this.#count;
  }

  /** The slot of `ino`, or -1. */
  find(ino: number): number {
    const slot = this.#probe(ino);
    return this.#inos.at(slot) === ino ? slot : -1;
  }

  /** The slot of `ino`, added when there is none. */
  slotOf(ino: number): number {
    const known = this.find(ino);
    if (known >= 0) return known;
    if (this.#count + 1 > this.#slots * 0.6) this.#grow();
    const slot = this.#probe(ino);
    this.#inos.set(slot, ino);
    this.#count++;
    return slot;
  }

  /** The slot of `ino`, or the free slot where it belongs. */
  #probe(ino: number): number {
    const mask = this.#slots - 1;
    let slot = hashOf(ino) & mask;
    while (this.#inos.at(slot) !== 0 && this.#inos.at(slot) !== ino) slot = (slot + 1) & mask;
    return slot;
  }

  inoAt(slot: number): Ino {
    return this.#inos.at(slot) as Ino;
  }

  /** All slots in use, by ascending inode number. */
  slots(): Uint32Array {
    const slots = new Uint32Array(this.#count);
    let at = 0;
    for (let slot = 0; slot < this.#slots; slot++) if (this.#inos.at(slot) !== 0) slots[at++] = slot;
    return slots.toSorted((a, b) => this.#inos.at(a) - this.#inos.at(b));
  }

  #grow(): void {
    const larger = this.#slots * 2;
    const taken = new Uint8Array(larger);
    const moves = new Int32Array(this.#slots).fill(-1);
    for (let from = 0; from < this.#slots; from++) {
      const ino = this.#inos.at(from);
      if (ino === 0) continue;
      let to = hashOf(ino) & (larger - 1);
      while (taken[to] !== 0) to = (to + 1) & (larger - 1);
      taken[to] = 1;
      moves[from] = to;
    }
    for (const column of this.#columns) column.rearrange(larger, moves);
    this.#slots = larger;
  }
}

/**
 * Mixes both halves, and the high bits of each into the low ones: the numbers of one device are consecutive, and those
 * of another one differ in high bits only.
 */
function hashOf(ino: number): number {
  const high = Math.floor(ino / 0x100000000);
  return mixed((ino >>> 0) ^ Math.imul(high, 0x9e3779b1));
}

/** The finalizer of MurmurHash3 (x86, 32 bits). */
export function mixed(value: number): number {
  let bits = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
