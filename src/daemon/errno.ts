/**
 * Translates every thrown error to the number that the kernel gets; nothing else makes such a number (doc/semantics.md,
 * "Errors"). A failed check of integrity is EIO, never ENOENT.
 */
import { constants } from 'node:os';
import { AssertionError, unreachable } from '../base/assert.js';
import { describeError } from '../base/errors.js';
import { type Logger } from '../base/logger.js';
import { FuseError } from '../fuse/fuse-error.js';
import type { ErrnoOf } from '../fuse/operations.js';
import { OperationError, type OperationErrorCode } from '../operation/operation.js';
import { VfsError, type VfsErrorCode } from '../vfs/vfs-error.js';
import { exhaustionOf } from '../volume/remedy.js';
import { VolumeError, type VolumeErrorCode } from '../volume/volume-error.js';

const { errno } = constants;

function errnoNamed(code: VfsErrorCode | OperationErrorCode): number {
  switch (code) {
    case 'E2BIG':
      return errno.E2BIG;
    case 'EACCES':
      return errno.EACCES;
    case 'EBADF':
      return errno.EBADF;
    case 'EEXIST':
      return errno.EEXIST;
    case 'EFBIG':
      return errno.EFBIG;
    case 'EINTR':
      return errno.EINTR;
    case 'EINVAL':
      return errno.EINVAL;
    case 'EISDIR':
      return errno.EISDIR;
    case 'EMLINK':
      return errno.EMLINK;
    case 'ENAMETOOLONG':
      return errno.ENAMETOOLONG;
    case 'ENODATA':
      return errno.ENODATA;
    case 'ENOENT':
      return errno.ENOENT;
    case 'ENOSPC':
      return errno.ENOSPC;
    case 'ENOTDIR':
      return errno.ENOTDIR;
    case 'ENOTEMPTY':
      return errno.ENOTEMPTY;
    case 'ENXIO':
      return errno.ENXIO;
    case 'EOPNOTSUPP':
      return errno.EOPNOTSUPP;
    case 'EPERM':
      return errno.EPERM;
    case 'EROFS':
      return errno.EROFS;
    case 'EXDEV':
      return errno.EXDEV;
    case 'ESTALE':
      return errno.ESTALE;
    default:
      return unreachable(code);
  }
}

function errnoOfVolume(code: VolumeErrorCode): number {
  switch (code) {
    case 'UNAVAILABLE':
      return errno.ETIMEDOUT;
    case 'REFUSED':
    case 'FENCED':
    case 'CORRUPT':
    case 'DISK':
      return errno.EIO;
    case 'FULL':
      return errno.ENOSPC;
    case 'READ_ONLY':
      return errno.EROFS;
    case 'CLOSED':
      // The kernel itself says this of a filesystem whose daemon is gone.
      return errno.ENOTCONN;
    case 'INTERRUPTED':
      return errno.EINTR;
    case 'NO_DESCRIPTORS':
      return errno.ENFILE;
    case 'NO_MEMORY':
      return errno.ENOMEM;
    default:
      return unreachable(code);
  }
}

/**
 * Knows an errno for everything: an unknown error is EIO, and logged once for each kind, since a flood of requests can
 * meet the same one.
 */
export function createErrnoOf(logger: Logger): ErrnoOf {
  const logged = new Set<string>();
  const note = (kind: string, error: unknown): number => {
    if (logged.has(kind) || logged.size >= 100) return errno.EIO;
    logged.add(kind);
    const stack = error instanceof Error && !(error instanceof VolumeError) ? error.stack?.split('\n').slice(1, 4).join(' ') : undefined;
    logger.error('a request failed', { kind, reason: describeError(error), at: stack });
    return errno.EIO;
  };
  return (error) => {
    try {
      if (error instanceof OperationError || error instanceof VfsError) return errnoNamed(error.code);
      if (error instanceof VolumeError) {
        const number = errnoOfVolume(error.code);
        return number === errno.EIO ? note(`VolumeError ${error.code}`, error) : number;
      }
      // The reason of a request's signal: the caller gave up, and the operation passed the reason on.
      if (error instanceof FuseError && error.code === 'INTERRUPTED') return errno.EINTR;
      if (error instanceof Error && error.name === 'AbortError') return errno.EINTR;
      const exhausted = exhaustionOf(error);
      if (exhausted !== undefined) return errnoOfVolume(exhausted);
      return note(error instanceof Error ? error.name : typeof error, error);
    } catch (failure) {
      // The types exclude this code; a cast must have made the error.
      return note(failure instanceof AssertionError ? 'unknown code' : 'unknown', error);
    }
  };
}
