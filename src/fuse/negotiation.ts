/** INIT: the kernel's offer, our choice from it, and the connection that results (doc/architecture.md, "A read"). */
import {
  FUSE_ASYNC_READ,
  FUSE_BIG_WRITES,
  FUSE_CACHE_SYMLINKS,
  FUSE_DO_READDIRPLUS,
  FUSE_DONT_MASK,
  FUSE_EXPLICIT_INVAL_DATA,
  FUSE_EXPORT_SUPPORT,
  FUSE_HANDLE_KILLPRIV_V2,
  FUSE_HAS_EXPIRE_ONLY,
  FUSE_INIT_EXT,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_MINOR_VERSION_MIN,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  FUSE_NO_OPEN_SUPPORT,
  FUSE_NO_OPENDIR_SUPPORT,
  FUSE_NOTIFY_PRUNE_SINCE,
  FUSE_PARALLEL_DIROPS,
  FUSE_POSIX_ACL,
  FUSE_READDIRPLUS_AUTO,
  FUSE_SETXATTR_EXT,
  FUSE_WRITEBACK_CACHE,
  fuse_init_in,
  PAGE_SIZE,
} from './abi.js';
import { FuseError } from './fuse-error.js';
import type { ConnectionInfo } from './operations.js';
import type { InitReply } from './reply-writer.js';
import type { RequestReader } from './request-reader.js';

/** Largest payload of one READ or WRITE: the most that the kernel allows by default (256 pages). */
export const payloadMax = 1 << 20;

/**
 * Not used: ATOMIC_O_TRUNC (there is no open to carry it), POSIX_LOCKS and FLOCK_LOCKS (the kernel keeps locks local),
 * ASYNC_DIO (its readers wait where no signal reaches them), AUTO_INVAL_DATA (we invalidate explicitly), SPLICE_*
 * (JavaScript cannot use pipes), ABORT_ERROR (ENODEV says it).
 */
const wantedAlways =
  FUSE_ASYNC_READ |
  FUSE_BIG_WRITES |
  FUSE_MAX_PAGES |
  FUSE_PARALLEL_DIROPS |
  FUSE_EXPORT_SUPPORT |
  FUSE_DO_READDIRPLUS |
  FUSE_READDIRPLUS_AUTO |
  FUSE_CACHE_SYMLINKS |
  FUSE_NO_OPEN_SUPPORT |
  FUSE_NO_OPENDIR_SUPPORT |
  FUSE_EXPLICIT_INVAL_DATA |
  FUSE_HANDLE_KILLPRIV_V2 |
  FUSE_SETXATTR_EXT |
  FUSE_INIT_EXT |
  FUSE_HAS_EXPIRE_ONLY;

export interface Negotiated {
  readonly connection: ConnectionInfo;
  readonly reply: InitReply;
  /** The daemon applies the umask: see {@link RequestContext.umask}. */
  readonly dontMask: boolean;
  /** The kernel stops asking after one OPEN that was answered with ENOSYS. */
  readonly noOpenSupport: boolean;
  /** The same for OPENDIR; the kernel then caches listings. */
  readonly noOpendirSupport: boolean;
  /** SETXATTR carries the long form of its struct. */
  readonly setxattrExt: boolean;
}

export interface Wishes {
  readonly defaultPermissions: boolean;
  readonly writebackCache: boolean;
  readonly seesReadlinks?: boolean;
}

/**
 * The major version that the kernel offers. One that is newer than ours is answered with ours, and INIT comes again.
 */
export function majorOffered(request: RequestReader): number {
  return request.u32(fuse_init_in.major);
}

/** Throws FuseError `PROTOCOL` for a kernel that is too old. */
export function negotiate(request: RequestReader, wishes: Wishes): Negotiated {
  const minorOffered = request.u32(fuse_init_in.minor);
  if (majorOffered(request) < FUSE_KERNEL_VERSION || minorOffered < FUSE_KERNEL_MINOR_VERSION_MIN) {
    throw new FuseError(
      'PROTOCOL',
      `the kernel speaks FUSE ${majorOffered(request)}.${minorOffered}, at least 7.${FUSE_KERNEL_MINOR_VERSION_MIN} is needed`,
    );
  }
  const minor = Math.min(minorOffered, FUSE_KERNEL_MINOR_VERSION);
  let offered = BigInt(request.u32(fuse_init_in.flags));
  if ((offered & FUSE_INIT_EXT) !== 0n && request.payloadLength >= fuse_init_in.SIZE) offered |= BigInt(request.u32(fuse_init_in.flags2)) << 32n;
  let wanted = wantedAlways;
  if (wishes.writebackCache) wanted |= FUSE_WRITEBACK_CACHE;
  // ACLs are of use only where the kernel checks them. A default ACL takes the place of the umask, which must therefore
  // reach us.
  if (wishes.defaultPermissions) wanted |= FUSE_POSIX_ACL | FUSE_DONT_MASK;
  if (wishes.seesReadlinks === true) wanted &= ~FUSE_CACHE_SYMLINKS;
  const flags = offered & wanted;
  const has = (flag: bigint): boolean => (flags & flag) !== 0n;
  const maxWrite = has(FUSE_MAX_PAGES) ? payloadMax : 32 * PAGE_SIZE;
  return {
    connection: {
      major: FUSE_KERNEL_VERSION,
      minor,
      maxWrite,
      writebackCache: has(FUSE_WRITEBACK_CACHE),
      readdirplus: has(FUSE_DO_READDIRPLUS),
      prune: minor >= FUSE_NOTIFY_PRUNE_SINCE,
    },
    reply: {
      minor,
      maxReadahead: request.u32(fuse_init_in.max_readahead),
      flags,
      maxBackground: 128,
      congestionThreshold: 96,
      maxWrite,
      maxPages: maxWrite / PAGE_SIZE,
    },
    dontMask: has(FUSE_DONT_MASK),
    noOpenSupport: has(FUSE_NO_OPEN_SUPPORT),
    noOpendirSupport: has(FUSE_NO_OPENDIR_SUPPORT),
    setxattrExt: has(FUSE_SETXATTR_EXT),
  };
}
