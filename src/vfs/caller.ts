/** Who asks the filesystem for something. Permission bits are the kernel's to check; this is for what a new inode takes from its maker. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** Still to be applied to the mode of a new inode, unless its directory has a default ACL (umask(2)). */
  readonly umask: number;
  /** Aborts when the caller no longer wants the answer. */
  readonly signal: AbortSignal;
}
