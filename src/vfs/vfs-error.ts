/**
 * How POSIX behaviour fails: with the name of an errno, never with its number (that is `daemon/errno.ts`). Operations fail with
 * OperationError, which speaks the same language; the volume with VolumeError, whose codes name the remedy.
 */
import { AnswerError } from '../base/errors.js';

export type VfsErrorCode =
  | 'EACCES'
  | 'EBADF'
  | 'EEXIST'
  | 'EFBIG'
  | 'EINTR'
  | 'EINVAL'
  | 'EISDIR'
  | 'ENAMETOOLONG'
  | 'ENODATA'
  | 'ENOENT'
  | 'ENOSPC'
  | 'ENOTDIR'
  | 'ENXIO'
  | 'EOPNOTSUPP'
  | 'EPERM'
  | 'ESTALE';
export class VfsError extends AnswerError<VfsErrorCode> {}
