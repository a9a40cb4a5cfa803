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
import { type ChunkSource, ContentReader, nothingDirty, type ReadAhead } from './content-reader.js';
import type { PastState } from './past-states.js';
import type { Patience } from './patience.js';
import type { ReadableVolume } from './readable-volume.js';
import { remedied } from './remedy.js';

export interface PastVolumeParts {
  readonly chunks: ChunkSource;
  readonly ahead: ReadAhead;
  readonly patience: Pick<Patience, 'wait'>;
}

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
    return remedied(() => this.#read(query));
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
    return remedied(() => {
      const pieces = andThen(this.#reader.read(ino, offset, size), (found) => {
        if (!found) throw new OperationError('ESTALE', 'there was no such file');
        return found;
      });
      return pieces instanceof Promise ? this.#patience.wait(pieces, signal) : pieces;
    });
  }

  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined> {
    return remedied(() => this.#reader.seek(ino, offset, what));
  }
}
