/**
 * The store of a volume that is being made. It holds the claim of this `init`, lets the first keyslot through only
 * while that claim stands and is the newest, and takes back what was put when something fails (doc/format.md, "Making a
 * volume"). Whoever makes the volume only puts objects.
 */
import type { Sealed } from '../base/brand.js';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import { compareObject } from '../store/compare-object.js';
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOptions,
  PutOutcome,
  StoreTraits,
} from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import { whyTaken } from './vacant-store.js';
import { claimIdLength, claimKey, claimNumberMax, encodeClaim, listClaims } from './volume-claim.js';

export interface ClaimOptions {
  /** As the user names the store. */
  readonly location: string;
  readonly random: Random;
  readonly clock: Clock;
  /** Of several puts of one key only one gets `created`. */
  readonly isExclusive: boolean;
  /** Also where there is a claim already. */
  readonly takesOver: boolean;
  /** Opens the store once more; the caller of this closes it. */
  readonly reopen: () => Promise<ObjectStore>;
}

/** Without an exclusive put the last one of several stands: this is longer than puts that began together differ. */
const settleMs = 3000;
/** How often a list that is late is read again, and the pause between. */
const listTries = 10;
const listPauseMs = 1000;

const lost = (): Failure =>
  new Failure('NOT_A_VOLUME', 'another "init" makes a volume in this store at the same time: this one made none; use the other volume, or try again');

export class ClaimedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: ClaimOptions;
  readonly #number: number;
  readonly #key: ObjectKey;
  /** Public content: it seals nothing. */
  readonly #claim: Sealed;
  /** Entries of the log that another `init` left. */
  readonly #remains: readonly ObjectKey[];
  /** What may have been put, in this order. */
  readonly #made: ObjectKey[] = [];
  #isPublished = false;

  private constructor(inner: ObjectStore, options: ClaimOptions, number: number, remains: readonly ObjectKey[]) {
    this.#inner = inner;
    this.#options = options;
    this.#number = number;
    this.#key = claimKey(number);
    this.#claim = encodeClaim(options.random.bytes(claimIdLength), options.clock.now().sec) as Sealed;
    this.#remains = remains;
  }

  /**
   * Claims `inner`, which stays the caller's. Throws StoreError, and Failure `NOT_A_VOLUME` when another `init` was
   * first.
   */
  static async claim(inner: ObjectStore, options: ClaimOptions): Promise<ClaimedStore> {
    const taken = await whyTaken(inner, options.location, options.takesOver);
    if (taken) throw taken;
    // Between two looks another one may have claimed: only who takes over claims anything but the first number.
    const number = options.takesOver ? ((await listClaims(inner)).at(-1) ?? 0) + 1 : 1;
    if (number > claimNumberMax) throw new Failure('NOT_A_VOLUME', 'the store holds as many claims as it can: choose another place');
    const remains: ObjectKey[] = [];
    if (options.takesOver) for await (const { key } of inner.list('log/')) remains.push(key);
    const store = new ClaimedStore(inner, options, number, remains);
    try {
      if (await store.#isWon()) return store;
    } catch (error) {
      await store.#withdraw();
      throw error;
    }
    throw (await whyTaken(inner, options.location, false)) ?? lost();
  }

  async #isWon(): Promise<boolean> {
    const { isExclusive, clock } = this.#options;
    const outcome = await this.#inner.put(this.#key, this.#claim, { ifAbsent: true });
    if (outcome === 'created' && isExclusive) return true;
    // Another one may still be replacing it.
    if (!isExclusive) await clock.sleep(settleMs);
    return this.#stands(this.#inner);
  }

  async #stands(store: ObjectStore): Promise<boolean> {
    return (await compareObject(store, undefined, this.#key, this.#claim, undefined)) === 'same';
  }

  get description(): string {
    return this.#inner.description;
  }

  get local(): boolean {
    return this.#inner.local;
  }

  /** Also throws Failure `NOT_A_VOLUME` for a keyslot, when the claim of another `init` counts. */
  async put(key: ObjectKey, body: ObjectBody, options?: PutOptions): Promise<PutOutcome> {
    if (this.#isPublished || !key.startsWith('keys/')) return this.#put(key, body, options);
    await this.#requireNewest(true);
    const outcome = await this.#put(key, body, options);
    // Who takes over claims first and then looks for keyslots, so that one of the two sees the other.
    await this.#requireNewest(false);
    this.#isPublished = true;
    return outcome;
  }

  async #put(key: ObjectKey, body: ObjectBody, options: PutOptions | undefined): Promise<PutOutcome> {
    this.#made.push(key);
    const outcome = await this.#inner.put(key, body, options);
    // Names are random, so this is ours after a lost answer, or nobody knows what it is.
    if (outcome === 'exists' && (await compareObject(this.#inner, undefined, key, body, undefined)) !== 'same') this.#made.pop();
    return outcome;
  }

  /** Looks anew, as another process does: the maker of a store may have decided meanwhile how objects lie in it. */
  async #requireNewest(isFirstSlot: boolean): Promise<void> {
    const store = await this.#options.reopen();
    try {
      if (!(await this.#stands(store)) || (await this.#newestListed(store)) > this.#number) throw lost();
      if (isFirstSlot) for await (const _ of store.list('keys/')) throw lost();
    } finally {
      await store.close();
    }
  }

  /** Throws Failure `STORE` when the list does not even show our own claim: it cannot be believed then. */
  async #newestListed(store: ObjectStore): Promise<number> {
    for (let tries = 1; ; tries++) {
      const numbers = await listClaims(store);
      if (numbers.includes(this.#number)) return numbers.at(-1) ?? 0;
      if (tries === listTries)
        throw new Failure(
          'STORE',
          'the store does not list what was put into it, so that volumes in it cannot be seen: "sealdrive doctor" examines it',
        );
      await this.#options.clock.sleep(listPauseMs);
    }
  }

  /**
   * Runs `make`, which puts the volume here, its keyslots last and one after the other; takes back what it has put when
   * it fails. Throws what it throws.
   */
  async fill<Made>(make: () => Promise<Made>): Promise<Made> {
    try {
      const made = await make();
      // What the `init` that was taken over has left does no harm if it stays.
      await this.#inner.delete(this.#remains).catch(() => {});
      return made;
    } catch (error) {
      await this.#withdraw();
      throw error;
    }
  }

  /**
   * Takes back what was put, the claim last, as far as the store permits it. What stays behind opens nothing without a
   * keyslot, and the next `init` says what to do.
   */
  async #withdraw(): Promise<void> {
    try {
      for (const key of this.#made.toReversed()) await this.#inner.delete([key]);
      if (await this.#stands(this.#inner)) await this.#inner.delete([this.#key]);
    } catch {
      // The failure that led here is the one to report.
    }
  }

  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#inner.get(key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#inner.head(key);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject> {
    return this.#inner.list(prefix, options);
  }

  delete(keys: readonly ObjectKey[]): Promise<void> {
    return this.#inner.delete(keys);
  }

  traits(): Promise<StoreTraits> {
    return this.#inner.traits?.() ?? Promise.resolve({});
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
