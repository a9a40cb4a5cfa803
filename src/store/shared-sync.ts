/**
 * Shares directory syncs among callers that ask at the same time: a sync that starts after all of them have made their
 * names covers them all. A burst of puts into one directory costs one or two syncs, not one each.
 */

export class SharedSync {
  readonly #syncDirectory: (path: string) => Promise<void>;
  /** Per directory: the sync that runs, and the one that starts after it and takes latecomers. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #next = new Map<string, Promise<void>>();

  constructor(syncDirectory: (path: string) => Promise<void>) {
    this.#syncDirectory = syncDirectory;
  }

  /** Resolves when every name made in `path` before the call is durable. */
  sync(path: string): Promise<void> {
    const running = this.#running.get(path);
    if (!running) return this.#start(path);
    const waiting = this.#next.get(path);
    if (waiting) return waiting;
    const begin = (): Promise<void> => {
      this.#next.delete(path);
      return this.#start(path);
    };
    const next = running.then(begin, begin);
    this.#next.set(path, next);
    return next;
  }

  #start(path: string): Promise<void> {
    const sync = this.#syncDirectory(path).finally(() => {
      if (this.#running.get(path) === sync) this.#running.delete(path);
    });
    this.#running.set(path, sync);
    return sync;
  }
}
