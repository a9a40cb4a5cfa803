/**
 * The past of an open volume: its earlier states, to be read (doc/past.md). An error of the log says that the past is
 * not whole, and stops nothing of the present.
 */
import type { Commit } from '../commit/commit.js';
import { CommitError } from '../commit/commit-error.js';
import type { Sequence } from '../commit/sequence.js';
import type { PastStates } from './past-states.js';
import { PastVolume, type PastVolumeParts } from './past-volume.js';
import { remedyOf } from './remedy.js';
import { VolumeError } from './volume-error.js';

export class Past {
  readonly #states: PastStates;
  readonly #parts: PastVolumeParts;
  readonly #head: () => Sequence;

  /** `head`: the newest commit that this device has taken in. */
  constructor(states: PastStates, parts: PastVolumeParts, head: () => Sequence) {
    this.#states = states;
    this.#parts = parts;
    this.#head = head;
  }

  /** The newest commit that there is to go back to. */
  get newest(): Sequence {
    return this.#head();
  }

  /** The state after that commit; `undefined` when there is no such commit. Rejects with VolumeError. */
  async at(sequence: number): Promise<PastVolume | undefined> {
    if (!Number.isSafeInteger(sequence) || sequence < 1 || sequence > this.newest) return undefined;
    return new PastVolume(await excused(this.#states.at(sequence)), this.#parts);
  }

  /** The newest commit whose time is not after `timeMs`; `undefined` when there is none. Rejects with VolumeError. */
  findTime(timeMs: number, signal?: AbortSignal): Promise<Commit | undefined> {
    return excused(this.#states.findTime(timeMs, signal));
  }

  /** The commits that count up to `sequence`, the newest first. Throws VolumeError. */
  async *commitsBack(sequence: number, signal?: AbortSignal): AsyncGenerator<Commit, void> {
    const commits = this.#states.commitsBack(sequence, signal);
    try {
      for (let next = await excused(commits.next()); !next.done; next = await excused(commits.next())) yield next.value;
    } finally {
      await commits.return();
    }
  }
}

async function excused<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof CommitError) throw new VolumeError('CORRUPT', 'the past of the volume is not whole in the store', { cause: error });
    throw remedyOf(error);
  }
}
