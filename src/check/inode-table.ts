/**
 * What is known of every inode while the metadata is examined: a hash table of typed arrays, since a million inodes must fit beside everything
 * else. A slot costs 55 bytes and the table is at most 60 % full: 90 to 180 MB for a million inodes, and nothing for the garbage collector to trace.
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

/** Columns by slot. A slot is found with `slotOf`; it stays valid until the next call that adds one. */
export class InodeTable {
  #mask: number;
  #count = 0;
  /** 0: the slot is free. */
  #inos: Float64Array;
  flags: Uint8Array;
  /** S_IFMT >>> 12 as an entry tells it; 0: no entry. */
  entryType: Uint8Array;
  /** The same, from the inode. */
  type: Uint8Array;
  /** Entries that point to it. */
  names: Uint32Array;
  /** The directory of the last of them. */
  namedIn: Float64Array;
  /** As the inode tells. */
  nlink: Uint32Array;
  parent: Float64Array;
  /** Entries of directories in it. */
  subdirectories: Int32Array;
  /** Bytes that its extents cover, and where the last of data ends. */
  covered: Float64Array;
  dataEnd: Float64Array;
  /** For walks: 0 not seen. */
  mark: Uint8Array;

  constructor(capacity = 1024) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(16, capacity)));
    this.#mask = slots - 1;
    this.#inos = new Float64Array(slots);
    this.flags = new Uint8Array(slots);
    this.entryType = new Uint8Array(slots);
    this.type = new Uint8Array(slots);
    this.names = new Uint32Array(slots);
    this.namedIn = new Float64Array(slots);
    this.nlink = new Uint32Array(slots);
    this.parent = new Float64Array(slots);
    this.subdirectories = new Int32Array(slots);
    this.covered = new Float64Array(slots);
    this.dataEnd = new Float64Array(slots);
    this.mark = new Uint8Array(slots);
  }

  get count(): number {
    return this.#count;
  }

  /** The slot of `ino`, or -1. */
  find(ino: number): number {
    let slot = hashOf(ino) & this.#mask;
    while (this.#inos[slot] !== 0) {
      if (this.#inos[slot] === ino) return slot;
      slot = (slot + 1) & this.#mask;
    }
    return -1;
  }

  /** The slot of `ino`, made when there is none. */
  slotOf(ino: number): number {
    const found = this.find(ino);
    if (found >= 0) return found;
    if (this.#count + 1 > this.#inos.length * 0.6) this.#grow();
    let slot = hashOf(ino) & this.#mask;
    while (this.#inos[slot] !== 0) slot = (slot + 1) & this.#mask;
    this.#inos[slot] = ino;
    this.#count++;
    return slot;
  }

  inoAt(slot: number): Ino {
    return this.#inos[slot] as Ino;
  }

  /** All slots in use, by ascending inode number. */
  slots(): Uint32Array {
    const slots = new Uint32Array(this.#count);
    let at = 0;
    for (let slot = 0; slot < this.#inos.length; slot++) if (this.#inos[slot] !== 0) slots[at++] = slot;
    return slots.toSorted((a, b) => this.#inos[a] - this.#inos[b]);
  }

  #grow(): void {
    const old = { ...this.#columns() };
    const oldInos = this.#inos;
    const larger = new InodeTable(oldInos.length * 2);
    for (let slot = 0; slot < oldInos.length; slot++) {
      if (oldInos[slot] === 0) continue;
      const to = larger.slotOf(oldInos[slot]);
      larger.flags[to] = old.flags[slot];
      larger.entryType[to] = old.entryType[slot];
      larger.type[to] = old.type[slot];
      larger.names[to] = old.names[slot];
      larger.namedIn[to] = old.namedIn[slot];
      larger.nlink[to] = old.nlink[slot];
      larger.parent[to] = old.parent[slot];
      larger.subdirectories[to] = old.subdirectories[slot];
      larger.covered[to] = old.covered[slot];
      larger.dataEnd[to] = old.dataEnd[slot];
      larger.mark[to] = old.mark[slot];
    }
    Object.assign(this, larger.#columns());
    this.#inos = larger.#inos;
    this.#mask = larger.#mask;
  }

  #columns(): Pick<
    InodeTable,
    'flags' | 'entryType' | 'type' | 'names' | 'namedIn' | 'nlink' | 'parent' | 'subdirectories' | 'covered' | 'dataEnd' | 'mark'
  > {
    const { flags, entryType, type, names, namedIn, nlink, parent, subdirectories, covered, dataEnd, mark } = this;
    return { flags, entryType, type, names, namedIn, nlink, parent, subdirectories, covered, dataEnd, mark };
  }
}

/** Mixes both halves: numbers of one device are consecutive, those of others differ in the high half only. */
function hashOf(ino: number): number {
  const high = Math.floor(ino / 0x100000000);
  let mixed = Math.imul((ino >>> 0) ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
  mixed ^= mixed >>> 15;
  return Math.imul(mixed, 0xc2b2ae35) >>> 0;
}
