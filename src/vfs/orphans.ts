/**
 * Inodes without a name that somebody may still use: an open file that was removed, an O_TMPFILE. All front ends of a
 * volume share them. Each is freed when the last front end has let go of it, and after a crash at the next start, since
 * nobody can use it then (doc/semantics.md, "Removed files").
 */

import { ByteReader } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { type Logger } from '../base/logger.js';
import { isPromise } from '../base/maybe-promise.js';
import { decodeKey, type Ino, orphanEnd, orphanStart } from '../meta/key.js';
import type { Volume } from '../volume/volume.js';

export class Orphans {
  readonly #volume: Volume;
  readonly #logger: Logger;
  readonly #inos: Set<Ino>;
  readonly #reclaiming = new Set<Promise<void>>();

  constructor(volume: Volume, logger: Logger) {
    this.#volume = volume;
    this.#inos = volume.orphans;
    this.#logger = logger;
  }

  add(ino: Ino): void {
    this.#inos.add(ino);
  }

  /** It has a name again. */
  remove(ino: Ino): void {
    this.#inos.delete(ino);
  }

  releaseAll(): void {
    for (const ino of this.#inos) this.release(ino);
  }

  /**
   * This front end does not use the inode any more: frees it if it is an orphan and no other one uses it. Does not
   * fail: what cannot be freed now is freed at the next start.
   */
  release(ino: Ino): void {
    if (!this.#inos.has(ino) || this.#volume.isUsedElsewhere(ino)) return;
    this.#inos.delete(ino);
    try {
      const applied = this.#volume.apply({ type: 'reclaim', ino });
      if (isPromise(applied)) this.#track(applied);
    } catch (error) {
      this.#failed(error);
    }
  }

  #track(applied: Promise<void>): void {
    const done = applied.catch((error: unknown) => this.#failed(error)).finally(() => this.#reclaiming.delete(done));
    this.#reclaiming.add(done);
  }

  #failed(error: unknown): void {
    this.#logger.warn('a removed file is freed only at the next start', { reason: describeError(error) });
  }

  /** Frees what this device left behind when it crashed. Before the first request of this front end. */
  async reclaimLeftovers(): Promise<number> {
    if (this.#volume.readOnly) return 0;
    const own = this.#volume.nextStamp().deviceIndex;
    const left = await this.#volume.read((view) => {
      const inos: Ino[] = [];
      for (const [key, value] of view.scan(orphanStart, orphanEnd)) {
        const decoded = decodeKey(key);
        if (decoded.type === 'orphan' && !this.#inos.has(decoded.ino) && new ByteReader(value).varint() === own) inos.push(decoded.ino);
      }
      return inos;
    });
    for (const ino of left) await this.#volume.apply({ type: 'reclaim', ino });
    return left.length;
  }

  /** Resolves when everything that was released is freed. */
  async freed(): Promise<void> {
    await Promise.all(this.#reclaiming);
  }
}
