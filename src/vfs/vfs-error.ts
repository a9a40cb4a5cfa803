/**
 * The errors of POSIX behaviour: they carry the name of an errno, never its number (that is `daemon/errno.ts`).
 * Operations fail with OperationError, which uses the same names; the volume fails with VolumeError, whose codes name
 * the remedy.
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
  | 'EROFS'
  | 'ESTALE'
  | 'EXDEV';
export class VfsError extends AnswerError<VfsErrorCode> {}
