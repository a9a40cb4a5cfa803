/**
 * Keeps the tree's pages on the local disk, so that folders can be listed while the drive is offline: walks the tree in
 * the background, one page at a time, and fetches missing pages (doc/decision/0012-the-tree-is-fetched-ahead.md). The
 * disk cache holds the pages; this only remembers which parts of the tree are complete.
 */
import { latin1Slice } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { type Logger } from '../base/logger.js';
import type { PackSource } from '../pack/pack-source.js';
import type { PageReference } from '../pack/page-reference.js';
import { TreePage } from '../tree/tree-page.js';

export interface TreeKeeperOptions {
  readonly packs: Pick<PackSource, 'readPage' | 'isHere'>;
  readonly root: () => PageReference | undefined;
  /** The most sealed bytes of pages; pages beyond that are fetched on demand. */
  readonly bytesMax: number;
  /** True while nothing can be fetched. */
  readonly isOffline: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Applications come first. */
const startDelayMs = 3000;
const intervalMs = 5000;
/** A tree that cannot be read is retried after this many intervals. */
const failureIntervals = 12;

const idOf = (reference: PageReference): string => latin1Slice(reference.hash, 0, reference.hash.byteLength);

export class TreeKeeper {
  readonly #options: TreeKeeperOptions;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  /** Branches below which everything was on the local disk in the last walk. */
  #complete = new Set<string>();
  #keptRoot: string | undefined;
  #bytes = 0;
  #isWhole = false;

  constructor(options: TreeKeeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop = this.#run().catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Whether the last walk found or fetched every page of the tree. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  async #run(): Promise<void> {
    const { clock, root, isOffline, logger } = this.#options;
    const { signal } = this.#stop;
    let pauseMs = startDelayMs;
    for (;;) {
      await clock.sleep(pauseMs, signal);
      pauseMs = intervalMs;
      const reference = root();
      if (reference && isOffline()) continue;
      if (reference && idOf(reference) === this.#keptRoot) continue;
      try {
        const walked = new Set<string>();
        this.#bytes = 0;
        this.#isWhole = reference === undefined || (await this.#keep(reference, walked));
        // Only branches of the newest tree are remembered.
        this.#complete = walked;
        this.#keptRoot = reference && idOf(reference);
      } catch (error) {
        if (signal.aborted) return;
        logger.debug('the tree could not be fetched ahead', { reason: describeError(error) });
        pauseMs = isOffline() ? intervalMs : intervalMs * failureIntervals;
      }
    }
  }

  /** Keeps the page and everything below it. False if some of it does not fit. */
  async #keep(reference: PageReference, walked: Set<string>): Promise<boolean> {
    this.#stop.signal.throwIfAborted();
    const id = idOf(reference);
    if (this.#complete.has(id)) {
      walked.add(id);
      return true;
    }
    this.#bytes += reference.length;
    if (this.#bytes > this.#options.bytesMax) return false;
    const page = new TreePage(await this.#options.packs.readPage(reference));
    if (page.level === 0) return true;
    let isWhole = true;
    for (let index = 0; index < page.count && isWhole; index++) {
      const child = page.referenceAt(index);
      // A leaf that is on the local disk need not be read.
      if (page.level === 1 && this.#options.packs.isHere(child.pack, child.offset, child.length)) this.#bytes += child.length;
      else isWhole = await this.#keep(child, walked);
    }
    if (isWhole) walked.add(id);
    return isWhole;
  }
}
