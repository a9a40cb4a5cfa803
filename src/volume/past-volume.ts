/**
 * A past state of the volume as the filesystem above sees it: a `Volume` that can only be read (doc/past.md). It holds
 * nothing but the state; its pages and chunks are in the caches of the present.
 */
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { withPages } from '../base/page-fault.js';
import type { Sequence } from '../commit/sequence.js';
import type { Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { readInode } from '../operation/inode-view.js';
import { OperationError } from '../operation/operation.js';
import type { ReadView } from '../operation/view.js';
import { PackError } from '../pack/pack-error.js';
import { type ChunkSource, ContentReader, nothingDirty, type ReadAhead } from './content-reader.js';
import type { PastState } from './past-states.js';
import type { Patience } from './patience.js';
import type { ReadableVolume } from './readable-volume.js';
import { remedied } from './remedy.js';
import { VolumeError } from './volume-error.js';

export interface PastVolumeParts {
  readonly chunks: ChunkSource;
  readonly ahead: ReadAhead;
  readonly patience: Pick<Patience, 'wait'>;
}

/** A past state whose pages or chunks the store does not have any more was collected. */
export const isNotKept = (error: unknown): boolean =>
  error instanceof VolumeError && error.cause instanceof PackError && error.cause.code === 'MISSING';

export class PastVolume implements ReadableVolume {
  readonly #state: PastState;
  readonly #patience: PastVolumeParts['patience'];
  readonly #reader: ContentReader;
  readonly nextIno = undefined;
  readonly hasStopped = false;

  constructor(state: PastState, { chunks, ahead, patience }: PastVolumeParts) {
    this.#state = state;
    this.#patience = patience;
    this.#reader = new ContentReader((query) => this.#read(query), nothingDirty, chunks, ahead);
  }

  /** The number of the commit whose state this is. */
  get sequence(): Sequence {
    return this.#state.sequence;
  }

  read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    return whileKept(() => remedied(() => this.#read(query)));
  }

  #read<T>(query: (view: ReadView) => T): MaybePromise<T> {
    return withPages(
      () => query(this.#state.view),
      (fault) => this.#patience.wait(fault.load()),
    );
  }

  inode(view: ReadView, ino: Ino): Inode | undefined {
    return readInode(view, ino);
  }

  readContent(ino: Ino, offset: number, size: number, signal?: AbortSignal): MaybePromise<readonly Uint8Array[]> {
    return whileKept(() =>
      remedied(() => {
        const pieces = andThen(this.#reader.read(ino, offset, size), (found) => {
          if (!found) throw new OperationError('ESTALE', 'there was no such file');
          return found;
        });
        return pieces instanceof Promise ? this.#patience.wait(pieces, signal) : pieces;
      }),
    );
  }

  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined> {
    return remedied(() => this.#reader.seek(ino, offset, what));
  }
}

/** The outcome of `work`, with a message for what is not kept any more. */
function whileKept<T>(work: () => MaybePromise<T>): MaybePromise<T> {
  try {
    const outcome = work();
    return outcome instanceof Promise ? outcome.catch(throwNotKept) : outcome;
  } catch (error) {
    return throwNotKept(error);
  }
}

function throwNotKept(error: unknown): never {
  if (isNotKept(error)) throw new VolumeError('CORRUPT', 'what was there at that time is not kept any more', { cause: (error as VolumeError).cause });
  throw error;
}
