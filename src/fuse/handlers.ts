/**
 * The handler of each opcode: which fields of the request become which arguments of FuseOperations, and how the answer
 * is encoded. It holds no state; the session that calls it does (doc/architecture.md, "A read").
 */

import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import {
  ENOSYS,
  ENOTTY,
  EOPNOTSUPP,
  ERANGE,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FS_IOC_FSGETXATTR,
  FS_IOC_FSSETXATTR,
  FS_IOC_GETFLAGS,
  FS_IOC_SETFLAGS,
  FUSE_COMPAT_SETXATTR_IN_SIZE,
  FUSE_FSYNC_FDATASYNC,
  FUSE_SETXATTR_ACL_KILL_SGID,
  FUSE_WRITE_KILL_SUIDGID,
  fsxattr,
  fuse_batch_forget_in,
  fuse_copy_file_range_in,
  fuse_create_in,
  fuse_fallocate_in,
  fuse_forget_in,
  fuse_forget_one,
  fuse_fsync_in,
  fuse_getxattr_in,
  fuse_interrupt_in,
  fuse_ioctl_in,
  fuse_link_in,
  fuse_lseek_in,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_open_in,
  fuse_read_in,
  fuse_release_in,
  fuse_rename_in,
  fuse_rename2_in,
  fuse_setattr_in,
  fuse_setxattr_in,
  fuse_write_in,
  inodeFlagPairs,
  O_NOATIME,
} from './abi.js';
import type { DirentBuffer } from './dirent-buffer.js';
import type { Negotiated } from './negotiation.js';
import { type OpcodeName, opcode } from './opcode.js';
import type { AttributeReply, Entry, FilesystemStatistics, FuseOperations, NodeId, OpenReply, SetAttributes } from './operations.js';
import type { ReplyWriter } from './reply-writer.js';
import type { KernelRequestContext } from './request-context.js';
import type { RequestReader } from './request-reader.js';

/** The session as its handlers see it. */
export interface Exchange {
  readonly operations: FuseOperations;
  readonly negotiated: Negotiated;
  /**
   * Replies once the value is there: `encode` appends it to the reply. If the value rejects or `encode` throws, the
   * reply is that error.
   */
  answer<T>(context: KernelRequestContext, value: MaybePromise<T>, encode: (reply: ReplyWriter, value: T) => void): void;
  /** The same for answers that count a lookup, which is undone if the kernel does not take the answer. */
  answerEntry(context: KernelRequestContext, value: MaybePromise<Entry>): void;
  answerCreated(context: KernelRequestContext, value: MaybePromise<{ entry: Entry; open: OpenReply } | undefined>): void;
  answerListing(context: KernelRequestContext, listing: DirentBuffer, value: MaybePromise<void>): void;
  fail(context: KernelRequestContext, errno: number): void;
  direntBuffer(size: number, plus: boolean): DirentBuffer;
  /** The caller of the request `unique` got a signal; `context` is that of the notice itself. */
  interrupt(context: KernelRequestContext, unique: number): void;
}

/** Thrown by an encoder to answer with exactly this errno. */
export class ErrnoReply extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

type Handler = (exchange: Exchange, request: RequestReader, context: KernelRequestContext, nodeId: NodeId) => void;

const encodeNothing = (): void => {};
const encodeAttr = (reply: ReplyWriter, value: AttributeReply): void => reply.attr(value);
const encodeStatx = (reply: ReplyWriter, value: AttributeReply): void => reply.statx(value);
const encodeText = (reply: ReplyWriter, value: string): void => reply.text(value);
const encodeData = (reply: ReplyWriter, value: Uint8Array | readonly Uint8Array[]): void => reply.data(value);
const encodeStatfs = (reply: ReplyWriter, value: FilesystemStatistics): void => reply.statfs(value);
const encodeOffset = (reply: ReplyWriter, value: number): void => reply.offset(value);
const encodeWritten = (reply: ReplyWriter, value: number): void => reply.written(value);
const encodeCopied = (reply: ReplyWriter, value: number): void => reply.copied(value);

/** In this mode READ and WRITE have no handle; this reply is for a kernel that must have one. */
const openWithoutHandle: OpenReply = { handle: 0, keepCache: true };

function decodeSetattr(request: RequestReader): SetAttributes {
  const valid = request.u32(fuse_setattr_in.valid);
  const time = (sec: number, nsec: number): { sec: number; nsec: number } => ({ sec: request.i64(sec), nsec: request.u32(nsec) });
  const { atime, atimensec, mtime, mtimensec, ctime, ctimensec } = fuse_setattr_in;
  return {
    ...(valid & FATTR_MODE && { mode: request.u32(fuse_setattr_in.mode) }),
    ...(valid & FATTR_UID && { uid: request.u32(fuse_setattr_in.uid) }),
    ...(valid & FATTR_GID && { gid: request.u32(fuse_setattr_in.gid) }),
    ...(valid & FATTR_SIZE && { size: request.u64(fuse_setattr_in.size) }),
    ...(valid & FATTR_ATIME && { atime: valid & FATTR_ATIME_NOW ? 'now' : time(atime, atimensec) }),
    ...(valid & FATTR_MTIME && { mtime: valid & FATTR_MTIME_NOW ? 'now' : time(mtime, mtimensec) }),
    ...(valid & FATTR_CTIME && { ctime: time(ctime, ctimensec) }),
    ...(valid & FATTR_KILL_SUIDGID && { killSuidgid: true }),
  };
}

/** For extended attributes: size 0 asks for the length, otherwise the value must fit. */
function answerXattr(exchange: Exchange, context: KernelRequestContext, size: number, value: MaybePromise<Uint8Array>): void {
  exchange.answer(context, value, (reply, bytes) => {
    if (size === 0) reply.xattrSize(bytes.byteLength);
    else if (bytes.byteLength > size) throw new ErrnoReply(ERANGE);
    else reply.data(bytes);
  });
}

function readDirectory(exchange: Exchange, request: RequestReader, context: KernelRequestContext, nodeId: NodeId, plus: boolean): void {
  const listing = exchange.direntBuffer(request.u32(fuse_read_in.size), plus);
  const handle = request.u64(fuse_read_in.fh);
  const cookie = request.u64(fuse_read_in.offset);
  exchange.answerListing(context, listing, exchange.operations.readdir(context, nodeId, handle, cookie, listing, plus));
}

function rename(exchange: Exchange, request: RequestReader, context: KernelRequestContext, nodeId: NodeId, namesAt: number, flags: number): void {
  const newParent = request.u64(fuse_rename_in.newdir) as NodeId;
  const newNameAt = request.afterName(namesAt);
  exchange.answer(
    context,
    exchange.operations.rename(context, nodeId, request.name(namesAt), newParent, request.name(newNameAt), flags),
    encodeNothing,
  );
}

function copyFileRange(exchange: Exchange, request: RequestReader, context: KernelRequestContext, nodeId: NodeId): MaybePromise<number> {
  const { off_in, nodeid_out, off_out, len } = fuse_copy_file_range_in;
  const target = request.u64(nodeid_out) as NodeId;
  return exchange.operations.copyFileRange(context, nodeId, request.u64(off_in), target, request.u64(off_out), request.u64(len));
}

const dataOnly = (request: RequestReader): boolean => (request.u32(fuse_fsync_in.fsync_flags) & FUSE_FSYNC_FDATASYNC) !== 0;

/** The mode field of an operation that makes an inode. Its umask is put into the context. */
function modeOf(exchange: Exchange, request: RequestReader, context: KernelRequestContext, modeAt: number, umaskAt: number): number {
  if (exchange.negotiated.dontMask) context.umask = request.u32(umaskAt) & 0o777;
  return request.u32(modeAt);
}

/** Translates FS_XFLAG_* bits to FS_*_FL bits. A bit without a counterpart is refused rather than lost. */
function flagsOfXflags(xflags: number): number {
  let flags = 0;
  let rest = xflags;
  for (const [flag, xflag] of inodeFlagPairs) {
    if ((xflags & xflag) !== 0) flags |= flag;
    rest &= ~xflag;
  }
  if (rest !== 0) throw new ErrnoReply(EOPNOTSUPP);
  return flags;
}

function xflagsOfFlags(flags: number): number {
  let xflags = 0;
  for (const [flag, xflag] of inodeFlagPairs) if ((flags & flag) !== 0) xflags |= xflag;
  return xflags;
}

/** For chattr(1) and lsattr(1), the only ioctls that mean something here. */
function inodeFlags(exchange: Exchange, request: RequestReader, context: KernelRequestContext, nodeId: NodeId): void {
  const { operations } = exchange;
  const command = request.u32(fuse_ioctl_in.cmd);
  const [inSize, outSize] = [request.u32(fuse_ioctl_in.in_size), request.u32(fuse_ioctl_in.out_size)];
  const isOld = command === FS_IOC_GETFLAGS || command === FS_IOC_SETFLAGS;
  const size = isOld ? 4 : fsxattr.SIZE;
  if (command === FS_IOC_GETFLAGS || command === FS_IOC_FSGETXATTR) {
    if (operations.getflags === undefined || outSize < size) return exchange.fail(context, ENOTTY);
    return exchange.answer(context, operations.getflags(context, nodeId), (reply, flags) =>
      reply.ioctl([isOld ? flags : xflagsOfFlags(flags)], Math.min(outSize, fsxattr.SIZE)),
    );
  }
  if (command === FS_IOC_SETFLAGS || command === FS_IOC_FSSETXATTR) {
    if (operations.setflags === undefined || inSize < size) return exchange.fail(context, ENOTTY);
    const given = request.u32(fuse_ioctl_in.SIZE + (isOld ? 0 : fsxattr.fsx_xflags));
    if (!isOld && request.u32(fuse_ioctl_in.SIZE + fsxattr.fsx_projid) !== 0) return exchange.fail(context, EOPNOTSUPP);
    const set = operations.setflags(context, nodeId, isOld ? given : flagsOfXflags(given));
    return exchange.answer(context, set, (reply) => reply.ioctl([], 0));
  }
  return exchange.fail(context, ENOTTY);
}

const table: { readonly [Name in OpcodeName]?: Handler } = {
  LOOKUP: (exchange, request, context, nodeId) => exchange.answerEntry(context, exchange.operations.lookup(context, nodeId, request.name(0))),
  FORGET: (exchange, request, _context, nodeId) => exchange.operations.forget(nodeId, request.u64(fuse_forget_in.nlookup)),
  BATCH_FORGET: (exchange, request) => {
    const count = request.u32(fuse_batch_forget_in.count);
    for (let index = 0; index < count; index++) {
      const at = fuse_batch_forget_in.SIZE + index * fuse_forget_one.SIZE;
      exchange.operations.forget(request.u64(at + fuse_forget_one.nodeid) as NodeId, request.u64(at + fuse_forget_one.nlookup));
    }
  },
  GETATTR: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.getattr(context, nodeId), encodeAttr),
  STATX: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.getattr(context, nodeId), encodeStatx),
  SETATTR: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.setattr(context, nodeId, decodeSetattr(request)), encodeAttr),
  READLINK: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.readlink(context, nodeId), encodeText),
  SYMLINK: (exchange, request, context, nodeId) =>
    exchange.answerEntry(context, exchange.operations.symlink(context, nodeId, request.name(0), request.name(request.afterName(0)))),
  MKNOD: (exchange, request, context, nodeId) => {
    const mode = modeOf(exchange, request, context, fuse_mknod_in.mode, fuse_mknod_in.umask);
    const name = request.name(fuse_mknod_in.SIZE);
    exchange.answerEntry(context, exchange.operations.mknod(context, nodeId, name, mode, request.u32(fuse_mknod_in.rdev)));
  },
  MKDIR: (exchange, request, context, nodeId) => {
    const mode = modeOf(exchange, request, context, fuse_mkdir_in.mode, fuse_mkdir_in.umask);
    exchange.answerEntry(context, exchange.operations.mkdir(context, nodeId, request.name(fuse_mkdir_in.SIZE), mode));
  },
  UNLINK: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.unlink(context, nodeId, request.name(0)), encodeNothing),
  RMDIR: (exchange, request, context, nodeId) => exchange.answer(context, exchange.operations.rmdir(context, nodeId, request.name(0)), encodeNothing),
  RENAME: (exchange, request, context, nodeId) => rename(exchange, request, context, nodeId, fuse_rename_in.SIZE, 0),
  RENAME2: (exchange, request, context, nodeId) =>
    rename(exchange, request, context, nodeId, fuse_rename2_in.SIZE, request.u32(fuse_rename2_in.flags)),
  LINK: (exchange, request, context, nodeId) => {
    const source = request.u64(fuse_link_in.oldnodeid) as NodeId;
    exchange.answerEntry(context, exchange.operations.link(context, source, nodeId, request.name(fuse_link_in.SIZE)));
  },
  OPEN: (exchange, request, context, nodeId) => {
    exchange.answer(context, exchange.operations.open(context, nodeId, request.u32(fuse_open_in.flags)), (reply, value) => {
      if (value === undefined && exchange.negotiated.noOpenSupport) throw new ErrnoReply(ENOSYS);
      reply.open(value ?? openWithoutHandle);
    });
  },
  CREATE: (exchange, request, context, nodeId) => {
    const mode = modeOf(exchange, request, context, fuse_create_in.mode, fuse_create_in.umask);
    const flags = request.u32(fuse_create_in.flags);
    exchange.answerCreated(context, exchange.operations.create(context, nodeId, request.name(fuse_create_in.SIZE), mode, flags));
  },
  TMPFILE: (exchange, request, context, nodeId) => {
    const mode = modeOf(exchange, request, context, fuse_create_in.mode, fuse_create_in.umask);
    exchange.answerCreated(context, exchange.operations.tmpfile(context, nodeId, mode, request.u32(fuse_create_in.flags)));
  },
  READ: (exchange, request, context, nodeId) => {
    const keepsAccessTime = (request.u32(fuse_read_in.flags) & O_NOATIME) !== 0;
    const read = exchange.operations.read(context, nodeId, request.u64(fuse_read_in.offset), request.u32(fuse_read_in.size), keepsAccessTime);
    exchange.answer(context, read, encodeData);
  },
  WRITE: (exchange, request, context, nodeId) => {
    const size = request.u32(fuse_write_in.size);
    const kill = (request.u32(fuse_write_in.write_flags) & FUSE_WRITE_KILL_SUIDGID) !== 0;
    const data = request.bytes(fuse_write_in.SIZE, size);
    const done = exchange.operations.write(context, nodeId, request.u64(fuse_write_in.offset), data, kill);
    exchange.answer(
      context,
      andThen(done, () => size),
      encodeWritten,
    );
  },
  STATFS: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.statfs(context, nodeId), encodeStatfs),
  FLUSH: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.flush(context, nodeId), encodeNothing),
  FSYNC: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.fsync(context, nodeId, dataOnly(request)), encodeNothing),
  RELEASE: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.release(context, nodeId, request.u64(fuse_release_in.fh)), encodeNothing),
  OPENDIR: (exchange, _request, context, nodeId) => {
    exchange.answer(context, exchange.operations.opendir(context, nodeId), (reply, value) => {
      if (value === undefined && exchange.negotiated.noOpendirSupport) throw new ErrnoReply(ENOSYS);
      reply.open(value ?? openWithoutHandle);
    });
  },
  READDIR: (exchange, request, context, nodeId) => readDirectory(exchange, request, context, nodeId, false),
  READDIRPLUS: (exchange, request, context, nodeId) => readDirectory(exchange, request, context, nodeId, true),
  RELEASEDIR: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.releasedir(context, nodeId, request.u64(fuse_release_in.fh)), encodeNothing),
  FSYNCDIR: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.fsyncdir(context, nodeId, dataOnly(request)), encodeNothing),
  GETXATTR: (exchange, request, context, nodeId) => {
    const value = exchange.operations.getxattr(context, nodeId, request.name(fuse_getxattr_in.SIZE));
    answerXattr(exchange, context, request.u32(fuse_getxattr_in.size), value);
  },
  SETXATTR: (exchange, request, context, nodeId) => {
    const extended = exchange.negotiated.setxattrExt;
    const nameAt = extended ? fuse_setxattr_in.SIZE : FUSE_COMPAT_SETXATTR_IN_SIZE;
    const killSgid = extended && (request.u32(fuse_setxattr_in.setxattr_flags) & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
    const value = request.bytes(request.afterName(nameAt), request.u32(fuse_setxattr_in.size));
    const flags = request.u32(fuse_setxattr_in.flags);
    exchange.answer(context, exchange.operations.setxattr(context, nodeId, request.name(nameAt), value, flags, killSgid), encodeNothing);
  },
  LISTXATTR: (exchange, request, context, nodeId) => {
    const size = request.u32(fuse_getxattr_in.size);
    const names = exchange.operations.listxattr(context, nodeId);
    const terminated = andThen(names, (list): Uint8Array => Buffer.from(list.map((name) => `${name}\0`).join(''), 'latin1'));
    answerXattr(exchange, context, size, terminated);
  },
  REMOVEXATTR: (exchange, request, context, nodeId) =>
    exchange.answer(context, exchange.operations.removexattr(context, nodeId, request.name(0)), encodeNothing),
  FALLOCATE: (exchange, request, context, nodeId) => {
    const { offset, length, mode } = fuse_fallocate_in;
    const done = exchange.operations.fallocate(context, nodeId, request.u64(offset), request.u64(length), request.u32(mode));
    exchange.answer(context, done, encodeNothing);
  },
  LSEEK: (exchange, request, context, nodeId) => {
    const found = exchange.operations.lseek(context, nodeId, request.u64(fuse_lseek_in.offset), request.u32(fuse_lseek_in.whence));
    exchange.answer(context, found, encodeOffset);
  },
  COPY_FILE_RANGE: (exchange, request, context, nodeId) => exchange.answer(context, copyFileRange(exchange, request, context, nodeId), encodeWritten),
  COPY_FILE_RANGE_64: (exchange, request, context, nodeId) =>
    exchange.answer(context, copyFileRange(exchange, request, context, nodeId), encodeCopied),
  SYNCFS: (exchange, _request, context, nodeId) => exchange.answer(context, exchange.operations.syncfs(context, nodeId), encodeNothing),
  INTERRUPT: (exchange, request, context) => exchange.interrupt(context, request.u64(fuse_interrupt_in.unique)),
  IOCTL: inodeFlags,
  DESTROY: (exchange, _request, context) => exchange.answer(context, undefined, encodeNothing),
};

/** Indexed by opcode. Opcodes without a handler are answered with ENOSYS, and the kernel does not ask again. */
export const handlers: readonly (Handler | undefined)[] = (() => {
  const byCode: Handler[] = [];
  for (const [name, handler] of Object.entries(table)) byCode[opcode[name as OpcodeName]] = handler;
  return byCode;
})();

/** Requests without any reply. */
export const unanswered: ReadonlySet<number> = new Set([opcode.FORGET, opcode.BATCH_FORGET, opcode.INTERRUPT, opcode.NOTIFY_REPLY]);
