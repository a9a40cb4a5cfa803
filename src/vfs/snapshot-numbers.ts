/**
 * The inode numbers that a mount gives to what it shows of snapshots (doc/format.md, "Inode numbers"), so that programs
 * do not take a file and its former self for hard links of one file. A number says which snapshot it belongs to, and in
 * which folder that snapshot was entered: the same folder may be reached from several, and a kernel knows a directory
 * under one name only.
 *
 * Numbers of inodes that lie close together stay so: they are given in blocks. A block is remembered from the first
 * number on that is asked for, and the least recently used ones are forgotten; whoever still has a number of one looks
 * its name up again (ESTALE).
 */
import { assert } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import type { Ino } from '../meta/key.js';

export interface SnapshotId {
  readonly name: ByteString;
  readonly sequence: number;
}

/** What a number stands for. */
export interface SnapshotNode {
  /** `undefined`: the folder that lists the snapshots. */
  readonly snapshot: SnapshotId | undefined;
  /** The present folder in which the snapshot was entered. */
  readonly folder: Ino;
  /** The inode in the snapshot. */
  readonly ino: Ino;
}

const first = 2 ** 49;
const end = 2 ** 52;
const blockSize = 2 ** 27;
const blocks = (end - first) / blockSize;
const rememberedMax = 65_536;

interface Block extends Omit<SnapshotNode, 'ino'> {
  readonly key: string;
  readonly firstIno: number;
}

/** Whether the number is one of these. */
export const isSnapshotNumber = (number: number): boolean => number >= first && number < end;

export class SnapshotNumbers {
  readonly #rememberedMax: number;
  /** By index, the least recently used first. */
  readonly #blocks = new Map<number, Block>();
  readonly #indices = new Map<string, number>();
  #given = 0;

  constructor(bounds: { readonly rememberedMax?: number } = {}) {
    this.#rememberedMax = bounds.rememberedMax ?? rememberedMax;
  }

  numberOf(node: SnapshotNode): Ino {
    const block = blockOf(node);
    const index = this.#indices.get(block.key) ?? this.#give(block);
    return (first + index * blockSize + (node.ino - block.firstIno)) as Ino;
  }

  /** `undefined`: it was forgotten. */
  nodeOf(number: number): SnapshotNode | undefined {
    assert(isSnapshotNumber(number), 'a number of a snapshot');
    const index = Math.floor((number - first) / blockSize);
    const block = this.#blocks.get(index);
    if (!block) return undefined;
    this.#blocks.delete(index);
    this.#blocks.set(index, block);
    const ino = (block.firstIno + ((number - first) % blockSize)) as Ino;
    // The folder that lists the snapshots has the number of its folder there.
    return { snapshot: block.snapshot, folder: block.snapshot === undefined ? ino : block.folder, ino };
  }

  /** Every number under which the node may be known. */
  numbersOf(node: SnapshotNode): readonly Ino[] {
    const { key } = blockOf(node);
    const indices = [...this.#blocks].filter(([, block]) => block.key === key).map(([index]) => index);
    return indices.map((index) => (first + index * blockSize + (node.ino % blockSize)) as Ino);
  }

  /** The inodes of this number's block get other numbers from now on. The ones that they have remain good. */
  renew(number: number): void {
    const block = this.#blocks.get(Math.floor((number - first) / blockSize));
    if (block) this.#indices.delete(block.key);
  }

  #give(block: Block): number {
    const index = this.#given++ % blocks;
    this.#blocks.set(index, block);
    this.#indices.set(block.key, index);
    for (const [oldest, { key }] of this.#blocks) {
      if (this.#blocks.size <= this.#rememberedMax) break;
      this.#blocks.delete(oldest);
      if (this.#indices.get(key) === oldest) this.#indices.delete(key);
    }
    return index;
  }
}

function blockOf({ snapshot, folder, ino }: SnapshotNode): Block {
  const firstIno = Math.floor(ino / blockSize) * blockSize;
  // No snapshot is called like the folder that lists them.
  const key = snapshot === undefined ? `/${firstIno}` : `${snapshot.name}/${snapshot.sequence}/${folder}/${firstIno}`;
  return { key, snapshot, folder, firstIno };
}
