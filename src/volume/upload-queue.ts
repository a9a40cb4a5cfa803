/**
 * Bounds what waits on this machine for the store: written data, staged packs and the journal (doc/concurrency.md, "Back-pressure"). A writer who is faster than the network
 * waits for room as long as the store takes anything. When it has taken nothing for as long as anybody may wait, the writer hears that the disk is full,
 * as it is for him. The disk cache gives way first, and a reserve is left on the disk: a journal that cannot be written ends all writing.
 */
import type { Clock } from '../base/clock.js';
import type { Stall } from './stall.js';
import { VolumeError } from './volume-error.js';

export interface UploadQueueOptions {
  /** What waits now, in bytes on the local disk, or on their way there. */
  readonly bytes: () => number;
  readonly bytesMax: number;
  readonly stall: Pick<Stall, 'sinceMs'>;
  readonly patienceMs: number;
  readonly clock: Clock;
  /** Free bytes on the disk, after the cache has given back what it can. */
  readonly freeBytes: () => Promise<number>;
  readonly reserveBytes: number;
}

/** Between two looks while somebody waits. */
const lookMs = 200;
/** Bytes that come in between two looks at the disk. */
const spaceCheckBytes = 16 * 1024 * 1024;

export class UploadQueue {
  readonly #options: UploadQueueOptions;
  #waiting: Promise<void> | undefined;
  #bytesAtCheck: number;
  #checking: Promise<void> | undefined;
  #isDiskShort = false;

  constructor(options: UploadQueueOptions) {
    this.#options = options;
    this.#bytesAtCheck = options.bytes();
  }

  get bytes(): number {
    return this.#options.bytes();
  }

  get bytesMax(): number {
    return this.#options.bytesMax;
  }

  /** What may still be written now. */
  get roomBytes(): number {
    return this.#isDiskShort ? 0 : Math.max(0, this.#options.bytesMax - this.#options.bytes());
  }

  /** Undefined: there is room. Else resolves when there is; rejects with VolumeError `FULL`. */
  room(): Promise<void> | undefined {
    if (Math.abs(this.#options.bytes() - this.#bytesAtCheck) >= spaceCheckBytes) void this.#checkSpace();
    if (this.roomBytes > 0) return undefined;
    this.#waiting ??= this.#wait().finally(() => {
      this.#waiting = undefined;
    });
    return this.#waiting;
  }

  /** Nothing can be written, and nothing will make room for as long as anybody waits. */
  get isHopeless(): boolean {
    return this.roomBytes === 0 && !this.#hasHope();
  }

  /** As `promise`, which waits for the store; rejects with VolumeError `FULL` when the store takes nothing. */
  async patiently(promise: Promise<void>): Promise<void> {
    const done = promise.then(() => true);
    // It may be refused after nobody waits any more.
    done.catch(() => {});
    do this.#requireHope();
    while (!(await Promise.race([done, this.#options.clock.sleep(lookMs).then(() => false)])));
  }

  async #wait(): Promise<void> {
    for (;;) {
      if (this.#isDiskShort) await this.#checkSpace();
      if (this.roomBytes > 0) return;
      // What fills the disk is somebody else's: no upload makes room.
      if (this.#isDiskShort && this.#options.bytes() < spaceCheckBytes)
        throw new VolumeError('FULL', 'the disk that holds the state directory is full');
      this.#requireHope();
      await this.#options.clock.sleep(lookMs);
    }
  }

  #hasHope(): boolean {
    const { sinceMs } = this.#options.stall;
    return sinceMs === undefined || this.#options.clock.monotonicMs() - sinceMs < this.#options.patienceMs;
  }

  #requireHope(): void {
    if (this.#hasHope()) return;
    throw new VolumeError('FULL', 'too much waits for the store, and it takes nothing');
  }

  #checkSpace(): Promise<void> {
    this.#checking ??= this.#look().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #look(): Promise<void> {
    this.#bytesAtCheck = this.#options.bytes();
    try {
      this.#isDiskShort = (await this.#options.freeBytes()) < this.#options.reserveBytes;
    } catch {
      // A disk that cannot say how much is free may still take more; if not, the write says so.
      this.#isDiskShort = false;
    }
  }
}
