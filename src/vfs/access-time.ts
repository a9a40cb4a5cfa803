/**
 * When reading changes the access time, and where the time goes (doc/semantics.md, "Access times"; doc/decision/0022).
 * The rule is that of mount(8), relatime's by default. A noted time is shown at once. It becomes part of an operation
 * when something else of the same inode changes; otherwise it stays on this machine, where the state directory keeps it
 * from one mount to the next. Only with `relatime` or `strictatime` is it brought into the store for its own sake, once
 * a day and at the unmount.
 */
import type { Timespec } from '../base/clock.js';
import { compareTimespec } from '../base/clock.js';
import { FS_NOATIME_FL, type Inode, isDirectory } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { Volume } from '../volume/volume.js';
import { type AccessTimePolicy, isExact } from './access-time-policy.js';

export interface AccessTimeOptions {
  readonly policy?: AccessTimePolicy;
  /** Reading does not change the times of folders (nodiratime). */
  readonly keepsFolders?: boolean;
  /** How many are written into the store at a time. */
  readonly writtenMax?: number;
  /** How many are kept, if fewer than the state directory takes. */
  readonly keptMax?: number;
}

const daySec = 86_400;
/** The death of the daemon may lose the times of this period. */
const savedEverySec = 3600;
/** An inode is written with its inline content (up to 2 KiB): reading a large tree must not upload it again. */
const writtenMaxDefault = 4096;
/** This many are written before other work gets a turn of the event loop. */
const sliceCount = 256;

/** `shown` is the time that stat(2) shows, which may be later than the inode's own. */
export function accessTimeIsDue(inode: Inode, shown: Timespec, now: Timespec): boolean {
  if (now.sec - shown.sec >= daySec) return true;
  // One second is forgiven: a program that alternately writes and reads a file must not note every turn.
  if (now.sec - shown.sec < 1) return false;
  return compareTimespec(inode.mtime, shown) >= 0 || compareTimespec(inode.ctime, shown) >= 0;
}

export class AccessTimes {
  readonly #volume: Volume;
  readonly #policy: AccessTimePolicy;
  readonly #keepsFolders: boolean;
  readonly #keptMax: number;
  readonly #writtenMax: number;
  /** Noted, and in no operation yet; oldest first. If there are too many, the oldest are forgotten. */
  readonly #noted = new Map<Ino, Timespec>();
  #isSaved = true;
  #savedAtSec: number;
  #writtenAtSec: number;
  /** Saves and writes one after the other. */
  #working: Promise<void> = Promise.resolve();

  constructor(volume: Volume, { policy = 'lazy', keepsFolders = false, keptMax, writtenMax = writtenMaxDefault }: AccessTimeOptions = {}) {
    this.#volume = volume;
    this.#policy = volume.readOnly ? 'noatime' : policy;
    this.#keepsFolders = keepsFolders;
    this.#keptMax = Math.min(keptMax ?? volume.accessTimes.countMax, volume.accessTimes.countMax);
    this.#writtenMax = writtenMax;
    this.#writtenAtSec = this.#savedAtSec = volume.now().sec;
  }

  /** Loads what earlier mounts on this machine noted. Does not fail: an access time is not worth an error. */
  async load(): Promise<void> {
    try {
      for (const { ino, atime } of await this.#volume.accessTimes.load()) if (!this.#noted.has(ino)) this.#noted.set(ino, atime);
    } catch {
      // The files then show the times that the volume has.
    }
  }

  get isExact(): boolean {
    return isExact(this.#policy);
  }

  /** The noted time, if it is later than the inode's own access time. */
  noted(ino: Ino, inode: Inode): Timespec | undefined {
    const noted = this.#noted.get(ino);
    return noted === undefined || compareTimespec(noted, inode.atime) <= 0 ? undefined : noted;
  }

  /** What stat(2) shows. */
  shown(ino: Ino, inode: Inode): Timespec {
    return this.noted(ino, inode) ?? inode.atime;
  }

  /** Whether reading the content now would move the time on. */
  wouldMove(ino: Ino, inode: Inode): boolean {
    return this.#due(ino, inode, this.#volume.now());
  }

  #due(ino: Ino, inode: Inode, now: Timespec): boolean {
    if (this.#policy === 'noatime' || (inode.flags & FS_NOATIME_FL) !== 0 || (this.#keepsFolders && isDirectory(inode))) return false;
    const shown = this.shown(ino, inode);
    return this.#policy === 'strictatime' ? compareTimespec(now, shown) > 0 : accessTimeIsDue(inode, shown, now);
  }

  /** The content was read. Never fails. */
  note(ino: Ino, inode: Inode): void {
    // Most readings move nothing, and the exact time costs system calls.
    if (this.#policy !== 'strictatime' && !this.#due(ino, inode, { sec: this.#volume.roughSec(), nsec: 0 })) return;
    const now = this.#volume.now();
    if (!this.#due(ino, inode, now)) return;
    // Nobody can see the time of a removed file. Moving the entry to the end keeps the order.
    this.#noted.delete(ino);
    if (inode.nlink === 0) return;
    this.#noted.set(ino, now);
    this.#isSaved = false;
    if (this.#noted.size > this.#keptMax) {
      for (const first of this.#noted.keys()) {
        this.#noted.delete(first);
        break;
      }
    }
    this.#keepFromTimeToTime(now.sec);
  }

  #keepFromTimeToTime(nowSec: number): void {
    // If the clock was set back, the hour and the day count from there.
    this.#savedAtSec = Math.min(this.#savedAtSec, nowSec);
    this.#writtenAtSec = Math.min(this.#writtenAtSec, nowSec);
    if (this.isExact && nowSec - this.#writtenAtSec >= daySec) void this.keep();
    else if (nowSec - this.#savedAtSec >= savedEverySec) void this.#afterOthers(() => this.#save());
  }

  /** Somebody set the access time, so the noted one no longer counts. */
  forget(ino: Ino): void {
    if (this.#noted.delete(ino)) this.#isSaved = false;
  }

  /** Keeps the noted times beyond this process, in the store if the policy asks for that. Does not fail. */
  keep(): Promise<void> {
    this.#writtenAtSec = this.#volume.now().sec;
    return this.#afterOthers(async () => {
      if (this.isExact) await this.#writeOut();
      await this.#save();
    });
  }

  #afterOthers(work: () => Promise<void>): Promise<void> {
    this.#working = this.#working.then(work);
    return this.#working;
  }

  async #save(): Promise<void> {
    this.#savedAtSec = this.#volume.now().sec;
    if (this.#isSaved || this.#volume.readOnly) return;
    this.#isSaved = true;
    await this.#volume.accessTimes.save(Array.from(this.#noted, ([ino, atime]) => ({ ino, atime }))).catch(() => {
      this.#isSaved = false;
    });
  }

  /** Turns the newest ones into operations. */
  async #writeOut(): Promise<void> {
    // Nobody should have to wait for the store because of them, or be told that work is left.
    if (this.#volume.isOffline) return;
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
        // The volume is read-only by now, or out of reach: the others would fail in the same way.
        return;
      }
      if (this.#noted.get(ino) === atime) this.forget(ino);
    }
  }
}
