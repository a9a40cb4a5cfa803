/**
 * The *tail* of the log: the commits that this device can leave when the store shows others in their place, since it
 * can do again what they did (doc/concurrency.md, "Lost commits"). Where commits hold their work, that is as far back
 * as copies go; elsewhere it is this device's own commits behind the newest one of anybody else, on which nobody has
 * built.
 */
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { ChainState, Extension } from './chain.js';
import type { LocalLog } from './local-log.js';
import type { Sequence } from './sequence.js';
import type { StoredLog } from './stored-log.js';

/** What the store makes of the tail. */
export interface TailFinding {
  /** How many commits were missing and are in the store again. */
  readonly putAgain: number;
  /** The state before the first number that holds something else; `undefined` when there is none. */
  readonly beforeLost: ChainState | undefined;
}

/** A commit that lengthens the tail: the state after it, and what it takes on the disk. */
export interface TailCommit {
  readonly state: ChainState;
  readonly bytes: number;
  readonly isCheckpoint: boolean;
}

/** Magic, salt and commitment of a seal: no two sealed objects begin alike. */
const comparedBytes = 64;
/** So many commits, or bytes of them, are kept. */
const countMax = 4096;
const bytesMax = 64 * 1024 * 1024;

export class Tail {
  readonly #stored: StoredLog;
  readonly #copies: LocalLog;
  /** How much of the tail is compared with the store at each check. */
  readonly #perCheck: number;
  #start: ChainState;
  /** Sealed bytes of the tail, as far as this process has seen it. */
  #bytes = 0;
  /** The number that is compared with the store next. */
  #checked = 0;
  /** The beginnings of copies that were compared before, by number. */
  readonly #beginnings = new Map<Sequence, Uint8Array>();
  /** The state after the newest checkpoint of the tail that this process has seen. */
  #checkpoint: ChainState | undefined;

  constructor(stored: StoredLog, copies: LocalLog, perCheck: number, start: ChainState) {
    this.#stored = stored;
    this.#copies = copies;
    this.#perCheck = perCheck;
    this.#start = start;
  }

  /** The state before it. */
  get start(): ChainState {
    return this.#start;
  }

  /** From now on it begins behind `start`. */
  beginAt(start: ChainState): void {
    if (start === this.#start) return;
    this.#start = start;
    [this.#bytes, this.#checkpoint] = [0, undefined];
    this.#beginnings.clear();
  }

  /** The log has gone back to `state`. */
  endAt({ head }: ChainState): void {
    this.#beginnings.clear();
    if (this.#checkpoint && this.#checkpoint.head.sequence > head.sequence) this.#checkpoint = undefined;
  }

  includes(sequence: Sequence): boolean {
    return sequence > this.#start.head.sequence;
  }

  grew(commits: readonly TailCommit[]): void {
    for (const { state, bytes, isCheckpoint } of commits) {
      this.#bytes += bytes;
      if (isCheckpoint) this.#checkpoint = state;
    }
  }

  /** Where it begins once `state` is reached: a long one begins at a checkpoint. */
  startFor({ head }: ChainState): ChainState {
    const isLong = head.sequence - this.#start.head.sequence > countMax || this.#bytes > bytesMax;
    return (isLong && this.#checkpoint) || this.#start;
  }

  /** Whether the store still has this commit. Throws StoreError, disk errors. */
  async isStored(sequence: Sequence, signal: AbortSignal | undefined): Promise<boolean> {
    const beginning = await this.#beginningOf(sequence);
    return beginning === undefined || (await this.#stored.beginsWith(sequence, beginning, signal)) === true;
  }

  async #beginningOf(sequence: Sequence): Promise<Uint8Array | undefined> {
    const known = this.#beginnings.get(sequence);
    if (known) return known;
    const copy = await this.#copies.read(sequence);
    const beginning = copy && new Uint8Array(copy.subarray(0, comparedBytes));
    if (beginning) this.#beginnings.set(sequence, beginning);
    return beginning;
  }

  /** One that the store does not have any more, of some, others each time. Throws StoreError, disk errors. */
  async findMissing(newest: Sequence, signal: AbortSignal | undefined): Promise<Sequence | undefined> {
    const { sequence: start } = this.#start.head;
    for (let left = Math.min(newest - start, this.#perCheck); left > 0; left--) {
      if (this.#checked <= start || this.#checked > newest) this.#checked = newest;
      const sequence = this.#checked-- as Sequence;
      if (!(await this.isStored(sequence, signal))) return sequence;
    }
    return undefined;
  }

  /**
   * Compares all of it, up to `newest`, with the store, and puts missing commits again, byte for byte. `extend` is the
   * chain's step over a copy; `awaitTurn` throws while it is too early to put that one again. `undefined` when a copy
   * is not here, or the store does not keep what it says it has. Throws CommitError, StoreError, disk errors.
   */
  async examine(
    newest: Sequence,
    extend: (state: ChainState, sealed: Uint8Array) => Extension,
    awaitTurn: (extension: Extension) => void,
    signal: AbortSignal | undefined,
  ): Promise<TailFinding | undefined> {
    let [state, putAgain] = [this.#start, 0];
    while (state.head.sequence < newest) {
      const sequence = state.head.sequence + 1;
      const copy = await this.#copies.read(sequence);
      if (!copy) return undefined;
      let found = await this.#stored.fetch(sequence, signal);
      if (found && !equalBytes(found, copy)) return { putAgain, beforeLost: state };
      const extension = extend(state, copy);
      if (!found) {
        awaitTurn(extension);
        if (await this.#stored.put(sequence, copy as Sealed, signal)) putAgain++;
        found = await this.#stored.fetch(sequence, signal);
        // It would lose the next one in the same way, for ever.
        if (!found) return undefined;
        if (!equalBytes(found, copy)) return { putAgain, beforeLost: state };
      }
      ({ state } = extension);
    }
    return { putAgain, beforeLost: undefined };
  }
}
