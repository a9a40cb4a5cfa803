/** What it takes to read files: of the volume as it is (`volume.ts`), or of a past state (`past-volume.ts`). */
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Inode } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { ReadView } from '../operation/view.js';

export interface ReadableVolume {
  /** After an integrity stop: what this device knows may not be all that there is. */
  readonly hasStopped: boolean;
  /**
   * Runs `query`, a pure function, on the state (pending operations included), and again after every page fault.
   */
  read<T>(query: (view: ReadView) => T): MaybePromise<T>;
  /** The inode as applications must see it: size and mtime include dirty data that is not sealed yet. */
  inode(view: ReadView, ino: Ino): Inode | undefined;
  /**
   * The number that this device gives next to an inode or an entry; undefined where it gives none.
   */
  readonly nextIno: Ino | undefined;
  /**
   * Up to `size` bytes at `offset`, fewer only at the end of the file. The pieces are borrowed: use them at once and do
   * not change them.
   */
  readContent(ino: Ino, offset: number, size: number, signal?: AbortSignal): MaybePromise<readonly Uint8Array[]>;
  /**
   * Where data (or a hole) begins at or after `offset`; undefined past the end of the file (ENXIO). The end of the file
   * counts as a hole.
   */
  seek(ino: Ino, offset: number, what: 'data' | 'hole'): MaybePromise<number | undefined>;
}
