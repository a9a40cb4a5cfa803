/**
 * Operating errors of the fuse layer: mounting, unmounting and the connection itself. Errors of single requests are
 * errnos, not these.
 */
import { CodedError } from '../base/errors.js';

export type FuseErrorCode =
  /** The native addon is not built for this platform. */
  | 'NO_ADDON'
  /** There is no usable /dev/fuse. */
  | 'NO_DEVICE'
  /** fusermount3 (package fuse3) is not installed and we may not mount without it. */
  | 'NO_HELPER'
  | 'PERMISSION'
  /** Missing, or not a directory. */
  | 'MOUNT_POINT'
  /** Unmount: files are open. Mount: a live mount of ours is there already. */
  | 'BUSY'
  /** The mount point belongs to a filesystem whose daemon is dead. */
  | 'STALE'
  /** Unmounting took too long. */
  | 'TIMEOUT'
  /** The kernel speaks a version that we do not, or sent what we cannot read. */
  | 'PROTOCOL'
  /** The connection ended before the protocol was agreed on. */
  | 'CLOSED'
  /** The reason of {@link RequestContext.signal}: the caller got a signal. */
  | 'INTERRUPTED'
  /** A system call or the helper failed in another way; the message says how. */
  | 'SYSTEM';

export class FuseError extends CodedError<FuseErrorCode> {}
