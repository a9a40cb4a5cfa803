/**
 * The process that makes a request. The kernel checks permission bits; this is for what a new inode takes from its
 * maker.
 */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** To be applied to the mode of a new inode, unless its directory has a default ACL (umask(2)). */
  readonly umask: number;
  /** Whether set-id bits stay when this caller changes content or owner (CAP_FSETID). Not given: no. */
  readonly keepsSetId?: boolean;
  /**
   * Whether the caller is in the group. Asked only where set-id bits are at stake; the answer is always the same. Not
   * given: only in `gid`.
   */
  isMemberOf?(gid: number): boolean;
  /** Aborts when the caller no longer wants the answer. */
  readonly signal: AbortSignal;
}
