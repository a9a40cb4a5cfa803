/**
 * Thrown by a synchronous read of the tree when a page that it needs is not in memory (doc/concurrency.md).
 * Not an error: it says which page to load; whoever runs the read awaits `load`, holds what it gives until
 * the read has ended (else a read of more pages than the cache holds might never end), and runs the read again from its start.
 * It carries no stack, since it is thrown on the ordinary path.
 */
export class PageFault {
  /** Brings the page into memory and gives it. Rejects when it cannot be had or does not verify. */
  readonly load: () => Promise<unknown>;

  constructor(load: () => Promise<unknown>) {
    this.load = load;
  }
}
