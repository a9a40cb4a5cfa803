/**
 * A bounded table of open files: opening one costs about as much as reading from it. A file that falls out of the
 * table, or is dropped because its name is about to mean something else, is closed when its last user is done.
 */
import type { DiskFile } from './disk.js';

interface OpenFile<F> {
  readonly opened: F;
  users: number;
  /** Out of the table: the last user closes it. */
  dropped: boolean;
}

export class OpenFiles<F extends { readonly file: DiskFile }> {
  readonly #max: number;
  /** By name, least recently used first. */
  readonly #table = new Map<string, OpenFile<F>>();
  /** Grows with every drop: an open that was under way then may have opened what the name does not mean any more. */
  #dropCount = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /**
   * Runs `work` on the file called `name`, which `open` opens when the table does not hold it; `undefined` when `open`
   * finds none.
   */
  async use<T>(name: string, open: () => Promise<F | undefined>, work: (opened: F) => Promise<T>): Promise<T | undefined> {
    const entry = this.#known(name) ?? (await this.#open(name, open));
    if (!entry) return undefined;
    try {
      return await work(entry.opened);
    } finally {
      entry.users--;
      if (entry.dropped && entry.users === 0) await entry.opened.file.close();
    }
  }

  /**
   * The file called `name` when the table holds it, for a use that ends before the caller returns to the event loop.
   */
  peek(name: string): F | undefined {
    return this.#touch(name)?.opened;
  }

  /** It is the most recently used one from here on. */
  #touch(name: string): OpenFile<F> | undefined {
    const entry = this.#table.get(name);
    if (!entry) return undefined;
    this.#table.delete(name);
    this.#table.set(name, entry);
    return entry;
  }

  #known(name: string): OpenFile<F> | undefined {
    const entry = this.#touch(name);
    if (!entry) return undefined;
    entry.users++;
    return entry;
  }

  async #open(name: string, open: () => Promise<F | undefined>): Promise<OpenFile<F> | undefined> {
    const before = this.#dropCount;
    const opened = await open();
    if (!opened) return undefined;
    // Somebody else may have opened the same file meanwhile, too: then this one serves its one user and is closed.
    const entry: OpenFile<F> = { opened, users: 1, dropped: this.#table.has(name) || this.#dropCount !== before };
    if (entry.dropped) return entry;
    this.#table.set(name, entry);
    for (const oldest of this.#table.keys()) {
      if (this.#table.size <= this.#max) break;
      await this.#forget(oldest);
    }
    return entry;
  }

  /** The next user opens the file anew. */
  async drop(name: string): Promise<void> {
    this.#dropCount++;
    await this.#forget(name);
  }

  async #forget(name: string): Promise<void> {
    const entry = this.#table.get(name);
    if (!entry) return;
    this.#table.delete(name);
    entry.dropped = true;
    if (entry.users === 0) await entry.opened.file.close();
  }

  async close(): Promise<void> {
    for (const name of this.#table.keys()) await this.drop(name);
  }
}
