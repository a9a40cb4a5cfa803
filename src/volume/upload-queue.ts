/**
 * Bounds what waits on this machine for the store: written data, staged packs and the journal (doc/concurrency.md,
 * "Back-pressure"). A writer that is faster than the network waits for room while the store takes anything. When it has
 * taken nothing for as long as applications may wait, the writer gets "disk full". The disk cache gives way first, and
 * a reserve is left on the disk, because a failed journal ends all writing. It uploads nothing: `staging.ts` does.
 */
import type { Clock } from '../base/clock.js';
import type { Stall } from './stall.js';
import { VolumeError } from './volume-error.js';

export interface UploadQueueOptions {
  /** The bytes that wait now, on the local disk or on their way there. */
  readonly bytes: () => number;
  readonly bytesMax: number;
  readonly stall: Pick<Stall, 'sinceMs'>;
  readonly patienceMs: number;
  readonly clock: Clock;
  /** Free bytes on the disk, after the cache has freed what it can. */
  readonly freeBytes: () => Promise<number>;
  readonly reserveBytes: number;
}

/** The interval between two checks while a writer waits. */
const lookMs = 200;
/** The bytes written between two checks of the disk's free space. */
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

  /** The bytes that may still be written now. */
  get roomBytes(): number {
    return this.#isDiskShort ? 0 : Math.max(0, this.#options.bytesMax - this.#options.bytes());
  }

  /** Undefined when there is room. Otherwise resolves when there is, or rejects with VolumeError `FULL`. */
  room(): Promise<void> | undefined {
    if (Math.abs(this.#options.bytes() - this.#bytesAtCheck) >= spaceCheckBytes) void this.#checkSpace();
    if (this.roomBytes > 0) return undefined;
    this.#waiting ??= this.#wait().finally(() => {
      this.#waiting = undefined;
    });
    return this.#waiting;
  }

  /** There is no room, and none will appear within the time that applications may wait. */
  get isHopeless(): boolean {
    return this.roomBytes === 0 && !this.#hasHope();
  }

  /** Awaits `promise`, which waits for the store. Rejects with VolumeError `FULL` when the store takes nothing. */
  async patiently(promise: Promise<void>): Promise<void> {
    const done = promise.then(() => true);
    // It may reject after everybody has stopped waiting.
    done.catch(() => {});
    do this.#requireHope();
    while (!(await Promise.race([done, this.#options.clock.sleep(lookMs).then(() => false)])));
  }

  async #wait(): Promise<void> {
    for (;;) {
      if (this.#isDiskShort) await this.#checkSpace();
      if (this.roomBytes > 0) return;
      // Something else fills the disk: no upload makes room.
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
      // A disk that does not report its free space may still have room; if not, the write fails.
      this.#isDiskShort = false;
    }
  }
}
