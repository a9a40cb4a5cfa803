/**
 * The size of each volume, as far as one server knows (doc/server.md, "Limits"). Nothing is written down: a volume is
 * listed when its size is first needed, puts through this server are added, and it is listed again now and then, which
 * also finds the puts of other servers and deleted objects.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { ObjectStore } from '../store/object-store.js';
import { Refusal } from './refusal.js';

export interface VolumeUsageOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** A count this old is renewed in the background. Default: 10 minutes. */
  readonly recountMs?: number;
  /** The longest wait for a count. Default: 15 seconds. */
  readonly patienceMs?: number;
}

/** Room reserved for an upload from its beginning. Exactly one of the two methods is called, once. */
export interface Reservation {
  /** The object is in the volume. */
  keep(): void;
  /** It is not. */
  release(): void;
}

/** Small objects take a block each, so that a quota bounds their number as well. */
const blockSize = 4096;
export const chargedSize = (size: number): number => Math.max(1, Math.ceil(size / blockSize)) * blockSize;

interface Volume {
  counted: number | undefined;
  countedMs: number;
  /** Whether something was deleted since the last count. */
  isStale: boolean;
  /** Bytes reserved by uploads under way. */
  reserved: number;
  /** Bytes put during a count that may already have passed their place in the list. */
  added: number;
  counting: Promise<void> | undefined;
}

export class VolumeUsage {
  readonly #base: Pick<ObjectStore, 'list'>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #recountMs: number;
  readonly #patienceMs: number;
  readonly #volumes = new Map<string, Volume>();

  constructor(base: Pick<ObjectStore, 'list'>, options: VolumeUsageOptions) {
    this.#base = base;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#recountMs = options.recountMs ?? 600_000;
    this.#patienceMs = options.patienceMs ?? 15_000;
  }

  /** Begins to count, so that the first request need not wait. */
  prepare(volume: string): void {
    const state = this.#volumeOf(volume);
    if (state.counted === undefined) this.#count(volume, state).catch(() => {});
  }

  /** Bytes by the last count, plus those put since. Throws {@link Refusal} and StoreError. */
  async used(volume: string): Promise<number> {
    const state = this.#volumeOf(volume);
    if (state.counted === undefined || state.isStale) await this.#patiently(this.#count(volume, state));
    return (state.counted ?? 0) + state.reserved;
  }

  /**
   * Room for an object of `size` bytes in a volume that may hold `quota`. Throws {@link Refusal} `NO_ROOM`, and
   * StoreError.
   */
  async reserve(volume: string, size: number, quota: number): Promise<Reservation> {
    const state = this.#volumeOf(volume);
    const charge = chargedSize(size);
    const fits = (): boolean => (state.counted ?? 0) + state.reserved + charge <= quota;
    if (state.counted === undefined || (state.isStale && !fits())) await this.#patiently(this.#count(volume, state));
    else if (state.isStale || this.#clock.monotonicMs() - state.countedMs > this.#recountMs) {
      this.#count(volume, state).catch((error: unknown) => this.#logger.warn('a volume cannot be counted', { reason: describeError(error) }));
    }
    if (!fits()) throw new Refusal('NO_ROOM', 'the quota of the volume is used up');
    state.reserved += charge;
    return {
      keep: () => {
        state.reserved -= charge;
        if (state.counted !== undefined) state.counted += charge;
        if (state.counting) state.added += charge;
      },
      release: () => {
        state.reserved -= charge;
      },
    };
  }

  /** Objects of the volume were deleted. */
  shrunk(volume: string): void {
    const state = this.#volumes.get(volume);
    if (state) state.isStale = true;
  }

  #volumeOf(volume: string): Volume {
    let state = this.#volumes.get(volume);
    if (!state) {
      state = { counted: undefined, countedMs: -Infinity, isStale: false, reserved: 0, added: 0, counting: undefined };
      this.#volumes.set(volume, state);
    }
    return state;
  }

  #count(volume: string, state: Volume): Promise<void> {
    state.counting ??= this.#list(volume, state).finally(() => {
      state.counting = undefined;
    });
    return state.counting;
  }

  async #list(volume: string, state: Volume): Promise<void> {
    state.added = 0;
    state.isStale = false;
    let sum = 0;
    try {
      for await (const { size } of this.#base.list(`${volume}/`)) sum += chargedSize(size ?? 0);
    } catch (error) {
      state.isStale = true;
      throw error;
    }
    // Objects put during the count may be counted twice until the next one: too much is safer than too little.
    state.counted = sum + state.added;
    state.countedMs = this.#clock.monotonicMs();
  }

  async #patiently(count: Promise<void>): Promise<void> {
    const done = new AbortController();
    const late = this.#clock.sleep(this.#patienceMs, done.signal).then(
      () => {
        throw new Refusal('UNAVAILABLE', 'the volume is being counted', { retryAfterSec: 5 });
      },
      () => {},
    );
    try {
      await Promise.race([count, late]);
    } finally {
      done.abort(new Error('done'));
    }
  }
}
