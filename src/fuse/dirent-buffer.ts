/**
 * Encodes directory entries for READDIR and READDIRPLUS: struct fuse_dirent or fuse_direntplus, each padded to 8 bytes.
 */

import type { ByteString } from '../base/brand.js';
import { fuse_dirent, fuse_entry_out } from './abi.js';
import type { DirentSink, Entry, NodeId } from './operations.js';
import { setEntryOut } from './reply-writer.js';

const align8 = (size: number): number => (size + 7) & ~7;

/** Not shared between requests that are under way at the same time. */
export class DirentBuffer implements DirentSink {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #size = 0;
  #length = 0;
  #plus = false;
  #looked: NodeId[] = [];

  constructor(capacity: number) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, capacity);
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  /** Starts a reply of at most `size` bytes (at most the capacity). */
  reset(size: number, plus: boolean): void {
    this.#size = size;
    this.#plus = plus;
    this.#length = 0;
    this.#looked = [];
  }

  add(name: ByteString, ino: number, mode: number, cookie: number, entry?: Entry): boolean {
    const entrySize = this.#plus ? fuse_entry_out.SIZE : 0;
    const recordSize = align8(entrySize + fuse_dirent.SIZE + name.length);
    const start = this.#length;
    if (start + recordSize > this.#size) return false;
    if (this.#plus) {
      setEntryOut(this.#view, start, entry);
      if (entry !== undefined && entry.nodeId !== 0) this.#looked.push(entry.nodeId);
    }
    const at = start + entrySize;
    this.#view.setUint32(at + fuse_dirent.ino, ino, true);
    this.#view.setUint32(at + fuse_dirent.ino + 4, Math.floor(ino / 0x100000000), true);
    this.#view.setUint32(at + fuse_dirent.off, cookie, true);
    this.#view.setUint32(at + fuse_dirent.off + 4, Math.floor(cookie / 0x100000000), true);
    this.#view.setUint32(at + fuse_dirent.namelen, name.length, true);
    this.#view.setUint32(at + fuse_dirent.type, (mode >>> 12) & 0xf, true);
    this.#bytes.write(name, at + fuse_dirent.SIZE, 'latin1');
    // The padding must not show bytes of an earlier reply.
    this.#bytes.fill(0, at + fuse_dirent.SIZE + name.length, start + recordSize);
    this.#length = start + recordSize;
    return true;
  }

  /** The encoded entries: a view, valid until the next reset. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** The inodes that a lookup was counted for. */
  get looked(): readonly NodeId[] {
    return this.#looked;
  }
}
