/**
 * The inode record: the value of an `I` key (doc/format.md, "Tree keys"). It is immutable: a change makes a new object.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | mode | u16, S_IFMT and permission bits |
 * | nlink uid gid rdev flags size allocated generation parent | varint each |
 * | atime mtime ctime btime | seconds: zigzag varint; nanoseconds: u32 |
 * | stamp | writer varint (device index), counter varint |
 * | inline | varint length + bytes: content of a small file, or a link's target |
 */
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { type Ino, readInoOrZero } from './key.js';

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;
export const S_IFSOCK = 0o140000;
export const S_IFIFO = 0o010000;

const fileTypes: ReadonlySet<number> = new Set([S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, S_IFSOCK]);

/** Whether these S_IFMT bits are those of a kind of file. */
export const isFileType = (bits: number): boolean => fileTypes.has(bits);

/** Kernels have these numbers in 32 bits. */
const u32Max = 2 ** 32 - 1;

/** A regular file of at most this many bytes has its content in the inode. A link always has (at most 4,095 bytes). */
export const inlineMax = 2048;
const linkTargetMax = 4095;

/** The FS_IOC_GETFLAGS bits that are stored. */
export const FS_IMMUTABLE_FL = 0x10;
export const FS_APPEND_FL = 0x20;
export const FS_NOATIME_FL = 0x80;

/**
 * The last writer of the content. Two devices that changed one file gave it different stamps, which reveals the
 * conflict.
 */
export interface ContentStamp {
  readonly deviceIndex: number;
  readonly counter: number;
}

export interface Inode {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly flags: number;
  /** Bytes; a directory's is 0. */
  readonly size: number;
  /** Bytes of content that take space: data and reserved extents, and inline content, but no holes. */
  readonly allocated: number;
  readonly generation: number;
  /**
   * The directory that it was last created in, linked into or moved to. Exact for a directory (the root's is the root;
   * a removed one keeps its last), and a hint for others, since that name may be gone while another one exists. 0: it
   * never had a name.
   */
  readonly parent: Ino | 0;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  readonly btime: Timespec;
  readonly stamp: ContentStamp;
  /** A link's target, or the whole content of a small file: it has no extents, and the rest up to `size` is a hole. */
  readonly inline: Plaintext;
}

export const isDirectory = (inode: Inode): boolean => (inode.mode & S_IFMT) === S_IFDIR;
export const isRegular = (inode: Inode): boolean => (inode.mode & S_IFMT) === S_IFREG;
export const isSymlink = (inode: Inode): boolean => (inode.mode & S_IFMT) === S_IFLNK;

/**
 * The latest second of a time, and without its sign the earliest: 142 million years, which is what a zigzag varint can
 * hold.
 */
const timeSecMax = 2 ** 52 - 1;

/** The nearest time in range, as the kernel does for local disks. */
export function clampTime(time: Timespec): Timespec {
  if (Math.abs(time.sec) <= timeSecMax) return time;
  return { sec: time.sec > 0 ? timeSecMax : -timeSecMax, nsec: 0 };
}

/** Seconds as a zigzag varint, nanoseconds as u32: the form of all times in the tree and the journal. */
export function writeTime(writer: ByteWriter, time: Timespec): void {
  writer.varint(time.sec >= 0 ? time.sec * 2 : -time.sec * 2 - 1).u32(time.nsec);
}

/** The inverse of {@link writeTime}; strict. */
export function readTime(reader: ByteReader): Timespec {
  const zigzag = reader.varint();
  const nsec = reader.u32();
  if (nsec > 999_999_999) throw new MalformedBytesError('nanoseconds out of range');
  return { sec: zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2, nsec };
}

const scratch = new ByteWriter(4096);

export function encodeInode(inode: Inode): Plaintext {
  scratch.reset();
  scratch.u8(1).u16(inode.mode).varint(inode.nlink).varint(inode.uid).varint(inode.gid).varint(inode.rdev).varint(inode.flags);
  scratch.varint(inode.size).varint(inode.allocated).varint(inode.generation).varint(inode.parent);
  writeTime(scratch, inode.atime);
  writeTime(scratch, inode.mtime);
  writeTime(scratch, inode.ctime);
  writeTime(scratch, inode.btime);
  scratch.varint(inode.stamp.deviceIndex).varint(inode.stamp.counter).varint(inode.inline.byteLength).bytes(inode.inline);
  return scratch.copy() as Plaintext;
}

/** Strict; throws MalformedBytesError. `inline` shares memory with `bytes`. */
export function decodeInode(bytes: Uint8Array): Inode {
  const reader = new ByteReader(bytes);
  if (reader.u8() !== 1) throw new MalformedBytesError('inode of an unknown version');
  const mode = reader.u16();
  const nlink = reader.varint();
  const uid = reader.varint();
  const gid = reader.varint();
  const rdev = reader.varint();
  const flags = reader.varint();
  const size = reader.varint();
  const allocated = reader.varint();
  const generation = reader.varint();
  const parent = readInoOrZero(reader);
  const atime = readTime(reader);
  const mtime = readTime(reader);
  const ctime = readTime(reader);
  const btime = readTime(reader);
  const stamp = { deviceIndex: reader.varint(), counter: reader.varint() };
  const inlineLength = reader.varint();
  if (!isFileType(mode & S_IFMT)) throw new MalformedBytesError('inode of an impossible type');
  if (Math.max(nlink, uid, gid, rdev) > u32Max) throw new MalformedBytesError('a number of an inode is out of range');
  const isLink = (mode & S_IFMT) === S_IFLNK;
  if (inlineLength > (isLink ? linkTargetMax : inlineMax)) throw new MalformedBytesError('inline content is too long');
  const inline = reader.bytes(inlineLength) as Plaintext;
  reader.end();
  return { mode, nlink, uid, gid, rdev, flags, size, allocated, generation, parent, atime, mtime, ctime, btime, stamp, inline };
}
