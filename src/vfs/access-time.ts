/**
 * When reading changes the access time: relatime's rule, as the kernel has it for local disks (mount(8)), and like its lazytime: what was
 * noted is shown at once, but kept in memory. Reading makes nothing go to the store: an access time goes along with the next change of its
 * inode, and else once a day or at the unmount (doc/semantics.md, "Access times"; doc/decision/0010).
 */
import type { Timespec } from '../base/clock.js';
import { compareTimespec } from '../base/clock.js';
import { FS_NOATIME_FL, type Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Volume } from '../volume/volume.js';

export type AccessTimePolicy = 'relatime' | 'noatime';

const daySec = 86_400;
/** Inodes whose access time is kept in memory; of more, those noted first are forgotten. */
const keptMax = 65_536;
/** How many are written at a time. An inode brings its inline content along (up to 2 KiB): reading a large tree must not upload it again. */
const writtenMax = 4096;
/** Between two turns of the event loop while writing. */
const sliceCount = 256;

/** By the time that is shown, which may be later than the inode's own. */
export function accessTimeIsDue(inode: Inode, shown: Timespec, now: Timespec): boolean {
  if ((inode.flags & FS_NOATIME_FL) !== 0) return false;
  if (now.sec - shown.sec >= daySec) return true;
  // A second's grace: a program that writes and reads one file in turns must not note each turn.
  if (now.sec - shown.sec < 1) return false;
  return compareTimespec(inode.mtime, shown) >= 0 || compareTimespec(inode.ctime, shown) >= 0;
}

export class AccessTimes {
  readonly #volume: Volume;
  readonly #policy: AccessTimePolicy;
  readonly #keptMax: number;
  readonly #writtenMax: number;
  /** Noted and in no operation yet, the first noted first. */
  readonly #noted = new Map<Ino, Timespec>();
  #writtenAtSec: number;
  #writing: Promise<void> | undefined;

  /** Bounds of what is kept in memory and of what is written at a time, in inodes. */
  constructor(volume: Volume, policy: AccessTimePolicy, bounds: { readonly keptMax?: number; readonly writtenMax?: number } = {}) {
    this.#volume = volume;
    this.#policy = volume.readOnly ? 'noatime' : policy;
    this.#keptMax = bounds.keptMax ?? keptMax;
    this.#writtenMax = bounds.writtenMax ?? writtenMax;
    this.#writtenAtSec = volume.now().sec;
  }

  /** What reading has noted since the inode's own access time, if anything. */
  noted(ino: Ino, inode: Inode): Timespec | undefined {
    const noted = this.#noted.get(ino);
    return noted === undefined || compareTimespec(noted, inode.atime) <= 0 ? undefined : noted;
  }

  /** What stat(2) shows. */
  shown(ino: Ino, inode: Inode): Timespec {
    return this.noted(ino, inode) ?? inode.atime;
  }

  /** The content was read. Never fails. */
  note(ino: Ino, inode: Inode): void {
    if (this.#policy === 'noatime') return;
    const now = this.#volume.now();
    if (!accessTimeIsDue(inode, this.shown(ino, inode), now)) return;
    // A removed file's is nobody's; moving it to the end keeps the order.
    this.#noted.delete(ino);
    if (inode.nlink === 0) return;
    this.#noted.set(ino, now);
    if (this.#noted.size > this.#keptMax) {
      for (const first of this.#noted.keys()) {
        this.#noted.delete(first);
        break;
      }
    }
    // The clock may be set back: then a day counts from there.
    if (now.sec < this.#writtenAtSec) this.#writtenAtSec = now.sec;
    if (now.sec - this.#writtenAtSec >= daySec) void this.writeOut();
  }

  /** Somebody set the access time: what was noted is void. */
  forget(ino: Ino): void {
    this.#noted.delete(ino);
  }

  /** Makes operations of the newest. Does not fail: an access time is worth no error. */
  writeOut(): Promise<void> {
    this.#writing ??= this.#writeOut().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #writeOut(): Promise<void> {
    // Nobody shall have to wait for the store, or be told that something is left, because of them.
    if (this.#volume.isOffline) return;
    this.#writtenAtSec = this.#volume.now().sec;
    const chosen = [...this.#noted].slice(-this.#writtenMax);
    for (const [index, [ino, atime]] of chosen.entries()) {
      if (index % sliceCount === sliceCount - 1) await new Promise<void>((resolve) => setImmediate(resolve));
      try {
        await this.#volume.transact((view) => {
          const inode = this.#volume.inode(view, ino);
          const isLater = inode !== undefined && inode.nlink > 0 && compareTimespec(atime, inode.atime) > 0;
          return { operation: isLater ? { type: 'setattr', ino, atime, time: undefined } : undefined, result: undefined };
        });
      } catch {
        // Read-only by now, or out of reach: the others would meet the same.
        return;
      }
      if (this.#noted.get(ino) === atime) this.#noted.delete(ino);
    }
  }
}
