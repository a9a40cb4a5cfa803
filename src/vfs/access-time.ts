/**
 * When reading changes the access time: relatime's rule, as the kernel has it for local disks (mount(8)). Each update is an operation that
 * goes to the store, so it happens at most once a day for a file that nobody writes, and never holds up the read that caused it.
 */
import type { Timespec } from '../base/clock.js';
import { compareTimespec } from '../base/clock.js';
import { isPromise } from '../base/maybe-promise.js';
import { FS_NOATIME_FL, type Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Volume } from '../volume/volume.js';

export type AccessTimePolicy = 'relatime' | 'noatime';

const daySec = 86_400;

export function accessTimeIsDue(inode: Inode, now: Timespec): boolean {
  if ((inode.flags & FS_NOATIME_FL) !== 0) return false;
  if (now.sec - inode.atime.sec >= daySec) return true;
  // A second's grace: a program that writes and reads one file in turns must not make an operation of each turn.
  if (now.sec - inode.atime.sec < 1) return false;
  return compareTimespec(inode.mtime, inode.atime) >= 0 || compareTimespec(inode.ctime, inode.atime) >= 0;
}

/** Notes that the content was read. Its failure is nobody's: the reader got what it asked for. */
export function noteAccess(volume: Volume, policy: AccessTimePolicy, ino: Ino, inode: Inode): void {
  if (policy === 'noatime' || volume.readOnly) return;
  const now = volume.now();
  if (!accessTimeIsDue(inode, now)) return;
  try {
    const applied = volume.apply({ type: 'setattr', ino, atime: now, time: undefined });
    if (isPromise(applied)) applied.catch(() => {});
  } catch {
    // As above.
  }
}
