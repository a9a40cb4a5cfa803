/**
 * The past of an open volume: its earlier states, to be read (doc/past.md). An error of the log says that the past is
 * not whole, and stops nothing of the present.
 */
import type { Commit } from '../commit/commit.js';
import { CommitError } from '../commit/commit-error.js';
import type { Member } from '../commit/log-state.js';
import type { Sequence } from '../commit/sequence.js';
import type { PastStates } from './past-states.js';
import { PastVolume, type PastVolumeParts } from './past-volume.js';
import { remedyOf } from './remedy.js';
import type { NamedSnapshot } from './snapshots.js';
import { VolumeError } from './volume-error.js';

/** What the present says about the past. */
export interface PresentFacts {
  /** The newest commit that this device has taken in. */
  readonly head: () => Sequence;
  readonly members: () => readonly Member[];
  readonly snapshots: () => Promise<readonly NamedSnapshot[]>;
}

export class Past {
  readonly #states: PastStates;
  readonly #parts: PastVolumeParts;
  readonly #head: () => Sequence;
  readonly #members: () => readonly Member[];
  readonly #snapshots: () => Promise<readonly NamedSnapshot[]>;

  constructor(states: PastStates, parts: PastVolumeParts, { head, members, snapshots }: PresentFacts) {
    this.#states = states;
    this.#parts = parts;
    this.#head = head;
    this.#members = members;
    this.#snapshots = snapshots;
  }

  /** The newest commit that there is to go back to. */
  get newest(): Sequence {
    return this.#head();
  }

  /** The state after that commit; `undefined` when there is no such commit. Rejects with VolumeError. */
  async at(sequence: number): Promise<PastVolume | undefined> {
    if (!Number.isSafeInteger(sequence) || sequence < 1 || sequence > this.newest) return undefined;
    await this.#meetSnapshots();
    return new PastVolume(await excused(this.#states.at(sequence)), this.#parts);
  }

  ofSnapshot({ sequence, root }: Pick<NamedSnapshot, 'sequence' | 'root'>): PastVolume {
    return new PastVolume(this.#states.ofTree(sequence, root), this.#parts);
  }

  /**
   * The newest commit whose time is not after `timeMs`, before every snapshot that is later; `undefined` when there is
   * none. Rejects with VolumeError.
   */
  async findTime(timeMs: number, signal?: AbortSignal): Promise<Commit | undefined> {
    const later = (await this.#meetSnapshots()).filter((snapshot) => snapshot.timeMs > timeMs);
    const newest = Math.min(this.newest, ...later.map(({ sequence }) => sequence));
    for await (const commit of this.commitsBack(newest, signal)) if (commit.wallTimeMs <= timeMs) return commit;
    return undefined;
  }

  /** The name of the device that wrote the commit. */
  deviceOf({ author }: Commit): string {
    return this.#members().find(({ enrolment }) => enrolment.deviceId === author)?.enrolment.name ?? 'the owner';
  }

  /** Walks can start at the commits that snapshots name. */
  async #meetSnapshots(): Promise<readonly NamedSnapshot[]> {
    const snapshots = await this.#snapshots();
    for (const { checkpoint } of snapshots) this.#states.know({ sequence: checkpoint.sequence as Sequence, hash: checkpoint.hash });
    return snapshots;
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
