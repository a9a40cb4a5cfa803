/** Who asks the filesystem for something. Permission bits are the kernel's to check; this is for what a new inode takes from its maker. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  /** Still to be applied to the mode of a new inode, unless its directory has a default ACL (umask(2)). */
  readonly umask: number;
  /** May change content and owner of what has set-id bits without taking them away (CAP_FSETID). Not there: may not. */
  readonly keepsSetId?: boolean;
  /** Whether the caller is in the group. Asked only where set-id bits are at stake; it answers the same each time. Not there: in `gid` only. */
  isMemberOf?(gid: number): boolean;
  /** Aborts when the caller no longer wants the answer. */
  readonly signal: AbortSignal;
}
