/**
 * Encodes one reply into a buffer that is reused for the next one: fuse_out_header, then a struct by the offsets of
 * `abi.ts`, then, for data, pieces that are not copied. It must be sent before anything else is encoded.
 */

import type { ByteString } from '../base/brand.js';
import type { Timespec } from '../base/clock.js';
import {
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  fuse_attr,
  fuse_attr_out,
  fuse_copy_file_range_out,
  fuse_entry_out,
  fuse_getxattr_out,
  fuse_init_out,
  fuse_ioctl_out,
  fuse_kstatfs,
  fuse_lseek_out,
  fuse_open_out,
  fuse_out_header,
  fuse_statx,
  fuse_statx_out,
  fuse_sx_time,
  fuse_write_out,
  STATX_BASIC_STATS,
  STATX_BTIME,
} from './abi.js';
import type { AttributeReply, Attributes, Entry, FilesystemStatistics, OpenReply } from './operations.js';

const headerSize = fuse_out_header.SIZE;
const twoTo32 = 0x100000000;

/** Enough for every struct and for the longest link target (PATH_MAX); data goes as pieces. */
export const replyBufferSize = 8192;

/** The kernel's writev takes this many vectors, one of which is the header. */
const piecesMax = 1023;

/** A signed or unsigned 64-bit field from an integer of at most 53 bits. */
function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true);
  view.setUint32(at + 4, Math.floor(value / twoTo32), true);
}

const secondsOf = (ms: number): number => Math.floor(ms / 1000);
const nanosecondsOf = (ms: number): number => Math.floor((ms % 1000) * 1e6);

function setAttr(view: DataView, at: number, attr: Attributes): void {
  setU64(view, at + fuse_attr.ino, attr.ino);
  setU64(view, at + fuse_attr.size, attr.size);
  setU64(view, at + fuse_attr.blocks, attr.blocks);
  setU64(view, at + fuse_attr.atime, attr.atime.sec);
  setU64(view, at + fuse_attr.mtime, attr.mtime.sec);
  setU64(view, at + fuse_attr.ctime, attr.ctime.sec);
  view.setUint32(at + fuse_attr.atimensec, attr.atime.nsec, true);
  view.setUint32(at + fuse_attr.mtimensec, attr.mtime.nsec, true);
  view.setUint32(at + fuse_attr.ctimensec, attr.ctime.nsec, true);
  view.setUint32(at + fuse_attr.mode, attr.mode, true);
  view.setUint32(at + fuse_attr.nlink, attr.nlink, true);
  view.setUint32(at + fuse_attr.uid, attr.uid, true);
  view.setUint32(at + fuse_attr.gid, attr.gid, true);
  view.setUint32(at + fuse_attr.rdev, attr.rdev, true);
  view.setUint32(at + fuse_attr.blksize, attr.blksize, true);
  view.setUint32(at + fuse_attr.flags, 0, true);
}

/** Writes a struct fuse_entry_out at `at`; `undefined` is one of zeros ("no lookup is counted"). */
export function setEntryOut(view: DataView, at: number, entry: Entry | undefined): void {
  if (entry === undefined || entry.attributes === undefined) {
    for (let offset = 0; offset < fuse_entry_out.SIZE; offset += 8) view.setFloat64(at + offset, 0);
    if (entry === undefined) return;
  } else {
    setAttr(view, at + fuse_entry_out.attr, entry.attributes);
  }
  setU64(view, at + fuse_entry_out.nodeid, entry.nodeId);
  setU64(view, at + fuse_entry_out.generation, entry.generation);
  setU64(view, at + fuse_entry_out.entry_valid, secondsOf(entry.entryValidMs));
  setU64(view, at + fuse_entry_out.attr_valid, secondsOf(entry.attrValidMs));
  view.setUint32(at + fuse_entry_out.entry_valid_nsec, nanosecondsOf(entry.entryValidMs), true);
  view.setUint32(at + fuse_entry_out.attr_valid_nsec, nanosecondsOf(entry.attrValidMs), true);
}

function setSxTime(view: DataView, at: number, time: Timespec): void {
  setU64(view, at + fuse_sx_time.tv_sec, time.sec);
  view.setUint32(at + fuse_sx_time.tv_nsec, time.nsec, true);
}

/** Major and minor of a device number in the kernel's 32-bit encoding (new_encode_dev). */
const majorOf = (rdev: number): number => (rdev & 0xfff00) >>> 8;
const minorOf = (rdev: number): number => (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);

export interface InitReply {
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: bigint;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWrite: number;
  readonly maxPages: number;
}

export class ReplyWriter {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #length = 0;
  #pieces: readonly Uint8Array[] | undefined;

  /** Owns the content of `bytes` (at least {@link replyBufferSize}) for its whole life. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The number of bytes in the buffer, with the header and without the pieces. */
  get length(): number {
    return this.#length;
  }

  /** The pieces that follow the buffer. */
  get pieces(): readonly Uint8Array[] | undefined {
    return this.#pieces;
  }

  /** Starts the reply to request `unique`. */
  begin(unique: number): void {
    this.#length = headerSize;
    this.#pieces = undefined;
    setU64(this.#view, fuse_out_header.unique, unique);
  }

  /** Fills in the header; the reply can be sent. `errno` is positive, 0 for success. */
  finish(errno: number): void {
    if (errno !== 0) {
      this.#length = headerSize;
      this.#pieces = undefined;
    }
    let total = this.#length;
    if (this.#pieces !== undefined) for (const piece of this.#pieces) total += piece.byteLength;
    this.#view.setUint32(fuse_out_header.len, total, true);
    this.#view.setInt32(fuse_out_header.error, -errno, true);
  }

  #advance(size: number): number {
    const at = this.#length;
    this.#length = at + size;
    return at;
  }

  entry(entry: Entry): void {
    setEntryOut(this.#view, this.#advance(fuse_entry_out.SIZE), entry);
  }

  attr(reply: AttributeReply): void {
    const at = this.#advance(fuse_attr_out.SIZE);
    setU64(this.#view, at + fuse_attr_out.attr_valid, secondsOf(reply.attrValidMs));
    // The upper half is padding.
    setU64(this.#view, at + fuse_attr_out.attr_valid_nsec, nanosecondsOf(reply.attrValidMs));
    setAttr(this.#view, at + fuse_attr_out.attr, reply.attributes);
  }

  statx(reply: AttributeReply): void {
    const at = this.#advance(fuse_statx_out.SIZE);
    const view = this.#view;
    const attr = reply.attributes;
    this.#bytes.fill(0, at, at + fuse_statx_out.SIZE);
    setU64(view, at + fuse_statx_out.attr_valid, secondsOf(reply.attrValidMs));
    view.setUint32(at + fuse_statx_out.attr_valid_nsec, nanosecondsOf(reply.attrValidMs), true);
    const stat = at + fuse_statx_out.stat;
    view.setUint32(stat + fuse_statx.mask, STATX_BASIC_STATS | STATX_BTIME, true);
    view.setUint32(stat + fuse_statx.blksize, attr.blksize, true);
    view.setUint32(stat + fuse_statx.nlink, attr.nlink, true);
    view.setUint32(stat + fuse_statx.uid, attr.uid, true);
    view.setUint32(stat + fuse_statx.gid, attr.gid, true);
    view.setUint16(stat + fuse_statx.mode, attr.mode, true);
    setU64(view, stat + fuse_statx.ino, attr.ino);
    setU64(view, stat + fuse_statx.size, attr.size);
    setU64(view, stat + fuse_statx.blocks, attr.blocks);
    setSxTime(view, stat + fuse_statx.atime, attr.atime);
    setSxTime(view, stat + fuse_statx.btime, attr.btime);
    setSxTime(view, stat + fuse_statx.ctime, attr.ctime);
    setSxTime(view, stat + fuse_statx.mtime, attr.mtime);
    view.setUint32(stat + fuse_statx.rdev_major, majorOf(attr.rdev), true);
    view.setUint32(stat + fuse_statx.rdev_minor, minorOf(attr.rdev), true);
  }

  open(reply: OpenReply): void {
    const at = this.#advance(fuse_open_out.SIZE);
    setU64(this.#view, at + fuse_open_out.fh, reply.handle);
    const flags =
      (reply.directIo ? FOPEN_DIRECT_IO : 0) |
      (reply.keepCache ? FOPEN_KEEP_CACHE : 0) |
      (reply.cacheDirectory ? FOPEN_CACHE_DIR : 0) |
      (reply.noFlush ? FOPEN_NOFLUSH : 0);
    // The upper half is padding (a backing id, since 7.40).
    setU64(this.#view, at + fuse_open_out.open_flags, flags);
  }

  written(size: number): void {
    setU64(this.#view, this.#advance(fuse_write_out.SIZE) + fuse_write_out.size, size);
  }

  copied(bytes: number): void {
    setU64(this.#view, this.#advance(fuse_copy_file_range_out.SIZE) + fuse_copy_file_range_out.bytes_copied, bytes);
  }

  offset(offset: number): void {
    setU64(this.#view, this.#advance(fuse_lseek_out.SIZE) + fuse_lseek_out.offset, offset);
  }

  /** A successful ioctl, with the 32-bit numbers for its caller, padded with zeros to `size` bytes. */
  ioctl(values: readonly number[], size: number): void {
    const at = this.#advance(fuse_ioctl_out.SIZE + size);
    this.#bytes.fill(0, at, at + fuse_ioctl_out.SIZE + size);
    for (const [index, value] of values.entries()) this.#view.setUint32(at + fuse_ioctl_out.SIZE + index * 4, value, true);
  }

  xattrSize(size: number): void {
    setU64(this.#view, this.#advance(fuse_getxattr_out.SIZE) + fuse_getxattr_out.size, size);
  }

  statfs(statistics: FilesystemStatistics): void {
    const at = this.#advance(fuse_kstatfs.SIZE);
    this.#bytes.fill(0, at, at + fuse_kstatfs.SIZE);
    setU64(this.#view, at + fuse_kstatfs.blocks, statistics.blocks);
    setU64(this.#view, at + fuse_kstatfs.bfree, statistics.bfree);
    setU64(this.#view, at + fuse_kstatfs.bavail, statistics.bavail);
    setU64(this.#view, at + fuse_kstatfs.files, statistics.files);
    setU64(this.#view, at + fuse_kstatfs.ffree, statistics.ffree);
    this.#view.setUint32(at + fuse_kstatfs.bsize, statistics.bsize, true);
    this.#view.setUint32(at + fuse_kstatfs.namelen, statistics.namelen, true);
    this.#view.setUint32(at + fuse_kstatfs.frsize, statistics.frsize, true);
  }

  init(reply: InitReply): void {
    const at = this.#advance(fuse_init_out.SIZE);
    const view = this.#view;
    this.#bytes.fill(0, at, at + fuse_init_out.SIZE);
    view.setUint32(at + fuse_init_out.major, 7, true);
    view.setUint32(at + fuse_init_out.minor, reply.minor, true);
    view.setUint32(at + fuse_init_out.max_readahead, reply.maxReadahead, true);
    view.setUint32(at + fuse_init_out.flags, Number(reply.flags & 0xffffffffn), true);
    view.setUint16(at + fuse_init_out.max_background, reply.maxBackground, true);
    view.setUint16(at + fuse_init_out.congestion_threshold, reply.congestionThreshold, true);
    view.setUint32(at + fuse_init_out.max_write, reply.maxWrite, true);
    view.setUint32(at + fuse_init_out.time_gran, 1, true);
    view.setUint16(at + fuse_init_out.max_pages, reply.maxPages, true);
    view.setUint32(at + fuse_init_out.flags2, Number(reply.flags >> 32n), true);
  }

  /** A short text of bytes, without a terminator: a link target. */
  text(text: ByteString): void {
    this.#bytes.write(text, this.#advance(text.length), 'latin1');
  }

  /** Data that is sent from where it is. Borrowed until the reply is sent. */
  data(data: Uint8Array | readonly Uint8Array[]): void {
    if (data instanceof Uint8Array) this.#pieces = [data];
    else this.#pieces = data.length <= piecesMax ? data : [Buffer.concat(data)];
  }
}
