/**
 * Reads of the tree that meet a page that is not in memory (doc/concurrency.md, "One instant"). A read is synchronous:
 * it throws a `PageFault`, and whoever runs it loads the page and runs it again from its start, which is `withPages`.
 */
import type { MaybePromise } from './maybe-promise.js';

/** Not an error: it says which page to load. It carries no stack, since it is thrown on the ordinary path. */
export class PageFault {
  /** Brings the page into memory and gives it. Rejects when it cannot be had or does not verify. */
  readonly load: () => Promise<unknown>;

  constructor(load: () => Promise<unknown>) {
    this.load = load;
  }
}

/**
 * Runs `attempt` again after every page fault, until it ends. It must change nothing before it ends. The result is
 * there at once when every page was in memory. Throws what `attempt` throws, and rejects with what `load` rejects with.
 */
export function withPages<T>(attempt: () => T, load = (fault: PageFault): Promise<unknown> => fault.load()): MaybePromise<T> {
  try {
    return attempt();
  } catch (error) {
    if (!(error instanceof PageFault)) throw error;
    return attemptAgain(attempt, load, error);
  }
}

async function attemptAgain<T>(attempt: () => T, load: (fault: PageFault) => Promise<unknown>, first: PageFault): Promise<T> {
  // Pages are held until the end: an attempt that needs more of them than the cache keeps would never end otherwise.
  const held: unknown[] = [];
  for (let fault = first; ; ) {
    held.push(await load(fault));
    try {
      return attempt();
    } catch (error) {
      if (!(error instanceof PageFault)) throw error;
      fault = error;
    }
  }
}
